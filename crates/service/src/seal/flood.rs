//! The flood guard of share entry: it limits *failures*, never a valid share, and forgets all of it within a minute
//! (key-hierarchy §5). No doubling, no persistence: a lock-out would be somebody else's denial of service.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// Failures per principal or address within [`WINDOW`] that are still answered precisely.
pub const SOURCE_FAILURES_MAX: usize = 5;
/// Failures per node within [`WINDOW`] that are still answered precisely.
pub const NODE_FAILURES_MAX: usize = 30;
/// How long a failure counts.
pub const WINDOW: Duration = Duration::from_secs(60);

/// Recent failures by source. Bounded: no more than [`NODE_FAILURES_MAX`] failures are remembered at all.
#[derive(Default)]
pub struct FloodGuard {
    by_source: HashMap<String, VecDeque<Instant>>,
    total: usize,
}

/// What to do with a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Answer with the precise reason.
    Answer,
    /// Too many: say only that, and for how long.
    TooMany {
        /// When the next failure will be answered again.
        retry_after: Duration,
    },
}

impl FloodGuard {
    /// Notes a failure of `source` (a principal's name, or an address) and says how to answer it.
    pub fn failed(&mut self, source: &str, now: Instant) -> Verdict {
        self.forget(now);
        let own = self.by_source.get(source).map_or(0, VecDeque::len);
        let oldest = if own >= SOURCE_FAILURES_MAX {
            self.by_source.get(source).and_then(|times| times.front().copied())
        } else if self.total >= NODE_FAILURES_MAX {
            self.by_source.values().filter_map(|times| times.front().copied()).min()
        } else {
            self.by_source.entry(source.to_owned()).or_default().push_back(now);
            self.total += 1;
            return Verdict::Answer;
        };
        Verdict::TooMany { retry_after: oldest.map_or(WINDOW, |at| (at + WINDOW).saturating_duration_since(now)) }
    }

    fn forget(&mut self, now: Instant) {
        for times in self.by_source.values_mut() {
            while times.front().is_some_and(|at| now.saturating_duration_since(*at) >= WINDOW) {
                times.pop_front();
                self.total -= 1;
            }
        }
        self.by_source.retain(|_, times| !times.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn five_failures_a_minute_and_source_then_silence_for_the_rest_of_it() {
        let mut guard = FloodGuard::default();
        for _ in 0..SOURCE_FAILURES_MAX {
            assert_eq!(guard.failed("alice", Instant::now()), Verdict::Answer);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let Verdict::TooMany { retry_after } = guard.failed("alice", Instant::now()) else { panic!("the sixth") };
        assert_eq!(retry_after, Duration::from_secs(55));
        assert_eq!(guard.failed("bob", Instant::now()), Verdict::Answer, "another source is not punished");
        tokio::time::advance(retry_after).await;
        assert_eq!(guard.failed("alice", Instant::now()), Verdict::Answer, "it forgets");
    }

    #[tokio::test(start_paused = true)]
    async fn thirty_failures_a_minute_and_node_whoever_they_come_from() {
        let mut guard = FloodGuard::default();
        for n in 0..NODE_FAILURES_MAX {
            assert_eq!(guard.failed(&format!("s{n}"), Instant::now()), Verdict::Answer);
        }
        for n in 0..1000 {
            assert!(matches!(guard.failed(&format!("t{n}"), Instant::now()), Verdict::TooMany { .. }));
        }
        assert_eq!(guard.by_source.len(), NODE_FAILURES_MAX, "strangers create no more state than that");
        tokio::time::advance(WINDOW).await;
        assert_eq!(guard.failed("u", Instant::now()), Verdict::Answer);
        assert_eq!(guard.by_source.len(), 1);
    }
}
