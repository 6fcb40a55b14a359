//! Disable a key: from the moment this is applied nobody uses it, on any node. Already disabled: nothing to do.

use super::{Change, View, resolve, set_state};
use crate::authorize::{Authorized, ManageKeys};
use crate::lifecycle::Transition;
use crate::record::KeyRecord;
use crate::request::KeyHandle;

/// Decides it; the answer is the key as it is then.
///
/// # Errors
/// The key is not found, or waits for its destruction.
pub fn decide<V: View>(
    view: &mut V,
    _by: &Authorized<ManageKeys>,
    key: &KeyHandle,
) -> Result<Change<KeyRecord>, V::Error> {
    let key = resolve(view, key)?;
    Ok(set_state(key, Transition::Disable)?)
}
