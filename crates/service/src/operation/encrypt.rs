//! Encrypt a few kilobytes directly under a key. Longer data goes under a data key.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::access::{Access, Usable, Want};
use quorate_core::action::Action;
use quorate_core::id::{KeyId, KeyVersion};
use quorate_core::key_spec::Usage;
use quorate_core::request::{EncryptionContext, InvalidRequest, KeyHandle, PLAINTEXT_LEN_MAX, Part};
use quorate_crypto::material::Material;
use quorate_crypto::material::symmetric::{BlobKind, ContextHash, KeyRef, encrypt};

use super::NOT_FITTING;
use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// Encrypts `plaintext` under the current version of `key`, bound to `context`.
///
/// Refused: [`InvalidRequest::TooLarge`]; the key is not found, disabled, or waits for its destruction.
pub struct Encrypt {
    /// The key.
    pub key: KeyHandle,
    /// What to encrypt, at most [`PLAINTEXT_LEN_MAX`] bytes.
    pub plaintext: Bytes,
    /// What has to be said again to decrypt it.
    pub context: EncryptionContext,
}

/// A ciphertext and what made it.
pub struct Ciphertext {
    /// The blob of key-hierarchy §3: it names its key.
    pub ciphertext: Vec<u8>,
    /// The key.
    pub key: KeyId,
    /// The version that was current.
    pub version: KeyVersion,
}

impl Use for Encrypt {
    type Facts = Usable<Arc<Material>>;
    type Answer = Ciphertext;

    fn action(&self) -> Action {
        Action::Encrypt
    }

    fn check(&self, _: &Tools) -> Result<(), Error> {
        let (len, max) = (self.plaintext.len(), PLAINTEXT_LEN_MAX);
        if len > max { Err(InvalidRequest::TooLarge { part: Part::Plaintext, len, max }.into()) } else { Ok(()) }
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.usable(&self.key, Want::new(Usage::Encrypt))
    }

    fn act(&self, usable: Self::Facts, tools: &Tools) -> Result<Ciphertext, Error> {
        let material = usable.material.symmetric().ok_or(NOT_FITTING)?;
        let (key_id, version) = (usable.key, usable.version.version);
        let key = KeyRef { lineage: tools.lineage, key_id, version };
        let context = ContextHash::of(&self.context);
        let ciphertext = encrypt(material, key, BlobKind::Direct, &context, &self.plaintext, &*tools.entropy);
        Ok(Ciphertext { ciphertext, key: key_id, version })
    }
}
