//! Rotate somebody else's public key to the one that took its place there; all before it go on verifying what was signed by them.

use super::rotate::with_current;
use super::{Change, Decide, Filed, PublicPart, Refusal, Retry, Write, version};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::lifecycle::Row;
use crate::record::{KeyVersionRecord, Origin, handle_bytes, request_hash};
use crate::request::{InvalidRequest, KeyHandle, Part, Token};
use crate::seam::NewIds;
use crate::views::KeyView;

/// Gives `key`, which is a public key, its owner's next one; the answer is the key with its new current version, or, if the same
/// token rotated it before, as it is now.
///
/// Refused: the key is not found, disabled, or waits for its destruction; [`Refusal::VersionsMax`]; it is no public key alone, or of
/// another kind, or this one already.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RotateTo {
    /// Which key.
    pub key: KeyHandle,
    /// The next one.
    pub public: PublicPart,
    /// Makes a retry recognisable.
    pub token: Option<Token>,
}

impl Decide for RotateTo {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Rotate
    }

    fn retry(&self) -> Retry<KeyView> {
        self.token.map_or(Retry::Again, |token| {
            let request_hash = request_hash("rotate to", &[&handle_bytes(&self.key), &self.public.spki]);
            Retry::Filed(Filed { token, request_hash, key_of: |key| key.id, answer: |key| key.into() })
        })
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let before = at.key(&self.key)?;
        let wrong = |why| Err(Refusal::Invalid(InvalidRequest::wrong(Part::PublicKey, why)).into());
        let (id, next) = (before.id, &self.public);
        if before.origin != Origin::Public {
            return wrong(format!("key {id} has a private half here: it is not rotated to a public key alone"));
        }
        let current = version(at, Row::Rotate, &before, None)?;
        if next.spec != before.spec {
            let (is, spec) = (next.spec.as_str(), before.spec.as_str());
            return wrong(format!("the public key is of kind {is}, and key {id} of {spec}; create another key for it"));
        }
        if next.spki == current.public {
            return wrong(format!("this is the public key that key {id} has now; give the one that took its place"));
        }
        let number = before.current.next().ok_or(Refusal::VersionsMax(id))?;
        let key = with_current(&before, number, current.mode, at.time());
        let mut made = KeyVersionRecord::new(id, number, key.spec, current.mode, current.usage, key.rotated_ms);
        (made.has_material, made.public) = (false, next.spki.clone());
        let answer = KeyView::from(&key);
        Ok(Change { writes: vec![Write::Update(key.into()), Write::Create(made.into())], answer })
    }
}
