//! Encrypt anew what is encrypted already, under another key or its current version; the plaintext stays inside.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::access::{Access, Usable, Want};
use quorate_core::action::Action;
use quorate_core::key_spec::{Algorithm, Usage};
use quorate_core::request::{EncryptionContext, InvalidRequest, KeyHandle};
use quorate_crypto::material::Material;
use quorate_crypto::material::symmetric::{BlobHeader, ContextHash, decrypt};

use super::decrypt::{Decrypt, Given};
use super::encrypt::{Binding, blob};
use super::{NOT_FITTING, Used};
use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// Decrypts a blob, and encrypts what was in it under the current version of `to`.
///
/// Refused: as decrypting and encrypting; both keys are judged in one view.
pub struct ReEncrypt {
    header: BlobHeader,
    expected: Vec<KeyHandle>,
    ciphertext: Bytes,
    context: EncryptionContext,
    to: KeyHandle,
    to_context: EncryptionContext,
}

/// What was encrypted anew.
pub struct ReEncrypted {
    /// The new blob.
    pub ciphertext: Vec<u8>,
    /// What had made the old one.
    pub from: Used,
    /// What made the new one.
    pub to: Used,
}

impl ReEncrypt {
    /// From a blob, of one of the `expected` keys if there are any.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(
        ciphertext: Bytes,
        context: EncryptionContext,
        expected: Vec<KeyHandle>,
        to: KeyHandle,
        to_context: EncryptionContext,
    ) -> Result<Self, InvalidRequest> {
        let bound = Binding { context: context.clone(), aad: Bytes::new() };
        let (keys, algorithm) = (expected.clone(), Some(Algorithm::Blob));
        let given = Given { ciphertext: ciphertext.clone(), bound, keys, algorithm, ..Given::default() };
        let header = Decrypt::new(given)?.header()?;
        Ok(Self { header, expected, ciphertext, context, to, to_context })
    }
}

impl Use for ReEncrypt {
    type Facts = (Usable<Arc<Material>>, Usable<Arc<Material>>);
    type Answer = ReEncrypted;

    fn action(&self) -> Action {
        Action::ReEncryptFrom
    }

    fn check(&self, tools: &Tools) -> Result<(), Error> {
        if self.header.is_of(&tools.lineage) { Ok(()) } else { Err(Error::WrongLineage) }
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        let blob = |usage| Want { algorithm: Some(Algorithm::Blob), ..Want::new(usage) };
        let from = at.opens(self.header.key_id, self.header.version, &self.expected, blob(Usage::Decrypt))?;
        let to = at.acting(Action::ReEncryptTo).usable(&self.to, blob(Usage::Encrypt))?;
        Ok((from, to))
    }

    fn act(&self, (from, to): Self::Facts, tools: &Tools) -> Result<ReEncrypted, Error> {
        let material = from.material.symmetric().ok_or(NOT_FITTING)?;
        let context = ContextHash::of(&self.context);
        let plaintext = decrypt(material, &context, &self.ciphertext).map_err(|_| Error::Tampered)?;
        let ciphertext = blob(&to, self.header.kind, &self.to_context, &plaintext, tools)?;
        Ok(ReEncrypted { ciphertext, from: Used::of(&from), to: Used::of(&to) })
    }
}
