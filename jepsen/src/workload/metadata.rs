//! Two keys whose state and version change all the time, while everything about them is read at every node.

use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Context, Load, Process, any_node, create};
use crate::history::Call;
use crate::seed::stream;

/// Keys at a time.
const KEYS: u32 = 2;
/// A key is replaced after so many seconds, so that each history stays short enough for the search.
const AGE_MAX: u64 = 10;

type Slots = Arc<Mutex<Vec<Option<String>>>>;

pub fn start(context: &Arc<Context>, load: Load, tasks: &mut JoinSet<()>) {
    let slots: Slots = Arc::new(Mutex::new(vec![None; KEYS as usize]));
    for n in 0..load.clients.max(KEYS + 1) {
        tasks.spawn(client(context.clone(), load, slots.clone(), n));
    }
}

/// The first clients also see to the keys, one each.
async fn client(context: Arc<Context>, load: Load, slots: Slots, n: u32) {
    let mut rng = stream(context.seed, "metadata", n.into());
    let mut process = context.process();
    let lock = || slots.lock().unwrap_or_else(PoisonError::into_inner);
    let mut since = Instant::now();
    loop {
        if n < KEYS && (lock()[n as usize].is_none() || since.elapsed().as_secs() > AGE_MAX) {
            let Some(key) = create(&context, &mut process, &mut rng).await else { return };
            lock()[n as usize] = Some(key);
            since = Instant::now();
        }
        let key = lock()[rng.random_range(0..KEYS as usize)].clone();
        if let Some(key) = key {
            churn(&context, &mut process, &key, &mut rng).await;
        }
        if context.nap(load.pause(&mut rng)).await {
            return;
        }
    }
}

async fn churn(context: &Context, process: &mut Process, key: &str, rng: &mut StdRng) {
    let call = match rng.random_range(0..100) {
        0..50 => Call::Inspect,
        50..68 => Call::Rotate,
        68..84 => Call::Enable,
        84..90 => Call::Disable,
        90..92 => Call::Schedule,
        _ => Call::Cancel,
    };
    let node = any_node(context, rng);
    let _ = context.call(process, node, Some(key), call).await;
}
