//! Enable a key that was disabled.

use super::{Change, Decide, goes, updated};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::lifecycle::{KeyState, Row};
use crate::record::KeyRecord;
use crate::request::KeyHandle;
use crate::seam::NewIds;
use crate::views::KeyView;

/// Enables `key`; the answer is the key as it is then. Already enabled: nothing to do.
///
/// Refused: the key is not found, or waits for its destruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Enable {
    /// The key.
    pub key: KeyHandle,
}

impl Decide for Enable {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Enable
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let key = at.object(&self.key)?;
        goes(Row::Enable, &key, at.time())?;
        let enabled = KeyRecord { state: KeyState::Enabled, ..KeyRecord::clone(&key) };
        Ok(updated(&key, enabled, at.time()))
    }
}
