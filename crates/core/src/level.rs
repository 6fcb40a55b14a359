//! Feature levels (key-log §6): which formats and rules a cluster works by, so that it can be upgraded while it runs.
//!
//! A newer build speaks a higher level; the cluster works at the highest that *all* its members speak. What that level brought
//! is used from then on, and no build below it can take part any more. It never falls.

use std::fmt;

use thiserror::Error;

/// A feature level; the first is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Level(pub u32);

/// The highest level that this build speaks.
pub const LEVEL: Level = Level::FIRST;
/// The lowest level of a cluster that this build still works in: for anything lower, its old rules are no longer in the code.
pub const LOWEST: Level = Level::FIRST;

impl Level {
    /// Of a cluster that was never raised to another.
    pub const FIRST: Self = Self(1);
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The levels that a node works at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Levels {
    /// The lowest.
    pub lowest: Level,
    /// The highest: what it says to the others that it speaks.
    pub highest: Level,
}

/// Those of this build.
impl Default for Levels {
    fn default() -> Self {
        Self { lowest: LOWEST, highest: LEVEL }
    }
}

impl Levels {
    /// Whether a node that works at these can take part in a cluster that works at `level`.
    ///
    /// # Errors
    /// With what has to be done at that node.
    pub fn check(self, level: Level) -> Result<(), Unfit> {
        let Self { lowest, highest } = self;
        match level {
            level if level > highest => Err(Unfit::TooOld { level, highest }),
            level if level < lowest => Err(Unfit::TooNew { level, lowest }),
            _ => Ok(()),
        }
    }
}

/// Why a node can't take part in a cluster, said to who runs that node.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Unfit {
    /// The cluster has left it behind.
    #[error(
        "the cluster works at feature level {level}, and this quorate speaks no level above {highest}: upgrade quorate on this \
         node to a version that speaks level {level}"
    )]
    TooOld {
        /// The cluster's level.
        level: Level,
        /// The highest that the node speaks.
        highest: Level,
    },
    /// It is too far ahead.
    #[error(
        "the cluster works at feature level {level}, and this quorate works from level {lowest} on: run a version in between on \
         all nodes first, until the cluster has risen"
    )]
    TooNew {
        /// The cluster's level.
        level: Level,
        /// The lowest that the node works at.
        lowest: Level,
    },
}

/// What a cluster rises to whose members have said what they speak, each; none when it stays where it is, which it does as long as one
/// of them is silent.
pub fn raised(now: Level, spoken: impl IntoIterator<Item = Option<Level>>) -> Option<Level> {
    let all: Option<Vec<Level>> = spoken.into_iter().collect();
    all?.into_iter().min().filter(|common| *common > now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cluster_rises_to_what_all_speak_and_waits_for_who_is_silent() {
        let to = |now, spoken: &[Option<u32>]| raised(Level(now), spoken.iter().map(|l| l.map(Level))).map(|l| l.0);
        assert_eq!(to(1, &[Some(2), Some(2), Some(2)]), Some(2));
        assert_eq!(to(1, &[Some(4), Some(3)]), Some(3));
        assert_eq!(to(1, &[Some(2), Some(1), Some(2)]), None, "one is behind");
        assert_eq!(to(1, &[Some(2), None, Some(2)]), None, "one is silent");
        assert_eq!(to(2, &[Some(2), Some(3)]), None, "it is there");
        assert_eq!(to(3, &[Some(2)]), None, "it never falls");
        assert_eq!(to(1, &[]), None, "of nobody nothing is known");
    }

    #[test]
    fn who_can_take_part_is_told_and_who_can_not_is_told_what_to_do() {
        let speaks = Levels { lowest: Level(2), highest: Level(3) };
        assert_eq!([2, 3].map(|level| speaks.check(Level(level))), [Ok(()), Ok(())]);
        let old = speaks.check(Level(4)).unwrap_err();
        assert_eq!(old, Unfit::TooOld { level: Level(4), highest: Level(3) });
        assert!(old.to_string().contains("level 4") && old.to_string().contains("upgrade quorate"), "{old}");
        let new = speaks.check(Level(1)).unwrap_err();
        assert_eq!(new, Unfit::TooNew { level: Level(1), lowest: Level(2) });
        assert!(new.to_string().contains("version in between"), "{new}");
        assert_eq!(Levels::default().check(Level::FIRST), Ok(()), "a new cluster begins at the first");
    }

    proptest! {
        #[test]
        fn nobody_is_left_behind(now in 1u32..9, spoken in proptest::collection::vec(proptest::option::weighted(0.9, 1u32..9), 0..6)) {
            match raised(Level(now), spoken.iter().map(|l| l.map(Level))) {
                Some(Level(to)) => {
                    prop_assert!(to > now && spoken.iter().all(|l| l.is_some_and(|l| l >= to)));
                    prop_assert!(spoken.contains(&Some(to)), "as high as they all speak");
                }
                None => prop_assert!(spoken.is_empty() || spoken.iter().any(|l| l.is_none_or(|l| l <= now))),
            }
        }
    }
}
