//! Make a data key, or a pair of them: for the caller to work with, and the same, encrypted under a key.

use std::sync::Arc;

use quorate_core::access::{Access, Usable, Want};
use quorate_core::action::Action;
use quorate_core::key_spec::{Algorithm, KeySpec, Kind, Usage};
#[cfg(doc)]
use quorate_core::request::DATA_KEY_LEN_MAX;
use quorate_core::request::{DATA_KEY_LEN_DEFAULT, EncryptionContext, InvalidRequest, KeyHandle, Part};
use quorate_crypto::SecretBytes;
use quorate_crypto::material::Material;
use quorate_crypto::material::symmetric::{BlobKind, DataKeyLength};

use super::Used;
use super::encrypt::blob;
use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// What data keys are encrypted with.
const BLOB: Want = Want { algorithm: Some(Algorithm::Blob), ..Want::new(Usage::Encrypt) };

/// Makes `len` random bytes (0 = [`DATA_KEY_LEN_DEFAULT`]) under the current version of `key`, bound to `context`.
///
/// Refused: another length than 1 to [`DATA_KEY_LEN_MAX`]; the key is not found, makes no blobs, or is in a state in which it
/// protects nothing.
pub struct GenerateDataKey {
    /// The key.
    pub key: KeyHandle,
    /// How many bytes.
    pub len: u32,
    /// What has to be said again to decrypt it.
    pub context: EncryptionContext,
    /// Whether the caller gets the bytes in clear, too.
    pub with_plaintext: bool,
}

/// A data key; the plaintext is wiped when dropped.
pub struct DataKey {
    /// The bytes, encrypted: keep these beside the data. Decrypting gives the plaintext back.
    pub ciphertext: Vec<u8>,
    /// The bytes, unless the caller wanted none.
    pub plaintext: Option<SecretBytes>,
    /// What encrypted them.
    pub used: Used,
}

impl GenerateDataKey {
    fn len(&self) -> usize {
        if self.len == 0 { DATA_KEY_LEN_DEFAULT } else { self.len as usize }
    }
}

impl Use for GenerateDataKey {
    type Facts = Usable<Arc<Material>>;
    type Answer = DataKey;

    fn action(&self) -> Action {
        if self.with_plaintext { Action::DataKey } else { Action::DataKeyWithoutPlaintext }
    }

    fn check(&self, _: &Tools) -> Result<(), Error> {
        DataKeyLength::check(self.len()).map_err(|e| InvalidRequest::wrong(Part::Len, e.to_string()).into())
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.usable(&self.key, BLOB)
    }

    fn act(&self, usable: Self::Facts, tools: &Tools) -> Result<DataKey, Error> {
        let mut plaintext = SecretBytes::new(vec![0; self.len()]);
        tools.entropy.fill(&mut plaintext);
        let ciphertext = blob(&usable, BlobKind::DataKey, &self.context, &plaintext, tools)?;
        let plaintext = self.with_plaintext.then_some(plaintext);
        Ok(DataKey { ciphertext, plaintext, used: Used::of(&usable) })
    }
}

/// Makes a pair of that kind, its private key encrypted under the current version of `key`, bound to `context`. Nothing of it is
/// kept here.
///
/// Refused: a kind that is no pair; the key is not found, makes no blobs, or is in a state in which it protects nothing.
pub struct GenerateDataKeyPair {
    /// The key.
    pub key: KeyHandle,
    /// The pair's kind.
    pub spec: KeySpec,
    /// What has to be said again to decrypt it.
    pub context: EncryptionContext,
    /// Whether the caller gets the private key in clear, too.
    pub with_plaintext: bool,
}

/// A data key pair; the private key is wiped when dropped.
pub struct DataKeyPair {
    /// The public key (SubjectPublicKeyInfo, DER).
    pub public: Vec<u8>,
    /// The private key (PKCS#8, DER), encrypted.
    pub ciphertext: Vec<u8>,
    /// The private key, unless the caller did not want it.
    pub plaintext: Option<SecretBytes>,
    /// What encrypted it.
    pub used: Used,
}

impl Use for GenerateDataKeyPair {
    type Facts = Usable<Arc<Material>>;
    type Answer = DataKeyPair;

    fn action(&self) -> Action {
        if self.with_plaintext { Action::DataKeyPair } else { Action::DataKeyPairWithoutPlaintext }
    }

    fn check(&self, _: &Tools) -> Result<(), Error> {
        if self.spec.kind() == Kind::Pair {
            return Ok(());
        }
        let why = format!("{} is no kind of key pair; take `data-key` for other keys", self.spec.as_str());
        Err(InvalidRequest::wrong(Part::Spec, why).into())
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.usable(&self.key, BLOB)
    }

    fn is_slow(&self, _: &Self::Facts) -> bool {
        self.spec.is_slow_to_make()
    }

    fn takes_seconds(&self, _: &Self::Facts) -> bool {
        self.spec.takes_seconds_to_make()
    }

    fn act(&self, usable: Self::Facts, tools: &Tools) -> Result<DataKeyPair, Error> {
        let made = Material::fresh(self.spec, &*tools.entropy);
        let ciphertext = blob(&usable, BlobKind::KeyPairPrivate, &self.context, &made.material, tools)?;
        let plaintext = self.with_plaintext.then_some(made.material);
        Ok(DataKeyPair { public: made.public.unwrap_or_default(), ciphertext, plaintext, used: Used::of(&usable) })
    }
}
