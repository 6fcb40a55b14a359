//! The hybrid key pair X25519 + ML-KEM-768, `q_alg` 1: the quorum's (PK_Q) and the audit trail's (PK_aud).
//!
//! ```text
//! public     = q_alg u8 ‖ X25519 32 ‖ ML-KEM-768 1184           1217 B
//! secret     = q_alg u8 ‖ X25519 32 ‖ ML-KEM-768 2400           2433 B (FIPS 203 decapsulation key, expanded)
//! ciphertext = ephemeral X25519 32 ‖ ML-KEM-768 1088            1120 B
//! ```
//!
//! Both shared secrets are returned apart; whoever uses them puts both into one KDF with hashes of the public key and
//! the ciphertext (key-hierarchy §4.1), so that either half alone is worth nothing.

use std::fmt;

use aws_lc_rs::agreement::{self, PrivateKey, UnparsedPublicKey, X25519};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use quorate_core::codec::Reader;
use quorate_core::seam::Entropy;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::kdf::sha256;
use crate::secret::{Secret, SecretBytes};

/// `q_alg` of X25519 + ML-KEM-768.
pub(crate) const Q_ALG_X25519_MLKEM768: u8 = 1;
/// Length of a hybrid ciphertext, in bytes.
pub(crate) const CIPHERTEXT_LEN: usize = 32 + MLKEM_CIPHERTEXT_LEN;

const MLKEM_PUBLIC_LEN: usize = 1184;
const MLKEM_SECRET_LEN: usize = 2400;
const MLKEM_CIPHERTEXT_LEN: usize = 1088;
/// Where FIPS 203 keeps the encapsulation key inside the decapsulation key.
const MLKEM_PUBLIC_AT: usize = 1152;

/// Private key of the quorum, SK_Q: exists only inside box_Q and, opened, in a ceremony.
pub type QuorumSecretKey = HybridSecretKey;
/// Private key that opens audit segments, SK_aud: kept as a record.
pub type AuditSecretKey = HybridSecretKey;

/// A hybrid key or ciphertext that cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum HybridKeyError {
    /// Wrong length, or a `q_alg` this build does not know.
    #[error("not an X25519 + ML-KEM-768 key: it was damaged, or written by a newer version")]
    Malformed,
    /// The cryptographic library refused the key or the ciphertext.
    #[error("the X25519 + ML-KEM-768 key or ciphertext is not valid: it was damaged or forged")]
    Invalid,
}

/// The public half.
#[derive(Clone, PartialEq, Eq)]
pub struct HybridPublicKey {
    x25519: [u8; 32],
    mlkem: Vec<u8>,
}

impl HybridPublicKey {
    /// Encoded length, in bytes.
    pub const LEN: usize = 1 + 32 + MLKEM_PUBLIC_LEN;

    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        [&[Q_ALG_X25519_MLKEM768], &self.x25519[..], &self.mlkem].concat()
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`HybridKeyError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, HybridKeyError> {
        let (&alg, rest) = bytes.split_first().ok_or(HybridKeyError::Malformed)?;
        if alg != Q_ALG_X25519_MLKEM768 || bytes.len() != Self::LEN {
            return Err(HybridKeyError::Malformed);
        }
        let (x25519, mlkem) = rest.split_at(32);
        Ok(Self { x25519: x25519.try_into().map_err(|_| HybridKeyError::Malformed)?, mlkem: mlkem.to_vec() })
    }

    /// SHA-256 of the canonical bytes: what envelopes are bound to.
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&self.encode())
    }

    /// A ciphertext and both shared secrets.
    pub(crate) fn encapsulate(&self, entropy: &dyn Entropy) -> Result<Encapsulated, HybridKeyError> {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed);
        let key = EncapsulationKey::new(&ML_KEM_768, &self.mlkem).map_err(|_| HybridKeyError::Invalid)?;
        let (mlkem_ct, mlkem_ss) = key.encapsulate().map_err(|_| HybridKeyError::Invalid)?;
        let (ephemeral, x25519_ss) = x25519_ephemeral(&seed, &self.x25519)?;
        Ok(Encapsulated {
            ciphertext: [&ephemeral, mlkem_ct.as_ref()].concat(),
            x25519: x25519_ss,
            mlkem: Secret::from_slice(mlkem_ss.as_ref()).ok_or(HybridKeyError::Invalid)?,
        })
    }
}

impl fmt::Debug for HybridPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "x25519+ml-kem-768/{:08x}", u32::from_be_bytes(self.x25519[..4].try_into().expect("4 bytes")))
    }
}

/// What encapsulation to a [`HybridPublicKey`] gives.
pub(crate) struct Encapsulated {
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) x25519: Secret<32>,
    pub(crate) mlkem: Secret<32>,
}

/// The private half. Wiped when dropped.
pub struct HybridSecretKey {
    x25519: Secret<32>,
    mlkem: SecretBytes,
}

impl HybridSecretKey {
    /// Encoded length, in bytes.
    pub const LEN: usize = 1 + 32 + MLKEM_SECRET_LEN;

    /// A new key pair whose X25519 half comes from `x25519_seed` (mixed by the caller from several sources) and whose
    /// ML-KEM half comes from aws-lc's generator.
    pub(crate) fn generate(x25519_seed: Secret<32>) -> Result<Self, HybridKeyError> {
        let key = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| HybridKeyError::Invalid)?;
        let bytes = key.key_bytes().map_err(|_| HybridKeyError::Invalid)?;
        Ok(Self { x25519: x25519_seed, mlkem: Zeroizing::new(bytes.as_ref().to_vec()) })
    }

    /// The canonical bytes.
    pub fn encode(&self) -> SecretBytes {
        let mut out = Zeroizing::new(Vec::with_capacity(Self::LEN));
        out.push(Q_ALG_X25519_MLKEM768);
        out.extend_from_slice(self.x25519.expose());
        out.extend_from_slice(&self.mlkem);
        out
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// [`HybridKeyError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, HybridKeyError> {
        let mut r = Reader::new("hybrid secret key", bytes);
        let mut read = || {
            if bytes.len() != Self::LEN || r.u8().ok()? != Q_ALG_X25519_MLKEM768 {
                return None;
            }
            let x25519 = Secret::from_slice(r.raw(32).ok()?)?;
            Some(Self { x25519, mlkem: Zeroizing::new(r.raw(MLKEM_SECRET_LEN).ok()?.to_vec()) })
        };
        read().ok_or(HybridKeyError::Malformed)
    }

    /// The public half.
    ///
    /// # Errors
    /// [`HybridKeyError::Invalid`] when the library refuses the key.
    pub fn public_key(&self) -> Result<HybridPublicKey, HybridKeyError> {
        let key = PrivateKey::from_private_key(&X25519, self.x25519.expose()).map_err(|_| HybridKeyError::Invalid)?;
        let public = key.compute_public_key().map_err(|_| HybridKeyError::Invalid)?;
        Ok(HybridPublicKey {
            x25519: public.as_ref().try_into().map_err(|_| HybridKeyError::Invalid)?,
            mlkem: self.mlkem[MLKEM_PUBLIC_AT..MLKEM_PUBLIC_AT + MLKEM_PUBLIC_LEN].to_vec(),
        })
    }

    /// Both shared secrets of a ciphertext: X25519's, then ML-KEM's.
    pub(crate) fn decapsulate(&self, ciphertext: &[u8]) -> Result<(Secret<32>, Secret<32>), HybridKeyError> {
        if ciphertext.len() != CIPHERTEXT_LEN {
            return Err(HybridKeyError::Malformed);
        }
        let (ephemeral, mlkem_ct) = ciphertext.split_at(32);
        let key = PrivateKey::from_private_key(&X25519, self.x25519.expose()).map_err(|_| HybridKeyError::Invalid)?;
        let x25519 = x25519_agree(&key, ephemeral)?;
        let key = DecapsulationKey::new(&ML_KEM_768, &self.mlkem).map_err(|_| HybridKeyError::Invalid)?;
        let mlkem = key.decapsulate(Ciphertext::from(mlkem_ct)).map_err(|_| HybridKeyError::Invalid)?;
        Ok((x25519, Secret::from_slice(mlkem.as_ref()).ok_or(HybridKeyError::Invalid)?))
    }
}

/// An ephemeral public key made from `seed`, and its shared secret with `peer`.
pub(crate) fn x25519_ephemeral(seed: &[u8; 32], peer: &[u8; 32]) -> Result<([u8; 32], Secret<32>), HybridKeyError> {
    let key = PrivateKey::from_private_key(&X25519, seed).map_err(|_| HybridKeyError::Invalid)?;
    let public = key.compute_public_key().map_err(|_| HybridKeyError::Invalid)?;
    let public = public.as_ref().try_into().map_err(|_| HybridKeyError::Invalid)?;
    Ok((public, x25519_agree(&key, peer)?))
}

/// The raw shared secret; a peer point of small order is refused by the library.
fn x25519_agree(key: &PrivateKey, peer: &[u8]) -> Result<Secret<32>, HybridKeyError> {
    agreement::agree(key, UnparsedPublicKey::new(&X25519, peer), HybridKeyError::Invalid, |ss| {
        Secret::from_slice(ss).ok_or(HybridKeyError::Invalid)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestEntropy;

    fn pair() -> (HybridSecretKey, HybridPublicKey) {
        let secret = HybridSecretKey::generate(Secret::from_array([7; 32])).unwrap();
        let public = secret.public_key().unwrap();
        (secret, public)
    }

    #[test]
    fn both_sides_agree_and_survive_encoding() {
        let (secret, public) = pair();
        let public = HybridPublicKey::decode(&public.encode()).unwrap();
        let secret = HybridSecretKey::decode(&secret.encode()).unwrap();
        assert_eq!(secret.public_key().unwrap(), public);
        let sent = public.encapsulate(&TestEntropy::new(1)).unwrap();
        assert_eq!(sent.ciphertext.len(), CIPHERTEXT_LEN);
        let (x25519, mlkem) = secret.decapsulate(&sent.ciphertext).unwrap();
        assert!(x25519.ct_eq(&sent.x25519) && mlkem.ct_eq(&sent.mlkem));
    }

    #[test]
    fn a_changed_ciphertext_gives_other_secrets() {
        let (secret, public) = pair();
        let sent = public.encapsulate(&TestEntropy::new(1)).unwrap();
        for i in [0, 31, 32, CIPHERTEXT_LEN - 1] {
            let mut bad = sent.ciphertext.clone();
            bad[i] ^= 1;
            let (x25519, mlkem) = secret.decapsulate(&bad).unwrap();
            assert!(!(x25519.ct_eq(&sent.x25519) && mlkem.ct_eq(&sent.mlkem)), "byte {i}");
        }
    }

    #[test]
    fn malformed_keys_and_small_order_points_are_refused() {
        let (secret, public) = pair();
        for bytes in [&public.encode()[1..], &[&[2], &public.encode()[1..]].concat(), &[]] {
            assert_eq!(HybridPublicKey::decode(bytes), Err(HybridKeyError::Malformed));
        }
        assert!(HybridSecretKey::decode(&secret.encode()[1..]).is_err());
        assert!(secret.decapsulate(&[0; CIPHERTEXT_LEN]).is_err(), "the point 0 has small order");
        assert!(secret.decapsulate(&[1; CIPHERTEXT_LEN - 1]).is_err());
        let mut small = public.clone();
        small.x25519 = [0; 32];
        assert!(small.encapsulate(&TestEntropy::new(1)).is_err());
        let mut unreduced = public;
        unreduced.mlkem = vec![0xff; MLKEM_PUBLIC_LEN];
        assert!(unreduced.encapsulate(&TestEntropy::new(1)).is_err(), "coefficients above the modulus");
    }
}
