//! Decrypt what any version of a key encrypted; the ciphertext names its key.

use quorate_core::authorize::{UseKeys, authorize};
use quorate_core::decide::refusal;
use quorate_core::id::{KeyId, KeyVersion};
use quorate_core::principal::Principal;
use quorate_core::request::KeyHandle;
use quorate_crypto::SecretBytes;
use quorate_crypto::material::{BLOB_OVERHEAD, BlobHeader, BlobKind, decrypt};
use tokio::time::Instant;

use super::Kms;
use super::aad::AssociatedData;
use super::encrypt::PLAINTEXT_LEN_MAX;
use super::usage::{Gap, Source, Usable, key_id, key_record, material};
use crate::error::Error;

/// A plaintext, wiped when dropped, and what had encrypted it.
pub struct Plaintext {
    /// The bytes.
    pub plaintext: SecretBytes,
    /// The key.
    pub key: KeyId,
    /// The version.
    pub version: KeyVersion,
}

impl Kms {
    /// Decrypts `ciphertext`, which was bound to `aad`. With `key`, it must be that key's.
    ///
    /// # Errors
    /// [`Error::Denied`]; before any cryptography: no ciphertext of ours ([`Error::InvalidArgument`],
    /// [`Error::TooLarge`]), [`Error::WrongLineage`], [`Error::WrongKey`], [`Error::UnknownKey`],
    /// [`Error::UnknownVersion`], a key in the wrong state; after it only [`Error::Tampered`].
    pub async fn decrypt(
        &self,
        caller: &Principal,
        ciphertext: &[u8],
        aad: &AssociatedData,
        key: Option<&KeyHandle>,
        deadline: Instant,
    ) -> Result<Plaintext, Error> {
        authorize::<UseKeys>(caller)?;
        let header = self.header(ciphertext)?;
        self.with_facts(
            deadline,
            |source| to_process(source, &header, key),
            |usable| {
                let plaintext = decrypt(&usable.material, &aad.0, ciphertext).map_err(|_| Error::Tampered)?;
                Ok(Plaintext { plaintext, key: usable.id, version: usable.version })
            },
        )
        .await
    }

    /// What the ciphertext says of itself, as far as that needs no state.
    fn header(&self, ciphertext: &[u8]) -> Result<BlobHeader, Error> {
        let max = PLAINTEXT_LEN_MAX + BLOB_OVERHEAD;
        if ciphertext.len() > max {
            return Err(Error::TooLarge { what: "the ciphertext", len: ciphertext.len(), max, hint: "" });
        }
        let header = BlobHeader::parse(ciphertext).map_err(|e| {
            Error::InvalidArgument(format!("this is no ciphertext that quorate made ({e}); give the whole of one"))
        })?;
        if !header.is_of(&self.lineage()) {
            return Err(Error::WrongLineage);
        }
        match header.kind {
            BlobKind::Direct | BlobKind::DataKey => Ok(header),
            BlobKind::KeyPairPrivate => Err(Error::InvalidArgument(
                "this is the private half of a key pair, which this version of quorate does not decrypt".into(),
            )),
        }
    }
}

/// The version that the ciphertext names, to process with.
fn to_process(source: &mut dyn Source, header: &BlobHeader, named: Option<&KeyHandle>) -> Result<Usable, Gap> {
    let id = header.key_id;
    if let Some(handle) = named {
        let named = key_id(source, handle)?;
        if named != id {
            return Err(Error::WrongKey { named, actual: id }.into());
        }
    }
    let key = key_record(source, id)?.ok_or(Error::UnknownKey(id))?;
    let known = key.process(header.version).map_err(|why| refusal(id, why))?;
    known.ok_or(Error::UnknownVersion(id, header.version))?;
    Ok(Usable { id, version: header.version, material: material(source, id, header.version)? })
}
