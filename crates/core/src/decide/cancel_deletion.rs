//! Spare a key its scheduled destruction.

use super::{Change, Decide, Refusal, Write, touch};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::lifecycle::KeyState;
use crate::record::{Due, DueRecord, KeyRecord, RecordName};
use crate::request::KeyHandle;
use crate::seam::NewIds;
use crate::views::KeyView;

/// Cancels the destruction of `key`; the answer is the key. It comes back disabled, so that somebody looks before it is used
/// again, or as it was.
///
/// Refused: the key is not found (also when its destruction has begun), or is not scheduled for deletion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CancelDeletion {
    /// The key.
    pub key: KeyHandle,
    /// Whether it is enabled again, if it was.
    pub as_before: bool,
}

impl Decide for CancelDeletion {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::CancelDeletion
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let key = at.object(&self.key)?;
        let KeyState::PendingDeletion { at_ms, was_enabled, .. } = key.state else {
            return Err(Refusal::NotPendingDeletion(key.id).into());
        };
        let state = if self.as_before && was_enabled { KeyState::Enabled } else { KeyState::Disabled };
        let mut key = KeyRecord { state, deletion_by: None, ..KeyRecord::clone(&key) };
        touch(&mut key, at.time());
        let mut writes = vec![Write::Update(key.clone().into())];
        let due = (DueRecord::hour(at_ms), Due::Deletion(key.id));
        if at.get::<DueRecord>(due)?.is_some() {
            writes.push(Write::Delete(RecordName::Due(due)));
        }
        Ok(Change { writes, answer: KeyView::from(&key) })
    }
}
