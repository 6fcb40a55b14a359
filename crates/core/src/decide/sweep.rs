//! Remove answers to client tokens that are a day old (key-log §1.6).

use super::{Change, View, Write, read};
use crate::record::RecordName;
use crate::time::{DAY_MS, DutyTime};

/// Most records one sweep looks at.
pub const RECORDS_MAX: usize = 64;

/// Decides it for the idempotency records in `names`; those that are a day old by *duty time* go.
/// The answer is their number. Names beyond [`RECORDS_MAX`] are left for the next sweep.
///
/// # Errors
/// None of its own.
pub fn decide<V: View>(view: &mut V, names: &[RecordName], time: DutyTime) -> Result<Change<usize>, V::Error> {
    let mut writes = Vec::new();
    for name in names.iter().take(RECORDS_MAX) {
        let old = |created_ms: u64| time.is_due(created_ms.saturating_add(DAY_MS));
        if read::idempotency(view, name)?.is_some_and(|record| old(record.created_ms)) {
            writes.push(Write::Delete(name.clone()));
        }
    }
    let swept = writes.len();
    Ok(Change { writes, answer: swept })
}
