//! Disable a key: from the moment this is applied nobody uses it, on any node (promise P2).

use super::{Change, Decide, goes, updated};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::lifecycle::{KeyState, Row};
use crate::record::KeyRecord;
use crate::request::KeyHandle;
use crate::seam::NewIds;
use crate::views::KeyView;

/// Disables `key`; the answer is the key as it is then. Already disabled: nothing to do.
///
/// Refused: the key is not found, or waits for its destruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disable {
    /// The key.
    pub key: KeyHandle,
}

impl Decide for Disable {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Disable
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let key = at.object(&self.key)?;
        goes(Row::Enable, &key, at.time())?;
        let disabled = KeyRecord { state: KeyState::Disabled, ..KeyRecord::clone(&key) };
        Ok(updated(&key, disabled, at.time()))
    }
}
