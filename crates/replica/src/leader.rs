//! Who leads, as far as this node knows: Raft names who was elected last, be it dead or deposed since.

use std::time::Duration;

use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use quorate_core::id::NodeId;
use tokio::sync::watch;

use crate::raft::{LeaderId, Raft};
use crate::status::Role;

/// The leader that one node knows of.
pub(crate) struct Leader {
    me: NodeId,
    raft: Raft,
    known: watch::Receiver<Option<NodeId>>,
}

impl Leader {
    pub(crate) fn new(me: NodeId, raft: Raft, known: watch::Receiver<Option<NodeId>>) -> Self {
        Self { me, raft, known }
    }

    /// Who it is, this node itself included.
    pub(crate) fn now(&self) -> Option<NodeId> {
        *self.known.borrow()
    }

    /// Whether it is this node.
    pub(crate) fn is_me(&self) -> bool {
        self.now() == Some(self.me)
    }

    /// Who it is, as it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Option<NodeId>> {
        self.known.clone()
    }

    /// The leadership of this node, if it leads.
    pub(crate) fn leadership(&self) -> Option<LeaderId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        (metrics.state == ServerState::Leader).then_some(metrics.vote.leader_id)
    }

    /// This node's part and term.
    pub(crate) fn role(&self) -> (Role, u64) {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let role = match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Candidate => Role::Candidate,
            ServerState::Follower => Role::Follower,
            ServerState::Learner | ServerState::Shutdown => Role::Learner,
        };
        (role, metrics.current_term)
    }

    /// Waits until there is one other than `tried`, at most `limit`.
    pub(crate) async fn other_than(&self, tried: Option<NodeId>, limit: Duration) {
        let mut known = self.watch();
        let other = known.wait_for(|now| *now != tried && now.is_some());
        let untold = tokio::time::timeout(limit, other).await.is_ok_and(|other| other.is_err());
        // The core has stopped and nobody tells of leaders any more: whoever asks again must not do so in a hot loop.
        if untold {
            tokio::time::sleep(limit).await;
        }
    }
}
