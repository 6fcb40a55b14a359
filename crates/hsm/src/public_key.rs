//! Public keys and signatures in the encodings the rest of the world reads. Every encoding is done by a library.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey, RsaPublicKeyComponents};

/// The point of an EC public key as tokens store it: a DER OCTET STRING by the standard, the bare point on some tokens.
pub(crate) fn ec_point(cka_ec_point: &[u8]) -> Option<Vec<u8>> {
    const UNCOMPRESSED_P256_LEN: usize = 65;
    let point = match yasna::parse_der(cka_ec_point, |r| r.read_bytes()) {
        Ok(point) => point,
        Err(_) => cka_ec_point.to_vec(),
    };
    (point.len() == UNCOMPRESSED_P256_LEN && point[0] == 4).then_some(point)
}

/// SubjectPublicKeyInfo (DER) of a P-256 key from its uncompressed point; `None` if the point is not on the curve.
pub(crate) fn p256_spki(point: &[u8]) -> Option<Vec<u8>> {
    let key = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).ok()?;
    let der: PublicKeyX509Der<'_> = key.as_der().ok()?;
    Some(der.as_ref().to_vec())
}

/// SubjectPublicKeyInfo (DER) of an RSA key from modulus and exponent, big-endian.
pub(crate) fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Option<Vec<u8>> {
    // Some tokens pad with a zero byte; aws-lc wants none.
    let strip = |b: &[u8]| -> Vec<u8> { b.iter().copied().skip_while(|&x| x == 0).collect() };
    let components = RsaPublicKeyComponents { n: strip(modulus), e: strip(exponent) };
    let der: PublicKeyX509Der<'_> = components.as_der().ok()?;
    Some(der.as_ref().to_vec())
}

/// An ECDSA signature as tokens return it (r ‖ s, 32 bytes each) in the form X.509 and TLS want.
pub(crate) fn ecdsa_der(raw: &[u8]) -> Option<Vec<u8>> {
    if raw.len() != 64 {
        return None;
    }
    let (r, s) = raw.split_at(32);
    Some(yasna::construct_der(|w| {
        w.write_sequence(|w| {
            w.next().write_bigint_bytes(r, true);
            w.next().write_bigint_bytes(s, true);
        });
    }))
}

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// What an operator compares when a node joins: SHA-256 over the three public keys (identity, kem, audit; each
/// `u32be length ‖ SPKI`), in upper-case hex in groups of four. Shown by `quorate pki request` and `pki sign`, given to
/// `members approve --fingerprint`.
pub fn fingerprint(identity_spki: &[u8], kem_spki: &[u8], audit_spki: &[u8]) -> String {
    let mut all = Vec::new();
    for spki in [identity_spki, kem_spki, audit_spki] {
        all.extend_from_slice(&u32::try_from(spki.len()).unwrap_or(u32::MAX).to_be_bytes());
        all.extend_from_slice(spki);
    }
    let hash = sha256(&all);
    let groups: Vec<String> = hash.chunks(2).map(|c| format!("{:02X}{:02X}", c[0], c[1])).collect();
    groups.join("-")
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn raw_signatures_become_der_that_verifies() {
        let rng = SystemRandom::new();
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("generated");
        let point = key.public_key().as_ref();
        let spki = p256_spki(point).expect("on the curve");
        for i in 0u32..300 {
            let message = i.to_be_bytes();
            let raw = key.sign(&rng, &message).expect("signed");
            let der = ecdsa_der(raw.as_ref()).expect("64 bytes");
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &spki).verify(&message, &der).expect("verifies");
        }
        assert_eq!(ecdsa_der(&[1; 63]), None);
    }

    #[test]
    fn small_and_large_halves_are_minimal_der_integers() {
        let mut raw = [0u8; 64];
        raw[31] = 1;
        raw[32] = 0x80;
        let der = ecdsa_der(&raw).expect("64 bytes");
        let mut expected = vec![0x30, 38, 2, 1, 1, 2, 33, 0, 0x80];
        expected.extend_from_slice(&[0; 31]);
        assert_eq!(der, expected);
    }

    #[test]
    fn points_are_read_bare_or_wrapped_and_checked() {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("generated");
        let point = key.public_key().as_ref().to_vec();
        let wrapped = yasna::construct_der(|w| w.write_bytes(&point));
        assert_eq!(ec_point(&point), Some(point.clone()));
        assert_eq!(ec_point(&wrapped), Some(point.clone()));
        for bad in [&point[..64], &wrapped[..66], &[][..], &[4; 33]] {
            assert_eq!(ec_point(bad), None, "{} bytes", bad.len());
        }
        let mut off = point;
        off[40] ^= 1;
        assert_eq!(p256_spki(&off), None, "not on the curve");
    }

    #[test]
    fn the_fingerprint_depends_on_each_key_and_its_place() {
        let f = fingerprint(b"a", b"b", b"c");
        assert_eq!(f.len(), 16 * 4 + 15);
        assert!(f.chars().all(|c| c.is_ascii_hexdigit() || c == '-'), "{f}");
        for (i, k, a) in [(b"x", b"b", b"c"), (b"a", b"x", b"c"), (b"a", b"b", b"x"), (b"b", b"a", b"c")] {
            assert_ne!(fingerprint(i, k, a), f);
        }
        assert_ne!(fingerprint(b"ab", b"", b"c"), fingerprint(b"a", b"b", b"c"), "lengths are hashed");
    }

    proptest! {
        #[test]
        fn nothing_a_token_returns_panics(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = ec_point(&bytes).and_then(|p| p256_spki(&p));
            let _ = rsa_spki(&bytes, &bytes);
            let _ = ecdsa_der(&bytes);
        }
    }
}
