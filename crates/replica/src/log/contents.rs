//! What the log's records amount to: the log as its journal's contents.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_journal::{Location, Record, Sealed};

use super::index::Index;
use super::reader::Shared;
use super::record::{self, META_LEN_MAX, read_indexed_id};
use super::segment_index::SegmentIndex;
use super::{Checkpoint, Command, IndexedId, Recovered, Stands};

/// A fold over all records, beside the entries.
///
/// ```text
/// next index u64 ‖ vote? ‖ committed? ‖ purged? ‖ checkpoint? ‖ the one before it?          (x? = 0 | 1 ‖ x)
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Fold {
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    purged: Option<IndexedId>,
    checkpoint: Option<Checkpoint>,
    /// The one before it: the state may still be that one.
    earlier: Option<Checkpoint>,
    /// Index of the next entry.
    next: u64,
}

impl Fold {
    fn encode(&self) -> Vec<u8> {
        let mut w = Writer::new().u64(self.next);
        for bytes in [&self.vote, &self.committed] {
            w = match bytes {
                None => w.u8(0),
                Some(b) => w.u8(1).field(b),
            };
        }
        w = match &self.purged {
            None => w.u8(0),
            Some((index, id)) => w.u8(1).u64(*index).field(id),
        };
        for checkpoint in [&self.checkpoint, &self.earlier] {
            w = match checkpoint {
                None => w.u8(0),
                Some(c) => c.write(w.u8(1)),
            };
        }
        w.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("summary of the log", bytes);
        let next = r.u64()?;
        let vote = read_optional(&mut r, |r| Ok(Bytes::copy_from_slice(r.field(META_LEN_MAX)?)))?;
        let committed = read_optional(&mut r, |r| Ok(Bytes::copy_from_slice(r.field(META_LEN_MAX)?)))?;
        let purged = read_optional(&mut r, read_indexed_id)?;
        let checkpoint = read_optional(&mut r, Checkpoint::read)?;
        let earlier = read_optional(&mut r, Checkpoint::read)?;
        r.finish()?;
        Ok(Self { vote, committed, purged, checkpoint, earlier, next })
    }

    /// Moves past a record.
    fn apply(&mut self, command: &Command) {
        match command {
            Command::Entry(e) => self.next = e.index + 1,
            Command::Vote(vote) => self.vote = Some(vote.clone()),
            Command::Committed(id) => self.committed = Some(id.clone()),
            Command::TruncateAfter(index) => {
                self.next = self.next.min(index.map_or(0, |i| i.saturating_add(1)));
            }
            Command::Purge(id) => {
                if self.purged.as_ref().is_none_or(|(old, _)| *old < id.0) {
                    self.next = self.next.max(id.0 + 1);
                    self.purged = Some(id.clone());
                }
            }
            Command::Checkpoint(c) => self.earlier = self.checkpoint.replace(*c),
            // Written anew before a purge, after which what held it can go, and not Raft's.
            Command::Seen(_) => {}
        }
    }
}

pub(super) fn read_optional<T>(
    r: &mut Reader<'_>,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    match r.u8()? {
        0 => Ok(None),
        1 => read(r).map(Some),
        _ => Err(Malformed("summary of the log")),
    }
}

/// The log, as far as it is synced; what readers see is in [`Shared`].
pub(super) struct Contents {
    shared: Arc<Shared>,
    fold: Fold,
    /// The newest words of the others.
    seen: Option<Bytes>,
    /// The segments that hold entries which are not purged, with the highest index ever written to each.
    segments: VecDeque<(u64, u64)>,
    oldest_needed: u64,
    /// The segment that is written, and where the entries in it are.
    newest: (u64, SegmentIndex),
}

impl Contents {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            fold: Fold::default(),
            seen: None,
            segments: VecDeque::new(),
            oldest_needed: 0,
            newest: Default::default(),
        }
    }

    pub(super) fn recovered(&self, start: quorate_journal::Recovered) -> Recovered {
        let fold = &self.fold;
        Recovered {
            vote: fold.vote.clone(),
            committed: fold.committed.clone(),
            stands: Stands { newest: fold.checkpoint, before: fold.earlier, from_first: fold.purged.is_none() },
            seen: self.seen.clone(),
            boot: start.boot,
            cut_bytes: start.cut_bytes,
        }
    }

    /// A record is synced.
    fn take(&mut self, command: &Command, at: Location) {
        if self.newest.0 != at.segment {
            self.newest = (at.segment, SegmentIndex::new(self.fold.next));
        }
        self.newest.1.follow(command, at);
        self.fold.apply(command);
        match command {
            Command::Entry(e) => self.holds(at.segment, e.index),
            Command::Purge(_) => self.let_go(at.segment),
            Command::Seen(words) => self.seen = Some(words.clone()),
            Command::Vote(_) | Command::Committed(_) | Command::TruncateAfter(_) | Command::Checkpoint(_) => {}
        }
    }

    /// A segment holds entries up to this one.
    fn holds(&mut self, segment: u64, index: u64) {
        match self.segments.back_mut() {
            Some((newest, highest)) if *newest == segment => *highest = (*highest).max(index),
            _ => self.segments.push_back((segment, index)),
        }
    }

    /// What was purged is not needed any more; the newest segment is.
    fn let_go(&mut self, newest: u64) {
        let purged = self.fold.purged.as_ref().map(|(index, _)| *index);
        while self.segments.front().is_some_and(|(_, highest)| Some(*highest) <= purged) {
            self.segments.pop_front();
        }
        self.oldest_needed = self.segments.front().map_or(newest, |(segment, _)| *segment);
    }
}

/// Whether every state that a start may find, given what the journal knew when its newest segment began, stands for all
/// entries before `next`: then these are only kept for members who were away.
fn stood_for(newest: &Fold, next: u64) -> bool {
    newest.earlier.is_some_and(|state| next <= state.index.saturating_add(1))
}

impl quorate_journal::Contents for Contents {
    fn summary(&self) -> Vec<u8> {
        self.fold.encode()
    }

    /// Moves with purges alone: what a segment holds beside entries is written anew before one.
    fn oldest_needed(&self) -> u64 {
        self.oldest_needed
    }

    fn synced(&mut self, records: &[(Record, Location)]) {
        let shared = Arc::clone(&self.shared);
        let mut inner = shared.lock();
        for (record, at) in records {
            let command = record::decode(record.kind, &record.body).expect("it was encoded by stage");
            if let Command::Entry(e) = &command {
                inner.index.note_place(e.index, record.ticket, *at);
            }
            self.take(&command, *at);
        }
        inner.index.trim();
        inner.synced_next = self.fold.next;
        inner.vote.clone_from(&self.fold.vote);
    }

    fn begin(&mut self, summary: &[u8]) -> Result<(), Malformed> {
        self.fold = Fold::decode(summary)?;
        self.shared.lock().index = Index::new(self.fold.next, self.fold.purged.clone(), self.shared.ring_bytes);
        Ok(())
    }

    fn index(&self, segment: u64) -> Vec<u8> {
        match &self.newest {
            (newest, index) if *newest == segment => index.encode(self.seen.as_ref()),
            _ => SegmentIndex::new(self.fold.next).encode(self.seen.as_ref()),
        }
    }

    fn resume(&mut self, segment: u64, sealed: &Sealed<'_>) -> Result<bool, String> {
        let fold = |summary| Fold::decode(summary).map_err(|e| e.to_string());
        let (after, newest) = (fold(sealed.summary)?, fold(sealed.newest)?);
        if !stood_for(&newest, after.next) {
            return Ok(false);
        }
        let (index, seen) = SegmentIndex::decode(sealed.index).map_err(|e| e.to_string())?;
        let mut inner = self.shared.lock();
        // Those that were purged when it was full are not in its index, and lie there all the same.
        let begins = inner.index.next().min(index.first);
        inner.index.resume(index.first, index.locations(segment), after.next, after.purged.clone())?;
        if index.highest.is_some() {
            inner.index.held.wrote(begins, segment);
        }
        drop(inner);
        (self.fold, self.seen) = (after, seen);
        if let Some(highest) = index.highest {
            self.holds(segment, highest);
        }
        self.let_go(segment);
        Ok(true)
    }

    fn replay(&mut self, kind: u8, body: &[u8], at: Location) -> Result<(), String> {
        let command = record::decode(kind, body).map_err(|e| e.to_string())?;
        {
            let mut inner = self.shared.lock();
            let index = &mut inner.index;
            index.ends().follow(&command)?;
            match &command {
                Command::Entry(entry) => index.recovered(entry.index, at),
                Command::TruncateAfter(last) => index.truncate_after(*last),
                Command::Purge(id) => index.purge(id.clone()),
                Command::Vote(_) | Command::Committed(_) | Command::Checkpoint(_) | Command::Seen(_) => {}
            }
        }
        self.take(&command, at);
        Ok(())
    }

    fn replayed(&mut self, cut: bool) -> Result<(), String> {
        let mut inner = self.shared.lock();
        inner.vote.clone_from(&self.fold.vote);
        inner.committed.clone_from(&self.fold.committed);
        inner.checkpoint = self.fold.checkpoint;
        inner.synced_next = self.fold.next;
        let known_from = self.fold.purged.as_ref().map_or(0, |(index, _)| index + 1);
        match inner.index.first() {
            first if cut && first > known_from => Err(format!("log entries {known_from} to {}", first - 1)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_reads_back_and_fits_its_place() {
        let full = Fold {
            vote: Some(Bytes::from(vec![9; META_LEN_MAX])),
            committed: Some(Bytes::from(vec![8; META_LEN_MAX])),
            purged: Some((77, Bytes::from(vec![7; record::ID_LEN_MAX]))),
            checkpoint: Some(Checkpoint { index: 80, digest: [5; 32], chain: [6; 32] }),
            earlier: Some(Checkpoint { index: 70, digest: [7; 32], chain: [8; 32] }),
            next: 99,
        };
        for fold in [full, Fold::default()] {
            let bytes = fold.encode();
            assert!(bytes.len() <= 3072, "{} bytes", bytes.len());
            assert!(Fold::decode(&bytes).is_ok_and(|read| read == fold));
            for cut in 0..bytes.len() {
                assert!(Fold::decode(&bytes[..cut]).is_err(), "{cut} bytes");
            }
            assert!(Fold::decode(&[&bytes[..], &[0]].concat()).is_err());
        }
    }
}
