//! Segments that another follows: the index at their end, and the check of all that is in them.

use std::io;

use crate::disk::DiskFile;
use crate::header::{HEADER_LEN, Header};
use crate::reader::{JournalReader, Segment};
use crate::record::{BODY_LEN_MAX, Chain, GROUP_END, GROUP_END_LEN, HEAD_LEN, INDEX, OVERHEAD, Seq, TAG_LEN, len_of};

/// Bytes of a segment that are read at a time: the longest record fits.
const STEP: usize = 2 * (BODY_LEN_MAX + OVERHEAD);

/// At most `len` bytes: fewer at the end of the file.
fn read_at(file: &dyn DiskFile, at: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    let got = file.pread(&mut bytes, at)?;
    bytes.truncate(got);
    Ok(bytes)
}

/// The index at the end of a segment and where its group ends; `None`: there is none, or it is not what was written. What
/// says so is the next segment's header, which has the tag that the chain had after it.
pub(super) fn read_index(file: &dyn DiskFile, header: &Header, next: &Header) -> io::Result<Option<(Vec<u8>, u64)>> {
    let at = u64::from(next.previous_index);
    // The tag of the record before it is where the chain goes on from.
    let Some(tag_at) = at.checked_sub(TAG_LEN as u64).filter(|at| *at >= HEADER_LEN as u64) else { return Ok(None) };
    let head = read_at(file, tag_at, TAG_LEN + HEAD_LEN)?;
    let Some(len) = head.get(TAG_LEN..).and_then(len_of) else { return Ok(None) };
    let bytes = read_at(file, tag_at, TAG_LEN + len + OVERHEAD + GROUP_END_LEN)?;
    let found = || {
        let (tag, records) = bytes.split_first_chunk::<TAG_LEN>()?;
        let (chain, seq) = (Chain { salt: header.salt, tag: *tag }, Seq::first_of(next.group.checked_sub(1)?));
        let index = chain.read(records, seq).filter(|found| found.kind == INDEX)?;
        let end = index.chain.read(&records[index.len..], seq.next()).filter(|found| found.kind == GROUP_END)?;
        (end.chain.tag == next.previous_tag).then(|| (index.body.to_vec(), at + (index.len + end.len) as u64))
    };
    Ok(found())
}

impl JournalReader {
    /// The numbers of all segments, in order.
    pub fn segments(&self) -> Vec<u64> {
        self.0.segments().keys().copied().collect()
    }

    /// Reads a segment that another follows from the disk, whatever of it is cached, and checks that all that was written to it is
    /// there. False: there is no such segment, or none follows it yet. In constant memory; to be called off the runtime.
    ///
    /// # Errors
    /// When it can't be read, or (`InvalidData`) is not what was written: the message names file and byte.
    pub fn check(&self, number: u64) -> io::Result<bool> {
        match (self.segment(number), self.segment(number + 1)) {
            (Some(segment), Some(next)) => {
                segment.file.drop_cached()?;
                check(&segment, &next).map(|()| true)
            }
            _ => Ok(false),
        }
    }
}

fn header_of(segment: &Segment) -> io::Result<Header> {
    let page = read_at(&*segment.file, 0, HEADER_LEN)?;
    Header::decode(&page).map_err(|_| segment.not_as_written_at(0))
}

fn check(segment: &Segment, next: &Segment) -> io::Result<()> {
    let (header, next) = (header_of(segment)?, header_of(next)?);
    let (mut at, mut chain, mut seq) = (HEADER_LEN as u64, header.chain(), Seq::first_of(header.group));
    // What was read of the file, and how much of that is behind us.
    let (mut bytes, mut behind) = (Vec::new(), 0);
    while seq < Seq::first_of(next.group) {
        if bytes.len() - behind < STEP / 2 {
            bytes.drain(..behind);
            bytes.extend(read_at(&*segment.file, at + bytes.len() as u64, STEP)?);
            behind = 0;
        }
        let found = chain.read(&bytes[behind..], seq).ok_or_else(|| segment.not_as_written_at(at))?;
        (at, behind, chain) = (at + found.len as u64, behind + found.len, found.chain);
        seq = if found.kind == GROUP_END { Seq::first_of(seq.group() + 1) } else { seq.next() };
    }
    match chain.tag == next.previous_tag {
        true => Ok(()),
        false => Err(segment.not_as_written_at(at)),
    }
}
