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
