//! Where a read-index round gets its index (key-log §1.8, §3): from this node if it leads, and a quorum's word that it still
//! does; else from the leader, by a question whose id is never used again ([`crate::peer::rounds`]).
//!
//! Why it is safe. Let the round begin at τ. The core tells, after τ, that this node is the leader by vote V = (term,
//! node), and its commit index R. Then each member of a quorum tells, after τ too, that V is the highest leadership it
//! has promised to follow ([`crate::raft::promise`]). Had another leader V' > V been elected before τ, a quorum would
//! have promised V' before τ; it shares a member with ours, and promises are never taken back: so there was none, and
//! what was acknowledged before τ was committed by V or before it, hence is at or below R. Neither clocks nor leases
//! enter into it. The quorum is one of the *effective* membership, as the core has it at the same moment as R: a
//! membership that replaced it would have had to be committed by V, which is in R, or by a V' that got a quorum of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::vote::RaftLeaderId;
use openraft::{Instant as _, LinearizerOption, LogIdOptionExt, ServerState};
use quorate_core::id::NodeId;
use quorate_core::seeded::{self, Bug};
use tokio::time::{Instant, sleep, timeout};

use crate::gate::{ROUND_LIMIT, Source};
use crate::leader::Leader;
use crate::node::Base;
use crate::participation::Participation;
use crate::peer::link::Links;
use crate::peer::rounds::Question;
use crate::raft::{LeaderId, Raft, StoredMembership};
use crate::shared::Shared;
use crate::space::SpaceRegime;
use crate::word::Words;

/// Leaders a round follows before it is given up.
const REDIRECTS_MAX: usize = 3;
/// How long voters are waited for. It leaves the heartbeats time within the round.
const VOTERS_LIMIT: Duration = Duration::from_millis(125);
/// When the members asked first are slower than this, the others are asked too.
const HEDGE: Duration = Duration::from_millis(20);

/// Of the seeded bug that answers from a lease.
const LEASE: Duration = Duration::from_secs(2);

/// Somebody's word, given after the round began, on the highest leadership it has promised to follow.
#[derive(Clone, Copy)]
pub(crate) struct Ack {
    pub(crate) from: NodeId,
    pub(crate) leader: LeaderId,
}

/// How this node leads, all at one moment of its core.
struct Lead {
    leader: LeaderId,
    /// Everything up to it is committed, and everything that was committed before this leader's time is below it.
    committed: u64,
    membership: Arc<StoredMembership>,
}

/// Confirms read indexes, this node's own and, while it leads, the others'.
pub(crate) struct Confirmer {
    me: NodeId,
    raft: Raft,
    shared: Arc<Shared>,
    links: Arc<Links>,
    words: Arc<Words>,
    leader: Arc<Leader>,
    participation: Arc<Participation>,
    space: Arc<SpaceRegime>,
    /// The member that answered last.
    favourite: AtomicU64,
    /// Rounds that had to be confirmed by heartbeats.
    by_heartbeat: AtomicU64,
}

impl Source for Confirmer {
    /// By this node itself if it leads, else by a question to the leader.
    async fn ask(&self) -> Result<u64, String> {
        let mut tried: Option<NodeId> = None;
        for _ in 0..REDIRECTS_MAX {
            if self.leader.now() == tried {
                // Wait on the watch instead of following what a deposed leader believes.
                self.leader.other_than(tried, ROUND_LIMIT).await;
            }
            let Some(leader) = self.leader.now() else { return Err("no leader is known".into()) };
            tried = Some(leader);
            let index = if leader == self.me {
                self.confirm(None).await
            } else {
                let link = self.links.to_member(&self.shared.members, leader);
                let link = link.ok_or_else(|| format!("the leader, node {leader}, is no known member"))?;
                // Our own word goes along, given now: after the round began. With three voters that makes the quorum.
                let promised = self.participation.promised().unwrap_or(LeaderId::new(0, 0));
                link.rounds()
                    .ask(Question::Ask, promised)
                    .await
                    .map_err(|why| format!("the leader, node {leader}, can't be asked: {why}"))?
            };
            if let Some(index) = index {
                return Ok(index);
            }
        }
        Err("the leader could not confirm that it leads".into())
    }
    async fn another_leader(&self, until: Instant) {
        self.leader.other_than(self.leader.now(), until.saturating_duration_since(Instant::now())).await;
    }
    fn shared(&self) -> &Shared {
        &self.shared
    }
    fn left_behind(&self, index: u64) -> Option<String> {
        self.space.left_behind(index)
    }
}

impl Confirmer {
    pub(crate) fn of(
        base: &Base,
        leader: &Arc<Leader>,
        participation: &Arc<Participation>,
        space: &Arc<SpaceRegime>,
    ) -> Self {
        Self {
            me: base.me,
            raft: base.raft.clone(),
            shared: base.shared.clone(),
            links: base.links.clone(),
            words: base.words.clone(),
            leader: leader.clone(),
            participation: participation.clone(),
            space: space.clone(),
            favourite: AtomicU64::new(0),
            by_heartbeat: AtomicU64::new(0),
        }
    }

    /// Rounds that no quorum answered for on the connections made for it.
    pub(crate) fn rounds_by_heartbeat(&self) -> u64 {
        self.by_heartbeat.load(Ordering::Relaxed)
    }

    /// Whether `leader` is still the highest leadership that this node has promised to follow.
    pub(crate) fn follows(&self, leader: LeaderId) -> bool {
        self.participation.promised() == Some(leader)
    }

    /// An index, confirmed by a quorum after this call began. `None`: not the leader, or no quorum answered in time.
    /// `also` has given its word already, for the same round.
    pub(crate) async fn confirm(&self, also: Option<Ack>) -> Option<u64> {
        // Who is lost may have been resumed from a time when it led.
        if self.participation.check().is_err() {
            return None;
        }
        if let Some(lead) = self.lead().await
            && timeout(VOTERS_LIMIT, self.is_followed(&lead, also)).await == Ok(true)
        {
            return Some(lead.committed);
        }
        // A leader so new that nothing of its own is committed yet, or a broken connection.
        self.by_heartbeat.fetch_add(1, Ordering::Relaxed);
        self.confirm_by_heartbeat().await
    }

    /// `None` also for a leader of whose own term nothing is committed: it does not know its commit index yet.
    async fn lead(&self) -> Option<Lead> {
        let me = self.me.0;
        let lead = self.raft.with_raft_state(move |state| {
            let vote = state.vote_ref();
            // After a restart the vote may still be its own, but it is no leader.
            let leads = state.server_state == ServerState::Leader && vote.committed && vote.leader_id.node_id == me;
            let committed = state.local_committed().max(state.cluster_committed());
            let committed = committed.filter(|id| leads && id.leader_id == vote.leader_id)?;
            let membership = state.membership_state.effective().clone();
            Some(Lead { leader: vote.leader_id, committed: committed.index, membership })
        });
        lead.await.ok()?
    }

    /// Whether a quorum, this node included, says that it has promised nothing higher.
    async fn is_followed(&self, lead: &Lead, also: Option<Ack>) -> bool {
        // Seeded bug: a quorum's word is good for two seconds, in which another may have been elected.
        if seeded::is(Bug::LeaderLease)
            && self.raft.metrics().borrow_watched().last_quorum_acked.is_some_and(|at| at.elapsed() < LEASE)
        {
            return true;
        }
        let configs = lead.membership.get_joint_config();
        let mut acked = BTreeSet::from([self.me.0]);
        let counts = |id: u64| !self.words.shows_less(NodeId(id));
        acked.extend(also.filter(|ack| ack.leader == lead.leader).map(|ack| ack.from.0).filter(|id| counts(*id)));
        if is_quorum(configs, &acked) {
            return true;
        }
        let favourite = self.favourite.load(Ordering::Relaxed);
        let mut others: Vec<u64> = lead.membership.voter_ids().filter(|id| !acked.contains(id)).collect();
        others.sort_by_key(|id| *id != favourite);
        others.dedup();
        let first = enough(configs, &acked, &others);

        let mut asked = FuturesUnordered::new();
        let ask = |id: u64| async move {
            let Some(link) = self.links.to_member(&self.shared.members, NodeId(id)) else { return (id, false) };
            (id, link.rounds().ask(Question::Confirm, lead.leader).await == Ok(Some(0)) && counts(id))
        };
        let mut others = others.into_iter();
        asked.extend(others.by_ref().take(first).map(ask));
        let hedge = sleep(HEDGE);
        tokio::pin!(hedge);
        loop {
            tokio::select! {
                biased;
                answer = asked.next() => match answer {
                    Some((id, true)) => {
                        acked.insert(id);
                        self.favourite.store(id, Ordering::Relaxed);
                        if is_quorum(configs, &acked) {
                            return true;
                        }
                    }
                    Some((_, false)) => asked.extend(others.by_ref().map(ask)),
                    None => return false,
                },
                () = &mut hedge, if others.len() > 0 => asked.extend(others.by_ref().map(ask)),
            }
        }
    }

    /// openraft's own round: heartbeats to all.
    async fn confirm_by_heartbeat(&self) -> Option<u64> {
        // Age zero: only acknowledgements of heartbeats sent from now on count. Never a lease.
        let option = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(ROUND_LIMIT);
        match self.raft.get_read_linearizer(option).await {
            // What this node has applied itself was committed: never hand out less.
            Ok(linearizer) => Some(linearizer.read_log_id().index().max(linearizer.applied().index().unwrap_or(0))),
            Err(error) => {
                tracing::debug!(%error, "no read index");
                None
            }
        }
    }
}

/// A majority of each of the configurations.
fn is_quorum(configs: &[BTreeSet<u64>], acked: &BTreeSet<u64>) -> bool {
    !configs.is_empty() && configs.iter().all(|voters| voters.intersection(acked).count() > voters.len() / 2)
}

/// How many of `others`, in their order, make a quorum with `acked`; all of them if none do.
fn enough(configs: &[BTreeSet<u64>], acked: &BTreeSet<u64>, others: &[u64]) -> usize {
    let mut with = acked.clone();
    let reached = others.iter().position(|id| {
        with.insert(*id);
        is_quorum(configs, &with)
    });
    reached.map_or(others.len(), |at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ids: &[u64]) -> BTreeSet<u64> {
        ids.iter().copied().collect()
    }

    #[test]
    fn a_quorum_is_a_majority_of_every_configuration() {
        let three = [set(&[1, 2, 3])];
        for (acked, quorum) in [(&[1][..], false), (&[1, 2], true), (&[1, 9], false), (&[1, 2, 3], true), (&[], false)]
        {
            assert_eq!(is_quorum(&three, &set(acked)), quorum, "{acked:?}");
        }
        assert!(is_quorum(&[set(&[1])], &set(&[1])));
        assert!(!is_quorum(&[set(&[1, 2, 3, 4])], &set(&[1, 2])), "half is none");
        let joint = [set(&[1, 2, 3]), set(&[1, 4, 5])];
        for (acked, quorum) in [(&[1, 2][..], false), (&[1, 4], false), (&[1, 2, 4], true), (&[2, 3, 4, 5], true)] {
            assert_eq!(is_quorum(&joint, &set(acked)), quorum, "{acked:?}");
        }
        // A leader that is leaving is none of its own quorum.
        assert!(!is_quorum(&[set(&[2, 3, 4])], &set(&[1, 2])));
        assert!(!is_quorum(&[], &set(&[1])), "without voters nobody leads");
    }

    #[test]
    fn no_more_are_asked_than_a_quorum_needs() {
        assert_eq!(enough(&[set(&[1, 2, 3])], &set(&[1]), &[3, 2]), 1);
        assert_eq!(enough(&[set(&[1, 2, 3, 4, 5])], &set(&[1]), &[2, 3, 4, 5]), 2);
        assert_eq!(enough(&[set(&[1, 2, 3]), set(&[1, 4, 5])], &set(&[1]), &[2, 3, 4, 5]), 3);
        assert_eq!(enough(&[set(&[2, 3])], &set(&[1]), &[2]), 1, "all there are");
    }
}
