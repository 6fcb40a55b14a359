//! What the journal's writer and those who read share: the segments, and how much room there is.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::watch;

use crate::disk::DiskFile;
use crate::record::{self, HEAD_LEN};
use crate::{JournalConfig, Location, Space};

/// Bytes of a segment that are read at a time, at least.
const READ_LEN: usize = 64 << 10;

/// A segment that may be read, also when it is no longer needed.
#[derive(Clone)]
pub struct Segment {
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) salt: [u8; 16],
    /// Where it is, for people.
    pub(super) path: PathBuf,
}

impl Segment {
    /// Kind and body of the record at a location in this segment.
    ///
    /// # Errors
    /// When its bytes cannot be read, or (`InvalidData`) are not what was written: the message names file and byte.
    pub fn read(&self, at: Location) -> io::Result<(u8, Bytes)> {
        let mut bytes = vec![0; at.len as usize];
        let got = self.file.pread(&mut bytes, u64::from(at.offset))?;
        bytes.truncate(got);
        match record::recognise(&self.salt, &bytes).map(|(_, kind, body)| (kind, body.len())) {
            Some((kind, len)) => Ok((kind, Bytes::from(bytes).slice(HEAD_LEN..HEAD_LEN + len))),
            None => Err(self.not_as_written(at)),
        }
    }

    /// The records from this byte on, where one begins.
    pub fn records_from(&self, offset: u32) -> Records<'_> {
        Records { segment: self, at: offset.into(), bytes: Vec::new(), behind: 0 }
    }

    /// The error for what is at a location, though another record had been written there.
    pub fn not_as_written(&self, at: Location) -> io::Error {
        self.not_as_written_at(u64::from(at.offset))
    }

    pub(super) fn not_as_written_at(&self, byte: u64) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} at byte {byte} is not what was written: the disk returned other bytes", self.path.display()),
        )
    }
}

/// Reads one record after another.
pub struct Records<'a> {
    segment: &'a Segment,
    /// Where the next one begins.
    at: u64,
    /// What was read of the file, and how much of that is behind us.
    bytes: Vec<u8>,
    behind: usize,
}

/// A record as it lies there.
pub struct RawRecord<'a> {
    /// Its kind.
    pub kind: u8,
    /// Its body.
    pub body: &'a [u8],
    /// Where it begins, in bytes.
    pub offset: u64,
    segment: &'a Segment,
    bytes: &'a [u8],
}

impl RawRecord<'_> {
    /// Whether it is a record that was written; who reads past it need not ask.
    ///
    /// # Errors
    /// When it is not: as [`Segment::read`].
    pub fn check(&self) -> io::Result<()> {
        match record::recognise(&self.segment.salt, self.bytes) {
            Some(_) => Ok(()),
            None => Err(self.not_as_written()),
        }
    }

    /// The error for this record, though another had been written here.
    pub fn not_as_written(&self) -> io::Error {
        self.segment.not_as_written_at(self.offset)
    }
}

impl Records<'_> {
    /// The next one.
    ///
    /// # Errors
    /// When its bytes cannot be read, or (`InvalidData`) no record can be there: the message names file and byte.
    pub fn read_next(&mut self) -> io::Result<RawRecord<'_>> {
        self.fill(HEAD_LEN)?;
        let len = record::len_of(&self.bytes[self.behind..]).ok_or_else(|| self.segment.not_as_written_at(self.at))?;
        self.fill(len)?;
        let (offset, at) = (self.at, self.behind);
        let bytes = self.bytes.get(at..at + len).ok_or_else(|| self.segment.not_as_written_at(offset))?;
        (self.at, self.behind) = (offset + len as u64, at + len);
        let (kind, body) = record::parts(bytes);
        Ok(RawRecord { kind, body, offset, segment: self.segment, bytes })
    }

    /// Reads on until so many bytes are there, if the file has them.
    fn fill(&mut self, len: usize) -> io::Result<()> {
        let there = self.bytes.len() - self.behind;
        if there < len {
            self.bytes.drain(..self.behind);
            self.behind = 0;
            self.bytes.resize(there + READ_LEN.max(len), 0);
            let got = self.segment.file.pread(&mut self.bytes[there..], self.at + there as u64)?;
            self.bytes.truncate(there + got);
        }
        Ok(())
    }
}

pub(super) struct Shared {
    pub(super) config: JournalConfig,
    pub(super) segments: Mutex<BTreeMap<u64, Segment>>,
    pub(super) space: watch::Sender<Space>,
    /// Bytes that can be written with what is allocated, without the reserve.
    pub(super) room: AtomicU64,
}

impl Shared {
    /// Nothing that holds this lock can panic half way through a change.
    pub(super) fn segments(&self) -> MutexGuard<'_, BTreeMap<u64, Segment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the journal, from any thread.
#[derive(Clone)]
pub struct JournalReader(pub(super) Arc<Shared>);

impl JournalReader {
    /// A segment, by its number; `None` when it was removed.
    pub fn segment(&self, number: u64) -> Option<Segment> {
        self.0.segments().get(&number).cloned()
    }
    /// Sizes and limits.
    pub fn config(&self) -> &JournalConfig {
        &self.0.config
    }
    /// How much room the disk has.
    pub fn space(&self) -> Space {
        *self.0.space.borrow()
    }
    /// The same as it changes: it is looked at once a second.
    pub fn watch_space(&self) -> watch::Receiver<Space> {
        self.0.space.subscribe()
    }
    /// Bytes that can be written into what is allocated already, the reserve aside: also on a disk that is full.
    pub fn room(&self) -> u64 {
        self.0.room.load(Ordering::Relaxed)
    }
}
