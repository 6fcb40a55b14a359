//! The times a decision may look at, and how to show one. Nothing here reads a clock.

use crate::codec::{Malformed, Reader, Writer};

/// An hour, in milliseconds.
pub const HOUR_MS: u64 = 60 * 60 * 1000;
/// A day, in milliseconds.
pub const DAY_MS: u64 = 24 * HOUR_MS;
/// How far the display time may run ahead of cluster time, in milliseconds.
const STAMP_AHEAD_MS_MAX: u64 = 60_000;

/// The time of a decision (key-log §1.7); both in milliseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Time {
    /// Cluster time in the view: a majority's median, moved by Tick entries only.
    pub cluster_ms: u64,
    /// The deciding node's own wall clock.
    pub local_ms: u64,
}

impl Time {
    /// For display only, decides nothing: the local clock, held between cluster time and a minute after it.
    pub fn stamp_ms(self) -> u64 {
        self.cluster_ms.max(self.local_ms.min(self.cluster_ms.saturating_add(STAMP_AHEAD_MS_MAX)))
    }

    /// Whether what ends at `at_ms` has ended, by whichever clock is first; 0 = it has no end. At an end nodes may differ by the
    /// skew of their clocks.
    pub fn ended(self, at_ms: u64) -> bool {
        at_ms != 0 && self.cluster_ms.max(self.local_ms) >= at_ms
    }
}

/// What everything goes by that destroys: the earliest of three times, so that neither a clock that leaps, nor a leader that
/// pushes cluster time, destroys a thing early (trust.md §6). Late is safe.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct DutyTime(u64);

impl DutyTime {
    /// Of cluster time as this process saw it a while ago, the own wall clock, and the median of a majority's clocks now; all
    /// in milliseconds since 1970.
    pub fn new(cluster_then_ms: u64, local_ms: u64, median_ms: u64) -> Self {
        Self(cluster_then_ms.min(local_ms).min(median_ms))
    }

    /// Milliseconds since 1970.
    pub fn ms(self) -> u64 {
        self.0
    }

    /// Whether something destructive that was set for `at_ms` is due.
    pub fn is_due(self, at_ms: u64) -> bool {
        self.0 >= at_ms
    }
}

/// Longest name of who confirmed a time, in bytes.
const BY_LEN_MAX: usize = 256;

/// An operator's word on the time: the value of the record [`crate::record_key::RecordKey::clock`]. Applying it sets
/// cluster time, back too. `version u8 ‖ time u64 ‖ by`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfirmedTime {
    /// Cluster time from here on, milliseconds since 1970.
    pub time_ms: u64,
    /// The principal; for display.
    pub by: String,
}

impl ConfirmedTime {
    /// Bytes of the value.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new().u8(1).u64(self.time_ms).field(self.by.as_bytes()).finish()
    }

    /// Reads the value.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("confirmed time", bytes);
        if r.u8()? != 1 {
            return Err(Malformed("confirmed time"));
        }
        let (time_ms, by) = (r.u64()?, r.text(BY_LEN_MAX)?.to_owned());
        r.finish()?;
        Ok(Self { time_ms, by })
    }
}

/// Shows a time as `2026-11-24 05:31 UTC`.
pub fn utc(ms: u64) -> String {
    let minutes = ms / 60_000;
    let days = minutes / 1440;
    // Civil date from days since 1970, in years that begin in March (Howard Hinnant's `civil_from_days`).
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60 % 24, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wild_local_clock_moves_the_display_by_a_minute_at_most() {
        let stamp = |local_ms| Time { cluster_ms: 1_000_000, local_ms }.stamp_ms();
        assert_eq!(stamp(0), 1_000_000);
        assert_eq!(stamp(1_000_500), 1_000_500);
        assert_eq!(stamp(u64::MAX), 1_060_000);
    }

    #[test]
    fn nothing_is_due_until_all_clocks_agree() {
        let due = |cluster, local, median| DutyTime::new(cluster, local, median).is_due(10);
        assert!(due(10, 10, 10));
        assert!(!due(9, u64::MAX, u64::MAX) && !due(u64::MAX, 9, u64::MAX) && !due(u64::MAX, u64::MAX, 9));
    }

    #[test]
    fn a_confirmed_time_reads_back_and_every_cut_is_an_error() {
        let confirmed = ConfirmedTime { time_ms: 77, by: "admin/root".into() };
        let bytes = confirmed.encode();
        assert_eq!(ConfirmedTime::decode(&bytes), Ok(confirmed));
        assert!((0..bytes.len()).all(|cut| ConfirmedTime::decode(&bytes[..cut]).is_err()));
        assert!(ConfirmedTime::decode(&[&bytes[..], &[0]].concat()).is_err());
        assert!(ConfirmedTime::decode(&[&[2], &bytes[1..]].concat()).is_err());
    }

    #[test]
    fn dates_are_civil_dates() {
        assert_eq!(utc(0), "1970-01-01 00:00 UTC");
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00 UTC");
        assert_eq!(utc(1_795_498_295_000), "2026-11-24 05:31 UTC");
        assert!(!utc(u64::MAX).is_empty());
    }
}
