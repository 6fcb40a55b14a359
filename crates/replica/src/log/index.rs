//! The log in memory: where to look for each retained entry, and the recent entries themselves.
//!
//! Entries are readable from the moment they are enqueued, before they are written; so each carries a ticket, and
//! the writer notes its place on disk only if it still is the same entry (it may have been truncated and
//! appended anew meanwhile).
//!
//! Of what is on disk not every place is known: that would grow with the log without a bound. There is an anchor for every
//! [`STRETCH`], and who wants an entry reads on from the one before it. So there is one, too, wherever the entry after
//! the last one is not the next record of an entry: in another segment, or after entries that were cut off.

use std::collections::VecDeque;
use std::ops::Range;

use quorate_journal::Location;

use super::held::Held;
use super::{Command, IndexedId, LogEntry};

/// Bytes between two anchors, about: what is read in vain for one entry.
pub(super) const STRETCH: u32 = 64 << 10;

struct Recent {
    ticket: u64,
    entry: LogEntry,
}

fn size(entry: &LogEntry) -> usize {
    entry.id.len() + entry.payload.len() + size_of::<Recent>()
}

/// Where an entry lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Anchor {
    index: u64,
    segment: u64,
    offset: u32,
}

impl Anchor {
    fn position(&self, segment_bytes: u64) -> u64 {
        self.segment.saturating_mul(segment_bytes) + u64::from(self.offset)
    }
}

/// Entries that lie one after another: whoever reads on from there meets each of them, in order, before any other entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stretch {
    pub(super) segment: u64,
    pub(super) offset: u32,
    /// Those of them that are wanted.
    pub(super) entries: Range<u64>,
}

/// Contiguous entries `first..next`, those before `written` on disk; the last of them are also in the ring.
#[derive(Default)]
pub(super) struct Index {
    first: u64,
    next: u64,
    written: u64,
    /// In order; the first one may be of an entry that was purged.
    anchors: VecDeque<Anchor>,
    /// Where the last entry that was written begins and ends, in its segment; less than a [`STRETCH`] earlier after a cut.
    last: (u32, u32),
    /// The next entry does not follow the last one in its segment.
    cut: bool,
    /// The newest entries: a suffix of the log, at least all that are not yet written.
    ring: VecDeque<Recent>,
    ring_size: usize,
    ring_size_max: usize,
    tickets: u64,
    purged: Option<IndexedId>,
    /// What was written where, whether it is in the log now or not.
    pub(super) held: Held,
}

impl Index {
    /// An empty log whose next entry is `first`.
    pub(super) fn new(first: u64, purged: Option<IndexedId>, ring_size_max: usize) -> Self {
        Self { first, next: first, written: first, purged, ring_size_max, ..Self::default() }
    }
    /// The oldest retained entry would have this index.
    pub(super) fn first(&self) -> u64 {
        self.first
    }
    /// Index of the next entry.
    pub(super) fn next(&self) -> u64 {
        self.next
    }
    pub(super) fn is_empty(&self) -> bool {
        self.first == self.next
    }
    pub(super) fn purged(&self) -> Option<&IndexedId> {
        self.purged.as_ref()
    }

    /// What a log may do next, without doing it.
    pub(super) fn ends(&self) -> Ends {
        Ends { first: self.first, next: self.next, purged: self.purged.as_ref().map(|(index, _)| *index) }
    }

    /// Takes an entry that is about to be written; returns its ticket.
    pub(super) fn enqueue(&mut self, entry: LogEntry) -> u64 {
        self.jump(entry.index);
        self.tickets += 1;
        self.ring_size += size(&entry);
        self.ring.push_back(Recent { ticket: self.tickets, entry });
        self.next += 1;
        self.tickets
    }

    /// Takes an entry found on disk.
    pub(super) fn recovered(&mut self, index: u64, location: Location) {
        self.jump(index);
        self.next += 1;
        self.held.wrote(index, location.segment);
        self.place(index, location);
    }

    /// Takes up a segment of the log at once: its entries, from `first` on, follow those before it; at its end the next entry
    /// is `next`. With each goes whether entries were cut off just before it.
    pub(super) fn resume(
        &mut self,
        first: u64,
        entries: impl Iterator<Item = (Location, bool)>,
        next: u64,
        purged: Option<IndexedId>,
    ) -> Result<(), String> {
        if first < self.next {
            self.truncate_after(first.checked_sub(1));
        } else if first > self.next {
            let purged = purged.as_ref().map(|(index, _)| *index);
            if purged.is_some_and(|purged| purged.saturating_add(1) < first) || purged.is_none() && !self.is_empty() {
                return Err(format!("log entries {} to {} are missing before it", self.next, first - 1));
            }
            self.begin_at(first);
        }
        for (location, cut) in entries {
            self.cut |= cut;
            self.next += 1;
            self.place(self.next - 1, location);
        }
        if let Some(id) = purged {
            self.purge(id);
        }
        match self.next == next {
            true => Ok(()),
            false => Err(format!("it ends before log entry {}, and what follows it before {next}", self.next)),
        }
    }

    /// The first entry of a log that never had one may have any index.
    fn jump(&mut self, index: u64) {
        if self.is_empty() {
            self.begin_at(index);
        }
        debug_assert_eq!(index, self.next);
    }

    /// Nothing is there but what comes from this one on.
    fn begin_at(&mut self, index: u64) {
        (self.first, self.next, self.written) = (index, index, index);
        (self.ring_size, self.cut) = (0, true);
        self.ring.clear();
        self.anchors.clear();
    }

    /// The entry enqueued with this ticket is now at `location`, and synced.
    pub(super) fn note_place(&mut self, index: u64, ticket: u64, location: Location) {
        self.held.wrote(index, location.segment);
        let place = index.checked_sub(self.ring_first());
        match place.and_then(|place| self.ring.get(place as usize)).is_some_and(|recent| recent.ticket == ticket) {
            true => self.place(index, location),
            // It lies between those that are in the log.
            false => self.cut = true,
        }
    }

    fn place(&mut self, index: u64, Location { segment, offset, len }: Location) {
        let near = |anchor: &Anchor| anchor.segment == segment && offset - anchor.offset < STRETCH;
        if self.cut || !self.anchors.back().is_some_and(near) {
            self.anchors.push_back(Anchor { index, segment, offset });
        }
        (self.written, self.last, self.cut) = (index + 1, (offset, offset + len), false);
    }

    fn ring_first(&self) -> u64 {
        self.next - self.ring.len() as u64
    }

    /// Drops the oldest written entries from memory until the ring is within its bound.
    pub(super) fn trim(&mut self) {
        while self.ring_size > self.ring_size_max && self.ring_first() < self.written {
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
        if next <= self.first {
            self.begin_at(next);
            return;
        }
        while self.next > next {
            self.next -= 1;
            if let Some(recent) = self.ring.pop_back() {
                self.ring_size -= size(&recent.entry);
            }
        }
        while self.anchors.back().is_some_and(|anchor| anchor.index >= self.next) {
            self.anchors.pop_back();
        }
        if self.written > self.next {
            self.written = self.next;
            self.last = self.anchors.back().map_or((0, 0), |anchor| (anchor.offset, anchor.offset));
        }
        self.cut = true;
    }

    pub(super) fn purge(&mut self, id: IndexedId) {
        let first = id.0 + 1;
        if self.purged.as_ref().is_some_and(|(old, _)| *old >= id.0) {
            return;
        }
        self.purged = Some(id);
        if first >= self.next {
            self.begin_at(first.max(self.first));
        }
        while self.first < first {
            if self.ring_first() == self.first {
                self.pop_ring_front();
            }
            self.first += 1;
        }
        self.written = self.written.max(self.first);
        while self.anchors.get(1).is_some_and(|anchor| anchor.index <= self.first) {
            self.anchors.pop_front();
        }
    }

    /// The entries in `range` that are in memory.
    pub(super) fn recent(&self, range: Range<u64>) -> impl Iterator<Item = &LogEntry> {
        let at = |index: u64| (index.saturating_sub(self.ring_first()) as usize).min(self.ring.len());
        self.ring.range(at(range.start)..at(range.end).max(at(range.start))).map(|recent| &recent.entry)
    }

    /// Where those in `range` are that are not.
    pub(super) fn on_disk(&self, range: Range<u64>) -> impl Iterator<Item = Stretch> {
        let (start, end) = (range.start.max(self.first), range.end.min(self.ring_first()));
        let before = self.anchors.partition_point(|anchor| anchor.index <= start);
        let from = before.saturating_sub(1);
        let ends = self.anchors.range(from..).skip(1).map(|anchor| anchor.index).chain([self.next]);
        self.anchors.range(from..).zip(ends).take_while(move |(anchor, _)| start < end && anchor.index < end).map(
            move |(Anchor { index, segment, offset }, next)| {
                let entries = start.max(*index)..end.min(next);
                Stretch { segment: *segment, offset: *offset, entries }
            },
        )
    }

    /// The highest index such that the entries after it fill at least `bytes` of segments of `segment_bytes`.
    pub(super) fn before_last_bytes(&self, bytes: u64, segment_bytes: u64) -> Option<u64> {
        let newest = self.anchors.back()?;
        let end = Anchor { offset: self.last.0, ..*newest }.position(segment_bytes);
        let far = |anchor: &Anchor| end.saturating_sub(anchor.position(segment_bytes)) >= bytes;
        self.before(self.anchors.partition_point(far).checked_sub(1)?)
    }

    /// The highest index before the segment of the newest entry written.
    pub(super) fn before_newest_segment(&self) -> Option<u64> {
        let newest = self.anchors.back()?.segment;
        self.before(self.anchors.partition_point(|anchor| anchor.segment < newest))
    }

    /// The index before an anchor, if there is an entry.
    fn before(&self, anchor: usize) -> Option<u64> {
        self.anchors.get(anchor)?.index.checked_sub(1).filter(|index| *index >= self.first)
    }

    /// The last entry of a segment that another follows.
    pub(super) fn last_of_segment(&self, segment: u64) -> Option<u64> {
        self.before(self.anchors.partition_point(|anchor| anchor.segment <= segment))
    }

    /// Bytes from the oldest retained entry to the newest.
    pub(super) fn retained_bytes(&self, segment_bytes: u64) -> u64 {
        match (self.anchors.front(), self.anchors.back()) {
            (Some(first), Some(newest)) => {
                let end = Anchor { offset: self.last.1, ..*newest };
                end.position(segment_bytes).saturating_sub(first.position(segment_bytes))
            }
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

    /// Ten records of nearly half a stretch to a segment.
    const LEN: u32 = STRETCH / 2 - 1;
    const SEGMENT: u64 = 10 * LEN as u64;

    fn at(index: u64) -> Location {
        Location { segment: 1 + index / 10, offset: (index % 10) as u32 * LEN, len: LEN }
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

    fn in_memory(index: &Index) -> Vec<u64> {
        index.recent(0..u64::MAX).map(|entry| entry.index).collect()
    }

    /// Where entries are looked for: the entry at the anchor, and what is wanted from there.
    fn looked_for(index: &Index, range: Range<u64>) -> Vec<(u64, Range<u64>)> {
        let anchor = |s: &Stretch| (s.segment - 1) * 10 + u64::from(s.offset / LEN);
        index.on_disk(range).map(|s| (anchor(&s), s.entries)).collect()
    }

    #[test]
    fn the_ring_keeps_the_newest_and_all_that_is_unwritten() {
        let mut index = written(100, 5 * size(&entry(0)));
        assert_eq!(in_memory(&index), [95, 96, 97, 98, 99]);
        assert_eq!(looked_for(&index, 94..99), [(93, 94..95)]);
        let tickets: Vec<_> = (100..120).map(|i| index.enqueue(entry(i))).collect();
        index.trim();
        assert_eq!(in_memory(&index), (100..120).collect::<Vec<_>>());
        index.note_place(100, tickets[0], at(100));
        index.trim();
        assert_eq!(in_memory(&index).len(), 19);
    }

    #[test]
    fn an_entry_is_looked_for_from_the_anchor_before_it() {
        let mut index = written(40, 0);
        let of_a_segment = [0, 3, 6, 9];
        assert!(index.anchors.iter().map(|a| a.index % 10).eq(of_a_segment.into_iter().cycle().take(16)));
        assert_eq!(looked_for(&index, 7..14), [(6, 7..9), (9, 9..10), (10, 10..13), (13, 13..14)]);
        assert_eq!(looked_for(&index, 39..90), [(39, 39..40)]);
        assert_eq!((looked_for(&index, 40..90), looked_for(&index, 5..5)), (vec![], vec![]));
        assert_eq!(index.last_of_segment(2), Some(19));
        assert_eq!(index.last_of_segment(4), None, "nothing follows it");
        index.purge((14, Bytes::new()));
        assert_eq!(looked_for(&index, 0..17), [(13, 15..16), (16, 16..17)]);
    }

    #[test]
    fn what_was_cut_off_is_never_met_before_what_took_its_place() {
        let mut index = written(12, 0);
        index.truncate_after(Some(10));
        // Behind what was cut off.
        let ticket = index.enqueue(entry(11));
        index.note_place(11, ticket, at(12));
        index.trim();
        assert_eq!(looked_for(&index, 10..12), [(10, 10..11), (12, 11..12)]);
        // Cut off before it was written, and written all the same.
        let old = index.enqueue(entry(12));
        index.truncate_after(Some(11));
        let new = index.enqueue(entry(12));
        index.note_place(12, old, at(13));
        assert_eq!(index.written, 12);
        index.note_place(12, new, at(14));
        index.trim();
        assert_eq!(looked_for(&index, 11..13), [(12, 11..12), (14, 12..13)]);
        // Long gone, or not yet there: nothing happens.
        index.purge((12, Bytes::new()));
        index.note_place(1, old, at(1));
        index.note_place(19, new, at(19));
        assert!(index.is_empty() && index.next() == 13);
    }

    #[test]
    fn a_segment_is_taken_up_with_what_was_cut_off_in_it() {
        let mut index = written(10, 0);
        let entries = [(at(10), false), (at(11), false), (at(15), true)];
        index.resume(10, entries.into_iter(), 13, None).expect("follows");
        assert_eq!(looked_for(&index, 9..13), [(9, 9..10), (10, 10..12), (15, 12..13)]);
        assert!(index.resume(14, [(at(20), false)].into_iter(), 15, None).is_err(), "one is missing");
        index.resume(11, [(at(20), false)].into_iter(), 12, None).expect("after a cut");
        assert_eq!(looked_for(&index, 10..13), [(10, 10..11), (20, 11..12)]);
    }

    #[test]
    fn purge_keeping_leaves_at_least_what_was_asked_for_and_little_more() {
        let (index, len) = (written(100, 0), u64::from(LEN));
        assert_eq!(index.retained_bytes(SEGMENT), 100 * len);
        assert_eq!(index.before_last_bytes(49 * len, SEGMENT), Some(49), "the last begins 49 after the 50th");
        assert_eq!(index.before_last_bytes(49 * len + 1, SEGMENT), Some(48), "there is an anchor at the one before");
        assert_eq!(index.before_last_bytes(40 * len, SEGMENT), Some(58), "and here");
        assert_eq!(index.before_last_bytes(41 * len, SEGMENT), Some(55), "there is none at 58 and 57");
        assert_eq!(index.before_last_bytes(200 * len, SEGMENT), None);
        assert_eq!(index.before_newest_segment(), Some(89));
        assert_eq!(Index::new(0, None, 0).before_last_bytes(1, SEGMENT), None);
        assert_eq!(Index::new(0, None, 0).retained_bytes(SEGMENT), 0);
    }

    #[test]
    fn what_was_cut_off_is_not_counted() {
        let (mut index, len) = (written(40, 0), u64::from(LEN));
        // Into an older segment; the last anchor there is at 13.
        index.truncate_after(Some(14));
        let kept = index.retained_bytes(SEGMENT);
        assert!(kept <= 15 * len && kept + u64::from(STRETCH) > 15 * len, "{kept}");
        assert_eq!(index.before_last_bytes(10 * len, SEGMENT), Some(2));
        // What is not written yet counts for nothing, nor does that it is cut off.
        let mut index = written(40, 0);
        index.enqueue(entry(40));
        index.truncate_after(Some(39));
        assert_eq!(index.retained_bytes(SEGMENT), 40 * len);
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
