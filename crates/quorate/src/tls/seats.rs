//! Who may stay where there is room for so many: a pure decision, by the order in which they came and by where they are
//! from.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// What happens to a newcomer when all seats are taken, or its source has its share of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum WhenFull {
    /// It is seated, and whoever has sat longest of the source that has most seats leaves (of its own source, when that
    /// has its share). So a crowd from a few places keeps out nobody but itself.
    Replace,
    /// It is refused. Those who sit are in the middle of something that must not be torn away from them.
    Refuse,
}

/// How many may sit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Room {
    /// In all.
    pub max: usize,
    /// From one source.
    pub of_one_max: usize,
    /// And then?
    pub when_full: WhenFull,
}

/// Names a seat; later ones are higher.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct Seat(u64);

/// The seats of one room.
#[derive(Debug)]
pub(super) struct Seats<S> {
    room: Room,
    next: u64,
    taken: usize,
    by_source: HashMap<S, BTreeSet<Seat>>,
}

impl<S: Clone + Eq + Hash> Seats<S> {
    /// All free.
    pub(super) fn new(room: Room) -> Self {
        Self { room, next: 0, taken: 0, by_source: HashMap::new() }
    }

    /// A newcomer from `source`: its seat, and who has to leave for it; or none.
    pub(super) fn enter(&mut self, source: &S) -> Option<(Seat, Option<Seat>)> {
        let leaves = if self.by_source.get(source).is_some_and(|own| own.len() >= self.room.of_one_max) {
            Some(source.clone())
        } else if self.taken >= self.room.max {
            Some(self.most().clone())
        } else {
            None
        };
        let gone = match (leaves, self.room.when_full) {
            (None, _) => None,
            (Some(_), WhenFull::Refuse) => return None,
            (Some(of), WhenFull::Replace) => {
                let oldest = *self.by_source.get(&of)?.first()?;
                self.leave(&of, oldest);
                Some(oldest)
            }
        };
        let seat = Seat(self.next);
        self.next += 1;
        self.taken += 1;
        self.by_source.entry(source.clone()).or_default().insert(seat);
        Some((seat, gone))
    }

    /// A seat is given up; one that has been given to somebody else already is not given up twice.
    pub(super) fn leave(&mut self, source: &S, seat: Seat) {
        let Some(own) = self.by_source.get_mut(source) else { return };
        if own.remove(&seat) {
            self.taken -= 1;
        }
        if own.is_empty() {
            self.by_source.remove(source);
        }
    }

    /// The source with most seats; among several the one that has sat longest.
    fn most(&self) -> &S {
        let order = |seats: &BTreeSet<Seat>| (seats.len(), std::cmp::Reverse(seats.first().copied()));
        let most = self.by_source.iter().max_by_key(|(_, seats)| order(seats));
        most.expect("asked only when seats are taken").0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    const ROOM: Room = Room { max: 4, of_one_max: 3, when_full: WhenFull::Replace };

    #[test]
    fn a_crowd_keeps_out_nobody_but_itself() {
        let mut seats = Seats::new(ROOM);
        let crowd: Vec<_> = (0..3).map(|_| seats.enter(&"crowd").unwrap()).collect();
        assert!(crowd.iter().all(|(_, gone)| gone.is_none()));
        let (a, gone) = seats.enter(&"a").unwrap();
        assert_eq!(gone, None);
        assert_eq!(seats.enter(&"b").unwrap().1, Some(crowd[0].0), "the oldest of those who have most");
        assert_eq!(seats.enter(&"crowd").unwrap().1, Some(crowd[1].0), "now all are taken again");
        seats.leave(&"crowd", crowd[0].0);
        assert_eq!(seats.taken, 4, "a seat is given up once");
        seats.leave(&"a", a);
        assert_eq!(seats.enter(&"c").unwrap().1, None);
    }

    #[test]
    fn among_equals_whoever_has_sat_longest_leaves() {
        let mut seats = Seats::new(Room { max: 2, ..ROOM });
        let (first, _) = seats.enter(&1).unwrap();
        let (second, _) = seats.enter(&2).unwrap();
        assert_eq!(seats.enter(&3).unwrap().1, Some(first));
        assert_eq!(seats.enter(&4).unwrap().1, Some(second));
    }

    #[test]
    fn where_nobody_is_sent_away_the_newcomer_is() {
        let mut seats = Seats::new(Room { max: 3, of_one_max: 2, when_full: WhenFull::Refuse });
        let (first, _) = seats.enter(&"a").unwrap();
        seats.enter(&"a").unwrap();
        assert_eq!(seats.enter(&"a"), None, "its share");
        seats.enter(&"b").unwrap();
        assert_eq!(seats.enter(&"c"), None, "all are taken");
        seats.leave(&"a", first);
        assert!(seats.enter(&"c").is_some());
    }

    proptest! {
        /// Whoever comes and goes: no more than there is room for, a newcomer who replaces is always seated, and somebody
        /// with a single seat is sent away only when nobody else has two.
        #[test]
        fn room_is_kept_and_the_modest_stay(
            steps in prop::collection::vec((0u8..6, prop::bool::weighted(0.7)), 0..200),
            replace: bool,
        ) {
            let when_full = if replace { WhenFull::Replace } else { WhenFull::Refuse };
            let mut seats = Seats::new(Room { max: 5, of_one_max: 3, when_full });
            let mut model: BTreeMap<Seat, u8> = BTreeMap::new();
            let count = |model: &BTreeMap<Seat, u8>, s: u8| model.values().filter(|of| **of == s).count();
            for (source, comes) in steps {
                if !comes {
                    let seat = model.iter().find(|(_, of)| **of == source).map(|(seat, _)| *seat);
                    if let Some(seat) = seat {
                        model.remove(&seat);
                        seats.leave(&source, seat);
                    }
                    continue;
                }
                let full = model.len() == 5 || count(&model, source) == 3;
                match seats.enter(&source) {
                    None => prop_assert!(full && !replace),
                    Some((seat, gone)) => {
                        prop_assert_eq!(gone.is_some(), full);
                        if let Some(gone) = gone {
                            let of = *model.get(&gone).expect("somebody who sat");
                            let most = model.values().map(|s| count(&model, *s)).max().unwrap();
                            prop_assert!(of == source || count(&model, of) == most);
                            model.remove(&gone);
                        }
                        prop_assert!(model.insert(seat, source).is_none());
                    }
                }
                prop_assert!(model.len() <= 5 && count(&model, source) <= 3);
                prop_assert_eq!(seats.taken, model.len());
            }
        }
    }
}
