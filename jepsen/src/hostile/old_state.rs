//! The member's own state as it was when its process was stopped: what it may send to others, who have gone on since. It says that
//! it stands far ahead; the bytes of the stream are those of crates/replica, `snapshot`.

#![allow(clippy::needless_update, reason = "the protocol grows")]

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use quorate_core::codec::Writer;
use quorate_core::record_key::RecordKey;
use quorate_journal::disk::RealDisk;
use quorate_replica::state::{Engine as _, Identity, LtHash, Meta, Records, StateFiles, get_value, is_state_file};

use super::pb;
use super::pb::snapshot_part::Part;

/// Format of the stream.
const FORMAT: u32 = 1;
/// Bytes of records after which a frame is full.
const FRAME_BYTES: usize = 128 * 1024;
/// Records read at a time.
const PAGE: usize = 256;
/// Memory for reading.
const CACHE_BYTES: usize = 16 << 20;
/// The state says that it stands so far ahead of what the receiver has.
const AHEAD: u64 = 1000;
/// Nothing to copy.
const ROOM: &str = "state.reserve";

/// A whole state.
pub struct OldState {
    meta: Meta,
    digest: LtHash,
    /// The signed record of its feature level.
    level: Bytes,
    frames: Vec<Bytes>,
    records: u64,
}

impl OldState {
    /// Of a data folder whose process does not run; `scratch` is made for a copy, and removed.
    ///
    /// # Errors
    /// It can't be read.
    pub fn read(data: &Path, scratch: &Path) -> anyhow::Result<Self> {
        let _ = std::fs::remove_dir_all(scratch);
        std::fs::create_dir_all(scratch)?;
        for entry in std::fs::read_dir(data).with_context(|| data.display().to_string())? {
            let entry = entry?;
            if entry.file_name().to_str().is_some_and(|name| is_state_file(name) && name != ROOM) {
                std::fs::copy(entry.path(), scratch.join(entry.file_name()))?;
            }
        }
        let files = StateFiles::open(Arc::new(RealDisk), scratch, CACHE_BYTES, 0)?;
        let view = files.view()?;
        let mut state = Self {
            meta: Meta::read(&*view)?,
            digest: Meta::read_digest(&*view)?,
            level: get_value(&*view, &RecordKey::level())?.unwrap_or_default(),
            frames: vec![],
            records: 0,
        };
        let (mut frame, mut all) = (Vec::new(), Records::new(&*view));
        while let Some(page) = all.next_page(PAGE)? {
            for (key, value) in &page {
                frame.extend(Writer::new().field(key).field(value).finish());
                state.records += 1;
            }
            if frame.len() >= FRAME_BYTES {
                state.frames.push(std::mem::take(&mut frame).into());
            }
        }
        if !frame.is_empty() {
            state.frames.push(frame.into());
        }
        drop(view);
        files.close();
        std::fs::remove_dir_all(scratch)?;
        Ok(state)
    }

    /// The stream of it to a node whose log ends at `last`, under a leadership.
    pub fn stream(&self, vote: pb::VoteId, last: u64) -> Vec<pb::SnapshotPart> {
        let index = last + AHEAD;
        let id = Writer::new().u64(vote.term).u64(vote.node).u64(index).finish();
        let meta = Meta { applied: Some((index, id.into())), ..self.meta.clone() };
        let identity = Identity::from_parts(&meta, &self.digest);
        let mut hash = blake3::Hasher::new_derive_key("quorate/v1/snapshot-stream");
        hash.update(&(identity.meta.len() as u64).to_be_bytes()).update(&identity.meta).update(&identity.digest);
        let mut chain = *hash.finalize().as_bytes();
        let (meta, digest, level) = (identity.meta, identity.digest, self.level.clone());
        let header = pb::SnapshotHeader { format: FORMAT, level, vote: Some(vote), meta, digest, ..Default::default() };
        let mut parts = vec![Part::Header(header)];
        for records in &self.frames {
            chain = *blake3::keyed_hash(&chain, records).as_bytes();
            let frame = pb::SnapshotFrame { records: records.clone(), chain: Bytes::copy_from_slice(&chain) };
            parts.push(Part::Frame(frame));
        }
        let chain = Bytes::copy_from_slice(&chain);
        parts.push(Part::Trailer(pb::SnapshotTrailer { records: self.records, chain }));
        parts.into_iter().map(|part| pb::SnapshotPart { part: Some(part) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_sent_as_one_that_stands_far_ahead() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data");
        std::fs::create_dir(&data).unwrap();
        StateFiles::open(Arc::new(RealDisk), &data, CACHE_BYTES, 0).unwrap().close();
        let state = OldState::read(&data, &dir.path().join("scratch")).unwrap();
        assert!(!dir.path().join("scratch").exists());
        let vote = pb::VoteId { term: 27, node: 3, committed: true };
        let parts: Vec<Part> = state.stream(vote, 40).into_iter().filter_map(|part| part.part).collect();
        let [Part::Header(header), Part::Trailer(trailer)] = &parts[..] else { panic!("{parts:?}") };
        let identity = Identity { meta: header.meta.clone(), digest: header.digest.clone() };
        assert_eq!(identity.meta().unwrap().applied.map(|(index, _)| index), Some(1040));
        assert_eq!((header.vote, trailer.records), (Some(vote), 0));
    }
}
