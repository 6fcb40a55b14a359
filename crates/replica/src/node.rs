//! The inside of a replica: what its tasks, its peer server and its facade have in common.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::ServerState;
use openraft::async_runtime::watch::WatchReceiver;
use quorate_core::id::{ClusterId, GroupId, NodeId};
use tokio::sync::{Notify, Semaphore, watch};

use crate::clock::Clock;
use crate::confirm::Confirmations;
use crate::gate::ReadGate;
use crate::grants::Grants;
use crate::handler::SealCheck;
use crate::log::LogReader;
use crate::mark::Marked;
use crate::origins::Origins;
use crate::peer::hello::Heard;
use crate::peer::link::{Link, Links};
use crate::peer::{CALLS_MAX, CHANGES_MAX, FORWARDS_MAX, JOINS_MAX};
use crate::raft::promise::Promise;
use crate::raft::{LeaderId, Raft};
use crate::shared::Shared;
use crate::snapshot::receive::Receiving;
use crate::snapshot::streams::Streams;
use crate::space::Tail;
use crate::state::StateFiles;
use crate::status::Role;
use crate::verify::Checker;
use crate::witness::Witness;
use crate::word::{Own, Words};

/// One replica.
pub(crate) struct Node {
    pub(crate) cluster: ClusterId,
    pub(crate) group: GroupId,
    pub(crate) me: NodeId,
    pub(crate) boot: u32,
    pub(crate) shared: Arc<Shared>,
    pub(crate) raft: Raft,
    pub(crate) links: Arc<Links>,
    pub(crate) journal: LogReader,
    /// What this node has promised in elections.
    pub(crate) promise: Arc<Promise>,
    /// What this node grants and was granted, and whom it believes to lead.
    pub(crate) grants: Arc<Grants>,
    pub(crate) gate: Arc<ReadGate>,
    pub(crate) confirmations: Confirmations,
    pub(crate) peers: Arc<Heard>,
    pub(crate) clock: Clock,
    pub(crate) seals: Arc<dyn SealCheck>,
    /// The seal configuration that this node was introduced with, for as long as its state has none.
    pub(crate) introduced_by: Option<Bytes>,
    /// Whose batches this node takes while it leads.
    pub(crate) origins: Origins,
    /// The begin of this node's session is under way.
    pub(crate) opening: tokio::sync::Mutex<()>,
    /// Wakes the Hello task.
    pub(crate) hello: Notify,
    /// Closed at shutdown: the state's file is closed once the last view is dropped.
    pub(crate) files: Arc<StateFiles>,
    /// Snapshots being sent.
    pub(crate) streams: Arc<Streams>,
    /// The snapshot being received.
    pub(crate) receiving: Receiving,
    pub(crate) limits: Limits,
    /// The leader this node knows of.
    pub(crate) leader: watch::Receiver<Option<NodeId>>,
    /// Checks the whole state.
    pub(crate) checker: Arc<Checker>,
    /// Held while members are changed by this node as the leader; shared, while it sequences a roster: of what it carries out
    /// nobody writes another.
    pub(crate) changing: tokio::sync::RwLock<()>,
    /// What is still taken into the log while the disk is nearly full.
    pub(crate) tail: Tail,
    /// What this node says of itself.
    pub(crate) own: Arc<Own>,
    /// What the others have said of themselves.
    pub(crate) words: Arc<Words>,
    /// What its token says of this node.
    pub(crate) marked: Marked,
    /// Who has answered since the start.
    pub(crate) witness: Witness,
}

/// How much of each peer is worked on at once.
pub(crate) struct Limits {
    per_peer: Mutex<BTreeMap<NodeId, PeerLimits>>,
    pub(crate) joins: Arc<Semaphore>,
}

/// Bounds of one peer.
#[derive(Clone)]
pub(crate) struct PeerLimits {
    /// Its proposals.
    pub(crate) forwards: Arc<Semaphore>,
    /// Its application calls.
    pub(crate) calls: Arc<Semaphore>,
    /// Its questions about members and leadership.
    pub(crate) changes: Arc<Semaphore>,
}

impl Limits {
    pub(crate) fn new() -> Self {
        Self { per_peer: Mutex::default(), joins: Arc::new(Semaphore::new(JOINS_MAX)) }
    }

    /// Those of a peer.
    pub(crate) fn of(&self, peer: NodeId) -> PeerLimits {
        let mut all = self.per_peer.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = || PeerLimits {
            forwards: Arc::new(Semaphore::new(FORWARDS_MAX)),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            changes: Arc::new(Semaphore::new(CHANGES_MAX)),
        };
        all.entry(peer).or_insert_with(fresh).clone()
    }
}

impl Node {
    /// The leader this node knows of, itself included.
    pub(crate) fn leader_now(&self) -> Option<NodeId> {
        *self.leader.borrow()
    }

    /// Whether this node leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.leader_now() == Some(self.me)
    }

    /// The leadership of this node, if it leads.
    pub(crate) fn leadership(&self) -> Option<LeaderId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        (metrics.state == ServerState::Leader).then_some(metrics.vote.leader_id)
    }

    /// The connections to a member.
    pub(crate) fn link(&self, to: NodeId) -> Option<Arc<Link>> {
        self.shared.members.member(to).map(|member| self.links.to(to, &member))
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

    /// Waits until the known leader is no longer `tried`, at most `limit`.
    pub(crate) async fn other_leader(&self, tried: Option<NodeId>, limit: Duration) {
        let mut leader = self.leader.clone();
        let other = leader.wait_for(|now| *now != tried && now.is_some());
        let untold = tokio::time::timeout(limit, other).await.is_ok_and(|other| other.is_err());
        // The core has stopped and nobody tells of leaders any more: whoever asks again must not do so in a hot loop.
        if untold {
            tokio::time::sleep(limit).await;
        }
    }
}
