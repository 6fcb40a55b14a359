//! A segment's header page and the mark's slots, to the byte (key-log §4.4, §4.5).
//!
//! ```text
//! header = "qjournal" ‖ format u8 ‖ group u32 ‖ cluster 16 ‖ node u64 ‖ number u64 ‖ salt 16 ‖ previous end tag 16
//!          ‖ capacity u64 ‖ first group number u64 ‖ next index u64 ‖ boot u32 ‖ vote? ‖ committed? ‖ purged?
//!          ‖ checkpoint? ‖ the one before it? ‖ zeros to 4064 ‖ BLAKE3 32 of all before              (x? = 0 | 1 ‖ x)
//! slot   = "qmark" ‖ format u8 ‖ group u32 ‖ cluster 16 ‖ node u64 ‖ count u64 ‖ segment u64 ‖ offset u64 ‖ tag 16
//!          ‖ next index u64 ‖ boot u32 ‖ zeros to 480 ‖ BLAKE3 32 of all before
//! ```
//!
//! The header fills a page, so that no write of records ever touches it again. The first tag of a segment is
//! derived from the whole header: recycled or foreign bytes never verify.

use bytes::Bytes;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, GroupId, NodeId};

use super::record::{Chain, META_LEN_MAX, TAG_LEN, read_indexed_id};
use super::{Checkpoint, IndexedId, JournalIds};

/// Format of journals this build writes.
pub(super) const FORMAT: u8 = 1;
/// Length of a header, in bytes; records begin here.
pub(super) const HEADER_LEN: usize = 4096;
/// Length of a mark slot, in bytes.
pub(super) const SLOT_LEN: usize = 512;
const HASH_LEN: usize = 32;
const MAGIC: &[u8; 8] = b"qjournal";
const MARK_MAGIC: &[u8; 5] = b"qmark";

/// What the log's records amount to, beside the entries: a fold over them.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Fold {
    pub(super) boot: u32,
    pub(super) vote: Option<Bytes>,
    pub(super) committed: Option<Bytes>,
    pub(super) purged: Option<IndexedId>,
    pub(super) checkpoint: Option<Checkpoint>,
    /// The one before it: the state may still be that one.
    pub(super) earlier: Option<Checkpoint>,
    /// Index of the next entry.
    pub(super) next: u64,
}

/// A segment's header.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) ids: JournalIds,
    pub(super) number: u64,
    pub(super) salt: [u8; 16],
    /// The tag at the end of the segment before; zero for the first.
    pub(super) previous_tag: [u8; TAG_LEN],
    /// Length of the segment's file: durable before its first use, so a shorter file was cut.
    pub(super) capacity: u64,
    /// Number of its first group.
    pub(super) group: u64,
    /// What was known when it began.
    pub(super) fold: Fold,
}

/// Why a page is not a header.
pub(super) enum BadHeader {
    /// Its bytes are not what was written.
    Damaged,
    /// Whole, but of a format this build does not know.
    NewerFormat(u8),
}

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let fold = &self.fold;
        let mut w = (write_ids(Writer::new().raw(MAGIC), &self.ids).u64(self.number))
            .raw(&self.salt)
            .raw(&self.previous_tag)
            .u64(self.capacity)
            .u64(self.group)
            .u64(fold.next)
            .u32(fold.boot);
        for bytes in [&fold.vote, &fold.committed] {
            w = match bytes {
                None => w.u8(0),
                Some(b) => w.u8(1).field(b),
            };
        }
        w = match &fold.purged {
            None => w.u8(0),
            Some((index, id)) => w.u8(1).u64(*index).field(id),
        };
        for checkpoint in [&fold.checkpoint, &fold.earlier] {
            w = match checkpoint {
                None => w.u8(0),
                Some(c) => c.write(w.u8(1)),
            };
        }
        seal_page(w.finish(), HEADER_LEN)
    }

    pub(super) fn decode(page: &[u8]) -> Result<Self, BadHeader> {
        let body = open_page(page, HEADER_LEN).ok_or(BadHeader::Damaged)?;
        match body.strip_prefix(MAGIC) {
            Some([FORMAT, ..]) => Self::read(body).map_err(|_| BadHeader::Damaged),
            Some([format, ..]) => Err(BadHeader::NewerFormat(*format)),
            _ => Err(BadHeader::Damaged),
        }
    }

    fn read(body: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("segment header", body);
        r.raw(MAGIC.len())?;
        let ids = read_ids(&mut r)?;
        let (number, salt, previous_tag) = (r.u64()?, r.array()?, r.array()?);
        let (capacity, group, next, boot) = (r.u64()?, r.u64()?, r.u64()?, r.u32()?);
        let vote = read_optional(&mut r, |r| Ok(Bytes::copy_from_slice(r.field(META_LEN_MAX)?)))?;
        let committed = read_optional(&mut r, |r| Ok(Bytes::copy_from_slice(r.field(META_LEN_MAX)?)))?;
        let purged = read_optional(&mut r, read_indexed_id)?;
        let checkpoint = read_optional(&mut r, Checkpoint::read)?;
        let earlier = read_optional(&mut r, Checkpoint::read)?;
        let fold = Fold { boot, vote, committed, purged, checkpoint, earlier, next };
        Ok(Self { ids, number, salt, previous_tag, capacity, group, fold })
    }

    /// Where the chain of this segment's records begins.
    pub(super) fn chain(&self) -> Chain {
        let mut hash = blake3::Hasher::new_derive_key("quorate/v1/journal-segment");
        let mut tag = [0; TAG_LEN];
        tag.copy_from_slice(&hash.update(&self.encode()).finalize().as_bytes()[..TAG_LEN]);
        Chain { salt: self.salt, tag }
    }
}

/// How far the stream was certainly synced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Mark {
    /// Counts the marks; the higher of two good slots is the newer.
    pub(super) count: u64,
    /// Number of the segment; 0 = the journal is being made.
    pub(super) segment: u64,
    /// End of the last synced group in it.
    pub(super) offset: u64,
    /// The chain's tag there.
    pub(super) tag: [u8; TAG_LEN],
    /// Index after the last synced entry.
    pub(super) next: u64,
    pub(super) boot: u32,
}

impl Mark {
    pub(super) fn encode(&self, ids: &JournalIds) -> Vec<u8> {
        let w = write_ids(Writer::new().raw(MARK_MAGIC), ids).u64(self.count).u64(self.segment).u64(self.offset);
        seal_page(w.raw(&self.tag).u64(self.next).u32(self.boot).finish(), SLOT_LEN)
    }

    /// `None` when the slot is damaged, torn, or of another journal.
    pub(super) fn decode(ids: &JournalIds, slot: &[u8]) -> Option<Self> {
        let body = open_page(slot, SLOT_LEN)?;
        let mut r = Reader::new("mark", body);
        if r.raw(MARK_MAGIC.len()).ok()? != MARK_MAGIC || read_ids(&mut r).ok()? != *ids {
            return None;
        }
        let (count, segment, offset) = (r.u64().ok()?, r.u64().ok()?, r.u64().ok()?);
        Some(Self { count, segment, offset, tag: r.array().ok()?, next: r.u64().ok()?, boot: r.u32().ok()? })
    }
}

fn write_ids(w: Writer, ids: &JournalIds) -> Writer {
    w.u8(FORMAT).u32(ids.group.0).raw(&ids.cluster.0).u64(ids.node.0)
}

fn read_ids(r: &mut Reader<'_>) -> Result<JournalIds, Malformed> {
    if r.u8()? != FORMAT {
        return Err(Malformed("journal format"));
    }
    Ok(JournalIds { group: GroupId(r.u32()?), cluster: ClusterId(r.array()?), node: NodeId(r.u64()?) })
}

fn read_optional<T>(
    r: &mut Reader<'_>,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, Malformed>,
) -> Result<Option<T>, Malformed> {
    match r.u8()? {
        0 => Ok(None),
        1 => read(r).map(Some),
        _ => Err(Malformed("segment header")),
    }
}

fn seal_page(mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
    assert!(bytes.len() <= len - HASH_LEN, "a header's parts are bounded far below a page");
    bytes.resize(len - HASH_LEN, 0);
    let hash = blake3::hash(&bytes);
    bytes.extend_from_slice(hash.as_bytes());
    bytes
}

fn open_page(page: &[u8], len: usize) -> Option<&[u8]> {
    let (body, hash) = page.get(..len)?.split_at(len - HASH_LEN);
    (blake3::hash(body).as_bytes() == hash).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> JournalIds {
        JournalIds { cluster: ClusterId([3; 16]), node: NodeId(4), group: GroupId(0) }
    }

    fn header() -> Header {
        let fold = Fold {
            boot: 2,
            vote: Some(Bytes::from(vec![9; META_LEN_MAX])),
            committed: Some(Bytes::from(vec![8; META_LEN_MAX])),
            purged: Some((77, Bytes::from(vec![7; 64]))),
            checkpoint: Some(Checkpoint { index: 80, digest: [5; 32], chain: [6; 32] }),
            earlier: Some(Checkpoint { index: 70, digest: [7; 32], chain: [8; 32] }),
            next: 99,
        };
        Header { ids: ids(), number: 5, salt: [1; 16], previous_tag: [2; 16], capacity: 1 << 26, group: 11, fold }
    }

    #[test]
    fn a_header_reads_back_and_any_changed_byte_is_noticed() {
        for h in [header(), Header { fold: Fold::default(), ..header() }] {
            let page = h.encode();
            assert!(Header::decode(&page).is_ok_and(|d| d == h));
            for i in 0..page.len() {
                let mut bad = page.clone();
                bad[i] ^= 1;
                assert!(matches!(Header::decode(&bad), Err(BadHeader::Damaged)), "byte {i}");
            }
            assert!(matches!(Header::decode(&page[..4095]), Err(BadHeader::Damaged)));
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut page = header().encode();
        page[8] = 2;
        page.truncate(HEADER_LEN - HASH_LEN);
        assert!(matches!(Header::decode(&seal_page(page, HEADER_LEN)), Err(BadHeader::NewerFormat(2))));
    }

    #[test]
    fn the_first_tag_depends_on_the_whole_header() {
        let other = Header { number: 6, ..header() };
        assert_ne!(header().chain().tag, other.chain().tag);
        assert_ne!(header().chain().tag, Header { salt: [9; 16], ..header() }.chain().tag);
    }

    #[test]
    fn a_mark_reads_back_and_another_journals_is_refused() {
        let mark = Mark { count: 3, segment: 1, offset: 4096, tag: [4; 16], next: 5, boot: 1 };
        let slot = mark.encode(&ids());
        assert_eq!(Mark::decode(&ids(), &slot), Some(mark));
        assert_eq!(Mark::decode(&JournalIds { node: NodeId(5), ..ids() }, &slot), None);
        for i in 0..slot.len() {
            let mut bad = slot.clone();
            bad[i] ^= 1;
            assert_eq!(Mark::decode(&ids(), &bad), None, "byte {i}");
        }
    }
}
