//! Give a key another name.

use super::{Change, Refusal, View, Write, read, refusal, resolve};
use crate::authorize::{Authorized, ManageKeys};
use crate::lifecycle::{KeyState, NoWay};
use crate::record::{AliasRecord, Record, RecordName};
use crate::request::{ALIASES_PER_KEY_MAX, AliasName, KeyHandle};
use crate::time::Time;

/// Decides it; the answer is the alias. The same alias for the same key again: nothing to do.
///
/// # Errors
/// [`Refusal::AliasTaken`] by another key, [`Refusal::AliasesMax`]; the key is not found, or waits for its destruction.
pub fn decide<V: View>(
    view: &mut V,
    _by: &Authorized<ManageKeys>,
    name: &AliasName,
    key: &KeyHandle,
    time: Time,
) -> Result<Change<AliasRecord>, V::Error> {
    let mut key = resolve(view, key)?;
    if let Some(taken) = read::alias(view, &RecordName::Alias(name.clone()))? {
        if taken.key == key.id {
            return Ok(Change::none(taken));
        }
        return Err(Refusal::AliasTaken { name: name.clone(), key: taken.key }.into());
    }
    if let KeyState::PendingDeletion { at_ms } = key.state {
        return Err(refusal(key.id, NoWay::PendingDeletion { at_ms }).into());
    }
    if key.aliases.len() >= ALIASES_PER_KEY_MAX {
        return Err(Refusal::AliasesMax(key.id).into());
    }
    key.aliases.insert(name.clone());
    let alias = AliasRecord { name: name.clone(), key: key.id, created_ms: time.stamp_ms() };
    let writes = vec![Write::Update(Record::Key(key)), Write::Create(Record::Alias(alias.clone()))];
    Ok(Change { writes, answer: alias })
}
