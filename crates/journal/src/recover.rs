//! Opening a journal (key-log §4.3–4.5): replay, and tell a torn tail from lost acknowledged data.
//!
//! Group g+1 is written only after g was synced. So: damage in the last group only is a write that a crash tore,
//! and is cut off — unless the mark says that group was synced. Damage before any record of a later group, in an
//! earlier segment, or a missing segment, is acknowledged data lost: the journal is refused and left as it is.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::header::{BadHeader, Fold, HEADER_LEN, Header, Mark, SLOT_LEN};
use super::index::{Index, Location};
use super::reader::SegmentFile;
use super::record::{self, Chain, Kind, Record, Seq};
use super::{Command, JournalError, JournalIds, LogEntry, SEGMENT_SUFFIX, mark_slot_at, segment_name};
use crate::disk::{Disk, DiskFile, OpenMode};

/// Where the journal's writing end is.
pub(super) struct End {
    pub(super) number: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) capacity: u64,
    /// Where the next group begins.
    pub(super) at: u64,
    /// The next group's number.
    pub(super) group: u64,
    pub(super) chain: Chain,
}

/// A segment that is kept, and the highest index of any entry ever written to it.
pub(super) struct Kept {
    pub(super) number: u64,
    pub(super) index_max: Option<u64>,
}

/// What replay found.
pub(super) struct Recovery {
    pub(super) end: End,
    pub(super) fold: Fold,
    pub(super) index: Index,
    pub(super) files: BTreeMap<u64, SegmentFile>,
    pub(super) kept: Vec<Kept>,
    pub(super) mark: Mark,
    /// The newest words of the others.
    pub(super) seen: Option<Bytes>,
    /// A torn group to be overwritten with zeros: from where, how many bytes.
    pub(super) torn: Option<(u64, usize)>,
}

/// The segment numbers in a folder, in order.
pub(super) fn segment_numbers(names: &[String]) -> Vec<u64> {
    let number = |name: &String| u64::from_str_radix(name.strip_suffix(SEGMENT_SUFFIX)?, 16).ok();
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

struct Segment {
    header: Header,
    file: Arc<dyn DiskFile>,
}

pub(super) fn read_header(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
) -> Result<(Header, Arc<dyn DiskFile>), JournalError> {
    let path = dir.join(segment_name(number));
    let file = disk.open(&path, OpenMode::Write).map_err(|e| JournalError::io("open", &path, e))?;
    let mut page = vec![0; HEADER_LEN];
    let got = file.pread(&mut page, 0).map_err(|e| JournalError::io("read", &path, e))?;
    let header = Header::decode(&page[..got]).map_err(|bad| match bad {
        BadHeader::Damaged => JournalError::damaged(&path, 0, "the segment's header is not what was written"),
        BadHeader::NewerFormat(format) => JournalError::NewerFormat { path: path.clone(), format },
    })?;
    if header.number != number {
        let what = format!("this file is segment {} under the name of segment {number}", header.number);
        return Err(JournalError::damaged(&path, 0, what));
    }
    Ok((header, file))
}

fn read_mark(disk: &dyn Disk, dir: &Path, ids: &JournalIds) -> Result<Option<Mark>, JournalError> {
    let path = dir.join("mark");
    let file = match disk.open(&path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(JournalError::io("open", &path, e)),
    };
    let mut newest: Option<Mark> = None;
    for slot in 0..2 {
        let mut bytes = vec![0; SLOT_LEN];
        let got = file.pread(&mut bytes, mark_slot_at(slot)).map_err(|e| JournalError::io("read", &path, e))?;
        if let Some(mark) = Mark::decode(ids, &bytes[..got])
            && newest.is_none_or(|n| n.count < mark.count)
        {
            newest = Some(mark);
        }
    }
    Ok(newest)
}

/// Reads everything, changes nothing.
pub(super) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    ids: &JournalIds,
    ring_bytes: usize,
) -> Result<Recovery, JournalError> {
    let names = disk.list(dir).map_err(|e| JournalError::io("list", dir, e))?;
    let numbers = segment_numbers(&names);
    let mut segments = Vec::new();
    for (i, number) in numbers.iter().enumerate() {
        if *number != numbers[0] + i as u64 {
            let path = dir.join(segment_name(numbers[0] + i as u64));
            return Err(JournalError::damaged(&path, 0, "this segment is missing"));
        }
        let (header, file) = read_header(disk, dir, *number)?;
        segments.push(Segment { header, file });
    }
    check_owner(dir, ids, &segments)?;
    let mark = read_mark(disk, dir, ids)?;
    let mark_path = dir.join("mark");
    let Some(last) = numbers.last() else {
        return Err(match mark {
            Some(mark) if mark.segment > 0 => {
                let path = dir.join(segment_name(mark.segment));
                JournalError::damaged(&path, mark.offset, "this segment is missing, and every other one")
            }
            _ => JournalError::Absent(dir.to_owned()),
        });
    };
    let mark =
        mark.ok_or_else(|| JournalError::damaged(&mark_path, 0, "the mark is missing, unreadable or foreign"))?;
    if mark.segment > *last {
        let path = dir.join(segment_name(mark.segment));
        return Err(JournalError::damaged(&path, mark.offset, "this segment is missing, yet it had been synced"));
    }
    if mark.segment == 0 && *last > 1 {
        return Err(JournalError::damaged(&mark_path, 0, "the mark is older than the segments"));
    }
    replay(dir, segments, mark, ring_bytes)
}

/// All segments belong to this node, or to one other node (a mix-up by people), or are mixed (damage).
fn check_owner(dir: &Path, ids: &JournalIds, segments: &[Segment]) -> Result<(), JournalError> {
    let Some(first) = segments.first() else { return Ok(()) };
    let found = first.header.ids;
    if let Some(stray) = segments.iter().find(|s| s.header.ids != found) {
        let path = dir.join(segment_name(stray.header.number));
        return Err(JournalError::damaged(&path, 0, "this segment belongs to another journal than the ones before it"));
    }
    if found.cluster != ids.cluster {
        return Err(JournalError::WrongCluster { dir: dir.to_owned(), found: found.cluster, expected: ids.cluster });
    }
    if found != *ids {
        return Err(JournalError::WrongNode { dir: dir.to_owned(), found: found.node, expected: ids.node });
    }
    Ok(())
}

fn replay(dir: &Path, segments: Vec<Segment>, mark: Mark, ring_bytes: usize) -> Result<Recovery, JournalError> {
    let oldest = &segments[0].header;
    let mut replay = Replay {
        fold: oldest.fold.clone(),
        index: Index::new(oldest.fold.next, oldest.fold.purged.clone(), ring_bytes),
        kept: Vec::new(),
        seen: None,
    };
    let (mut previous, mut files, mut torn) = (None::<End>, BTreeMap::new(), None);
    let (count, oldest_number) = (segments.len(), oldest.number);
    for (i, segment) in segments.into_iter().enumerate() {
        let Segment { header, file } = segment;
        let name = segment_name(header.number);
        let path = dir.join(&name);
        if let Some(previous) = &previous
            && (header.previous_tag, header.group) != (previous.chain.tag, previous.group)
        {
            // Either the end of the one before is damaged, or this one does not belong after it.
            let path = dir.join(segment_name(previous.number));
            let what = "what this segment ends with is not what the next one continues";
            return Err(JournalError::damaged(&path, previous.at, what));
        }
        if header.fold != replay.fold {
            return Err(JournalError::damaged(&path, 0, "the header does not sum up the segments before it"));
        }
        let bytes = read_segment(&path, &file, header.capacity)?;
        let end = replay.segment(&path, &header, Arc::clone(&file), &bytes, &mark)?;
        let newest = i + 1 == count;
        if newest {
            torn = judge_tail(&path, &end, &bytes, &mark)?;
        } else if header.number == mark.segment && end.at < mark.offset {
            return Err(JournalError::damaged(&path, end.at, "records are missing that had been synced"));
        }
        files.insert(header.number, SegmentFile { file, salt: header.salt, name });
        previous = Some(end);
    }
    let end = previous.expect("there is at least one segment");
    let known_from = replay.fold.purged.as_ref().map_or(0, |(index, _)| index + 1);
    if oldest_number > 1 && replay.index.first() > known_from {
        let path = dir.join(segment_name(oldest_number - 1));
        let what = format!("this segment is missing; it held log entries {known_from} to {}", replay.index.first() - 1);
        return Err(JournalError::damaged(&path, 0, what));
    }
    Ok(Recovery {
        end,
        fold: replay.fold,
        index: replay.index,
        files,
        kept: replay.kept,
        mark,
        seen: replay.seen,
        torn,
    })
}

fn read_segment(path: &Path, file: &Arc<dyn DiskFile>, capacity: u64) -> Result<Vec<u8>, JournalError> {
    let len = file.len().map_err(|e| JournalError::io("read", path, e))?;
    if len != capacity {
        // The length was durable before the segment's first use.
        let what = format!("the file has {len} bytes instead of {capacity}");
        return Err(JournalError::damaged(path, len.min(capacity), what));
    }
    let mut bytes = vec![0; capacity as usize];
    let got = file.pread(&mut bytes, 0).map_err(|e| JournalError::io("read", path, e))?;
    if got != bytes.len() {
        return Err(JournalError::damaged(path, got as u64, "the file ends early"));
    }
    Ok(bytes)
}

/// Replay stopped at `end.at` in the newest segment: is what follows nothing, a torn write, or lost data?
fn judge_tail(path: &Path, end: &End, bytes: &[u8], mark: &Mark) -> Result<Option<(u64, usize)>, JournalError> {
    let rest = &bytes[end.at as usize..];
    if let Some(later) = record::find_later_group(&end.chain.salt, rest, end.group) {
        let later = end.at + later as u64;
        let what =
            format!("records are damaged or missing here, though a later group begins at byte {later} or before");
        return Err(JournalError::damaged(path, end.at, what));
    }
    if mark.segment == end.number && end.at < mark.offset {
        let what =
            format!("records are damaged or missing here, though everything up to byte {} was synced", mark.offset);
        return Err(JournalError::damaged(path, end.at, what));
    }
    Ok(rest.iter().rposition(|b| *b != 0).map(|last| (end.at, last + 1)))
}

struct Replay {
    fold: Fold,
    index: Index,
    kept: Vec<Kept>,
    seen: Option<Bytes>,
}

impl Replay {
    /// Applies all whole groups of a segment; returns where they end.
    fn segment(
        &mut self,
        path: &Path,
        header: &Header,
        file: Arc<dyn DiskFile>,
        bytes: &[u8],
        mark: &Mark,
    ) -> Result<End, JournalError> {
        let mut end = End {
            number: header.number,
            file,
            capacity: header.capacity,
            at: HEADER_LEN as u64,
            group: header.group,
            chain: header.chain(),
        };
        let mut index_max = None;
        loop {
            check_mark(path, &end, mark)?;
            let Some((records, after)) = read_group(path, &end, bytes)? else { break };
            for (at, record) in records {
                if let Record::Command(Command::Entry(e)) = &record {
                    index_max = index_max.max(Some(e.index));
                }
                self.record(record, at).map_err(|what| JournalError::damaged(path, u64::from(at.offset), what))?;
            }
            (end.at, end.chain, end.group) = (after.0, after.1, end.group + 1);
        }
        self.kept.push(Kept { number: header.number, index_max });
        Ok(end)
    }

    fn record(&mut self, record: Record, at: Location) -> Result<(), String> {
        if let Record::Command(command) = &record {
            self.index.ends().follow(command)?;
            match command {
                Command::Entry(entry) => self.index.recovered(entry.index, at),
                Command::TruncateAfter(index) => self.index.truncate_after(*index),
                Command::Purge(id) => self.index.purge(id.clone()),
                Command::Seen(words) => self.seen = Some(words.clone()),
                Command::Vote(_) | Command::Committed(_) | Command::Checkpoint(_) => {}
            }
        }
        self.fold.apply(&record);
        Ok(())
    }
}

/// Where the mark was made, the chain must have its tag.
fn check_mark(path: &Path, end: &End, mark: &Mark) -> Result<(), JournalError> {
    if mark.segment == end.number && mark.offset == end.at && mark.tag != end.chain.tag {
        return Err(JournalError::damaged(path, end.at, "other records stand here than had been synced"));
    }
    Ok(())
}

type Group = (Vec<(Location, Record)>, (u64, Chain));

/// The group at `end`, if it is whole. Payloads of entries stay on disk.
fn read_group(path: &Path, end: &End, bytes: &[u8]) -> Result<Option<Group>, JournalError> {
    let (mut at, mut chain, mut seq, mut records) = (end.at as usize, end.chain, Seq::first_of(end.group), Vec::new());
    while let Some(found) = bytes.get(at..).and_then(|rest| chain.read(rest, seq)) {
        let malformed = |_| JournalError::damaged(path, at as u64, "a whole record of unknown content");
        let record = match found.kind {
            Kind::Entry => {
                let (index, ..) = record::split_entry(found.body).map_err(malformed)?;
                Record::Command(Command::Entry(LogEntry { index, id: Bytes::new(), payload: Bytes::new() }))
            }
            kind => Record::decode(kind, found.body).map_err(malformed)?,
        };
        let location = Location { segment: end.number, offset: at as u32, len: found.len as u32 };
        (at, chain, seq) = (at + found.len, found.chain, seq.next());
        match record {
            Record::GroupEnd(count) if count as usize == records.len() => {
                return Ok(Some((records, (at as u64, chain))));
            }
            Record::GroupEnd(_) => {
                let at = u64::from(location.offset);
                return Err(JournalError::damaged(path, at, "a group has not as many records as it says"));
            }
            record => records.push((location, record)),
        }
    }
    Ok(None)
}

impl Fold {
    /// Moves past a record.
    pub(super) fn apply(&mut self, record: &Record) {
        match record {
            Record::Command(Command::Entry(LogEntry { index, .. })) => self.next = index + 1,
            Record::Command(Command::Vote(vote)) => self.vote = Some(vote.clone()),
            Record::Command(Command::Committed(id)) => self.committed = Some(id.clone()),
            Record::Command(Command::TruncateAfter(index)) => {
                self.next = self.next.min(index.map_or(0, |i| i.saturating_add(1)));
            }
            Record::Command(Command::Purge(id)) => {
                if self.purged.as_ref().is_none_or(|(old, _)| *old < id.0) {
                    self.next = self.next.max(id.0 + 1);
                    self.purged = Some(id.clone());
                }
            }
            Record::Command(Command::Checkpoint(c)) => self.earlier = self.checkpoint.replace(*c),
            Record::Boot(n, _) => self.boot = *n,
            // Written anew before anything that held it can go, and not Raft's.
            Record::Command(Command::Seen(_)) | Record::GroupEnd(_) => {}
        }
    }
}
