//! What is done with keys and changes nothing, a file for each verb. Changes are `core::decide`'s.

mod agree;
mod backup;
mod data_key;
mod decrypt;
mod derive;
mod describe;
pub mod echo;
mod encrypt;
mod export;
mod import;
mod list_aliases;
mod list_objects;
mod mac;
mod many;
mod namespaces;
mod public_key;
mod random;
mod reencrypt;
mod rights;
mod secret;
mod sign;
mod wrap;

pub use self::agree::{Agree, Decapsulate, Encapsulate, Encapsulated, Shared};
pub use self::backup::{BackUp, BackedUp, RestoreKey};
pub(crate) use self::backup::{OpenBackup, Opened, ReadWhole};
pub use self::data_key::{DataKey, DataKeyPair, GenerateDataKey, GenerateDataKeyPair};
pub use self::decrypt::{Decrypt, Given, Plaintext};
pub use self::derive::{DeriveKey, Derived, MakeDigest};
pub use self::describe::{Describe, ListVersions, Versions};
pub use self::encrypt::{Binding, Ciphertext, Encrypt};
pub use self::export::{Export, Exported};
pub use self::import::{Import, ImportParameters, Parameters};
pub(crate) use self::import::{TakesMaterial, UnwrapMaterial};
pub use self::list_aliases::ListAliases;
pub use self::list_objects::ListObjects;
pub use self::mac::{Mac, MakeMac, VerifyMac};
pub use self::many::Many;
pub use self::namespaces::{DescribeNamespace, ListNamespaces};
pub use self::public_key::{GetPublicKey, PublicKey};
pub use self::random::GenerateRandom;
pub use self::reencrypt::{ReEncrypt, ReEncrypted};
pub use self::rights::{DescribeCredential, ListCredentials, ListPrincipals};
pub use self::secret::{DescribeSecret, ReadSecret, SecretValue};
pub use self::sign::{Input, Sign, Signature, Verified, Verify};
pub use self::wrap::{Unwrap, Unwrapped, Wrap, Wrapped};

use std::sync::Arc;

use quorate_core::access::{Usable, Want};
use quorate_core::id::{KeyId, KeyVersion};
use quorate_core::key_spec::{Algorithm, Usage};
use quorate_core::request::KeyHandle;
use quorate_crypto::material::{Material, UseError};

use crate::error::Error;

/// By what something is done.
pub struct By {
    /// The key.
    pub key: KeyHandle,
    /// Its version; none = the current one.
    pub version: Option<KeyVersion>,
    /// The algorithm; none = the key's default.
    pub algorithm: Option<Algorithm>,
}

impl By {
    /// By the current version of that key, in its default way.
    pub fn key(key: KeyHandle) -> Self {
        Self { key, version: None, algorithm: None }
    }

    fn want(&self, usage: Usage) -> Want {
        Want { usage, algorithm: self.algorithm, version: self.version }
    }
}

/// By what something was done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Used {
    /// The key.
    pub key: KeyId,
    /// Its version.
    pub version: KeyVersion,
    /// The algorithm.
    pub algorithm: Algorithm,
}

impl Used {
    fn of(usable: &Usable<Arc<Material>>) -> Self {
        Self { key: usable.key, version: usable.version.version, algorithm: usable.algorithm }
    }
}

/// A use that the work itself showed to be wrong.
fn failed(why: UseError) -> Error {
    match why {
        UseError::Invalid(invalid) => invalid.into(),
        UseError::Tampered => Error::Tampered,
        UseError::NotFitting => NOT_FITTING,
        UseError::Failed => Error::Internal("the cryptographic library failed"),
    }
}

/// What is used was said to fit; `core`'s table and `crypto`'s families disagree.
const NOT_FITTING: Error = Error::Internal("material is not of the kind that its key's record says");
