//! Few keys that are backed up, rotated, purged and brought back, while they are used.

use rand::RngExt;
use rand::rngs::StdRng;

use super::Context;
use super::few::{Known, Play};
use crate::history::{Call, Form};

pub const PLAY: Play = Play { name: "backup", form: |_| Form::Usual, outlives_purge: true, choose };

fn choose(rng: &mut StdRng, known: &Known, context: &Context) -> Call {
    let backups = context.backups(&known.key);
    let version = backups.get(rng.random_range(0..backups.len().max(1))).copied();
    match (rng.random_range(0..100), known.text(rng), version) {
        (0..8, ..) => Call::Describe,
        (8..32, Some((text, version)), _) => Call::DecryptBy { text, version },
        (32..42, ..) => Call::Enable,
        (42..46, ..) => Call::Rotate,
        (46..54, ..) => Call::BackUp,
        (54..62, _, Some(_)) => Call::Schedule,
        (62..66, ..) => Call::Recover,
        (66..74, _, Some(_)) => Call::Purge,
        (74..86, _, Some(version)) => Call::Restore { version },
        _ => Call::Encrypt { text: context.number() },
    }
}
