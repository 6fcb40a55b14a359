//! Keys from other keys: KBKDF (SP 800-108), PBKDF2 (RFC 8018), and what KMIP calls HMAC and HASH.

use std::num::NonZeroU32;

use aws_lc_rs::kdf::{KbkdfCtrHmacAlgorithmId, get_kbkdf_ctr_hmac_algorithm, kbkdf_ctr_hmac};
use aws_lc_rs::{hmac, pbkdf2};
use quorate_core::key_spec::{Algorithm, Digest};
use quorate_core::request::{InvalidRequest, Part};
use zeroize::Zeroizing;

use super::digest;
use super::error::{UseError, wrong};
use crate::secret::SecretBytes;

/// Longest derived key, in bytes.
pub const DERIVED_LEN_MAX: usize = 8 * 1024;
/// Most HMACs of one PBKDF2: about two seconds.
pub const PBKDF2_ROUNDS_MAX: u64 = 4_000_000;

/// How a key is derived, and from what besides the key.
#[derive(Clone, Copy, Debug)]
pub enum Derivation<'a> {
    /// Counter mode with HMAC, a 32-bit counter before `info` (SP 800-108r1 §4.1): any length.
    Kbkdf {
        /// HMAC's hash function: not SHA-1.
        digest: Digest,
        /// The fixed input: label, context, length, as both sides agreed.
        info: &'a [u8],
    },
    /// HMAC of `data` under the key: at most a digest's length.
    Hmac {
        /// HMAC's hash function.
        digest: Digest,
        /// What it is made of.
        data: &'a [u8],
    },
    /// The hash of the key: at most a digest's length.
    Hash {
        /// The hash function.
        digest: Digest,
    },
    /// The key is the password: any length.
    Pbkdf2 {
        /// HMAC's hash function: not SHA-224.
        digest: Digest,
        /// The salt.
        salt: &'a [u8],
        /// How often.
        iterations: u32,
    },
}

impl Derivation<'_> {
    /// Its name in `core`'s table.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Kbkdf { .. } => Algorithm::Kbkdf,
            Self::Hmac { .. } => Algorithm::DeriveHmac,
            Self::Hash { .. } => Algorithm::DeriveHash,
            Self::Pbkdf2 { .. } => Algorithm::Pbkdf2,
        }
    }
}

/// Derives `len` bytes from a secret.
///
/// # Errors
/// [`UseError::Invalid`]: more bytes than the method yields, or none; a hash function that it is not defined with here; iterations.
pub fn derive(secret: &[u8], by: &Derivation<'_>, len: usize) -> Result<SecretBytes, UseError> {
    if len == 0 {
        return Err(wrong(Part::Len, "a derived key has at least 1 byte"));
    }
    let max = match by {
        Derivation::Hmac { digest, .. } | Derivation::Hash { digest } => digest.output_len(),
        Derivation::Kbkdf { .. } | Derivation::Pbkdf2 { .. } => DERIVED_LEN_MAX,
    };
    if len > max {
        return Err(InvalidRequest::TooLarge { part: Part::Len, len, max }.into());
    }
    let mut out = Zeroizing::new(vec![0; len]);
    match *by {
        Derivation::Kbkdf { digest, info } => {
            let algorithm = get_kbkdf_ctr_hmac_algorithm(kbkdf(digest)?).ok_or(UseError::Failed)?;
            kbkdf_ctr_hmac(algorithm, secret, info, &mut out)?;
        }
        Derivation::Hmac { digest, data } => {
            let key = hmac::Key::new(digest::hmac(digest), secret);
            out.copy_from_slice(&hmac::sign(&key, data).as_ref()[..len]);
        }
        Derivation::Hash { digest } => {
            let whole = Zeroizing::new(digest::digest(digest, secret));
            out.copy_from_slice(&whole[..len]);
        }
        Derivation::Pbkdf2 { digest, salt, iterations } => {
            let algorithm = pbkdf(digest)?;
            let iterations = NonZeroU32::new(iterations)
                .filter(|times| u64::from(times.get()) * len.div_ceil(digest.output_len()) as u64 <= PBKDF2_ROUNDS_MAX);
            let iterations = iterations.ok_or_else(|| {
                let why = format!(
                    "say how many iterations: pbkdf2 takes at least 1, and at most {PBKDF2_ROUNDS_MAX} together for all blocks of a digest's length"
                );
                wrong(Part::Iterations, why)
            })?;
            pbkdf2::derive(algorithm, iterations, salt, secret, &mut out);
        }
    }
    Ok(out)
}

fn kbkdf(digest: Digest) -> Result<KbkdfCtrHmacAlgorithmId, UseError> {
    match digest {
        Digest::Sha1 => Err(wrong(Part::Algorithm, "kbkdf goes with sha224, sha256, sha384 and sha512, not with sha1")),
        Digest::Sha224 => Ok(KbkdfCtrHmacAlgorithmId::Sha224),
        Digest::Sha256 => Ok(KbkdfCtrHmacAlgorithmId::Sha256),
        Digest::Sha384 => Ok(KbkdfCtrHmacAlgorithmId::Sha384),
        Digest::Sha512 => Ok(KbkdfCtrHmacAlgorithmId::Sha512),
    }
}

fn pbkdf(digest: Digest) -> Result<pbkdf2::Algorithm, UseError> {
    match digest {
        Digest::Sha1 => Ok(pbkdf2::PBKDF2_HMAC_SHA1),
        Digest::Sha224 => {
            Err(wrong(Part::Algorithm, "pbkdf2 goes with sha1, sha256, sha384 and sha512, not with sha224"))
        }
        Digest::Sha256 => Ok(pbkdf2::PBKDF2_HMAC_SHA256),
        Digest::Sha384 => Ok(pbkdf2::PBKDF2_HMAC_SHA384),
        Digest::Sha512 => Ok(pbkdf2::PBKDF2_HMAC_SHA512),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_method_yields_more_than_it_has() {
        let (digest, part) = (Digest::Sha256, |by, len| match derive(&[7; 32], &by, len) {
            Err(UseError::Invalid(refused)) => Some(refused.part()),
            other => {
                assert_eq!(other.unwrap().len(), len);
                None
            }
        });
        for by in [Derivation::Hash { digest }, Derivation::Hmac { digest, data: b"x" }] {
            assert_eq!((part(by, 32), part(by, 33), part(by, 0)), (None, Some(Part::Len), Some(Part::Len)));
        }
        let pbkdf2 = Derivation::Pbkdf2 { digest, salt: b"salt", iterations: 1 };
        for by in [Derivation::Kbkdf { digest, info: b"x" }, pbkdf2] {
            assert_eq!((part(by, DERIVED_LEN_MAX), part(by, DERIVED_LEN_MAX + 1)), (None, Some(Part::Len)));
            assert_eq!(part(by, 0), Some(Part::Len));
        }
        for (iterations, len) in [(0, 1), (PBKDF2_ROUNDS_MAX as u32 + 1, 32), (PBKDF2_ROUNDS_MAX as u32 / 2 + 1, 33)] {
            assert_eq!(part(Derivation::Pbkdf2 { digest, salt: b"", iterations }, len), Some(Part::Iterations));
        }
        let digest = Digest::Sha224;
        assert_eq!(part(Derivation::Pbkdf2 { digest, salt: b"", iterations: 1 }, 1), Some(Part::Algorithm));
        assert_eq!(part(Derivation::Kbkdf { digest: Digest::Sha1, info: b"" }, 1), Some(Part::Algorithm));
    }

    #[test]
    fn a_shorter_key_is_the_beginning_of_a_longer_one() {
        let digest = Digest::Sha512;
        for by in [
            Derivation::Hash { digest },
            Derivation::Hmac { digest, data: b"x" },
            Derivation::Kbkdf { digest, info: b"x" },
            Derivation::Pbkdf2 { digest, salt: b"x", iterations: 2 },
        ] {
            let (long, short) = (derive(b"secret", &by, 64).unwrap(), derive(b"secret", &by, 9).unwrap());
            assert_eq!(long[..9], short[..]);
            assert_ne!(derive(b"Secret", &by, 64).unwrap(), long);
        }
    }
}
