//! Make a data key: random bytes for the caller to encrypt with, and the same bytes encrypted under a key.

use std::sync::Arc;

use quorate_core::access::{Access, Usable, Want};
use quorate_core::action::Action;
use quorate_core::id::{KeyId, KeyVersion};
use quorate_core::key_spec::{Algorithm, Usage};
#[cfg(doc)]
use quorate_core::request::DATA_KEY_LEN_MAX;
use quorate_core::request::{DATA_KEY_LEN_DEFAULT, EncryptionContext, InvalidRequest, KeyHandle, Part};
use quorate_crypto::SecretBytes;
use quorate_crypto::material::Material;
use quorate_crypto::material::symmetric::{ContextHash, DataKeyLength, KeyRef, data_key};

use super::NOT_FITTING;
use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// Makes `len` random bytes (0 = [`DATA_KEY_LEN_DEFAULT`]) under the current version of `key`, bound to `context`.
///
/// Refused: another length than 1 to [`DATA_KEY_LEN_MAX`]; the key is not found, disabled, or waits for
/// its destruction.
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
    /// The key that encrypted them.
    pub key: KeyId,
    /// Its version.
    pub version: KeyVersion,
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
        DataKeyLength::check(self.len()).map_err(too_long)
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.usable(&self.key, Want { algorithm: Some(Algorithm::Blob), ..Want::new(Usage::Encrypt) })
    }

    fn act(&self, usable: Self::Facts, tools: &Tools) -> Result<DataKey, Error> {
        let material = usable.material.symmetric().ok_or(NOT_FITTING)?;
        let (key_id, version) = (usable.key, usable.version.version);
        let key = KeyRef { lineage: tools.lineage, key_id, version };
        let (plaintext, ciphertext) =
            data_key(material, key, &ContextHash::of(&self.context), self.len(), &*tools.entropy).map_err(too_long)?;
        let plaintext = self.with_plaintext.then_some(plaintext);
        Ok(DataKey { ciphertext, plaintext, key: key_id, version })
    }
}

fn too_long(e: DataKeyLength) -> Error {
    InvalidRequest::wrong(Part::Len, e.to_string()).into()
}
