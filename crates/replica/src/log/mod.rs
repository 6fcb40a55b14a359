//! The log (key-log §4): everything Raft must not forget, as the contents of a journal. Log ids, votes and committed ids are
//! opaque bytes here; only indexes are understood.
//!
//! The journal keeps a stream of records; the log is what they amount to. Cutting off and purging entries are records too.

mod contents;
mod held;
mod index;
mod reader;
mod record;
mod segment_index;

use std::future::Future;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::seam::Entropy;
use quorate_journal::disk::Disk;
use quorate_journal::{
    Driver, Journal, JournalConfig, JournalError, JournalIds, JournalWriter, OnFatal, OnSynced, when_synced,
};

use contents::Contents;
use reader::Shared;
pub use reader::{Damage, LogReader};

/// Sizes and limits.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// Those of the journal.
    pub journal: JournalConfig,
    /// Recent entries kept in memory for replication, in bytes.
    pub ring_bytes: usize,
    /// Refuse a purge beyond the newest checkpoint (key-log §5.2). Off only in conformance tests of the log alone.
    pub purge_needs_checkpoint: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { journal: JournalConfig::default(), ring_bytes: 32 << 20, purge_needs_checkpoint: true }
    }
}

/// One log entry; the id is the caller's encoding of its Raft log id.
#[derive(Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Log index.
    pub index: u64,
    /// The encoded log id, ≤ 64 bytes.
    pub id: Bytes,
    /// The rest, opaque.
    pub payload: Bytes,
}

/// An index with its encoded log id.
pub type IndexedId = (u64, Bytes);

/// What a state checkpoint was (key-log §5.2, §5.4).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Applied index of the durable state.
    pub index: u64,
    /// Hash of its LtHash digest.
    pub digest: [u8; 32],
    /// Its chain over applied entries.
    pub chain: [u8; 32],
}

/// Where a state may stand (trust.md §2.5): each is written down before a state becomes durable there, so a crash leaves it
/// at the newest or at the one before; `None`: at the beginning, before any entry.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Stands {
    /// The last that was written down.
    pub newest: Option<Checkpoint>,
    /// The one before it.
    pub before: Option<Checkpoint>,
    /// The log is there from its first entry on: an empty state comes to be what it was.
    pub from_first: bool,
}

impl Stands {
    /// Whether a state that stands there is one of them.
    pub fn hold(&self, state: Option<Checkpoint>) -> bool {
        match state {
            // The log has what it would be; or nothing was ever written down, of a node that has none yet.
            None => self.from_first || self.newest.is_none(),
            some => some == self.newest || some == self.before,
        }
    }
}

/// What can be written.
#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    /// Appends an entry; its index is the last one's plus one.
    Entry(LogEntry),
    /// A vote, encoded; ≤ 256 bytes.
    Vote(Bytes),
    /// The committed log id, encoded; ≤ 256 bytes. Rides along, causes no sync of its own.
    Committed(Bytes),
    /// Forgets the entries after this index (`None` = all).
    TruncateAfter(Option<u64>),
    /// Entries up to and with this one are no longer needed.
    Purge(IndexedId),
    /// The state is about to be made durable here.
    Checkpoint(Checkpoint),
    /// The newest words of the other members, opaque. Rides along, causes no sync of its own.
    Seen(Bytes),
}

/// First and last of the log.
#[derive(Clone, PartialEq, Eq)]
pub struct LogState {
    /// The last purged entry.
    pub purged: Option<IndexedId>,
    /// The last entry, or the last purged one when there is none.
    pub last: Option<IndexedId>,
}

/// What opening found.
#[derive(Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The newest vote.
    pub vote: Option<Bytes>,
    /// The newest committed id.
    pub committed: Option<Bytes>,
    /// Where the state may stand.
    pub stands: Stands,
    /// The newest words of the other members.
    pub seen: Option<Bytes>,
    /// This start's number (key-log §1.4), already synced.
    pub boot: u32,
    /// Bytes of an unfinished group that were cut off the end.
    pub cut_bytes: u64,
}

/// A log in its journal, not yet driven by a [`LogWriter`].
pub struct Log {
    journal: Journal<Contents>,
    reader: LogReader,
}

impl Log {
    /// Makes a log in `dir`, as [`Journal::create`].
    ///
    /// # Errors
    /// As there.
    pub fn create(
        dir: &Path,
        ids: JournalIds,
        config: LogConfig,
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<(Self, Recovered), JournalError> {
        let shared = Arc::new(Shared::new(&config));
        let contents = Contents::new(Arc::clone(&shared));
        let (journal, start) = Journal::create(dir, ids, config.journal, disk, entropy, contents)?;
        Ok(Self::of(journal, shared, start))
    }

    /// Opens the log in `dir`, as [`Journal::open`].
    ///
    /// # Errors
    /// As there.
    pub fn open(
        dir: &Path,
        ids: JournalIds,
        config: LogConfig,
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<(Self, Recovered), JournalError> {
        let shared = Arc::new(Shared::new(&config));
        let contents = Contents::new(Arc::clone(&shared));
        let (journal, start) = Journal::open(dir, ids, config.journal, disk, entropy, contents)?;
        Ok(Self::of(journal, shared, start))
    }

    fn of(journal: Journal<Contents>, shared: Arc<Shared>, start: quorate_journal::Recovered) -> (Self, Recovered) {
        let recovered = journal.contents().recovered(start);
        let reader = LogReader { log: shared, journal: journal.reader() };
        (Self { journal, reader }, recovered)
    }

    /// For readers.
    pub fn reader(&self) -> LogReader {
        self.reader.clone()
    }

    /// Writes commands; on `Ok` they are durable.
    ///
    /// # Errors
    /// `InvalidInput`: a command cannot follow (nothing was written). Anything else: as [`Journal::write`].
    pub fn write(&mut self, commands: Vec<Command>) -> io::Result<()> {
        let mut staged = Vec::new();
        self.reader.log.stage(&commands, |records| staged = records)?;
        self.journal.write(staged)
    }

    /// The journal, for what is to be done with it beside writing.
    pub fn journal(&mut self) -> &mut Journal<impl quorate_journal::Contents> {
        &mut self.journal
    }
}

/// The door to the log for everything that writes. Cheap to clone.
#[derive(Clone)]
pub struct LogWriter {
    journal: JournalWriter,
    reader: LogReader,
}

impl LogWriter {
    /// The door and the loop behind it, as [`JournalWriter::new`].
    pub fn new(log: Log, on_fatal: OnFatal) -> (Self, impl Future<Output = ()> + Send) {
        let (journal, run) = JournalWriter::new(log.journal, on_fatal);
        (Self { journal, reader: log.reader }, run)
    }

    /// The door, as [`JournalWriter::spawn`].
    ///
    /// # Errors
    /// As there.
    pub fn spawn(log: Log, driver: &Driver) -> io::Result<Self> {
        Ok(Self { journal: JournalWriter::spawn(log.journal, driver)?, reader: log.reader })
    }

    /// For readers.
    pub fn reader(&self) -> LogReader {
        self.reader.clone()
    }

    /// Makes the commands visible to readers, enqueues them and returns; waits only while the queue is full.
    /// `on_synced` is called once they are durable. Must not be cancelled by an owner who needs to know whether they
    /// were taken.
    ///
    /// # Errors
    /// `InvalidInput`: a command cannot follow, nothing was taken. `BrokenPipe`: the journal has stopped. In both
    /// cases `on_synced` is dropped uncalled.
    pub async fn append(&self, commands: Vec<Command>, on_synced: OnSynced) -> io::Result<()> {
        let place = self.journal.place().await?;
        self.reader.log.stage(&commands, |records| place.append(records, on_synced))
    }

    /// Enqueues and waits until the commands are durable (a vote).
    ///
    /// # Errors
    /// As [`LogWriter::append`], or the disk failed.
    pub async fn append_synced(&self, commands: Vec<Command>) -> io::Result<()> {
        let (on_synced, synced) = when_synced();
        self.append(commands, on_synced).await?;
        synced.await
    }

    /// Writes what waits, writes the mark, closes the files and releases the lock.
    pub async fn stop(&self) {
        self.journal.stop().await;
    }
}
