//! Rotate a key: a fresh version becomes the one that encrypts; all before it go on decrypting.

use super::{Change, Decide, Filed, Refusal, Retry, Slot, Write, step};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::lifecycle::Transition;
use crate::record::{KeyRecord, KeyVersionRecord, handle_bytes, request_hash};
use crate::request::{KeyHandle, Token};
use crate::seam::NewIds;
use crate::views::KeyView;

/// Gives `key` a fresh version; the answer is the key with its new current version, or, if the same token rotated it before, as
/// it is now.
///
/// Refused: the key is not found, disabled, or waits for its destruction; [`Refusal::VersionsMax`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rotate {
    /// Which key.
    pub key: KeyHandle,
    /// Makes a retry recognisable; without one, a retry rotates again.
    pub token: Option<Token>,
}

impl Decide for Rotate {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Rotate
    }

    fn retry(&self) -> Retry<KeyView> {
        self.token.map_or(Retry::Again, |token| {
            let request_hash = request_hash("rotate", &[&handle_bytes(&self.key)]);
            Retry::Filed(Filed { token, request_hash, key_of: |key| key.id, answer: |key| key.into() })
        })
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let mut key = KeyRecord::clone(&*at.key(&self.key)?);
        key.state = step(&key, Transition::Rotate)?;
        key.current = key.current.next().ok_or(Refusal::VersionsMax(key.id))?;
        // The node of the last rotation may have had a faster clock.
        key.rotated_ms = at.time().stamp_ms().max(key.rotated_ms).max(key.created_ms);
        let version =
            KeyVersionRecord { key: key.id, version: key.current, spec: key.spec, created_ms: key.rotated_ms };
        let writes =
            vec![Write::Update(key.clone().into()), Write::CreateWith(version.into(), Slot::Fresh(0, key.spec))];
        Ok(Change { writes, answer: KeyView::from(&key) })
    }
}
