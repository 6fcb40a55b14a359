//! What this node has promised in elections, told at once.
//!
//! A read-index round needs a quorum's word that none of them has helped a later leader into office (key-log §1.8).
//! openraft's metrics lag behind its core, so they can't give it. But whatever the core grants, to itself or to
//! another, it has first had saved; so this is raised as the saving *begins*, and a grant that has left this node can't
//! be missing here.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quorate_core::id::NodeId;
use tokio::time::Instant;

use super::{LeaderId, Vote};

/// The highest leadership this node has voted for, or followed, and whom it has voted for last since its start.
pub(crate) struct Promise {
    me: NodeId,
    highest: Mutex<Option<LeaderId>>,
    voted: Mutex<Option<(NodeId, Instant)>>,
}

impl Promise {
    /// What the journal says at the start.
    pub(crate) fn new(me: NodeId, vote: Option<&Vote>) -> Self {
        Self { me, highest: Mutex::new(vote.map(|vote| vote.leader_id)), voted: Mutex::default() }
    }

    /// A vote is about to be saved: given, or merely heard of. In its own name it is this node's candidacy.
    pub(super) fn raise(&self, vote: &Vote) {
        let mut highest = self.highest.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *highest < Some(vote.leader_id);
        *highest = (*highest).max(Some(vote.leader_id));
        drop(highest);
        if news && vote.leader_id.node_id == self.me.0 {
            self.voted_for(self.me);
        }
    }

    /// The promise as it is now.
    pub(crate) fn now(&self) -> Option<LeaderId> {
        *self.highest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node has voted, now.
    pub(crate) fn voted_for(&self, candidate: NodeId) {
        *self.voted.lock().unwrap_or_else(PoisonError::into_inner) = Some((candidate, Instant::now()));
    }

    /// Whether this node voted for somebody else than `candidate` less than `ago` ago.
    pub(crate) fn went_elsewhere(&self, candidate: NodeId, ago: Duration) -> bool {
        let voted = *self.voted.lock().unwrap_or_else(PoisonError::into_inner);
        voted.is_some_and(|(who, at)| who != candidate && at.elapsed() < ago)
    }
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId;

    use super::*;

    fn vote(term: u64, node: u64) -> Vote {
        Vote { leader_id: LeaderId::new(term, node), committed: false }
    }

    #[test]
    fn a_promise_is_never_taken_back() {
        let promise = Promise::new(NodeId(9), None);
        assert_eq!(promise.now(), None);
        for (raised, now) in [((2, 1), (2, 1)), ((2, 3), (2, 3)), ((2, 2), (2, 3)), ((1, 9), (2, 3)), ((3, 1), (3, 1))]
        {
            promise.raise(&vote(raised.0, raised.1));
            assert_eq!(promise.now(), Some(LeaderId::new(now.0, now.1)));
        }
        assert_eq!(Promise::new(NodeId(9), Some(&vote(4, 1))).now(), Some(LeaderId::new(4, 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_promise_is_another_s_for_a_while() {
        let ago = Duration::from_millis(90);
        let promise = Promise::new(NodeId(9), Some(&vote(4, 1)));
        assert!(!promise.went_elsewhere(NodeId(2), ago), "before this start: it may be long ago");
        promise.raise(&vote(5, 1));
        assert!(!promise.went_elsewhere(NodeId(2), ago), "it may only have been heard of");
        promise.voted_for(NodeId(1));
        tokio::time::advance(ago / 2).await;
        promise.raise(&Vote { committed: true, ..vote(5, 1) });
        assert!(promise.went_elsewhere(NodeId(2), ago) && !promise.went_elsewhere(NodeId(1), ago));
        tokio::time::advance(ago / 2).await;
        assert!(!promise.went_elsewhere(NodeId(2), ago));
        promise.raise(&vote(6, 9));
        assert!(promise.went_elsewhere(NodeId(2), ago), "its own candidacy");
    }
}
