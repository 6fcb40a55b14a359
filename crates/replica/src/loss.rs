//! A disk may take back what was synced to it, and leave no trace: it lies about syncs and loses power (key-log §4.7). The
//! leader knows what this node has said to have, and repeats it with every append; a node that does not have it any more
//! says so and takes no further part, for others count on its answers.
//!
//! What only members know that are down, or that led before, is not found out this way.

use std::sync::atomic::Ordering;

use openraft::async_runtime::watch::WatchReceiver as _;
use tonic::Status;

use crate::error::{Loss, Problem};
use crate::node::Node;
use crate::raft::codec::decode_vote;
use crate::raft::{LeaderId, LogId, Vote};

/// Whether a log that ends at `last` lacks what its node acknowledged under the leader's vote. `vote` is this node's own, looked
/// at *after* its log: a newer leader may have cut the log short, but not before this node had voted for it.
fn lost(last: u64, vote: Option<&Vote>, leader: &Vote, acked: u64) -> bool {
    last < acked && vote.is_none_or(|vote| vote.partial_cmp(leader) != Some(std::cmp::Ordering::Greater))
}

impl Node {
    /// Compares what this node has with what the leader counts on.
    pub(crate) fn compare_with_acked(&self, leader: &Vote, acked: LogId) {
        let last = self.journal.last_index().unwrap_or(0);
        // Nearly always: then there is nothing to look at.
        if last >= acked.index {
            return;
        }
        let vote = self.journal.vote().and_then(|vote| decode_vote(&vote).ok());
        if lost(last, vote.as_ref(), leader, acked.index) && !self.lost.swap(true, Ordering::AcqRel) {
            self.raft.runtime_config().elect(false);
            self.shared.set_problem(Problem::Lost(Loss::Entries { acked: acked.index, last }));
        }
    }

    /// Whether this node still has all that it acknowledged, as far as it was told.
    pub(crate) fn has_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// The leadership that this node has promised to follow; a member that lost something promises nothing, as nobody may
    /// count on it.
    pub(crate) fn promised(&self) -> Option<LeaderId> {
        self.promise.now().filter(|_| !self.has_lost())
    }

    /// Refuses what only a member may answer that has all that it acknowledged, and whose consensus core runs.
    pub(crate) fn takes_part(&self) -> Result<(), Status> {
        if self.has_lost() {
            return Err(Status::failed_precondition("this node's disk took back what it had acknowledged"));
        }
        if self.raft.metrics().borrow_watched().running_state.is_err() {
            return Err(Status::failed_precondition("this node has stopped taking part; its status says why"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId;

    use super::*;

    #[test]
    fn only_what_was_acknowledged_to_this_leader_can_be_lost() {
        let vote = |term| Vote { leader_id: LeaderId::new(term, 1), committed: true };
        let (older, leader, newer) = (vote(3), vote(4), vote(5));
        assert!(lost(9, Some(&leader), &leader, 10));
        assert!(lost(9, Some(&older), &leader, 10) && lost(0, None, &leader, 10), "its vote is gone too");
        assert!(!lost(10, Some(&leader), &leader, 10) && !lost(11, Some(&leader), &leader, 10));
        assert!(!lost(9, Some(&newer), &leader, 10), "a newer leader had other entries");
    }
}
