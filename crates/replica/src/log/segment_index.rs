//! The index at the end of a journal's segment, to the byte: where its entries lie, for a start that does not read them.
//!
//! ```text
//! first entry u64 ‖ highest ever written? u64 ‖ seen? ‖ entries, in order: gap ‖ its length      (x? = 0 | 1 ‖ x)
//! gap = 2 × bytes between it and the one before, + 1 if entries were cut off there
//! ```
//!
//! Gaps and lengths are varints (7 bits each, the lowest first, bit 8: more follow). Entries that were cut off or purged
//! when the segment was full are not in it.

use bytes::Bytes;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_journal::Location;

use super::Command;
use super::contents::read_optional;

const WHAT: &str = "index of a segment";
/// Longest words of the others that are looked for.
const SEEN_LEN_MAX: usize = 1 << 20;

/// Where one entry lies.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Place {
    offset: u32,
    len: u32,
    /// Entries were cut off just before it.
    cut: bool,
}

/// The entries of one segment.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct SegmentIndex {
    /// Index of the first of `places`, or of the next entry.
    pub(super) first: u64,
    places: Vec<Place>,
    /// Entries were cut off after the last one.
    cut: bool,
    /// The highest index ever written to it.
    pub(super) highest: Option<u64>,
}

impl SegmentIndex {
    /// Of a segment that begins with this entry.
    pub(super) fn new(first: u64) -> Self {
        Self { first, ..Self::default() }
    }

    fn next(&self) -> u64 {
        self.first + self.places.len() as u64
    }

    /// Moves past a record of the segment.
    pub(super) fn follow(&mut self, command: &Command, at: Location) {
        match command {
            Command::Entry(entry) => {
                if entry.index != self.next() {
                    (self.first, self.places) = (entry.index, Vec::new());
                }
                let cut = std::mem::take(&mut self.cut);
                self.places.push(Place { offset: at.offset, len: at.len, cut });
                self.highest = self.highest.max(Some(entry.index));
            }
            Command::TruncateAfter(last) => {
                let next = last.map_or(0, |last| last.saturating_add(1));
                self.places.truncate(next.saturating_sub(self.first) as usize);
                self.first = self.first.min(next);
                self.cut = true;
            }
            Command::Purge((purged, _)) if *purged >= self.first => {
                let gone = (purged - self.first).saturating_add(1).min(self.places.len() as u64);
                self.places.drain(..gone as usize);
                self.first = purged.saturating_add(1);
            }
            Command::Purge(_)
            | Command::Vote(_)
            | Command::Committed(_)
            | Command::Checkpoint(_)
            | Command::Seen(_) => {}
        }
    }

    /// Where its entries lie, in order, and whether entries were cut off just before each.
    pub(super) fn locations(&self, segment: u64) -> impl Iterator<Item = (Location, bool)> {
        self.places.iter().map(move |p| (Location { segment, offset: p.offset, len: p.len }, p.cut))
    }

    /// With the newest words of the others.
    pub(super) fn encode(&self, seen: Option<&Bytes>) -> Vec<u8> {
        let mut w = Writer::new().u64(self.first);
        w = match self.highest {
            None => w.u8(0),
            Some(highest) => w.u8(1).u64(highest),
        };
        w = match seen {
            None => w.u8(0),
            Some(words) => w.u8(1).field(words),
        };
        let mut bytes = w.finish();
        let mut end = 0;
        for Place { offset, len, cut } in &self.places {
            put_varint(&mut bytes, u64::from(offset - end) << 1 | u64::from(*cut));
            put_varint(&mut bytes, u64::from(*len));
            end = offset + len;
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<(Self, Option<Bytes>), Malformed> {
        let mut r = Reader::new(WHAT, bytes);
        let first = r.u64()?;
        let highest = read_optional(&mut r, |r| r.u64())?;
        let seen = read_optional(&mut r, |r| Ok(Bytes::copy_from_slice(r.field(SEEN_LEN_MAX)?)))?;
        let (mut places, mut end) = (Vec::new(), 0u32);
        while !r.rest().is_empty() {
            let gap = varint(&mut r)?;
            let cut = gap & 1 == 1;
            let sum = |a: u32, b: u64| u32::try_from(u64::from(a) + b).map_err(|_| Malformed(WHAT));
            let offset = sum(end, gap >> 1)?;
            let after = sum(offset, varint(&mut r)?)?;
            places.push(Place { offset, len: after - offset, cut });
            end = after;
        }
        Ok((Self { first, places, highest, cut: false }, seen))
    }
}

fn put_varint(bytes: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        bytes.push(n as u8 | 0x80);
        n >>= 7;
    }
    bytes.push(n as u8);
}

/// At most 35 bits.
fn varint(r: &mut Reader<'_>) -> Result<u64, Malformed> {
    let mut n = 0u64;
    for place in 0..5 {
        let byte = r.u8()?;
        n |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Ok(n);
        }
    }
    Err(Malformed(WHAT))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::log::LogEntry;

    fn entry(index: u64) -> Command {
        Command::Entry(LogEntry { index, id: Bytes::new(), payload: Bytes::new() })
    }

    proptest! {
        #[test]
        fn an_index_reads_back(
            first: u64,
            highest in proptest::option::of(any::<u64>()),
            seen in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..9)),
            gaps in proptest::collection::vec((0u32..1 << 21, 0u32..1 << 20, any::<bool>()), 0..50),
        ) {
            let (mut places, mut end) = (Vec::new(), 0);
            for (gap, len, cut) in gaps {
                places.push(Place { offset: end + gap, len, cut });
                end += gap + len;
            }
            let (index, seen) = (SegmentIndex { first, places, highest, cut: false }, seen.map(Bytes::from));
            let bytes = index.encode(seen.as_ref());
            prop_assert!(SegmentIndex::decode(&bytes).is_ok_and(|read| read == (index, seen)));
        }

        /// Whatever is given for one: an error, never a panic.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = SegmentIndex::decode(&bytes);
        }
    }

    #[test]
    fn it_has_what_is_left_of_the_entries() {
        let at = |n: u32| Location { segment: 3, offset: 100 * n, len: 90 };
        let places = |index: &SegmentIndex| -> Vec<u32> { index.locations(3).map(|(at, _)| at.offset / 100).collect() };
        let cuts = |index: &SegmentIndex| -> Vec<bool> { index.locations(3).map(|(_, cut)| cut).collect() };
        let mut index = SegmentIndex::new(5);
        for n in 5..10 {
            index.follow(&entry(n), at(n as u32));
        }
        index.follow(&Command::TruncateAfter(Some(6)), at(10));
        index.follow(&entry(7), at(11));
        assert_eq!((index.first, places(&index), index.highest), (5, vec![5, 6, 11], Some(9)));
        assert_eq!(cuts(&index), [false, false, true]);
        index.follow(&Command::Purge((5, Bytes::new())), at(12));
        assert_eq!((index.first, places(&index)), (6, vec![6, 11]));
        // Into what is in the segments before it.
        index.follow(&Command::TruncateAfter(Some(2)), at(13));
        assert_eq!((index.first, places(&index)), (3, vec![]));
        // Beyond the end: the log goes on there.
        index.follow(&Command::Purge((20, Bytes::new())), at(14));
        index.follow(&entry(21), at(15));
        assert_eq!((index.first, places(&index), index.highest), (21, vec![15], Some(21)));
        index.follow(&Command::TruncateAfter(None), at(16));
        assert_eq!((index.first, places(&index)), (0, vec![]));
    }
}
