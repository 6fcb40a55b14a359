//! Making a journal, and opening one (key-log §4.5).

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use quorate_core::codec::Writer;
use quorate_core::seam::Entropy;
use quorate_core::seeded::{self, Bug};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::header::{HEADER_LEN, Header, Mark};
use crate::reader::{Segment, Shared};
use crate::record::{BOOT, TAG_LEN};
use crate::recover::{self, End, Recovery};
use crate::spare::Spare;
use crate::writer::{begin_segment, new_salt};
use crate::{
    Contents, Haste, Journal, JournalConfig, JournalError, JournalIds, MARK_LEN, Record, Recovered, SPARE_SUFFIX,
    Space, mark_slot_at, segment_name, spare_name,
};

impl<C: Contents> Journal<C> {
    /// Makes a journal in `dir` (made when missing) for contents that are empty, counts the first boot and syncs it.
    ///
    /// # Errors
    /// When `dir` already holds a journal, another process has it open, or the disk fails.
    pub fn create(
        dir: &Path,
        ids: JournalIds,
        config: JournalConfig,
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
        contents: C,
    ) -> Result<(Self, Recovered), JournalError> {
        let io = |what, e| JournalError::io(what, dir, e);
        disk.create_dir(dir).map_err(|e| io("create", e))?;
        let lock = take_lock(&*disk, dir)?;
        let names = disk.list(dir).map_err(|e| io("list", e))?;
        if !recover::segment_numbers(&names).is_empty() {
            return Err(JournalError::Exists(dir.to_owned()));
        }
        // The mark is there before the first segment: a segment without one has lost it.
        let mark = Mark { count: 1, segment: 0, offset: 0, tag: [0; TAG_LEN] };
        let mark_file = (|| {
            let file = disk.open(&dir.join("mark"), OpenMode::Truncate)?;
            file.set_len(MARK_LEN)?;
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
            let header = Header {
                ids,
                number: 1,
                salt: new_salt(&*entropy),
                previous_tag: [0; TAG_LEN],
                capacity: config.segment_bytes,
                group: 0,
                previous_index: 0,
                boot: 0,
                summary: contents.summary(),
            };
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
        let segments = [(1, Segment { file, salt: header.salt, path: dir.join(segment_name(1)) })].into();
        let recovery = Recovery { end, boot: 0, oldest: 1, segments, mark, torn: None };
        Self::start(dir, ids, config, disk, entropy, contents, lock, mark_file, spare, recovery)
    }

    /// Opens the journal in `dir`: replays it into contents that are empty, cuts a torn tail, counts the boot up and syncs it.
    ///
    /// # Errors
    /// See [`JournalError`]; a journal that lost acknowledged data is `Damaged`, and is left as it is.
    pub fn open(
        dir: &Path,
        ids: JournalIds,
        config: JournalConfig,
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
        mut contents: C,
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
        let recovery = recover::recover(&*disk, dir, &ids, &mut contents)?;
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
        Self::start(dir, ids, config, disk, entropy, contents, lock, mark_file, spare, recovery)
    }

    #[expect(clippy::too_many_arguments, reason = "the one place where a journal's parts meet")]
    fn start(
        dir: &Path,
        ids: JournalIds,
        config: JournalConfig,
        disk: Arc<dyn Disk>,
        entropy: Arc<dyn Entropy>,
        contents: C,
        lock: Arc<dyn DiskFile>,
        mark_file: Arc<dyn DiskFile>,
        spare: Spare,
        recovery: Recovery,
    ) -> Result<(Self, Recovered), JournalError> {
        let Recovery { end, boot, oldest, segments, mark, torn } = recovery;
        let space = watch::Sender::new(Space::default());
        let shared = Arc::new(Shared { config, segments: Mutex::new(segments), space, room: AtomicU64::new(0) });
        let this_boot = boot.checked_add(1).ok_or_else(|| {
            JournalError::io(
                "count the start in",
                dir,
                io::Error::other("this node was started 2^32 times, which is the limit"),
            )
        })?;
        let recovered = Recovered { boot: this_boot, cut_bytes: torn.map_or(0, |(_, len)| len as u64) };
        let body = Writer::new().u32(this_boot).raw(&disk.kernel_boot_id()).finish().into();
        let mut journal = Self {
            contents,
            dir: dir.to_owned(),
            ids,
            disk,
            entropy,
            _lock: lock,
            shared,
            end,
            boot,
            oldest,
            needed: oldest,
            spare,
            mark_file,
            mark,
            maintained: Instant::now(),
            buffer: Vec::new(),
            broken: false,
        };
        // Seeded bug: the next start has the same number. (Leaving out the sync alone would change nothing: the journal is
        // one stream, and the first record's sync takes this one along.)
        let counted = match seeded::is(Bug::SkipBootSync) {
            true => Ok(()),
            false => journal.write_all(vec![Record { kind: BOOT, body, haste: Haste::Marks, ticket: 0 }]),
        };
        let started = counted.and_then(|()| journal.write_mark()).and_then(|()| journal.look_at_space());
        started.map_err(|e| JournalError::io("record the start in", dir, e))?;
        Ok((journal, recovered))
    }
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
