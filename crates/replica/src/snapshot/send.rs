//! The sending half.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quorate_core::record_key::RecordKey;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::streams::Stream;
use super::wire::{Framer, header};
use super::{INSTALL_LIMIT, QUEUE_LEN, STALL_LIMIT};
use crate::peer::link::Link;
use crate::peer::pb::{self, snapshot_part::Part};
use crate::peer::{RpcFailure, convert};
use crate::raft::Vote;
use crate::state::{Identity, Records, View, get_value};

/// Records read at a time: a few MiB at the most.
const PAGE_LEN: usize = 32;

/// Why a snapshot was not installed at the other end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("{0}")]
    Rpc(RpcFailure),
    #[error("the receiver took nothing for {}s", STALL_LIMIT.as_secs())]
    Stalled,
    #[error("the log could not be kept any longer for it")]
    Cancelled,
    #[error("its answer can't be read")]
    Answer,
    #[error("the snapshot can't be read: {0}")]
    Read(#[from] io::Error),
}

/// Sends a view; returns the receiver's vote once it is installed there.
pub(crate) async fn send(
    link: &Link,
    stream: &Stream,
    vote: Vote,
    grants: Vec<Bytes>,
    view: Arc<dyn View>,
) -> Result<Vote, SendError> {
    let identity = Identity::of(&*view)?;
    let level = get_value(&*view, &RecordKey::level())?.unwrap_or_default();
    let (tx, rx) = mpsc::channel(QUEUE_LEN);
    // One thread for one stream: reading the state waits for the disk. It ends when the stream does.
    std::thread::Builder::new().name("snapshot".into()).spawn(move || {
        if let Err(error) = read_all(&*view, header(&vote, grants, level, &identity), &identity, &tx) {
            // Without its trailer the receiver refuses what it has.
            tracing::error!(%error, "the state can't be read for a snapshot");
        }
    })?;
    let taken = Arc::new(AtomicU64::new(0));
    let parts = {
        let taken = taken.clone();
        ReceiverStream::new(rx).map(move |part| {
            let last = matches!(part, Part::Trailer(_));
            taken.store(if last { u64::MAX } else { taken.load(Ordering::Relaxed) + 1 }, Ordering::Relaxed);
            pb::SnapshotPart { part: Some(part) }
        })
    };
    let mut client = link.snapshot();
    tokio::select! {
        biased;
        () = stream.cancelled() => Err(SendError::Cancelled),
        answer = client.install_snapshot(Request::new(parts)) => {
            let answer = answer.map_err(|status| SendError::Rpc(status.into()))?.into_inner();
            convert::vote_in(answer.vote).map_err(|_| SendError::Answer)
        }
        () = stalled(&taken) => Err(SendError::Stalled),
    }
}

/// Returns when nothing has moved for too long.
async fn stalled(taken: &AtomicU64) {
    let mut last = taken.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(if last == u64::MAX { INSTALL_LIMIT } else { STALL_LIMIT }).await;
        let now = taken.load(Ordering::Relaxed);
        if now == last {
            return;
        }
        last = now;
    }
}

fn read_all(view: &dyn View, header: Part, identity: &Identity, tx: &mpsc::Sender<Part>) -> io::Result<()> {
    let (mut framer, mut records) = (Framer::new(identity), Records::new(view));
    // Whoever waits for the parts may have gone; then there is nothing more to do.
    if tx.blocking_send(header).is_err() {
        return Ok(());
    }
    while let Some(page) = records.next_page(PAGE_LEN)? {
        for (key, value) in &page {
            if let Some(frame) = framer.push(key, value)
                && tx.blocking_send(frame).is_err()
            {
                return Ok(());
            }
        }
    }
    let (last, trailer) = framer.finish();
    for part in last.into_iter().chain([trailer]) {
        if tx.blocking_send(part).is_err() {
            return Ok(());
        }
    }
    Ok(())
}
