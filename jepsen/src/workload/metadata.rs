//! Two keys whose state and version change all the time, while everything about them is read at every node.

use std::sync::{Arc, Mutex, PoisonError};

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::task::JoinSet;

use super::{Context, Load, Process, any_node, create};
use crate::history::Call;
use crate::seed::stream;

/// Keys at a time.
const KEYS: u32 = 2;
/// A key is replaced after so many calls, so that each history stays short enough for the search.
const CALLS_MAX: u32 = 300;

/// Each key, with how many calls it is still good for.
type Slots = Arc<Mutex<[Option<(String, u32)>; KEYS as usize]>>;

pub fn start(context: &Arc<Context>, load: Load, tasks: &mut JoinSet<()>) {
    let slots = Slots::default();
    for n in 0..load.clients.max(KEYS + 1) {
        tasks.spawn(client(context.clone(), load, slots.clone(), n));
    }
}

/// The first clients also see to the keys, one each.
async fn client(context: Arc<Context>, load: Load, slots: Slots, n: u32) {
    let mut rng = stream(context.seed, "metadata", n.into());
    let mut process = context.process();
    let lock = || slots.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if n < KEYS && lock()[n as usize].is_none() {
            let Some(key) = create(&context, &mut process, &mut rng).await else { return };
            lock()[n as usize] = Some((key, CALLS_MAX));
        }
        let key = one_call(&mut lock()[rng.random_range(0..KEYS as usize)]);
        if let Some(key) = key {
            churn(&context, &mut process, &key, &mut rng).await;
        }
        if context.nap(load.pause(&mut rng)).await {
            return;
        }
    }
}

/// The key to call; none when it has had its calls.
fn one_call(slot: &mut Option<(String, u32)>) -> Option<String> {
    if matches!(slot, Some((_, 0))) {
        *slot = None;
    }
    let (key, left) = slot.as_mut()?;
    *left -= 1;
    Some(key.clone())
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
