//! The stream's bytes: records into frames, frames into records. Whatever arrives may be anything.

use bytes::Bytes;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::record_key::RecordKey;

use crate::peer::pb::{self, snapshot_part::Part};
use crate::raft::Vote;
use crate::state::{Identity, Incoming, IncomingError, KeyRange};

/// Format of the stream.
const FORMAT: u32 = 1;
/// Bytes of records after which a frame is full; one record more may be in it.
const FRAME_BYTES: usize = 128 * 1024;
/// Longest frame that is read.
const FRAME_BYTES_MAX: usize = 256 * 1024;
const KEY_LEN_MAX: usize = 64;
/// A value of 64 KiB (key-log §1.2), what sealing adds to it, and its revision.
const VALUE_LEN_MAX: usize = 96 * 1024;
/// Most ranges that are told; a state with more is sent whole.
const RANGES_MAX: usize = 1 << 14;
/// Longest `Meta`: the membership is at most 1 MiB.
const META_LEN_MAX: usize = 2 << 20;
const CHAIN_LEN: usize = 32;

/// Turns records into frames.
pub(crate) struct Framer {
    chain: [u8; CHAIN_LEN],
    records: u64,
    frame: Vec<u8>,
}

fn first_chain(identity: &Identity) -> [u8; CHAIN_LEN] {
    let mut hash = blake3::Hasher::new_derive_key("quorate/v1/snapshot-stream");
    hash.update(&(identity.meta.len() as u64).to_be_bytes()).update(&identity.meta).update(&identity.digest);
    *hash.finalize().as_bytes()
}

fn next_chain(chain: &[u8; CHAIN_LEN], records: &[u8]) -> [u8; CHAIN_LEN] {
    *blake3::keyed_hash(chain, records).as_bytes()
}

/// Under a key of its own: no records are taken for it.
fn chain_after_range(chain: &[u8; CHAIN_LEN], upto: &[u8], keep: bool) -> [u8; CHAIN_LEN] {
    let ranges = blake3::keyed_hash(chain, b"range");
    next_chain(ranges.as_bytes(), &Writer::new().u8(keep.into()).raw(upto).finish())
}

/// Ranges as they are told.
pub(crate) fn ranges_out(ranges: Vec<KeyRange>) -> pb::HeldSnapshotResponse {
    let ranges = if ranges.len() > RANGES_MAX { Vec::new() } else { ranges };
    let told =
        ranges.into_iter().map(|range| pb::HeldRange { upto: range.upto.into(), hash: range.hash.to_vec().into() });
    pb::HeldSnapshotResponse { ranges: told.collect() }
}

/// Ranges that were told; none when they can't be.
pub(crate) fn ranges_in(told: pb::HeldSnapshotResponse) -> Vec<KeyRange> {
    let range = |range: pb::HeldRange| {
        let upto = Some(range.upto.to_vec()).filter(|upto| RecordKey::parse(upto).is_ok())?;
        Some(KeyRange { upto, hash: range.hash[..].try_into().ok()? })
    };
    let ranges: Option<Vec<_>> = told.ranges.into_iter().map(range).collect();
    ranges.filter(|ranges| ranges.is_sorted_by(|a, b| a.upto < b.upto)).unwrap_or_default()
}

/// The first part.
pub(crate) fn header(vote: &Vote, grants: Vec<Bytes>, level: Bytes, identity: &Identity, held: &[KeyRange]) -> Part {
    Part::Header(pb::SnapshotHeader {
        format: FORMAT,
        level,
        vote: Some(crate::peer::convert::vote_out(vote)),
        meta: identity.meta.clone(),
        digest: identity.digest.clone(),
        ranges: u32::try_from(held.len()).expect("a message holds fewer"),
        grants,
    })
}

impl Framer {
    pub(crate) fn new(identity: &Identity) -> Self {
        Self { chain: first_chain(identity), records: 0, frame: Vec::new() }
    }

    /// Takes a record; returns a frame when one is full.
    pub(crate) fn push(&mut self, key: &[u8], value: &[u8]) -> Option<Part> {
        self.frame.extend(Writer::new().field(key).field(value).finish());
        self.records += 1;
        if self.frame.len() >= FRAME_BYTES { self.flush() } else { None }
    }

    /// Has the receiver keep a range of `records` records that it holds; or, with none, replace it by what follows.
    pub(crate) fn range(&mut self, upto: &[u8], keep: Option<u64>) -> impl Iterator<Item = Part> {
        let before = self.flush();
        self.records += keep.unwrap_or(0);
        self.chain = chain_after_range(&self.chain, upto, keep.is_some());
        let range = pb::SnapshotRange {
            upto: Bytes::copy_from_slice(upto),
            keep: keep.is_some(),
            chain: Bytes::copy_from_slice(&self.chain),
        };
        before.into_iter().chain([Part::Range(range)])
    }

    fn flush(&mut self) -> Option<Part> {
        if self.frame.is_empty() {
            return None;
        }
        let records = Bytes::from(std::mem::take(&mut self.frame));
        self.chain = next_chain(&self.chain, &records);
        Some(Part::Frame(pb::SnapshotFrame { records, chain: Bytes::copy_from_slice(&self.chain) }))
    }

    /// The last frame, if there is one, and the trailer.
    pub(crate) fn finish(mut self) -> (Option<Part>, Part) {
        let last = self.flush();
        let chain = Bytes::copy_from_slice(&self.chain);
        (last, Part::Trailer(pb::SnapshotTrailer { records: self.records, chain }))
    }
}

/// Reads a header's identity.
pub(crate) fn identity(header: &pb::SnapshotHeader) -> Result<Identity, IncomingError> {
    if header.format != FORMAT {
        return Err(IncomingError::Refused("it has a format that a newer version is needed for"));
    }
    if header.meta.len() > META_LEN_MAX {
        return Err(IncomingError::Refused("what it says about itself is too long"));
    }
    Ok(Identity { meta: header.meta.clone(), digest: header.digest.clone() })
}

/// Takes parts after the header into an incoming state.
pub(crate) struct Unframer {
    identity: Identity,
    chain: [u8; CHAIN_LEN],
    incoming: Incoming,
}

impl Unframer {
    pub(crate) fn new(identity: Identity, incoming: Incoming) -> Self {
        Self { chain: first_chain(&identity), identity, incoming }
    }

    /// Takes a frame.
    pub(crate) fn frame(&mut self, frame: &pb::SnapshotFrame) -> Result<(), IncomingError> {
        if frame.records.len() > FRAME_BYTES_MAX {
            return Err(IncomingError::Refused("a frame is too long"));
        }
        self.chain = next_chain(&self.chain, &frame.records);
        if self.chain[..] != frame.chain[..] {
            return Err(IncomingError::Refused("a frame is not the one that was sent, or not in its place"));
        }
        let malformed = |_: Malformed| IncomingError::Refused("a frame can't be read");
        let mut r = Reader::new("snapshot frame", &frame.records);
        while !r.rest().is_empty() {
            let key = r.field(KEY_LEN_MAX).map_err(malformed)?;
            let value = r.field(VALUE_LEN_MAX).map_err(malformed)?;
            self.incoming.push(key, value)?;
        }
        Ok(())
    }

    /// Takes what comes before the records of a range that is there.
    pub(crate) fn range(&mut self, range: &pb::SnapshotRange) -> Result<(), IncomingError> {
        self.chain = chain_after_range(&self.chain, &range.upto, range.keep);
        if self.chain[..] != range.chain[..] {
            return Err(IncomingError::Refused("a range is not the one that was sent, or not in its place"));
        }
        match range.keep {
            true => self.incoming.keep(&range.upto),
            false => self.incoming.replace(&range.upto),
        }
    }

    /// What was received so far.
    pub(crate) fn break_off(self) -> Incoming {
        self.incoming
    }

    /// Takes the trailer; the state is then whole and durable.
    pub(crate) fn finish(mut self, trailer: &pb::SnapshotTrailer) -> Result<Incoming, IncomingError> {
        if self.incoming.records() != trailer.records || self.chain[..] != trailer.chain[..] {
            return Err(IncomingError::Refused("parts of it are missing"));
        }
        self.incoming.finish(&self.identity)?;
        Ok(self.incoming)
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::sync::Arc;

    use openraft::vote::RaftLeaderId;
    use quorate_core::id::{ClusterId, GroupId};
    use quorate_core::record_key::{RecordKey, Table};

    use super::*;
    use crate::raft::LeaderId;
    use crate::state::{LtHash, Meta, StateFiles};
    use quorate_journal::disk::RealDisk;

    struct Sent {
        identity: Identity,
        frames: Vec<pb::SnapshotFrame>,
        trailer: pb::SnapshotTrailer,
    }

    fn records() -> Vec<(RecordKey, Vec<u8>)> {
        let key = |n: u16| RecordKey::new(Table::Name, *blake3::hash(&n.to_be_bytes()).as_bytes());
        let mut records: Vec<_> = (0..200).map(|n| (key(n), vec![n as u8; 4096])).collect();
        records.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
        records
    }

    fn sent(records: &[(RecordKey, Vec<u8>)], digest_of: &[(RecordKey, Vec<u8>)]) -> Sent {
        let mut digest = LtHash::default();
        digest_of.iter().for_each(|(key, value)| digest.add(key.as_bytes(), value));
        let meta = Meta {
            cluster: Some(ClusterId([1; 16])),
            group: GroupId(0),
            applied: Some((7, Bytes::from_static(b"id"))),
            ..Meta::default()
        };
        let identity = Identity::from_parts(&meta, &digest);
        let mut framer = Framer::new(&identity);
        let mut parts: Vec<Part> =
            records.iter().filter_map(|(key, value)| framer.push(key.as_bytes(), value)).collect();
        let (last, trailer) = framer.finish();
        parts.extend(last);
        let frames = parts.into_iter().map(|part| match part {
            Part::Frame(frame) => frame,
            _ => panic!("only frames"),
        });
        let Part::Trailer(trailer) = trailer else { panic!("a trailer") };
        Sent { identity, frames: frames.collect(), trailer }
    }

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    /// Receives it; a refused one must leave nothing behind.
    fn received(sent: &Sent) -> Result<Pairs, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let files = Arc::new(StateFiles::open(Arc::new(RealDisk), dir.path(), 1 << 20, 0).expect("opens"));
        let names = || std::fs::read_dir(dir.path()).expect("readable").count();
        let before = names();
        let take = || -> Result<Incoming, IncomingError> {
            let mut unframer = Unframer::new(sent.identity.clone(), files.receive(7)?);
            for frame in &sent.frames {
                unframer.frame(frame)?;
            }
            unframer.finish(&sent.trailer)
        };
        match take() {
            Ok(incoming) => {
                incoming.install(&files).expect("installs");
                let view = files.view().expect("a view");
                crate::state::verify_state(&*view).expect("adds up");
                let mut records = crate::state::Records::new(&*view);
                Ok(records.next_page(1000).expect("readable").unwrap_or_default())
            }
            Err(error) => {
                assert_eq!(names(), before, "nothing is left of it");
                Err(error.to_string())
            }
        }
    }

    #[test]
    fn what_was_sent_is_installed_and_anything_else_refused() {
        let records = records();
        let good = || sent(&records, &records);
        let got = received(&good()).expect("good");
        assert!(got.iter().map(|(k, v)| (&k[..], v)).eq(records.iter().map(|(k, v)| (k.as_bytes(), v))));
        assert!(good().frames.len() > 3);
        let refused = |what: &str, bad: Sent| assert!(received(&bad).is_err(), "{what}");
        let mut bad = good();
        let mut bytes = bad.frames[1].records.to_vec();
        bytes[5000] ^= 1;
        bad.frames[1].records = bytes.into();
        refused("a flipped byte", bad);
        let mut bad = good();
        bad.frames.swap(0, 1);
        refused("frames out of place", bad);
        let mut bad = good();
        bad.frames.pop();
        refused("cut short", bad);
        let mut bad = good();
        bad.frames.remove(1);
        refused("a frame left out", bad);
        let mut bad = good();
        bad.identity.digest = LtHash::default().to_bytes().into();
        refused("another state's header", bad);
        refused("a record less than the digest says", sent(&records[1..], &records));
        let mut backwards = records.clone();
        backwards.reverse();
        refused("not in order", sent(&backwards, &records));
        let mut bad = good();
        bad.trailer.records += 1;
        refused("another count", bad);
        let mut bad = good();
        bad.frames[0].records = vec![0xFF; FRAME_BYTES_MAX + 1].into();
        refused("a frame beyond all bounds", bad);
    }

    #[test]
    fn a_newer_format_is_refused() {
        let sent = sent(&[], &[]);
        let vote = Vote { leader_id: LeaderId::new(1, 1), committed: true };
        let Part::Header(good) = header(&vote, Vec::new(), Bytes::new(), &sent.identity, &[]) else {
            panic!("a header")
        };
        assert!(identity(&good).is_ok());
        assert!(identity(&pb::SnapshotHeader { format: FORMAT + 1, ..good }).is_err());
    }
}
