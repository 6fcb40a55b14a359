//! The real disk with a limit on how much of it may be used: what is allocated counts, in pages, as a file system does.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::{Disk, DiskFile, OpenMode, RealDisk};

const PAGE: u64 = 4096;

#[derive(Default)]
struct Used {
    /// What each name stands for.
    names: BTreeMap<PathBuf, u64>,
    /// Allocated pages of each file.
    pages: BTreeMap<u64, BTreeSet<u64>>,
    /// Files so far.
    files: u64,
    /// Most pages; `None` = any number.
    max: Option<usize>,
    /// Nothing can be changed.
    frozen: bool,
    /// What it says to have free, where that is not the truth.
    said: Option<u64>,
}

impl Used {
    fn total(&self) -> usize {
        self.pages.values().map(BTreeSet::len).sum()
    }

    fn file(&mut self, path: &Path) -> u64 {
        if let Some(file) = self.names.get(path) {
            return *file;
        }
        self.files += 1;
        self.names.insert(path.to_owned(), self.files);
        self.files
    }

    fn take(&mut self, file: u64, from: u64, to: u64) -> io::Result<()> {
        if self.frozen {
            return Err(io::Error::other("the process was killed"));
        }
        let pages = self.pages.entry(file).or_default();
        let fresh: Vec<_> = (from / PAGE..to.div_ceil(PAGE)).filter(|page| !pages.contains(page)).collect();
        if self.max.is_some_and(|max| self.total() + fresh.len() > max) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.pages.entry(file).or_default().extend(fresh);
        Ok(())
    }

    fn cut(&mut self, file: u64, len: u64) {
        self.pages.entry(file).or_default().retain(|page| page * PAGE < len);
    }
}

/// Any number of pages, until [`QuotaDisk::fill_up`] or [`QuotaDisk::make_room`] says how many.
#[derive(Default)]
pub struct QuotaDisk(Arc<Mutex<Used>>);

impl QuotaDisk {
    fn lock(&self) -> MutexGuard<'_, Used> {
        self.0.lock().expect("lock")
    }
    /// Nothing is free from now on.
    pub fn fill_up(&self) {
        let mut used = self.lock();
        used.max = Some(used.total());
    }
    /// So many bytes are free.
    pub fn make_room(&self, bytes: u64) {
        let mut used = self.lock();
        used.max = Some(used.total() + (bytes / PAGE) as usize);
    }
    /// Lets it say that so many bytes are free: whoever looks only now and then can't see a disk fill up.
    pub fn pretend(&self, free_bytes: Option<u64>) {
        self.lock().said = free_bytes;
    }
    /// As long as it is frozen, whoever holds a file can't change it.
    pub fn freeze(&self, frozen: bool) {
        self.lock().frozen = frozen;
    }
}

impl Disk for QuotaDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let file = RealDisk.open(path, mode)?;
        let mut used = self.lock();
        let number = used.file(path);
        if mode == OpenMode::Truncate {
            used.cut(number, 0);
        }
        Ok(Arc::new(QuotaFile { file, number, used: self.0.clone() }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut used = self.lock();
        if let Some(file) = used.names.remove(from)
            && let Some(replaced) = used.names.insert(to.to_owned(), file)
        {
            used.pages.remove(&replaced);
        }
        RealDisk.rename(from, to)
    }
    fn fsync_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.fsync_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(dir)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut used = self.lock();
        if let Some(file) = used.names.remove(path) {
            used.pages.remove(&file);
        }
        RealDisk.unlink(path)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let used = self.lock();
        match (used.said, used.max) {
            (Some(said), _) => Ok(said),
            (None, Some(max)) => Ok(max.saturating_sub(used.total()) as u64 * PAGE),
            (None, None) => RealDisk.free_bytes(path),
        }
    }
    fn kernel_boot_id(&self) -> [u8; 16] {
        RealDisk.kernel_boot_id()
    }
}

#[derive(Debug)]
struct QuotaFile {
    file: Arc<dyn DiskFile>,
    number: u64,
    used: Arc<Mutex<Used>>,
}

impl std::fmt::Debug for Used {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} pages", self.total())
    }
}

impl DiskFile for QuotaFile {
    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.used.lock().expect("lock").take(self.number, offset, offset + bytes.len() as u64)?;
        self.file.pwrite(bytes, offset)
    }
    fn pread(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.pread(out, offset)
    }
    fn fdatasync(&self) -> io::Result<()> {
        self.file.fdatasync()
    }
    fn fallocate(&self, len: u64) -> io::Result<()> {
        self.used.lock().expect("lock").take(self.number, 0, len)?;
        self.file.fallocate(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut used = self.used.lock().expect("lock");
        if used.frozen {
            return Err(io::Error::other("the process was killed"));
        }
        used.cut(self.number, len);
        self.file.set_len(len)
    }
    fn try_lock(&self) -> io::Result<bool> {
        self.file.try_lock()
    }
}
