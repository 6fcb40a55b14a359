//! The clocks that are known here, and what a majority of them says (trust.md §6).
//!
//! A peer's clock is kept as itself and carried forward by this machine's boot time, which nobody sets. The own wall clock
//! enters no other's: when it leaps, one clock of all has leapt.

use std::collections::BTreeMap;
use std::time::Duration;

use quorate_core::id::NodeId;
use quorate_core::seeded::{self, Bug};

use crate::member::MembershipView;

/// A Hello that took longer does not say well enough when the clock was read.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);
/// Clocks count when read within this: Hellos come once a second.
const AGE_MAX: Duration = Duration::from_millis(1500);

/// What a peer's clock said, and when by boot time that was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reading {
    wall_ms: u64,
    at: Duration,
    /// The own wall clock when the answer came: of the seeded bug that goes by it.
    own_ms: u64,
}

impl Reading {
    /// Of the answer to a Hello that was sent and answered at these boot times; none if it took too long.
    pub(crate) fn new(wall_ms: u64, sent: Duration, answered: Duration, own_ms: u64) -> Option<Self> {
        let trip = answered.checked_sub(sent).filter(|trip| *trip <= ROUND_TRIP_MAX)?;
        Some(Self { wall_ms, at: sent + trip / 2, own_ms })
    }
}

/// All clocks that are known here, at one moment.
pub(crate) struct Clocks<'a> {
    pub(crate) me: NodeId,
    pub(crate) membership: &'a MembershipView,
    pub(crate) readings: BTreeMap<NodeId, Reading>,
    /// Boot time.
    pub(crate) now: Duration,
    /// The own wall clock, milliseconds since 1970.
    pub(crate) own_ms: u64,
}

impl Clocks<'_> {
    /// What a member's clock says now, milliseconds since 1970; none if nobody knows.
    pub(crate) fn of(&self, id: NodeId) -> Option<u64> {
        self.heard_after(id, Duration::ZERO)
    }

    fn heard_after(&self, id: NodeId, after: Duration) -> Option<u64> {
        if id == self.me {
            return Some(self.own_ms);
        }
        let reading = self.readings.get(&id).filter(|w| w.at >= after)?;
        let age = self.now.saturating_sub(reading.at);
        if age > AGE_MAX {
            return None;
        }
        // Seeded bug: an offset to the own clock is kept, which makes a witness of that clock for as long as it is not renewed.
        if seeded::is(Bug::OwnOffset) {
            return Some(self.own_ms.saturating_add(reading.wall_ms).saturating_sub(reading.own_ms));
        }
        Some(reading.wall_ms.saturating_add(age.as_millis() as u64))
    }

    /// What a majority's clocks say now, milliseconds since 1970: of each set of voters the lower median of those known, if
    /// these are a majority of it; while there are two sets, the earlier.
    pub(crate) fn median(&self) -> Option<u64> {
        self.median_after(Duration::ZERO)
    }

    /// The same of clocks read at or after this boot time alone.
    pub(crate) fn median_after(&self, after: Duration) -> Option<u64> {
        let of_set = |set: &std::collections::BTreeSet<NodeId>| {
            let mut known: Vec<u64> = set.iter().filter_map(|id| self.heard_after(*id, after)).collect();
            known.sort_unstable();
            (known.len() > set.len() / 2).then(|| known[(known.len() - 1) / 2])
        };
        let medians: Option<Vec<u64>> = self.membership.voters.iter().map(of_set).collect();
        medians?.into_iter().min()
    }

    /// Whether there are so many voters that one wrong clock stands alone.
    pub(crate) fn is_witnessed(&self) -> bool {
        self.membership.voter_ids().len() > 2
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) const NOW: Duration = Duration::from_secs(1000);
    pub(crate) const WALL: u64 = 1_800_000_000_000;
    const WEEK: i64 = 7 * 86_400_000;

    pub(crate) fn voters(sets: &[&[u64]]) -> MembershipView {
        let set = |ids: &&[u64]| ids.iter().map(|id| NodeId(*id)).collect();
        MembershipView { voters: sets.iter().map(set).collect(), ..MembershipView::default() }
    }

    /// This node is 1; its clock and those of others are so far off.
    pub(crate) fn clocks<'a>(membership: &'a MembershipView, own: i64, others: &[(u64, i64)]) -> Clocks<'a> {
        let reading = |(id, off): &(u64, i64)| {
            let wall = WALL.saturating_add_signed(*off);
            (NodeId(*id), Reading { wall_ms: wall, at: NOW, own_ms: WALL })
        };
        let readings = others.iter().map(reading).collect();
        Clocks { me: NodeId(1), membership, readings, now: NOW, own_ms: WALL.saturating_add_signed(own) }
    }

    fn off(clocks: &Clocks<'_>) -> Option<i64> {
        clocks.median().map(|t| t as i64 - WALL as i64)
    }

    #[test]
    fn one_wrong_clock_moves_no_median() {
        let three = voters(&[&[1, 2, 3]]);
        for (own, others, expected) in [
            (0, &[(2, 10), (3, WEEK)][..], Some(10)),
            (0, &[(2, 10), (3, -WEEK)], Some(0)),
            // Ours is the wrong one.
            (WEEK, &[(2, 0), (3, 5)], Some(5)),
            (-WEEK, &[(2, 0), (3, 5)], Some(0)),
            // Two of three: the lower of the two.
            (0, &[(2, 10)], Some(0)),
            (WEEK, &[(2, 10)], Some(10)),
            (0, &[], None),
            // A learner's clock counts for nothing.
            (0, &[(9, 10)], None),
        ] {
            assert_eq!(off(&clocks(&three, own, others)), expected, "{own} {others:?}");
        }
        assert_eq!(off(&clocks(&voters(&[&[1]]), 3, &[])), Some(3));
        assert_eq!(off(&clocks(&voters(&[&[2]]), 3, &[])), None, "a learner alone witnesses nothing");
        assert_eq!(off(&clocks(&voters(&[]), 3, &[])), None);
        let joint = voters(&[&[1], &[1, 2, 3]]);
        assert_eq!(off(&clocks(&joint, WEEK, &[(2, 0), (3, 5)])), Some(5), "of two sets the earlier");
        assert_eq!(off(&clocks(&joint, 0, &[])), None, "a majority of each");
    }

    /// The attack: the own clock leaps between two Hellos.
    #[test]
    fn a_clock_that_leaps_is_no_witness_of_others() {
        let three = voters(&[&[1, 2, 3]]);
        for leap in [WEEK, 691_196_000, -WEEK] {
            let mut all = clocks(&three, 0, &[(2, 0), (3, 0)]);
            all.own_ms = all.own_ms.saturating_add_signed(leap);
            assert_eq!(off(&all), Some(0));
            all.now += Duration::from_millis(1400);
            all.own_ms += 1400;
            assert_eq!(off(&all), Some(1400), "carried by boot time");
        }
    }

    #[test]
    fn what_was_heard_long_ago_or_late_is_no_witness() {
        let three = voters(&[&[1, 2, 3]]);
        let mut all = clocks(&three, 0, &[(2, 0), (3, 0)]);
        all.now += AGE_MAX;
        assert!(all.median().is_some());
        assert_eq!(all.median_after(NOW + Duration::from_millis(1)), None, "not fresh");
        all.now += Duration::from_millis(1);
        assert_eq!((all.median(), all.of(NodeId(2)), all.of(NodeId(9))), (None, None, None));

        let (sent, ms) = (NOW, Duration::from_millis);
        let heard = Reading::new(WALL, sent, sent + ms(500), 0).unwrap();
        assert_eq!((heard.wall_ms, heard.at), (WALL, sent + ms(250)), "read in the middle of the round trip");
        assert_eq!(Reading::new(WALL, sent, sent + ms(501), 0), None);
        assert_eq!(Reading::new(WALL, sent, sent - ms(1), 0), None, "no clock that goes back");
        // What a hostile peer may say.
        assert!(clocks(&three, 0, &[(2, i64::MAX), (3, i64::MAX)]).median().is_some());
    }

    proptest! {
        /// Whoever lies, and however: while at most half of those heard do, no median is later than every honest clock; while
        /// fewer do, none is earlier than all of them.
        #[test]
        fn a_minority_moves_no_median(
            honest in prop::collection::vec(-400i64..400, 1..5),
            liars in prop::collection::vec(-(WALL as i64)..i64::MAX / 2, 0..5),
            absent in 0u64..3,
        ) {
            let heard = honest.len() + liars.len();
            let ids: Vec<u64> = (1..=heard as u64 + absent).collect();
            let membership = voters(&[&ids]);
            let others: Vec<(u64, i64)> = (2..).zip(honest[1..].iter().chain(&liars).copied()).collect();
            let median = off(&clocks(&membership, honest[0], &others));
            prop_assert_eq!(median.is_some(), heard > ids.len() / 2);
            if let Some(median) = median {
                if 2 * liars.len() <= heard {
                    prop_assert!(median <= *honest.iter().max().unwrap());
                }
                if 2 * liars.len() < heard {
                    prop_assert!(median >= *honest.iter().min().unwrap());
                }
            }
        }
    }
}
