//! Get the public key of a pair.

use quorate_core::access::Access;
use quorate_core::action::Action;
use quorate_core::facts::Of;
use quorate_core::id::{KeyId, KeyVersion};
use quorate_core::key_spec::{KeySpec, Usages};
use quorate_core::record::KeyVersionRecord;
use quorate_core::request::KeyHandle;

use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// Gives out the public key of a version of `key`.
///
/// Refused: the key is not found, is no pair, or waits for its destruction, or is disabled; it has no such version.
pub struct GetPublicKey {
    /// The key.
    pub key: KeyHandle,
    /// The version; none = the current one.
    pub version: Option<KeyVersion>,
}

/// A public key.
pub struct PublicKey {
    /// SubjectPublicKeyInfo, DER (RFC 5280 §4.1.2.7).
    pub spki: Vec<u8>,
    /// The key.
    pub key: KeyId,
    /// The version.
    pub version: KeyVersion,
    /// Of what kind it is.
    pub spec: KeySpec,
    /// What its private half is for.
    pub usage: Usages,
}

impl Use for GetPublicKey {
    type Facts = Of<KeyVersionRecord>;
    type Answer = PublicKey;

    fn action(&self) -> Action {
        Action::PublicKey
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.public_key(&self.key, self.version)
    }

    fn act(&self, head: Self::Facts, _: &Tools) -> Result<PublicKey, Error> {
        Ok(PublicKey {
            spki: head.public.clone(),
            key: head.key,
            version: head.version,
            spec: head.spec,
            usage: head.usage,
        })
    }
}
