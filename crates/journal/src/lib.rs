//! The journal (key-log §4): everything Raft must not forget, as one chained stream of records in append-only
//! segment files. Log ids, votes and committed ids are opaque bytes here; only indexes are understood.
//!
//! ```text
//! journal/  lock                    flock: one process at a time
//!           mark                    how far the stream was certainly synced (two slots)
//!           0000000000000001.seg    header page ‖ records, zeros after the last group
//!           0000000000000002.next   the next segment, being filled with zeros
//! ```

mod actor;
pub mod disk;
mod header;
mod index;
mod reader;
mod record;
mod recover;
mod space;
mod spare;
#[cfg(feature = "testing")]
pub mod testing;
mod writer;

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use quorate_core::id::{ClusterId, GroupId, NodeId};
use thiserror::Error;

pub use actor::{JournalWriter, OnFatal, OnSynced, abort_process};
pub use reader::JournalReader;
pub use writer::Journal;

/// Whose journal it is; stands in each segment's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalIds {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The Raft group.
    pub group: GroupId,
}

/// Sizes and limits.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Length of a segment file, in bytes.
    pub segment_bytes: u64,
    /// Recent entries kept in memory for replication, in bytes.
    pub ring_bytes: usize,
    /// Free disk space below which [`Space::low`] is raised, in bytes; never less than two segments.
    pub low_space_bytes: u64,
    /// Refuse a purge beyond the newest checkpoint (key-log §5.2). Off only in conformance tests of the log alone.
    pub purge_needs_checkpoint: bool,
}

/// How much room the disk has (key-log §4.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Space {
    /// Free bytes: on the file system of the journal or on that of the state, whichever has less.
    pub free_bytes: u64,
    /// What free space must not fall below; once it has, it is low until there is twice as much.
    pub limit_bytes: u64,
    /// Nearly full: no more is to be taken into the log than has to be.
    pub low: bool,
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
        state == self.newest || state == self.before || (state.is_none() && self.from_first)
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

impl Default for JournalConfig {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, ring_bytes: 32 << 20, low_space_bytes: 512 << 20, purge_needs_checkpoint: true }
    }
}

impl JournalConfig {
    /// Kept free at a segment's end for votes when the disk has no room for a next one, in bytes.
    fn reserve(&self) -> u64 {
        (1 << 20).min(self.segment_bytes / 8)
    }
    /// Free space below which it is low, in bytes (key-log §4.6).
    pub fn low_space_limit(&self) -> u64 {
        self.low_space_bytes.max(2 * self.segment_bytes)
    }
    /// Longest group that fits a segment.
    fn room_max(&self) -> u64 {
        (self.segment_bytes - self.reserve()).saturating_sub(header::HEADER_LEN as u64)
    }
}

/// Why a journal cannot be made or opened. Nothing was changed.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Records that had been synced are missing or changed.
    #[error(
        "the journal is damaged: {what} ({path}, byte {offset}). This node may have acknowledged entries or votes \
         that are no longer here, so it must not vote again under its id. Nothing was changed. The other members serve \
         as long as they are a majority; {todo}",
        path = path.display(),
        todo = quorate_core::REPLACE_MEMBER
    )]
    Damaged {
        /// What is wrong.
        what: String,
        /// Where: the file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
    },
    /// The folder has no journal.
    #[error("there is no journal in {}: was this node ever part of a cluster? Check data_dir", .0.display())]
    Absent(PathBuf),
    /// The folder already has one.
    #[error("{} already holds a journal: start this node with it, or choose another data_dir", .0.display())]
    Exists(PathBuf),
    /// Another process has it open.
    #[error("{} is in use by another process: stop that one, or choose another data_dir", .0.display())]
    InUse(PathBuf),
    /// It belongs to another cluster.
    #[error(
        "{} belongs to cluster {found}, this node's certificate to {expected}: check data_dir and tls.cert",
        dir.display()
    )]
    WrongCluster {
        /// The folder.
        dir: PathBuf,
        /// Its cluster.
        found: ClusterId,
        /// The one asked for.
        expected: ClusterId,
    },
    /// It belongs to another node (or group) of the same cluster.
    #[error("{} is the journal of node {found}, this is node {expected}: check data_dir", dir.display())]
    WrongNode {
        /// The folder.
        dir: PathBuf,
        /// Its node.
        found: NodeId,
        /// The one asked for.
        expected: NodeId,
    },
    /// It was written by a newer version.
    #[error("{} has journal format {format}, this version knows format 1: start a newer version", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u8,
    },
    /// The operating system refused.
    #[error("cannot {what} {}: {source}. Check the disk and its permissions", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl JournalError {
    fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into(), path: path.to_owned(), offset }
    }
    fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), source }
    }
}

const SEGMENT_SUFFIX: &str = ".seg";
const SPARE_SUFFIX: &str = ".next";

fn segment_name(number: u64) -> String {
    format!("{number:016x}{SEGMENT_SUFFIX}")
}

fn spare_name(number: u64) -> String {
    format!("{number:016x}{SPARE_SUFFIX}")
}

/// Where the slot of the mark with this count lies: a page apart, so that no torn page takes both.
fn mark_slot_at(count: u64) -> u64 {
    (count % 2) * 4096
}
