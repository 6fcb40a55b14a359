//! A disk that tells how long each sync takes: the first thing to look at when changes are slow.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quorate_journal::disk::{Disk, DiskFile, OpenMode};
use tokio::time::Instant;

/// Hears how long a sync took, whether it failed or not.
pub type OnSync = Arc<dyn Fn(Duration) + Send + Sync>;

/// Another disk, timed.
pub struct TimedDisk<D> {
    /// The disk.
    pub inner: D,
    /// Hears of each sync.
    pub on_sync: OnSync,
}

struct TimedFile {
    inner: Arc<dyn DiskFile>,
    on_sync: OnSync,
}

impl std::fmt::Debug for TimedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

fn timed<T>(on_sync: &OnSync, sync: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let done = sync();
    on_sync(began.elapsed());
    done
}

impl<D: Disk> Disk for TimedDisk<D> {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(TimedFile { inner: self.inner.open(path, mode)?, on_sync: self.on_sync.clone() }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn fsync_dir(&self, dir: &Path) -> io::Result<()> {
        timed(&self.on_sync, || self.inner.fsync_dir(dir))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.inner.list(dir)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.inner.unlink(path)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner.create_dir(dir)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.free_bytes(path)
    }
    fn kernel_boot_id(&self) -> [u8; 16] {
        self.inner.kernel_boot_id()
    }
}

impl DiskFile for TimedFile {
    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.inner.pwrite(bytes, offset)
    }
    fn pread(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.pread(out, offset)
    }
    fn fdatasync(&self) -> io::Result<()> {
        timed(&self.on_sync, || self.inner.fdatasync())
    }
    fn fallocate(&self, len: u64) -> io::Result<()> {
        self.inner.fallocate(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.set_len(len)
    }
    fn drop_cached(&self) -> io::Result<()> {
        self.inner.drop_cached()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.inner.try_lock()
    }
}
