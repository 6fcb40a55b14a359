//! Make a data key: random bytes for the caller to encrypt with, and the same bytes encrypted under a key.

use quorate_core::authorize::{UseKeys, authorize};
use quorate_core::id::{KeyId, KeyVersion};
use quorate_core::principal::Principal;
use quorate_core::request::KeyHandle;
use quorate_crypto::SecretBytes;
use quorate_crypto::material::{DATA_KEY_LEN_MAX, DataKeyLength, KeyRef, data_key};
use tokio::time::Instant;

use super::Kms;
use super::aad::AssociatedData;
use super::usage::to_protect;
use crate::error::Error;

pub use quorate_core::request::DATA_KEY_LEN_DEFAULT as LEN_DEFAULT;

/// A data key; the plaintext is wiped when dropped.
pub struct DataKey {
    /// The bytes, encrypted: keep these beside the data. `decrypt` gives the plaintext back.
    pub ciphertext: Vec<u8>,
    /// The bytes, unless the caller wanted none.
    pub plaintext: Option<SecretBytes>,
    /// The key that encrypted them.
    pub key: KeyId,
    /// Its version.
    pub version: KeyVersion,
}

impl Kms {
    /// Makes `len` random bytes (0 = [`LEN_DEFAULT`]) under the current version of `key`, bound to `aad`.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::InvalidArgument`]; the key is not found, disabled, or waits for its destruction.
    pub async fn generate_data_key(
        &self,
        caller: &Principal,
        key: &KeyHandle,
        len: u32,
        aad: &AssociatedData,
        with_plaintext: bool,
        deadline: Instant,
    ) -> Result<DataKey, Error> {
        authorize::<UseKeys>(caller)?;
        let len = if len == 0 { LEN_DEFAULT } else { len as usize };
        if len > DATA_KEY_LEN_MAX {
            return Err(Error::InvalidArgument(DataKeyLength(len).to_string()));
        }
        self.with_facts(
            deadline,
            |source| to_protect(source, key),
            |usable| {
                let key = KeyRef { lineage: self.lineage(), key_id: usable.id, version: usable.version };
                let (plaintext, ciphertext) =
                    data_key(&usable.material, key, &aad.0, len, &*self.records.world.entropy)
                        .map_err(|e| Error::InvalidArgument(e.to_string()))?;
                let plaintext = with_plaintext.then_some(plaintext);
                Ok(DataKey { ciphertext, plaintext, key: usable.id, version: usable.version })
            },
        )
        .await
    }
}
