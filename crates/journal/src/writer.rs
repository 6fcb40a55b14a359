//! The journal's writing half (key-log §4.2): groups, segments, the mark.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quorate_core::seam::Entropy;
use quorate_core::seeded::{self, Bug};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::header::{Fold, HEADER_LEN, Header, Mark};
use super::index::Index;
use super::reader::{Inner, SegmentFile, Shared, Staged};
use super::record::{self, OVERHEAD, Record, Seq, TAG_LEN};
use super::recover::{self, End, Kept, Recovery};
use super::spare::Spare;
use super::{
    Command, JournalConfig, JournalError, JournalIds, JournalReader, Recovered, SPARE_SUFFIX, Space, Stands,
    mark_slot_at, segment_name, spare_name,
};
use crate::disk::{Disk, DiskFile, OpenMode};

/// Longest group, in bytes: bounds the latency of one write.
const GROUP_LEN_MAX: usize = 4 << 20;
/// Most records in a group; their place has 20 bits.
const GROUP_RECORDS_MAX: usize = 1 << 16;
/// How often the mark follows the stream, and how often free space is looked at.
pub(super) const MAINTENANCE_INTERVAL: Duration = Duration::from_secs(1);

/// The journal of one node and group. A plain struct: whoever owns it, a thread or a simulation's task, drives it.
pub struct Journal {
    pub(super) dir: PathBuf,
    ids: JournalIds,
    pub(super) disk: Arc<dyn Disk>,
    entropy: Arc<dyn Entropy>,
    /// Held for its lock.
    _lock: Arc<dyn DiskFile>,
    pub(super) shared: Arc<Shared>,
    pub(super) end: End,
    /// Synced: what the next segment's header will say.
    fold: Fold,
    kept: VecDeque<Kept>,
    pub(super) spare: Spare,
    mark_file: Arc<dyn DiskFile>,
    mark: Mark,
    maintained: Instant,
    buffer: Vec<u8>,
    broken: bool,
}

/// A record on its way, with the index and ticket of an entry.
struct Item {
    record: Record,
    entry: Option<(u64, u64)>,
}

impl Item {
    fn len(&self) -> usize {
        OVERHEAD
            + match &self.record {
                Record::Command(command) => Record::body_len(command),
                Record::Boot(..) => 20,
                Record::GroupEnd(_) => 4,
            }
    }
}

impl Journal {
    /// Makes a journal in `dir` (made when missing), counts the first boot and syncs it.
    ///
    /// # Errors
    /// When `dir` already holds a journal, another process has it open, or the disk fails.
    pub fn create(
        dir: &Path,
        ids: JournalIds,
        config: JournalConfig,
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<(Self, Recovered), JournalError> {
        let io = |what, e| JournalError::io(what, dir, e);
        disk.create_dir(dir).map_err(|e| io("create", e))?;
        let lock = take_lock(&*disk, dir)?;
        let names = disk.list(dir).map_err(|e| io("list", e))?;
        if !recover::segment_numbers(&names).is_empty() {
            return Err(JournalError::Exists(dir.to_owned()));
        }
        let fold = Fold::default();
        // The mark is there before the first segment: a segment without one has lost it.
        let mark = Mark { count: 1, segment: 0, offset: 0, tag: [0; TAG_LEN], next: 0, boot: 0 };
        let mark_file = (|| {
            let file = disk.open(&dir.join("mark"), OpenMode::Truncate)?;
            file.set_len(mark_slot_at(1) + record_page())?;
            file.pwrite(&mark.encode(&ids), mark_slot_at(mark.count))?;
            file.fdatasync()?;
            disk.fsync_dir(dir)?;
            Ok(file)
        })()
        .map_err(|e| io("create the mark in", e))?;
        let mut spare = Spare::default();
        let started = (|| {
            remove_spares(&*disk, dir, &names, None)?;
            spare.start(&*disk, dir, 1, config.segment_bytes)?;
            spare.finish(&*disk)?;
            let header = new_header(ids, &config, &*entropy, 1, [0; TAG_LEN], 0, fold.clone());
            begin_segment(&*disk, dir, &mut spare, &header).map(|file| (header, file))
        })();
        let (header, file) = started.map_err(|e| io("write the first segment in", e))?;
        let end = End {
            number: 1,
            file: Arc::clone(&file),
            capacity: config.segment_bytes,
            at: HEADER_LEN as u64,
            group: 0,
            chain: header.chain(),
        };
        let files = [(1, SegmentFile { file, salt: header.salt, name: segment_name(1) })].into();
        let recovery = Recovery {
            end,
            fold,
            index: Index::new(0, None, config.ring_bytes),
            files,
            kept: vec![Kept { number: 1, index_max: None }],
            mark,
            seen: None,
            torn: None,
        };
        Self::start(dir, ids, config, disk, entropy, lock, mark_file, spare, recovery)
    }

    /// Opens the journal in `dir`: replays it, cuts a torn tail, counts the boot up and syncs it.
    ///
    /// # Errors
    /// See [`JournalError`]; a journal that lost acknowledged data is `Damaged`, and is left as it is.
    pub fn open(
        dir: &Path,
        ids: JournalIds,
        config: JournalConfig,
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<(Self, Recovered), JournalError> {
        let names = match disk.list(dir) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(JournalError::Absent(dir.to_owned())),
            Err(e) => return Err(JournalError::io("list", dir, e)),
        };
        if recover::segment_numbers(&names).is_empty() && !names.iter().any(|n| n == "mark") {
            return Err(JournalError::Absent(dir.to_owned()));
        }
        let lock = take_lock(&*disk, dir)?;
        let recovery = recover::recover(&*disk, dir, &ids, config.ring_bytes)?;
        let mark_path = dir.join("mark");
        let mark_file = disk.open(&mark_path, OpenMode::Write).map_err(|e| JournalError::io("open", &mark_path, e))?;
        if let Some((at, len)) = recovery.torn {
            let path = dir.join(segment_name(recovery.end.number));
            warn!(file = %path.display(), at, bytes = len, "the last write was torn by a crash: cut off");
            let file = &recovery.end.file;
            let zeroed = file.pwrite(&vec![0; len], at).and_then(|()| file.fdatasync());
            zeroed.map_err(|e| JournalError::io("cut the torn end of", &path, e))?;
        }
        let next = spare_name(recovery.end.number + 1);
        remove_spares(&*disk, dir, &names, Some(&next)).map_err(|e| JournalError::io("clean", dir, e))?;
        let mut spare = Spare::default();
        if names.contains(&next) {
            let taken = spare.start(&*disk, dir, recovery.end.number + 1, config.segment_bytes);
            taken.map_err(|e| JournalError::io("take up the next segment in", dir, e))?;
        }
        Self::start(dir, ids, config, disk, entropy, lock, mark_file, spare, recovery)
    }

    /// Whose journal is in `dir`, by its newest segment; `None` = there is none.
    ///
    /// # Errors
    /// When that segment's header is damaged or cannot be read.
    pub fn identify(dir: &Path, disk: &dyn Disk) -> Result<Option<JournalIds>, JournalError> {
        let names = match disk.list(dir) {
            Ok(names) => names,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(JournalError::io("list", dir, e)),
        };
        match recover::segment_numbers(&names).last() {
            Some(number) => Ok(Some(recover::read_header(disk, dir, *number)?.0.ids)),
            None => Ok(None),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where a journal's parts meet")]
    fn start(
        dir: &Path,
        ids: JournalIds,
        config: JournalConfig,
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
        lock: Arc<dyn DiskFile>,
        mark_file: Arc<dyn DiskFile>,
        spare: Spare,
        recovery: Recovery,
    ) -> Result<(Self, Recovered), JournalError> {
        let Recovery { end, fold, index, files, kept, mark, seen, torn } = recovery;
        let inner = Inner {
            index,
            files,
            vote: fold.vote.clone(),
            committed: fold.committed.clone(),
            checkpoint: fold.checkpoint,
            synced_next: fold.next,
        };
        let space = watch::Sender::new(Space::default());
        let shared = Arc::new(Shared { config, inner: Mutex::new(inner), space, room: AtomicU64::new(0) });
        let boot = fold.boot.checked_add(1).ok_or_else(|| {
            JournalError::io(
                "count the start in",
                dir,
                io::Error::other("this node was started 2^32 times, which is the limit"),
            )
        })?;
        let recovered = Recovered {
            vote: fold.vote.clone(),
            committed: fold.committed.clone(),
            stands: Stands { newest: fold.checkpoint, before: fold.earlier, from_first: fold.purged.is_none() },
            seen,
            boot,
            cut_bytes: torn.map_or(0, |(_, len)| len as u64),
        };
        let kernel = disk.kernel_boot_id();
        let mut journal = Self {
            dir: dir.to_owned(),
            ids,
            disk,
            entropy,
            _lock: lock,
            shared,
            end,
            fold,
            kept: kept.into(),
            spare,
            mark_file,
            mark,
            maintained: Instant::now(),
            buffer: Vec::new(),
            broken: false,
        };
        let mut counted = vec![Item { record: Record::Boot(boot, kernel), entry: None }];
        // Seeded bug: the next start has the same number. (Leaving out the sync alone would change nothing: the journal is
        // one stream, and the first entry's sync takes the record along.)
        if seeded::is(Bug::SkipBootSync) {
            counted.clear();
        }
        let started =
            (journal.write_items(counted)).and_then(|()| journal.write_mark()).and_then(|()| journal.look_at_space());
        started.map_err(|e| JournalError::io("record the start in", dir, e))?;
        Ok((journal, recovered))
    }

    /// For readers.
    pub fn reader(&self) -> JournalReader {
        JournalReader(Arc::clone(&self.shared))
    }

    /// Writes commands in order: one `pwrite` and one `fdatasync` for all of them (several when they exceed 4 MiB).
    /// On `Ok` they are durable.
    ///
    /// # Errors
    /// `InvalidInput`: a command cannot follow (nothing was written). Anything else is a failed disk: what is
    /// durable is unknown, every later call fails, and the process must end (key-log §4.6).
    pub fn write_group(&mut self, commands: Vec<Command>) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let staged = shared.stage(&mut shared.lock(), commands)?;
        self.write_staged(staged)
    }

    /// Writes commands that readers already see.
    pub(super) fn write_staged(&mut self, staged: Vec<Staged>) -> io::Result<()> {
        let item = |Staged { command, ticket }| {
            let entry = match &command {
                Command::Entry(e) => Some((e.index, ticket)),
                _ => None,
            };
            Item { record: Record::Command(command), entry }
        };
        self.write_items(staged.into_iter().map(item).collect())
    }

    fn write_items(&mut self, items: Vec<Item>) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("the journal failed before; this process must end"));
        }
        let group_len_max = GROUP_LEN_MAX.min(self.shared.config.room_max() as usize);
        let (mut group, mut len) = (Vec::new(), OVERHEAD + 4);
        for item in items {
            if !group.is_empty() && (len + item.len() > group_len_max || group.len() == GROUP_RECORDS_MAX) {
                self.write_one_group(std::mem::take(&mut group), len)?;
                len = OVERHEAD + 4;
            }
            len += item.len();
            group.push(item);
        }
        if group.is_empty() { Ok(()) } else { self.write_one_group(group, len) }
    }

    fn write_one_group(&mut self, items: Vec<Item>, len: usize) -> io::Result<()> {
        self.fatal(|journal| journal.make_room(len as u64))?;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let (mut chain, mut seq) = (self.end.chain, Seq::first_of(self.end.group));
        let mut places = Vec::with_capacity(items.len());
        for item in &items {
            let before = buffer.len();
            chain.append(&mut buffer, seq, &item.record);
            seq = seq.next();
            places.push((self.end.at as usize + before, buffer.len() - before));
        }
        chain.append(&mut buffer, seq, &Record::GroupEnd(items.len() as u32));
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
        self.settle(&items, &places);
        self.note_room();
        if items.iter().any(|i| matches!(i.record, Record::Command(Command::Purge(_)))) {
            self.fatal(Self::unlink_purged)?;
        }
        Ok(())
    }

    /// The items are durable: readers may find them on disk, the fold moves on.
    fn settle(&mut self, items: &[Item], places: &[(usize, usize)]) {
        let mut inner = self.shared.lock();
        for (item, (offset, len)) in items.iter().zip(places) {
            self.fold.apply(&item.record);
            if let Some((index, ticket)) = item.entry {
                let location =
                    super::index::Location { segment: self.end.number, offset: *offset as u32, len: *len as u32 };
                inner.index.settle(index, ticket, location);
                if let Some(kept) = self.kept.back_mut() {
                    kept.index_max = kept.index_max.max(Some(index));
                }
            }
        }
        inner.index.trim();
        inner.synced_next = self.fold.next;
        inner.vote.clone_from(&self.fold.vote);
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
        let (tag, group) = (self.end.chain.tag, self.end.group);
        let config = &self.shared.config;
        let header = new_header(self.ids, config, &*self.entropy, number, tag, group, self.fold.clone());
        let file = begin_segment(&*self.disk, &self.dir, &mut self.spare, &header)?;
        let segment = SegmentFile { file: Arc::clone(&file), salt: header.salt, name: segment_name(number) };
        self.shared.lock().files.insert(number, segment);
        self.kept.push_back(Kept { number, index_max: None });
        let (capacity, chain) = (header.capacity, header.chain());
        self.end = End { number, file, capacity, at: HEADER_LEN as u64, group, chain };
        self.write_mark()?;
        self.look_at_space()
    }

    /// Removes the segments whose every entry is durably purged, oldest first.
    fn unlink_purged(&mut self) -> io::Result<()> {
        let purged = self.fold.purged.as_ref().map(|(index, _)| *index);
        let mut removed = false;
        while self.kept.len() > 1 && self.kept[0].index_max <= purged {
            let number = self.kept[0].number;
            let path = self.dir.join(segment_name(number));
            if let Err(e) = self.disk.unlink(&path) {
                // Only space is lost; the next purge tries again.
                warn!(file = %path.display(), error = %e, "a purged segment cannot be removed");
                break;
            }
            self.kept.pop_front();
            self.shared.lock().files.remove(&number);
            removed = true;
        }
        if removed { self.disk.fsync_dir(&self.dir) } else { Ok(()) }
    }

    /// Records how far the stream is synced.
    ///
    /// # Errors
    /// A failed disk, as in [`Journal::write_group`].
    pub fn write_mark(&mut self) -> io::Result<()> {
        let mark = Mark {
            count: self.mark.count + 1,
            segment: self.end.number,
            offset: self.end.at,
            tag: self.end.chain.tag,
            next: self.fold.next,
            boot: self.fold.boot,
        };
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
    /// A failed disk, as in [`Journal::write_group`].
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
    /// A failed disk, as in [`Journal::write_group`].
    pub fn idle(&mut self) -> io::Result<bool> {
        self.fatal(|journal| journal.spare.fill(&*journal.disk))
    }

    /// Any failure of the disk is final.
    fn fatal<T>(&mut self, run: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        run(self).inspect_err(|_| self.broken = true)
    }
}

fn record_page() -> u64 {
    mark_slot_at(1) - mark_slot_at(0)
}

fn take_lock(disk: &dyn Disk, dir: &Path) -> Result<Arc<dyn DiskFile>, JournalError> {
    let path = dir.join("lock");
    let lock = disk.open(&path, OpenMode::Create).map_err(|e| JournalError::io("open", &path, e))?;
    match lock.try_lock() {
        Ok(true) => Ok(lock),
        Ok(false) => Err(JournalError::InUse(dir.to_owned())),
        Err(e) => Err(JournalError::io("lock", &path, e)),
    }
}

/// Leftovers of preparing a segment: whatever is in them was never used.
fn remove_spares(disk: &dyn Disk, dir: &Path, names: &[String], keep: Option<&str>) -> io::Result<()> {
    for name in names.iter().filter(|n| n.ends_with(SPARE_SUFFIX) && Some(n.as_str()) != keep) {
        disk.unlink(&dir.join(name))?;
    }
    Ok(())
}

fn new_header(
    ids: JournalIds,
    config: &JournalConfig,
    entropy: &dyn Entropy,
    number: u64,
    previous_tag: [u8; TAG_LEN],
    group: u64,
    fold: Fold,
) -> Header {
    let mut salt = [0; 16];
    entropy.fill(&mut salt);
    Header { ids, number, salt, previous_tag, capacity: config.segment_bytes, group, fold }
}

/// Header, sync, name, sync: only then may the segment be used.
fn begin_segment(disk: &dyn Disk, dir: &Path, spare: &mut Spare, header: &Header) -> io::Result<Arc<dyn DiskFile>> {
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
