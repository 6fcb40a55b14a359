//! Claim or renew the lease of a duty, so that one node does the work. Correctness never rests on it (key-log §2).

use super::{Change, View, Write, read};
use crate::id::NodeId;
use crate::record::{Duty, DutyRecord, Record, RecordName};
use crate::time::Time;

/// How long a lease lasts, in milliseconds of cluster time.
pub const LEASE_MS: u64 = 30_000;

/// Decides it; the answer says whether the duty is `holder`'s until the lease ends.
///
/// # Errors
/// None of its own.
pub fn decide<V: View>(
    view: &mut V,
    duty: Duty,
    holder: NodeId,
    boot: u32,
    time: Time,
) -> Result<Change<bool>, V::Error> {
    let now = time.cluster_ms;
    if let Some(lease) = read::duty(view, &RecordName::Duty(duty))? {
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
    Ok(Change { writes: vec![Write::Update(Record::Duty(lease))], answer: true })
}
