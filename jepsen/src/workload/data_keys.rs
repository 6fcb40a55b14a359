//! Data keys, told and not told, made at every node and opened at every node; now and then their keys are rotated.

use rand::RngExt;
use rand::rngs::StdRng;

use super::Context;
use super::few::{Known, Play};
use crate::history::{Call, Form};

pub const PLAY: Play = Play {
    name: "data-keys",
    form: |rng| if rng.random_ratio(1, 2) { Form::Exportable } else { Form::Usual },
    outlives_purge: false,
    choose,
};

fn choose(rng: &mut StdRng, known: &Known, context: &Context) -> Call {
    let exportable = matches!(known.create, Call::Create { form: Form::Exportable, .. });
    match (rng.random_range(0..100), known.text(rng)) {
        (0..45, Some((text, _))) => Call::Decrypt { text },
        (45..55, Some((from, version))) => Call::ReEncrypt { from, version, text: context.number() },
        (55..57, _) => Call::Rotate,
        (57..65, _) if exportable => Call::Export,
        _ => Call::DataKey { text: context.number(), plain: rng.random_ratio(1, 2) },
    }
}
