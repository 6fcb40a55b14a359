//! Use after revocation: the moment a disable or a scheduled deletion is acknowledged, the key is used on every node.
//! One revocation in four meets uses under way, the first ones since the key was enabled: what a node then reads to keep
//! at hand is out of date at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::{Context, Load, Process, any_node, create};
use crate::history::{Call, Outcome};
use crate::seed::stream;

/// Rounds of one key, then a fresh one.
const ROUNDS_MAX: u32 = 40;
/// Half of the uses are invoked at once, the others within this time, microseconds.
const DELAY_MAX_US: u64 = 5_000;
/// Uses that are to be under way at the revocation are invoked within this time, about what it takes; microseconds.
const EARLY_MAX_US: u64 = 8_000;
/// … and are waited for so long when it is acknowledged, since each node's next use comes after them.
const EARLY_WAIT: Duration = Duration::from_millis(10);
/// Uses at nodes that are cut off or stopped are not waited for longer than this: the next rounds go on without those nodes,
/// so that most revocations fall into the moments when one node does not know yet.
const WAIT: Duration = Duration::from_millis(100);

/// Each racer has a key, a process for itself and one for each node, which use the key at once: so half as many racers as
/// clients were asked for.
pub fn start(context: &Arc<Context>, load: Load, tasks: &mut JoinSet<()>) {
    let racers = (load.clients / 2).max(2);
    for n in 0..racers {
        let racer = Racer {
            context: context.clone(),
            rng: stream(context.seed, "revoke", n.into()),
            process: context.process(),
            users: Users::default(),
            good: None,
        };
        tasks.spawn(racer.run(load));
    }
}

struct Racer {
    context: Arc<Context>,
    rng: StdRng,
    process: Process,
    users: Users,
    /// The node that answered last.
    good: Option<u32>,
}

/// Those that use the key, one for each node.
#[derive(Default)]
struct Users {
    free: BTreeMap<u32, Process>,
    /// Nodes whose user has not come back yet.
    out: BTreeSet<u32>,
    busy: JoinSet<(u32, Process)>,
}

impl Racer {
    async fn run(mut self, load: Load) {
        'keys: while let Some(key) = create(&self.context, &mut self.process, &mut self.rng).await {
            let mut text = None;
            for _ in 0..ROUNDS_MAX {
                let early = self.rng.random_ratio(1, 4);
                if early {
                    self.use_everywhere(&key, text, |rng| rng.random_range(0..EARLY_MAX_US));
                } else {
                    // Something to decrypt; also what shows that an enabled key is used.
                    let fresh = self.context.number();
                    if matches!(self.change(&key, Call::Encrypt { text: fresh }).await, Outcome::Ok(_)) {
                        text = Some(fresh);
                    }
                }
                let revoke = if self.rng.random_ratio(1, 4) { Call::Schedule } else { Call::Disable };
                // What was not acknowledged promises nothing: no race is run for it.
                let revoked = self.change(&key, revoke).await;
                if early {
                    self.gather(EARLY_WAIT).await;
                }
                if matches!(revoked, Outcome::Ok(_)) {
                    self.use_everywhere(&key, text, |rng| {
                        if rng.random_ratio(1, 2) { 0 } else { rng.random_range(0..DELAY_MAX_US) }
                    });
                    self.gather(WAIT).await;
                }
                let pause = load.pause(&mut self.rng);
                if !self.enable(&key).await || self.context.nap(pause).await {
                    break 'keys;
                }
            }
        }
        while self.users.busy.join_next().await.is_some() {}
    }

    /// A call of the racer's own: mostly at the node that answered last, so that a cut-off node does not hold it up.
    async fn change(&mut self, key: &str, call: Call) -> Outcome {
        let any = any_node(&self.context, &mut self.rng);
        let node = self.good.filter(|_| self.rng.random_ratio(2, 3)).unwrap_or(any);
        let (outcome, _) = self.context.call(&mut self.process, node, Some(key), call).await;
        match &outcome {
            Outcome::Ok(_) => self.good = Some(node),
            _ => self.good = self.good.filter(|good| *good != node),
        }
        outcome
    }

    /// One use at each node that is not busy, after a delay in microseconds.
    fn use_everywhere(&mut self, key: &str, text: Option<u64>, delay: impl Fn(&mut StdRng) -> u64) {
        for node in self.context.nodes() {
            if !self.users.out.insert(node) {
                continue;
            }
            let mut process = self.users.free.remove(&node).unwrap_or_else(|| self.context.process());
            let delay = delay(&mut self.rng);
            let call = match text {
                Some(text) if self.rng.random_ratio(1, 2) => Call::Decrypt { text },
                _ => Call::Encrypt { text: self.context.number() },
            };
            let (context, key) = (self.context.clone(), key.to_owned());
            self.users.busy.spawn(async move {
                if delay > 0 {
                    tokio::time::sleep(Duration::from_micros(delay)).await;
                }
                let _ = context.call(&mut process, node, Some(&key), call).await;
                (node, process)
            });
        }
    }

    /// Waits for the uses under way, no longer than `wait`.
    async fn gather(&mut self, wait: Duration) {
        let end = Instant::now() + wait;
        while let Ok(Some(Ok((node, process)))) = timeout_at(end, self.users.busy.join_next()).await {
            self.users.out.remove(&node);
            self.users.free.insert(node, process);
        }
    }

    /// Makes the key usable again; false when the run stops.
    async fn enable(&mut self, key: &str) -> bool {
        while !self.context.stopped() {
            match self.change(key, Call::Enable).await {
                Outcome::Ok(_) => return true,
                Outcome::Fail(why) if why == "KEY_PENDING_DELETION" => _ = self.change(key, Call::Cancel).await,
                _ => _ = self.context.nap(Duration::from_millis(20)).await,
            }
        }
        false
    }
}
