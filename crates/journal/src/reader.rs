//! What the journal's writer and its readers share.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use super::index::{Index, Location, Place};
use super::record::{self, BODY_LEN_MAX, ID_LEN_MAX, Kind, META_LEN_MAX, Record};
use super::{Checkpoint, Command, IndexedId, JournalConfig, LogEntry, LogState, Space};
use crate::disk::DiskFile;

/// A segment that may be read.
#[derive(Clone)]
pub(super) struct SegmentFile {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) salt: [u8; 16],
    pub(super) name: String,
}

pub(super) struct Inner {
    pub(super) index: Index,
    pub(super) files: BTreeMap<u64, SegmentFile>,
    /// Synced.
    pub(super) vote: Option<Bytes>,
    /// Enqueued.
    pub(super) committed: Option<Bytes>,
    /// Enqueued.
    pub(super) checkpoint: Option<Checkpoint>,
    /// Index after the last synced entry.
    pub(super) synced_next: u64,
}

pub(super) struct Shared {
    pub(super) config: JournalConfig,
    pub(super) inner: Mutex<Inner>,
    pub(super) space: watch::Sender<Space>,
    /// Bytes that can be written with what is allocated, without the votes' reserve.
    pub(super) room: AtomicU64,
}

/// A command that is in the in-memory log and on its way to the disk.
pub(super) struct Staged {
    pub(super) command: Command,
    pub(super) ticket: u64,
}

impl Shared {
    /// Nothing that holds this lock can panic half way through a change.
    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks commands and makes them visible to readers: all of them or, on an error, none.
    pub(super) fn stage(&self, inner: &mut Inner, commands: Vec<Command>) -> io::Result<Vec<Staged>> {
        self.check(inner, &commands).map_err(|what| io::Error::new(io::ErrorKind::InvalidInput, what))?;
        let mut staged = Vec::with_capacity(commands.len());
        for command in commands {
            let mut ticket = 0;
            match &command {
                Command::Entry(entry) => ticket = inner.index.enqueue(entry.clone()),
                Command::TruncateAfter(index) => inner.index.truncate_after(*index),
                Command::Purge(id) => inner.index.purge(id.clone()),
                Command::Committed(id) => inner.committed = Some(id.clone()),
                Command::Checkpoint(c) => inner.checkpoint = Some(*c),
                Command::Vote(_) | Command::Seen(_) => {}
            }
            staged.push(Staged { command, ticket });
        }
        Ok(staged)
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
            let len = Record::body_len(command);
            if len > BODY_LEN_MAX || (len + 2 * record::OVERHEAD + 4) as u64 > self.config.room_max() {
                return Err(format!("a record of {len} bytes is longer than the journal takes"));
            }
            match command {
                Command::Checkpoint(c) => checkpoint = Some(c.index),
                // The state must be able to come back without the entries: asserted in every build (key-log §5.2).
                Command::Purge((index, _)) if self.config.purge_needs_checkpoint && checkpoint < Some(*index) => {
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
pub struct JournalReader(pub(super) Arc<Shared>);

impl JournalReader {
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
    /// As [`JournalReader::entry`].
    pub fn entries(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<LogEntry>> {
        let mut places = Vec::new();
        {
            let inner = self.0.lock();
            let mut bytes = 0;
            for index in range.start.max(inner.index.first())..range.end.min(inner.index.next()) {
                let Some(place) = inner.index.place(index) else { break };
                bytes += match &place {
                    Place::Memory(entry) => entry.id.len() + entry.payload.len(),
                    Place::Disk(location) => location.len as usize,
                };
                if bytes > bytes_max && !places.is_empty() {
                    break;
                }
                let segment = match &place {
                    Place::Memory(_) => None,
                    Place::Disk(location) => inner.files.get(&location.segment).cloned(),
                };
                places.push((index, place, segment));
            }
        }
        places
            .into_iter()
            .map(|(index, place, segment)| match (place, segment) {
                (Place::Memory(entry), _) => Ok(entry),
                (Place::Disk(location), Some(segment)) => read_entry(&segment, location, index),
                (Place::Disk(location), None) => Err(io::Error::other(format!(
                    "log entry {index} lies in segment {} which is gone; stop this node and keep its data",
                    location.segment
                ))),
            })
            .collect()
    }

    /// First and last of the log.
    ///
    /// # Errors
    /// As [`JournalReader::entry`].
    pub fn state(&self) -> io::Result<LogState> {
        // The last entry may be truncated between looking and reading: look again then.
        loop {
            let (purged, next, empty) = {
                let inner = self.0.lock();
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
        self.0.lock().index.next().checked_sub(1)
    }

    /// The newest vote that is synced.
    pub fn vote(&self) -> Option<Bytes> {
        self.0.lock().vote.clone()
    }
    /// The newest committed id, synced or on its way.
    pub fn committed(&self) -> Option<Bytes> {
        self.0.lock().committed.clone()
    }
    /// The last purged entry, synced or on its way.
    pub fn purged(&self) -> Option<IndexedId> {
        self.0.lock().index.purged().cloned()
    }
    /// The newest checkpoint, synced or on its way.
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        self.0.lock().checkpoint
    }
    /// Index of the last entry that is synced; `None` while there was none. What this node may be held to
    /// (key-log §4.7).
    pub fn synced(&self) -> Option<u64> {
        self.0.lock().synced_next.checked_sub(1)
    }
    /// How much room the disk has.
    pub fn space(&self) -> Space {
        *self.0.space.borrow()
    }
    /// The same as it changes: it is looked at once a second.
    pub fn watch_space(&self) -> watch::Receiver<Space> {
        self.0.space.subscribe()
    }
    /// The disk is nearly full: refuse appends with entries, snapshots and proposals (key-log §4.6).
    pub fn low_space(&self) -> bool {
        self.space().low
    }
    /// Bytes of log that can be written into what is allocated already, votes aside: also on a disk that is full.
    pub fn room(&self) -> u64 {
        self.0.room.load(Ordering::Relaxed)
    }
    /// Bytes of log from the oldest retained entry to the newest.
    pub fn retained_bytes(&self) -> u64 {
        self.0.lock().index.retained_bytes(self.0.config.segment_bytes)
    }
    /// The highest index whose purge lets go of every segment that can go; `None` when none can.
    pub fn purge_to_newest_segment(&self) -> Option<u64> {
        self.0.lock().index.before_newest_segment()
    }
    /// The highest index whose purge leaves at least `bytes` of log; `None` when there is no such entry.
    pub fn purge_keeping(&self, bytes: u64) -> Option<u64> {
        self.0.lock().index.before_last_bytes(bytes, self.0.config.segment_bytes)
    }
}

fn read_entry(segment: &SegmentFile, location: Location, index: u64) -> io::Result<LogEntry> {
    let mut bytes = vec![0; location.len as usize];
    let got = segment.file.pread(&mut bytes, u64::from(location.offset))?;
    let entry = match record::recognise(&segment.salt, &bytes[..got]) {
        Some((_, Kind::Entry, body)) => record::decode_entry(body).ok().filter(|e| e.index == index),
        _ => None,
    };
    entry.ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "log entry {index} in {} at byte {} is not what was written: the disk returned other bytes. \
                 Stop this node and keep its data folder as it is; the other members serve while they are a majority",
                segment.name, location.offset
            ),
        )
    })
}
