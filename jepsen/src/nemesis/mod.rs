//! Faults, chosen by seed, several kinds at once, never more nodes than a minority.

pub mod clock;
pub mod disk;
mod membership;
pub mod packet;
pub mod partition;
mod pressure;
mod subtle;
pub mod token;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use clap::ValueEnum;
use futures::future::{LocalBoxFuture, join_all};
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::checker::coverage::effect_event;
use crate::checker::logs;
use crate::cluster::Cluster;
use crate::history::{Call, Outcome};
use crate::net::{Backend, Net};
use crate::seed::stream;
use crate::workload::Context;
use packet::Harm;
use partition::minority;

impl Kind {
    /// Why it can't be had on this network, if so.
    pub fn lacks(self, net: Backend) -> Option<&'static str> {
        match self {
            Self::Packet if net != Backend::Tap => {
                Some("it takes --net tap: only that delays, loses and changes frames")
            }
            Self::Stream if net != Backend::Proxy => Some("it takes --net proxy: only that knows connections"),
            kind if kind.takes_disks() && net == Backend::Proxy => {
                Some("it takes mounts, and where those are allowed --net tap or veth is")
            }
            _ => None,
        }
    }
}

/// A kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub enum Kind {
    /// Links carry nothing: a minority or the leader cut off, one-way, bridge, ring, flapping
    Partition,
    /// Frames are late, overtake each other, are lost, doubled, changed, or pass slowly
    Packet,
    /// Connections are late, slow, changed, half-closed, reset
    Stream,
    /// SIGKILL to a node (half the time the leader), which is started again
    Kill,
    /// SIGSTOP to a node (half the time the leader), SIGCONT some seconds later
    Pause,
    /// A node, sometimes all at once, loses power: what was not synced to its disk is gone
    Power,
    /// Every node loses power at once
    Blackout,
    /// A node is sealed by its operator, and opened by a ceremony some seconds later
    Seal,
    /// A new node joins and a member (half the time the leader) is removed for good, in either order; leadership is handed on
    Membership,
    /// A node is away until the others have let go of the log that it lacks, and is sent the state
    Snapshot,
    /// A node's memory is limited to what it can't give back: the kernel ends it, or makes it crawl
    Memory,
    /// A node (half the time the leader) stands still for some milliseconds, again and again
    Stutter,
    /// One direction of one of the leader's links carries nothing for a moment, again and again
    Flaky,
    /// Of three nodes the leader is cut off; when another leads, the third is killed and comes back on the old leader's side
    Sides,
    /// A node's time of day leaps, drifts or runs to and fro
    Clock,
    /// All clocks of a node, its timers' too, are slow or fast; half the time the leader's
    ClockRate,
    /// Something else fills a node's disk, and goes away later
    DiskFull,
    /// Writes or syncs of a node fail with EIO
    DiskError,
    /// Writes or syncs of a node fail with ENOSPC
    DiskNoSpace,
    /// Syncs of a node take long
    DiskSlow,
    /// Syncs of a node do nothing, then it loses power
    DiskLie,
    /// Every access to a node's disk fails from one moment to the next, until it is reset
    DiskDead,
    /// A node is started on a read-only disk
    DiskReadOnly,
    /// The end of a node's journal is cut off while it is down
    TornTail,
    /// One bit of any of a node's files is changed while it is down
    BitFlip,
    /// A node's token refuses every use of its keys
    HsmError,
    /// A node's token hangs, or takes long
    HsmSlow,
    /// A node's token computes wrongly
    HsmWrong,
}

impl Kind {
    /// Its name on the command line and in histories.
    pub fn name(self) -> &'static str {
        match self {
            Self::Partition => "partition",
            Self::Packet => "packet",
            Self::Stream => "stream",
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Power => "power",
            Self::Blackout => "blackout",
            Self::Seal => "seal",
            Self::Membership => "membership",
            Self::Snapshot => "snapshot",
            Self::Memory => "memory",
            Self::Stutter => "stutter",
            Self::Flaky => "flaky",
            Self::Sides => "sides",
            Self::Clock => "clock",
            Self::ClockRate => "clock-rate",
            Self::DiskFull => "disk-full",
            Self::DiskError => "disk-error",
            Self::DiskNoSpace => "disk-no-space",
            Self::DiskSlow => "disk-slow",
            Self::DiskLie => "disk-lie",
            Self::DiskDead => "disk-dead",
            Self::DiskReadOnly => "disk-read-only",
            Self::TornTail => "torn-tail",
            Self::BitFlip => "bit-flip",
            Self::HsmError => "hsm-error",
            Self::HsmSlow => "hsm-slow",
            Self::HsmWrong => "hsm-wrong",
        }
    }

    /// Why it makes no sense with so many nodes.
    pub fn unfit(self, nodes: u32) -> Option<&'static str> {
        match self {
            Self::Partition if partition::shapes(nodes).is_empty() => {
                Some("can't be partitioned with a majority left; use 3 or more")
            }
            Self::Snapshot if nodes < 3 => Some("the others must go on without the node; use 3 or more"),
            Self::Flaky if nodes < 2 => Some("it takes a link; use 2 or more"),
            Self::Sides if nodes != 3 => Some("it takes 3 nodes, no more and no fewer"),
            Self::ClockRate if nodes < 3 => Some("the rate of a clock is compared with the others'; use 3 or more"),
            kind if kind.loses_data() && nodes < 3 => {
                Some("a node that lost its data is replaced from the others; use 3 or more")
            }
            _ => None,
        }
    }

    /// Why it can't go on beside another kind, if so.
    pub fn clashes(self, other: Self) -> Option<&'static str> {
        match (self, other) {
            (Self::Membership, disk) | (disk, Self::Membership) if disk.breaks_disks() => {
                Some("a node whose disk is broken may have to be replaced under its name, by another operator's hand")
            }
            _ => None,
        }
    }

    /// Whether it is a fault of a node's disk.
    pub fn breaks_disks(self) -> bool {
        use Kind::*;
        matches!(self, DiskFull | DiskError | DiskNoSpace | DiskSlow | DiskDead | DiskReadOnly) || self.loses_data()
    }

    /// Whether it is a fault of a node's token.
    pub fn breaks_tokens(self) -> bool {
        matches!(self, Self::HsmError | Self::HsmSlow | Self::HsmWrong)
    }

    /// Whether a node may lose by it what it had acknowledged, so that the others have to replace it.
    pub fn loses_data(self) -> bool {
        matches!(self, Self::DiskLie | Self::TornTail | Self::BitFlip)
    }

    /// Whether nodes need disks of their own for it.
    pub fn takes_disks(self) -> bool {
        matches!(self, Self::Power | Self::Blackout) || self.breaks_disks()
    }
}

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
    /// Nodes whose changed bit was not found yet: it may lie where nothing is read for long. Until then they may stop.
    flipped: RefCell<BTreeSet<u32>>,
    /// Turns true when faults are to end.
    stop: watch::Receiver<bool>,
}

/// A fault lasts so long, seconds.
const HOLD: std::ops::Range<f64> = 2.0..7.0;
/// … and the next of its kind comes so much later.
const REST: std::ops::Range<f64> = 1.0..4.0;
/// A flapping link changes this often, seconds.
const FLAP: std::ops::Range<f64> = 0.05..0.6;
/// A node that was started again is given the root key by its peers within this time; then custodians are called.
const HANDOVER_TIME: Duration = Duration::from_secs(8);
/// A node that was broken is given this time to come back, on a busy machine.
const RETURN_TIME_MAX: Duration = Duration::from_secs(90);

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
            flipped: RefCell::default(),
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
                Kind::HsmError | Kind::HsmSlow | Kind::HsmWrong => Box::pin(self.token(kind, &mut rng)),
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
        let hold = rng.random_range(HOLD);
        match shape {
            partition::Shape::Flapping => self.flap(&cut.links, hold, rng).await?,
            _ => {
                self.nap(hold).await;
            }
        }
        let dropped = self.net.heal()?;
        let what = if self.net.backend() == Backend::Proxy { "pieces were held" } else { "frames were dropped" };
        self.tell("heal-partition", &format!("{dropped} {what}"));
        // Only what dropped frames was a partition.
        if dropped > 0 {
            self.took_effect(Kind::Partition, &cut.words);
        }
        self.give(taken);
        Ok(())
    }

    /// Each of the links is cut and restored again and again, by itself.
    async fn flap(&self, links: &[(u32, u32)], seconds: f64, rng: &mut StdRng) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed().as_secs_f64() < seconds && !self.nap(rng.random_range(FLAP)).await {
            let cut: Vec<_> = links.iter().copied().filter(|_| rng.random_ratio(1, 2)).collect();
            self.net.cut(&cut)?;
        }
        Ok(())
    }

    async fn shape(&self, kind: Kind, rng: &mut StdRng) -> anyhow::Result<()> {
        let leader = self.cluster.leader().await;
        let shaping = packet::shaping(Harm::of(self.net.backend()), &self.cluster.members(), leader, rng);
        let Some(taken) = self.take(shaping.costs).await else { return Ok(()) };
        self.net.shape(&shaping.links, &shaping.policy)?;
        self.tell(kind.name(), &shaping.words);
        self.nap(rng.random_range(HOLD)).await;
        let counts = self.net.unshape()?;
        let harmed = shaping.harm.count(&counts);
        let what = if kind == Kind::Packet { "frames" } else { "pieces" };
        self.tell(&format!("heal-{}", kind.name()), &format!("it met {harmed} of {} {what}", counts.seen));
        // Only what met frames happened.
        if harmed > 0 {
            self.took_effect_as(kind, &format!("{}-{}", kind.name(), shaping.harm.name()), &shaping.words);
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

    async fn power(&self, kind: Kind, rng: &mut StdRng) -> anyhow::Result<()> {
        let all = kind == Kind::Blackout || rng.random_ratio(1, 3);
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
            self.took_effect(kind, &words);
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
        self.tell("heal-seal", &format!("n{node} is open"));
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

    /// Starts a node whose fault is over as often as it takes, until it serves. One that says that it lost what it had
    /// acknowledged is replaced. Goes on when faults are to end: nobody else heals it. A node that does not come back is left as
    /// it is, for the verdict.
    /// Answers whether it was replaced.
    async fn bring_back(&self, node: u32) -> anyhow::Result<bool> {
        let mut replaced = false;
        let mut read = self.cluster.log_len(node);
        let (begun, mut since) = (Instant::now(), Instant::now());
        while begun.elapsed() < RETURN_TIME_MAX && self.cluster.is_member(node) {
            let state = self.cluster.state(node).await;
            match state.as_deref() {
                Some("ok") => break,
                Some("sealed") if since.elapsed() > HANDOVER_TIME => {
                    let _ = self.context.ceremony(node, self.cluster.ceremony(node)).await;
                    since = Instant::now();
                }
                Some("damaged") => {
                    let said = self.cluster.log_from(node, read);
                    // A restart is enough where nothing is lost.
                    match logs::lost_data(&said) {
                        true => {
                            self.replace(node).await;
                            replaced = true;
                            read = self.cluster.log_len(node);
                        }
                        false => _ = self.cluster.kill(node),
                    }
                }
                None if !self.cluster.runs(node) => {
                    if logs::lost_data(&self.cluster.log_from(node, read)) {
                        self.replace(node).await;
                        replaced = true;
                        read = self.cluster.log_len(node);
                    } else {
                        read = self.cluster.log_len(node);
                        self.restart(node, "restart")?;
                    }
                    since = Instant::now();
                }
                _ => {}
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(replaced)
    }

    /// Replaces nodes that came upon a changed bit later.
    pub async fn mend(&self) -> anyhow::Result<()> {
        let flipped = self.flipped.borrow().clone();
        for node in flipped {
            if self.cluster.state(node).await.as_deref() == Some("damaged") && self.bring_back(node).await? {
                self.flipped.borrow_mut().remove(&node);
                self.cluster.excuse_ends(node);
            }
        }
        Ok(())
    }

    /// Whether the others could do without it and take it in again is for the verdict to say.
    async fn replace(&self, node: u32) {
        self.tell("replace", &format!("n{node}"));
        match self.cluster.replace(node).await {
            Ok(()) => self.tell("replaced", &format!("n{node}")),
            Err(e) => self.tell("not-replaced", &format!("n{node}: {e:#}")),
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
