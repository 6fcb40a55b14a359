//! A segment's header page and the mark's slots, to the byte (key-log §4.4, §4.5).
//!
//! ```text
//! header = "qjournal" ‖ format u8 ‖ stream u32 ‖ cluster 16 ‖ node u64 ‖ number u64 ‖ salt 16 ‖ previous end tag 16
//!          ‖ capacity u64 ‖ first group number u64 ‖ previous index u32 ‖ boot u32 ‖ the contents' summary
//!          ‖ zeros to 4064 ‖ BLAKE3 32 of all before
//! slot   = "qmark" ‖ format u8 ‖ stream u32 ‖ cluster 16 ‖ node u64 ‖ count u64 ‖ segment u64 ‖ offset u64 ‖ tag 16
//!          ‖ zeros to 480 ‖ BLAKE3 32 of all before
//! ```
//!
//! The header fills a page, so that no write of records ever touches it again. The first tag of a segment is
//! derived from the whole header: recycled or foreign bytes never verify.

use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, NodeId};

use crate::JournalIds;
use crate::record::{Chain, TAG_LEN};

/// Format of journals this build writes.
pub(super) const FORMAT: u8 = 1;
/// Length of a header, in bytes; records begin here.
pub(super) const HEADER_LEN: usize = 4096;
/// Length of a mark slot, in bytes.
pub(super) const SLOT_LEN: usize = 512;
/// Longest summary of the contents, in bytes.
pub(super) const SUMMARY_LEN_MAX: usize = 3072;
const HASH_LEN: usize = 32;
const MAGIC: &[u8; 8] = b"qjournal";
const MARK_MAGIC: &[u8; 5] = b"qmark";

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
    /// Where in the segment before its index begins; 0: it has none.
    pub(super) previous_index: u32,
    /// The number of the newest start when it began.
    pub(super) boot: u32,
    /// What its contents amounted to then.
    pub(super) summary: Vec<u8>,
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
        assert!(self.summary.len() <= SUMMARY_LEN_MAX, "contents promise a short summary");
        let w = write_ids(Writer::new().raw(MAGIC), &self.ids).u64(self.number).raw(&self.salt).raw(&self.previous_tag);
        let w = w.u64(self.capacity).u64(self.group).u32(self.previous_index).u32(self.boot).field(&self.summary);
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
        let (capacity, group, previous_index, boot) = (r.u64()?, r.u64()?, r.u32()?, r.u32()?);
        let summary = r.field(SUMMARY_LEN_MAX)?.to_vec();
        Ok(Self { ids, number, salt, previous_tag, capacity, group, previous_index, boot, summary })
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
}

impl Mark {
    pub(super) fn encode(&self, ids: &JournalIds) -> Vec<u8> {
        let w = write_ids(Writer::new().raw(MARK_MAGIC), ids).u64(self.count).u64(self.segment).u64(self.offset);
        seal_page(w.raw(&self.tag).finish(), SLOT_LEN)
    }

    /// `None` when the slot is damaged, torn, or of another journal.
    pub(super) fn decode(ids: &JournalIds, slot: &[u8]) -> Option<Self> {
        let body = open_page(slot, SLOT_LEN)?;
        let mut r = Reader::new("mark", body);
        if r.raw(MARK_MAGIC.len()).ok()? != MARK_MAGIC || read_ids(&mut r).ok()? != *ids {
            return None;
        }
        let (count, segment, offset) = (r.u64().ok()?, r.u64().ok()?, r.u64().ok()?);
        Some(Self { count, segment, offset, tag: r.array().ok()? })
    }
}

fn write_ids(w: Writer, ids: &JournalIds) -> Writer {
    w.u8(FORMAT).u32(ids.stream).raw(&ids.cluster.0).u64(ids.node.0)
}

fn read_ids(r: &mut Reader<'_>) -> Result<JournalIds, Malformed> {
    if r.u8()? != FORMAT {
        return Err(Malformed("journal format"));
    }
    Ok(JournalIds { stream: r.u32()?, cluster: ClusterId(r.array()?), node: NodeId(r.u64()?) })
}

fn seal_page(mut bytes: Vec<u8>, len: usize) -> Vec<u8> {
    assert!(bytes.len() <= len - HASH_LEN, "a page has room for its parts, which are bounded");
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
        JournalIds { cluster: ClusterId([3; 16]), node: NodeId(4), stream: 0 }
    }

    fn header() -> Header {
        let summary = vec![9; SUMMARY_LEN_MAX];
        Header {
            ids: ids(),
            number: 5,
            salt: [1; 16],
            previous_tag: [2; 16],
            capacity: 1 << 26,
            group: 11,
            previous_index: 77,
            boot: 2,
            summary,
        }
    }

    #[test]
    fn a_header_reads_back_and_any_changed_byte_is_noticed() {
        for h in [header(), Header { summary: Vec::new(), ..header() }] {
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
        let mark = Mark { count: 3, segment: 1, offset: 4096, tag: [4; 16] };
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
