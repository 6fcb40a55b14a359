//! The receiving half. One snapshot is received at a time; a newer one, of a later leader, ends an older one.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::async_runtime::watch::WatchReceiver;
use quorate_core::id::NodeId;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::wire::{Unframer, identity};
use super::{KEEP_LIMIT, QUEUE_LEN, STALL_LIMIT};
use crate::node::Node;
use crate::peer::convert;
use crate::peer::pb::{self, snapshot_part::Part};
use crate::raft::machine::{StateSnapshot, applied_state};
use crate::raft::{LogId, TypeConfig, Vote};
use crate::state::{Identity, Incoming, IncomingError, KeyRange, Meta};

/// The snapshots that are being received, one at a time.
pub(crate) struct Receiving {
    /// Which one it is: each counts up.
    turn: watch::Sender<u64>,
    /// What is there of one that broke off.
    broken_off: Mutex<Option<Incoming>>,
}

impl Default for Receiving {
    fn default() -> Self {
        Self { turn: watch::Sender::new(0), broken_off: Mutex::default() }
    }
}

impl Receiving {
    fn broken_off(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.broken_off.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ranges of keys that are there of one that broke off.
    pub(crate) fn held(&self) -> Vec<KeyRange> {
        self.broken_off().as_ref().map_or_else(Vec::new, Incoming::ranges)
    }

    /// Keeps what is there of one that broke off, unless another has begun meanwhile: whether it is kept.
    fn keep(&self, me: u64, incoming: Incoming) -> bool {
        let mut broken_off = self.broken_off();
        let newest = *self.turn.borrow() == me;
        if newest {
            *broken_off = Some(incoming);
        }
        newest
    }

    /// What is there of one that broke off, if it is what the sender goes by.
    fn gone_on_with(&self, ranges: u32) -> Option<Incoming> {
        let broken_off = self.broken_off().take();
        broken_off.filter(|incoming| ranges > 0 && incoming.ranges().len() == ranges as usize)
    }

    /// Removes what is there of one that broke off.
    pub(crate) fn forget(&self) {
        // It closes and removes a file: not under the lock.
        let gone = self.broken_off().take();
        drop(gone);
    }
}

impl From<IncomingError> for Status {
    fn from(e: IncomingError) -> Self {
        match e {
            IncomingError::Refused(_) => Self::invalid_argument(e.to_string()),
            IncomingError::Io(_) => Self::unavailable(e.to_string()),
        }
    }
}

async fn next(parts: &mut Streaming<pb::SnapshotPart>) -> Result<Part, Status> {
    let part = timeout(STALL_LIMIT, parts.message()).await;
    let part = part.map_err(|_| Status::deadline_exceeded("the snapshot's sender went silent"))??;
    part.and_then(|p| p.part).ok_or_else(|| Status::invalid_argument("the snapshot ends before its trailer"))
}

/// Receives a snapshot from `from` and has Raft install it; returns this node's vote.
pub(crate) async fn receive(
    node: &Arc<Node>,
    from: NodeId,
    mut parts: Streaming<pb::SnapshotPart>,
) -> Result<Vote, Status> {
    let Part::Header(header) = next(&mut parts).await? else {
        return Err(Status::invalid_argument("a snapshot begins with its header"));
    };
    let identity = identity(&header)?;
    let vote = convert::leadership_in(header.vote).map_err(|e| Status::invalid_argument(e.to_string()))?;
    if vote.leader_id.node_id != from.0 {
        return Err(Status::invalid_argument("only the leader itself sends its state"));
    }
    node.doorkeeper.believe(&vote, &header.grants)?;
    let mine = node.base.raft.metrics().borrow_watched().vote;
    if mine > vote {
        return Ok(mine);
    }
    // Of nobody but a leader: this may end what the node does.
    node.levels.admit(&header.level).await?;
    let (last, meta) = admit(node, &identity, &vote)?;
    node.doorkeeper.refuse_contradictions(vote.leader_id, vec![last]).await?;
    // Ends whoever received before: its sender no longer leads, or has begun again.
    let (mut turn, mut me) = (node.receiving.turn.subscribe(), 0);
    node.receiving.turn.send_modify(|n| {
        *n += 1;
        me = *n;
    });
    let incoming = tokio::select! {
        biased;
        _ = turn.wait_for(|n| *n != me) => return Err(Status::aborted("a newer snapshot has begun")),
        incoming = take(node, me, last.index, &header, identity, parts) => incoming?,
    };
    node.rosters.refuse_state(from, &incoming, &meta)?;
    node.levels.refuse_state(&incoming, &header.level)?;
    let name = node.base.shared.members.name_of(from);
    tracing::info!(from = %name, index = last.index, records = incoming.records(), "a snapshot was received");
    // Raft may have moved on meanwhile. It panics over what no honest leader sends.
    node.doorkeeper.refuse_contradictions(vote.leader_id, vec![last]).await?;
    let snapshot = SnapshotOf::<TypeConfig, _> { meta, snapshot: StateSnapshot::Incoming(Box::new(incoming)) };
    let answer = node.base.raft.install_full_snapshot(vote, snapshot).await;
    let told = answer.map_err(|e| Status::unavailable(e.to_string()))?.vote;
    if told == vote {
        node.base.own.note_acked(vote.leader_id, last);
    }
    Ok(told)
}

/// What broke off is gone on with soon, or is not needed any more.
fn forget_later(runtime: &Handle, node: Arc<Node>, me: u64) {
    runtime.spawn(async move {
        tokio::time::sleep(KEEP_LIMIT).await;
        if *node.receiving.turn.borrow() == me {
            node.receiving.forget();
        }
    });
}

/// Whether that state may be installed here: ours, and of this leader.
fn admit(node: &Node, identity: &Identity, vote: &Vote) -> Result<(LogId, SnapshotMetaOf<TypeConfig>), Status> {
    let refused = |why| Err(Status::from(IncomingError::Refused(why)));
    let meta = identity.meta()?;
    if meta.cluster != Some(node.base.cluster) || meta.group != node.base.group {
        return refused("it is another cluster's or group's");
    }
    let mine = node.base.files.view().and_then(|view| Meta::read(&*view)).map_err(IncomingError::Io)?;
    if mine.lineage.is_some() && mine.lineage != meta.lineage {
        return refused("it has another lineage than this node's");
    }
    let Ok((Some(last), membership)) = applied_state(&meta) else {
        return refused("it does not say at which index it stands");
    };
    if meta.applied.as_ref().map(|(index, _)| *index) != Some(last.index) {
        return refused("it says two different indexes");
    }
    if last.leader_id > vote.leader_id {
        return refused("it is from after its leader's term");
    }
    let meta = SnapshotMetaOf::<TypeConfig> { last_log_id: Some(last), last_membership: membership };
    Ok((last, meta))
}

/// Writes the parts as they come. The stream is read no faster than the disk takes them.
async fn take(
    node: &Arc<Node>,
    me: u64,
    index: u64,
    header: &pb::SnapshotHeader,
    identity: Identity,
    mut parts: Streaming<pb::SnapshotPart>,
) -> Result<Incoming, Status> {
    let (tx, rx) = mpsc::channel(QUEUE_LEN);
    let (here, runtime, ranges) = (node.clone(), Handle::current(), header.ranges);
    // It waits for the disk. It ends when the stream does.
    let writing = node.base.driver.start("snapshot", async move {
        let before = here.receiving.gone_on_with(ranges).map(|incoming| incoming.again(index));
        let incoming = before.map_or_else(|| here.base.files.receive(index), Ok).map_err(IncomingError::Io)?;
        write_all(&here, &runtime, me, Unframer::new(identity, incoming), rx).await
    });
    let writing = writing.map_err(IncomingError::Io)?;
    loop {
        if node.base.journal.low_space() {
            // What was written of it goes with the writer.
            return Err(Status::resource_exhausted("short of disk space: no snapshot is taken"));
        }
        let part = next(&mut parts).await?;
        let last = matches!(part, Part::Trailer(_));
        // A writer that has gone says why in its result.
        if tx.send(part).await.is_err() || last {
            break;
        }
    }
    Ok(writing.await.map_err(|e| Status::internal(e.to_string()))??)
}

async fn write_all(
    node: &Arc<Node>,
    runtime: &Handle,
    me: u64,
    mut unframer: Unframer,
    mut rx: mpsc::Receiver<Part>,
) -> Result<Incoming, IncomingError> {
    loop {
        match rx.recv().await {
            Some(Part::Frame(frame)) => unframer.frame(&frame)?,
            Some(Part::Range(range)) => unframer.range(&range)?,
            Some(Part::Trailer(trailer)) => return unframer.finish(&trailer),
            Some(Part::Header(_)) => return Err(IncomingError::Refused("it has two headers")),
            None => {
                let room = !node.base.journal.low_space() && !node.base.shared.is_stopping();
                if room && node.receiving.keep(me, unframer.break_off()) {
                    forget_later(runtime, node.clone(), me);
                }
                return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into());
            }
        }
    }
}
