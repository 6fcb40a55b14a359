//! Rotate a key: a fresh version becomes the one that protects; all before it go on processing what they protected.

use super::{Change, Decide, Filed, Refusal, Retry, Slot, Write, touch, version};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::key_spec::Mode;
use crate::lifecycle::Row;
use crate::record::{KeyRecord, KeyVersionRecord, handle_bytes, request_hash};
use crate::request::{KeyHandle, Token};
use crate::seam::NewIds;
use crate::views::KeyView;

/// Gives `key` a fresh version; the answer is the key with its new current version, or, if the same token rotated it before, as
/// it is now.
///
/// Where outputs don't name their version, older ones may still protect when they are asked for by number.
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
        let before = at.key(&self.key)?;
        let current = version(at, Row::Rotate, &before, None)?;
        let mut key = KeyRecord::clone(&before);
        key.current = key.current.next().ok_or(Refusal::VersionsMax(key.id))?;
        // Only a ciphertext that names its version lets the one before retire unasked.
        if current.mode == Mode::Blob {
            key.protect_floor = key.current;
        }
        touch(&mut key, at.time());
        key.rotated_ms = key.updated_ms;
        let made = KeyVersionRecord::new(key.id, key.current, key.spec, current.mode, current.usage, key.rotated_ms);
        let answer = KeyView::from(&key);
        let fresh = Slot::Fresh(0, key.spec);
        Ok(Change { writes: vec![Write::Update(key.into()), Write::CreateWith(made.into(), fresh)], answer })
    }
}
