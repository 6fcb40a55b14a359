//! Faults, chosen by seed, several kinds at once, never more nodes than a minority.

mod membership;
pub mod partition;
mod pressure;

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::Duration;

use clap::ValueEnum;
use futures::future::{LocalBoxFuture, join_all};
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::checker::coverage::effect_event;
use crate::cluster::Cluster;
use crate::history::{Call, Outcome};
use crate::net::Net;
use crate::seed::stream;
use crate::workload::Context;
use partition::minority;

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub enum Kind {
    /// Links carry nothing: a minority or the leader cut off, one-way, bridge, ring
    Partition,
    /// SIGKILL to a node (half the time the leader), which is started again
    Kill,
    /// SIGSTOP to a node (half the time the leader), SIGCONT some seconds later
    Pause,
    /// A node, sometimes all at once, loses power: what was not synced to its disk is gone
    Power,
    /// A node is sealed by its operator, and opened by a ceremony some seconds later
    Seal,
    /// A new node joins and a member (half the time the leader) is removed for good, in either order; leadership is handed on
    Membership,
    /// A node is away until the others have let go of the log that it lacks, and is sent the state
    Snapshot,
    /// A node's memory is limited to what it can't give back: the kernel ends it, or makes it crawl
    Memory,
}

impl Kind {
    /// Its name on the command line and in histories.
    pub fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Power => "power",
            Self::Seal => "seal",
            Self::Membership => "membership",
            Self::Snapshot => "snapshot",
            Self::Memory => "memory",
        }
    }
}

/// What a nemesis acts on.
pub struct World<'a> {
    /// The nodes.
    pub cluster: &'a Cluster<'a>,
    /// Their network.
    pub net: &'a Net,
    /// The clients' side, with the history.
    pub context: &'a Context,
    /// Nodes that may still be taken from the majority.
    budget: Cell<u32>,
    budget_max: u32,
    /// Kinds of which one took effect.
    seen: RefCell<BTreeSet<Kind>>,
    /// Why what was begun could not be brought to its end.
    unfinished: RefCell<Option<String>>,
    /// Turns true when faults are to end.
    stop: watch::Receiver<bool>,
}

/// A fault lasts so long, seconds.
const HOLD: std::ops::Range<f64> = 2.0..7.0;
/// … and the next of its kind comes so much later.
const REST: std::ops::Range<f64> = 1.0..4.0;
/// A node that was started again is given the root key by its peers within this time; then custodians are called.
const HANDOVER_TIME: Duration = Duration::from_secs(8);

impl<'a> World<'a> {
    /// Faults end, and are healed, when `stop` turns true.
    pub fn new(cluster: &'a Cluster<'a>, net: &'a Net, context: &'a Context, stop: watch::Receiver<bool>) -> Self {
        // With one node there is no minority: it may fail all the same, and nothing is served meanwhile.
        let budget_max = minority(cluster.size()).max(1);
        let (budget, seen, unfinished) = (Cell::new(budget_max), RefCell::default(), RefCell::default());
        Self { cluster, net, context, budget, budget_max, seen, unfinished, stop }
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
                Kind::Kill => Box::pin(self.kill(&mut rng)),
                Kind::Pause => Box::pin(self.pause(&mut rng)),
                Kind::Power => Box::pin(self.power(&mut rng)),
                Kind::Seal => Box::pin(self.seal(&mut rng)),
                Kind::Membership => Box::pin(self.membership(&mut rng)),
                Kind::Snapshot => Box::pin(self.snapshot(&mut rng)),
                Kind::Memory => Box::pin(self.memory(&mut rng)),
            };
            done.await?;
        }
        Ok(())
    }

    async fn partition(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let shapes = partition::shapes(self.cluster.size());
        if shapes.is_empty() {
            return Ok(());
        }
        let shape = shapes[rng.random_range(0..shapes.len())];
        let leader = self.cluster.leader().await;
        let members = self.cluster.members();
        let cut = partition::cut(shape, &members, leader, rng);
        let Some(taken) = self.take(cut.costs).await else { return Ok(()) };
        // Who is a member may have changed while the budget was awaited.
        if members != self.cluster.members() {
            self.give(taken);
            return Ok(());
        }
        self.net.cut(&cut.links)?;
        self.tell("partition", &cut.words);
        self.nap(rng.random_range(HOLD)).await;
        let dropped = self.net.heal()?;
        self.tell("heal-partition", &format!("{dropped} frames were dropped"));
        // Only what dropped frames was a partition.
        if dropped > 0 {
            self.took_effect(Kind::Partition, &cut.words);
        }
        self.give(taken);
        Ok(())
    }

    async fn kill(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let Some((node, words, taken)) = self.victim(rng).await else { return Ok(()) };
        // Another fault may have met it meanwhile: then this one did not happen.
        if self.cluster.kill(node).is_err() {
            self.give(taken);
            return Ok(());
        }
        self.took_effect(Kind::Kill, &words);
        self.nap(rng.random_range(HOLD)).await;
        self.restart(node, "restart")?;
        self.reopen(node).await;
        self.give(taken);
        Ok(())
    }

    async fn pause(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let Some((node, words, taken)) = self.victim(rng).await else { return Ok(()) };
        if self.cluster.pause(node).is_err() {
            self.give(taken);
            return Ok(());
        }
        self.took_effect(Kind::Pause, &words);
        self.nap(rng.random_range(HOLD)).await;
        self.cluster.resume(node);
        self.tell("resume", &format!("n{node}"));
        self.give(taken);
        Ok(())
    }

    async fn power(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let all = rng.random_ratio(1, 3);
        let (nodes, words, taken) = if all {
            let Some(taken) = self.take(self.budget_max).await else { return Ok(()) };
            (self.cluster.members(), "every node".to_owned(), taken)
        } else {
            let Some((node, words, taken)) = self.victim(rng).await else { return Ok(()) };
            (vec![node], words, taken)
        };
        // All processes first: no node acknowledges anything after another has forgotten.
        let lost: Vec<u32> = nodes.into_iter().filter(|n| self.cluster.kill(*n).is_ok()).collect();
        lost.iter().try_for_each(|n| self.cluster.forget_unsynced(*n))?;
        if !lost.is_empty() {
            self.took_effect(Kind::Power, &words);
        }
        self.nap(rng.random_range(HOLD)).await;
        for node in &lost {
            self.restart(*node, "restart-power")?;
        }
        for node in lost {
            self.reopen(node).await;
        }
        self.give(taken);
        Ok(())
    }

    /// A sealed node still votes: nothing is taken from the majority.
    async fn seal(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let node = self.any_member(rng);
        let mut process = self.context.process();
        let (outcome, _) = self.context.call(&mut process, node, None, Call::Seal).await;
        if matches!(outcome, Outcome::Ok(_)) {
            self.took_effect(Kind::Seal, &format!("n{node}"));
        }
        self.nap(rng.random_range(HOLD)).await;
        if matches!(outcome, Outcome::Fail(_)) {
            return Ok(());
        }
        while self.cluster.is_member(node) && !self.cluster.serves(node).await && !self.stopped() {
            // Under faults a ceremony may fail; it is held again.
            let _ = self.context.ceremony(node, self.cluster.ceremony(node)).await;
            self.nap(0.5).await;
        }
        Ok(())
    }

    /// Starts a node that was ended, unless it was removed meanwhile: then its end was for good.
    fn restart(&self, node: u32, f: &str) -> anyhow::Result<()> {
        if self.cluster.is_member(node) {
            self.cluster.start_node(node)?;
            self.tell(f, &format!("n{node}"));
        }
        Ok(())
    }

    fn any_member(&self, rng: &mut StdRng) -> u32 {
        let members = self.cluster.members();
        members[rng.random_range(0..members.len())]
    }

    /// Waits until a restarted node serves; calls custodians when its peers don't open it in time.
    async fn reopen(&self, node: u32) {
        let mut since = Instant::now();
        while !self.stopped() && self.cluster.is_member(node) && !self.cluster.serves(node).await {
            if since.elapsed() > HANDOVER_TIME {
                let _ = self.context.ceremony(node, self.cluster.ceremony(node)).await;
                since = Instant::now();
            }
            self.nap(0.1).await;
        }
    }

    /// A node to harm, half the time the leader, with the budget for it taken.
    async fn victim(&self, rng: &mut StdRng) -> Option<(u32, String, u32)> {
        let any = self.any_member(rng);
        let leader = if rng.random_ratio(1, 2) { self.cluster.leader().await } else { None };
        let node = leader.unwrap_or(any);
        let taken = self.take(1).await?;
        // Harmed by nobody else: what is down or stopped does not answer.
        if !self.cluster.serves(node).await {
            self.give(taken);
            return None;
        }
        let words = if leader.is_some() { format!("n{node} (leader)") } else { format!("n{node}") };
        Some((node, words, taken))
    }

    /// Takes from the budget, as soon as there is enough; `None` when faults are to end.
    async fn take(&self, count: u32) -> Option<u32> {
        while !self.stopped() {
            if let Some(left) = self.budget.get().checked_sub(count) {
                self.budget.set(left);
                return Some(count);
            }
            self.nap(0.1).await;
        }
        None
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
        self.seen.borrow_mut().insert(kind);
        self.tell(&effect_event(kind.name()), words);
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
