//! The state's files, and which of them is in force (key-log §5.3).
//!
//! ```text
//! state.redb              the state of a node that never installed a snapshot
//! state-<index>.redb      one that was installed, with the index it began at
//! state-<index>-<n>.new   one being received: nothing refers to it, and it goes at the next start
//! CURRENT                 format u8 ‖ name ‖ crc32c u32: the file in force; without it, state.redb
//! state.reserve           room for the file in force, given up when there is none else
//! ```
//!
//! `CURRENT` is replaced in one step, after the file it names is whole and durable under its name: a crash before
//! that step has changed nothing, a crash after it has installed everything.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use quorate_core::REPLACE_MEMBER;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_journal::disk::{Disk, OpenMode, read_small, replace_small};

use super::engine::{RedbEngine, View};
use super::incoming::Incoming;
use super::reserve::{RESERVE, Reserve};
use super::store::Store;

const CURRENT: &str = "CURRENT";
const FIRST: &str = "state.redb";
const PREFIX: &str = "state-";
const SUFFIX: &str = ".redb";
const NEW_SUFFIX: &str = ".new";
const FORMAT: u8 = 1;
const NAME_LEN_MAX: usize = 64;
const CURRENT_LEN_MAX: usize = 128;
/// A table in memory is due to be written when it takes this part of the memory for cached pages.
const TABLE_PART: usize = 4;

/// Whether a file of this name in a data directory belongs to the state.
pub fn is_state_file(name: &str) -> bool {
    let installed = name.starts_with(PREFIX) && (name.ends_with(SUFFIX) || name.ends_with(NEW_SUFFIX));
    matches!(name, FIRST | CURRENT | "CURRENT.new" | RESERVE) || installed
}

fn encode_current(name: &str) -> Vec<u8> {
    let body = Writer::new().u8(FORMAT).field(name.as_bytes()).finish();
    let crc = crc32c::crc32c(&body);
    Writer::new().raw(&body).u32(crc).finish()
}

fn decode_current(bytes: &[u8]) -> Result<String, Malformed> {
    let bad = Malformed("the name of the state in force");
    let mut r = Reader::new("CURRENT", bytes);
    if r.u8()? != FORMAT {
        return Err(bad);
    }
    let name = r.text(NAME_LEN_MAX)?.to_owned();
    let body_len = bytes.len() - r.rest().len();
    if r.u32()? != crc32c::crc32c(&bytes[..body_len]) {
        return Err(bad);
    }
    r.finish()?;
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    if plain && name.starts_with(PREFIX) && name.ends_with(SUFFIX) { Ok(name) } else { Err(bad) }
}

fn damaged(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Removes what unfinished and replaced states left.
fn remove<'a>(disk: &dyn Disk, dir: &Path, names: impl Iterator<Item = &'a String>) -> io::Result<()> {
    let mut removed = false;
    for name in names {
        tracing::info!(file = %name, "removing what an unfinished or replaced state left");
        disk.unlink(&dir.join(name))?;
        removed = true;
    }
    if removed { disk.fsync_dir(dir) } else { Ok(()) }
}

/// The state of one node: a store that can be replaced as a whole. Views on a replaced one stay good until they are
/// dropped, but for durable ones.
pub struct StateFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    cache_bytes: usize,
    reserve: Arc<Reserve>,
    current: RwLock<Option<Open>>,
    received: AtomicU64,
    replaced: AtomicU64,
}

#[derive(Clone)]
struct Open {
    store: Arc<Store>,
    engine: Arc<RedbEngine>,
    name: String,
}

impl StateFiles {
    /// Opens the state in force in `dir`, or makes the first one; removes what unfinished installs left. Up to
    /// `reserve_bytes` are set aside for it once [`Self::hold_reserve`] is called.
    ///
    /// # Errors
    /// `InvalidData` when the state, or what names it, is damaged or gone. `StorageFull` when the disk is full: it can be
    /// opened once there is room.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, cache_bytes: usize, reserve_bytes: u64) -> io::Result<Self> {
        let names = disk.list(dir)?;
        let is_there = |name: &str| names.iter().any(|n| n == name);
        let current = dir.join(CURRENT);
        let name = match read_small(&*disk, &current, CURRENT_LEN_MAX)? {
            Some(bytes) => {
                let name = decode_current(&bytes).map_err(|_| {
                    damaged(format!(
                        "{} is damaged, so which state is in force is not known: {REPLACE_MEMBER}",
                        current.display()
                    ))
                })?;
                if !is_there(&name) {
                    return Err(damaged(format!(
                        "{} names the state {name}, which is gone: put it back if it was moved; else {REPLACE_MEMBER}",
                        current.display()
                    )));
                }
                name
            }
            None if !is_there(FIRST) && names.iter().any(|n| n.starts_with(PREFIX) && n.ends_with(SUFFIX)) => {
                return Err(damaged(format!(
                    "{} is gone, which names the state in force: put it back if it was moved; else {REPLACE_MEMBER}",
                    current.display()
                )));
            }
            None => FIRST.to_owned(),
        };
        // First of all, as this may be the room that is missing.
        remove(&*disk, dir, names.iter().filter(|n| n.ends_with(NEW_SUFFIX) && is_state_file(n)))?;
        let reserve = Reserve::new(disk.clone(), dir, reserve_bytes);
        if is_there(RESERVE) {
            reserve.hold()?;
        }
        let engine = Arc::new(RedbEngine::open_in_force(&*disk, &dir.join(&name), cache_bytes, reserve.clone())?);
        let kept = [&*name, CURRENT, RESERVE];
        let stray = |n: &&String| is_state_file(n) && !n.ends_with(NEW_SUFFIX) && !kept.contains(&n.as_str());
        remove(&*disk, dir, names.iter().filter(stray))?;
        let store = Store::new(engine.clone(), cache_bytes / TABLE_PART)?;
        let current = RwLock::new(Some(Open { store, engine, name }));
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            cache_bytes,
            reserve,
            current,
            received: AtomicU64::new(0),
            replaced: AtomicU64::new(0),
        })
    }

    /// Sets the reserve aside, where it is not; false when the disk has too little room. To be called while there is
    /// plenty.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn hold_reserve(&self) -> io::Result<bool> {
        self.reserve.hold()
    }

    /// Whether it is set aside now.
    pub fn reserve_is_held(&self) -> bool {
        self.reserve.is_held()
    }

    fn open_now(&self) -> io::Result<Open> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone().ok_or_else(|| io::Error::other("this node is stopping"))
    }

    /// The one in force.
    ///
    /// # Errors
    /// When it was closed.
    pub fn store(&self) -> io::Result<Arc<Store>> {
        Ok(self.open_now()?.store)
    }

    /// The state as of the last write; later writes do not change it.
    ///
    /// # Errors
    /// When it was closed.
    pub fn view(&self) -> io::Result<Arc<dyn View>> {
        Ok(self.store()?.view())
    }

    /// The state as it is durable; the view to keep for long, since it keeps nothing in memory.
    ///
    /// # Errors
    /// When it was closed.
    pub fn durable_view(&self) -> io::Result<Arc<dyn View>> {
        Ok(self.store()?.durable_view())
    }

    /// Damage that was found in the file in force since it was opened, by whoever read it: which file, what is wrong
    /// with it, what to do.
    pub fn damage(&self) -> Option<String> {
        let what = self.open_now().ok()?.engine.damage()?;
        Some(format!("the state is damaged: {what}; {}", quorate_core::REPLACE_MEMBER))
    }

    /// Length of the file in force, in bytes.
    ///
    /// # Errors
    /// When it was closed, or the disk fails.
    pub fn bytes(&self) -> io::Result<u64> {
        self.open_now()?.engine.bytes()
    }

    /// How often the state was replaced: reading a durable view on a replaced one may fail.
    pub fn replaced(&self) -> u64 {
        self.replaced.load(Ordering::Acquire)
    }

    /// The file in force; the data directory while there is none.
    pub fn path(&self) -> PathBuf {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.as_ref().map_or_else(|| self.dir.clone(), |open| self.dir.join(&open.name))
    }

    /// Has what is read from now on come from the disk, as far as this process has not cached it itself.
    ///
    /// # Errors
    /// When the file can't be opened.
    pub fn drop_cached(&self) -> io::Result<()> {
        self.disk.open(&self.path(), OpenMode::Read)?.drop_cached()
    }

    /// Lets go of the file: it is closed once the last view is dropped.
    pub fn close(&self) {
        let closed = self.current.write().unwrap_or_else(PoisonError::into_inner).take();
        drop(closed);
    }

    /// Begins a state that is to stand at `index`, beside the one in force.
    ///
    /// # Errors
    /// When the file can't be made.
    pub fn receive(self: &Arc<Self>, index: u64) -> io::Result<Incoming> {
        let n = self.received.fetch_add(1, Ordering::Relaxed);
        let path = self.dir.join(format!("{PREFIX}{index}-{n}{NEW_SUFFIX}"));
        Incoming::begin(self.disk.clone(), path, index, self.cache_bytes)
    }

    /// Puts a whole, durable state in force in place of this one.
    ///
    /// # Errors
    /// When the disk fails; which one is in force after a crash is then not known, but it is one of the two.
    pub(super) fn put_in_force(&self, path: &Path, index: u64, engine: Arc<RedbEngine>) -> io::Result<()> {
        let name = format!("{PREFIX}{index}{SUFFIX}");
        let store = Store::new(engine.clone(), self.cache_bytes / TABLE_PART)?;
        self.disk.rename(path, &self.dir.join(&name))?;
        self.disk.fsync_dir(&self.dir)?;
        let in_force = || replace_small(&*self.disk, &self.dir.join(CURRENT), &encode_current(&name));
        self.reserve.or_with_it(in_force)?;
        self.replaced.fetch_add(1, Ordering::Release);
        engine.lend(self.reserve.clone());
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let old = current.replace(Open { store, engine, name: name.clone() });
        drop(current);
        if let Some(old) = old.filter(|old| old.name != name) {
            // Its views keep the file; only its name goes. If it stays, the next start removes it.
            if let Err(error) = self.disk.unlink(&self.dir.join(&old.name)) {
                tracing::warn!(file = %old.name, %error, "the replaced state can't be removed");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    #[test]
    fn what_names_the_state_is_checked_to_the_byte() {
        let bytes = encode_current("state-77.redb");
        assert_eq!(decode_current(&bytes).expect("reads"), "state-77.redb");
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            assert!(decode_current(&flipped).is_err(), "byte {at}");
            assert!(decode_current(&bytes[..at]).is_err(), "cut at {at}");
        }
        for name in ["../state-1.redb", "state.redb", "node", "state-1.new", "state-/1.redb"] {
            assert!(decode_current(&encode_current(name)).is_err(), "{name}");
        }
    }

    #[test]
    fn a_state_that_is_named_and_gone_is_not_made_anew() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = || StateFiles::open(Arc::new(quorate_journal::disk::RealDisk), dir.path(), 1 << 20, 0);
        std::fs::write(dir.path().join("CURRENT"), encode_current("state-7.redb")).expect("written");
        assert!(open().is_err_and(|e| e.to_string().contains("state-7.redb")));
        std::fs::write(dir.path().join("CURRENT"), b"x").expect("written");
        assert!(open().is_err_and(|e| e.to_string().contains("CURRENT")));
        std::fs::remove_file(dir.path().join("CURRENT")).expect("removed");
        std::fs::write(dir.path().join("state-7.redb"), b"").expect("written");
        assert!(open().is_err_and(|e| e.to_string().contains("is gone")));
    }
}
