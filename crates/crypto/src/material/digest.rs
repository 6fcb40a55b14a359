//! Digests, without any key.

use aws_lc_rs::{digest as lc, hmac};
use quorate_core::key_spec::Digest;

/// The digest of `data`.
pub fn digest(by: Digest, data: &[u8]) -> Vec<u8> {
    lc::digest(algorithm(by), data).as_ref().to_vec()
}

pub(super) fn algorithm(by: Digest) -> &'static lc::Algorithm {
    match by {
        Digest::Sha1 => &lc::SHA1_FOR_LEGACY_USE_ONLY,
        Digest::Sha224 => &lc::SHA224,
        Digest::Sha256 => &lc::SHA256,
        Digest::Sha384 => &lc::SHA384,
        Digest::Sha512 => &lc::SHA512,
    }
}

/// HMAC with that hash function.
pub(super) fn hmac(by: Digest) -> hmac::Algorithm {
    match by {
        Digest::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        Digest::Sha224 => hmac::HMAC_SHA224,
        Digest::Sha256 => hmac::HMAC_SHA256,
        Digest::Sha384 => hmac::HMAC_SHA384,
        Digest::Sha512 => hmac::HMAC_SHA512,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-4, the examples for "abc": their first 4 bytes.
    #[test]
    fn digests_of_abc() {
        let expected = [0xa999_3e36_u32, 0x2309_7d22, 0xba78_16bf, 0xcb00_753f, 0xddaf_35a1];
        for (by, expected) in Digest::ALL.iter().zip(expected) {
            let made = digest(*by, b"abc");
            assert_eq!((made.len(), &made[..4]), (by.output_len(), &expected.to_be_bytes()[..]));
        }
    }
}
