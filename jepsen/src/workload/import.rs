//! Few keys whose material is imported, by what one node gave and at another, deleted, imported again, the same and another,
//! with an end and without; it leaves everywhere all the while.

use rand::RngExt;
use rand::rngs::StdRng;

use super::Context;
use super::few::{Known, Play};
use crate::history::{Call, Form};

pub const PLAY: Play = Play { name: "import", form: |_| Form::External, outlives_purge: false, choose };

/// Imported material lasts so long, seconds, where it has an end.
const LASTS: std::ops::Range<u32> = 1..6;

fn choose(rng: &mut StdRng, known: &Known, context: &Context) -> Call {
    if !context.can_import(&known.key) {
        // Not all at once: making an RSA key takes its time.
        return if rng.random_ratio(1, 6) { Call::ImportParameters } else { Call::Export };
    }
    match (rng.random_range(0..100), known.text(rng)) {
        (0..30, _) => {
            let material = known.materials[usize::from(rng.random_ratio(1, 5))];
            let seconds = if rng.random_ratio(1, 2) { rng.random_range(LASTS) } else { 0 };
            Call::Import { material, seconds }
        }
        (30..36, _) => Call::DeleteMaterial,
        (36..62, _) => Call::Export,
        (62..74, Some((text, _))) => Call::Decrypt { text },
        (74..80, _) => Call::ListVersions,
        (80..84, _) => Call::Enable,
        (84..86, _) => Call::Disable,
        (86..87, _) => Call::ImportParameters,
        _ => Call::Encrypt { text: context.number() },
    }
}
