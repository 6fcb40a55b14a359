//! What stands beside the records, written in the same transaction as they are, outside the digest.

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use quorate_core::batch::Batch;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, GroupId, Lineage, NodeId};

use super::digest::LtHash;
use super::engine::{View, WriteSet};
use crate::log::Checkpoint;

/// Format of the state this build writes.
pub(super) const FORMAT: u8 = 1;
/// Keys from here on are no records.
pub(super) const RECORDS_END: [u8; 1] = [0xFF];
const META_KEY: [u8; 2] = [0xFF, b'm'];
const DIGEST_KEY: [u8; 2] = [0xFF, b'd'];
const ID_LEN_MAX: usize = 64;
const MEMBERSHIP_LEN_MAX: usize = 1 << 20;

/// What a state is the state of.
///
/// ```text
/// format u8 ‖ group u32 ‖ cluster 16 ‖ applied? {index u64 ‖ id} ‖ membership ‖ n u16 × member u64
/// ‖ cluster time u64 ‖ chain 32 ‖ lineage? 16                                  (x? = 0 | 1 ‖ x)
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Meta {
    /// The cluster; `None` in an engine that was never written.
    pub cluster: Option<ClusterId>,
    /// The Raft group.
    pub group: GroupId,
    /// The last applied entry: index and encoded log id.
    pub applied: Option<(u64, Bytes)>,
    /// The last applied membership in the caller's encoding; empty before the first.
    pub membership: Bytes,
    /// All nodes in it, voters and learners: who may be an origin.
    pub members: BTreeSet<NodeId>,
    /// Cluster time, milliseconds since 1970 (key-log §1.7).
    pub cluster_time_ms: u64,
    /// Running hash of all applied log ids and payloads.
    pub chain: [u8; 32],
    /// Identity of the data, from the Genesis entry.
    pub lineage: Option<Lineage>,
}

impl Default for Meta {
    fn default() -> Self {
        Self {
            cluster: None,
            group: GroupId(0),
            applied: None,
            membership: Bytes::new(),
            members: BTreeSet::new(),
            cluster_time_ms: 0,
            chain: [0; 32],
            lineage: None,
        }
    }
}

impl Meta {
    /// Whether a batch is meant for this state; any other is no batch here.
    pub fn owns(&self, batch: &Batch) -> bool {
        self.is_of(batch.lineage, batch.cluster, batch.group)
    }

    /// Whether this is the state of that cluster and group, holding data of that lineage.
    pub fn is_of(&self, lineage: Lineage, cluster: ClusterId, group: GroupId) -> bool {
        self.lineage == Some(lineage) && self.cluster.is_none_or(|c| c == cluster) && self.group == group
    }

    /// A view's own; the default one in an engine that was never written.
    ///
    /// # Errors
    /// When the engine fails, its bytes are damaged, or a newer version wrote them.
    pub fn read(view: &dyn View) -> io::Result<Self> {
        match view.get(&META_KEY)? {
            None => Ok(Self::default()),
            Some(bytes) if bytes.first().is_some_and(|format| *format > FORMAT) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                format!("the state has format {}, this version knows format {FORMAT}: start a newer version", bytes[0]),
            )),
            Some(bytes) => Self::decode(&bytes).map_err(|_| damaged("what it says about itself")),
        }
    }

    /// A view's digest of its records; that of none in an engine that was never written.
    ///
    /// # Errors
    /// When the engine fails, or its bytes are damaged.
    pub fn read_digest(view: &dyn View) -> io::Result<LtHash> {
        match view.get(&DIGEST_KEY)? {
            None => Ok(LtHash::default()),
            Some(bytes) => LtHash::from_bytes(&bytes).map_err(|_| damaged("its digest")),
        }
    }

    pub(super) fn write(&self, digest: &LtHash, set: &mut WriteSet) {
        set.insert(META_KEY.to_vec(), Some(self.encode()));
        set.insert(DIGEST_KEY.to_vec(), Some(digest.to_bytes()));
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let cluster = self.cluster.unwrap_or(ClusterId([0; 16]));
        let mut w = Writer::new().u8(FORMAT).u32(self.group.0).raw(&cluster.0);
        w = match &self.applied {
            None => w.u8(0),
            Some((index, id)) => w.u8(1).u64(*index).field(id),
        };
        w = w.field(&self.membership).u16(self.members.len() as u16);
        for member in &self.members {
            w = w.u64(member.0);
        }
        w = w.u64(self.cluster_time_ms).raw(&self.chain);
        match &self.lineage {
            None => w.u8(0),
            Some(lineage) => w.u8(1).raw(&lineage.0),
        }
        .finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("state", bytes);
        if r.u8()? != FORMAT {
            return Err(Malformed("state format"));
        }
        let (group, cluster) = (GroupId(r.u32()?), Some(ClusterId(r.array()?)));
        let flag = |r: &mut Reader<'_>| match r.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed("state")),
        };
        let applied = match flag(&mut r)? {
            true => Some((r.u64()?, Bytes::copy_from_slice(r.field(ID_LEN_MAX)?))),
            false => None,
        };
        let membership = Bytes::copy_from_slice(r.field(MEMBERSHIP_LEN_MAX)?);
        let mut members = BTreeSet::new();
        for _ in 0..r.u16()? {
            members.insert(NodeId(r.u64()?));
        }
        let (cluster_time_ms, chain) = (r.u64()?, r.array()?);
        let lineage = match flag(&mut r)? {
            true => Some(Lineage(r.array()?)),
            false => None,
        };
        r.finish()?;
        Ok(Self { cluster, group, applied, membership, members, cluster_time_ms, chain, lineage })
    }
}

/// What the journal is to know of a state; `None`: nothing was applied to it yet.
///
/// # Errors
/// As [`Meta::read`].
pub fn stands_at(view: &dyn View) -> io::Result<Option<Checkpoint>> {
    let (meta, digest) = (Meta::read(view)?, Meta::read_digest(view)?);
    Ok(meta.applied.map(|(index, _)| Checkpoint { index, digest: digest.hash(), chain: meta.chain }))
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the state is damaged: {what} cannot be read; {}", quorate_core::REPLACE_MEMBER),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meta_reads_back_and_every_cut_is_refused() {
        let meta = Meta {
            cluster: Some(ClusterId([1; 16])),
            group: GroupId(2),
            applied: Some((7, Bytes::from_static(b"id"))),
            membership: Bytes::from_static(b"members"),
            members: [NodeId(3), NodeId(9)].into(),
            cluster_time_ms: 11,
            chain: [5; 32],
            lineage: Some(Lineage([6; 16])),
        };
        let bytes = meta.encode();
        assert!(Meta::decode(&bytes).is_ok_and(|m| m == meta));
        for cut in 0..bytes.len() {
            assert!(Meta::decode(&bytes[..cut]).is_err());
        }
        let none = Meta { cluster: Some(ClusterId([0; 16])), ..Meta::default() };
        assert!(Meta::decode(&none.encode()).is_ok_and(|m| m == none));
    }
}
