//! Opening a journal (key-log §4.3–4.5): replay, and tell a torn tail from lost acknowledged data.
//!
//! Group g+1 is written only after g was synced. So: damage in the last group only is a write that a crash tore,
//! and is cut off — unless the mark says that group was synced. Damage before any record of a later group, in an
//! earlier segment, or a missing segment, is acknowledged data lost: the journal is refused and left as it is.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use quorate_core::codec::Reader;

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::header::{BadHeader, HEADER_LEN, Header, Mark, SLOT_LEN};
use crate::reader::Segment;
use crate::record::{self, BOOT, Chain, GROUP_END, INDEX, Seq};
use crate::sealed::read_index;
use crate::{Contents, JournalError, JournalIds, Location, SEGMENT_SUFFIX, Sealed, mark_slot_at, segment_name};

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

/// What replay found, beside the contents.
pub(super) struct Recovery {
    pub(super) end: End,
    /// The number of the newest start.
    pub(super) boot: u32,
    /// The number of the oldest segment.
    pub(super) oldest: u64,
    pub(super) segments: BTreeMap<u64, Segment>,
    pub(super) mark: Mark,
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

/// Reads everything that the contents do not take up by an index, and tells them; changes nothing on the disk.
pub(super) fn recover(
    disk: &dyn Disk,
    dir: &Path,
    ids: &JournalIds,
    contents: &mut dyn Contents,
) -> Result<Recovery, JournalError> {
    let names = disk.list(dir).map_err(|e| JournalError::io("list", dir, e))?;
    let numbers = segment_numbers(&names);
    let mut segments = Vec::new();
    for (i, number) in numbers.iter().enumerate() {
        if *number != numbers[0] + i as u64 {
            let path = dir.join(segment_name(numbers[0] + i as u64));
            return Err(JournalError::damaged(&path, 0, "this segment is missing"));
        }
        segments.push(read_header(disk, dir, *number)?);
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
    replay(dir, segments, mark, contents)
}

/// All segments belong to this journal, or to one other (a mix-up by people), or are mixed (damage).
fn check_owner(dir: &Path, ids: &JournalIds, segments: &[(Header, Arc<dyn DiskFile>)]) -> Result<(), JournalError> {
    let Some((first, _)) = segments.first() else { return Ok(()) };
    let found = first.ids;
    if let Some((stray, _)) = segments.iter().find(|(header, _)| header.ids != found) {
        let path = dir.join(segment_name(stray.number));
        return Err(JournalError::damaged(&path, 0, "this segment belongs to another journal than the ones before it"));
    }
    if found != *ids {
        return Err(JournalError::Foreign { dir: dir.to_owned(), found, expected: *ids });
    }
    Ok(())
}

fn replay(
    dir: &Path,
    found: Vec<(Header, Arc<dyn DiskFile>)>,
    mark: Mark,
    contents: &mut dyn Contents,
) -> Result<Recovery, JournalError> {
    let (oldest, mut boot) = (found[0].0.number, found[0].0.boot);
    let begun = contents.begin(&found[0].0.summary);
    begun.map_err(|e| JournalError::damaged(&dir.join(segment_name(oldest)), 0, e.to_string()))?;
    let (mut previous, mut segments, mut torn) = (None::<End>, BTreeMap::new(), None);
    let newest_summary = found[found.len() - 1].0.summary.clone();
    let mut found = found.into_iter().peekable();
    while let Some((header, file)) = found.next() {
        let path = dir.join(segment_name(header.number));
        if let Some(previous) = &previous
            && (header.previous_tag, header.group) != (previous.chain.tag, previous.group)
        {
            // Either the end of the one before is damaged, or this one does not belong after it.
            let path = dir.join(segment_name(previous.number));
            let what = "what this segment ends with is not what the next one continues";
            return Err(JournalError::damaged(&path, previous.at, what));
        }
        if (header.boot, &header.summary) != (boot, &contents.summary()) {
            return Err(JournalError::damaged(&path, 0, "the header does not sum up the segments before it"));
        }
        segments.insert(header.number, Segment { file: Arc::clone(&file), salt: header.salt, path: path.clone() });
        // The mark is in the newest one, unless a crash came while that was made.
        if let Some((next, _)) = found.peek().filter(|_| header.number != mark.segment)
            && let Some(end) = resume_segment(&path, &header, next, &newest_summary, &file, contents)?
        {
            (boot, previous) = (next.boot, Some(end));
            continue;
        }
        let bytes = read_segment(&path, &file, header.capacity)?;
        let end = replay_segment(&path, &header, Arc::clone(&file), &bytes, &mark, &mut boot, contents)?;
        if found.peek().is_none() {
            torn = judge_tail(&path, &end, &bytes, &mark)?;
        } else if header.number == mark.segment && end.at < mark.offset {
            return Err(JournalError::damaged(&path, end.at, "records are missing that had been synced"));
        }
        previous = Some(end);
    }
    let end = previous.expect("there is at least one segment");
    contents.replayed(oldest > 1).map_err(|what| {
        let path = dir.join(segment_name(oldest - 1));
        JournalError::damaged(&path, 0, format!("this segment is missing; it held {what}"))
    })?;
    Ok(Recovery { end, boot, oldest, segments, mark, torn })
}

/// Has the contents take up a segment by its index, if it has one that is whole and they can do with it; returns where the
/// segment ends then.
fn resume_segment(
    path: &Path,
    header: &Header,
    next: &Header,
    newest: &[u8],
    file: &Arc<dyn DiskFile>,
    contents: &mut dyn Contents,
) -> Result<Option<End>, JournalError> {
    let index = read_index(&**file, header, next).map_err(|e| JournalError::io("read", path, e))?;
    let Some((index, at)) = index else { return Ok(None) };
    let sealed = Sealed { index: &index, summary: &next.summary, newest };
    let taken = contents.resume(header.number, &sealed);
    let taken = taken.map_err(|what| JournalError::damaged(path, u64::from(next.previous_index), what))?;
    Ok(taken.then(|| End {
        number: header.number,
        file: Arc::clone(file),
        capacity: header.capacity,
        at,
        group: next.group,
        chain: Chain { salt: header.salt, tag: next.previous_tag },
    }))
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

/// Tells the contents all whole groups of a segment; returns where they end.
fn replay_segment(
    path: &Path,
    header: &Header,
    file: Arc<dyn DiskFile>,
    bytes: &[u8],
    mark: &Mark,
    boot: &mut u32,
    contents: &mut dyn Contents,
) -> Result<End, JournalError> {
    let mut end = End {
        number: header.number,
        file,
        capacity: header.capacity,
        at: HEADER_LEN as u64,
        group: header.group,
        chain: header.chain(),
    };
    loop {
        check_mark(path, &end, mark)?;
        let Some((records, after)) = read_group(path, &end, bytes)? else { break };
        for (at, kind, body) in records {
            let told = match kind {
                INDEX => Ok(()),
                BOOT => Reader::new("a start's record", body).u32().map(|n| *boot = n).map_err(|e| e.to_string()),
                kind => contents.replay(kind, body, at),
            };
            told.map_err(|what| JournalError::damaged(path, u64::from(at.offset), what))?;
        }
        (end.at, end.chain, end.group) = (after.0, after.1, end.group + 1);
    }
    Ok(end)
}

/// Where the mark was made, the chain must have its tag.
fn check_mark(path: &Path, end: &End, mark: &Mark) -> Result<(), JournalError> {
    if mark.segment == end.number && mark.offset == end.at && mark.tag != end.chain.tag {
        return Err(JournalError::damaged(path, end.at, "other records stand here than had been synced"));
    }
    Ok(())
}

type Group<'a> = (Vec<(Location, u8, &'a [u8])>, (u64, Chain));

/// The group at `end`, if it is whole.
fn read_group<'a>(path: &Path, end: &End, bytes: &'a [u8]) -> Result<Option<Group<'a>>, JournalError> {
    let (mut at, mut chain, mut seq, mut records) = (end.at as usize, end.chain, Seq::first_of(end.group), Vec::new());
    while let Some(found) = bytes.get(at..).and_then(|rest| chain.read(rest, seq)) {
        let location = Location { segment: end.number, offset: at as u32, len: found.len as u32 };
        (at, chain, seq) = (at + found.len, found.chain, seq.next());
        if found.kind != GROUP_END {
            records.push((location, found.kind, found.body));
        } else if Reader::new("a group's end", found.body).u32().ok() == u32::try_from(records.len()).ok() {
            return Ok(Some((records, (at as u64, chain))));
        } else {
            let what = "a group has not as many records as it says";
            return Err(JournalError::damaged(path, u64::from(location.offset), what));
        }
    }
    Ok(None)
}
