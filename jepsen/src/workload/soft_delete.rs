//! Few keys that are scheduled for deletion, spared in either way, and purged, while they are used.

use rand::RngExt;
use rand::rngs::StdRng;

use super::Context;
use super::few::{Known, Play};
use crate::history::{Call, Form};

pub const PLAY: Play = Play {
    name: "soft-delete",
    form: |rng| if rng.random_ratio(1, 3) { Form::PurgeProtected } else { Form::Usual },
    outlives_purge: false,
    choose,
};

fn choose(rng: &mut StdRng, known: &Known, context: &Context) -> Call {
    match (rng.random_range(0..100), known.text(rng)) {
        (0..12, _) => Call::Describe,
        (12..32, Some((text, _))) => Call::Decrypt { text },
        (32..42, _) => Call::Enable,
        (42..45, _) => Call::Disable,
        (45..55, _) => Call::Schedule,
        (55..67, _) => Call::Recover,
        (67..71, _) => Call::Cancel,
        (71..77, _) => Call::Purge,
        // Late, as a client that never heard of its first answer: what is gone must not come back by that.
        (77..81, _) => known.create.clone(),
        _ => Call::Encrypt { text: context.number() },
    }
}
