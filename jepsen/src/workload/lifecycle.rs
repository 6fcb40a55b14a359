//! Few keys, many clients, every call.

use rand::RngExt;
use rand::rngs::StdRng;

use super::Context;
use super::few::{Known, Play};
use crate::history::{Call, Form};

pub const PLAY: Play = Play { name: "lifecycle", form: |_| Form::Usual, outlives_purge: false, choose };

/// The next call. Enabling is likelier than disabling, so that most uses are allowed.
fn choose(rng: &mut StdRng, known: &Known, context: &Context) -> Call {
    match (rng.random_range(0..100), known.text(rng)) {
        (0..20, _) => Call::Describe,
        (20..40, Some((text, _))) => Call::Decrypt { text },
        (40..62, _) => Call::Enable,
        (62..72, _) => Call::Disable,
        (72..80, _) => Call::Rotate,
        (80..82, _) => Call::Schedule,
        (82..90, _) => Call::Cancel,
        _ => Call::Encrypt { text: context.number() },
    }
}
