//! Room set aside for the state (key-log §4.6). What is committed has to be applied and made durable even when somebody
//! else fills the disk at once, before this node could stop taking entries.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use quorate_journal::disk::{Disk, DiskFile, OpenMode, is_full};

/// The file that takes the room.
pub(super) const RESERVE: &str = "state.reserve";

/// A file that is removed when the state finds no room.
pub(super) struct Reserve {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    len: u64,
    held: Mutex<bool>,
}

impl Reserve {
    /// A reserve of `len` bytes in `dir`; not held yet.
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path, len: u64) -> Arc<Self> {
        Arc::new(Self { disk, dir: dir.to_owned(), len, held: Mutex::new(false) })
    }

    fn path(&self) -> PathBuf {
        self.dir.join(RESERVE)
    }

    /// Takes the room, or makes sure of what an earlier start took; false when the disk has too little.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn hold(&self) -> io::Result<bool> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if *held {
            return Ok(true);
        }
        let file = self.disk.open(&self.path(), OpenMode::Create);
        let taken = file.and_then(|file| {
            if file.len()? > self.len {
                file.set_len(self.len)?;
            }
            file.fallocate(self.len)
        });
        match taken {
            Ok(()) => *held = true,
            Err(e) if is_full(&e) => self.give_up(),
            Err(e) => return Err(e),
        }
        Ok(*held)
    }

    pub(super) fn is_held(&self) -> bool {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the room away.
    pub(super) fn release(&self) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut *held) {
            tracing::warn!(dir = %self.dir.display(), bytes = self.len, "the disk is full: the state now uses its reserve");
            self.give_up();
        }
    }

    fn give_up(&self) {
        // Synced, because some file systems give freed room to nobody before that. If either fails the room stays away,
        // and whoever needed it says so.
        if let Err(error) = self.disk.unlink(&self.path()).and_then(|()| self.disk.fsync_dir(&self.dir)) {
            tracing::warn!(file = %self.path().display(), %error, "the state's reserve can't be given back");
        }
    }

    /// Runs a write that may be repeated, a second time on what the reserve gives when it found no room.
    pub(super) fn or_with_it<T>(&self, write: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match write() {
            Err(e) if is_full(&e) => {
                // Even when it was gone: another thread may have released it since.
                self.release();
                write()
            }
            done => done,
        }
    }
}

/// The reserve, once this is the state in force.
pub(super) type Lent = Arc<OnceLock<Arc<Reserve>>>;

/// A file whose writes may use the reserve. After any error redb is of no use until it is opened again, so a full disk
/// is met below it.
#[derive(Debug)]
pub(super) struct Lender {
    file: Arc<dyn DiskFile>,
    reserve: Lent,
}

impl std::fmt::Debug for Reserve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reserve").field(&self.path()).finish()
    }
}

impl Lender {
    pub(super) fn new(file: Arc<dyn DiskFile>, reserve: Lent) -> Self {
        Self { file, reserve }
    }

    fn with_room(&self, write: impl Fn() -> io::Result<()>) -> io::Result<()> {
        match self.reserve.get() {
            Some(reserve) => reserve.or_with_it(write),
            None => write(),
        }
    }
}

impl DiskFile for Lender {
    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.with_room(|| self.file.pwrite(bytes, offset))
    }
    fn pread(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.pread(out, offset)
    }
    fn fdatasync(&self) -> io::Result<()> {
        self.file.fdatasync()
    }
    fn fallocate(&self, len: u64) -> io::Result<()> {
        self.with_room(|| self.file.fallocate(len))
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with_room(|| self.file.set_len(len))
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}
