//! What enters the log: batches and the other entries, to the byte (key-hierarchy §1a).
//!
//! A batch is opaque to everyone but its origin and other unsealed nodes: blinded keys with the revisions its
//! decision read, ciphertext puts, deletes, and a MAC under the keyring. Putting the MAC on and checking it is
//! `crypto`'s; order and effect are `replica`'s.

use std::fmt;

use crate::codec::{Malformed, Reader, Writer};
use crate::id::{BatchId, ClusterId, Epoch, GroupId, Lineage};
use crate::record_key::{RecordKey, Table};
use crate::session::Open;

/// Format of batches and entries this build writes.
pub const FORMAT: u8 = 1;
/// Most expectations in a batch (key-log §1.2).
pub const EXPECTS_MAX: usize = 256;
/// Most operations in a batch.
pub const OPS_MAX: usize = 128;
/// Longest value, in bytes.
pub const VALUE_LEN_MAX: usize = 64 * 1024;
/// Longest entry, in bytes.
pub const ENTRY_LEN_MAX: usize = 256 * 1024;
/// Length of the MAC at a batch's end, in bytes (HMAC-SHA-256).
pub const MAC_LEN: usize = 32;

/// A revision: index of the log entry that last wrote a record; 0 = absent.
pub type Rev = u64;

/// The decision read this record at this revision.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Expect {
    /// Which record.
    pub key: RecordKey,
    /// Its revision then; 0 = it was absent.
    pub rev: Rev,
}

/// One write of a batch.
#[derive(Clone, PartialEq, Eq)]
pub enum Op {
    /// Writes a record; the value is ciphertext except in table 0.
    Put(RecordKey, Vec<u8>),
    /// Removes a record.
    Delete(RecordKey),
}

impl Op {
    /// The record it writes.
    pub fn key(&self) -> &RecordKey {
        match self {
            Self::Put(key, _) | Self::Delete(key) => key,
        }
    }
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put(key, value) => write!(f, "put {key:?} ({} B)", value.len()),
            Self::Delete(key) => write!(f, "delete {key:?}"),
        }
    }
}

/// A batch, decoded. Its MAC is over the encoded bytes, so the encoded form travels and is kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Identity of the data.
    pub lineage: Lineage,
    /// Identity of the cluster.
    pub cluster: ClusterId,
    /// Raft group.
    pub group: GroupId,
    /// Epoch of the MAC key.
    pub epoch: Epoch,
    /// Who decided it, once.
    pub id: BatchId,
    /// When, for display only; decides nothing. Milliseconds since 1970.
    pub stamp_ms: u64,
    /// Hash of the audit event that goes with it; zero until audit exists.
    pub audit: [u8; 32],
    /// Everything the decision read, ascending by key and none twice.
    pub expects: Vec<Expect>,
    /// What it writes; every key also stands in `expects`.
    pub ops: Vec<Op>,
}

impl Batch {
    /// The bytes before the MAC.
    ///
    /// # Errors
    /// When a rule of key-log §1.2 is broken (counts, lengths, order, an op whose key is not expected).
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        self.check()?;
        let mut w =
            Writer::new().u8(FORMAT).raw(&self.lineage.0).raw(&self.cluster.0).u32(self.group.0).u32(self.epoch.0);
        w = self.id.write(w).u64(self.stamp_ms).raw(&self.audit).u16(self.expects.len() as u16);
        for e in &self.expects {
            w = w.raw(e.key.as_bytes()).u64(e.rev);
        }
        w = w.u16(self.ops.len() as u16);
        for op in &self.ops {
            w = match op {
                Op::Put(key, value) => w.u8(1).raw(key.as_bytes()).field(value),
                Op::Delete(key) => w.u8(2).raw(key.as_bytes()),
            };
        }
        let bytes = w.finish();
        if bytes.len() + MAC_LEN + 1 > ENTRY_LEN_MAX { Err(Malformed("batch: too long")) } else { Ok(bytes) }
    }

    /// Decodes a batch with its MAC; returns it, and where the MAC begins. The MAC is *not* checked here.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), Malformed> {
        let mut r = Reader::new("batch", bytes);
        if bytes.len() >= ENTRY_LEN_MAX || r.u8()? != FORMAT {
            return Err(Malformed("batch: length or format"));
        }
        let mut batch = Self {
            lineage: Lineage(r.array()?),
            cluster: ClusterId(r.array()?),
            group: GroupId(r.u32()?),
            epoch: Epoch(r.u32()?),
            id: BatchId::read(&mut r)?,
            stamp_ms: r.u64()?,
            audit: r.array()?,
            expects: Vec::new(),
            ops: Vec::new(),
        };
        for _ in 0..r.u16()? {
            batch.expects.push(Expect { key: RecordKey::read(&mut r)?, rev: r.u64()? });
        }
        for _ in 0..r.u16()? {
            let op = match r.u8()? {
                1 => Op::Put(RecordKey::read(&mut r)?, r.field(VALUE_LEN_MAX)?.to_vec()),
                2 => Op::Delete(RecordKey::read(&mut r)?),
                _ => return Err(Malformed("batch: operation")),
            };
            batch.ops.push(op);
        }
        let mac_at = bytes.len() - r.rest().len();
        r.raw(MAC_LEN)?;
        r.finish()?;
        batch.check()?;
        Ok((batch, mac_at))
    }

    fn check(&self) -> Result<(), Malformed> {
        if self.expects.len() > EXPECTS_MAX || self.ops.len() > OPS_MAX {
            return Err(Malformed("batch: too many expectations or operations"));
        }
        let ascending = self.expects.windows(2).all(|pair| pair[0].key < pair[1].key);
        if !ascending || self.expects.iter().any(|e| e.key.table() == Table::Session) {
            return Err(Malformed("batch: expectation"));
        }
        let mut written = [false; EXPECTS_MAX];
        for op in &self.ops {
            match self.expects.binary_search_by(|e| e.key.cmp(op.key())) {
                Ok(i) if !written[i] => written[i] = true,
                _ => return Err(Malformed("batch: an operation without an expectation, or twice")),
            }
            if matches!(op, Op::Put(_, v) if v.len() > VALUE_LEN_MAX) {
                return Err(Malformed("batch: value too long"));
            }
        }
        Ok(())
    }
}

/// What genesis writes: the first records of table 0 (key-hierarchy §4.1).
#[derive(Clone, PartialEq, Eq)]
pub struct Genesis {
    /// Identity of the data, new.
    pub lineage: Lineage,
    /// Identity of the cluster, from the root certificate.
    pub cluster: ClusterId,
    /// Wall clock of the founding node, milliseconds since 1970: the first cluster time.
    pub time_ms: u64,
    /// Canonical bytes of the first seal configuration (generation 1).
    pub seal_config: Vec<u8>,
    /// Name of the founding node.
    pub node_name: String,
    /// Its envelope.
    pub envelope: Vec<u8>,
    /// The boxed keyring.
    pub keyring: Vec<u8>,
    /// The feature level that it begins at, signed, as in its record; empty: the first.
    pub level: Vec<u8>,
}

/// One log entry that is ours (membership is openraft's own): first byte = format, second = kind.
#[derive(Clone, PartialEq, Eq)]
pub enum Entry {
    /// A batch with its MAC, encoded.
    Batch(Vec<u8>),
    /// Cluster time moves on to this (milliseconds since 1970); never back (key-log §1.7).
    Tick(u64),
    /// The first entry of a cluster.
    Genesis(Box<Genesis>),
    /// A session begins.
    Open(Box<Open>),
}

impl Entry {
    /// Canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let w = Writer::new().u8(FORMAT);
        match self {
            Self::Batch(bytes) => w.u8(1).raw(bytes).finish(),
            Self::Tick(ms) => w.u8(2).u64(*ms).finish(),
            Self::Genesis(g) => (w.u8(3).raw(&g.lineage.0).raw(&g.cluster.0).u64(g.time_ms))
                .field(&g.seal_config)
                .field(g.node_name.as_bytes())
                .field(&g.envelope)
                .field(&g.keyring)
                .field(&g.level)
                .finish(),
            Self::Open(open) => w.u8(9).raw(&open.encode()).finish(),
        }
    }
    /// Reads canonical bytes. Kinds 5–8 (Anchor, Pending, Activate, Void) are reserved and refused. Kind 4 was to raise the feature
    /// level: that is a signed record instead ([`RecordKey::level`]), written by a batch like any other.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("log entry", bytes);
        if bytes.len() > ENTRY_LEN_MAX {
            return Err(Malformed("log entry: too long"));
        }
        if r.u8()? != FORMAT {
            return Err(Malformed("log entry: unknown format, a newer version is needed"));
        }
        let entry = match r.u8()? {
            1 => return Ok(Self::Batch(r.rest().to_vec())),
            2 => Self::Tick(r.u64()?),
            3 => Self::Genesis(Box::new(Genesis {
                lineage: Lineage(r.array()?),
                cluster: ClusterId(r.array()?),
                time_ms: r.u64()?,
                seal_config: r.field(VALUE_LEN_MAX)?.to_vec(),
                node_name: r.text(crate::id::Name::LEN_MAX)?.to_owned(),
                envelope: r.field(VALUE_LEN_MAX)?.to_vec(),
                keyring: r.field(VALUE_LEN_MAX)?.to_vec(),
                level: r.field(VALUE_LEN_MAX)?.to_vec(),
            })),
            9 => return Ok(Self::Open(Box::new(Open::decode(r.rest())?))),
            _ => return Err(Malformed("log entry: unknown kind, a newer version is needed")),
        };
        r.finish()?;
        Ok(entry)
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(b) => write!(f, "batch ({} B)", b.len()),
            Self::Tick(ms) => write!(f, "tick {ms}"),
            Self::Genesis(g) => write!(f, "genesis of {}", g.cluster),
            Self::Open(open) => write!(f, "session of node {}, start {}", open.session.origin, open.session.boot),
        }
    }
}

/// What applying a batch did; the same on every node (key-log §1.3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Applied at this index.
    Applied(u64),
    /// Something it read has changed; nothing was written. Decide again at or past `index`.
    Conflict {
        /// Where it was found out.
        index: u64,
        /// The first mismatching records (8 at most) with their revisions now.
        mismatches: Vec<Expect>,
    },
    /// Its origin has no session under that start (a newer one exists, or it is no member): not applied by this entry.
    Fenced,
    /// Its slot was taken by a later batch: the outcome is not known here.
    TooOld,
    /// It breaks a rule of the format: certainly not applied.
    Malformed,
}
