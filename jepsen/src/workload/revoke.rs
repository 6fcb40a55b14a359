//! Use after revocation: the moment a disable or a scheduled deletion is acknowledged, the key is used on every node.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tokio::task::JoinSet;

use super::{Context, Load, Process, any_node, create};
use crate::history::{Call, Outcome};
use crate::seed::stream;

/// Rounds of one key, then a fresh one.
const ROUNDS_MAX: u32 = 40;
/// Half of the uses are invoked at once, the others within this time, microseconds.
const DELAY_MAX_US: u64 = 5_000;

/// Each racer has a key, a process for itself and one for each node, which use the key at once: so half as many racers as
/// clients were asked for.
pub fn start(context: &Arc<Context>, load: Load, tasks: &mut JoinSet<()>) {
    let racers = (load.clients / 2).max(2);
    for n in 0..racers {
        tasks.spawn(racer(context.clone(), load, n));
    }
}

async fn racer(context: Arc<Context>, load: Load, n: u32) {
    let mut rng = stream(context.seed, "revoke", n.into());
    let mut process = context.process();
    let mut users: Vec<Process> = (0..context.nodes()).map(|_| context.process()).collect();
    'keys: while let Some(key) = create(&context, &mut process, &mut rng).await {
        let mut text = None;
        for _ in 0..ROUNDS_MAX {
            // Something to decrypt; also what shows that an enabled key is used.
            let fresh = context.number();
            let node = any_node(&context, &mut rng);
            if let (Outcome::Ok(_), _) =
                context.call(&mut process, node, Some(&key), Call::Encrypt { text: fresh }).await
            {
                text = Some(fresh);
            }
            let revoke = if rng.random_ratio(1, 4) { Call::Schedule } else { Call::Disable };
            let node = any_node(&context, &mut rng);
            let _ = context.call(&mut process, node, Some(&key), revoke).await;
            race(&context, &mut users, &key, text, &mut rng).await;
            if !enable(&context, &mut process, &key, &mut rng).await || context.nap(load.pause(&mut rng)).await {
                break 'keys;
            }
        }
    }
}

/// One use at each node, at once or a moment later.
async fn race(context: &Context, users: &mut Vec<Process>, key: &str, text: Option<u64>, rng: &mut rand::rngs::StdRng) {
    let uses = std::mem::take(users).into_iter().zip(1..).map(|(mut process, node)| {
        let delay = if rng.random_ratio(1, 2) { 0 } else { rng.random_range(0..DELAY_MAX_US) };
        let call = match text {
            Some(text) if rng.random_ratio(1, 2) => Call::Decrypt { text },
            _ => Call::Encrypt { text: context.number() },
        };
        async move {
            if delay > 0 {
                tokio::time::sleep(Duration::from_micros(delay)).await;
            }
            let _ = context.call(&mut process, node, Some(key), call).await;
            process
        }
    });
    *users = futures::future::join_all(uses).await;
}

/// Makes the key usable again; false when the run stops.
async fn enable(context: &Context, process: &mut Process, key: &str, rng: &mut rand::rngs::StdRng) -> bool {
    while !context.stopped() {
        let node = any_node(context, rng);
        match context.call(process, node, Some(key), Call::Enable).await.0 {
            Outcome::Ok(_) => return true,
            Outcome::Fail(why) if why == "KEY_PENDING_DELETION" => {
                let node = any_node(context, rng);
                let _ = context.call(process, node, Some(key), Call::Cancel).await;
            }
            _ => _ = context.nap(Duration::from_millis(20)).await,
        }
    }
    false
}
