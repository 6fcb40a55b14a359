//! What the journal's segments hold of the past: an entry's bytes lie in a file until all of that file is let go of, also when the
//! entry was purged, or cut off, long before.

use std::collections::VecDeque;

/// The lowest index that was written to each segment, the oldest segment first.
#[derive(Default)]
pub(super) struct Held(VecDeque<(u64, u64)>);

impl Held {
    /// An entry with this index was written to this segment.
    pub(super) fn wrote(&mut self, index: u64, segment: u64) {
        match self.0.back_mut() {
            Some((newest, lowest)) if *newest == segment => *lowest = (*lowest).min(index),
            _ => self.0.push_back((segment, index)),
        }
    }

    /// The lowest index of an entry that lies in a segment from this one on; none: no entry does. Older segments are forgotten.
    pub(super) fn from(&mut self, oldest: u64) -> Option<u64> {
        while self.0.front().is_some_and(|(segment, _)| *segment < oldest) {
            self.0.pop_front();
        }
        self.0.iter().map(|(_, lowest)| *lowest).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_held_for_as_long_as_their_segment_is() {
        let mut held = Held::default();
        (0..40).for_each(|index| held.wrote(index, 1 + index / 10));
        assert_eq!((held.from(1), held.from(2)), (Some(0), Some(10)));
        // What was cut off, and written again, lies in a later segment than before.
        held.wrote(18, 5);
        assert_eq!((held.from(4), held.from(5), held.from(6)), (Some(18), Some(18), None));
    }
}
