//! Few keys that are rotated all the time, while their versions are used by name, compromised and destroyed.

use rand::RngExt;
use rand::rngs::StdRng;

use super::Context;
use super::few::{Known, Play};
use crate::history::{Call, Form};

pub const PLAY: Play = Play { name: "rotation", form: |_| Form::Usual, outlives_purge: false, choose };

/// Of the versions that can be told, mostly the newest; now and then one that there may not be yet.
fn any_version(rng: &mut StdRng, known: &Known) -> u32 {
    match rng.random_range(0..4) {
        0 => known.newest + 1,
        1 => known.newest,
        _ => rng.random_range(1..=known.newest),
    }
}

fn choose(rng: &mut StdRng, known: &Known, context: &Context) -> Call {
    let older = (known.newest > 1).then(|| rng.random_range(1..known.newest.max(2)));
    match (rng.random_range(0..100), known.text(rng), older) {
        (0..8, ..) => Call::Describe,
        (8..18, ..) => Call::ListVersions,
        (18..44, Some((text, version)), _) => Call::DecryptBy { text, version },
        (44..52, Some((from, version)), _) => Call::ReEncrypt { from, version, text: context.number() },
        (52..62, ..) => Call::EncryptBy { text: context.number(), version: any_version(rng, known) },
        (62..72, ..) => Call::Rotate,
        (72..77, _, Some(version)) => Call::DestroyVersion { version },
        (77..81, _, Some(version)) => Call::Compromise { version },
        // Until the next rotation nothing is encrypted then.
        (81..82, ..) => Call::Compromise { version: known.newest },
        (82..83, ..) => Call::DestroyVersion { version: known.newest },
        _ => Call::Encrypt { text: context.number() },
    }
}
