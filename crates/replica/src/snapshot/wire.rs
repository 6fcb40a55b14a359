//! The stream's bytes: records into frames, frames into records. Whatever arrives may be anything.

use bytes::Bytes;
use quorate_core::codec::{Malformed, Reader, Writer};

use crate::peer::hello::LEVEL;
use crate::peer::pb::{self, snapshot_part::Part};
use crate::raft::Vote;
use crate::state::{Identity, Incoming, IncomingError};

/// Format of the stream.
const FORMAT: u32 = 1;
/// Bytes of records after which a frame is full; one record more may be in it.
const FRAME_BYTES: usize = 128 * 1024;
/// Longest frame that is read.
const FRAME_BYTES_MAX: usize = 256 * 1024;
const KEY_LEN_MAX: usize = 64;
/// A value of 64 KiB (key-log §1.2), what sealing adds to it, and its revision.
const VALUE_LEN_MAX: usize = 96 * 1024;
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

/// The first part.
pub(crate) fn header(vote: &Vote, identity: &Identity) -> Part {
    Part::Header(pb::SnapshotHeader {
        format: FORMAT,
        level: LEVEL,
        vote: Some(crate::peer::convert::vote_out(vote)),
        meta: identity.meta.clone(),
        digest: identity.digest.clone(),
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
    if header.format != FORMAT || header.level > LEVEL {
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

    /// Takes the trailer; the state is then whole and durable.
    pub(crate) fn finish(mut self, trailer: &pb::SnapshotTrailer) -> Result<Incoming, IncomingError> {
        if self.incoming.records() != trailer.records || self.chain[..] != trailer.chain[..] {
            return Err(IncomingError::Refused("parts of it are missing"));
        }
        self.incoming.finish(&self.identity)?;
        Ok(self.incoming)
    }
}
