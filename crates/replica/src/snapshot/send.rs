//! The sending half.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use quorate_core::record_key::RecordKey;
use quorate_journal::Driver;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Request;

use super::streams::Stream;
use super::wire::{Framer, header, ranges_in};
use super::{ASK_LIMIT, INSTALL_LIMIT, QUEUE_LEN, STALL_LIMIT};
use crate::peer::link::Link;
use crate::peer::pb::{self, snapshot_part::Part};
use crate::peer::{RpcFailure, bounded, convert};
use crate::raft::Vote;
use crate::state::{Identity, KeyRange, RangeHash, Records, View, get_value};

/// Records read at a time: a few MiB at the most.
const PAGE_LEN: usize = 32;

/// Why a snapshot was not installed at the other end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("{0}")]
    Rpc(RpcFailure),
    #[error("the receiver took nothing for {}s", STALL_LIMIT.as_secs())]
    Stalled,
    #[error("the log, or the state as it was, could not be kept any longer for it")]
    Cancelled,
    #[error("its answer can't be read")]
    Answer,
    #[error("the snapshot can't be read: {0}")]
    Read(#[from] io::Error),
}

/// Sends a view; returns the receiver's vote once it is installed there.
pub(crate) async fn send(
    driver: &Driver,
    link: &Link,
    stream: &Stream,
    vote: Vote,
    grants: Vec<Bytes>,
    view: Arc<dyn View>,
) -> Result<Vote, SendError> {
    let identity = Identity::of(&*view)?;
    let level = get_value(&*view, &RecordKey::level())?.unwrap_or_default();
    let held = bounded(ASK_LIMIT, link.snapshot().held_snapshot(pb::HeldSnapshotRequest {})).await;
    let held = held.map(ranges_in).unwrap_or_default();
    let (tx, rx) = mpsc::channel(QUEUE_LEN);
    let header = header(&vote, grants, level, &identity, &held);
    // Reading the state waits for the disk. It ends when the stream does.
    let reading = driver.start("snapshot", async move {
        match parts(&*view, header, &identity, &held, &tx).await {
            // Without its trailer the receiver refuses what it has.
            Err(error) if !tx.is_closed() => tracing::error!(%error, "the state can't be read for a snapshot"),
            // Whoever waits for the parts may have gone; then there is nothing more to do.
            _ => {}
        }
    });
    drop(reading?);
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

fn gone() -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

/// Sends all parts of a snapshot for who holds these ranges of one.
pub(super) async fn parts(
    view: &dyn View,
    header: Part,
    identity: &Identity,
    held: &[KeyRange],
    to: &mpsc::Sender<Part>,
) -> io::Result<()> {
    let (mut framer, mut after) = (Framer::new(identity), None);
    send_all([header], to).await?;
    for range in held {
        let here = || Records::between(view, after, Some(&range.upto));
        let kept = same(here(), range, || to.is_closed())?;
        send_all(framer.range(&range.upto, kept), to).await?;
        if kept.is_none() {
            send_records(here(), &mut framer, to).await?;
        }
        after = Some(&range.upto[..]);
    }
    send_records(Records::between(view, after, None), &mut framer, to).await?;
    let (last, trailer) = framer.finish();
    send_all(last.into_iter().chain([trailer]), to).await
}

async fn send_all(parts: impl IntoIterator<Item = Part>, to: &mpsc::Sender<Part>) -> io::Result<()> {
    for part in parts {
        to.send(part).await.map_err(|_| gone())?;
    }
    Ok(())
}

/// How many records are in a range, if they are those that the receiver holds. A range may be all of the state.
fn same(mut records: Records<'_>, range: &KeyRange, unwanted: impl Fn() -> bool) -> io::Result<Option<u64>> {
    let mut here = RangeHash::default();
    while let Some(page) = records.next_page(PAGE_LEN)? {
        if unwanted() {
            return Err(gone());
        }
        page.iter().for_each(|(key, value)| here.push(key, value));
    }
    Ok((here.finish() == range.hash).then(|| here.records()))
}

async fn send_records(mut records: Records<'_>, framer: &mut Framer, to: &mpsc::Sender<Part>) -> io::Result<()> {
    while let Some(page) = records.next_page(PAGE_LEN)? {
        for (key, value) in &page {
            send_all(framer.push(key, value), to).await?;
        }
    }
    Ok(())
}
