//! The journal's writing half (key-log §4.2): groups, segments, the mark.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use quorate_core::seam::Entropy;
use quorate_core::seeded::{self, Bug};
use tokio::time::Instant;
use tracing::warn;

use crate::disk::{Disk, DiskFile};
use crate::header::{HEADER_LEN, Header, Mark};
use crate::reader::{Segment, Shared};
use crate::record::{self, BODY_LEN_MAX, BOOT, GROUP_END, GROUP_END_LEN, INDEX, OVERHEAD, OWNER_KIND_MAX, Seq};
use crate::recover::End;
use crate::spare::Spare;
use crate::{Contents, Haste, JournalIds, JournalReader, Location, Record, mark_slot_at, segment_name};

/// Longest group, in bytes: bounds the latency of one write.
const GROUP_LEN_MAX: usize = 4 << 20;
/// Most records in a group; their place has 20 bits.
const GROUP_RECORDS_MAX: usize = 1 << 16;
/// How often the mark follows the stream, and how often free space is looked at.
pub(super) const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);

/// A journal that is written. A plain struct: whoever owns it, a thread or a simulation's task, drives it.
pub struct Journal<C> {
    pub(super) contents: C,
    pub(super) dir: PathBuf,
    pub(super) ids: JournalIds,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) entropy: Arc<dyn Entropy>,
    /// Held for its lock.
    pub(super) _lock: Arc<dyn DiskFile>,
    pub(super) shared: Arc<Shared>,
    pub(super) end: End,
    /// The number of this start, once it is synced.
    pub(super) boot: u32,
    /// The number of the oldest segment.
    pub(super) oldest: u64,
    /// What was the oldest one needed when it was last asked.
    pub(super) needed: u64,
    pub(super) spare: Spare,
    pub(super) mark_file: Arc<dyn DiskFile>,
    pub(super) mark: Mark,
    pub(super) maintained: Instant,
    pub(super) buffer: Vec<u8>,
    pub(super) broken: bool,
}

/// Length of a record with all that is added to it.
pub(super) fn written_len(record: &Record) -> usize {
    OVERHEAD + record.body.len()
}

impl<C: Contents> Journal<C> {
    /// For readers.
    pub fn reader(&self) -> JournalReader {
        JournalReader(Arc::clone(&self.shared))
    }

    /// What its owner has in it.
    pub fn contents(&self) -> &C {
        &self.contents
    }

    /// Writes records in order: one `pwrite` and one `fdatasync` for all of them (several when they exceed 4 MiB).
    /// On `Ok` they are durable, and the contents have been told.
    ///
    /// # Errors
    /// `InvalidInput`: no record has such a kind or length (nothing was written). Anything else is a failed disk: what is
    /// durable is unknown, every later call fails, and the process must end (key-log §4.6).
    pub fn write(&mut self, records: Vec<Record>) -> io::Result<()> {
        let len_max = self.shared.config.body_len_max();
        let fits = |r: &&Record| (1..=OWNER_KIND_MAX).contains(&r.kind) && r.body.len() <= len_max;
        match records.iter().find(|r| !fits(r)) {
            None => self.write_all(records),
            Some(Record { kind, body, .. }) => Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "a record of kind {kind} with {} bytes is none: kinds are 1 to 127, bytes at most {len_max}",
                    body.len()
                ),
            )),
        }
    }

    pub(super) fn write_all(&mut self, records: Vec<Record>) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the journal failed before; this process must end"));
        }
        let group_len_max = GROUP_LEN_MAX.min(self.shared.config.room_max() as usize);
        let (mut group, mut len) = (Vec::new(), OVERHEAD + GROUP_END_LEN);
        for record in records {
            let more = written_len(&record);
            if !group.is_empty() && (len + more > group_len_max || group.len() == GROUP_RECORDS_MAX) {
                self.write_group(std::mem::take(&mut group), len)?;
                len = OVERHEAD + GROUP_END_LEN;
            }
            len += more;
            group.push(record);
        }
        if group.is_empty() { Ok(()) } else { self.write_group(group, len) }
    }

    fn write_group(&mut self, records: Vec<Record>, len: usize) -> io::Result<()> {
        self.fatal(|journal| journal.make_room(len as u64))?;
        let placed = self.append_group(records, len)?;
        self.note_durable(placed);
        self.note_room();
        self.fatal(Self::remove_unneeded)
    }

    /// Writes a group where there is room for it; returns where its records lie.
    fn append_group(&mut self, records: Vec<Record>, len: usize) -> io::Result<Vec<(Record, Location)>> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let (mut chain, mut seq) = (self.end.chain, Seq::first_of(self.end.group));
        let count = records.len() as u32;
        let mut placed = Vec::with_capacity(records.len());
        for record in records {
            let (offset, len) = (self.end.at + buffer.len() as u64, written_len(&record));
            chain.append(&mut buffer, seq, record.kind, &record.body);
            seq = seq.next();
            placed.push((record, Location { segment: self.end.number, offset: offset as u32, len: len as u32 }));
        }
        chain.append(&mut buffer, seq, GROUP_END, &count.to_be_bytes());
        assert_eq!(buffer.len(), len, "a group has the length that room was made for");
        self.fatal(|journal| {
            journal.end.file.pwrite(&buffer, journal.end.at)?;
            // Seeded bug: the sync comes with the mark, up to a second after the answer.
            if seeded::is(Bug::AckBeforeFsync) { Ok(()) } else { journal.end.file.fdatasync() }
        })?;
        self.end.at += len as u64;
        (self.end.chain, self.end.group) = (chain, self.end.group + 1);
        buffer.shrink_to(GROUP_LEN_MAX / 4);
        self.buffer = buffer;
        Ok(placed)
    }

    /// These records are durable.
    fn note_durable(&mut self, mut placed: Vec<(Record, Location)>) {
        if placed.first().is_some_and(|(record, _)| record.kind == BOOT) {
            self.boot += 1;
            placed.remove(0);
        }
        self.contents.synced(&placed);
    }

    /// Room for a group in the segment, in a new one, or — when the disk has none for a new one — in the reserve.
    fn make_room(&mut self, len: u64) -> io::Result<()> {
        let reserve = self.shared.config.reserve().min(self.end.capacity / 8);
        if self.end.at + len <= self.end.capacity - reserve {
            return Ok(());
        }
        if !self.spare.is_there() {
            self.start_spare()?;
        }
        self.spare.finish(&*self.disk)?;
        if self.spare.is_there() {
            self.roll()
        } else if self.end.at + len <= self.end.capacity {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!(
                    "the disk of {} is full: no room for the next journal segment. Make room, then start this node again",
                    self.dir.display()
                ),
            ))
        }
    }

    pub(super) fn start_spare(&mut self) -> io::Result<()> {
        self.spare.start(&*self.disk, &self.dir, self.end.number + 1, self.shared.config.segment_bytes)
    }

    /// Goes on in a new segment.
    fn roll(&mut self) -> io::Result<()> {
        let number = self.end.number + 1;
        let previous_index = self.write_index()?;
        let (previous_tag, group) = (self.end.chain.tag, self.end.group);
        let header = Header {
            ids: self.ids,
            number,
            salt: new_salt(&*self.entropy),
            previous_tag,
            capacity: self.shared.config.segment_bytes,
            group,
            previous_index,
            boot: self.boot,
            summary: self.contents.summary(),
        };
        let file = begin_segment(&*self.disk, &self.dir, &mut self.spare, &header)?;
        let segment = Segment { file: Arc::clone(&file), salt: header.salt, path: self.dir.join(segment_name(number)) };
        self.shared.segments().insert(number, segment);
        let (capacity, chain) = (header.capacity, header.chain());
        self.end = End { number, file, capacity, at: HEADER_LEN as u64, group, chain };
        self.write_mark()?;
        self.look_at_space()
    }

    /// Ends a segment with its index; returns where that begins, 0 when there is no room for it.
    fn write_index(&mut self) -> io::Result<u32> {
        let (at, body) = (self.end.at, self.contents.index(self.end.number));
        let record = Record { kind: INDEX, body: body.into(), haste: Haste::Syncs, ticket: 0 };
        let len = written_len(&record) + OVERHEAD + GROUP_END_LEN;
        if record.body.len() > BODY_LEN_MAX || at + len as u64 > self.end.capacity {
            return Ok(0);
        }
        self.append_group(vec![record], len)?;
        Ok(at as u32)
    }

    /// Removes the segments that the contents no longer need, oldest first.
    fn remove_unneeded(&mut self) -> io::Result<()> {
        let needed = self.contents.oldest_needed().min(self.end.number);
        if needed <= self.needed {
            return Ok(());
        }
        self.needed = needed;
        let before = self.oldest;
        while self.oldest < needed {
            let path = self.dir.join(segment_name(self.oldest));
            if let Err(e) = self.disk.unlink(&path) {
                // Only space is lost; when the next can go, this one is tried again.
                warn!(file = %path.display(), error = %e, "a segment that is not needed cannot be removed");
                break;
            }
            self.shared.segments().remove(&self.oldest);
            self.oldest += 1;
        }
        if self.oldest > before { self.disk.fsync_dir(&self.dir) } else { Ok(()) }
    }

    /// Records how far the stream is synced.
    ///
    /// # Errors
    /// A failed disk, as in [`Journal::write`].
    pub fn write_mark(&mut self) -> io::Result<()> {
        let mark =
            Mark { count: self.mark.count + 1, segment: self.end.number, offset: self.end.at, tag: self.end.chain.tag };
        self.fatal(|journal| {
            if seeded::is(Bug::AckBeforeFsync) {
                journal.end.file.fdatasync()?;
            }
            journal.mark_file.pwrite(&mark.encode(&journal.ids), mark_slot_at(mark.count))?;
            journal.mark_file.fdatasync()
        })?;
        self.mark = mark;
        Ok(())
    }

    /// True when groups were synced since the last mark.
    pub(super) fn mark_is_behind(&self) -> bool {
        (self.mark.segment, self.mark.offset) != (self.end.number, self.end.at)
    }

    /// To be called after groups and at least once a second: moves the mark, looks at free space.
    ///
    /// # Errors
    /// A failed disk, as in [`Journal::write`].
    pub fn maintain(&mut self, now: Instant) -> io::Result<()> {
        // When never idle, the next segment is filled as fast as the second half of this one.
        let half = self.end.capacity / 2;
        let used = self.end.at.saturating_sub(half);
        self.fatal(|journal| journal.spare.fill_part(&*journal.disk, used, half))?;
        if now.saturating_duration_since(self.maintained) < MAINTENANCE_INTERVAL {
            return Ok(());
        }
        self.maintained = now;
        if self.mark_is_behind() {
            self.write_mark()?;
        }
        self.fatal(Self::look_at_space)
    }

    /// Prepares the next segment a little; to be called while there is nothing to write. Returns true when there is
    /// more to prepare.
    ///
    /// # Errors
    /// A failed disk, as in [`Journal::write`].
    pub fn idle(&mut self) -> io::Result<bool> {
        self.fatal(|journal| journal.spare.fill(&*journal.disk))
    }

    /// Any failure of the disk is final.
    fn fatal<T>(&mut self, run: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        run(self).inspect_err(|_| self.broken = true)
    }
}

pub(super) fn new_salt(entropy: &dyn Entropy) -> [u8; 16] {
    let mut salt = [0; 16];
    entropy.fill(&mut salt);
    salt
}

/// Header, sync, name, sync: only then may the segment be used.
pub(super) fn begin_segment(
    disk: &dyn Disk,
    dir: &Path,
    spare: &mut Spare,
    header: &Header,
) -> io::Result<Arc<dyn DiskFile>> {
    let (file, path) = spare.take().ok_or_else(|| {
        io::Error::new(io::ErrorKind::StorageFull, "no room on the disk for a journal segment: make room, try again")
    })?;
    file.pwrite(&header.encode(), 0)?;
    file.fdatasync()?;
    disk.rename(&path, &dir.join(segment_name(header.number)))?;
    disk.fsync_dir(dir)?;
    Ok(file)
}

const _: () = assert!(GROUP_RECORDS_MAX < 1 << 20 && GROUP_LEN_MAX >= record::BODY_LEN_MAX + 3 * OVERHEAD);
