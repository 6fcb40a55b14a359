//! Nodes are sealed while custodians open others, in every wrong way first; others use keys at every node all the while.

use std::sync::Arc;
use std::time::Duration;

use quorate_client::v1::StatusRequest;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tokio::task::JoinSet;

use super::{CALL_TIME_MAX, Context, Load, Process, any_node, create};
use crate::cluster::{SHARES, THRESHOLD};
use crate::history::{Call, Flaw, Outcome};
use crate::seed::stream;

/// Custodians' parties: each holds ceremonies of its own, and they meet at the same nodes.
const PARTIES: u32 = 2;
/// Between two seals, ms.
const SEAL_EVERY_MS: std::ops::Range<u64> = 1500..5000;
/// Between two looks for a sealed node, and while one share is lacking, ms.
const WAIT_MS: std::ops::Range<u64> = 200..1000;
/// A key is replaced after so many uses, so that each history stays short enough for the search.
const USES_MAX: u32 = 300;

pub fn start(context: &Arc<Context>, load: Load, tasks: &mut JoinSet<()>) {
    for n in 0..load.clients {
        tasks.spawn(user(context.clone(), load, n));
    }
    tasks.spawn(sealer(context.clone()));
    for n in 0..PARTIES {
        tasks.spawn(party(context.clone(), n));
    }
}

async fn user(context: Arc<Context>, load: Load, n: u32) {
    let mut rng = stream(context.seed, "ceremony-user", n.into());
    let mut process = context.process();
    while let Some(key) = create(&context, &mut process, &mut rng).await {
        for _ in 0..USES_MAX {
            let node = any_node(&context, &mut rng);
            let _ = context.call(&mut process, node, Some(&key), Call::Encrypt { text: context.number() }).await;
            if context.nap(load.pause(&mut rng)).await {
                return;
            }
        }
    }
}

/// Seals nodes, those that serve and those where a ceremony goes on.
async fn sealer(context: Arc<Context>) {
    let mut rng = stream(context.seed, "ceremony-sealer", 0);
    let mut process = context.process();
    while !context.nap(Duration::from_millis(rng.random_range(SEAL_EVERY_MS))).await {
        let node = any_node(&context, &mut rng);
        let _ = context.call(&mut process, node, None, Call::Seal).await;
    }
}

async fn party(context: Arc<Context>, n: u32) {
    let mut rng = stream(context.seed, "ceremony-party", n.into());
    let mut process = context.process();
    while !context.nap(Duration::from_millis(rng.random_range(WAIT_MS))).await {
        let node = any_node(&context, &mut rng);
        let Some(client) = context.client(node) else { continue };
        let told = client.with_deadline(CALL_TIME_MAX).status(StatusRequest {}).await;
        if told.is_ok_and(|status| status.state == "sealed") {
            ceremony(&context, &mut process, node, &mut rng).await;
        }
    }
}

/// Wrong shares, one share twice, one less than it takes for a while, and then the last; one time in five it never comes.
async fn ceremony(context: &Context, process: &mut Process, node: u32, rng: &mut StdRng) {
    let mut order: Vec<u32> = (1..=SHARES as u32).collect();
    order.shuffle(rng);
    for (place, share) in order.iter().copied().enumerate() {
        if rng.random_ratio(1, 3) {
            let flaw = Flaw::ALL[rng.random_range(0..Flaw::ALL.len())];
            let _ = context.call(process, node, None, Call::EnterShare { share, flaw: Some(flaw) }).await;
        }
        if place == THRESHOLD - 1
            && (context.nap(Duration::from_millis(rng.random_range(WAIT_MS))).await || rng.random_ratio(1, 5))
        {
            return;
        }
        let enter = Call::EnterShare { share, flaw: None };
        let (outcome, _) = context.call(process, node, None, enter.clone()).await;
        match outcome {
            Outcome::Ok(crate::history::Answer::Share { complete: true }) => return,
            // Open by now, or not there.
            Outcome::Fail(why) if why != "SHARE_REFUSED" => return,
            _ => {}
        }
        if rng.random_ratio(1, 3) {
            let _ = context.call(process, node, None, enter).await;
        }
    }
}
