//! Encrypt a few kilobytes directly under a key. Longer data goes under a data key.

use quorate_core::authorize::{UseKeys, authorize};
use quorate_core::id::{KeyId, KeyVersion};
use quorate_core::principal::Principal;
use quorate_core::request::KeyHandle;
use quorate_crypto::material::{BlobKind, KeyRef, encrypt};
use tokio::time::Instant;

use super::Kms;
use super::aad::AssociatedData;
use super::usage::to_protect;
use crate::error::Error;

pub use quorate_core::request::PLAINTEXT_LEN_MAX;

/// A ciphertext and what made it.
pub struct Ciphertext {
    /// The blob of key-hierarchy §3: it names its key.
    pub ciphertext: Vec<u8>,
    /// The key.
    pub key: KeyId,
    /// The version that was current.
    pub version: KeyVersion,
}

impl Kms {
    /// Encrypts `plaintext` under the current version of `key`, bound to `aad`.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::TooLarge`]; the key is not found, disabled, or waits for its destruction.
    pub async fn encrypt(
        &self,
        caller: &Principal,
        key: &KeyHandle,
        plaintext: &[u8],
        aad: &AssociatedData,
        deadline: Instant,
    ) -> Result<Ciphertext, Error> {
        authorize::<UseKeys>(caller)?;
        if plaintext.len() > PLAINTEXT_LEN_MAX {
            return Err(Error::TooLarge {
                what: "the plaintext",
                len: plaintext.len(),
                max: PLAINTEXT_LEN_MAX,
                hint: "; encrypt larger data under a data key, as `quorate file encrypt` does",
            });
        }
        self.with_facts(
            deadline,
            |source| to_protect(source, key),
            |usable| {
                let key = KeyRef { lineage: self.lineage(), key_id: usable.id, version: usable.version };
                let ciphertext =
                    encrypt(&usable.material, key, BlobKind::Direct, &aad.0, plaintext, &*self.records.world.entropy);
                Ok(Ciphertext { ciphertext, key: usable.id, version: usable.version })
            },
        )
        .await
    }
}
