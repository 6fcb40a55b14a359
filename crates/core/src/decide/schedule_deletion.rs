//! Schedule a key's destruction: nobody uses it from now on, and a duty destroys it when cluster time comes.

use super::{Change, View, Write, resolve, step};
use crate::authorize::{Authorized, ManageKeys};
use crate::lifecycle::Transition;
use crate::record::{Due, DueRecord, KeyRecord, Record};
use crate::request::{DeletionWindow, KeyHandle};
use crate::time::Time;

/// Decides it; the answer is the key with its day.
///
/// # Errors
/// The key is not found, or waits for its destruction already.
pub fn decide<V: View>(
    view: &mut V,
    _by: &Authorized<ManageKeys>,
    key: &KeyHandle,
    window: DeletionWindow,
    time: Time,
) -> Result<Change<KeyRecord>, V::Error> {
    let mut key = resolve(view, key)?;
    let at_ms = time.cluster_ms.saturating_add(window.millis());
    key.state = step(&key, Transition::ScheduleDeletion { at_ms })?;
    let due = Record::Due(DueRecord { what: Due::Deletion(key.id), at_ms });
    // One may be there: a deletion that was cancelled leaves none, but nothing rests on that.
    view.read(&due.name())?;
    Ok(Change { writes: vec![Write::Update(Record::Key(key.clone())), Write::Update(due)], answer: key })
}
