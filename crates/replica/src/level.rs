//! The feature level in force, signed (key-log §6): a record of table 0, so that every node knows it, sealed or not.
//!
//! ```text
//! level = said ‖ Ed25519 64 (anchor key, "quorate/v1/level", said)
//! said  = 1 ‖ C 16 ‖ g u32 ‖ level u32
//! ```
//!
//! These bytes stay as they are at every level: whom the cluster has left behind must be able to read that it has.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::batch::{Batch, Op};
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, GroupId};
use quorate_core::level::{Level, Levels};
use quorate_core::record_key::{RecordKey, Table};
use tonic::Status;

use crate::error::Problem;
use crate::handler::SealCheck;
use crate::node::Base;
use crate::raft::Raft;
use crate::shared::Shared;
use crate::state::{Incoming, ReadRecord, damaged};
use crate::state_reader::StateReader;

const FORMAT: u8 = 1;
const SIGNATURE_LEN: usize = 64;
const WHAT: &str = "feature level";

/// A level with the anchor key's signature, good or not.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SignedLevel {
    cluster: ClusterId,
    group: GroupId,
    level: Level,
    signature: [u8; SIGNATURE_LEN],
}

impl SignedLevel {
    /// Signed by `sign`.
    pub fn new(
        cluster: ClusterId,
        group: GroupId,
        level: Level,
        sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_LEN],
    ) -> Self {
        let unsigned = Self { cluster, group, level, signature: [0; SIGNATURE_LEN] };
        Self { signature: sign(&unsigned.said()), ..unsigned }
    }

    /// What is signed.
    fn said(&self) -> Vec<u8> {
        Writer::new().u8(FORMAT).raw(&self.cluster.0).u32(self.group.0).u32(self.level.0).finish()
    }

    /// The record's value.
    pub fn encode(&self) -> Vec<u8> {
        [&self.said()[..], &self.signature].concat()
    }

    /// Reads a record's value.
    ///
    /// # Errors
    /// When it is not what [`Self::encode`] writes.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(WHAT, bytes);
        if r.u8()? != FORMAT {
            return Err(Malformed(WHAT));
        }
        let (cluster, group, level) = (ClusterId(r.array()?), GroupId(r.u32()?), Level(r.u32()?));
        let signature = r.array()?;
        r.finish()?;
        if level < Level::FIRST { Err(Malformed(WHAT)) } else { Ok(Self { cluster, group, level, signature }) }
    }

    /// The level.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Whether the anchor key of this seal configuration signed it, for this cluster and group.
    pub fn holds(&self, seals: &dyn SealCheck, seal_config: &[u8], cluster: ClusterId, group: GroupId) -> bool {
        (self.cluster, self.group) == (cluster, group) && seals.levels(seal_config, &self.said(), &self.signature)
    }
}

/// The level in force in a state.
pub(crate) fn level_in(record: ReadRecord<'_>) -> io::Result<Level> {
    let signed = record(&RecordKey::level())?.map(|value| SignedLevel::decode(&value)).transpose().map_err(damaged)?;
    Ok(signed.map_or(Level::FIRST, |signed| signed.level))
}

/// What a batch does to the level, if it does anything: the one that it puts in force, or nothing that is one.
pub(crate) fn level_of(batch: &Batch) -> Option<Result<SignedLevel, Malformed>> {
    // A key of table 0 is a hash, and nearly no batch has one.
    let mut of_seal = batch.ops.iter().filter(|op| op.key().table() == Table::Seal).peekable();
    of_seal.peek()?;
    let key = RecordKey::level();
    of_seal.find(|op| *op.key() == key).map(|op| match op {
        Op::Put(_, value) => SignedLevel::decode(value),
        Op::Delete(_) => Err(Malformed(WHAT)),
    })
}

/// Holds the level of a state that is sent against what this node speaks.
pub(crate) struct LevelCheck {
    levels: Levels,
    cluster: ClusterId,
    group: GroupId,
    seals: Arc<dyn SealCheck>,
    state: Arc<StateReader>,
    shared: Arc<Shared>,
    raft: Raft,
}

impl LevelCheck {
    pub(crate) fn of(base: &Base, state: &Arc<StateReader>) -> Self {
        Self {
            levels: base.levels,
            cluster: base.cluster,
            group: base.group,
            seals: base.seals.clone(),
            state: state.clone(),
            shared: base.shared.clone(),
            raft: base.raft.clone(),
        }
    }

    /// Before anything of a state is read or stored whose header tells this: refuses one of a level that the anchor key has not
    /// signed, or that is lower than here. One of a level that this node does not work at ends its part: it has no other way on.
    pub(crate) async fn admit(&self, told: &Bytes) -> Result<(), Status> {
        let level = self.read(told)?;
        if level < self.shared.level() {
            return Err(Status::failed_precondition("its feature level is lower than this node's state has seen"));
        }
        let Err(unfit) = self.levels.check(level) else { return Ok(()) };
        self.shared.set_problem(Problem::UpgradeNeeded(format!(
            "the state that the leader sends is not for this node: {unfit}"
        )));
        let _ = self.raft.shutdown().await;
        Err(Status::failed_precondition(unfit.to_string()))
    }

    fn read(&self, told: &Bytes) -> Result<Level, Status> {
        if told.is_empty() {
            return Ok(Level::FIRST);
        }
        let signed = SignedLevel::decode(told).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let config = self.state.seal_config();
        let config = config.map_err(|e| Status::unavailable(format!("this node's state can't be read: {e}")))?;
        match config.is_some_and(|config| signed.holds(&*self.seals, &config, self.cluster, self.group)) {
            true => Ok(signed.level),
            false => Err(Status::failed_precondition("its feature level is not signed by the anchor key")),
        }
    }

    /// Refuses a state that has another level than its header told.
    pub(crate) fn refuse_state(&self, incoming: &Incoming, told: &Bytes) -> Result<(), Status> {
        match incoming.value(&RecordKey::level()) {
            Ok(found) if found.as_ref().unwrap_or(&Bytes::new()) == told => Ok(()),
            Ok(_) => Err(Status::failed_precondition("it has another feature level than its header tells")),
            Err(e) => Err(Status::unavailable(format!("it can't be read: {e}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Cluster, SEAL_CONFIG, TestSeals, level_signature};

    const CLUSTER: ClusterId = ClusterId([7; 16]);

    #[test]
    fn a_level_comes_back_as_it_was_and_every_cut_and_every_change_is_found() {
        let good = SignedLevel::new(CLUSTER, GroupId(0), Level(2), level_signature);
        let bytes = good.encode();
        let holds = |level: &SignedLevel| level.holds(&TestSeals, SEAL_CONFIG, CLUSTER, GroupId(0));
        assert_eq!(SignedLevel::decode(&bytes), Ok(good.clone()));
        assert!(holds(&good));
        assert!(!good.holds(&TestSeals, b"another configuration", CLUSTER, GroupId(0)));
        assert!(!good.holds(&TestSeals, SEAL_CONFIG, ClusterId([8; 16]), GroupId(0)), "of another cluster");
        assert!(!good.holds(&TestSeals, SEAL_CONFIG, CLUSTER, GroupId(1)));
        for at in 0..bytes.len() {
            assert!(SignedLevel::decode(&bytes[..at]).is_err(), "cut at {at}");
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(!SignedLevel::decode(&changed).is_ok_and(|read| holds(&read)), "byte {at}");
        }
        assert!(SignedLevel::decode(&[&bytes[..], &[0]].concat()).is_err(), "longer");
        let none = SignedLevel::new(CLUSTER, GroupId(0), Level(0), level_signature);
        assert!(SignedLevel::decode(&none.encode()).is_err(), "there is no level below the first");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_is_stopped_by_a_level_that_is_only_said() {
        let cluster = Cluster::founded(1).await;
        let node = cluster.nodes[0].node();
        let told = |cluster, level, sign: fn(&[u8]) -> [u8; 64]| -> Bytes {
            SignedLevel::new(cluster, GroupId(0), Level(level), sign).encode().into()
        };
        let here = crate::testing::CLUSTER;
        for forged in [told(here, 9, |_| [1; 64]), told(CLUSTER, 9, level_signature), Bytes::from_static(b"9")] {
            assert!(node.levels.admit(&forged).await.is_err(), "{forged:?}");
            assert_eq!(node.base.shared.problem(), None, "{forged:?}");
        }
        for good in [Bytes::new(), told(here, 1, level_signature)] {
            assert!(node.levels.admit(&good).await.is_ok(), "{good:?}");
        }
        node.base.shared.set_level(Level(2));
        let lower = node.levels.admit(&told(here, 1, level_signature)).await.expect_err("lower than here");
        assert!(lower.message().contains("lower"), "{lower}");

        // One that is signed is: it can't go on.
        let refused = node.levels.admit(&told(here, 9, level_signature)).await.expect_err("above its own");
        assert!(refused.message().contains("level 9"), "{refused}");
        assert!(matches!(node.base.shared.problem(), Some(Problem::UpgradeNeeded(why)) if why.contains("level 9")));
        cluster.stop().await;
    }
}
