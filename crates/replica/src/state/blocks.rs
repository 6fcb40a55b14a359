//! The file under the engine, with a checksum for every block.
//!
//! redb checks its pages only when it repairs a file, and trusts them otherwise: over a damaged page it may panic, and to
//! rule that out at each start would mean to read the whole file. So every block is checked here when it is read, at any
//! time, and a start reads no more than it needs.
//!
//! ```text
//! 0        header slot 0 ┐ magic 8 ‖ seq u64 ‖ len u64 ‖ the first 448 bytes of the file ‖ BLAKE3 16: one sector each,
//! 4096     header slot 1 ┘ written in turn; the valid one with the higher seq counts
//! 8192     group 0:  1024 × u32 checksums of its blocks (0 = never written) ‖ 1024 blocks of 4 KiB
//! ...      group 1 …                                     checksum = CRC-32C(block number u64 ‖ block), 0 taken as 1
//! ```
//!
//! Why this is safe under crashes: a durable commit of redb writes pages that no durable tree refers to, syncs, then
//! turns the header, syncs (two-phase commits only). Checksums are written with the first of these syncs, so whatever
//! the header refers to has its checksum on disk. A page written without it is one that nothing refers to.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_journal::disk::DiskFile;
use redb::StorageBackend;

const BLOCK: u64 = 4096;
const GROUP_BLOCKS: u64 = 1024;
const GROUPS_AT: u64 = 2 * BLOCK;
const GROUP_LEN: u64 = (1 + GROUP_BLOCKS) * BLOCK;
const MAGIC: [u8; 8] = *b"qstate\0\x01";
/// How much of block 0 there is: redb's header is shorter, and has that block for itself.
const HEAD_LEN: usize = 448;
const TAG_LEN: usize = 16;
const SLOT_LEN: usize = 8 + 8 + 8 + HEAD_LEN + TAG_LEN;

/// Checksums of one group's blocks.
struct Group {
    sums: Box<[u32; GROUP_BLOCKS as usize]>,
    dirty: bool,
}

#[derive(Clone)]
struct Head {
    seq: u64,
    bytes: [u8; HEAD_LEN],
}

struct Inner {
    head: Head,
    /// Written since the last sync: until then it may go over itself, never over the one that is durable.
    head_written: bool,
    groups: Vec<Option<Group>>,
    /// The file's length as redb sees it.
    len: u64,
    synced_len: u64,
}

/// One file, for redb. No locks: the journal's lock covers the data folder.
pub(super) struct CheckedFile {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    inner: Mutex<Inner>,
    damage: Arc<OnceLock<String>>,
}

impl std::fmt::Debug for CheckedFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CheckedFile").field(&self.file).finish()
    }
}

/// A file just opened.
pub(super) struct Opened {
    pub(super) file: CheckedFile,
    /// The first damage found in it, for as long as it is open.
    pub(super) damage: Arc<OnceLock<String>>,
    /// One of the two headers can't be read: torn, which a disk that writes whole sectors does not do, or damaged. What
    /// the other one refers to may be of an older time, and has to be checked as a whole.
    pub(super) suspicious: bool,
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Where a block is.
fn block_at(block: u64) -> u64 {
    GROUPS_AT + block / GROUP_BLOCKS * GROUP_LEN + (1 + block % GROUP_BLOCKS) * BLOCK
}

/// Length of a file that holds so many blocks.
fn len_on_disk(blocks: u64) -> u64 {
    blocks.checked_sub(1).map_or(0, |last| block_at(last) + BLOCK)
}

/// Whole blocks in a file of that length.
fn blocks_in(len_on_disk: u64) -> u64 {
    let groups = len_on_disk.saturating_sub(GROUPS_AT);
    groups / GROUP_LEN * GROUP_BLOCKS + (groups % GROUP_LEN / BLOCK).saturating_sub(1)
}

fn checksum(block: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&block.to_le_bytes()), bytes).max(1)
}

fn encode_slot(head: &Head, len: u64) -> Vec<u8> {
    let body = Writer::new().raw(&MAGIC).u64(head.seq).u64(len).raw(&head.bytes).finish();
    let tag = blake3::hash(&body);
    Writer::new().raw(&body).raw(&tag.as_bytes()[..TAG_LEN]).finish()
}

fn decode_slot(bytes: &[u8]) -> Result<(Head, u64), Malformed> {
    const BAD: Malformed = Malformed("state file header");
    let mut r = Reader::new("state file header", bytes);
    if r.array::<8>()? != MAGIC {
        return Err(BAD);
    }
    let (seq, len, head) = (r.u64()?, r.u64()?, r.array()?);
    let tag = r.raw(TAG_LEN)?;
    r.finish()?;
    if tag != &blake3::hash(&bytes[..SLOT_LEN - TAG_LEN]).as_bytes()[..TAG_LEN] {
        return Err(BAD);
    }
    Ok((Head { seq, bytes: head }, len))
}

impl CheckedFile {
    /// Looks at a file's headers; an empty file is a new one.
    ///
    /// # Errors
    /// `InvalidData` when neither header can be read, or the file is shorter than it was.
    pub(super) fn open(file: Arc<dyn DiskFile>, path: &Path) -> io::Result<Opened> {
        let on_disk = file.len()?;
        let len = blocks_in(on_disk) * BLOCK;
        let (head, suspicious) = if on_disk == 0 {
            (Head { seq: 0, bytes: [0; HEAD_LEN] }, false)
        } else {
            let mut slots = Vec::new();
            let mut unreadable = 0;
            for at in [0, BLOCK] {
                let mut bytes = [0; SLOT_LEN];
                file.pread(&mut bytes, at)?;
                match decode_slot(&bytes) {
                    Ok(slot) => slots.push(slot),
                    Err(_) if bytes == [0; SLOT_LEN] => {}
                    Err(_) => unreadable += 1,
                }
            }
            let newest = slots.iter().max_by_key(|(head, _)| head.seq).cloned();
            let Some((head, had)) = newest else {
                return Err(invalid("it has no readable header".into()));
            };
            if len < had {
                return Err(invalid(format!("it is cut short: {had} bytes were durable, {len} are left")));
            }
            // The second header of a file is the second one ever written.
            let one_is_missing = slots.len() < 2 && head.seq > 1;
            (head, unreadable > 0 || one_is_missing)
        };
        let inner = Inner { head, head_written: false, groups: Vec::new(), len, synced_len: len };
        let damage = Arc::new(OnceLock::new());
        let file = Self { file, path: path.to_owned(), inner: Mutex::new(inner), damage: damage.clone() };
        Ok(Opened { file, damage, suspicious })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first damage found stays: it is the one to look into.
    fn damaged(&self, what: String) -> io::Error {
        invalid(self.damage.get_or_init(|| format!("{}: {what}", self.path.display())).clone())
    }

    fn write_head(&self, inner: &mut Inner) -> io::Result<()> {
        if !inner.head_written {
            inner.head.seq += 1;
            inner.head_written = true;
        }
        // A length that is not durable yet may be lost while this is kept.
        let len = inner.synced_len.min(inner.len);
        self.file.pwrite(&encode_slot(&inner.head, len), inner.head.seq % 2 * BLOCK)
    }

    /// Readers need not wait for the disk: nothing is locked meanwhile. There is one writer.
    fn sync(&self) -> io::Result<()> {
        let dirty: Vec<(u64, Vec<u8>)> = {
            let mut inner = self.lock();
            let dirty = inner.groups.iter_mut().enumerate().filter_map(|(n, group)| {
                let group = group.as_mut().filter(|group| group.dirty)?;
                group.dirty = false;
                Some((n as u64, group.sums.iter().flat_map(|sum| sum.to_le_bytes()).collect()))
            });
            dirty.collect()
        };
        for (n, bytes) in dirty {
            self.file.pwrite(&bytes, GROUPS_AT + n * GROUP_LEN)?;
        }
        self.file.fdatasync()?;
        let mut inner = self.lock();
        inner.head_written = false;
        inner.synced_len = inner.len;
        Ok(())
    }

    /// The checksums of a group; read when they are first needed.
    fn group<'a>(&self, inner: &'a mut Inner, n: usize) -> io::Result<&'a mut Group> {
        if inner.groups.len() <= n {
            inner.groups.resize_with(n + 1, || None);
        }
        let group = &mut inner.groups[n];
        if group.is_none() {
            let mut bytes = [0; BLOCK as usize];
            // A group just begun may not be in the file yet: what is not there was never written.
            self.file.pread(&mut bytes, GROUPS_AT + n as u64 * GROUP_LEN)?;
            let mut sums = Box::new([0; GROUP_BLOCKS as usize]);
            for (sum, bytes) in sums.iter_mut().zip(bytes.chunks_exact(4)) {
                *sum = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            }
            *group = Some(Group { sums, dirty: false });
        }
        group.as_mut().ok_or_else(|| io::Error::other("a group that was just read"))
    }

    /// Whole blocks from `first` on, in pieces that lie in one group each: (first block, range of bytes).
    fn pieces(first: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            let left = len - done;
            if left == 0 {
                return None;
            }
            let block = first + done as u64 / BLOCK;
            let room = (GROUP_BLOCKS - block % GROUP_BLOCKS) * BLOCK;
            let range = done..done + left.min(room as usize);
            done = range.end;
            Some((block, range))
        })
    }

    fn read_blocks(&self, first: u64, out: &mut [u8]) -> io::Result<()> {
        for (block, range) in Self::pieces(first, out.len()) {
            let out = &mut out[range];
            let blocks = out.len() / BLOCK as usize;
            let from = (block % GROUP_BLOCKS) as usize;
            let sums: Vec<u32> = {
                let mut inner = self.lock();
                let group = self.group(&mut inner, (block / GROUP_BLOCKS) as usize)?;
                group.sums[from..from + blocks].to_vec()
            };
            if self.file.pread(out, block_at(block))? != out.len() {
                return Err(self.damaged(format!("it ends before its block {}", block + blocks as u64)));
            }
            for ((n, bytes), sum) in (block..).zip(out.chunks_exact(BLOCK as usize)).zip(sums) {
                if checksum(n, bytes) != sum {
                    return Err(
                        self.damaged(format!("block {n}, at byte {}, is not what was written there", block_at(n)))
                    );
                }
            }
        }
        Ok(())
    }

    fn write_blocks(&self, first: u64, data: &[u8]) -> io::Result<()> {
        for (block, range) in Self::pieces(first, data.len()) {
            let data = &data[range];
            self.file.pwrite(data, block_at(block))?;
            let sums = (block..).zip(data.chunks_exact(BLOCK as usize)).map(|(n, bytes)| checksum(n, bytes));
            let from = (block % GROUP_BLOCKS) as usize;
            let sums: Vec<u32> = sums.collect();
            let mut inner = self.lock();
            let group = self.group(&mut inner, (block / GROUP_BLOCKS) as usize)?;
            group.sums[from..from + sums.len()].copy_from_slice(&sums);
            group.dirty = true;
        }
        Ok(())
    }
}

fn is_whole(offset: u64, len: usize) -> bool {
    offset.is_multiple_of(BLOCK) && (len as u64).is_multiple_of(BLOCK)
}

fn misplaced() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "redb reads and writes whole pages, except its header")
}

impl StorageBackend for CheckedFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset < BLOCK {
            let at = offset as usize;
            let head = self.lock().head.bytes;
            let bytes = head.get(at..at.saturating_add(out.len())).ok_or_else(misplaced)?;
            out.copy_from_slice(bytes);
            return Ok(());
        }
        if !is_whole(offset, out.len()) {
            return Err(misplaced());
        }
        let end = offset.checked_add(out.len() as u64);
        if end.is_none_or(|end| end > self.lock().len) {
            // A page number that leads out of the file can only come from damage.
            return Err(self.damaged(format!("something in it refers to byte {offset}, which it does not have")));
        }
        self.read_blocks(offset / BLOCK, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if !len.is_multiple_of(BLOCK) {
            return Err(misplaced());
        }
        let shrinks = len < self.lock().len;
        if shrinks {
            // Said before it is done: a file that is shorter than its header says counts as damaged.
            let mut inner = self.lock();
            inner.len = len;
            self.write_head(&mut inner)?;
            drop(inner);
            self.sync()?;
            self.lock().groups.truncate((len / BLOCK).div_ceil(GROUP_BLOCKS) as usize);
        }
        self.file.set_len(len_on_disk(len / BLOCK))?;
        self.lock().len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if offset < BLOCK {
            let mut inner = self.lock();
            let at = offset as usize;
            let head = inner.head.bytes.get_mut(at..at.saturating_add(data.len())).ok_or_else(misplaced)?;
            head.copy_from_slice(data);
            return self.write_head(&mut inner);
        }
        if !is_whole(offset, data.len()) {
            return Err(misplaced());
        }
        self.write_blocks(offset / BLOCK, data)
    }
}
