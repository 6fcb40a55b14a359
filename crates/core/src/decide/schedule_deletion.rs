//! Schedule a key's destruction: nobody uses it from now on, and a duty destroys it when cluster time comes.

use super::{Change, Decide, Refusal, Write, goes, touch};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::lifecycle::{KeyState, Row};
use crate::record::{Due, DueRecord, KeyRecord};
use crate::request::{DeletionWindow, KeyHandle};
use crate::seam::NewIds;
use crate::views::KeyView;

/// Has `key` destroyed when `window` is over, by cluster time; the answer is the key with its day.
///
/// Refused: [`Refusal::BriefWindow`]; the key is not found, or waits for its destruction already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScheduleDeletion {
    /// The key.
    pub key: KeyHandle,
    /// How long it waits.
    pub window: DeletionWindow,
}

impl Decide for ScheduleDeletion {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::ScheduleDeletion
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        if self.window.is_brief() && !at.is_dev() {
            return at.refuse(Refusal::BriefWindow);
        }
        let key = at.object(&self.key)?;
        goes(Row::ScheduleDeletion, &key, at.time())?;
        let at_ms = at.time().cluster_ms.saturating_add(self.window.millis());
        let mut key = KeyRecord::clone(&key);
        touch(&mut key, at.time());
        let was_enabled = key.state == KeyState::Enabled;
        key.state = KeyState::PendingDeletion { at_ms, since_ms: key.updated_ms, was_enabled };
        key.deletion_by = Some(at.principal().clone());
        let due = DueRecord { what: Due::Deletion(key.id), at_ms };
        // One may be there: a deletion that was cancelled leaves none, but nothing rests on that.
        at.get::<DueRecord>((DueRecord::hour(at_ms), due.what))?;
        Ok(Change {
            writes: vec![Write::Update(key.clone().into()), Write::Update(due.into())],
            answer: KeyView::from(&key),
        })
    }
}
