//! Chained records in segment files: what a node has acknowledged is there again after any crash, and what was cut off,
//! changed or put back is noticed before anybody relies on it (key-log §4).
//!
//! A record is a kind and bytes. Groups of them are written one after another, each synced before the next; every record
//! carries a tag over all before it. [`Journal`] writes and recovers, [`JournalWriter`] is the door to the loop that drives
//! it, [`JournalReader`] reads single records back. What the records mean, what they amount to and which of them are still
//! needed is their owner's: it says so by [`Contents`]. A segment that is full ends with an index, by which a start takes it
//! up without reading it; whether all of it still is what was written says [`JournalReader::check`]. [`disk`] and
//! [`Driver`] are the seams to the file system and to threads, for everybody.
//!
//! Left to others: what to do with a journal that is damaged; to refuse work while [`Space::low`] is raised; encryption.
//!
//! ```text
//! folder/  lock                    flock: one process at a time
//!          mark                    how far the stream was certainly synced (two slots)
//!          0000000000000001.seg    header page ‖ records, its index the last, zeros after the last group
//!          0000000000000002.next   the next segment, being filled with zeros
//! ```

mod actor;
pub mod disk;
mod driver;
mod error;
mod header;
mod open;
mod reader;
mod record;
mod recover;
mod sealed;
mod space;
mod spare;
#[cfg(feature = "testing")]
pub mod testing;
mod writer;

use bytes::Bytes;
use quorate_core::codec::Malformed;
use quorate_core::id::{ClusterId, NodeId};

pub use actor::{JournalWriter, OnFatal, OnSynced, Place, when_synced};
pub use driver::{Driver, OnEnd, Started};
pub use error::JournalError;
pub use reader::{JournalReader, RawRecord, Records, Segment};
pub use writer::Journal;

/// Whose journal it is; stands in each segment's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JournalIds {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Which of that node's journals.
    pub stream: u32,
}

impl std::fmt::Display for JournalIds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "node {} of cluster {} (stream {})", self.node, self.cluster, self.stream)
    }
}

/// Sizes and limits.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Length of a segment file, in bytes.
    pub segment_bytes: u64,
    /// Free disk space below which [`Space::low`] is raised, in bytes; never less than two segments.
    pub low_space_bytes: u64,
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, low_space_bytes: 512 << 20 }
    }
}

impl JournalConfig {
    /// Kept free at a segment's end, for what has to be written when the disk has no room for a next one, in bytes.
    fn reserve(&self) -> u64 {
        (1 << 20).min(self.segment_bytes / 8)
    }
    /// Free space below which it is low, in bytes (key-log §4.6).
    pub fn low_space_limit(&self) -> u64 {
        self.low_space_bytes.max(2 * self.segment_bytes)
    }
    /// Longest body of a record, in bytes.
    pub fn body_len_max(&self) -> usize {
        record::BODY_LEN_MAX
            .min((self.room_max() as usize).saturating_sub(2 * record::OVERHEAD + record::GROUP_END_LEN))
    }
    /// Longest group that fits a segment.
    fn room_max(&self) -> u64 {
        (self.segment_bytes - self.reserve()).saturating_sub(header::HEADER_LEN as u64)
    }
}

/// How much room the disk has (key-log §4.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Space {
    /// Free bytes: on the file system of the journal or on that of the folder it lies in, whichever has less.
    pub free_bytes: u64,
    /// What free space must not fall below; once it has, it is low until there is twice as much.
    pub limit_bytes: u64,
    /// Nearly full: no more is to be written than has to be.
    pub low: bool,
}

/// How soon a record is to be durable.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Haste {
    /// Worth no sync of its own: it rides along with others, at the latest after a second.
    Rides,
    /// At once.
    Syncs,
    /// At once, and the mark is to cover it: even as the very last record it can't be cut off unnoticed.
    Marks,
}

/// A record to be written.
#[derive(Clone)]
pub struct Record {
    /// What it is, 1 to 127; its owner's numbering.
    pub kind: u8,
    /// At most [`JournalConfig::body_len_max`] bytes.
    pub body: Bytes,
    /// How soon.
    pub haste: Haste,
    /// What its owner knows it by until it is synced; not written.
    pub ticket: u64,
}

/// Where a record lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Location {
    /// The segment's number; they begin with 1.
    pub segment: u64,
    /// In its file, in bytes.
    pub offset: u32,
    /// Length with all that the journal adds, in bytes.
    pub len: u32,
}

/// A segment of a journal that another follows.
pub struct Sealed<'a> {
    /// What [`Contents::index`] made for it.
    pub index: &'a [u8],
    /// What everything up to its end amounts to.
    pub summary: &'a [u8],
    /// The same for the beginning of the newest segment.
    pub newest: &'a [u8],
}

/// What the records of a journal amount to, to whoever owns it. The journal keeps it and tells it what happens.
pub trait Contents: Send + 'static {
    /// A sum of all records that were synced (or replayed) so far, in at most 3072 bytes: it stands in the header of the
    /// next segment, from which a replay begins once the older ones are gone.
    fn summary(&self) -> Vec<u8>;

    /// The oldest segment that is still needed. Older ones are removed, never the newest.
    fn oldest_needed(&self) -> u64;

    /// These records are synced and lie there, in order.
    fn synced(&mut self, records: &[(Record, Location)]);

    /// A replay begins: the sum of all before the oldest segment that is there.
    ///
    /// # Errors
    /// When that is no summary.
    fn begin(&mut self, summary: &[u8]) -> Result<(), Malformed>;

    /// What [`Contents::resume`] needs of this segment, which nothing more is written to. Without it, or when it is longer
    /// than a record may be, the segment is replayed.
    fn index(&self, segment: u64) -> Vec<u8>;

    /// In a replay, takes up a segment in one step: its index, and what everything up to its end amounts to, are certainly
    /// what was written. False: it needs the records themselves.
    ///
    /// # Errors
    /// When these are none, or can't follow: the journal is damaged then.
    fn resume(&mut self, segment: u64, sealed: &Sealed<'_>) -> Result<bool, String>;

    /// The next record of a replay.
    ///
    /// # Errors
    /// When it can't be one, or can't follow: the journal is damaged then.
    fn replay(&mut self, kind: u8, body: &[u8], at: Location) -> Result<(), String>;

    /// That was the last one. `cut`: the oldest segment that is there is not the first that ever was.
    ///
    /// # Errors
    /// When an older segment was needed: what was in it.
    fn replayed(&mut self, cut: bool) -> Result<(), String>;
}

/// What opening found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// This start's number (key-log §1.4), already synced.
    pub boot: u32,
    /// Bytes of an unfinished group that were cut off the end.
    pub cut_bytes: u64,
}

const SEGMENT_SUFFIX: &str = ".seg";
const SPARE_SUFFIX: &str = ".next";

fn segment_name(number: u64) -> String {
    format!("{number:016x}{SEGMENT_SUFFIX}")
}

fn spare_name(number: u64) -> String {
    format!("{number:016x}{SPARE_SUFFIX}")
}

/// Length of the mark's file, in bytes: two slots, a page apart, so that no torn page takes both.
const MARK_LEN: u64 = 2 * 4096;

/// Where the slot of the mark with this count lies.
fn mark_slot_at(count: u64) -> u64 {
    count % 2 * (MARK_LEN / 2)
}
