//! The compactor (key-log §5.2): makes the state durable every now and then, and lets go of the log that is then no
//! longer needed. No bytes are copied: a snapshot is a view, a checkpoint is a commit.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::error::Problem;
use crate::log::LogReader;
use crate::raft::Raft;
use crate::raft::apply_thread::ApplyThread;
use crate::shared::Shared;
use crate::snapshot::streams::Streams;
use crate::state::StateFiles;
use crate::word::Words;

/// How often the state is made durable (key-log §5.1); what is newer is applied again from the journal.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(2);
/// How often the length of the log is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long Raft may take to know of a checkpoint.
const KNOWN_LIMIT: Duration = Duration::from_secs(30);

/// When the log is compacted, and how much of it is kept.
#[derive(Clone, Copy, Debug)]
pub struct CompactionConfig {
    /// Bytes of log that are kept for members who were away.
    pub keep_bytes: u64,
    /// Bytes of log beyond that which set a compaction off.
    pub step_bytes: u64,
    /// A compaction is tried this often when less has grown.
    pub interval: Duration,
    /// Bytes of log at which snapshots being sent are given up, since the log is kept for them.
    pub stream_bytes: u64,
}

impl Default for CompactionConfig {
    fn default() -> Self {
        Self { keep_bytes: 64 << 20, step_bytes: 64 << 20, interval: Duration::from_secs(60), stream_bytes: 4 << 30 }
    }
}

/// Up to where the log may go: what need not be kept, never past the durable checkpoint, never past what the receiver
/// of a running snapshot goes on from.
fn purge_bound(wanted: Option<u64>, checkpoint: Option<u64>, stream: Option<u64>) -> Option<u64> {
    let upto = wanted?.min(checkpoint?);
    Some(stream.map_or(upto, |stream| stream.min(upto)))
}

/// The compactor, and what it works on.
pub(crate) struct Compactor {
    pub(crate) config: CompactionConfig,
    pub(crate) shared: Arc<Shared>,
    pub(crate) journal: LogReader,
    pub(crate) files: Arc<StateFiles>,
    pub(crate) apply: Arc<ApplyThread>,
    /// Snapshots being sent: the log is kept for them.
    pub(crate) streams: Arc<Streams>,
    pub(crate) words: Arc<Words>,
    pub(crate) raft: Raft,
}

impl Compactor {
    /// Runs as long as the replica.
    pub(crate) async fn run(self) {
        let config = self.config;
        let mut look = interval(LOOK_INTERVAL.min(config.interval));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut checkpointed, mut checkpointed_at, mut compacted_at) = (0, Instant::now(), Instant::now());
        loop {
            let full = tokio::select! {
                biased;
                _ = look.tick() => false,
                () = self.apply.checkpoints().due() => true,
            };
            if let Some(what) = self.files.damage() {
                // Whoever came upon it.
                self.shared.set_problem(Problem::State(what));
            }
            let retained = self.journal.retained_bytes();
            if retained >= config.stream_bytes {
                let ended = self.streams.cancel();
                if ended > 0 {
                    tracing::warn!(
                        ended,
                        retained,
                        "snapshots being sent were given up: the log grew too long for them"
                    );
                }
            }
            let applied = self.shared.applied_now();
            let grown = retained >= config.keep_bytes.saturating_add(config.step_bytes);
            let due = compacted_at.elapsed() >= config.interval;
            if applied != checkpointed && (full || grown || due || checkpointed_at.elapsed() >= CHECKPOINT_INTERVAL) {
                match self.apply.checkpoint().await {
                    Ok(durable) => checkpointed = durable.map_or(0, |d| d.checkpoint.index),
                    // Told as a problem where it happened.
                    Err(_) => return,
                }
                checkpointed_at = Instant::now();
            }
            if (grown || due || self.journal.low_space()) && self.compact().await {
                compacted_at = Instant::now();
            }
        }
    }

    /// What of the log need not be kept. On a disk that is nearly full nothing is that lies in a segment which can go, also
    /// if members who were away get a snapshot for it.
    fn dispensable(&self) -> Option<u64> {
        let usual = self.journal.purge_keeping(self.config.keep_bytes);
        match self.journal.low_space() {
            true => usual.max(self.journal.purge_to_newest_segment()),
            false => usual,
        }
    }

    /// Up to where the log may go now, if that is further than it went.
    fn bound(&self) -> Option<u64> {
        let purged = self.journal.purged().map(|(index, _)| index);
        let bound = purge_bound(self.dispensable(), self.apply.checkpoints().durable(), self.streams.lowest());
        bound.filter(|upto| Some(*upto) > purged)
    }

    /// Has Raft purge what it may; false when that has to wait.
    async fn compact(&self) -> bool {
        let Some(upto) = self.bound() else { return true };
        // Raft purges only below what it takes for its newest snapshot.
        if self.raft.trigger().snapshot().await.is_err() {
            return false;
        }
        let mut metrics = self.raft.metrics();
        let known = async {
            while metrics.borrow_watched().snapshot.is_none_or(|id| id.index < upto) {
                if metrics.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        if !matches!(tokio::time::timeout(KNOWN_LIMIT, known).await, Ok(true)) {
            tracing::warn!(upto, "the log was not compacted: the snapshot is not known in time");
            return false;
        }
        // A stream may have begun meanwhile; it stands at a later index than the checkpoint, so this does not grow.
        let Some(upto) = self.bound() else { return true };
        assert!(
            self.apply.checkpoints().durable().is_some_and(|durable| upto <= durable),
            "a purge stays below the durable checkpoint"
        );
        // What goes may hold the only record of what the others have said.
        self.words.touch();
        tracing::info!(upto, "compacting the log");
        self.raft.trigger().purge_log(upto).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_purge_never_passes_a_checkpoint_or_a_running_stream(
            wanted in proptest::option::of(0u64..50),
            checkpoint in proptest::option::of(0u64..50),
            stream in proptest::option::of(0u64..50),
        ) {
            match purge_bound(wanted, checkpoint, stream) {
                Some(upto) => {
                    prop_assert!(wanted.is_some_and(|w| upto <= w));
                    prop_assert!(checkpoint.is_some_and(|c| upto <= c));
                    prop_assert!(stream.is_none_or(|s| upto <= s));
                    prop_assert!([wanted, checkpoint, stream].contains(&Some(upto)), "no more is kept than needed");
                }
                None => prop_assert!(wanted.is_none() || checkpoint.is_none()),
            }
        }
    }
}
