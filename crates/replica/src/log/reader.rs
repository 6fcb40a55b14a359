//! The log as readers see it.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use quorate_journal::{JournalReader, Record, Records, Segment, Space};
use tokio::sync::watch;

use super::index::{Index, STRETCH, Stretch};
use super::record::{self, ID_LEN_MAX, META_LEN_MAX};
use super::{Checkpoint, Command, IndexedId, LogConfig, LogEntry, LogState};

pub(super) struct Inner {
    pub(super) index: Index,
    /// Synced.
    pub(super) vote: Option<Bytes>,
    /// Enqueued.
    pub(super) committed: Option<Bytes>,
    /// Enqueued.
    pub(super) checkpoint: Option<Checkpoint>,
    /// Index after the last synced entry.
    pub(super) synced_next: u64,
    /// What was found by who read it, or looked.
    damage: Option<Damage>,
}

/// An older part of the log on disk is not what was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Index of the last entry there: none up to it can be sent to a member that needs what was in this part.
    pub upto: u64,
    /// What was found, and where.
    pub what: String,
}

pub(super) struct Shared {
    pub(super) ring_bytes: usize,
    purge_needs_checkpoint: bool,
    body_len_max: usize,
    inner: Mutex<Inner>,
}

impl Shared {
    /// An empty log.
    pub(super) fn new(config: &LogConfig) -> Self {
        let inner = Inner {
            index: Index::new(0, None, config.ring_bytes),
            vote: None,
            committed: None,
            checkpoint: None,
            synced_next: 0,
            damage: None,
        };
        Self {
            ring_bytes: config.ring_bytes,
            purge_needs_checkpoint: config.purge_needs_checkpoint,
            body_len_max: config.journal.body_len_max(),
            inner: Mutex::new(inner),
        }
    }

    /// Nothing that holds this lock can panic half way through a change.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks commands, makes them visible to readers and has their records enqueued: all of them or, on an error, none.
    pub(super) fn stage(&self, commands: &[Command], enqueue: impl FnOnce(Vec<Record>)) -> io::Result<()> {
        let mut records: Vec<_> = commands.iter().map(record::encode).collect();
        let mut inner = self.lock();
        self.check(&inner, commands).map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))?;
        for (command, record) in commands.iter().zip(&mut records) {
            match command {
                Command::Entry(entry) => record.ticket = inner.index.enqueue(entry.clone()),
                Command::TruncateAfter(index) => inner.index.truncate_after(*index),
                Command::Purge(id) => inner.index.purge(id.clone()),
                Command::Committed(id) => inner.committed = Some(id.clone()),
                Command::Checkpoint(c) => inner.checkpoint = Some(*c),
                Command::Vote(_) | Command::Seen(_) => {}
            }
        }
        // Under the lock, so that the order in memory is the order in the queue.
        enqueue(records);
        Ok(())
    }

    fn check(&self, inner: &Inner, commands: &[Command]) -> Result<(), String> {
        let mut ends = inner.index.ends();
        let mut checkpoint = inner.checkpoint.map(|c| c.index);
        for command in commands {
            let (id_len, id_len_max) = match command {
                Command::Entry(e) => (e.id.len(), ID_LEN_MAX),
                Command::Purge((_, id)) => (id.len(), ID_LEN_MAX),
                Command::Vote(bytes) | Command::Committed(bytes) => (bytes.len(), META_LEN_MAX),
                Command::TruncateAfter(_) | Command::Checkpoint(_) | Command::Seen(_) => (0, 0),
            };
            if id_len > id_len_max {
                return Err(format!("an id of {id_len} bytes, at most {id_len_max} are kept"));
            }
            let len = record::body_len(command);
            if len > self.body_len_max {
                return Err(format!("a record of {len} bytes is longer than the journal takes"));
            }
            match command {
                Command::Checkpoint(c) => checkpoint = Some(c.index),
                // The state must be able to come back without the entries: asserted in every build (key-log §5.2).
                Command::Purge((index, _)) if self.purge_needs_checkpoint && checkpoint < Some(*index) => {
                    return Err(format!("purge of {index} goes beyond the newest state checkpoint ({checkpoint:?})"));
                }
                _ => {}
            }
            ends.follow(command)?;
        }
        Ok(())
    }
}

/// Reads the log, from any thread. Entries are seen from the moment they are enqueued.
#[derive(Clone)]
pub struct LogReader {
    pub(super) log: Arc<Shared>,
    pub(super) journal: JournalReader,
}

impl LogReader {
    /// One entry; `None` when the log has none at that index.
    ///
    /// # Errors
    /// When its bytes on disk cannot be read, or are not what was written: the message names file and byte.
    pub fn entry(&self, index: u64) -> io::Result<Option<LogEntry>> {
        Ok(self.entries(index..index.saturating_add(1), usize::MAX)?.pop())
    }

    /// The entries in `range` that the log has, in order without holes, stopping after about `bytes_max` bytes (but
    /// not before the first).
    ///
    /// # Errors
    /// As [`LogReader::entry`].
    pub fn entries(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<LogEntry>> {
        let (old, recent) = self.look_up(range, bytes_max);
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for (stretch, segment) in old {
            let Some(segment) = segment else {
                return Err(io::Error::other(format!(
                    "log entry {} lies in segment {} which is gone; stop this node and keep its data",
                    stretch.entries.start, stretch.segment
                )));
            };
            let read = read_stretch(&segment, &stretch, bytes_max, &mut bytes, &mut entries);
            if !read.map_err(|(index, e)| self.told(stretch.segment, index, e))? {
                return Ok(entries);
            }
        }
        for entry in recent {
            bytes += size(&entry);
            if bytes > bytes_max && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// The damage that was come upon while older entries were read or looked at, of all the newest.
    pub fn damage(&self) -> Option<Damage> {
        self.log.lock().damage.clone()
    }

    /// Notes that a segment is not what was written, if that is the error.
    fn note_damage(&self, segment: u64, e: &io::Error) {
        let mut inner = self.log.lock();
        if e.kind() == io::ErrorKind::InvalidData
            && let Some(upto) = inner.index.last_of_segment(segment)
            && inner.damage.as_ref().is_none_or(|known| known.upto < upto)
        {
            inner.damage = Some(Damage { upto, what: e.to_string() });
        }
    }

    /// The error for an entry that could not be read.
    fn told(&self, segment: u64, index: u64, e: io::Error) -> io::Error {
        self.note_damage(segment, &e);
        if e.kind() != io::ErrorKind::InvalidData {
            return e;
        }
        let what = format!(
            "log entry {index}: {e}. Stop this node and keep its data folder as it is; the other members serve while they are a \
             majority"
        );
        io::Error::new(io::ErrorKind::InvalidData, what)
    }

    /// Where entries lie that are on disk alone, and those that are not; more than `bytes_max` bytes need not be told of.
    fn look_up(&self, range: Range<u64>, bytes_max: usize) -> (Vec<(Stretch, Option<Segment>)>, Vec<LogEntry>) {
        let inner = self.log.lock();
        let range = range.start.max(inner.index.first())..range.end.min(inner.index.next());
        let (mut old, mut bytes) = (Vec::new(), 0usize);
        for stretch in inner.index.on_disk(range.clone()) {
            if bytes > bytes_max {
                return (old, Vec::new());
            }
            bytes = bytes.saturating_add(STRETCH as usize);
            // Taken under the lock: what is purged later can still be read.
            let segment = self.journal.segment(stretch.segment);
            old.push((stretch, segment));
        }
        let mut recent = Vec::new();
        bytes = 0;
        for entry in inner.index.recent(range) {
            bytes += size(entry);
            recent.push(entry.clone());
            if bytes > bytes_max {
                break;
            }
        }
        (old, recent)
    }

    /// First and last of the log.
    ///
    /// # Errors
    /// As [`LogReader::entry`].
    pub fn state(&self) -> io::Result<LogState> {
        // The last entry may be truncated between looking and reading: look again then.
        loop {
            let (purged, next, empty) = {
                let inner = self.log.lock();
                (inner.index.purged().cloned(), inner.index.next(), inner.index.is_empty())
            };
            if empty {
                return Ok(LogState { last: purged.clone(), purged });
            }
            if let Some(entry) = self.entry(next - 1)? {
                return Ok(LogState { purged, last: Some((entry.index, entry.id)) });
            }
        }
    }

    /// Index of the last entry, or of the last purged one when there is none, without reading it.
    pub fn last_index(&self) -> Option<u64> {
        self.log.lock().index.next().checked_sub(1)
    }

    /// The newest vote that is synced.
    pub fn vote(&self) -> Option<Bytes> {
        self.log.lock().vote.clone()
    }
    /// The newest committed id, synced or on its way.
    pub fn committed(&self) -> Option<Bytes> {
        self.log.lock().committed.clone()
    }
    /// The last purged entry, synced or on its way.
    pub fn purged(&self) -> Option<IndexedId> {
        self.log.lock().index.purged().cloned()
    }
    /// The newest checkpoint, synced or on its way.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.log.lock().checkpoint
    }
    /// Index of the last entry that is synced; `None` while there was none. What this node may be held to
    /// (key-log §4.7).
    pub fn synced(&self) -> Option<u64> {
        self.log.lock().synced_next.checked_sub(1)
    }
    /// The numbers of its journal's segments, in order.
    pub fn segments(&self) -> Vec<u64> {
        self.journal.segments()
    }
    /// The first entry whose bytes the journal's files may still hold, whether it is in the log any more or not; none: they hold
    /// no entry.
    pub fn held_from(&self) -> Option<u64> {
        // A segment that could not be removed counts.
        let oldest = self.journal.segments().first().copied()?;
        self.log.lock().index.held.from(oldest)
    }
    /// Whether a segment that another follows still is what was written; a start does not look. As [`JournalReader::check`];
    /// damage is noted.
    ///
    /// # Errors
    /// As there.
    pub fn check(&self, segment: u64) -> io::Result<bool> {
        self.journal.check(segment).inspect_err(|e| self.note_damage(segment, e))
    }
    /// How much room the disk has.
    pub fn space(&self) -> Space {
        self.journal.space()
    }
    /// The same as it changes: it is looked at once a second.
    pub fn watch_space(&self) -> watch::Receiver<Space> {
        self.journal.watch_space()
    }
    /// The disk is nearly full: refuse appends with entries, snapshots and proposals (key-log §4.6).
    pub fn low_space(&self) -> bool {
        self.space().low
    }
    /// Bytes of log that can be written into what is allocated already, votes aside: also on a disk that is full.
    pub fn room(&self) -> u64 {
        self.journal.room()
    }
    /// Bytes of log from the oldest retained entry to the newest.
    pub fn retained_bytes(&self) -> u64 {
        self.log.lock().index.retained_bytes(self.journal.config().segment_bytes)
    }
    /// The highest index whose purge lets go of every segment that can go; `None` when none can.
    pub fn purge_to_newest_segment(&self) -> Option<u64> {
        self.log.lock().index.before_newest_segment()
    }
    /// The highest index whose purge leaves at least `bytes` of log; `None` when there is no such entry.
    pub fn purge_keeping(&self, bytes: u64) -> Option<u64> {
        self.log.lock().index.before_last_bytes(bytes, self.journal.config().segment_bytes)
    }
}

fn size(entry: &LogEntry) -> usize {
    entry.id.len() + entry.payload.len()
}

/// Appends the entries of a stretch, as long as they have not more than `bytes_max` bytes together with those before; false:
/// there are more. An error comes with the entry that it kept from being read.
fn read_stretch(
    segment: &Segment,
    stretch: &Stretch,
    bytes_max: usize,
    bytes: &mut usize,
    entries: &mut Vec<LogEntry>,
) -> Result<bool, (u64, io::Error)> {
    let mut records = segment.records_from(stretch.offset);
    for index in stretch.entries.clone() {
        let entry = next_entry(&mut records, index).map_err(|e| (index, e))?;
        *bytes += size(&entry);
        if *bytes > bytes_max && !entries.is_empty() {
            return Ok(false);
        }
        entries.push(entry);
    }
    Ok(true)
}

/// Reads on to this entry.
fn next_entry(records: &mut Records<'_>, index: u64) -> io::Result<LogEntry> {
    loop {
        let record = records.read_next()?;
        match record::index_of(record.kind, record.body) {
            Some(found) if found == index => {
                record.check()?;
                let entry = record::decode_entry(record.kind, &Bytes::copy_from_slice(record.body));
                return entry.ok_or_else(|| record.not_as_written());
            }
            // What was looked for is another one now.
            Some(found) if found > index => return Err(record.not_as_written()),
            // Before it, or no entry.
            _ => {}
        }
    }
}
