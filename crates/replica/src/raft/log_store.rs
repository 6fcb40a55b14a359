//! openraft's log storage over the journal.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::Stream;
use openraft::OptionalSend;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use quorate_core::id::NodeId;
use quorate_core::seeded::{self, Bug};
use tokio::sync::watch;

use super::codec::{decode_log_id, decode_vote, encode_log_id, encode_vote, from_journal, invalid, to_journal};
use super::promise::Promise;
use super::settings::LOG_READ_BYTES_MAX;
use super::{LogId, RaftEntry, TypeConfig, Vote};
use crate::log::{Command, IndexedId, LogEntry, LogReader, LogWriter};

/// The journal as openraft sees it.
#[derive(Clone)]
pub(crate) struct LogStore {
    writer: LogWriter,
    reader: LogReader,
    promise: Arc<Promise>,
    /// What the state has applied.
    applied: watch::Receiver<u64>,
    /// The last entry that is synced.
    last_synced: Arc<Mutex<Option<LogId>>>,
}

impl LogStore {
    /// # Errors
    /// When the journal's vote can't be read.
    pub(crate) fn new(me: NodeId, writer: LogWriter, applied: watch::Receiver<u64>) -> io::Result<Self> {
        let reader = writer.reader();
        let vote = decoded_vote(&reader)?;
        let last_synced = Arc::new(Mutex::new(decoded_id(reader.state()?.last)?));
        Ok(Self { writer, reader, promise: Arc::new(Promise::new(me, vote.as_ref())), applied, last_synced })
    }

    /// The last entry that is synced, as it moves.
    pub(crate) fn last_synced(&self) -> Arc<Mutex<Option<LogId>>> {
        self.last_synced.clone()
    }

    /// What this node has promised in elections.
    pub(crate) fn promise(&self) -> Arc<Promise> {
        self.promise.clone()
    }
}

fn decoded(entries: Vec<LogEntry>) -> io::Result<Vec<RaftEntry>> {
    entries.iter().map(|e| from_journal(e).map_err(invalid)).collect()
}

fn to_range(range: impl RangeBounds<u64>) -> std::ops::Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(i) => *i,
        Bound::Excluded(i) => i.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(i) => i.saturating_add(1),
        Bound::Excluded(i) => *i,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

/// The vote that the journal holds.
pub(crate) fn decoded_vote(reader: &LogReader) -> io::Result<Option<Vote>> {
    reader.vote().map(|bytes| decode_vote(&bytes).map_err(invalid)).transpose()
}

fn decoded_id(id: Option<IndexedId>) -> io::Result<Option<LogId>> {
    id.map(|(_, bytes)| decode_log_id(&bytes).map_err(invalid)).transpose()
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<RaftEntry>> {
        decoded(self.reader.entries(to_range(range), usize::MAX)?)
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        decoded_vote(&self.reader)
    }

    /// For replication: as much as one message carries. None of an older part that is damaged, which a state stands for:
    /// an error would end the leader. Nor is the message sent ([`crate::peer::network`]); the log is let go of up to there, and
    /// the member is sent the state.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<RaftEntry>> {
        match self.reader.entries(start..end, LOG_READ_BYTES_MAX) {
            Err(_) if self.reader.damage().is_some_and(|damage| start <= damage.upto) => Ok(Vec::new()),
            read => decoded(read?),
        }
    }

    /// For apply: piece by piece, so that a long tail is never in memory as a whole. The default reads it all.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<RaftEntry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        futures::stream::iter(Pieces::new(self.reader.clone(), to_range(range)))
    }
}

/// Iterates over a range of the log, as far as it reaches, reading a bounded piece at a time.
pub(crate) struct Pieces {
    reader: LogReader,
    next: u64,
    end: u64,
    piece: std::vec::IntoIter<LogEntry>,
}

impl Iterator for Pieces {
    type Item = io::Result<RaftEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let next = self.next_entry();
        self.next = match next {
            Ok(_) => self.next + 1,
            Err(_) => self.end,
        };
        Some(next)
    }
}

impl Pieces {
    pub(crate) fn new(reader: LogReader, range: std::ops::Range<u64>) -> Self {
        let end = range.end.min(reader.last_index().map_or(0, |last| last + 1));
        Self { reader, next: range.start, end, piece: Vec::new().into_iter() }
    }

    fn next_entry(&mut self) -> io::Result<RaftEntry> {
        if self.piece.len() == 0 {
            self.piece = self.reader.entries(self.next..self.end, LOG_READ_BYTES_MAX)?.into_iter();
        }
        // A hole is no end.
        match self.piece.next().filter(|entry| entry.index == self.next) {
            Some(entry) => from_journal(&entry).map_err(invalid),
            None => Err(io::Error::new(io::ErrorKind::InvalidData, format!("the log lacks entry {}", self.next))),
        }
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.reader.state()?;
        Ok(LogState { last_purged_log_id: decoded_id(state.purged)?, last_log_id: decoded_id(state.last)? })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    /// Returns once the vote is synced.
    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        // Before anything else: nobody may hear of the vote while the promise is still the old one.
        self.promise.raise(vote);
        // Seeded bug: after a restart the vote may be given again, to another.
        if seeded::is(Bug::LoseVote) {
            return Ok(());
        }
        self.writer.append_synced(vec![Command::Vote(encode_vote(vote))]).await
    }

    /// Rides in the next group; causes no sync.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        match committed {
            Some(id) => self.enqueue(Command::Committed(encode_log_id(&id))).await,
            None => Ok(()),
        }
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        self.reader.committed().map(|bytes: Bytes| decode_log_id(&bytes).map_err(invalid)).transpose()
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut last = None;
        let commands = entries.into_iter().inspect(|e| last = Some(e.log_id)).map(|e| Command::Entry(to_journal(&e)));
        let commands = commands.collect();
        let last_synced = self.last_synced();
        let done = move |synced: io::Result<()>| {
            if synced.is_ok() && last.is_some() {
                *last_synced.lock().unwrap_or_else(PoisonError::into_inner) = last;
            }
            callback.io_completed(synced);
        };
        self.writer.append(commands, Box::new(done)).await
    }

    /// Nothing that was applied is ever cut off: who wants that contradicts a majority.
    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let (last, applied) = (last_log_id.map_or(0, |id| id.index), *self.applied.borrow());
        if last < applied {
            return Err(io::Error::other(format!("the log would end at entry {last}, but {applied} is applied")));
        }
        self.enqueue(Command::TruncateAfter(last_log_id.map(|id| id.index))).await
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        self.enqueue(Command::Purge((log_id.index, encode_log_id(&log_id)))).await
    }
}

impl LogStore {
    /// Order in the file is what counts; a failed sync ends the process, so nobody waits for this one.
    async fn enqueue(&self, command: Command) -> io::Result<()> {
        self.writer.append(vec![command], Box::new(|_| ())).await
    }
}
