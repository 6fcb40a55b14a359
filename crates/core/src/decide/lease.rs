//! Lease uses of a version to a node, where a version has only so many (SP 800-38D §8.3; key-model §6).
//!
//! A node spends from what it was given without asking anybody. What it has not spent when it stops is lost: the record never
//! says less than was used. Blobs need none of this: each is encrypted under a key and an IV of its own (key-hierarchy §1, §3).

use super::{Change, Refusal, Write, refusal};
use crate::facts::Facts;
use crate::id::{KeyId, KeyVersion};
use crate::lifecycle::{KeyState, NoWay, Row, VersionState};
use crate::record::{AllowanceRecord, GCM_USES_DUE, GCM_USES_MAX, KeyRecord, KeyVersionRecord, MaterialId};
use crate::request::KeyHandle;

/// Uses given at a time.
const BLOCK: u64 = 1 << 20;
/// The same, of a version that few were given of: most versions never need more.
const BLOCK_OF_FEW: u64 = 1 << 14;
/// What is few.
const FEW: u64 = 1 << 24;

/// Of what uses are given: a version, as long as it has that material.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Of {
    /// The key.
    pub key: KeyId,
    /// The version.
    pub version: KeyVersion,
    /// Its material.
    pub material: MaterialId,
}

/// What a node was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Given {
    /// So many uses.
    pub uses: u64,
    /// Whether with these the version has come to where its key is to be rotated.
    pub falls_due: bool,
}

/// Gives a node some uses of a version: `wanted` at least, and more ahead of need, or exactly those. No principal: each use is granted
/// by itself.
///
/// # Errors
/// [`Refusal::Exhausted`] when not so many are left; the key, the version or its material is not there (any more), so that no
/// record outlives them.
pub fn decide<F: Facts>(facts: &mut F, of: Of, wanted: u64, ahead: bool) -> Result<Change<Given>, F::Error> {
    let Of { key, version, material } = of;
    if facts.get::<KeyRecord>(key)?.is_none_or(|key| key.state == KeyState::Destroyed) {
        return Err(Refusal::KeyNotFound(KeyHandle::Id(key)).into());
    }
    match facts.get::<KeyVersionRecord>((key, version))? {
        Some(head) if head.life.dates.destroyed != 0 => {
            return Err(refusal(key, version, NoWay::Version(Row::Protect, VersionState::Destroyed)).into());
        }
        Some(head) if head.material_id == material => {}
        _ => return Err(Refusal::NoVersion(key, version).into()),
    }
    let before = facts.get::<AllowanceRecord>((key, version))?.map_or(0, |given| given.gcm);
    let left = GCM_USES_MAX.saturating_sub(before);
    if wanted > left {
        return Err(Refusal::Exhausted(key, version).into());
    }
    let block = if before < FEW { BLOCK_OF_FEW } else { BLOCK };
    let uses = if ahead { block.max(wanted).min(left) } else { wanted };
    let gcm = before + uses;
    let falls_due = before < GCM_USES_DUE && gcm >= GCM_USES_DUE;
    let writes = vec![Write::Update(AllowanceRecord { key, version, gcm }.into())];
    Ok(Change { writes, answer: Given { uses, falls_due } })
}

/// What one node has left of what it was given of one version.
#[derive(Default, Debug)]
pub struct Lease {
    left: u64,
    /// Below this it is time to ask for more.
    low: u64,
}

impl Lease {
    /// Takes so many uses, if they are there.
    #[must_use]
    pub fn spend(&mut self, uses: u64) -> bool {
        let left = self.left.checked_sub(uses);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }

    /// Adds what the node was given.
    pub fn add(&mut self, given: Given) {
        self.left += given.uses;
        self.low = given.uses / 4;
    }

    /// Whether it is time to ask for more, so that no use has to wait for it.
    pub fn is_low(&self) -> bool {
        self.left < self.low
    }

    /// No more is given: it is of no use to ask.
    pub fn ends(&mut self) {
        self.low = 0;
    }
}

#[cfg(test)]
mod tests;
