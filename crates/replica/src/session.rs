//! Batch ids of this boot: counting up, and never more than a session's span apart (key-log §1.4).

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use quorate_core::id::{BatchId, NodeId};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::ProposeError;

/// Slots of a session: newest − oldest open sequence number stays below it, so that a live origin never finds its
/// slot taken.
const SPAN: u64 = 4096;

/// The sequence numbers of one boot.
#[derive(Clone)]
pub(crate) struct Sequences(Arc<Inner>);

struct Inner {
    origin: NodeId,
    boot: u32,
    state: Mutex<State>,
    closed: Notify,
}

struct State {
    next: u64,
    open: BTreeSet<u64>,
}

impl Sequences {
    pub(crate) fn new(origin: NodeId, boot: u32) -> Self {
        Self(Arc::new(Inner {
            origin,
            boot,
            state: Mutex::new(State { next: 1, open: BTreeSet::new() }),
            closed: Notify::new(),
        }))
    }

    fn try_open(&self) -> Option<OpenSeq> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let seq = state.next;
        if state.open.first().is_some_and(|oldest| seq - oldest >= SPAN) {
            return None;
        }
        state.next += 1;
        state.open.insert(seq);
        Some(OpenSeq { sequences: self.clone(), seq })
    }

    /// The next number; waits while the span is full.
    pub(crate) async fn open(&self, deadline: Instant) -> Result<OpenSeq, ProposeError> {
        loop {
            let closed = self.0.closed.notified();
            if let Some(open) = self.try_open() {
                return Ok(open);
            }
            if tokio::time::timeout_at(deadline, closed).await.is_err() {
                return Err(ProposeError::NotAccepted("this node has too many changes under way; try again".into()));
            }
        }
    }
}

/// A batch id in use. Keep it until the proposal has its outcome; dropping it closes it.
pub struct OpenSeq {
    sequences: Sequences,
    seq: u64,
}

impl OpenSeq {
    /// The id to put into the batch.
    pub fn id(&self) -> BatchId {
        BatchId { origin: self.sequences.0.origin, boot: self.sequences.0.boot, seq: self.seq }
    }
}

impl Drop for OpenSeq {
    fn drop(&mut self) {
        let inner = &self.sequences.0;
        inner.state.lock().unwrap_or_else(PoisonError::into_inner).open.remove(&self.seq);
        inner.closed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_span_is_bounded_by_the_oldest_open_number() {
        let sequences = Sequences::new(NodeId(3), 7);
        let soon = || Instant::now() + Duration::from_secs(1);
        let oldest = sequences.open(soon()).await.expect("room");
        assert_eq!(oldest.id(), BatchId { origin: NodeId(3), boot: 7, seq: 1 });
        // Closing younger ones makes no room: it is the span that counts, not how many are open.
        for _ in 1..SPAN {
            drop(sequences.open(soon()).await.expect("room"));
        }
        assert!(matches!(sequences.open(soon()).await, Err(ProposeError::NotAccepted(_))));
        let waiting = sequences.open(soon());
        let (opened, ()) = tokio::join!(waiting, async { drop(oldest) });
        assert_eq!(opened.expect("room").id().seq, SPAN + 1);
    }
}
