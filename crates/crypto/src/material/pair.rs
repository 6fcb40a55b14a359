//! Key pairs of every family behind one type.

use quorate_core::key_spec::{Algorithm, KeySpec};
use quorate_core::request::{InvalidRequest, Part};
use quorate_core::seam::Entropy;

use super::error::{UseError, wrong};
use super::public::{self, PublicKey};
use super::{Encoded, SignInput, ec, ed25519, ml_dsa, ml_kem, rsa, x25519};
use crate::secret::SecretBytes;

/// A private key and its public key.
pub(super) struct Pair {
    private: Private,
    public: PublicKey,
}

enum Private {
    Rsa(rsa::PrivateKey),
    Ec(ec::PrivateKey),
    Ed25519(ed25519::PrivateKey),
    X25519(x25519::PrivateKey),
    MlDsa(ml_dsa::PrivateKey),
    MlKem(ml_kem::PrivateKey),
}

impl Pair {
    pub(super) fn fresh(spec: KeySpec, entropy: &dyn Entropy) -> Encoded {
        let pkcs8 = match spec {
            KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => rsa::PrivateKey::generate(spec),
            KeySpec::P256 | KeySpec::P384 | KeySpec::P521 | KeySpec::Secp256k1 => ec::PrivateKey::generate(spec),
            KeySpec::Ed25519 => ed25519::PrivateKey::generate(entropy),
            KeySpec::X25519 => x25519::PrivateKey::generate(entropy),
            KeySpec::MlDsa44 | KeySpec::MlDsa65 | KeySpec::MlDsa87 => ml_dsa::PrivateKey::generate(spec, entropy),
            _ => ml_kem::PrivateKey::generate(spec, entropy),
        };
        // Read back before anybody relies on it.
        Self::import(spec, &pkcs8).expect("what was just made is a valid key")
    }

    /// Reads PKCS#8 of exactly that kind, and writes it as records hold it.
    pub(super) fn import(spec: KeySpec, pkcs8: &[u8]) -> Result<Encoded, InvalidRequest> {
        let pair = Self::parse(spec, pkcs8)?;
        Ok(Encoded { material: pair.pkcs8(), public: Some(pair.public.spki().to_vec()) })
    }

    pub(super) fn pkcs8(&self) -> SecretBytes {
        match &self.private {
            Private::Rsa(key) => key.pkcs8(),
            Private::Ec(key) => key.pkcs8(),
            Private::Ed25519(key) => key.pkcs8(),
            Private::X25519(key) => key.pkcs8(),
            Private::MlDsa(key) => key.pkcs8(),
            Private::MlKem(key) => key.pkcs8(),
        }
    }

    pub(super) fn parse(spec: KeySpec, pkcs8: &[u8]) -> Result<Self, InvalidRequest> {
        let (private, spki) = match spec {
            KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
                let key = rsa::PrivateKey::parse(spec, pkcs8)?;
                let spki = key.spki();
                (Private::Rsa(key), spki)
            }
            KeySpec::P256 | KeySpec::P384 | KeySpec::P521 | KeySpec::Secp256k1 => {
                let key = ec::PrivateKey::parse(spec, pkcs8)?;
                let spki = key.spki();
                (Private::Ec(key), spki)
            }
            KeySpec::Ed25519 => {
                let key = ed25519::PrivateKey::parse(pkcs8)?;
                let spki = key.spki();
                (Private::Ed25519(key), spki)
            }
            KeySpec::X25519 => {
                let key = x25519::PrivateKey::parse(pkcs8)?;
                let spki = key.spki();
                (Private::X25519(key), spki)
            }
            KeySpec::MlDsa44 | KeySpec::MlDsa65 | KeySpec::MlDsa87 => {
                let key = ml_dsa::PrivateKey::parse(spec, pkcs8)?;
                let spki = key.spki();
                (Private::MlDsa(key), spki)
            }
            _ => {
                let key = ml_kem::PrivateKey::parse(spec, pkcs8)?;
                let spki = key.spki();
                (Private::MlKem(key), spki)
            }
        };
        Ok(Self { private, public: PublicKey::parse(&spki)? })
    }

    pub(super) fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(super) fn size(&self) -> usize {
        size_of::<Self>()
            + self.public.spki().len()
            + match &self.private {
                Private::Rsa(key) => key.size(),
                Private::MlDsa(key) => key.size(),
                Private::MlKem(key) => key.size(),
                Private::Ec(_) | Private::Ed25519(_) | Private::X25519(_) => 2048,
            }
    }

    pub(super) fn sign(&self, by: Algorithm, input: SignInput<'_>, context: &[u8]) -> Result<Vec<u8>, UseError> {
        match &self.private {
            Private::Rsa(key) => key.sign(by, input, context),
            Private::Ec(key) => key.sign(by, input, context),
            Private::Ed25519(key) => key.sign(by, input, context),
            Private::MlDsa(key) => key.sign(by, input, context),
            Private::X25519(_) | Private::MlKem(_) => Err(UseError::NotFitting),
        }
    }

    pub(super) fn decrypt(&self, by: Algorithm, ciphertext: &[u8]) -> Result<SecretBytes, UseError> {
        match &self.private {
            Private::Rsa(key) => key.decrypt(by, ciphertext),
            _ => Err(UseError::NotFitting),
        }
    }

    pub(super) fn unwrap(&self, by: Algorithm, wrapped: &[u8]) -> Result<SecretBytes, UseError> {
        match &self.private {
            Private::Rsa(key) => key.unwrap(by, wrapped),
            _ => Err(UseError::NotFitting),
        }
    }

    pub(super) fn agree(&self, peer: &PublicKey) -> Result<SecretBytes, UseError> {
        let own = self.public.spec();
        match (&self.private, peer.key()) {
            (Private::Ec(key), public::Key::Ec(other)) if own == peer.spec() => key.agree(other),
            (Private::X25519(key), public::Key::X25519(other)) => key.agree(other),
            (Private::Ec(_) | Private::X25519(_), _) => {
                let why =
                    format!("the public key is of kind {}, the key of kind {}", peer.spec().as_str(), own.as_str());
                Err(wrong(Part::PublicKey, why))
            }
            _ => Err(UseError::NotFitting),
        }
    }

    pub(super) fn decapsulate(&self, ciphertext: &[u8]) -> Result<SecretBytes, UseError> {
        match &self.private {
            Private::MlKem(key) => key.decapsulate(ciphertext),
            _ => Err(UseError::NotFitting),
        }
    }
}
