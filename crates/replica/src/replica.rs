//! The facade: one replica of one group, as the service sees it.

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{InitializeError, RaftError};
use quorate_core::batch::{Entry, Genesis, Outcome, Rev};
use quorate_core::id::{GroupId, NodeId, peer_text};
use quorate_core::level::Level;
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::seeded::{self, Bug};
use quorate_core::time::DutyTime;
use quorate_journal::Space;
use quorate_journal::disk::Disk;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use crate::change::Change;
#[cfg(doc)]
use crate::clock::DUTY_WAIT;
use crate::clock::NoDuty;
use crate::config::{ReplicaConfig, World};
use crate::error::{
    CallError, FoundError, MembershipError, OpenError, Problem, ProposeError, ReadError, StateMismatch,
};
use crate::handler::{ApplyObserver, KeyHolder, PeerHandler};
use crate::level::level_in;
use crate::member::{Member, MembershipView};
use crate::net::{Net, PeerExpectation};
use crate::node::Node;
use crate::node_file::NodeFile;
use crate::peer::link::{Connector, transport};
use crate::peer::preface::{Purpose, Stamp};
use crate::peer::{MESSAGE_LEN_MAX, RpcFailure, bounded, pb};
use crate::propose::Attempt;
use crate::quorum::Quorum;
use crate::raft::codec::{decode_membership, invalid};
use crate::raft::membership_view;
use crate::roster::SignedRoster;
use crate::sequences::OpenSeq;
use crate::space::in_words;
use crate::start::{Running, start};
use crate::state::{self, Meta};
use crate::status::{PeerStatus, ReadRounds, ReplicaStatus, Retained};

/// One replica; clones are handles to the same one. Stop it with [`Replica::shutdown`].
#[derive(Clone)]
pub struct Replica(Arc<Inner>);

struct Inner {
    node: Arc<Node>,
    addr: String,
    running: Mutex<Option<Running>>,
}

/// How long handing on leadership may take at shutdown.
const HAND_ON_LIMIT: Duration = Duration::from_secs(1);

impl Replica {
    /// Makes a new node in an empty folder and starts it. It belongs to no cluster until it founds one, or one adds it.
    ///
    /// # Errors
    /// When the folder is not empty or not writable, or the address is taken.
    pub async fn create(cfg: ReplicaConfig, world: World, handler: Arc<dyn PeerHandler>) -> Result<Self, OpenError> {
        Self::start(cfg, world, handler, true).await
    }

    /// Opens the node in the folder and starts it.
    ///
    /// # Errors
    /// When the folder holds none, another one, or a damaged one: then it must not vote.
    pub async fn open(cfg: ReplicaConfig, world: World, handler: Arc<dyn PeerHandler>) -> Result<Self, OpenError> {
        Self::start(cfg, world, handler, false).await
    }

    async fn start(
        cfg: ReplicaConfig,
        world: World,
        handler: Arc<dyn PeerHandler>,
        create: bool,
    ) -> Result<Self, OpenError> {
        let (running, node, addr) = start(cfg, world, handler, create).await?;
        Ok(Self(Arc::new(Inner { node, addr, running: Mutex::new(Some(running)) })))
    }

    /// Whose folder this is; `None`: nobody's, or one whose creation was interrupted.
    ///
    /// # Errors
    /// When the file that says so can't be read.
    pub fn node_file(disk: &dyn Disk, data_dir: &Path) -> Result<Option<NodeFile>, OpenError> {
        Ok(NodeFile::read(disk, data_dir)?.filter(|file| file.complete))
    }

    /// Writes other pins into the node file, durably; nothing else of it changes.
    ///
    /// # Errors
    /// When there is no such file, or it can't be read or written.
    pub fn set_pins(disk: &dyn Disk, data_dir: &Path, pins: &[[u8; 32]]) -> Result<(), OpenError> {
        let file = NodeFile::read(disk, data_dir)?;
        let file = file.ok_or_else(|| OpenError::Missing(data_dir.display().to_string()))?;
        NodeFile { pins: pins.to_vec(), ..file }.write(disk, data_dir)
    }

    /// The address it really listens on, `host:port`.
    pub fn peer_addr(&self) -> String {
        self.0.addr.clone()
    }

    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.0.node.base.me
    }

    /// This node's start count, synced before anything was proposed.
    pub fn boot(&self) -> u32 {
        self.0.node.base.boot
    }

    /// Makes this node the one member of a new cluster and writes its first entry. Started again after a crash in the
    /// middle, it completes. Returns the index of genesis.
    ///
    /// # Errors
    /// When there is a cluster already, or the deadline passed; [`FoundError::Begun`] once something may be written.
    pub async fn found(&self, me: Member, genesis: Genesis, deadline: Instant) -> Result<u64, FoundError> {
        let node = &self.0.node;
        let failed = |e: &dyn std::fmt::Display| FoundError::Failed(e.to_string());
        let begun = |e: &dyn std::fmt::Display| FoundError::Begun(e.to_string());
        me.check().map_err(|e| FoundError::Invalid(e.to_string()))?;
        if genesis.cluster != node.base.cluster || genesis.node_name != me.name {
            return Err(FoundError::Invalid("genesis names another cluster or node".into()));
        }
        let space = node.base.journal.space();
        if space.low {
            return Err(FoundError::Failed(format!(
                "the disk is short of space ({}), too little for a cluster to begin with: make room there, or lower \
                 log.low_space_mib",
                in_words(space)
            )));
        }
        let founded = || -> Result<bool, ReadError> {
            let view = self.view()?;
            let others = view.membership().members.keys().any(|id| *id != node.base.me);
            Ok(view.meta.lineage.is_some() || others)
        };
        if founded().map_err(|e| failed(&e))? {
            return Err(FoundError::AlreadyFounded(node.base.cluster));
        }
        let members = BTreeMap::from([(node.base.me.0, me)]);
        match timeout_at(deadline, node.base.raft.initialize(members)).await {
            // Not allowed: it was initialized before a crash, and genesis may be on its way.
            Ok(Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_)))) => {}
            Ok(Err(e)) => return Err(failed(&e)),
            Err(_) => return Err(begun(&"the deadline passed")),
        }
        let mut leader = node.leader.watch();
        if !matches!(timeout_at(deadline, leader.wait_for(|l| *l == Some(node.base.me))).await, Ok(Ok(_))) {
            return Err(begun(&"this node was not elected in time"));
        }
        // A leader has applied everything earlier once its first read index is through.
        node.gate.read_index(deadline).await.map_err(|e| begun(&e))?;
        if founded().map_err(|e| begun(&e))? {
            return Err(FoundError::AlreadyFounded(node.base.cluster));
        }
        match timeout_at(deadline, node.proposals.sequence_entry(&Entry::Genesis(Box::new(genesis)))).await {
            Ok(Attempt::Done(Outcome::Applied(index))) => Ok(index),
            Ok(other) => Err(begun(&format!("genesis was not applied: {other:?}"))),
            Err(_) => Err(begun(&"the deadline passed")),
        }
    }

    /// An applied index at or past everything that was acknowledged anywhere before this call (key-log §3).
    /// Concurrent calls share rounds that began after each of them.
    ///
    /// # Errors
    /// When no majority confirmed it before the deadline, or this node has stopped serving.
    pub async fn read_index(&self, deadline: Instant) -> Result<u64, ReadError> {
        let node = &self.0.node;
        if let Some(problem) = node.base.shared.problem() {
            return Err(ReadError::Stopped(problem));
        }
        if node.base.shared.is_stopping() {
            return Err(ReadError::Unavailable("this node is stopping".into()));
        }
        // Seeded bug: what this node has applied may lag behind what was acknowledged.
        if seeded::is(Bug::SkipReadIndex) {
            return Ok(node.base.shared.applied_now());
        }
        node.gate.read_index(deadline).await
    }

    /// How many rounds reads have taken.
    pub fn read_rounds(&self) -> ReadRounds {
        let node = &self.0.node;
        let (begun, reads) = node.gate.counts();
        ReadRounds { begun, reads, by_heartbeat: node.confirmer.rounds_by_heartbeat() }
    }

    /// When the whole state was last found to match its digest: milliseconds since 1970 by this machine's clock, 0 = not
    /// since the start.
    pub fn verified_ms(&self) -> u64 {
        self.0.node.checker.good_ms()
    }

    /// The state as applied here right now, at exactly one index. Fresh only after [`Replica::read_index`].
    ///
    /// # Errors
    /// When this node has stopped, or the state can't be read.
    pub fn view(&self) -> Result<View, ReadError> {
        let read = || -> io::Result<View> {
            let view = self.0.node.base.files.view()?;
            let meta = Meta::read(&*view)?;
            Ok(View { view, meta, membership: OnceLock::new() })
        };
        read().map_err(|e| ReadError::Unavailable(format!("the state can't be read: {e}")))
    }

    /// What of the past this node's files may still hold.
    ///
    /// # Errors
    /// When this node has stopped, or the state can't be read.
    pub fn retained(&self) -> Result<Retained, ReadError> {
        let base = &self.0.node.base;
        let state_at = || -> io::Result<u64> {
            let durable = Meta::read(&*base.files.durable_view()?)?;
            Ok(durable.applied.map_or(0, |(index, _)| index))
        };
        let state_at = state_at().map_err(|e| ReadError::Unavailable(format!("the state can't be read: {e}")))?;
        let next = base.journal.last_index().map_or(0, |last| last + 1);
        Ok(Retained { log_from: base.journal.held_from().unwrap_or(next), state_at })
    }

    /// Has a batch, with its MAC, decided by the log: the same bytes are sent to whoever leads until there is an
    /// outcome or the deadline has passed. After `Applied` and `Conflict` this node has applied that index too.
    ///
    /// # Errors
    /// `NotAccepted`: certainly not applied. `Unknown`: it may have been, or may yet be.
    pub async fn propose(&self, batch_with_mac: Bytes, deadline: Instant) -> Result<Outcome, ProposeError> {
        if self.0.node.base.shared.is_stopping() {
            return Err(ProposeError::NotAccepted("this node is stopping".into()));
        }
        self.0.node.proposals.propose(batch_with_mac, deadline).await
    }

    /// A fresh batch id of this node. Keep it until the proposal has its outcome.
    ///
    /// # Errors
    /// When too many are in use until the deadline.
    pub async fn open_seq(&self, deadline: Instant) -> Result<OpenSeq, ProposeError> {
        self.0.node.base.shared.sequences.open(deadline).await
    }

    /// Gives or takes away the use of the keyring: present exactly while the node is unsealed.
    pub fn set_keys(&self, keys: Option<Arc<dyn KeyHolder>>) {
        self.0.node.base.shared.set_keys(keys);
    }

    /// Sets who is told of each applied entry.
    pub fn set_observer(&self, observer: Arc<dyn ApplyObserver>) {
        self.0.node.base.shared.set_observer(observer);
    }

    /// Scans the whole state against its digest and, while there are keys, every batch that it was made from
    /// (key-log §5.4, key-hierarchy §2); on a thread of its own. To be done after the keys are set, before serving.
    ///
    /// # Errors
    /// When either does not hold: the node must not serve.
    pub async fn verify_state(&self) -> Result<(), StateMismatch> {
        let checker = &self.0.node.checker;
        checker.scan().await?;
        checker.verify_batches(self.view()).await
    }

    /// Its inside.
    #[cfg(test)]
    pub(crate) fn node(&self) -> &Node {
        &self.0.node
    }

    /// What this replica is and knows now.
    pub fn status(&self) -> ReplicaStatus {
        let node = &self.0.node;
        let (role, term) = node.leader.role();
        let last_log = node.base.journal.state().ok().and_then(|s| s.last).map_or(0, |(index, _)| index);
        let offsets = node.base.clock.offsets_ms();
        let membership = (*node.base.shared.members.applied()).clone();
        let peers = node.base.shared.members.all().into_iter().map(|(id, _)| id).filter(|id| *id != node.base.me);
        ReplicaStatus {
            id: node.base.me,
            leader: node.leader.now(),
            role,
            term,
            disowned: self.is_disowned(),
            membership,
            last_log,
            purged: node.base.journal.purged().map(|(index, _)| index),
            applied: node.base.shared.applied_now(),
            cluster_time_ms: node.base.shared.cluster_time_ms(),
            time_held_ms: node.base.clock.held_ms(),
            reference_ms: node.base.clock.reference_ms(),
            clock_offset_ms: node.base.clock.offset_ms(),
            boot: node.base.boot,
            level: node.base.shared.level(),
            speaks: node.base.levels.highest,
            space: node.base.journal.space(),
            quorum: node.base.shared.quorum(),
            peers: peers
                .map(|id| PeerStatus {
                    clock_offset_ms: offsets.get(&id).copied(),
                    doubt: node.base.grants.doubt(id),
                    ..node.base.peers.status(id)
                })
                .collect(),
            problem: node.base.shared.problem(),
        }
    }

    /// Whether most of the other voters disown it, as [`ReplicaStatus::disowned`] tells.
    pub fn is_disowned(&self) -> bool {
        let base = &self.0.node.base;
        base.peers.disowned_by_most(base.me, &base.shared.members.applied())
    }

    /// Why this node's token does not keep how far it is, if so: a data directory that is put back may then go unnoticed.
    pub fn unmarked(&self) -> Option<String> {
        self.0.node.marker.failed()
    }

    /// The feature level in force, as applied here: one that is told is in force for all that is proposed from now on.
    pub fn level(&self) -> Level {
        self.0.node.base.shared.level()
    }

    /// Cluster time as applied here, milliseconds since 1970: at least as new as any index that was waited for.
    pub fn cluster_time_ms(&self) -> u64 {
        self.0.node.base.shared.cluster_time_ms()
    }

    /// How much room this node's disk has.
    pub fn space(&self) -> Space {
        self.0.node.base.journal.space()
    }

    /// What this node has of the voters to work with.
    pub fn quorum(&self) -> Quorum {
        self.0.node.base.shared.quorum()
    }

    /// Why this node has stopped serving, if it has: before anything past that point can be read here.
    pub fn problem(&self) -> Option<Problem> {
        self.0.node.base.shared.problem()
    }

    /// Counts up whenever the status may have changed: leader, members, reachability, what peers say, problems.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.0.node.base.shared.watch_changes()
    }

    /// The applied index as it moves, published after engine and observer have it.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.0.node.base.shared.applied()
    }

    /// The leader this node knows of, as it changes.
    pub fn leader(&self) -> watch::Receiver<Option<NodeId>> {
        self.0.node.leader.watch()
    }

    /// Whether these learners may become voters: that they have (almost) all of the log. On a follower the question goes to
    /// the leader.
    ///
    /// # Errors
    /// When one is no member or does not catch up, or no leader answered in time.
    pub async fn may_promote(&self, ids: Vec<NodeId>, deadline: Instant) -> Result<(), MembershipError> {
        self.0.node.changes.ask(Change::MayPromote(ids), deadline).await.map(drop)
    }

    /// Whether a voter or learner may be removed: not, when the rest would have no majority within reach. One that leads
    /// hands on its leadership first.
    ///
    /// # Errors
    /// When it may not, or no leader answered in time.
    pub async fn may_remove(&self, id: NodeId, deadline: Instant) -> Result<(), MembershipError> {
        self.0.node.changes.ask(Change::MayRemove(id), deadline).await.map(drop)
    }

    /// Makes the members and voters what the roster in the state says, by Raft's own entries, once one with that serial is
    /// there; whoever leads then does it. What is left of it at the deadline, the leader goes on with by itself. Returns the
    /// index of the membership in force.
    ///
    /// # Errors
    /// When it could not be ended, or no leader took it in time.
    pub async fn carry_out(&self, serial: u64, deadline: Instant) -> Result<u64, MembershipError> {
        self.0.node.changes.ask(Change::CarryOut(serial), deadline).await
    }

    /// Hands leadership to a voter, or to the best one when none is named: reachable, with (almost) all of the log, and
    /// serving. On a follower the call goes to the leader. Returns who leads then.
    ///
    /// # Errors
    /// When the node is no voter, does not answer or lags: then nothing was done.
    pub async fn transfer_leader(&self, to: Option<NodeId>, deadline: Instant) -> Result<NodeId, MembershipError> {
        let node = &self.0.node;
        let before = node.leader.now();
        node.changes.ask(Change::Transfer(to), deadline).await?;
        // This node hears of it a moment later than the one that led.
        if to.is_none() || before != to {
            node.leader.other_than(before, HAND_ON_LIMIT).await;
        }
        node.leader.now().ok_or_else(|| MembershipError::Unavailable("no leader is known yet".into()))
    }

    /// Sends an application message to a member and returns its answer.
    ///
    /// # Errors
    /// When it is no member, not reachable, refuses, or does not answer in time.
    pub async fn call_peer(&self, to: NodeId, kind: u8, body: Bytes, deadline: Duration) -> Result<Bytes, CallError> {
        let node = &self.0.node;
        if to == node.base.me {
            let answer = timeout(deadline, node.base.shared.handler.handle(to, kind, body)).await;
            return answer.map_err(|_| CallError::Deadline(deadline))?.map_err(CallError::Application);
        }
        let link = node.base.links.to_member(&node.base.shared.members, to).ok_or(CallError::NoMember(to))?;
        let mut client = link.log();
        use pb::call_response::Result as R;
        let response = bounded(deadline, client.call(pb::CallRequest { kind: kind.into(), body })).await;
        match response.map_err(call_error)?.result {
            Some(R::Body(body)) => Ok(body),
            Some(R::Refused(why)) => Err(CallError::Application(peer_text(&why))),
            None => Err(CallError::Unreachable("an empty answer".into())),
        }
    }

    /// The one call of a node that is no member yet: any node certificate of the cluster may make it. Works before a
    /// replica exists.
    ///
    /// # Errors
    /// When the other end is not the expected node, refuses, or does not answer in time.
    pub async fn join_call(
        net: Arc<dyn Net>,
        addr: &str,
        expect: PeerExpectation,
        group: GroupId,
        body: Bytes,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let stamp = Stamp { cluster: expect.cluster, group, from: NodeId(0), to: NodeId(0) };
        // Who joins has heard of nobody.
        let connector = Connector::new(net, addr, expect, stamp, Purpose::Join, Arc::default());
        let mut client = pb::join_client::JoinClient::new(transport(connector))
            .max_decoding_message_size(MESSAGE_LEN_MAX)
            .max_encoding_message_size(MESSAGE_LEN_MAX);
        use pb::join_response::Result as R;
        let response = bounded(deadline, client.join(pb::JoinRequest { body })).await;
        match response.map_err(call_error)?.result {
            Some(R::Body(body)) => Ok(body),
            Some(R::Refused(why)) => Err(CallError::Application(peer_text(&why))),
            None => Err(CallError::Unreachable("an empty answer".into())),
        }
    }

    /// Says Hello to everyone at once instead of within a second: after the service's part has changed.
    pub fn hello_now(&self) {
        self.0.node.base.hello.notify_one();
    }

    /// What may be destroyed by now (trust.md §6): cluster time as this process saw it `wait` ago ([`DUTY_WAIT`] at most),
    /// the own wall clock, or the median of a majority's clocks, whichever is earliest.
    ///
    /// # Errors
    /// Nothing may be destroyed now, and why.
    pub fn duty_time(&self, wait: Duration) -> Result<DutyTime, NoDuty> {
        self.0.node.base.clock.duty_time(wait)
    }

    /// What a time that an operator confirms is measured by, in milliseconds since 1970: the median of a majority's clocks;
    /// with one or two voters this node's own. None while the clocks of no majority are known.
    pub fn reference_ms(&self) -> Option<u64> {
        self.0.node.base.clock.reference_ms()
    }

    /// Stops: hands on leadership, makes the state durable, closes journal and state. Afterwards the folder can be
    /// opened again. Later calls on any handle fail.
    pub async fn shutdown(&self) {
        let Some(running) = self.0.running.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let node = &self.0.node;
        node.base.shared.set_stopping();
        if node.leader.is_me() && node.succession.hand_on().await.is_some() {
            node.leader.other_than(Some(node.base.me), HAND_ON_LIMIT).await;
        }
        running.stop(node).await;
    }
}

fn call_error(failure: RpcFailure) -> CallError {
    match failure {
        RpcFailure::Deadline(limit) => CallError::Deadline(limit),
        RpcFailure::Unreachable(why) => CallError::Unreachable(why),
        RpcFailure::Refused(why) => CallError::Refused(why),
        e @ (RpcFailure::NotPinned | RpcFailure::Closed(_)) => CallError::Refused(e.to_string()),
        RpcFailure::Busy => CallError::Refused("it has too much to do; try again".into()),
    }
}

/// The state at exactly one applied index; later entries do not change it.
pub struct View {
    view: Arc<dyn state::View>,
    meta: Meta,
    membership: OnceLock<MembershipView>,
}

impl View {
    pub(crate) fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The applied index.
    pub fn applied(&self) -> u64 {
        self.meta.applied.as_ref().map_or(0, |(index, _)| *index)
    }

    /// One record: its revision and value.
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn get(&self, key: &RecordKey) -> io::Result<Option<(Rev, Bytes)>> {
        state::get_record(&*self.view, key)
    }

    /// One record's value.
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn value(&self, key: &RecordKey) -> io::Result<Option<Bytes>> {
        state::get_value(&*self.view, key)
    }

    /// At most `limit` records of one table in key order, beginning at `from`.
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn scan(
        &self,
        table: Table,
        from: Bound<&RecordKey>,
        limit: usize,
    ) -> io::Result<Vec<(RecordKey, Rev, Bytes)>> {
        state::scan_table(&*self.view, table, from, limit)
    }

    /// At most `limit` records of one table whose keys begin, after the table, with `prefix`, the last first; with `before`,
    /// those before that one.
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn scan_back(
        &self,
        table: Table,
        prefix: &[u8],
        before: Option<&RecordKey>,
        limit: usize,
    ) -> io::Result<Vec<(RecordKey, Rev, Bytes)>> {
        state::scan_prefix_back(&*self.view, table, prefix, before, limit)
    }

    /// The signed roster of all members, with its revision; `None` before there is one.
    ///
    /// # Errors
    /// When the state can't be read, or what is there is no roster.
    pub fn roster(&self) -> io::Result<Option<(Rev, SignedRoster)>> {
        let found = self.get(&RecordKey::roster())?;
        found.map(|(rev, value)| Ok((rev, SignedRoster::decode(value).map_err(invalid)?))).transpose()
    }

    /// The feature level in force.
    ///
    /// # Errors
    /// When the state can't be read, or what is there is no level.
    pub fn level(&self) -> io::Result<Level> {
        level_in(&|key| self.value(key))
    }

    /// Cluster time at that index, milliseconds since 1970.
    pub fn cluster_time_ms(&self) -> u64 {
        self.meta.cluster_time_ms
    }

    /// The lineage of the data; `None` before genesis.
    pub fn lineage(&self) -> Option<quorate_core::id::Lineage> {
        self.meta.lineage
    }

    /// Hash of the digest of all records: equal on all nodes at one index (key-log §5.4).
    ///
    /// # Errors
    /// When the state can't be read.
    pub fn digest(&self) -> io::Result<[u8; 32]> {
        Ok(Meta::read_digest(&*self.view)?.hash())
    }

    /// Committed membership at that index.
    pub fn membership(&self) -> &MembershipView {
        self.membership.get_or_init(|| {
            // Apply wrote these bytes and reads them at each start: they are what they should be.
            decode_membership(&self.meta.membership).map_err(invalid).map(|m| membership_view(&m)).unwrap_or_default()
        })
    }
}
