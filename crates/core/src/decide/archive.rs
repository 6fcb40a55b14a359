//! Put a key away, and get it back (KMIP: Archive, Recover).

use super::{Change, Decide, updated, version};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::lifecycle::Row;
use crate::record::KeyRecord;
use crate::request::KeyHandle;
use crate::seam::NewIds;
use crate::views::KeyView;

/// Puts `key` away: it is found and described, and neither used nor changed until somebody gets it back.
///
/// Refused: the key is not found, is archived already, waits for its destruction; its current version is destroyed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Archive {
    /// The key.
    pub key: KeyHandle,
}

impl Decide for Archive {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Archive
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let key = at.key(&self.key)?;
        version(at, Row::Archive, &key, None)?;
        Ok(updated(&key, KeyRecord { archived: true, ..KeyRecord::clone(&key) }, at.time()))
    }
}

/// Gets `key` back, as it was when it was put away. One that is not archived: nothing to do.
///
/// Refused: the key is not found, or waits for its destruction; its current version is destroyed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recover {
    /// The key.
    pub key: KeyHandle,
}

impl Decide for Recover {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Recover
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let key = at.key(&self.key)?;
        version(at, Row::Recover, &key, None)?;
        Ok(updated(&key, KeyRecord { archived: false, ..KeyRecord::clone(&key) }, at.time()))
    }
}
