//! Decrypt what any version of a key encrypted; the ciphertext names its key.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::access::{Access, Usable, Want};
use quorate_core::action::Action;
use quorate_core::id::{KeyId, KeyVersion};
use quorate_core::key_spec::{Algorithm, Usage};
use quorate_core::request::{EXPECTED_KEYS_MAX, EncryptionContext, InvalidRequest, KeyHandle, PLAINTEXT_LEN_MAX, Part};
use quorate_crypto::SecretBytes;
use quorate_crypto::material::Material;
use quorate_crypto::material::symmetric::{BLOB_OVERHEAD, BlobHeader, BlobKind, ContextHash, decrypt};

use super::NOT_FITTING;
use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// Decrypts `ciphertext`, which was bound to `context`. With keys that are `expected`, it must be one of theirs.
///
/// Refused, before any cryptography: no ciphertext of ours, [`Error::WrongLineage`], a key that is wrong, unknown, or in the wrong
/// state; after it only [`Error::Tampered`].
pub struct Decrypt {
    header: BlobHeader,
    ciphertext: Bytes,
    context: EncryptionContext,
    expected: Vec<KeyHandle>,
}

/// A plaintext, wiped when dropped, and what had encrypted it.
pub struct Plaintext {
    /// The bytes.
    pub plaintext: SecretBytes,
    /// The key.
    pub key: KeyId,
    /// The version.
    pub version: KeyVersion,
}

impl Decrypt {
    /// Reads what the ciphertext says of itself.
    ///
    /// # Errors
    /// When it is too long, or none of ours.
    pub fn new(
        ciphertext: Bytes,
        context: EncryptionContext,
        expected: Vec<KeyHandle>,
    ) -> Result<Self, InvalidRequest> {
        const MAX: usize = PLAINTEXT_LEN_MAX + BLOB_OVERHEAD;
        let wrong = |why: String| InvalidRequest::wrong(Part::Ciphertext, why);
        if ciphertext.len() > MAX {
            return Err(InvalidRequest::TooLarge { part: Part::Ciphertext, len: ciphertext.len(), max: MAX });
        }
        let header = BlobHeader::parse(&ciphertext)
            .map_err(|e| wrong(format!("this is no ciphertext that quorate made ({e}); give the whole of one")))?;
        if expected.len() > EXPECTED_KEYS_MAX {
            let why = format!("at most {EXPECTED_KEYS_MAX} keys can be expected, not {}", expected.len());
            return Err(InvalidRequest::wrong(Part::Key, why));
        }
        Ok(Self { header, ciphertext, context, expected })
    }
}

impl Use for Decrypt {
    type Facts = Usable<Arc<Material>>;
    type Answer = Plaintext;

    fn action(&self) -> Action {
        Action::Decrypt
    }

    fn check(&self, tools: &Tools) -> Result<(), Error> {
        if !self.header.is_of(&tools.lineage) {
            return Err(Error::WrongLineage);
        }
        match self.header.kind {
            BlobKind::Direct | BlobKind::DataKey => Ok(()),
            BlobKind::KeyPairPrivate => Err(InvalidRequest::wrong(
                Part::Ciphertext,
                "this is the private half of a key pair, which this version of quorate does not decrypt",
            )
            .into()),
        }
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        let want = Want { algorithm: Some(Algorithm::Blob), ..Want::new(Usage::Decrypt) };
        at.opens(self.header.key_id, self.header.version, &self.expected, want)
    }

    fn act(&self, usable: Self::Facts, _: &Tools) -> Result<Plaintext, Error> {
        let material = usable.material.symmetric().ok_or(NOT_FITTING)?;
        let context = ContextHash::of(&self.context);
        let plaintext = decrypt(material, &context, &self.ciphertext).map_err(|_| Error::Tampered)?;
        Ok(Plaintext { plaintext, key: usable.key, version: usable.version.version })
    }
}
