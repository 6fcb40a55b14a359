//! What a leader is asked about members and leadership (key-log §6, trust.md §3.4): whether a change may be made, to carry
//! out what the roster says, to hand on. On a follower the same call goes to the leader. None of it says who the members
//! are: any member may ask, and what it gets stands in a signed roster already.

mod carry_out;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use quorate_core::id::NodeId;
use tokio::sync::{Notify, RwLock, RwLockReadGuard};
use tokio::time::{Instant, timeout, timeout_at};

pub(crate) use self::carry_out::drive;
use crate::error::MembershipError;
use crate::leader::Leader;
use crate::log::LogReader;
use crate::node::Base;
use crate::peer::hello::{Heard, Hellos};
use crate::peer::link::Links;
use crate::peer::{RpcFailure, bounded, forward};
use crate::raft::{Raft, TypeConfig, effective};
use crate::shared::Shared;
use crate::space::{HandsOn, SpaceRegime};
use crate::state_reader::StateReader;
use crate::succession::Succession;

/// A learner this close to the end of the log may become a voter.
pub(crate) const LAG_MAX: u64 = 1000;
/// How long the chosen successor may take to lead.
const HAND_ON_LIMIT: Duration = Duration::from_secs(2);
/// What is kept of a limit for the answer's way back.
const ANSWER_MARGIN: Duration = Duration::from_millis(50);
/// Pause before a leader is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// What is asked of the leader.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Only says whether these may become voters.
    MayPromote(Vec<NodeId>),
    /// Only says whether a member may be removed; if it leads, it hands on first.
    MayRemove(NodeId),
    /// Makes the membership what the roster of this serial says, or a later one.
    CarryOut(u64),
    /// Hands leadership to a voter; to the best one when none is named.
    Transfer(Option<NodeId>),
}

/// What became of it.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Changed {
    /// In force since this index.
    Done(u64),
    /// Not the leader.
    NotLeader(Option<NodeId>),
    /// Refused by a rule.
    Refused(String),
    /// It may have been appended.
    Unknown(String),
}

type Written =
    Result<openraft::raft::ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

/// Answers and makes changes as the leader, and asks whoever leads.
pub(crate) struct Changes {
    me: NodeId,
    shared: Arc<Shared>,
    raft: Raft,
    journal: LogReader,
    links: Arc<Links>,
    peers: Arc<Heard>,
    hello: Arc<Notify>,
    leader: Arc<Leader>,
    succession: Arc<Succession>,
    space: Arc<SpaceRegime>,
    hellos: Arc<Hellos>,
    state: Arc<StateReader>,
    /// Held while members are changed by this node as the leader; shared, while it sequences a roster: of what it carries out
    /// nobody writes another.
    changing: RwLock<()>,
}

impl HandsOn for Changes {
    async fn hand_on_to(&self, to: NodeId) -> Option<Changed> {
        let _one = self.changing.try_write().ok()?;
        Some(self.transfer_here(Some(to)).await)
    }
}

impl Changes {
    pub(crate) fn of(
        base: &Base,
        leader: &Arc<Leader>,
        succession: &Arc<Succession>,
        space: &Arc<SpaceRegime>,
        hellos: &Arc<Hellos>,
        state: &Arc<StateReader>,
    ) -> Self {
        Self {
            me: base.me,
            shared: base.shared.clone(),
            raft: base.raft.clone(),
            journal: base.journal.clone(),
            links: base.links.clone(),
            peers: base.peers.clone(),
            hello: base.hello.clone(),
            leader: leader.clone(),
            succession: succession.clone(),
            space: space.clone(),
            hellos: hellos.clone(),
            state: state.clone(),
            changing: RwLock::new(()),
        }
    }

    /// Keeps members from being changed, at most until `limit` has passed for want of it.
    pub(crate) async fn keep_still(&self, limit: Duration) -> Option<RwLockReadGuard<'_, ()>> {
        timeout(limit, self.changing.read()).await.ok()
    }

    /// Makes the change if this node leads.
    pub(crate) async fn answer(&self, change: &Change, deadline: Instant) -> Changed {
        if !self.leader.is_me() {
            return Changed::NotLeader(self.leader.now());
        }
        if !matches!(change, Change::Transfer(_))
            && let Some(short) = self.space.shortage()
        {
            return match short.moving {
                true => Changed::NotLeader(self.leader.now()),
                false => Changed::Refused(format!("{}; make room there first", short.why)),
            };
        }
        match change {
            // Any member may ask, as often as it likes: what only waits for others keeps nobody waiting.
            Change::MayPromote(ids) => self.may_promote(ids, deadline).await,
            Change::MayRemove(id) if *id != self.me => self.may_remove(*id).await,
            Change::MayRemove(_) => self.alone(deadline, self.may_remove(self.me)).await,
            Change::CarryOut(serial) => match self.alone(deadline, self.carry_out(*serial, deadline)).await {
                Changed::Done(_) => self.spread().await,
                other => other,
            },
            Change::Transfer(Some(to)) if self.peers.is_low(*to) => Changed::Refused(format!(
                "{} is short of disk space and would hand leadership on at once; make room there first",
                self.shared.members.name_of(*to)
            )),
            Change::Transfer(to) => self.alone(deadline, self.transfer_here(*to)).await,
        }
    }

    /// Makes a change while no other is made.
    async fn alone(&self, deadline: Instant, change: impl Future<Output = Changed>) -> Changed {
        match timeout_at(deadline, self.changing.write()).await {
            Ok(_one) => change.await,
            Err(_) => Changed::Refused("another membership change is under way; wait for it to end".into()),
        }
    }

    /// From the moment it is triggered the old leader refuses writes and does not take its leadership back, so
    /// everything that can be known is asked before.
    async fn transfer_here(&self, to: Option<NodeId>) -> Changed {
        let now = effective(&self.raft);
        if to == Some(self.me) {
            return Changed::Done(now.index);
        }
        let Some(to) = to.or_else(|| self.succession.best()) else {
            return Changed::Refused("there is no other voter within reach that could lead".into());
        };
        let name = self.shared.members.name_of(to);
        if !now.is_voter(to) {
            return Changed::Refused(format!("{name} is no voter, and only a voter can lead; promote it first"));
        }
        if let Err(e) = self.hellos.reach(to).await {
            return Changed::Refused(format!("{name} can't take over: {e}; see that it runs and is reachable"));
        }
        if !self.succession.may_lead(to) {
            return Changed::Refused(format!(
                "the clock of {name} is too far from the others' for it to lead; set the clocks right (chrony, ntpd)"
            ));
        }
        let last = self.journal.state().ok().and_then(|s| s.last).map_or(0, |(index, _)| index);
        let lag = self.peers.lag(to, last);
        if lag > LAG_MAX {
            return Changed::Refused(format!("{name} lacks {lag} entries of the log; wait until it has caught up"));
        }
        if let Err(e) = self.raft.trigger().transfer_leader(to.0).await {
            return Changed::Refused(e.to_string());
        }
        self.leader.other_than(Some(self.me), HAND_ON_LIMIT).await;
        match self.leader.now() {
            Some(leader) if leader != self.me => Changed::Done(effective(&self.raft).index),
            _ => Changed::Unknown(format!("{name} did not take over within {HAND_ON_LIMIT:?}; look at the status")),
        }
    }

    async fn may_remove(&self, id: NodeId) -> Changed {
        let now = effective(&self.raft);
        if now.is_voter(id) {
            self.look_for(&now).await;
            if let Err(why) = self.may_lose(&now, id) {
                return Changed::Refused(why);
            }
        }
        // Whom the roster leaves out is followed no more, so it can't be the one that carries that out.
        if id != self.me {
            return Changed::Done(now.index);
        }
        match self.transfer_here(None).await {
            Changed::Done(_) => Changed::NotLeader(self.leader.now()),
            Changed::Refused(why) | Changed::Unknown(why) => Changed::Refused(format!(
                "{} leads, and could not hand on its leadership: {why}",
                self.shared.members.name_of(id)
            )),
            not_leader @ Changed::NotLeader(_) => not_leader,
        }
    }

    /// Asks the voters that did not answer last once more: one lost Hello is no absence.
    async fn look_for(&self, now: &crate::MembershipView) {
        let absent = now.voter_ids().into_iter().filter(|id| *id != self.me && !self.peers.is_reachable(*id));
        join_all(absent.map(|id| self.hellos.reach(id))).await;
    }

    /// Whether a majority is within reach both with and without the voter: the change needs the first to be made, the
    /// cluster needs the second to go on.
    fn may_lose(&self, now: &crate::MembershipView, id: NodeId) -> Result<(), String> {
        let name = self.shared.members.name_of(id);
        let voters = now.voter_ids();
        let mut rest = voters.clone();
        rest.remove(&id);
        if rest.is_empty() {
            return Err(format!("{name} is the only voter: without it there is no cluster; promote others first"));
        }
        let here = |id: &NodeId| *id == self.me || self.peers.is_reachable(*id);
        let majority = |set: &BTreeSet<NodeId>| set.iter().filter(|id| here(id)).count() > set.len() / 2;
        if majority(&rest) && majority(&voters) {
            return Ok(());
        }
        let away: Vec<String> = rest.iter().filter(|id| !here(id)).map(|id| self.shared.members.name_of(*id)).collect();
        Err(format!(
            "removing {name} would lose the quorum: of the {} voters that would remain, {} can't be reached ({}); bring \
             them back first, or remove one of those instead",
            rest.len(),
            away.len(),
            away.join(", ")
        ))
    }

    /// Learners that hold the log, and have applied that they are members: so they know whom to follow.
    async fn may_promote(&self, ids: &[NodeId], deadline: Instant) -> Changed {
        let now = effective(&self.raft);
        if let Some(id) = ids.iter().find(|id| !now.members.contains_key(id)) {
            return Changed::Refused(format!("node {id} is no member; invite and approve it first"));
        }
        let learners: BTreeSet<NodeId> = ids.iter().copied().filter(|id| !now.is_voter(*id)).collect();
        let behind = match self.await_caught_up(&learners, deadline).await {
            Ok(()) => self.await_applied(&learners, now.index, deadline).await,
            Err(laggard) => Some(laggard),
        };
        match behind {
            None => Changed::Done(now.index),
            Some(laggard) => Changed::Refused(format!(
                "{} has not caught up with the log; see that it runs and is reachable, and try again",
                self.shared.members.name_of(laggard)
            )),
        }
    }

    /// Waits until these have applied an entry; one that has not by then.
    async fn await_applied(&self, ids: &BTreeSet<NodeId>, index: u64, until: Instant) -> Option<NodeId> {
        let waits = ids.iter().filter(|id| **id != self.me).map(|id| async move {
            while self.peers.status(*id).applied < index {
                if Instant::now() >= until || self.hellos.reach(*id).await.is_err() {
                    return Some(*id);
                }
                tokio::time::sleep(PAUSE / 5).await;
            }
            None
        });
        join_all(waits).await.into_iter().flatten().next()
    }

    /// Waits until the learners hold (almost) all of the log: a voter that lags could hold up every commit.
    async fn await_caught_up(&self, learners: &BTreeSet<NodeId>, deadline: Instant) -> Result<(), NodeId> {
        let mut metrics = self.raft.metrics();
        loop {
            let laggard = {
                let now = metrics.borrow_watched();
                let last = now.last_log_index.unwrap_or(0);
                let matched = |id: &NodeId| {
                    let id = now.replication.as_ref().and_then(|r| r.get(&id.0)).and_then(|m| m.as_ref());
                    id.map(|id| id.index)
                };
                learners.iter().copied().find(|id| matched(id).is_none_or(|at| at.saturating_add(LAG_MAX) < last))
            };
            let Some(laggard) = laggard else { return Ok(()) };
            match timeout_at(deadline, metrics.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(laggard),
            }
        }
    }

    async fn changed(&self, written: Result<Written, tokio::time::error::Elapsed>, deadline: Instant) -> Changed {
        match written {
            Ok(Ok(done)) => {
                let index = done.log_id.index;
                let mut applied = self.shared.applied();
                let _ = timeout_at(deadline, applied.wait_for(|now| *now >= index)).await;
                self.hello.notify_one();
                Changed::Done(index)
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => {
                Changed::NotLeader(to.leader_id.map(NodeId))
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                e @ (ChangeMembershipError::InProgress(_) | ChangeMembershipError::UncommittedLeaderLog(_)),
            )))) => Changed::Refused(format!("another membership change is under way ({e}); try again")),
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(e)))) => Changed::Refused(e.to_string()),
            Ok(Err(e)) => Changed::Unknown(e.to_string()),
            Err(_) => Changed::Unknown("the deadline passed".into()),
        }
    }

    /// Makes the change wherever the leader is.
    pub(crate) async fn ask(&self, change: Change, deadline: Instant) -> Result<u64, MembershipError> {
        let mut reason = "no leader is known".to_owned();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(MembershipError::Unavailable(reason));
            }
            let Some(leader) = self.leader.now() else {
                self.leader.other_than(None, left).await;
                continue;
            };
            let changed = if leader == self.me {
                self.answer(&change, deadline).await
            } else {
                match self.forward_change(leader, &change, left).await {
                    Ok(changed) => changed,
                    Err(why) => {
                        reason = why;
                        self.leader.other_than(Some(leader), PAUSE.min(left)).await;
                        continue;
                    }
                }
            };
            match changed {
                Changed::Done(index) => {
                    let mut applied = self.shared.applied();
                    let _ = timeout_at(deadline, applied.wait_for(|now| *now >= index)).await;
                    self.hello.notify_one();
                    return Ok(index);
                }
                Changed::Refused(why) => return Err(MembershipError::Refused(why)),
                Changed::Unknown(why) => return Err(MembershipError::Unknown(why)),
                Changed::NotLeader(_) => {
                    reason = format!("node {leader} does not lead, or has lost its majority");
                    self.leader.other_than(Some(leader), PAUSE.min(left)).await;
                }
            }
        }
    }

    /// An `Err` says why the leader was not asked; nothing was changed then.
    async fn forward_change(&self, leader: NodeId, change: &Change, left: Duration) -> Result<Changed, String> {
        let Some(link) = self.links.to_member(&self.shared.members, leader) else {
            return Err(format!("node {leader} is no known member"));
        };
        // The leader answers before we stop listening.
        let request = forward::change_out(change, left.saturating_sub(ANSWER_MARGIN));
        let mut client = link.log();
        match bounded(left, client.change_membership(request)).await {
            Ok(response) => Ok(forward::changed_in(response)),
            Err(e @ (RpcFailure::Refused(_) | RpcFailure::NotPinned | RpcFailure::Closed(_) | RpcFailure::Busy)) => {
                Err(format!("node {leader}: {e}"))
            }
            Err(e) => Ok(Changed::Unknown(format!("node {leader}: {e}"))),
        }
    }
}
