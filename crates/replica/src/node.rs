//! A replica, put together: each part has a state of its own and the parts that it stands on, none has the whole.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use quorate_core::id::{ClusterId, GroupId, NodeId};
use quorate_core::level::Levels;
use quorate_journal::Driver;
use tokio::sync::{Notify, Semaphore, watch};

use crate::change::Changes;
use crate::clock::{Clock, Keeper};
use crate::confirm::Confirmer;
use crate::gate::ReadGate;
use crate::grants::{Doorkeeper, Grants};
use crate::handler::SealCheck;
use crate::leader::Leader;
use crate::level::LevelCheck;
use crate::listed::RosterCheck;
use crate::log::LogReader;
use crate::mark::{Marked, Marker};
use crate::participation::Participation;
use crate::peer::hello::{Heard, Hellos};
use crate::peer::link::Links;
use crate::peer::{CALLS_MAX, CHANGES_MAX, FORWARDS_MAX, JOINS_MAX};
use crate::propose::Proposals;
use crate::raft::Raft;
use crate::raft::promise::Promise;
use crate::shared::Shared;
use crate::snapshot::receive::Receiving;
use crate::snapshot::streams::Streams;
use crate::space::{SpaceRegime, Tail};
use crate::state::StateFiles;
use crate::state_reader::StateReader;
use crate::succession::Succession;
use crate::verify::Checker;
use crate::witness::Witness;
use crate::word::{Own, Words};

/// What all parts stand on; each takes of it what it needs.
pub(crate) struct Base {
    pub(crate) cluster: ClusterId,
    pub(crate) group: GroupId,
    pub(crate) me: NodeId,
    pub(crate) boot: u32,
    /// The feature levels that this node works at.
    pub(crate) levels: Levels,
    pub(crate) shared: Arc<Shared>,
    pub(crate) raft: Raft,
    pub(crate) links: Arc<Links>,
    pub(crate) journal: LogReader,
    /// What this node has promised in elections.
    pub(crate) promise: Arc<Promise>,
    /// What this node grants and was granted, and whom it believes to lead.
    pub(crate) grants: Arc<Grants>,
    pub(crate) peers: Arc<Heard>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) seals: Arc<dyn SealCheck>,
    /// The seal configuration that this node was introduced with, for as long as its state has none.
    pub(crate) introduced_by: Option<Bytes>,
    /// Wakes the Hello task.
    pub(crate) hello: Arc<Notify>,
    /// Closed at shutdown: the state's file is closed once the last view is dropped.
    pub(crate) files: Arc<StateFiles>,
    /// What this node says of itself.
    pub(crate) own: Arc<Own>,
    /// What the others have said of themselves.
    pub(crate) words: Arc<Words>,
    /// Drives what waits for the disk.
    pub(crate) driver: Driver,
}

/// One replica.
pub(crate) struct Node {
    pub(crate) base: Base,
    pub(crate) leader: Arc<Leader>,
    pub(crate) participation: Arc<Participation>,
    pub(crate) succession: Arc<Succession>,
    pub(crate) space: Arc<SpaceRegime>,
    pub(crate) gate: Arc<ReadGate>,
    pub(crate) confirmer: Arc<Confirmer>,
    pub(crate) rosters: Arc<RosterCheck>,
    pub(crate) levels: LevelCheck,
    pub(crate) doorkeeper: Doorkeeper,
    pub(crate) witness: Arc<Witness>,
    pub(crate) marker: Arc<Marker>,
    pub(crate) hellos: Arc<Hellos>,
    pub(crate) changes: Arc<Changes>,
    pub(crate) proposals: Arc<Proposals>,
    /// Checks the whole state.
    pub(crate) checker: Arc<Checker>,
    /// Snapshots being sent.
    pub(crate) streams: Arc<Streams>,
    /// The snapshot being received.
    pub(crate) receiving: Receiving,
    pub(crate) limits: Limits,
}

impl Node {
    /// Of what a start has made. `leader` tells whom Raft names.
    pub(crate) fn new(
        base: Base,
        leader: watch::Receiver<Option<NodeId>>,
        tail: Tail,
        marked: Marked,
        checker: Arc<Checker>,
        streams: Arc<Streams>,
    ) -> Self {
        let leader = Arc::new(Leader::new(base.me, base.raft.clone(), leader));
        let participation = Arc::new(Participation::of(&base));
        let succession = Arc::new(Succession::of(&base, &leader, &participation));
        let space = Arc::new(SpaceRegime::of(&base, &leader, &succession, tail));
        let confirmer = Arc::new(Confirmer::of(&base, &leader, &participation, &space));
        let state = Arc::new(StateReader::of(&base));
        let rosters = Arc::new(RosterCheck::of(&base, &state));
        let levels = LevelCheck::of(&base, &state);
        let witness = Arc::new(Witness::of(&base, &participation));
        let marker = Arc::new(Marker::of(&base, &participation, marked));
        let hellos = Arc::new(Hellos::of(&base, &witness, &rosters));
        let changes = Arc::new(Changes::of(&base, &leader, &succession, &space, &hellos, &state));
        let proposals = Arc::new(Proposals::of(&base, &leader, &space, &changes, &state));
        Self {
            doorkeeper: Doorkeeper::of(&base),
            base,
            leader,
            participation,
            succession,
            space,
            gate: Arc::default(),
            confirmer,
            rosters,
            levels,
            witness,
            marker,
            hellos,
            changes,
            proposals,
            checker,
            streams,
            receiving: Receiving::default(),
            limits: Limits::new(),
        }
    }

    /// Who keeps its time.
    pub(crate) fn keeper(&self) -> Keeper {
        Keeper::of(&self.base, &self.leader, &self.participation, &self.succession, &self.space, &self.proposals)
    }
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
