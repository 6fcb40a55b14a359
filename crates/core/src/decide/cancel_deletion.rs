//! Spare a key its scheduled destruction.

use super::{Change, Decide, Write, step};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::lifecycle::{KeyState, Transition};
use crate::record::{Due, DueRecord, KeyRecord, RecordName};
use crate::request::KeyHandle;
use crate::seam::NewIds;
use crate::views::KeyView;

/// Cancels the destruction of `key`; the answer is the key, which comes back disabled, so that somebody looks before it is used
/// again.
///
/// Refused: the key is not found (also when its destruction has begun), or is not scheduled for deletion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CancelDeletion {
    /// The key.
    pub key: KeyHandle,
}

impl Decide for CancelDeletion {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::CancelDeletion
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let key = at.key(&self.key)?;
        let before = key.state;
        let key = KeyRecord { state: step(&key, Transition::CancelDeletion)?, ..KeyRecord::clone(&key) };
        let mut writes = vec![Write::Update(key.clone().into())];
        if let KeyState::PendingDeletion { at_ms } = before {
            let due = (DueRecord::hour(at_ms), Due::Deletion(key.id));
            if at.get::<DueRecord>(due)?.is_some() {
                writes.push(Write::Delete(RecordName::Due(due)));
            }
        }
        Ok(Change { writes, answer: KeyView::from(&key) })
    }
}
