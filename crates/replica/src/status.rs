//! What a replica tells about itself: for `operator status`, metrics and the service's own decisions.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use quorate_core::id::NodeId;
use quorate_core::level::Level;
use quorate_journal::Space;

use crate::error::Problem;
use crate::member::{Member, MembershipView};
use crate::peer::closed::Closed;
use crate::quorum::Quorum;

/// Target of the log event that says who leads. Tools read it: its fields are numbers, `node` and, if one is known, `leader`.
pub const LEADER_EVENT: &str = "quorate_replica::leader";

/// Logs that `node` knows of another leader than before, or of none, and why, for people.
pub fn log_leader(node: NodeId, leader: Option<NodeId>, why: &str) {
    tracing::info!(target: LEADER_EVENT, node = node.0, leader = leader.map(|id| id.0), "{why}");
}

/// A node's part in consensus.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Receives the log, does not vote.
    Learner,
    /// Follows a leader.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Sequences the log.
    Leader,
}

/// What is known of one other member.
#[derive(Clone, Debug)]
pub struct PeerStatus {
    /// Its id.
    pub id: NodeId,
    /// A Hello was exchanged within the last 3 s.
    pub reachable: bool,
    /// What it had applied then.
    pub applied: u64,
    /// Its start count.
    pub boot: u32,
    /// The highest feature level that it said to speak.
    pub level: Option<Level>,
    /// Its wall clock minus a majority's, in milliseconds, if both are known.
    pub clock_offset_ms: Option<i64>,
    /// Free bytes of its disk then.
    pub free_bytes: u64,
    /// Its disk was nearly full then: it takes nothing into its log.
    pub low_space: bool,
    /// The service's part of its last Hello.
    pub app_hello: Bytes,
    /// How long ago that was; `None` = never.
    pub age: Option<Duration>,
    /// Why it was not reached, when it was not.
    pub error: Option<String>,
    /// What this node holds against it, if anything: it told something that no honest member tells.
    pub doubt: Option<String>,
    /// Why it takes no part, where it says so instead of answering.
    pub closed: Option<Closed>,
}

/// Read-index rounds since the start (key-log §3).
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ReadRounds {
    /// Rounds this node began for its own reads.
    pub begun: u64,
    /// Reads that shared them.
    pub reads: u64,
    /// Rounds, other nodes' included, that this node confirmed as the leader by heartbeats to all: those for which the
    /// connections made for rounds did not do.
    pub by_heartbeat: u64,
}

/// What of the past a replica's files may still hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retained {
    /// The first entry whose bytes may lie in a file of its log, whether it is in the log any more or not; where none does, the
    /// next one.
    pub log_from: u64,
    /// The entry up to which the state is on its disk.
    pub state_at: u64,
}

/// A replica at one instant.
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    /// This node.
    pub id: NodeId,
    /// The leader this node knows of.
    pub leader: Option<NodeId>,
    /// This node's part.
    pub role: Role,
    /// The Raft term.
    pub term: u64,
    /// Committed membership, as applied here.
    pub membership: MembershipView,
    /// Last entry in this node's log.
    pub last_log: u64,
    /// Last entry that is no longer in it: the log begins after it.
    pub purged: Option<u64>,
    /// Last entry applied here.
    pub applied: u64,
    /// Cluster time, milliseconds since 1970 (key-log §1.7).
    pub cluster_time_ms: u64,
    /// Set while a jump of the leader's clock waits for the operator's confirmation (clusters of one or two).
    pub time_held_ms: Option<u64>,
    /// What the clocks say: a majority's median, or the own clock in a cluster of one or two voters.
    pub reference_ms: Option<u64>,
    /// This node's wall clock minus a majority's, in milliseconds, as compared last.
    pub clock_offset_ms: Option<i64>,
    /// This node's start count.
    pub boot: u32,
    /// The feature level in force, as applied here.
    pub level: Level,
    /// The highest that this node speaks.
    pub speaks: Level,
    /// How much room this node's disk has.
    pub space: Space,
    /// What it has of the voters to work with.
    pub quorum: Quorum,
    /// Most of the other voters disown this node: it was removed, which nobody could tell it in its log, since a node is cut
    /// off at once.
    pub disowned: bool,
    /// The other members.
    pub peers: Vec<PeerStatus>,
    /// Why this node no longer serves, if so.
    pub problem: Option<Problem>,
}

impl ReplicaStatus {
    /// The voters' ids.
    pub fn voters(&self) -> impl Iterator<Item = NodeId> {
        self.membership.voter_ids().into_iter()
    }

    /// The learners' ids.
    pub fn learners(&self) -> impl Iterator<Item = NodeId> {
        self.membership.members.keys().copied().filter(|id| !self.membership.is_voter(*id))
    }

    /// The highest feature level that a node speaks: this one, or one that has said so within that time.
    pub fn spoken(&self, id: NodeId, within: Duration) -> Option<Level> {
        if id == self.id {
            return Some(self.speaks);
        }
        let heard = |peer: &&PeerStatus| peer.id == id && peer.age.is_some_and(|age| age < within);
        self.peers.iter().find(heard)?.level
    }

    /// All members.
    pub fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.membership.members
    }
}
