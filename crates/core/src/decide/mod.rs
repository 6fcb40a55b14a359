//! What a request changes, as pure functions: one file per verb, each `decide(view, …) -> Change`.
//!
//! A decision sees one view and nothing else: no protocol, storage, network, clock or randomness inside (design §3).
//! The view notes every record that was read, present or absent; those are the batch's expectations, so a decision
//! stands only if nothing it looked at has moved. A decision reads what it writes. A refusal writes nothing.

pub mod alias_create;
pub mod alias_delete;
pub mod cancel_deletion;
pub mod claim;
pub mod create;
pub mod create_many;
pub mod destroy;
pub mod disable;
pub mod enable;
pub mod rotate;
pub mod schedule_deletion;
pub mod sweep;

#[cfg(test)]
mod model;

use thiserror::Error;

use crate::id::KeyId;
use crate::lifecycle::{KeyState, NoWay, Transition};
use crate::record::{AliasRecord, Answer, DueRecord, IdempotencyRecord, KeyRecord, Record, RecordName};
use crate::request::{ALIASES_PER_KEY_MAX, AliasName, KeyHandle};

/// Facts at exactly one index; notes what was read.
pub trait View {
    /// Why a fact could not be had, or the refusal.
    type Error: From<Refusal>;

    /// The record called `name`, or `None` if there is none. Noted either way.
    ///
    /// # Errors
    /// When storage fails or the record can't be opened.
    fn read(&mut self, name: &RecordName) -> Result<Option<Record>, Self::Error>;
}

/// One write of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// Writes the record. For a key version this means *with fresh material*, which the shell makes.
    Put(Record),
    /// Removes the record.
    Delete(RecordName),
}

impl Write {
    /// The record it writes.
    pub fn name(&self) -> RecordName {
        match self {
            Self::Put(record) => record.name(),
            Self::Delete(name) => name.clone(),
        }
    }
}

/// What a request does, and its answer once that is applied. No writes: the answer holds as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change<A> {
    /// All of these or none.
    pub writes: Vec<Write>,
    /// What to say.
    pub answer: A,
}

impl<A> Change<A> {
    /// Nothing to do.
    pub fn none(answer: A) -> Self {
        Self { writes: Vec::new(), answer }
    }
}

/// Why a request is refused. Nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// No such key, or no such alias to find it by.
    #[error("there is no {0} here; `quorate keys list` and `quorate alias list` show what there is")]
    KeyNotFound(KeyHandle),
    /// No such alias.
    #[error("there is no alias {0} here; `quorate alias list` shows what there is")]
    AliasNotFound(AliasName),
    /// The alias stands for a key already.
    #[error("the alias {name} is taken: it stands for key {key}; delete it first, or choose another name")]
    AliasTaken {
        /// The alias.
        name: AliasName,
        /// What it stands for.
        key: KeyId,
    },
    /// The key is disabled.
    #[error("key {0} is disabled; enable it first")]
    Disabled(KeyId),
    /// The key waits for its destruction.
    #[error("key {key} is to be destroyed on {}; cancel its deletion first", crate::time::utc(*at_ms))]
    PendingDeletion {
        /// The key.
        key: KeyId,
        /// When, cluster time, ms since 1970.
        at_ms: u64,
    },
    /// Only a key that waits for its destruction can be spared it.
    #[error("key {0} is not scheduled for deletion")]
    NotPendingDeletion(KeyId),
    /// The key is not due yet by duty time.
    #[error("key {key} is not due before {}, by cluster time and by the nodes' clocks", crate::time::utc(*at_ms))]
    NotDue {
        /// The key.
        key: KeyId,
        /// When it is, cluster time, ms since 1970.
        at_ms: u64,
    },
    /// No more aliases fit.
    #[error("key {0} has {ALIASES_PER_KEY_MAX} aliases, which is the limit; delete one first")]
    AliasesMax(KeyId),
    /// No more versions fit.
    #[error("key {0} has as many versions as a key can have; create a new key")]
    VersionsMax(KeyId),
    /// The token stands for another request.
    #[error("this token was used before with other parameters; use a fresh token for a new request")]
    TokenReused,
}

/// The records of one kind that `name` calls for. A view that answers with another kind has broken its contract; that
/// is treated as absence, and the expectation on the record makes sure that nothing is built on it.
macro_rules! typed {
    ($(#[$doc:meta])* $fn:ident, $kind:ident, $record:ty) => {
        $(#[$doc])*
        pub fn $fn<V: View>(view: &mut V, name: &RecordName) -> Result<Option<$record>, V::Error> {
            Ok(match view.read(name)? {
                Some(Record::$kind(record)) => Some(record.into()),
                _ => None,
            })
        }
    };
}

/// Typed reads.
pub mod read {
    use super::*;

    typed!(
        /// A key's record.
        key, Key, KeyRecord
    );
    typed!(
        /// An alias.
        alias, Alias, AliasRecord
    );
    typed!(
        /// A due record.
        due, Due, DueRecord
    );
    typed!(
        /// An answer to a token.
        idempotency, Idempotency, Box<IdempotencyRecord>
    );
    typed!(
        /// A duty's lease.
        duty, Duty, crate::record::DutyRecord
    );
}

/// Finds the key that `handle` names; one that is being destroyed is not found any more.
pub fn resolve<V: View>(view: &mut V, handle: &KeyHandle) -> Result<KeyRecord, V::Error> {
    let not_found = || Refusal::KeyNotFound(handle.clone());
    let id = match handle {
        KeyHandle::Id(id) => *id,
        KeyHandle::Alias(name) => read::alias(view, &RecordName::Alias(name.clone()))?.ok_or_else(not_found)?.key,
    };
    let key = read::key(view, &RecordName::Key(id))?.ok_or_else(not_found)?;
    if key.state == KeyState::Destroyed { Err(not_found().into()) } else { Ok(key) }
}

/// Why the key can't do that, in the words of a refusal.
pub fn refusal(key: KeyId, why: NoWay) -> Refusal {
    match why {
        NoWay::Disabled => Refusal::Disabled(key),
        NoWay::PendingDeletion { at_ms } => Refusal::PendingDeletion { key, at_ms },
        NoWay::NotPendingDeletion => Refusal::NotPendingDeletion(key),
        NoWay::Destroyed => Refusal::KeyNotFound(KeyHandle::Id(key)),
    }
}

/// Moves the key along the transition table.
fn step(key: &KeyRecord, transition: Transition) -> Result<KeyState, Refusal> {
    key.state.after(transition).map_err(|why| refusal(key.id, why))
}

/// The change that sets a key's state, or none when it has that state.
fn set_state(mut key: KeyRecord, transition: Transition) -> Result<Change<KeyRecord>, Refusal> {
    let state = step(&key, transition)?;
    if state == key.state {
        return Ok(Change::none(key));
    }
    key.state = state;
    Ok(Change { writes: vec![Write::Put(Record::Key(key.clone()))], answer: key })
}

/// What was answered to `token` before, if it was: the caller answers the same again and writes nothing.
fn replay<V: View>(view: &mut V, name: &RecordName, request_hash: [u8; 32]) -> Result<Option<Answer>, V::Error> {
    match read::idempotency(view, name)? {
        None => Ok(None),
        Some(earlier) if earlier.request_hash == request_hash => Ok(Some(earlier.answer)),
        Some(_) => Err(Refusal::TokenReused.into()),
    }
}
