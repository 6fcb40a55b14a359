//! The receiving half. One snapshot is received at a time; a newer one, of a later leader, ends an older one.

use std::io;
use std::sync::Arc;

use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::async_runtime::watch::WatchReceiver;
use quorate_core::id::NodeId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::wire::{Unframer, identity};
use super::{QUEUE_LEN, STALL_LIMIT};
use crate::node::Node;
use crate::peer::convert;
use crate::peer::pb::{self, snapshot_part::Part};
use crate::raft::machine::{StateSnapshot, applied_state};
use crate::raft::{LogId, TypeConfig, Vote};
use crate::state::{Engine, Identity, Incoming, IncomingError, Meta};

/// Which snapshot is being received: each counts up.
pub(crate) struct Receiving(watch::Sender<u64>);

impl Default for Receiving {
    fn default() -> Self {
        Self(watch::Sender::new(0))
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
    node.levels.admit(&header.level).await?;
    let mine = node.base.raft.metrics().borrow_watched().vote;
    if mine > vote {
        return Ok(mine);
    }
    let (last, meta) = admit(node, &identity, &vote)?;
    node.doorkeeper.refuse_contradictions(vote.leader_id, vec![last]).await?;
    // Ends whoever received before: its sender no longer leads, or has begun again.
    let (mut turn, mut me) = (node.receiving.0.subscribe(), 0);
    node.receiving.0.send_modify(|n| {
        *n += 1;
        me = *n;
    });
    let incoming = tokio::select! {
        biased;
        _ = turn.wait_for(|n| *n != me) => return Err(Status::aborted("a newer snapshot has begun")),
        incoming = take(node, last.index, identity, parts) => incoming?,
    };
    node.rosters.refuse_state(from, &incoming, &meta)?;
    node.levels.refuse_state(&incoming, &header.level)?;
    tracing::info!(%from, index = last.index, records = incoming.records(), "a snapshot was received");
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
    index: u64,
    identity: Identity,
    mut parts: Streaming<pb::SnapshotPart>,
) -> Result<Incoming, Status> {
    let (tx, rx) = mpsc::channel(QUEUE_LEN);
    let (done, result) = oneshot::channel();
    let files = node.base.files.clone();
    // One thread for one stream: it waits for the disk. It ends when the stream does.
    let thread = std::thread::Builder::new().name("snapshot".into()).spawn(move || {
        let taken = files.receive(index).map_err(IncomingError::Io);
        drop(done.send(taken.and_then(|incoming| write_all(Unframer::new(identity, incoming), rx))));
    });
    thread.map_err(IncomingError::Io)?;
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
    let result = result.await.map_err(|_| Status::internal("the snapshot's writer ended early"))?;
    Ok(result?)
}

fn write_all(mut unframer: Unframer, mut rx: mpsc::Receiver<Part>) -> Result<Incoming, IncomingError> {
    loop {
        match rx.blocking_recv() {
            Some(Part::Frame(frame)) => unframer.frame(&frame)?,
            Some(Part::Trailer(trailer)) => return unframer.finish(&trailer),
            Some(Part::Header(_)) => return Err(IncomingError::Refused("it has two headers")),
            None => return Err(io::Error::from(io::ErrorKind::ConnectionAborted).into()),
        }
    }
}
