//! The compactor (key-log §5.2): makes the state durable every now and then, and lets go of the log that is then no
//! longer needed. No bytes are copied: a snapshot is a view, a checkpoint is a commit.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use quorate_journal::Space;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::error::Problem;
use crate::log::LogReader;
use crate::raft::Raft;
use crate::raft::applier::Applier;
use crate::shared::Shared;
use crate::snapshot::streams::Streams;
use crate::space::is_near_low;
use crate::state::StateFiles;
use crate::word::Words;

/// How often the state is made durable (key-log §5.1); what is newer is applied again from the journal.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(2);
/// How often the length of the log is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// So much of the log is kept, unless it is said otherwise …
const KEEP_BYTES: u64 = 1 << 30;
/// … or this part of the state, if that is more: who lacks little is sent the log, and not the state.
const STATE_PART: u64 = 8;
/// How long Raft may take to know of a checkpoint.
const KNOWN_LIMIT: Duration = Duration::from_secs(30);

/// When the log is compacted, and how much of it is kept.
#[derive(Clone, Copy, Debug)]
pub struct CompactionConfig {
    /// Bytes of log that are kept for members who were away; `None`: a gibibyte, or an eighth of the state, if that is more.
    pub keep_bytes: Option<u64>,
    /// Bytes of log beyond that which set a compaction off.
    pub step_bytes: u64,
    /// A compaction is tried this often when less has grown.
    pub interval: Duration,
    /// Bytes of log beyond that at which snapshots being sent are given up, since the log is kept for them.
    pub stream_bytes: u64,
}

impl Default for CompactionConfig {
    fn default() -> Self {
        Self { keep_bytes: None, step_bytes: 64 << 20, interval: Duration::from_secs(60), stream_bytes: 4 << 30 }
    }
}

/// Up to where the log may go: what need not be kept, never past the durable checkpoint, never past what the receiver
/// of a running snapshot goes on from.
fn purge_bound(wanted: Option<u64>, checkpoint: Option<u64>, stream: Option<u64>) -> Option<u64> {
    let upto = wanted?.min(checkpoint?);
    Some(stream.map_or(upto, |stream| stream.min(upto)))
}

/// Gives up snapshots that are being sent before their views take the disk's last room: while a view is kept, nothing that
/// it shows is written over, and the state's file grows. What the file has grown by is room for the next one to begin with,
/// which is not given up before the file grows again.
#[derive(Default)]
struct GiveUp {
    /// The file's length when that was done last.
    at_bytes: Option<u64>,
}

impl GiveUp {
    fn is_due(&mut self, space: Space, state_bytes: u64) -> bool {
        if !is_near_low(space) {
            self.at_bytes = None;
            return false;
        }
        let due = self.at_bytes.is_none_or(|at| state_bytes > at);
        if due {
            self.at_bytes = Some(state_bytes);
        }
        due
    }
}

/// The compactor, and what it works on.
pub(crate) struct Compactor {
    pub(crate) config: CompactionConfig,
    pub(crate) shared: Arc<Shared>,
    pub(crate) journal: LogReader,
    pub(crate) files: Arc<StateFiles>,
    pub(crate) apply: Arc<Applier>,
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
        let mut give_up = GiveUp::default();
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
            let damaged = self.damaged();
            if let Some(ended) = damaged.map(|upto| self.streams.cancel_below(upto)).filter(|ended| *ended > 0) {
                tracing::warn!(ended, "snapshots being sent were given up: the log after them is damaged");
            }
            let (retained, keep) = (self.journal.retained_bytes(), self.keep_bytes());
            let space = self.journal.space();
            let too_long = retained >= keep.saturating_add(config.stream_bytes);
            let running = self.streams.lowest().is_some();
            if running && (too_long || give_up.is_due(space, self.files.bytes().unwrap_or(0))) {
                let ended = self.streams.cancel();
                let why = if too_long { "the log grew too long for them" } else { "the disk is nearly full" };
                tracing::warn!(ended, retained, free = space.free_bytes, "snapshots being sent were given up: {why}");
            }
            let applied = self.shared.applied_now();
            let grown = retained >= keep.saturating_add(config.step_bytes);
            let due = compacted_at.elapsed() >= config.interval;
            if applied != checkpointed
                && (full || grown || due || damaged.is_some() || checkpointed_at.elapsed() >= CHECKPOINT_INTERVAL)
            {
                match self.apply.checkpoint().await {
                    Ok(durable) => checkpointed = durable.map_or(0, |d| d.checkpoint.index),
                    // Told where it happened.
                    Err(_) if self.shared.problem().is_some() => return,
                    Err(error) => tracing::warn!(%error, "the state was not made durable; it is tried again"),
                }
                checkpointed_at = Instant::now();
            }
            if (grown || due || damaged.is_some() || self.journal.low_space()) && self.compact().await {
                compacted_at = Instant::now();
            }
        }
    }

    /// How much of the log is kept.
    fn keep_bytes(&self) -> u64 {
        // While the state is being closed there is nothing to compact either.
        let usual = || KEEP_BYTES.max(self.files.bytes().unwrap_or(0) / STATE_PART);
        self.config.keep_bytes.unwrap_or_else(usual)
    }

    /// Up to where the log that is kept is of no use to anybody: whoever needs what is older has to get through a part that is not
    /// what was written.
    fn damaged(&self) -> Option<u64> {
        let damage = self.journal.damage()?;
        self.shared.set_problem(Problem::Journal(damage.what));
        let purged = self.journal.purged().map(|(index, _)| index);
        Some(damage.upto).filter(|upto| Some(*upto) > purged)
    }

    /// What of the log need not be kept. On a disk that is nearly full nothing is that lies in a segment which can go, also
    /// if members who were away get a snapshot for it.
    fn dispensable(&self) -> Option<u64> {
        let usual = self.journal.purge_keeping(self.keep_bytes()).max(self.damaged());
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

    #[test]
    fn snapshots_are_given_up_once_for_what_the_file_grows_by() {
        let free = |free_bytes| Space { free_bytes, limit_bytes: 100, low: free_bytes < 100 };
        let mut give_up = GiveUp::default();
        assert!(!give_up.is_due(free(150), 1000), "there is room");
        assert!(give_up.is_due(free(149), 1000));
        assert!(!give_up.is_due(free(149), 1000), "the next one has room in the file");
        assert!(!give_up.is_due(free(90), 900));
        assert!(give_up.is_due(free(90), 1001), "it takes more");
        assert!(!give_up.is_due(free(150), 2000));
        assert!(give_up.is_due(free(120), 1000), "after there was room once more");
    }

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
