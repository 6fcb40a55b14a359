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
use crate::record::{AliasRecord, DueRecord, IdempotencyRecord, KeyRecord, Record, RecordName};
use crate::request::{ALIASES_PER_KEY_MAX, AliasName, KeyHandle, Token};
use crate::time::Time;

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

/// A secret that the shell has, by its place among those that it gave: a decision says where it goes, and never sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(pub usize);

/// One write of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// Writes a record that is not there: whether the decision has looked or not, the change stands only if it is not.
    Create(Record),
    /// The same, with a secret at the end of its body.
    CreateWith(Record, Slot),
    /// Writes a record that the decision has read. Others may want to write it too, so such changes queue.
    Update(Record),
    /// Removes a record that the decision has read; likewise.
    Delete(RecordName),
}

impl Write {
    /// The record it writes.
    pub fn name(&self) -> RecordName {
        match self {
            Self::Create(record) | Self::CreateWith(record, _) | Self::Update(record) => record.name(),
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
    /// The token's time is too far off: a retry could be one of a request that is forgotten.
    #[error(
        "the token's time is more than an hour behind, or ten minutes ahead: it is {} here; make the token, a UUIDv7, right \
         before the request, and look whether an earlier request with it was carried out",
        crate::time::utc(*now_ms)
    )]
    TokenTime {
        /// The time here, ms since 1970.
        now_ms: u64,
    },
}

/// The records of one kind that `name` calls for. A view that answers with another kind has broken its contract; that
/// is treated as absence, and the expectation on the record makes sure that nothing is built on it.
macro_rules! typed {
    ($(#[$doc:meta])* $fn:ident, $kind:ident, $record:ty) => {
        $(#[$doc])*
        pub fn $fn<V: View>(view: &mut V, name: &RecordName) -> Result<Option<$record>, V::Error> {
            Ok(match view.read(name)? {
                Some(Record::$kind(record)) => Some(record),
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
        idempotency, Idempotency, IdempotencyRecord
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
    Ok(Change { writes: vec![Write::Update(Record::Key(key.clone()))], answer: key })
}

/// Whether a token's time is one that a request of now may have.
///
/// # Errors
/// [`Refusal::TokenTime`]: much later nobody could tell whether the request was carried out.
fn timely(token: Token, time: Time) -> Result<Token, Refusal> {
    let at_ms = token.time_ms();
    let ahead = time.cluster_ms.max(time.local_ms).saturating_add(Token::AHEAD_MS_MAX);
    let behind = time.cluster_ms.saturating_sub(Token::BEHIND_MS_MAX);
    if (behind..=ahead).contains(&at_ms) { Ok(token) } else { Err(Refusal::TokenTime { now_ms: time.stamp_ms() }) }
}
