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

/// The highest leadership this node has voted for, or followed, and when it first did; since its start, at most.
pub(crate) struct Promise(Mutex<Option<(LeaderId, Option<Instant>)>>);

impl Promise {
    /// What the journal says at the start.
    pub(crate) fn new(vote: Option<&Vote>) -> Self {
        Self(Mutex::new(vote.map(|vote| (vote.leader_id, None))))
    }

    /// A vote is about to be saved.
    pub(super) fn raise(&self, vote: &Vote) {
        let mut promised = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if promised.is_none_or(|(leadership, _)| leadership < vote.leader_id) {
            *promised = Some((vote.leader_id, Some(Instant::now())));
        }
    }

    /// The promise as it is now.
    pub(crate) fn now(&self) -> Option<LeaderId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|(leadership, _)| leadership)
    }

    /// Whether this was promised to somebody else than `candidate` less than `ago` ago.
    pub(crate) fn went_elsewhere(&self, candidate: NodeId, ago: Duration) -> bool {
        let promised = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        promised.is_some_and(|(to, at)| to.node_id != candidate.0 && at.is_some_and(|at| at.elapsed() < ago))
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
        let promise = Promise::new(None);
        assert_eq!(promise.now(), None);
        for (raised, now) in [((2, 1), (2, 1)), ((2, 3), (2, 3)), ((2, 2), (2, 3)), ((1, 9), (2, 3)), ((3, 1), (3, 1))]
        {
            promise.raise(&vote(raised.0, raised.1));
            assert_eq!(promise.now(), Some(LeaderId::new(now.0, now.1)));
        }
        assert_eq!(Promise::new(Some(&vote(4, 1))).now(), Some(LeaderId::new(4, 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_promise_is_another_s_for_a_while() {
        let ago = Duration::from_millis(90);
        let promise = Promise::new(Some(&vote(4, 1)));
        assert!(!promise.went_elsewhere(NodeId(2), ago), "before this start: it may be long ago");
        promise.raise(&vote(5, 1));
        tokio::time::advance(ago / 2).await;
        promise.raise(&Vote { committed: true, ..vote(5, 1) });
        assert!(promise.went_elsewhere(NodeId(2), ago) && !promise.went_elsewhere(NodeId(1), ago));
        tokio::time::advance(ago / 2).await;
        assert!(!promise.went_elsewhere(NodeId(2), ago));
    }
}
