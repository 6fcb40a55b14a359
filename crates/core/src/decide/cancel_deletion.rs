//! Spare a key its scheduled destruction. It comes back disabled, so that somebody looks before it is used again.

use super::{Change, View, Write, resolve, step};
use crate::authorize::{Authorized, ManageKeys};
use crate::lifecycle::{KeyState, Transition};
use crate::record::{Due, DueRecord, KeyRecord, Record, RecordName};
use crate::request::KeyHandle;

/// Decides it; the answer is the key, disabled.
///
/// # Errors
/// The key is not found (also when its destruction has begun), or is not scheduled for deletion.
pub fn decide<V: View>(
    view: &mut V,
    _by: &Authorized<ManageKeys>,
    key: &KeyHandle,
) -> Result<Change<KeyRecord>, V::Error> {
    let mut key = resolve(view, key)?;
    let before = key.state;
    key.state = step(&key, Transition::CancelDeletion)?;
    let mut writes = vec![Write::Update(Record::Key(key.clone()))];
    if let KeyState::PendingDeletion { at_ms } = before {
        let due = RecordName::Due((DueRecord::hour(at_ms), Due::Deletion(key.id)));
        if view.read(&due)?.is_some() {
            writes.push(Write::Delete(due));
        }
    }
    Ok(Change { writes, answer: key })
}
