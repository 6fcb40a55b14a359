//! Who leads next: whom a leader hands its leadership to, and how a leader whose process is gone is succeeded as soon as its
//! lease has run out.
//!
//! Raft's own timer waits for the lease and then for a random while, since silence may have many reasons (key-log §6). But
//! when the leader's connections end and nobody listens at its address any more, it is dead, and the random while is
//! time lost. So then this node asks for pre-votes as soon as that can succeed. Safety and calm rest on what they always
//! rest on: while the leader's lease holds here, openraft refuses the attempt; while it holds elsewhere, a majority does.
//! What goes silent without a word (a pulled cable, a stopped process) is left to the timer.
//!
//! All survivors learn of it in the same instant, so they go one after the other: the highest id first, since within a
//! term a higher one unseats a lower one. And who has promised its vote lets nobody else try for a while.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use quorate_core::id::NodeId;
use tokio::time::Instant;

use crate::change::LAG_MAX;
use crate::clock::{Clock, is_fit};
use crate::error::Problem;
use crate::grants::Grants;
use crate::leader::Leader;
use crate::log::LogReader;
use crate::node::Base;
use crate::participation::Participation;
use crate::peer::RpcFailure;
use crate::peer::hello::Heard;
use crate::raft::Raft;
use crate::raft::promise::Promise;
use crate::shared::Shared;

/// Between two attempts: well above a round of pre-votes, well below what is to be saved.
const STEP: Duration = Duration::from_millis(10);
/// After this the timer has long done it, or there is no majority.
const LIMIT: Duration = Duration::from_secs(2);

/// How often a leader that should not lead looks for another.
const MAKE_WAY_EVERY: Duration = Duration::from_millis(500);

/// What succession asks of its node.
pub(crate) trait Pings: Send + Sync + 'static {
    /// Asks a member right now whether it is there.
    fn ping(&self, id: NodeId) -> impl Future<Output = Result<(), RpcFailure>> + Send;
}

/// Looks after the leader whenever a member's control connection ends, for as long as the replica runs.
pub(crate) async fn drive(succession: Arc<Succession>, node: Arc<impl Pings>) {
    loop {
        succession.shared.departed.notified().await;
        if let Some(leader) = succession.leader.now().filter(|leader| *leader != succession.me) {
            succession.succeed(leader, &*node).await;
        }
    }
}

/// A leader that has stopped serving takes no more into the log: while it leads, it hands its leadership to one that serves.
pub(crate) async fn make_way(succession: Arc<Succession>) {
    let mut problem = succession.shared.watch_problem();
    let makes_way = |now: &Option<Problem>| now.as_ref().is_some_and(Problem::makes_way);
    if problem.wait_for(makes_way).await.is_err() {
        return;
    }
    loop {
        if succession.leader.is_me()
            && let Some(to) = succession.serving()
        {
            // A core that has stopped leads nobody any more.
            let _ = succession.raft.trigger().transfer_leader(to.0).await;
        }
        tokio::time::sleep(MAKE_WAY_EVERY).await;
    }
}

/// Who may follow whom.
pub(crate) struct Succession {
    me: NodeId,
    shared: Arc<Shared>,
    raft: Raft,
    leader: Arc<Leader>,
    participation: Arc<Participation>,
    peers: Arc<Heard>,
    clock: Arc<Clock>,
    journal: LogReader,
    grants: Arc<Grants>,
    promise: Arc<Promise>,
}

impl Succession {
    pub(crate) fn of(base: &Base, leader: &Arc<Leader>, participation: &Arc<Participation>) -> Self {
        Self {
            me: base.me,
            shared: base.shared.clone(),
            raft: base.raft.clone(),
            leader: leader.clone(),
            participation: participation.clone(),
            peers: base.peers.clone(),
            clock: base.clock.clone(),
            journal: base.journal.clone(),
            grants: base.grants.clone(),
            promise: base.promise.clone(),
        }
    }

    /// Tries to succeed `leader` for as long as it is the one known, and its address refuses.
    async fn succeed(&self, leader: NodeId, node: &impl Pings) {
        let until = Instant::now() + LIMIT;
        while self.leader.now() == Some(leader) && Instant::now() < until && !self.shared.is_stopping() {
            // A refused connection is an answer. Silence is none: it may be a busy machine, and the timer runs on. A node with
            // a wrong clock does not lead, nor one that lost entries.
            match node.ping(leader).await {
                Err(RpcFailure::Unreachable(_)) if self.participation.may_campaign() => {}
                Err(RpcFailure::Deadline(_)) => continue,
                _ => return,
            }
            let Some(from) = self.may_succeed_from(leader) else { return };
            if from > Instant::now() {
                tokio::time::sleep_until(from.min(until)).await;
                continue;
            }
            if self.raft.trigger().elect(true).await.is_err() {
                return;
            }
            tokio::time::sleep(STEP).await;
        }
    }

    /// From when on this node may try to succeed `leader`: after its lease, and after each voter of a higher id had time to.
    /// `None`: it was not heard since this node's start.
    fn may_succeed_from(&self, leader: NodeId) -> Option<Instant> {
        let config = self.raft.config();
        let lease = Duration::from_millis(config.election_timeout_max);
        let before = self.shared.members.applied().voter_ids().into_iter().filter(|id| *id > self.me && *id != leader);
        // A round of pre-votes, one of votes and what is synced between them.
        let each = Duration::from_millis(config.heartbeat_interval) / 2;
        self.grants.heard().map(|heard| heard + lease + each * before.count() as u32)
    }

    /// Whether this node has just voted for somebody else than `candidate`, who may be about to be elected: its first entries
    /// are on their way, and a later term would unseat it.
    pub(crate) fn another_is_being_elected(&self, candidate: NodeId) -> bool {
        let a_while = Duration::from_millis(self.raft.config().election_timeout_min);
        self.promise.went_elsewhere(candidate, a_while)
    }

    /// Asks the most advanced reachable voter to lead, one that serves clients before one that is sealed. Without any
    /// nothing happens: a wrong clock is better than no leader, and ticks carry the median anyway.
    pub(crate) async fn hand_on(&self) -> Option<NodeId> {
        let to = self.best()?;
        self.raft.trigger().transfer_leader(to.0).await.ok()?;
        Some(to)
    }

    /// Whether another node's clock lets it lead, as far as is known here. One whose clock does not, does not campaign
    /// either: a transfer aimed at it could leave the cluster without a leader.
    pub(crate) fn may_lead(&self, id: NodeId) -> bool {
        self.clock.offsets_ms().get(&id).copied().is_none_or(is_fit)
    }

    /// Who should lead when this node no longer does.
    pub(crate) fn best(&self) -> Option<NodeId> {
        self.with_space().or_else(|| self.successor(|_| true))
    }

    /// The same, if there is one whose disk is not nearly full.
    pub(crate) fn with_space(&self) -> Option<NodeId> {
        self.successor(|id| !self.peers.is_low(id))
    }

    /// The most advanced of the voters that serve, and have the space to lead: one that is short of it hands leadership back.
    fn serving(&self) -> Option<NodeId> {
        self.serving_of(&self.others(|id| !self.peers.is_low(id)))
    }

    /// Voters that could lead.
    fn others(&self, fit: impl Fn(NodeId) -> bool) -> BTreeSet<NodeId> {
        let mut others = self.shared.members.applied().voter_ids();
        others.retain(|id| *id != self.me && fit(*id) && self.may_lead(*id));
        others
    }

    fn serving_of(&self, others: &BTreeSet<NodeId>) -> Option<NodeId> {
        let last = self.journal.state().ok().and_then(|s| s.last).map_or(0, |(index, _)| index);
        // Hellos are up to a second old, and what is missing arrives with the hand-over: nearly level is level.
        let serving = others.iter().copied().filter(|id| self.shared.handler.serves(*id));
        self.peers.most_advanced(serving).filter(|id| self.peers.lag(*id, last) <= LAG_MAX)
    }

    fn successor(&self, fit: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let others = self.others(fit);
        self.serving_of(&others).or_else(|| self.peers.most_advanced(others.into_iter()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::MAKE_WAY_EVERY;
    use crate::error::Problem;
    use crate::status::Role;
    use crate::testing::{Cluster, PATIENCE, sim, until};

    /// It would refuse every change of everybody for as long as it led.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_leader_that_stops_serving_hands_its_leadership_to_one_that_serves() {
        let cluster = Cluster::voters(3).await;
        let leader = cluster.leader(&[0, 1, 2]).await;
        let heir = (leader + 1) % 3;
        cluster.nodes[leader].node().base.shared.set_problem(Problem::State("a record has rotted".into()));
        let mut known = cluster.nodes[heir].leader();
        let id = cluster.sites[leader].id;
        // A busy machine may see elections that nobody caused: that another leads is not enough.
        let handed_on = async {
            while cluster.nodes[leader].node().base.grants.heir().is_none() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, handed_on).await.expect("it hands on");
        let another = known.wait_for(|now| now.is_some_and(|now| now != id));
        tokio::time::timeout(PATIENCE, another).await.expect("another leads").expect("running");
        cluster.write(heir, "after", b"served").await;
        cluster.stop().await;
    }

    /// Whoever is short of space hands leadership on, to one that has some: it would come straight back, again and again.
    #[tokio::test(start_paused = true)]
    async fn a_leader_that_stops_serving_hands_on_to_nobody_who_would_hand_it_back() {
        let sites = sim::sites(3, 3);
        let nodes = sim::voters(&sites).await;
        let leads = |place: usize| {
            let status = nodes[place].replica.status();
            (status.role == Role::Leader).then_some(status.term)
        };
        until("one leads", || (0..3).any(|place| leads(place).is_some())).await;
        let leader = (0..3).find(|place| leads(*place).is_some()).expect("one leads");
        let (low, heir) = ((leader + 1) % 3, (leader + 2) % 3);
        for place in [low, heir] {
            sites[place].disk.set_free_bytes(300 << 10);
        }
        until("it is known", || nodes[leader].replica.status().peers.iter().all(|peer| peer.low_space)).await;
        let (term, node) = (leads(leader), nodes[leader].replica.node());
        node.base.shared.set_problem(Problem::State("a record has rotted".into()));
        tokio::time::sleep(10 * MAKE_WAY_EVERY).await;
        assert_eq!((leads(leader), node.base.grants.heir()), (term, None), "it keeps what nobody can hold");
        sites[heir].disk.set_free_bytes(1 << 30);
        until("the one with space leads", || leads(heir).is_some()).await;
        let term = leads(heir);
        tokio::time::sleep(10 * MAKE_WAY_EVERY).await;
        assert_eq!(leads(heir), term, "and goes on leading");
    }

    /// The old leader refuses all changes from then on, and openraft never takes its leadership back.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_transfer_to_a_node_that_died_that_instant_ends_with_another_leader() {
        let cluster = Cluster::voters(3).await;
        let leader = cluster.leader(&[0, 1, 2]).await;
        let (dead, heir) = ((leader + 1) % 3, (leader + 2) % 3);
        cluster.nodes[dead].shutdown().await;
        let id = cluster.sites[dead].id.0;
        cluster.nodes[leader].node().base.raft.trigger().transfer_leader(id).await.expect("running");
        cluster.write(heir, "after", b"all").await;
        assert_eq!(cluster.nodes[heir].node().leader.now(), Some(cluster.sites[heir].id));
        cluster.stop().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_dead_leader_is_succeeded_without_the_timer_and_a_silent_one_is_not() {
        let mut cluster = Cluster::voters(3).await;
        let leader = cluster.leader(&[0, 1, 2]).await;
        for replica in &cluster.nodes {
            replica.node().base.raft.runtime_config().elect(false);
        }
        let rest: Vec<usize> = (0..3).filter(|i| *i != leader).collect();
        let id = cluster.sites[leader].id;

        // Its connections to one follower break while it lives: it goes on leading.
        let follower = cluster.nodes[rest[0]].clone();
        follower.node().base.shared.departed.notify_one();
        cluster.write(rest[0], "a", b"1").await;
        assert_eq!(follower.node().leader.now(), Some(id));

        // Gone without a good-bye: neither handing on nor closing anything in order.
        drop(cluster.nodes.remove(leader));
        for place in rest {
            let place = place - usize::from(place > leader);
            let mut heir = cluster.nodes[place].leader();
            let elected = heir.wait_for(|now| now.is_some_and(|now| now != id));
            tokio::time::timeout(PATIENCE, elected).await.expect("elected though no timer runs").expect("running");
        }
        cluster.stop().await;
    }
}
