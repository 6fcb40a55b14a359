//! The real disk, whose journal, state, or states being received, can be held: what is written to them then waits, as
//! behind a slow or stalled device. And it can say that it is nearly full.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use quorate_journal::disk::{Disk, DiskFile, OpenMode, RealDisk};

/// Lets so many bytes through, and no more until it is told otherwise; `None`: any number.
#[derive(Default, Debug)]
struct Gate {
    left: Mutex<Option<usize>>,
    changed: Condvar,
    waiting: AtomicU64,
}

impl Gate {
    fn set(&self, left: Option<usize>) {
        *self.left.lock().expect("lock") = left;
        self.changed.notify_all();
    }

    fn pass(&self, bytes: usize) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let left = self.left.lock().expect("lock");
        let mut left = self.changed.wait_while(left, |left| *left == Some(0)).expect("lock");
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        *left = left.map(|left| left.saturating_sub(bytes));
    }
}

#[derive(Default)]
pub struct TestDisk(Arc<Gate>, Arc<Gate>, AtomicU64, Arc<Gate>);

impl TestDisk {
    /// What it says to have free; `None` = what is there.
    pub fn set_free_bytes(&self, bytes: Option<u64>) {
        self.2.store(bytes.map_or(0, |b| b + 1), Ordering::Relaxed);
    }

    pub fn hold_received(&self, held: bool) {
        self.1.set(held.then_some(0));
    }

    /// Holds states being received once so many bytes of them are written.
    pub fn hold_received_after(&self, bytes: usize) {
        self.1.set(Some(bytes));
    }

    /// Holds the state in force of a node that was sent none.
    pub fn hold_state(&self, held: bool) {
        self.3.set(held.then_some(0));
    }

    /// Whether somebody waits for that state to be written.
    pub fn state_is_waited_for(&self) -> bool {
        self.3.waiting.load(Ordering::Relaxed) > 0
    }

    pub fn hold_journal(&self, held: bool) {
        self.0.set(held.then_some(0));
    }
}

impl Disk for TestDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = RealDisk.open(path, mode)?;
        let journal = path.parent().is_some_and(|dir| dir.ends_with("journal"));
        let received = path.extension().is_some_and(|e| e == "new") && mode == OpenMode::Create;
        let state = path.file_name().is_some_and(|name| name == "state.redb") && mode == OpenMode::Create;
        Ok(match (journal, received, state) {
            (true, ..) => Arc::new(HeldFile(file, self.0.clone())),
            (_, true, _) => Arc::new(HeldFile(file, self.1.clone())),
            (.., true) => Arc::new(HeldFile(file, self.3.clone())),
            _ => file,
        })
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn fsync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.fsync_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        RealDisk.unlink(path)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        match self.2.load(Ordering::Relaxed) {
            0 => RealDisk.free_bytes(path),
            said => Ok(said - 1),
        }
    }
    fn kernel_boot_id(&self) -> [u8; 16] {
        RealDisk.kernel_boot_id()
    }
}

#[derive(Debug)]
struct HeldFile(Arc<dyn DiskFile>, Arc<Gate>);

impl DiskFile for HeldFile {
    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.1.pass(bytes.len());
        self.0.pwrite(bytes, offset)
    }
    fn pread(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.pread(out, offset)
    }
    fn fdatasync(&self) -> io::Result<()> {
        self.1.pass(0);
        self.0.fdatasync()
    }
    fn fallocate(&self, len: u64) -> io::Result<()> {
        self.0.fallocate(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn drop_cached(&self) -> io::Result<()> {
        self.0.drop_cached()
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.0.try_lock()
    }
}
