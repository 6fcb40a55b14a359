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

use quorate_core::codec::Reader;

/// Bytes before the body.
pub(super) const HEAD_LEN: usize = 17;
/// Bytes of the chain tag.
pub(super) const TAG_LEN: usize = 16;
/// Bytes of a record beside its body.
pub(super) const OVERHEAD: usize = HEAD_LEN + TAG_LEN;
/// Longest body. Checked before anything is allocated or searched by it.
pub(super) const BODY_LEN_MAX: usize = 1 << 20;
/// Highest kind of a record that an owner writes. They begin with 1; 0 is none, so that zeros are never a record.
pub(super) const OWNER_KIND_MAX: u8 = 127;
/// A start of the process: its number u32 ‖ the kernel's boot id 16.
pub(super) const BOOT: u8 = 128;
/// The group's end: how many records it has before this one, u32.
pub(super) const GROUP_END: u8 = 129;
/// What the contents need of a segment to take it up without its records: the last record of a segment that another follows.
pub(super) const INDEX: u8 = 130;
/// Length of the body of [`GROUP_END`].
pub(super) const GROUP_END_LEN: usize = 4;
const PLACE_BITS: u32 = 20;

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

/// The running end of a segment's chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Chain {
    pub(super) salt: [u8; 16],
    pub(super) tag: [u8; TAG_LEN],
}

/// A record found in a segment's bytes.
pub(super) struct Found<'a> {
    pub(super) kind: u8,
    pub(super) body: &'a [u8],
    /// The chain after it.
    pub(super) chain: Chain,
    /// Its length with head and tag.
    pub(super) len: usize,
}

impl Chain {
    fn step(&self, kind: u8, seq: Seq, body: &[u8]) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(&self.tag).update(&[kind]).update(&seq.0.to_be_bytes()).update(body);
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&hash.finalize().as_bytes()[..TAG_LEN]);
        Self { salt: self.salt, tag }
    }

    /// Appends a record to `out` and moves the chain past it.
    pub(super) fn append(&mut self, out: &mut Vec<u8>, seq: Seq, kind: u8, body: &[u8]) {
        let len = u32::try_from(body.len()).expect("bodies are checked to be at most 1 MiB");
        out.extend_from_slice(&len.to_be_bytes());
        out.push(kind);
        out.extend_from_slice(&seq.0.to_be_bytes());
        out.extend_from_slice(&crc(&self.salt, len, kind, seq, body).to_be_bytes());
        out.extend_from_slice(body);
        *self = self.step(kind, seq, body);
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

fn head(bytes: &[u8]) -> Option<(u32, u8, Seq, u32)> {
    let mut r = Reader::new("journal record head", bytes.get(..HEAD_LEN)?);
    let (len, kind, seq, crc) = (r.u32().ok()?, r.u8().ok()?, r.u64().ok()?, r.u32().ok()?);
    (len as usize <= BODY_LEN_MAX && (1..=INDEX).contains(&kind)).then_some((len, kind, Seq(seq), crc))
}

/// How long the record is whose head begins there, if one can.
pub(super) fn len_of(bytes: &[u8]) -> Option<usize> {
    head(bytes).map(|(len, ..)| OVERHEAD + len as usize)
}

/// Kind and body of a record of that length, which [`len_of`] told.
pub(super) fn parts(record: &[u8]) -> (u8, &[u8]) {
    (record[4], &record[HEAD_LEN..record.len() - TAG_LEN])
}

/// The record at the start of `bytes` whose crc holds, whatever came before it; its tag is not looked at.
pub(super) fn recognise<'a>(salt: &[u8; 16], bytes: &'a [u8]) -> Option<(Seq, u8, &'a [u8])> {
    let (len, kind, seq, expected) = head(bytes)?;
    let body = bytes.get(HEAD_LEN..HEAD_LEN + len as usize)?;
    (crc(salt, len, kind, seq, body) == expected).then_some((seq, kind, body))
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

    const EXAMPLES: [(u8, &[u8]); 6] =
        [(1, b"abc"), (2, b""), (OWNER_KIND_MAX, &[0; 300]), (BOOT, b"6"), (INDEX, b"places"), (GROUP_END, b"4")];

    fn append(chain: &mut Chain, out: &mut Vec<u8>, seq: Seq, example: usize) {
        let (kind, body) = EXAMPLES[example];
        chain.append(out, seq, kind, body);
    }

    #[test]
    fn records_read_back_as_written() {
        let (mut writer, mut bytes) = (chain(), Vec::new());
        for i in 0..EXAMPLES.len() {
            append(&mut writer, &mut bytes, Seq(Seq::first_of(5).0 + i as u64), i);
        }
        let (mut reader, mut at) = (chain(), 0);
        for (i, (kind, body)) in EXAMPLES.into_iter().enumerate() {
            let found = reader.read(&bytes[at..], Seq(Seq::first_of(5).0 + i as u64)).expect("reads back");
            assert_eq!((found.kind, found.body), (kind, body));
            reader = found.chain;
            at += found.len;
        }
        assert_eq!((at, reader), (bytes.len(), writer));
    }

    #[test]
    fn any_changed_byte_other_segment_or_other_place_is_refused() {
        let mut bytes = Vec::new();
        append(&mut chain(), &mut bytes, Seq::first_of(1), 0);
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
            append(&mut chain(), &mut bytes, Seq::first_of(6), 0);
            assert_eq!(find_later_group(&SALT, &bytes, 5), Some(gap), "after {gap} zeros");
            assert_eq!(find_later_group(&SALT, &bytes, 6), None);
            assert_eq!(find_later_group(&[0; 16], &bytes, 5), None);
            bytes.extend_from_slice(&[0; 9000]);
            assert_eq!(find_later_group(&SALT, &bytes, 5), Some(gap), "after {gap} zeros");
        }
    }
}
