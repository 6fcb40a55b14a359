//! The log in memory: where each retained entry lies, and the recent entries themselves.
//!
//! Entries are readable from the moment they are enqueued, before they are written; so each carries a ticket, and
//! the writer notes its place on disk only if it still is the same entry (it may have been truncated and
//! appended anew meanwhile).

use std::collections::VecDeque;

use quorate_journal::Location;

use super::{Command, IndexedId, LogEntry};

/// Enqueued, not yet on disk. Segment 0 does not exist.
const NOWHERE: Location = Location { segment: 0, offset: 0, len: 0 };

fn known(location: Location) -> Option<Location> {
    (location != NOWHERE).then_some(location)
}

struct Recent {
    ticket: u64,
    entry: LogEntry,
}

fn size(entry: &LogEntry) -> usize {
    entry.id.len() + entry.payload.len() + size_of::<Recent>()
}

/// Contiguous entries `first..next`; the last of them are also in the ring.
#[derive(Default)]
pub(super) struct Index {
    /// Index of `locations[0]`.
    first: u64,
    locations: VecDeque<Location>,
    /// The newest entries: a suffix of the log, at least all that are not yet written.
    ring: VecDeque<Recent>,
    ring_size: usize,
    ring_size_max: usize,
    tickets: u64,
    purged: Option<IndexedId>,
}

/// One entry as a reader finds it.
pub(super) enum Place {
    Memory(LogEntry),
    Disk(Location),
}

impl Index {
    /// An empty log whose next entry is `first`.
    pub(super) fn new(first: u64, purged: Option<IndexedId>, ring_size_max: usize) -> Self {
        Self { first, purged, ring_size_max, ..Self::default() }
    }
    /// The oldest retained entry would have this index.
    pub(super) fn first(&self) -> u64 {
        self.first
    }
    /// Index of the next entry.
    pub(super) fn next(&self) -> u64 {
        self.first + self.locations.len() as u64
    }
    pub(super) fn is_empty(&self) -> bool {
        self.locations.is_empty()
    }
    pub(super) fn purged(&self) -> Option<&IndexedId> {
        self.purged.as_ref()
    }

    /// What a log may do next, without doing it.
    pub(super) fn ends(&self) -> Ends {
        Ends { first: self.first, next: self.next(), purged: self.purged.as_ref().map(|(index, _)| *index) }
    }

    /// Takes an entry that is about to be written; returns its ticket.
    pub(super) fn enqueue(&mut self, entry: LogEntry) -> u64 {
        self.jump(entry.index);
        self.tickets += 1;
        self.ring_size += size(&entry);
        self.ring.push_back(Recent { ticket: self.tickets, entry });
        self.locations.push_back(NOWHERE);
        self.tickets
    }

    /// Takes an entry found on disk.
    pub(super) fn recovered(&mut self, index: u64, location: Location) {
        self.jump(index);
        self.locations.push_back(location);
    }

    /// Takes up a segment of the log at once: its entries, from `first` on, follow those before it; at its end the next entry
    /// is `next`.
    pub(super) fn resume(
        &mut self,
        first: u64,
        entries: impl Iterator<Item = Location>,
        next: u64,
        purged: Option<IndexedId>,
    ) -> Result<(), String> {
        if first < self.next() {
            self.truncate_after(first.checked_sub(1));
        } else if first > self.next() {
            let purged = purged.as_ref().map(|(index, _)| *index);
            if purged.is_some_and(|purged| purged.saturating_add(1) < first) || purged.is_none() && !self.is_empty() {
                return Err(format!("log entries {} to {} are missing before it", self.next(), first - 1));
            }
            (self.first, self.locations) = (first, VecDeque::new());
        }
        self.locations.extend(entries);
        if let Some(id) = purged {
            self.purge(id);
        }
        match self.next() == next {
            true => Ok(()),
            false => Err(format!("it ends before log entry {}, and what follows it before {next}", self.next())),
        }
    }

    /// The first entry of a log that never had one may have any index.
    fn jump(&mut self, index: u64) {
        if self.is_empty() {
            self.first = index;
        }
        debug_assert_eq!(index, self.next());
    }

    /// The entry enqueued with this ticket is now at `location`, and synced.
    pub(super) fn note_place(&mut self, index: u64, ticket: u64, location: Location) {
        let ring_first = self.next() - self.ring.len() as u64;
        let Some(place) = index.checked_sub(ring_first) else { return };
        if self.ring.get(place as usize).is_some_and(|r| r.ticket == ticket) {
            self.locations[(index - self.first) as usize] = location;
        }
    }

    /// Drops the oldest written entries from memory until the ring is within its bound.
    pub(super) fn trim(&mut self) {
        while self.ring_size > self.ring_size_max && !self.ring.is_empty() {
            let oldest = self.locations.len() - self.ring.len();
            if known(self.locations[oldest]).is_none() {
                return;
            }
            self.pop_ring_front();
        }
    }

    fn pop_ring_front(&mut self) {
        if let Some(recent) = self.ring.pop_front() {
            self.ring_size -= size(&recent.entry);
        }
    }

    pub(super) fn truncate_after(&mut self, index: Option<u64>) {
        let next = index.map_or(0, |i| i.saturating_add(1));
        while self.next() > next && !self.is_empty() {
            self.locations.pop_back();
            if let Some(recent) = self.ring.pop_back() {
                self.ring_size -= size(&recent.entry);
            }
        }
        if self.is_empty() {
            self.first = self.first.min(next);
        }
    }

    pub(super) fn purge(&mut self, id: IndexedId) {
        let index = id.0;
        if self.purged.as_ref().is_some_and(|(old, _)| *old >= index) {
            return;
        }
        self.purged = Some(id);
        while self.first <= index && !self.is_empty() {
            if self.ring.len() == self.locations.len() {
                self.pop_ring_front();
            }
            self.locations.pop_front();
            self.first += 1;
        }
        if self.is_empty() {
            self.first = self.first.max(index + 1);
        }
    }

    /// Where to read an entry.
    pub(super) fn place(&self, index: u64) -> Option<Place> {
        let at = index.checked_sub(self.first)? as usize;
        let location = *self.locations.get(at)?;
        let ring_first = self.locations.len() - self.ring.len();
        Some(match at.checked_sub(ring_first) {
            Some(i) => Place::Memory(self.ring[i].entry.clone()),
            None => Place::Disk(location),
        })
    }

    /// The highest index such that the entries after it fill at least `bytes` of segments of `segment_bytes`.
    pub(super) fn before_last_bytes(&self, bytes: u64, segment_bytes: u64) -> Option<u64> {
        let position = |l: Location| l.segment.saturating_mul(segment_bytes) + u64::from(l.offset);
        let written = self.locations.len() - self.locations.iter().rev().take_while(|l| known(**l).is_none()).count();
        let end = position(*self.locations.get(written.checked_sub(1)?)?);
        let (mut low, mut high) = (0, written);
        // The first entry at less than `bytes` before the end; the one before it may go.
        while low < high {
            let middle = (low + high) / 2;
            if end - position(self.locations[middle]) >= bytes { low = middle + 1 } else { high = middle }
        }
        low.checked_sub(1)?.checked_sub(1).map(|at| self.first + at as u64)
    }

    /// The highest index before the segment of the newest entry written.
    pub(super) fn before_newest_segment(&self) -> Option<u64> {
        let newest = self.locations.iter().rev().find(|l| known(**l).is_some())?.segment;
        let older = self.locations.partition_point(|l| known(*l).is_some_and(|l| l.segment < newest));
        older.checked_sub(1).map(|at| self.first + at as u64)
    }

    /// Bytes from the oldest retained entry to the newest.
    pub(super) fn retained_bytes(&self, segment_bytes: u64) -> u64 {
        let position = |l: &Location| l.segment.saturating_mul(segment_bytes) + u64::from(l.offset + l.len);
        let written = |l: &&Location| known(**l).is_some();
        match (self.locations.front().filter(written), self.locations.iter().rev().find(written)) {
            (Some(first), Some(last)) => position(last) - position(first) + u64::from(first.len),
            _ => 0,
        }
    }
}

/// The ends of a log, enough to tell whether commands fit on it.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    first: u64,
    next: u64,
    purged: Option<u64>,
}

impl Ends {
    /// Moves past a command; says what is wrong with it, if it cannot follow.
    pub(super) fn follow(&mut self, command: &Command) -> Result<(), String> {
        match command {
            Command::Entry(e) => {
                let empty = self.next <= self.first;
                if e.index != self.next && !(empty && self.purged.is_none() && e.index < u64::MAX) {
                    return Err(format!("entry {} cannot follow: the next index is {}", e.index, self.next));
                }
                if empty {
                    self.first = e.index;
                }
                self.next = e.index + 1;
            }
            Command::TruncateAfter(index) => {
                let next = index.map_or(0, |i| i.saturating_add(1));
                if self.purged.is_some_and(|purged| next <= purged) {
                    return Err(format!("truncation after {index:?} reaches into purged entries ({:?})", self.purged));
                }
                self.next = self.next.min(next);
                self.first = self.first.min(next);
            }
            Command::Purge((index, _)) => {
                if *index == u64::MAX {
                    return Err("purge up to the last possible index".to_owned());
                }
                self.purged = self.purged.max(Some(*index));
                self.next = self.next.max(index + 1);
                self.first = self.first.max(index + 1).min(self.next);
            }
            Command::Vote(_) | Command::Committed(_) | Command::Checkpoint(_) | Command::Seen(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(index: u64) -> LogEntry {
        LogEntry { index, id: Bytes::from_static(b"id"), payload: Bytes::from(vec![0; 100]) }
    }

    fn at(index: u64) -> Location {
        // Ten records of 100 bytes to a segment of 1000.
        Location { segment: 1 + index / 10, offset: (index % 10 * 100) as u32, len: 100 }
    }

    fn written(count: u64, ring: usize) -> Index {
        let mut index = Index::new(0, None, ring);
        for i in 0..count {
            let ticket = index.enqueue(entry(i));
            index.note_place(i, ticket, at(i));
        }
        index.trim();
        index
    }

    #[test]
    fn the_ring_keeps_the_newest_and_all_that_is_unwritten() {
        let mut index = written(100, 5 * size(&entry(0)));
        assert_eq!(index.ring.len(), 5);
        assert!(matches!(index.place(94), Some(Place::Disk(l)) if l == at(94)));
        assert!(matches!(index.place(95), Some(Place::Memory(e)) if e.index == 95));
        let tickets: Vec<_> = (100..120).map(|i| index.enqueue(entry(i))).collect();
        index.trim();
        assert_eq!(index.ring.len(), 20);
        index.note_place(100, tickets[0], at(100));
        index.trim();
        assert_eq!(index.ring.len(), 19);
    }

    #[test]
    fn a_place_on_disk_is_taken_only_by_the_entry_it_was_written_for() {
        let mut index = written(3, 1 << 20);
        let old = index.enqueue(entry(3));
        index.truncate_after(Some(2));
        let new = index.enqueue(entry(3));
        index.note_place(3, old, at(3));
        assert_eq!(index.locations[3], NOWHERE);
        index.note_place(3, new, at(4));
        assert_eq!(index.locations[3], at(4));
        // Long gone, or not yet there: nothing happens.
        index.purge((3, Bytes::new()));
        index.note_place(1, old, at(1));
        index.note_place(9, new, at(9));
        assert!(index.is_empty() && index.next() == 4);
    }

    #[test]
    fn purge_keeping_leaves_at_least_what_was_asked_for() {
        let index = written(100, 0);
        assert_eq!(index.retained_bytes(1000), 10_000);
        // Entries 50..=99 begin 4900 bytes before the last one begins.
        assert_eq!(index.before_last_bytes(4900, 1000), Some(49));
        assert_eq!(index.before_last_bytes(4901, 1000), Some(48));
        assert_eq!(index.before_last_bytes(20_000, 1000), None);
        assert_eq!(Index::new(0, None, 0).before_last_bytes(1, 1000), None);
        assert_eq!(Index::new(0, None, 0).retained_bytes(1000), 0);
    }

    #[test]
    fn a_purge_beyond_the_end_moves_the_log() {
        let mut index = written(3, 1 << 20);
        index.purge((10, Bytes::new()));
        assert_eq!((index.first(), index.next(), index.is_empty()), (11, 11, true));
        index.purge((5, Bytes::new()));
        assert_eq!(index.purged().map(|(i, _)| *i), Some(10));
        let mut ends = index.ends();
        assert!(ends.follow(&Command::Entry(entry(3))).is_err());
        ends.follow(&Command::Entry(entry(11))).expect("follows");
    }
}
