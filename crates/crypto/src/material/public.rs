//! Public keys: those of pairs, and those that others bring along.

use quorate_core::decide::PublicPart;
use quorate_core::key_spec::{Algorithm, KeySpec};
use quorate_core::request::{InvalidRequest, Part};
use quorate_core::seam::Entropy;

use super::error::UseError;
use super::{SignInput, ec, ed25519, encode, ml_dsa, ml_kem, rsa, x25519};
use crate::secret::SecretBytes;

/// A public key, read and checked once.
pub struct PublicKey {
    spec: KeySpec,
    spki: Vec<u8>,
    key: Key,
}

pub(super) enum Key {
    Rsa(rsa::PublicKey),
    Ec(ec::PublicKey),
    Ed25519(ed25519::PublicKey),
    X25519(x25519::PublicKey),
    MlDsa(ml_dsa::PublicKey),
    MlKem(ml_kem::PublicKey),
}

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo in canonical DER.
    ///
    /// # Errors
    /// When it is none, of a kind that is not known here, or holds no valid key: a point that is not on its curve, a modulus of
    /// another length.
    pub fn parse(spki: &[u8]) -> Result<Self, InvalidRequest> {
        let (mut spec, bytes) = encode::read_spki(spki)?;
        let mut canonical = spki.to_vec();
        let key = match spec {
            KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
                let (key, of) = rsa::PublicKey::parse(spki, bytes)?;
                spec = of;
                Key::Rsa(key)
            }
            KeySpec::P256 | KeySpec::P384 | KeySpec::P521 | KeySpec::Secp256k1 => {
                let key = ec::PublicKey::parse(spec, spki, bytes)?;
                canonical = key.spki().to_vec();
                Key::Ec(key)
            }
            KeySpec::Ed25519 => Key::Ed25519(ed25519::PublicKey::parse(bytes)?),
            KeySpec::X25519 => Key::X25519(x25519::PublicKey::parse(bytes)?),
            KeySpec::MlDsa44 | KeySpec::MlDsa65 | KeySpec::MlDsa87 => {
                Key::MlDsa(ml_dsa::PublicKey::parse(spec, bytes)?)
            }
            KeySpec::MlKem512 | KeySpec::MlKem768 | KeySpec::MlKem1024 => {
                Key::MlKem(ml_kem::PublicKey::parse(spec, bytes)?)
            }
            KeySpec::Aes128
            | KeySpec::Aes192
            | KeySpec::Aes256
            | KeySpec::HmacSha1
            | KeySpec::HmacSha224
            | KeySpec::HmacSha256
            | KeySpec::HmacSha384
            | KeySpec::HmacSha512
            | KeySpec::Secret => unreachable!("no algorithm identifier names a secret key"),
        };
        Ok(Self { spec, spki: canonical, key })
    }

    /// Reads a SubjectPublicKeyInfo, in DER or as PEM (BEGIN PUBLIC KEY).
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn read(given: &[u8]) -> Result<Self, InvalidRequest> {
        if encode::is_private_key(given) {
            return Self::parse(given);
        }
        Self::parse(&encode::public_der(given)?)
    }

    /// What a decision needs of it.
    pub fn part(&self) -> PublicPart {
        PublicPart { spec: self.spec, spki: self.spki.clone() }
    }

    /// Its kind.
    pub fn spec(&self) -> KeySpec {
        self.spec
    }
    /// As SubjectPublicKeyInfo, DER.
    pub fn spki(&self) -> &[u8] {
        &self.spki
    }
    /// As PEM.
    pub fn pem(&self) -> String {
        encode::public_pem(&self.spki)
    }
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Whether that is the signature of the input, under that context; signatures of curves in DER.
    ///
    /// # Errors
    /// [`UseError::Invalid`]: the digest's length, or the context; [`UseError::NotFitting`].
    pub fn verify(
        &self,
        by: Algorithm,
        input: SignInput<'_>,
        signature: &[u8],
        context: &[u8],
    ) -> Result<bool, UseError> {
        match &self.key {
            Key::Rsa(key) => key.verify(by, input, signature, context),
            Key::Ec(key) => key.verify(by, input, signature, context),
            Key::Ed25519(key) => key.verify(by, input, signature, context),
            Key::MlDsa(key) => key.verify(by, input, signature, context),
            Key::X25519(_) | Key::MlKem(_) => Err(UseError::NotFitting),
        }
    }

    /// Encrypts to the private key's owner.
    ///
    /// # Errors
    /// [`UseError::Invalid`]: too much plaintext; [`UseError::NotFitting`], [`UseError::Failed`].
    pub fn encrypt(&self, by: Algorithm, plaintext: &[u8]) -> Result<Vec<u8>, UseError> {
        match &self.key {
            Key::Rsa(key) => key.encrypt(by, Part::Plaintext, plaintext),
            _ => Err(UseError::NotFitting),
        }
    }

    /// Wraps another key's bytes for the private key's owner.
    ///
    /// # Errors
    /// [`UseError::Invalid`]: too long to be wrapped so; [`UseError::NotFitting`], [`UseError::Failed`].
    pub fn wrap(&self, by: Algorithm, key: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, UseError> {
        match &self.key {
            Key::Rsa(to) => to.wrap(by, key, entropy),
            _ => Err(UseError::NotFitting),
        }
    }

    /// A ciphertext for the private key's owner, and the 32 secret bytes that he finds in it.
    ///
    /// # Errors
    /// [`UseError::NotFitting`], [`UseError::Failed`].
    pub fn encapsulate(&self) -> Result<(Vec<u8>, SecretBytes), UseError> {
        match &self.key {
            Key::MlKem(key) => key.encapsulate(),
            _ => Err(UseError::NotFitting),
        }
    }
}
