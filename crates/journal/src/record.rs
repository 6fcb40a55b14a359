//! Records and their chain, to the byte (key-log §4.1).
//!
//! ```text
//! len u32 | kind u8 | seq u64 | crc32c u32 (over salt ‖ len ‖ kind ‖ seq ‖ body) | body | tag 16
//! tag = BLAKE3(previous tag ‖ kind ‖ seq ‖ body), first 16 bytes
//! seq = group number (44 bits) ‖ place in the group (20 bits)
//! ```
//!
//! `len` counts the body. The crc recognises a record whose predecessor is damaged, the tag says that nothing
//! before it was lost or changed. As the group number is in `seq`, any one record of a later group proves that the
//! groups before it had been synced (§4.3).

use bytes::Bytes;
use quorate_core::codec::{Malformed, Reader, Writer};

use super::{Checkpoint, Command, IndexedId, LogEntry};

/// Bytes before the body.
pub(super) const HEAD_LEN: usize = 17;
/// Bytes of the chain tag.
pub(super) const TAG_LEN: usize = 16;
/// Bytes of a record beside its body.
pub(super) const OVERHEAD: usize = HEAD_LEN + TAG_LEN;
/// Longest body. Checked before anything is allocated or searched by it.
pub(super) const BODY_LEN_MAX: usize = 1 << 20;
/// Longest encoded log id.
pub(super) const ID_LEN_MAX: usize = 64;
/// Longest encoded vote or committed id.
pub(super) const META_LEN_MAX: usize = 256;
const PLACE_BITS: u32 = 20;

/// Kinds of records; 0 is none, so that zeros are never a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Entry = 1,
    Vote = 2,
    Committed = 3,
    TruncateAfter = 4,
    Purge = 5,
    Checkpoint = 6,
    Boot = 7,
    GroupEnd = 8,
    Seen = 9,
}

impl Kind {
    fn from_byte(b: u8) -> Option<Self> {
        use Kind::*;
        let all = [Entry, Vote, Committed, TruncateAfter, Purge, Checkpoint, Boot, GroupEnd, Seen];
        all.into_iter().find(|k| *k as u8 == b)
    }
}

/// Where a record stands in the stream.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Seq(pub u64);

impl Seq {
    /// The first record of a group.
    pub(super) fn first_of(group: u64) -> Self {
        Self(group << PLACE_BITS)
    }
    pub(super) fn group(self) -> u64 {
        self.0 >> PLACE_BITS
    }
    /// The record after this one in the same group.
    pub(super) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A record, decoded.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Record {
    /// What a caller can write.
    Command(Command),
    /// A start of the process, with the kernel's boot id.
    Boot(u32, [u8; 16]),
    /// The group's end: how many records it has before this one.
    GroupEnd(u32),
}

impl Record {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Command(Command::Entry(_)) => Kind::Entry,
            Self::Command(Command::Vote(_)) => Kind::Vote,
            Self::Command(Command::Committed(_)) => Kind::Committed,
            Self::Command(Command::TruncateAfter(_)) => Kind::TruncateAfter,
            Self::Command(Command::Purge(_)) => Kind::Purge,
            Self::Command(Command::Checkpoint(_)) => Kind::Checkpoint,
            Self::Command(Command::Seen(_)) => Kind::Seen,
            Self::Boot(..) => Kind::Boot,
            Self::GroupEnd(_) => Kind::GroupEnd,
        }
    }

    pub(super) fn body(&self) -> Vec<u8> {
        let w = Writer::new();
        match self {
            Self::Command(Command::Entry(e)) => w.u64(e.index).field(&e.id).raw(&e.payload),
            Self::Command(Command::Vote(bytes) | Command::Committed(bytes) | Command::Seen(bytes)) => w.raw(bytes),
            Self::Command(Command::TruncateAfter(None)) => w.u8(0),
            Self::Command(Command::TruncateAfter(Some(index))) => w.u8(1).u64(*index),
            Self::Command(Command::Purge((index, id))) => w.u64(*index).field(id),
            Self::Command(Command::Checkpoint(c)) => c.write(w),
            Self::Boot(n, kernel) => w.u32(*n).raw(kernel),
            Self::GroupEnd(records) => w.u32(*records),
        }
        .finish()
    }

    /// Length of the body, without making it.
    pub(super) fn body_len(command: &Command) -> usize {
        match command {
            Command::Entry(e) => 12 + e.id.len() + e.payload.len(),
            Command::Vote(bytes) | Command::Committed(bytes) | Command::Seen(bytes) => bytes.len(),
            Command::TruncateAfter(index) => 1 + if index.is_some() { 8 } else { 0 },
            Command::Purge((_, id)) => 12 + id.len(),
            Command::Checkpoint(_) => Checkpoint::LEN,
        }
    }

    pub(super) fn decode(kind: Kind, body: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("journal record", body);
        let record = match kind {
            Kind::Entry => return Ok(Self::Command(Command::Entry(decode_entry(body)?))),
            Kind::Vote => return Ok(Self::Command(Command::Vote(Bytes::copy_from_slice(body)))),
            Kind::Committed => return Ok(Self::Command(Command::Committed(Bytes::copy_from_slice(body)))),
            Kind::Seen => return Ok(Self::Command(Command::Seen(Bytes::copy_from_slice(body)))),
            Kind::TruncateAfter => Self::Command(Command::TruncateAfter(match r.u8()? {
                0 => None,
                1 => Some(r.u64()?),
                _ => return Err(Malformed("journal record: truncation")),
            })),
            Kind::Purge => Self::Command(Command::Purge(read_indexed_id(&mut r)?)),
            Kind::Checkpoint => Self::Command(Command::Checkpoint(Checkpoint::read(&mut r)?)),
            Kind::Boot => Self::Boot(r.u32()?, r.array()?),
            Kind::GroupEnd => Self::GroupEnd(r.u32()?),
        };
        r.finish()?;
        Ok(record)
    }
}

pub(super) fn decode_entry(body: &[u8]) -> Result<LogEntry, Malformed> {
    let (index, id, payload) = split_entry(body)?;
    Ok(LogEntry { index, id: Bytes::copy_from_slice(id), payload: Bytes::copy_from_slice(payload) })
}

/// Index, log id, payload of an entry's body.
pub(super) fn split_entry(body: &[u8]) -> Result<(u64, &[u8], &[u8]), Malformed> {
    let mut r = Reader::new("journal entry", body);
    Ok((r.u64()?, r.field(ID_LEN_MAX)?, r.rest()))
}

pub(super) fn read_indexed_id(r: &mut Reader<'_>) -> Result<IndexedId, Malformed> {
    Ok((r.u64()?, Bytes::copy_from_slice(r.field(ID_LEN_MAX)?)))
}

impl Checkpoint {
    pub(super) const LEN: usize = 72;
    pub(super) fn write(&self, w: Writer) -> Writer {
        w.u64(self.index).raw(&self.digest).raw(&self.chain)
    }
    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { index: r.u64()?, digest: r.array()?, chain: r.array()? })
    }
}

/// The running end of a segment's chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Chain {
    pub(super) salt: [u8; 16],
    pub(super) tag: [u8; TAG_LEN],
}

/// A record found in a segment's bytes.
pub(super) struct Found<'a> {
    pub(super) kind: Kind,
    pub(super) body: &'a [u8],
    /// The chain after it.
    pub(super) chain: Chain,
    /// Its length with head and tag.
    pub(super) len: usize,
}

impl Chain {
    fn step(&self, kind: Kind, seq: Seq, body: &[u8]) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.tag).update(&[kind as u8]).update(&seq.0.to_be_bytes()).update(body);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&hash.finalize().as_bytes()[..TAG_LEN]);
        Self { salt: self.salt, tag }
    }

    /// Appends a record to `out` and moves the chain past it.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, seq: Seq, record: &Record) {
        let (kind, body) = (record.kind(), record.body());
        let len = u32::try_from(body.len()).expect("bodies are checked to be at most 1 MiB");
        out.extend_from_slice(&len.to_be_bytes());
        out.push(kind as u8);
        out.extend_from_slice(&seq.0.to_be_bytes());
        out.extend_from_slice(&crc(&self.salt, len, kind as u8, seq, &body).to_be_bytes());
        out.extend_from_slice(&body);
        *self = self.step(kind, seq, &body);
        out.extend_from_slice(&self.tag);
    }

    /// The record at the start of `bytes`, if it is `seq` and follows this chain.
    pub(super) fn read<'a>(&self, bytes: &'a [u8], seq: Seq) -> Option<Found<'a>> {
        let (found_seq, kind, body) = recognise(&self.salt, bytes)?;
        let len = OVERHEAD + body.len();
        let tag = bytes.get(len - TAG_LEN..len)?;
        let chain = self.step(kind, seq, body);
        (found_seq == seq && chain.tag == tag).then_some(Found { kind, body, chain, len })
    }
}

fn crc(salt: &[u8; 16], len: u32, kind: u8, seq: Seq, body: &[u8]) -> u32 {
    let crc = crc32c::crc32c(salt);
    let crc = crc32c::crc32c_append(crc, &len.to_be_bytes());
    let crc = crc32c::crc32c_append(crc, &[kind]);
    let crc = crc32c::crc32c_append(crc, &seq.0.to_be_bytes());
    crc32c::crc32c_append(crc, body)
}

fn head(bytes: &[u8]) -> Option<(u32, Kind, Seq, u32)> {
    let mut r = Reader::new("journal record head", bytes.get(..HEAD_LEN)?);
    let (len, kind, seq, crc) = (r.u32().ok()?, r.u8().ok()?, r.u64().ok()?, r.u32().ok()?);
    if len as usize > BODY_LEN_MAX {
        return None;
    }
    Some((len, Kind::from_byte(kind)?, Seq(seq), crc))
}

/// The record at the start of `bytes` whose crc holds, whatever came before it; its tag is not looked at.
pub(super) fn recognise<'a>(salt: &[u8; 16], bytes: &'a [u8]) -> Option<(Seq, Kind, &'a [u8])> {
    let (len, kind, seq, expected) = head(bytes)?;
    let body = bytes.get(HEAD_LEN..HEAD_LEN + len as usize)?;
    (crc(salt, len, kind as u8, seq, body) == expected).then_some((seq, kind, body))
}

/// The first record in `bytes` that belongs to a group after `group`: proof that `group` had been synced.
pub(super) fn find_later_group(salt: &[u8; 16], bytes: &[u8], group: u64) -> Option<usize> {
    // A segment of n bytes has at most n / OVERHEAD groups; the bound spares crc runs over chance matches.
    let group_max = group + (bytes.len() / OVERHEAD) as u64 + 1;
    let mut at = 0;
    while at + OVERHEAD <= bytes.len() {
        // Most of it is zeros: no record begins more than 16 bytes before a byte that is not zero.
        const BLOCK: usize = 4096;
        if let Some(block) = bytes.get(at..at + BLOCK)
            && block == [0; BLOCK]
        {
            at += BLOCK - HEAD_LEN;
            continue;
        }
        if let Some((_, _, seq, _)) = head(&bytes[at..])
            && (group + 1..=group_max).contains(&seq.group())
            && recognise(salt, &bytes[at..]).is_some()
        {
            return Some(at);
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: [u8; 16] = [7; 16];

    fn chain() -> Chain {
        Chain { salt: SALT, tag: [1; 16] }
    }

    fn examples() -> Vec<Record> {
        let id = Bytes::from_static(b"term 1");
        vec![
            Record::Command(Command::Entry(LogEntry { index: 9, id: id.clone(), payload: Bytes::from_static(b"abc") })),
            Record::Command(Command::Vote(Bytes::from_static(b"vote"))),
            Record::Command(Command::Committed(Bytes::new())),
            Record::Command(Command::TruncateAfter(None)),
            Record::Command(Command::TruncateAfter(Some(3))),
            Record::Command(Command::Purge((4, id))),
            Record::Command(Command::Checkpoint(Checkpoint { index: 5, digest: [2; 32], chain: [3; 32] })),
            Record::Command(Command::Seen(Bytes::from_static(b"words"))),
            Record::Boot(6, [8; 16]),
            Record::GroupEnd(8),
        ]
    }

    #[test]
    fn records_read_back_as_written() {
        let (mut writer, mut bytes) = (chain(), Vec::new());
        for (i, record) in examples().iter().enumerate() {
            writer.append(&mut bytes, Seq(Seq::first_of(5).0 + i as u64), record);
        }
        let (mut reader, mut at) = (chain(), 0);
        for (i, record) in examples().iter().enumerate() {
            let found = reader.read(&bytes[at..], Seq(Seq::first_of(5).0 + i as u64)).expect("reads back");
            assert!(Record::decode(found.kind, found.body).expect("decodes") == *record);
            if let Record::Command(c) = record {
                assert_eq!(Record::body_len(c), found.body.len());
            }
            reader = found.chain;
            at += found.len;
        }
        assert_eq!((at, reader), (bytes.len(), writer));
    }

    #[test]
    fn any_changed_byte_other_segment_or_other_place_is_refused() {
        let mut bytes = Vec::new();
        chain().append(&mut bytes, Seq::first_of(1), &examples()[0]);
        for i in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[i] ^= 0x40;
            assert!(chain().read(&bad, Seq::first_of(1)).is_none(), "byte {i}");
        }
        assert!(chain().read(&bytes, Seq::first_of(1).next()).is_none());
        assert!(Chain { salt: [8; 16], ..chain() }.read(&bytes, Seq::first_of(1)).is_none());
        assert!(Chain { tag: [2; 16], ..chain() }.read(&bytes, Seq::first_of(1)).is_none());
        for cut in 0..bytes.len() {
            assert!(chain().read(&bytes[..cut], Seq::first_of(1)).is_none());
        }
    }

    #[test]
    fn a_later_group_is_found_wherever_it_begins() {
        for gap in [0, 1, 16, 17, 4079, 4080, 4095, 4096, 9000] {
            let mut bytes = vec![0; gap];
            chain().append(&mut bytes, Seq::first_of(6), &examples()[0]);
            assert_eq!(find_later_group(&SALT, &bytes, 5), Some(gap), "after {gap} zeros");
            assert_eq!(find_later_group(&SALT, &bytes, 6), None);
            assert_eq!(find_later_group(&[0; 16], &bytes, 5), None);
            bytes.extend_from_slice(&[0; 9000]);
            assert_eq!(find_later_group(&SALT, &bytes, 5), Some(gap), "after {gap} zeros");
        }
    }
}
