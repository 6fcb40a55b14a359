//! Claim or renew the lease of a duty, so that one node does the work. Correctness never rests on it (key-log §2).

use super::{Change, Write};
use crate::facts::Basis;
use crate::id::NodeId;
use crate::record::{Duty, DutyRecord};

/// How long a lease lasts, in milliseconds of cluster time.
pub const LEASE_MS: u64 = 30_000;

/// Decides it; the answer says whether the duty is `holder`'s until the lease ends.
///
/// # Errors
/// None of its own.
pub fn decide<F: Basis>(facts: &mut F, duty: Duty, holder: NodeId, boot: u32) -> Result<Change<bool>, F::Error> {
    let now = facts.time().cluster_ms;
    if let Some(lease) = facts.get::<DutyRecord>(duty)? {
        let mine = lease.holder == holder && lease.boot == boot;
        // One that lasts longer than leases do was claimed before cluster time was set back: it is void.
        let left_ms = lease.until_ms.saturating_sub(now);
        let holds = left_ms > 0 && left_ms <= LEASE_MS;
        if !mine && holds {
            return Ok(Change::none(false));
        }
        if mine && holds && left_ms > LEASE_MS / 2 {
            return Ok(Change::none(true));
        }
    }
    let lease = DutyRecord { duty, holder, boot, until_ms: now.saturating_add(LEASE_MS) };
    Ok(Change { writes: vec![Write::Update(lease.into())], answer: true })
}
