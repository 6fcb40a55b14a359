//! Few secrets, given values, read by version, deleted, recovered and purged by many clients.

use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::task::JoinSet;

use super::register::Registers;
use super::{Context, Load, any_node};
use crate::history::Call;
use crate::seed::stream;

/// Secrets in use at a time.
const SECRETS: usize = 3;
/// Versions that are asked for: mostly there, now and then not yet.
const VERSIONS: u32 = 12;

pub fn start(context: &Arc<Context>, load: Load, tasks: &mut JoinSet<()>) {
    let secrets = Arc::new(Mutex::new(Registers::new(context, SECRETS)));
    for n in 0..load.clients {
        tasks.spawn(client(context.clone(), load, secrets.clone(), n));
    }
}

async fn client(context: Arc<Context>, load: Load, secrets: Arc<Mutex<Registers>>, n: u32) {
    let mut rng = stream(context.seed, "secrets", n.into());
    let mut process = context.process();
    while !context.nap(load.pause(&mut rng)).await {
        let (secret, _) = secrets.lock().unwrap_or_else(PoisonError::into_inner).any(&context, &mut rng);
        let node = any_node(&context, &mut rng);
        let _ = context.call(&mut process, node, None, choose(&mut rng, secret, &context)).await;
    }
}

fn choose(rng: &mut StdRng, secret: u64, context: &Context) -> Call {
    match rng.random_range(0..100) {
        0..30 => Call::SetSecret { secret, value: context.number() },
        30..60 => Call::GetSecret { secret, version: 0 },
        60..78 => Call::GetSecret { secret, version: rng.random_range(1..VERSIONS) },
        78..85 => Call::DeleteSecret { secret },
        85..95 => Call::RecoverSecret { secret },
        _ => Call::PurgeSecret { secret },
    }
}
