//! Remove answers to client tokens whose time is long past: a retry with one would be refused anyway (key-model §5.4).

use super::{Change, View, Write, read};
use crate::record::RecordName;
use crate::request::Token;
use crate::time::DutyTime;

/// Most records one sweep looks at.
pub const RECORDS_MAX: usize = 64;

/// Decides it for the idempotency records in `names`; those that are old by *duty time* go.
/// The answer is their number. Names beyond [`RECORDS_MAX`] are left for the next sweep.
///
/// # Errors
/// None of its own.
pub fn decide<V: View>(view: &mut V, names: &[RecordName], time: DutyTime) -> Result<Change<usize>, V::Error> {
    let mut writes = Vec::new();
    for name in names.iter().take(RECORDS_MAX) {
        if read::idempotency(view, name)?.is_some_and(|record| is_old(record.token, time)) {
            writes.push(Write::Delete(name.clone()));
        }
    }
    let swept = writes.len();
    Ok(Change { writes, answer: swept })
}

/// Whether what a token did need no longer be remembered.
pub fn is_old(token: Token, time: DutyTime) -> bool {
    time.is_due(token.time_ms().saturating_add(Token::KEPT_MS))
}
