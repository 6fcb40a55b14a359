//! Remove answers to client tokens whose time is long past: a retry with one would be refused anyway (key-model §5.4).

use super::{Change, Write};
use crate::facts::Facts;
use crate::principal::Principal;
use crate::record::{IdempotencyRecord, RecordName};
use crate::request::Token;
use crate::time::DutyTime;

/// Most records one sweep looks at.
pub const RECORDS_MAX: usize = 64;

/// Decides it for the answers to `tokens`; those that are old by *duty time* go.
/// The answer is their number. Tokens beyond [`RECORDS_MAX`] are left for the next sweep.
///
/// # Errors
/// None of its own.
pub fn decide<F: Facts>(
    facts: &mut F,
    tokens: &[(Principal, Token)],
    time: DutyTime,
) -> Result<Change<usize>, F::Error> {
    let mut writes = Vec::new();
    for name in tokens.iter().take(RECORDS_MAX) {
        if is_old(name.1, time) && facts.get::<IdempotencyRecord>(name.clone())?.is_some() {
            writes.push(Write::Delete(RecordName::Idempotency(name.clone())));
        }
    }
    let swept = writes.len();
    Ok(Change { writes, answer: swept })
}

/// Whether what a token did need no longer be remembered.
pub fn is_old(token: Token, time: DutyTime) -> bool {
    time.is_due(token.time_ms().saturating_add(Token::KEPT_MS))
}
