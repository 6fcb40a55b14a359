//! Faults, chosen by seed, several kinds at once, never more nodes than a minority.

pub mod clock;
pub mod disk;
mod hostile;
mod kind;
mod links;
mod membership;
pub mod packet;
pub mod partition;
mod pressure;
mod process;
mod recovery;
mod rollback;
mod subtle;
pub mod token;
mod twin;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use futures::future::{LocalBoxFuture, join_all};
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::checker::coverage::effect_event;
use crate::cluster::Cluster;
use crate::net::Net;
use crate::seed::stream;
use crate::workload::Context;
pub use kind::Kind;
use partition::minority;

/// What a nemesis acts on.
pub struct World<'a> {
    /// The nodes.
    pub cluster: &'a Cluster<'a>,
    /// Their network.
    pub net: &'a dyn Net,
    /// The clients' side, with the history.
    pub context: &'a Context,
    /// Nodes that may still be taken from the majority.
    budget: Cell<u32>,
    budget_max: u32,
    /// Who waits for some of it, first come first served: else some kinds would never get any.
    queue: RefCell<VecDeque<u64>>,
    /// Kinds of which one took effect.
    seen: RefCell<BTreeSet<Kind>>,
    /// Why what was begun could not be brought to its end.
    unfinished: RefCell<Option<String>>,
    /// Nodes that still may find what was done to them: a changed bit may lie where nothing is read for long, and of an older copy
    /// they may hear later. Until then they may stop.
    doubted: RefCell<BTreeSet<u32>>,
    /// Nodes that one fault has for itself, from step to step: no other takes them for a victim meanwhile.
    held: RefCell<BTreeSet<u32>>,
    /// Turns true when faults are to end.
    stop: watch::Receiver<bool>,
}

/// A fault lasts so long, seconds.
const HOLD: std::ops::Range<f64> = 2.0..7.0;
/// … and the next of its kind comes so much later.
const REST: std::ops::Range<f64> = 1.0..4.0;

impl<'a> World<'a> {
    /// Faults end, and are healed, when `stop` turns true.
    pub fn new(cluster: &'a Cluster<'a>, net: &'a dyn Net, context: &'a Context, stop: watch::Receiver<bool>) -> Self {
        // With one node there is no minority: it may fail all the same, and nothing is served meanwhile.
        let budget_max = minority(cluster.size()).max(1);
        Self {
            cluster,
            net,
            context,
            budget: Cell::new(budget_max),
            budget_max,
            queue: RefCell::default(),
            seen: RefCell::default(),
            unfinished: RefCell::default(),
            doubted: RefCell::default(),
            held: RefCell::default(),
            stop,
        }
    }

    /// Runs all kinds beside each other until told to stop; everything is healed then.
    ///
    /// # Errors
    /// A fault that could not be made or healed: the run is not what it was to be.
    pub async fn run(&self, kinds: &[Kind]) -> anyhow::Result<()> {
        let loops = kinds.iter().map(|kind| self.repeat(*kind));
        join_all(loops).await.into_iter().collect()
    }

    async fn repeat(&self, kind: Kind) -> anyhow::Result<()> {
        let mut rng = stream(self.context.seed, kind.name(), 0);
        while !self.nap(rng.random_range(REST)).await {
            let done: LocalBoxFuture<'_, _> = match kind {
                Kind::Partition => Box::pin(self.partition(&mut rng)),
                Kind::Packet | Kind::Stream => Box::pin(self.shape(kind, &mut rng)),
                Kind::Kill => Box::pin(self.kill(&mut rng)),
                Kind::Pause => Box::pin(self.pause(&mut rng)),
                Kind::Power | Kind::Blackout => Box::pin(self.power(kind, &mut rng)),
                Kind::Seal => Box::pin(self.seal(&mut rng)),
                Kind::Membership => Box::pin(self.membership(&mut rng)),
                Kind::Snapshot => Box::pin(self.snapshot(&mut rng)),
                Kind::Memory => Box::pin(self.memory(&mut rng)),
                Kind::Stutter => Box::pin(self.stutter(&mut rng)),
                Kind::Flaky => Box::pin(self.flaky(&mut rng)),
                Kind::Sides => Box::pin(self.sides(&mut rng)),
                Kind::Clock => Box::pin(self.clock(&mut rng)),
                Kind::ClockLeap => Box::pin(self.clock_leap(&mut rng)),
                Kind::ClockRate => Box::pin(self.clock_rate(&mut rng)),
                Kind::DiskFull
                | Kind::DiskError
                | Kind::DiskNoSpace
                | Kind::DiskSlow
                | Kind::DiskLie
                | Kind::DiskDead
                | Kind::DiskReadOnly
                | Kind::TornTail
                | Kind::BitFlip => Box::pin(self.disk(kind, &mut rng)),
                Kind::Rollback => Box::pin(self.rollback(&mut rng)),
                Kind::Hostile => Box::pin(self.hostile(&mut rng)),
                Kind::Twin => Box::pin(self.twin(&mut rng)),
                Kind::HsmError | Kind::HsmSlow | Kind::HsmWrong => Box::pin(self.token(kind, &mut rng)),
            };
            done.await?;
        }
        Ok(())
    }

    fn any_member(&self, rng: &mut StdRng) -> u32 {
        let members = self.cluster.members();
        members[rng.random_range(0..members.len())]
    }

    /// A node to harm, half the time the leader, with the budget for it taken.
    async fn victim(&self, rng: &mut StdRng) -> Option<(u32, String, u32)> {
        let any = self.any_member(rng);
        let leader = if rng.random_ratio(1, 2) { self.cluster.leader().await } else { None };
        let node = leader.unwrap_or(any);
        let taken = self.take(1).await?;
        // Harmed by nobody else: what is down or stopped does not answer.
        if self.held.borrow().contains(&node) || !self.cluster.serves(node).await {
            self.give(taken);
            return None;
        }
        let words = if leader.is_some() { format!("n{node} (leader)") } else { format!("n{node}") };
        Some((node, words, taken))
    }

    /// Takes from the budget, as soon as there is enough; `None` when faults are to end.
    async fn take(&self, count: u32) -> Option<u32> {
        let me = self.context.number();
        self.queue.borrow_mut().push_back(me);
        let mut taken = None;
        while taken.is_none() && !self.stopped() {
            let first = self.queue.borrow().front() == Some(&me);
            match self.budget.get().checked_sub(count).filter(|_| first) {
                Some(left) => {
                    self.budget.set(left);
                    taken = Some(count);
                }
                None => _ = self.nap(0.1).await,
            }
        }
        self.queue.borrow_mut().retain(|waits| *waits != me);
        taken
    }

    fn give(&self, count: u32) {
        self.budget.set(self.budget.get() + count);
    }

    /// Whether a fault of each of these kinds took effect.
    pub fn saw(&self, kinds: &[Kind]) -> bool {
        kinds.iter().all(|kind| self.seen.borrow().contains(kind))
    }

    /// What could not be brought to its end though every fault was healed: the cluster did not come back.
    pub fn unfinished(&self) -> Option<String> {
        self.unfinished.borrow().clone()
    }

    fn took_effect(&self, kind: Kind, words: &str) {
        self.took_effect_as(kind, kind.name(), words);
    }

    /// `name` tells which form of the kind it was, and begins with the kind's own.
    fn took_effect_as(&self, kind: Kind, name: &str, words: &str) {
        self.seen.borrow_mut().insert(kind);
        self.tell(&effect_event(name), words);
    }

    fn tell(&self, f: &str, words: &str) {
        self.context.recorder.nemesis(f, words);
        eprintln!("  {:7.2} s  {f}: {words}", self.context.recorder.elapsed());
    }

    fn stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits; true when faults are to end.
    async fn nap(&self, seconds: f64) -> bool {
        let mut stop = self.stop.clone();
        let _ = timeout(Duration::from_secs_f64(seconds), stop.wait_for(|stop| *stop)).await;
        self.stopped()
    }
}
