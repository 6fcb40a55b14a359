//! Slots of secret memory, cut from mapped chunks.
//!
//! A chunk is, best first: `memfd_secret` pages (locked, absent from dumps, gone from the kernel's own map, so that no
//! system call can read or write them); else private pages with `mlock`, `MADV_DONTDUMP` and `MADV_WIPEONFORK`; else
//! the same without the lock, when `RLIMIT_MEMLOCK` is used up: a node must not die of its thousandth cached key, so
//! the weaker protection is reported ([`protection`]) and shown in the status. Chunks are kept and their slots used
//! again: the number of live secrets is bounded by the caches that hold them.

#![expect(unsafe_code, reason = "mapping, locking and wiping pages needs the system interface")]

use std::alloc::{Layout, handle_alloc_error};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use zeroize::Zeroize;

/// Longest secret a slot can hold, in bytes.
pub(super) const SLOT_LEN_MAX: usize = 256;
/// Length of a chunk: small, since a default `RLIMIT_MEMLOCK` may be as low as 64 KiB.
const CHUNK_LEN: usize = 16 * 1024;

/// How well secret memory is protected; the weakest chunk counts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Protection {
    /// `memfd_secret`: out of reach of dumps, swap and system calls.
    Secretmem = 1,
    /// `mlock`: out of reach of dumps and swap.
    Locked = 2,
    /// Out of reach of dumps only: raise `RLIMIT_MEMLOCK` (systemd: `LimitMEMLOCK=`).
    Unlocked = 3,
}

static WEAKEST: AtomicU8 = AtomicU8::new(Protection::Secretmem as u8);
static FREE: [Mutex<Vec<FreeSlot>>; 3] = [const { Mutex::new(Vec::new()) }; 3];

/// How well the secrets of this process are protected.
pub fn protection() -> Protection {
    // At least one chunk must exist to tell.
    drop(Slot::take(1));
    match WEAKEST.load(Ordering::Relaxed) {
        1 => Protection::Secretmem,
        2 => Protection::Locked,
        _ => Protection::Unlocked,
    }
}

struct FreeSlot(NonNull<u8>);
// SAFETY: a free slot is a unique pointer into a mapping that is never unmapped.
unsafe impl Send for FreeSlot {}

/// One slot, owned; wiped and given back when dropped.
pub(super) struct Slot {
    at: NonNull<u8>,
    class: Class,
}
// SAFETY: a Slot owns its bytes like a Box; `&Slot` only reads them.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

#[derive(Clone, Copy)]
enum Class {
    Bytes32 = 0,
    Bytes64 = 1,
    Bytes256 = 2,
}

impl Class {
    const fn len(self) -> usize {
        match self {
            Self::Bytes32 => 32,
            Self::Bytes64 => 64,
            Self::Bytes256 => SLOT_LEN_MAX,
        }
    }
    fn free(self) -> MutexGuard<'static, Vec<FreeSlot>> {
        FREE[self as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// A zeroed slot for `len` bytes (at most [`SLOT_LEN_MAX`]).
    pub(super) fn take(len: usize) -> Self {
        let class = match len {
            0..=32 => Class::Bytes32,
            33..=64 => Class::Bytes64,
            _ => Class::Bytes256,
        };
        let mut free = class.free();
        if free.is_empty() {
            let chunk = map_chunk();
            // SAFETY: the offsets stay inside the chunk that was just mapped.
            free.extend((0..CHUNK_LEN).step_by(class.len()).map(|o| FreeSlot(unsafe { chunk.add(o) })));
        }
        let FreeSlot(at) = free.pop().expect("the list was just filled");
        Self { at, class }
    }
    pub(super) fn bytes(&self) -> &[u8] {
        // SAFETY: the slot is mapped for ever, `class.len()` long, initialised (zeroed pages) and owned by self.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.class.len()) }
    }
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes it the only access.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.class.len()) }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.bytes_mut().zeroize();
        self.class.free().push(FreeSlot(self.at));
    }
}

fn map_chunk() -> NonNull<u8> {
    let (chunk, protection) = match map_secretmem() {
        Some(chunk) => (chunk, Protection::Secretmem),
        None => map_private(),
    };
    WEAKEST.fetch_max(protection as u8, Ordering::Relaxed);
    chunk
}

fn map_secretmem() -> Option<NonNull<u8>> {
    // SAFETY: plain system calls on a descriptor made and closed here; the mapping outlives it.
    unsafe {
        let fd = libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) as libc::c_int;
        if fd < 0 {
            return None;
        }
        let at = if libc::ftruncate(fd, CHUNK_LEN as libc::off_t) == 0 {
            libc::mmap(ptr::null_mut(), CHUNK_LEN, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
        } else {
            libc::MAP_FAILED
        };
        libc::close(fd);
        if at == libc::MAP_FAILED {
            return None;
        }
        // The mapping is shared: without this a forked child would see it.
        libc::madvise(at, CHUNK_LEN, libc::MADV_DONTFORK);
        NonNull::new(at.cast())
    }
}

fn map_private() -> (NonNull<u8>, Protection) {
    let layout = Layout::new::<[u8; CHUNK_LEN]>();
    // SAFETY: an anonymous mapping of our own; the advice concerns only that mapping.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let at = libc::mmap(ptr::null_mut(), CHUNK_LEN, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if at == libc::MAP_FAILED {
            handle_alloc_error(layout);
        }
        let locked = libc::mlock(at, CHUNK_LEN) == 0;
        libc::madvise(at, CHUNK_LEN, libc::MADV_DONTDUMP);
        libc::madvise(at, CHUNK_LEN, libc::MADV_WIPEONFORK);
        let protection = if locked { Protection::Locked } else { Protection::Unlocked };
        match NonNull::new(at.cast()) {
            Some(at) => (at, protection),
            None => handle_alloc_error(layout),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_slot_is_wiped() {
        for len in [32, 64, 256] {
            let used: Vec<Slot> = std::iter::repeat_with(|| Slot::take(len)).take(1000).collect();
            for mut slot in used {
                slot.bytes_mut().fill(0xA5);
            }
            // `take` does not wipe: what it gives again was wiped when it came back.
            let again: Vec<Slot> = std::iter::repeat_with(|| Slot::take(len)).take(1000).collect();
            assert!(again.iter().all(|slot| slot.bytes().iter().all(|b| *b == 0)));
        }
    }

    #[test]
    fn both_kinds_of_chunk_can_be_used() {
        for chunk in [map_secretmem(), Some(map_private().0)].into_iter().flatten() {
            // SAFETY: a fresh mapping of CHUNK_LEN bytes.
            let bytes = unsafe { std::slice::from_raw_parts_mut(chunk.as_ptr(), CHUNK_LEN) };
            assert!(bytes.iter().all(|b| *b == 0));
            bytes.fill(1);
        }
        assert!(protection() >= Protection::Secretmem);
    }
}
