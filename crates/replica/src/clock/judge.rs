//! What this node makes of the clocks: whether its own is fit to lead, how far cluster time may move on, and what may be
//! destroyed. Pure: boot time, wall clocks and cluster time in, verdicts out (trust.md §6).

use std::collections::VecDeque;
use std::time::Duration;

use quorate_core::seeded::{self, Bug};
use quorate_core::time::DutyTime;
use thiserror::Error;

use super::reading::Clocks;

/// How long cluster time must have stood where it is, as this process saw it, before anything is destroyed by it.
pub const DUTY_WAIT: Duration = Duration::from_secs(5 * 60);
/// A clock further off the median than this is reported.
pub const OFFSET_ALARM_MS: i64 = 2_000;
/// A node whose clock is further off runs no duty, and does not lead while another may.
const OFFSET_FIT_MAX_MS: i64 = 30_000;
/// With no leader for so long, a node whose clock is unfit leads too: its log may be the longest.
const LEADERLESS: Duration = Duration::from_secs(5);
/// Cluster time may outrun boot time by this much; more takes `ROUNDS`, or an operator.
pub const OUTRUN_MAX_MS: u64 = 60_000;
/// So many medians in a row, each of clocks read anew …
const ROUNDS: u32 = 5;
/// … that have gone as boot time has, this much more or less.
const ROUNDS_APART_MAX_MS: u64 = 2_000;
/// A clock that was set by more than this within [`STEP_MEMORY`] is not to be destroyed by.
const STEP_MAX_MS: i64 = 2_000;
const STEP_MEMORY: Duration = Duration::from_secs(60);

/// Why this node destroys nothing now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NoDuty {
    /// This process has not seen cluster time for long enough.
    #[error("this node has not watched cluster time for long enough since its start")]
    Unseen,
    /// The clocks of no majority are known.
    #[error("the clocks of no majority of voters are known")]
    Unwitnessed,
    /// The own clock is far off the others'.
    #[error("this node's clock is more than {} s off the majority's; set it right (chrony, ntpd)", OFFSET_FIT_MAX_MS / 1000)]
    Unfit,
    /// The own clock was set.
    #[error("this node's clock was set within the last minute")]
    Stepped,
}

/// Whether cluster time may move on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tick {
    /// To this.
    To(u64),
    /// It would leap to this, and nobody can witness it: an operator must confirm it.
    Held(u64),
    /// Not now.
    Wait,
}

/// A value as it was from each of these boot times on.
#[derive(Default)]
struct Track<T>(VecDeque<(Duration, T)>);

impl<T: Copy + PartialEq> Track<T> {
    /// From `now` on it is `value`. What was over before `keep` is forgotten.
    fn note(&mut self, now: Duration, value: T, keep: Duration) {
        if self.0.back().is_none_or(|(_, last)| *last != value) {
            self.0.push_back((now, value));
        }
        while self.0.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= keep) {
            self.0.pop_front();
        }
    }

    /// All values that it had from `then` on; none when it is not known what it was then.
    fn since(&self, then: Duration) -> Option<impl Iterator<Item = T>> {
        let at = self.0.partition_point(|(at, _)| *at <= then).checked_sub(1)?;
        Some(self.0.range(at..).map(|(_, value)| *value))
    }

    fn all(&self) -> impl Iterator<Item = T> {
        self.0.iter().map(|(_, value)| *value)
    }
}

/// Medians in a row that went as boot time did.
#[derive(Default)]
struct Rounds {
    first: Option<(Duration, u64)>,
    last: Duration,
    count: u32,
}

impl Rounds {
    fn note(&mut self, now: Duration, median_ms: u64) {
        let follows = self.first.is_some_and(|(at, first_ms)| {
            let expected = first_ms.saturating_add(now.saturating_sub(at).as_millis() as u64);
            median_ms.abs_diff(expected) <= ROUNDS_APART_MAX_MS
        });
        if !follows {
            (self.first, self.count) = (Some((now, median_ms)), 0);
        }
        (self.last, self.count) = (now, self.count.saturating_add(1));
    }
}

/// What was seen of the clocks over the last minutes.
#[derive(Default)]
pub(crate) struct Judge {
    /// Cluster time as applied here.
    cluster: Track<u64>,
    /// The own wall clock minus boot time.
    own: Track<i64>,
    rounds: Rounds,
    /// The own clock minus the median, as compared last; among fewer than three voters nobody can tell.
    offset_ms: Option<i64>,
    /// Since when no leader is known.
    leaderless: Option<Duration>,
}

fn own_minus_boot(clocks: &Clocks<'_>) -> i64 {
    i64::try_from(clocks.own_ms).unwrap_or(i64::MAX).saturating_sub(clocks.now.as_millis() as i64)
}

fn offset(clocks: &Clocks<'_>) -> Option<i64> {
    let median = clocks.median().filter(|_| clocks.is_witnessed())?;
    Some(i64::try_from(i128::from(clocks.own_ms) - i128::from(median)).unwrap_or(i64::MAX))
}

/// Whether a clock so far off the median lets its node lead and destroy.
pub(crate) fn is_fit(offset_ms: i64) -> bool {
    offset_ms.saturating_abs() <= OFFSET_FIT_MAX_MS
}

impl Judge {
    /// Takes in how things stand; to be done about once a second.
    pub(crate) fn look(&mut self, clocks: &Clocks<'_>, cluster_ms: u64, leader_known: bool) {
        self.cluster.note(clocks.now, cluster_ms, DUTY_WAIT);
        self.own.note(clocks.now, own_minus_boot(clocks), STEP_MEMORY);
        // What was known last holds while nobody can tell.
        self.offset_ms = offset(clocks).or(self.offset_ms);
        self.leaderless = if leader_known { None } else { self.leaderless.or(Some(clocks.now)) };
        // Strictly after: a clock read at the last round is none read anew.
        if let Some(median) = clocks.median_after(self.rounds.last + Duration::from_nanos(1)) {
            self.rounds.note(clocks.now, median);
        }
    }

    /// The own clock minus the majority's, milliseconds, as compared last; none if it never was.
    pub(crate) fn offset_ms(&self) -> Option<i64> {
        self.offset_ms
    }

    /// Whether the own clock lets this node lead, as far as anybody knows.
    pub(crate) fn fit(&self) -> bool {
        self.offset_ms.is_none_or(is_fit)
    }

    /// Whether this node may lead: its clock is fit, or has been nobody's for so long that a wrong clock is better than none.
    pub(crate) fn may_lead(&self, now: Duration) -> bool {
        self.fit() || self.leaderless.is_some_and(|since| now.saturating_sub(since) >= LEADERLESS)
    }

    /// Whether the leader may move cluster time on from where it is now.
    pub(crate) fn tick(&self, clocks: &Clocks<'_>, cluster_ms: u64) -> Tick {
        // Before genesis there is no time to move; and what has changed since the last look is looked at first.
        let Some((since, _)) = self.cluster.0.back().filter(|(_, seen)| *seen == cluster_ms && cluster_ms != 0) else {
            return Tick::Wait;
        };
        let Some(t) = clocks.median().filter(|t| *t > cluster_ms) else { return Tick::Wait };
        let passed = clocks.now.saturating_sub(*since).as_millis() as u64;
        // Seeded bug: a majority is believed at once.
        if t <= cluster_ms.saturating_add(passed).saturating_add(OUTRUN_MAX_MS) || seeded::is(Bug::OwnOffset) {
            return Tick::To(t);
        }
        match clocks.is_witnessed() {
            false => Tick::Held(t),
            true if self.rounds.count >= ROUNDS => Tick::To(t),
            true => Tick::Wait,
        }
    }

    /// What may be destroyed by: the earliest of cluster time as it was seen `wait` ago (and since: an operator may have set
    /// it back), the own wall clock, and the median now. `wait` is at most [`DUTY_WAIT`].
    ///
    /// # Errors
    /// Nothing may, and why.
    pub(crate) fn duty_time(&self, clocks: &Clocks<'_>, cluster_ms: u64, wait: Duration) -> Result<DutyTime, NoDuty> {
        // Seeded bug: this node's own clock alone counts, now.
        if seeded::is(Bug::DutyAtOnce) {
            return Ok(DutyTime::new(clocks.own_ms, clocks.own_ms, clocks.own_ms));
        }
        let then = clocks.now.checked_sub(wait).ok_or(NoDuty::Unseen)?;
        let seen_ms = self.cluster.since(then).and_then(Iterator::min).ok_or(NoDuty::Unseen)?;
        let median_ms = clocks.median().ok_or(NoDuty::Unwitnessed)?;
        if !offset(clocks).is_none_or(is_fit) {
            return Err(NoDuty::Unfit);
        }
        let now = own_minus_boot(clocks);
        if self.own.all().any(|then| now.saturating_sub(then).saturating_abs() > STEP_MAX_MS) {
            return Err(NoDuty::Stepped);
        }
        Ok(DutyTime::new(seen_ms.min(cluster_ms), clocks.own_ms, median_ms))
    }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
