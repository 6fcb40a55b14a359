//! Keys for HMAC (RFC 2104). A code is never truncated: one that is shorter does not verify.

use aws_lc_rs::hmac;
use quorate_core::key_spec::{Algorithm, KeySpec, Usage};
use zeroize::Zeroizing;

use super::digest;
use super::error::UseError;
use crate::secret::Secret;

/// Longest key, in bytes.
const LEN_MAX: usize = 128;

/// A key of 14 to 128 bytes.
pub(super) struct MacKey {
    spec: KeySpec,
    bytes: Secret<LEN_MAX>,
    len: usize,
}

impl MacKey {
    /// `None` = not of a length that such a key may have.
    pub(super) fn read(spec: KeySpec, bytes: &[u8]) -> Option<Self> {
        if !spec.material_lens()?.contains(&bytes.len()) {
            return None;
        }
        let mut padded = Zeroizing::new([0; LEN_MAX]);
        padded.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(Self { spec, bytes: Secret::copy_of(&padded), len: bytes.len() })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes.expose()[..self.len]
    }

    fn key(&self, algorithm: Algorithm) -> Result<hmac::Key, UseError> {
        let digest =
            algorithm.digest().filter(|_| self.spec.fits(Usage::Mac, algorithm)).ok_or(UseError::NotFitting)?;
        Ok(hmac::Key::new(digest::hmac(digest), self.bytes()))
    }

    pub(super) fn mac(&self, algorithm: Algorithm, message: &[u8]) -> Result<Vec<u8>, UseError> {
        Ok(hmac::sign(&self.key(algorithm)?, message).as_ref().to_vec())
    }

    /// In constant time.
    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], mac: &[u8]) -> Result<bool, UseError> {
        Ok(hmac::verify(&self.key(algorithm)?, message, mac).is_ok())
    }
}
