//! ML-KEM (FIPS 203). Keys are kept as their seed, and expanded when they are read.

use aws_lc_rs::kem::{self, Ciphertext, DecapsulationKey, EncapsulationKey};
use quorate_core::key_spec::KeySpec;
use quorate_core::request::{InvalidRequest, Part};
use quorate_core::seam::Entropy;
use zeroize::Zeroizing;

use super::error::{UseError, wrong};
use super::{encode, lc, seed};
use crate::secret::{Secret, SecretBytes, ct_eq};

fn algorithm(spec: KeySpec) -> &'static kem::Algorithm {
    match spec {
        KeySpec::MlKem512 => &kem::ML_KEM_512,
        KeySpec::MlKem768 => &kem::ML_KEM_768,
        _ => &kem::ML_KEM_1024,
    }
}

/// Length of a ciphertext, in bytes (FIPS 203, table 3).
fn ciphertext_len(spec: KeySpec) -> usize {
    match spec {
        KeySpec::MlKem512 => 768,
        KeySpec::MlKem768 => 1088,
        _ => 1568,
    }
}

pub(super) struct PrivateKey {
    spec: KeySpec,
    /// d ‖ z.
    seed: Secret<64>,
    key: DecapsulationKey,
    public: Vec<u8>,
}

impl PrivateKey {
    pub(super) fn generate(spec: KeySpec, entropy: &dyn Entropy) -> SecretBytes {
        seed::encode(spec, Secret::<64>::generate(entropy).expose())
    }

    pub(super) fn parse(spec: KeySpec, pkcs8: &[u8]) -> Result<Self, InvalidRequest> {
        let (seed, expanded) = seed::read::<64>(spec, pkcs8)?;
        let (public, own) = lc::ml_kem_expand(&seed::encode(spec, seed.expose())).expect("every 64 bytes are a seed");
        if expanded.is_some_and(|given| !ct_eq(given, &own)) {
            return Err(seed::differs());
        }
        let key = DecapsulationKey::new(algorithm(spec), &own).expect("the library reads what it wrote");
        Ok(Self { spec, seed, key, public })
    }

    pub(super) fn pkcs8(&self) -> SecretBytes {
        seed::encode(self.spec, self.seed.expose())
    }

    pub(super) fn spki(&self) -> Vec<u8> {
        encode::spki(self.spec, &self.public)
    }

    /// The secret in a ciphertext. One that was changed gives another secret, not an error (FIPS 203 §6.3).
    pub(super) fn decapsulate(&self, ciphertext: &[u8]) -> Result<SecretBytes, UseError> {
        let (len, expected) = (ciphertext.len(), ciphertext_len(self.spec));
        if len != expected {
            let why = format!("a ciphertext of {} has {expected} bytes, not {len}", self.spec.as_str());
            return Err(wrong(Part::Ciphertext, why));
        }
        let secret = self.key.decapsulate(Ciphertext::from(ciphertext))?;
        Ok(Zeroizing::new(secret.as_ref().to_vec()))
    }

    /// Bytes that it takes in memory, about.
    pub(super) fn size(&self) -> usize {
        1024 + 4 * self.public.len()
    }
}

pub(super) struct PublicKey(EncapsulationKey);

impl PublicKey {
    pub(super) fn parse(spec: KeySpec, key: &[u8]) -> Result<Self, InvalidRequest> {
        let wrong = || InvalidRequest::wrong(Part::PublicKey, format!("this is no public key of {}", spec.as_str()));
        let key = EncapsulationKey::new(algorithm(spec), key).map_err(|_| wrong())?;
        // The library looks at the numbers (FIPS 203 §7.2) when it encapsulates, not when it reads.
        key.encapsulate().map_err(|_| wrong())?;
        Ok(Self(key))
    }

    /// A ciphertext and the secret in it.
    pub(super) fn encapsulate(&self) -> Result<(Vec<u8>, SecretBytes), UseError> {
        let (ciphertext, secret) = self.0.encapsulate()?;
        Ok((ciphertext.as_ref().to_vec(), Zeroizing::new(secret.as_ref().to_vec())))
    }
}
