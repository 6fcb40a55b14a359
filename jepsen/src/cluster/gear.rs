//! What nodes must be made with so that the faults of a run can happen to them.

use std::path::Path;

use super::clock::{Clock, Reach};
use super::token::Token;
use crate::nemesis::Kind;

/// The nodes' timing of elections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Profile {
    /// For nodes near each other; the product's default.
    #[default]
    Lan,
    /// For nodes far apart: where packets are late.
    Wan,
}

/// What nodes are made with.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Gear {
    /// A disk of its own for each, which can lose power.
    pub disks: bool,
    /// Times of day that can leap.
    pub wall: bool,
    /// Monotonic clocks that can run at another rate.
    pub monotonic: bool,
    /// Tokens that can fail.
    pub tokens: bool,
    /// When they believe that they lost their leader.
    pub profile: Profile,
    /// So short a log that who is away for a moment is sent the state.
    pub short_logs: bool,
    /// Memory that can be limited.
    pub limits: bool,
    /// A cluster marked for development: a deletion may wait for seconds.
    pub dev: bool,
}

impl Gear {
    /// What these kinds need.
    pub fn of(kinds: &[Kind]) -> Self {
        let any = |wanted: fn(&Kind) -> bool| kinds.iter().any(wanted);
        Self {
            disks: any(|k| k.takes_disks()),
            wall: any(|k| matches!(k, Kind::Clock | Kind::ClockLeap)),
            tokens: any(|k| k.breaks_tokens()),
            monotonic: any(|k| matches!(k, Kind::ClockRate)),
            short_logs: any(|k| matches!(k, Kind::Snapshot)),
            limits: any(|k| matches!(k, Kind::Memory)),
            dev: false,
            // Late packets are no loss of the leader where the profile expects them.
            profile: match any(|k| matches!(k, Kind::Packet | Kind::Stream)) {
                true => Profile::Wan,
                false => Profile::Lan,
            },
        }
    }

    /// Which clocks of a node are moved. A process's time of day can't leap while its monotonic clock is moved too: every
    /// other node has the one, the rest the other, when both are asked for.
    pub fn reach(self, node: u32) -> Option<Reach> {
        match (self.wall, self.monotonic) {
            (false, false) => None,
            (true, false) => Some(Reach::Wall),
            (false, true) => Some(Reach::Monotonic),
            (true, true) if node.is_multiple_of(2) => Some(Reach::Monotonic),
            (true, true) => Some(Reach::Wall),
        }
    }

    /// The token of a node whose folder is `dir`; none when it is left alone.
    pub(super) fn token(self, dir: &Path) -> anyhow::Result<Option<Token>> {
        self.tokens.then(|| Token::new(dir)).transpose()
    }

    /// The clock of a node whose folder is `dir`; none when time is left alone.
    pub(super) fn clock(self, dir: &Path, node: u32) -> anyhow::Result<Option<Clock>> {
        self.reach(node).map(|reach| Clock::new(dir, reach)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_get_what_the_kinds_need() {
        assert_eq!(Gear::of(&[Kind::Kill, Kind::Seal]), Gear::default());
        assert!(Gear::of(&[Kind::Power]).disks && Gear::of(&[Kind::HsmWrong]).tokens);
        let both = Gear::of(&[Kind::Clock, Kind::ClockRate]);
        assert_eq!([1, 2, 3].map(|n| both.reach(n)), [Reach::Wall, Reach::Monotonic, Reach::Wall].map(Some));
        assert_eq!(Gear::of(&[Kind::Clock]).reach(2), Some(Reach::Wall));
        assert_eq!(Gear::of(&[Kind::ClockRate]).reach(1), Some(Reach::Monotonic));
        assert_eq!(Gear::default().reach(1), None);
        assert!(Gear::of(&[Kind::Snapshot]).short_logs && Gear::of(&[Kind::Memory]).limits);
        assert_eq!(Gear::of(&[Kind::Kill, Kind::Packet]).profile, Profile::Wan);
    }
}
