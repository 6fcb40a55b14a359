//! What may happen any number of times, and is to be told of now and then.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Kinds that are told apart at once: whoever makes up new ones fills no memory, and no log.
const KINDS_MAX: usize = 64;
/// All kinds beyond those.
const OTHERS: &str = "";

/// Tells of each kind of event at most once in a while.
pub struct Seldom {
    /// It must have gone on for so long …
    after: Duration,
    /// … and is told again after so long.
    every: Duration,
    kinds: Mutex<HashMap<String, Kind>>,
}

struct Kind {
    first: Instant,
    last: Instant,
    told: Option<Instant>,
    /// Times since it was told.
    times: u64,
}

impl Seldom {
    /// At once, and then no more often than that.
    pub fn every(every: Duration) -> Self {
        Self::lasting(Duration::ZERO, every)
    }

    /// What has not gone on for `after` is not told.
    pub fn lasting(after: Duration, every: Duration) -> Self {
        Self { after, every, kinds: Mutex::default() }
    }

    /// It is over: what comes next begins anew.
    pub fn over(&self, kind: &str) {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).remove(kind);
    }

    /// It has happened: whether it is to be told now, and how often it happened since it was told last, this time included.
    pub fn due(&self, kind: &str) -> Option<u64> {
        let now = Instant::now();
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        // A series ends when nothing comes for long enough for it to be told again.
        kinds.retain(|_, kind| now.duration_since(kind.last) < self.every);
        // Whoever makes up kinds does not silence the rest: those beyond are told of together.
        let kind = if kinds.len() >= KINDS_MAX && !kinds.contains_key(kind) { OTHERS } else { kind };
        let seen = kinds.entry(kind.to_owned()).or_insert(Kind { first: now, last: now, told: None, times: 0 });
        (seen.last, seen.times) = (now, seen.times + 1);
        let lasts = now.duration_since(seen.first) >= self.after;
        let due = lasts && seen.told.is_none_or(|at| now.duration_since(at) >= self.every);
        due.then(|| {
            seen.told = Some(now);
            std::mem::take(&mut seen.times)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_told_at_once_and_then_once_in_a_while() {
        let seldom = Seldom::every(MINUTE);
        assert_eq!(
            (seldom.due("a"), seldom.due("b"), seldom.due("a"), seldom.due("a")),
            (Some(1), Some(1), None, None)
        );
        tokio::time::advance(MINUTE / 2).await;
        assert_eq!(seldom.due("a"), None);
        tokio::time::advance(MINUTE / 2).await;
        assert_eq!((seldom.due("a"), seldom.due("a")), (Some(4), None));
        tokio::time::advance(MINUTE).await;
        assert_eq!(seldom.due("a"), Some(1), "another series");
    }

    #[tokio::test(start_paused = true)]
    async fn what_passes_is_not_told() {
        let seldom = Seldom::lasting(Duration::from_secs(3), MINUTE);
        let mut told = Vec::new();
        for _ in 0..5 {
            told.push(seldom.due("a"));
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(told, [None, None, None, Some(4), None]);
        seldom.over("a");
        assert_eq!(seldom.due("a"), None, "anew");
    }

    #[tokio::test(start_paused = true)]
    async fn who_makes_up_kinds_silences_nobody() {
        let seldom = Seldom::every(MINUTE);
        let told = (0..9 * KINDS_MAX).filter(|n| seldom.due(&n.to_string()).is_some()).count();
        assert_eq!(told, KINDS_MAX + 1, "all beyond are one kind");
        assert_eq!(seldom.due("0"), None, "each still by itself");
        tokio::time::advance(MINUTE).await;
        assert_eq!(seldom.due("a"), Some(1));
    }
}
