//! A disk in memory that loses power: what was not synced survives in part, sector by sector.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::{Disk, DiskFile, OpenMode};

use super::Rng;

const SECTOR: usize = 512;

#[derive(Default)]
struct Inode {
    durable: Vec<u8>,
    now: Vec<u8>,
    locked: bool,
    /// Bytes that are another on the medium than what the system has cached.
    rotten: Vec<usize>,
}

#[derive(Clone)]
enum NameChange {
    Link(PathBuf, u64),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf),
}

fn change(names: &mut BTreeMap<PathBuf, u64>, change: &NameChange) {
    match change {
        NameChange::Link(path, inode) => _ = names.insert(path.clone(), *inode),
        NameChange::Unlink(path) => _ = names.remove(path),
        NameChange::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
    }
}

#[derive(Default)]
struct Inner {
    inodes: BTreeMap<u64, Inode>,
    durable_names: BTreeMap<PathBuf, u64>,
    names: BTreeMap<PathBuf, u64>,
    pending_names: Vec<NameChange>,
    next_inode: u64,
    /// Operations until the power fails; `None` = it does not.
    power: Option<u64>,
    off: bool,
    /// Handles of an earlier boot are dead.
    boot: u64,
    free_bytes: u64,
    /// pwrites and syncs so far.
    operations: u64,
    read_bytes: u64,
}

impl Inner {
    /// One more change of the disk; at the moment of the power cut it fails (having happened in part or not).
    fn spend(&mut self) -> io::Result<()> {
        self.operations += 1;
        if self.off {
            return Err(io::Error::other("power is off"));
        }
        if let Some(left) = &mut self.power {
            if *left == 0 {
                self.off = true;
                return Err(io::Error::other("power fails"));
            }
            *left -= 1;
        }
        Ok(())
    }
}

/// Cheap to clone: the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<Inner>>);

impl Default for SimDisk {
    fn default() -> Self {
        let inner = Inner { free_bytes: 1 << 40, ..Inner::default() };
        Self(Arc::new(Mutex::new(inner)))
    }
}

impl SimDisk {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
    /// The power fails after so many more operations.
    pub fn cut_power_after(&self, operations: u64) {
        self.lock().power = Some(operations);
    }
    /// Whether the power has failed.
    pub fn is_off(&self) -> bool {
        self.lock().off
    }
    /// Writes, syncs and changes of names so far.
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }
    /// Bytes read so far.
    pub fn read_bytes(&self) -> u64 {
        self.lock().read_bytes
    }
    /// What it says to have free, and no file grows by more.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.lock().free_bytes = bytes;
    }
    /// Power is back: of what was not synced, a random part survived. Old handles are dead.
    pub fn reboot(&self, rng: &mut Rng) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let kept = rng.below(inner.pending_names.len() as u64 + 1) as usize;
        for c in &inner.pending_names[..kept] {
            change(&mut inner.durable_names, c);
        }
        inner.pending_names.clear();
        inner.names = inner.durable_names.clone();
        for inode in inner.inodes.values_mut() {
            let len = if rng.chance(50) { inode.now.len() } else { inode.durable.len() };
            inode.now.resize(len, 0);
            let mut after = inode.durable.clone();
            after.resize(len, 0);
            let style = rng.below(4);
            for at in (0..len).step_by(SECTOR) {
                let keep = match style {
                    0 => true,
                    1 => false,
                    _ => rng.chance(50),
                };
                let end = (at + SECTOR).min(len);
                if keep {
                    after[at..end].copy_from_slice(&inode.now[at..end]);
                }
            }
            (inode.durable, inode.now) = (after.clone(), after);
            inode.locked = false;
        }
        (inner.off, inner.power) = (false, None);
        inner.boot += 1;
    }
    /// The process was killed: everything written is there, locks are free, handles are dead.
    pub fn kill(&self) {
        let mut inner = self.lock();
        inner.inodes.values_mut().for_each(|i| i.locked = false);
        (inner.off, inner.power) = (false, None);
        inner.boot += 1;
    }
    /// All files with their present content.
    pub fn dump(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let inner = self.lock();
        inner.names.iter().map(|(path, inode)| (path.clone(), inner.inodes[inode].now.clone())).collect()
    }
    /// A fresh disk with these files, all durable.
    pub fn load(files: &BTreeMap<PathBuf, Vec<u8>>) -> Self {
        let disk = Self::default();
        {
            let mut inner = disk.lock();
            for (path, bytes) in files {
                inner.next_inode += 1;
                let id = inner.next_inode;
                inner.inodes.insert(id, Inode { durable: bytes.clone(), now: bytes.clone(), ..Inode::default() });
                inner.names.insert(path.clone(), id);
                inner.durable_names.insert(path.clone(), id);
            }
        }
        disk
    }
    /// A byte on the medium changes; who reads it gets what the system has cached, until that is dropped.
    pub fn rot(&self, path: &Path, at: usize) {
        let mut inner = self.lock();
        let id = inner.names[path];
        inner.inodes.get_mut(&id).unwrap().rotten.push(at);
    }
    fn name(&self, c: NameChange) -> io::Result<()> {
        let mut inner = self.lock();
        inner.spend()?;
        change(&mut inner.names, &c);
        inner.pending_names.push(c);
        Ok(())
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let existing = self.lock().names.get(path).copied();
        let inode = match (existing, mode) {
            (None, OpenMode::Read | OpenMode::Write) => return Err(io::ErrorKind::NotFound.into()),
            (None, _) => {
                let mut inner = self.lock();
                inner.next_inode += 1;
                let id = inner.next_inode;
                inner.inodes.insert(id, Inode::default());
                drop(inner);
                self.name(NameChange::Link(path.to_owned(), id))?;
                id
            }
            (Some(id), OpenMode::Truncate) => {
                let mut inner = self.lock();
                inner.spend()?;
                inner.inodes.get_mut(&id).unwrap().now.clear();
                id
            }
            (Some(id), _) => id,
        };
        let boot = self.lock().boot;
        Ok(Arc::new(SimFile { disk: self.clone(), inode, boot, holds_lock: Mutex::new(false) }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if !self.lock().names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.name(NameChange::Rename(from.to_owned(), to.to_owned()))
    }
    fn fsync_dir(&self, _dir: &Path) -> io::Result<()> {
        let mut inner = self.lock();
        inner.spend()?;
        inner.durable_names = inner.names.clone();
        inner.pending_names.clear();
        Ok(())
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let inner = self.lock();
        let names = inner.names.keys().filter(|p| p.parent() == Some(dir));
        Ok(names.map(|p| p.file_name().unwrap().to_string_lossy().into_owned()).collect())
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        if !self.lock().names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.name(NameChange::Unlink(path.to_owned()))
    }
    fn create_dir(&self, _dir: &Path) -> io::Result<()> {
        Ok(())
    }
    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.lock().free_bytes)
    }
    fn kernel_boot_id(&self) -> [u8; 16] {
        [self.lock().boot as u8; 16]
    }
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
    boot: u64,
    holds_lock: Mutex<bool>,
}

impl std::fmt::Debug for SimFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "file {}", self.inode)
    }
}

impl SimFile {
    fn with<T>(&self, changes: bool, run: impl FnOnce(&mut Inode) -> T) -> io::Result<T> {
        let mut inner = self.disk.lock();
        if inner.boot != self.boot {
            return Err(io::Error::other("this handle is of an earlier boot"));
        }
        let spent = if changes { inner.spend() } else { Ok(()) };
        let done = run(inner.inodes.get_mut(&self.inode).unwrap());
        spent.map(|()| done)
    }
}

impl DiskFile for SimFile {
    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.disk.is_off() {
            return Err(io::Error::other("power is off"));
        }
        let left = self.disk.lock().free_bytes;
        self.with(true, |inode| {
            let end = offset as usize + bytes.len();
            if end > inode.now.len() {
                if (end - inode.now.len()) as u64 > left {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                inode.now.resize(end, 0);
            }
            inode.now[offset as usize..end].copy_from_slice(bytes);
            Ok(())
        })?
    }
    fn pread(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = self.with(false, |inode| {
            let from = inode.now.get(offset as usize..).unwrap_or(&[]);
            let n = from.len().min(out.len());
            out[..n].copy_from_slice(&from[..n]);
            n
        })?;
        self.disk.lock().read_bytes += n as u64;
        Ok(n)
    }
    fn fdatasync(&self) -> io::Result<()> {
        {
            let mut inner = self.disk.lock();
            inner.spend()?;
        }
        self.with(false, |inode| inode.durable.clone_from(&inode.now))
    }
    fn fallocate(&self, len: u64) -> io::Result<()> {
        let left = self.disk.lock().free_bytes;
        self.with(true, |inode| {
            let growth = (len as usize).saturating_sub(inode.now.len());
            if growth as u64 > left {
                return Err(io::ErrorKind::StorageFull.into());
            }
            inode.now.resize(inode.now.len() + growth, 0);
            Ok(())
        })?
    }
    fn len(&self) -> io::Result<u64> {
        self.with(false, |inode| inode.now.len() as u64)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(true, |inode| inode.now.resize(len as usize, 0))
    }
    fn drop_cached(&self) -> io::Result<()> {
        self.with(false, |inode| std::mem::take(&mut inode.rotten).into_iter().for_each(|at| inode.now[at] ^= 8))
    }
    fn try_lock(&self) -> io::Result<bool> {
        let mut holds = self.holds_lock.lock().unwrap();
        if *holds {
            return Ok(true);
        }
        *holds = self.with(false, |inode| !std::mem::replace(&mut inode.locked, true))?;
        Ok(*holds)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if *self.holds_lock.lock().unwrap() {
            let mut inner = self.disk.lock();
            if inner.boot == self.boot {
                inner.inodes.get_mut(&self.inode).unwrap().locked = false;
            }
        }
    }
}
