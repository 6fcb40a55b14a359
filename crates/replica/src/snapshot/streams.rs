//! The snapshots that this node is sending: the log after the lowest of them is still needed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

/// The running streams of one node.
#[derive(Default)]
pub(crate) struct Streams(Arc<Mutex<Running>>);

#[derive(Default)]
struct Running {
    next: u64,
    /// The index of each, and its switch.
    streams: BTreeMap<u64, (u64, watch::Sender<bool>)>,
}

/// One running stream; it ends with this.
pub(crate) struct Stream {
    all: Arc<Mutex<Running>>,
    id: u64,
    cancelled: watch::Receiver<bool>,
}

impl Streams {
    /// A stream of the state at `index` begins.
    pub(crate) fn begin(&self, index: u64) -> Stream {
        let (switch, cancelled) = watch::channel(false);
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = running.next;
        running.next += 1;
        running.streams.insert(id, (index, switch));
        Stream { all: self.0.clone(), id, cancelled }
    }

    /// The index that the receiver of the oldest running stream goes on from.
    pub(crate) fn lowest(&self) -> Option<u64> {
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        running.streams.values().map(|(index, _)| *index).min()
    }

    /// Ends all: the log, or their views, can't be kept for them any longer. Returns how many there were.
    pub(crate) fn cancel(&self) -> usize {
        self.cancel_below(u64::MAX)
    }

    /// Ends those whose receivers would go on from before this index. Returns how many there were.
    pub(crate) fn cancel_below(&self, index: u64) -> usize {
        let mut running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = running.streams.len();
        running.streams.retain(|_, (from, switch)| {
            let ends = *from < index;
            if ends {
                switch.send_replace(true);
            }
            !ends
        });
        before - running.streams.len()
    }
}

impl Stream {
    /// Returns when the stream must end.
    pub(crate) async fn cancelled(&self) {
        let mut cancelled = self.cancelled.clone();
        // An error: the switch went with the registration, which only a cancellation takes away before its time.
        let _ = cancelled.wait_for(|cancelled| *cancelled).await;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).streams.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn the_lowest_running_stream_counts_until_it_ends() {
        let streams = Streams::default();
        assert_eq!(streams.lowest(), None);
        let (seven, nine) = (streams.begin(7), streams.begin(9));
        assert_eq!(streams.lowest(), Some(7));
        drop(seven);
        assert_eq!(streams.lowest(), Some(9));
        assert_eq!(streams.cancel_below(9), 0);
        assert!(nine.cancelled().now_or_never().is_none());
        let eight = streams.begin(8);
        assert_eq!((streams.cancel_below(9), streams.lowest()), (1, Some(9)));
        assert!(eight.cancelled().now_or_never().is_some() && nine.cancelled().now_or_never().is_none());
        assert_eq!(streams.cancel(), 1);
        assert_eq!(streams.lowest(), None);
        assert!(nine.cancelled().now_or_never().is_some());
    }
}
