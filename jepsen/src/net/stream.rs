//! What happens to the bytes of one direction between two places, where connections are all that can be reached. Pure.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;

use super::{Counts, Policy};

/// What becomes of a piece of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It arrives then; never before what was sent earlier.
    Arrives(Duration),
    /// It does not, and its direction of the connection ends in order.
    HalfCloses,
    /// It does not, and the connection is reset.
    Resets,
}

/// One direction between two places.
pub struct Flow {
    rng: StdRng,
    held: bool,
    policy: Option<Policy>,
    counts: Counts,
    /// When the last piece will have left, by the rate.
    free_at: Duration,
    /// Since TCP keeps the order: nothing arrives before this.
    latest: Duration,
}

impl Flow {
    /// A sound one.
    pub fn new(rng: StdRng) -> Self {
        let zero = Duration::ZERO;
        Self { rng, held: false, policy: None, counts: Counts::default(), free_at: zero, latest: zero }
    }

    /// Holds everything back, or lets it go on.
    pub fn set_held(&mut self, held: bool) {
        self.held = held;
    }

    /// Whether something has to wait; counted when it is met for the first time.
    pub fn is_held(&mut self, first: bool) -> bool {
        self.counts.cut += u64::from(self.held && first);
        self.held
    }

    /// How much had to wait since the last call.
    pub fn take_held(&mut self) -> u64 {
        std::mem::take(&mut self.counts.cut)
    }

    /// From now on it treats pieces so.
    pub fn set_policy(&mut self, policy: Option<Policy>) {
        self.policy = policy;
    }

    /// What happened since the last call, by the policy.
    pub fn take_counts(&mut self) -> Counts {
        let cut = self.counts.cut;
        Counts { cut: 0, ..std::mem::replace(&mut self.counts, Counts { cut, ..Counts::default() }) }
    }

    /// A piece is sent at `now`.
    pub fn pass(&mut self, now: Duration, piece: &mut [u8]) -> Fate {
        let mut due = now;
        if let Some(policy) = &self.policy {
            let (rng, counts) = (&mut self.rng, &mut self.counts);
            counts.seen += 1;
            let [forge, half_close, reset] = std::array::from_fn(|_| rng.random::<f64>());
            if reset < policy.reset {
                counts.reset += 1;
                return Fate::Resets;
            }
            if half_close < policy.half_close {
                counts.half_closed += 1;
                return Fate::HalfCloses;
            }
            if forge < policy.forge && !piece.is_empty() {
                let byte = rng.random_range(0..piece.len());
                piece[byte] ^= 1 << rng.random_range(0..8);
                counts.forged += 1;
            }
            if let Some(rate) = policy.rate {
                let start = self.free_at.max(now);
                counts.limited += u64::from(start > now);
                self.free_at = start + Duration::from_secs_f64(piece.len() as f64 / rate.max(1) as f64);
                due = self.free_at;
            }
            counts.delayed += u64::from(!policy.delay.is_zero());
            due += policy.delay;
        }
        self.latest = self.latest.max(due);
        Fate::Arrives(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::stream;

    const MS: Duration = Duration::from_millis(1);

    fn sent(policy: Policy) -> (Counts, Vec<(Fate, Vec<u8>)>) {
        let mut flow = Flow::new(stream(7, "flow", 12));
        flow.set_policy(Some(policy));
        let fates = (0..1000).map(|i| {
            let mut piece = vec![i as u8; 100];
            (flow.pass(MS * i, &mut piece), piece)
        });
        let fates = fates.collect();
        (flow.take_counts(), fates)
    }

    #[test]
    fn each_part_of_a_policy_does_its_own() {
        let (counts, fates) = sent(Policy { delay: 20 * MS, ..Policy::default() });
        assert_eq!((counts.seen, counts.delayed, counts.limited), (1000, 1000, 0));
        assert!(fates.iter().zip(0..).all(|((fate, _), i)| *fate == Fate::Arrives(MS * i + 20 * MS)));

        let (counts, fates) = sent(Policy { rate: Some(50_000), ..Policy::default() });
        assert!(counts.limited > 900);
        assert_eq!(fates[999].0, Fate::Arrives(2000 * MS), "100 bytes take 2 ms");

        let (counts, fates) = sent(Policy { forge: 0.1, ..Policy::default() });
        let changed = fates.iter().zip(0..).filter(|((_, piece), i)| *piece != vec![*i as u8; 100]).count() as u64;
        assert!(counts.forged > 50 && changed == counts.forged);

        let (counts, fates) = sent(Policy { reset: 0.1, half_close: 0.1, ..Policy::default() });
        let of = |wanted| fates.iter().filter(|(fate, _)| *fate == wanted).count() as u64;
        assert!(counts.reset > 50 && of(Fate::Resets) == counts.reset);
        assert!(counts.half_closed > 50 && of(Fate::HalfCloses) == counts.half_closed);
    }

    #[test]
    fn what_is_held_is_counted_once() {
        let mut flow = Flow::new(stream(7, "flow", 12));
        assert!(!flow.is_held(true));
        flow.set_held(true);
        assert!(flow.is_held(true) && flow.is_held(false) && flow.is_held(false));
        flow.set_held(false);
        assert!(!flow.is_held(false));
        assert_eq!((flow.take_held(), flow.take_held()), (1, 0));
        assert_eq!(flow.pass(MS, &mut [1]), Fate::Arrives(MS));
        assert_eq!(flow.take_counts(), Counts::default());
    }
}
