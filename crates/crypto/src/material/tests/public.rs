//! Public keys that others bring: what is taken for one, and what they do alone.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use quorate_core::request::Part;

use super::*;
use crate::material::encode;

#[test]
fn a_public_key_alone_does_what_the_public_half_of_its_pair_does() {
    let entropy = TestEntropy::new(3);
    for (spec, fresh, pair) in keys() {
        let Some(spki) = fresh.public else {
            assert!(Material::public_alone(spec, &fresh.material).is_none());
            continue;
        };
        let alone = Material::public_alone(spec, &spki).unwrap();
        assert_eq!(alone.public().unwrap().part().spec, spec);
        assert!(alone.export().is_empty() && alone.size() < 16 * 1024);
        let other = if spec == KeySpec::P256 { KeySpec::P384 } else { KeySpec::P256 };
        assert!(Material::public_alone(other, &spki).is_none() && Material::public_alone(spec, &spki[1..]).is_none());
        for usage in Usage::ALL {
            for by in spec.algorithms(*usage) {
                let done = match usage {
                    Usage::Sign => alone.sign(*by, SignInput::Message(b"m"), &[]).map(drop),
                    Usage::Encrypt => alone.encrypt(*by, b"m", None, &[], &entropy).map(|made| {
                        assert_eq!(*pair.decrypt(*by, &made, &[]).unwrap(), *b"m");
                    }),
                    Usage::Decrypt => alone.decrypt(*by, &Encrypted::default(), &[]).map(drop),
                    Usage::Wrap => alone.wrap(*by, &[5; 32], &entropy).map(|wrapped| {
                        assert_eq!(*pair.unwrap(*by, &wrapped).unwrap(), [5; 32]);
                    }),
                    Usage::Unwrap => alone.unwrap(*by, &[5; 32]).map(drop),
                    Usage::Agree => alone.agree(pair.public().unwrap()).map(drop),
                    Usage::Encapsulate => alone.public().unwrap().encapsulate().map(|(ciphertext, secret)| {
                        assert_eq!(*pair.decapsulate(&ciphertext).unwrap(), *secret);
                    }),
                    Usage::Decapsulate => alone.decapsulate(&[]).map(drop),
                    Usage::Verify => {
                        let signature = pair.sign(*by, SignInput::Message(b"m"), &[]).unwrap();
                        let public = alone.public().unwrap();
                        assert_eq!(public.verify(*by, SignInput::Message(b"m"), &signature, &[]), Ok(true));
                        Ok(())
                    }
                    Usage::Mac | Usage::VerifyMac | Usage::Derive => Err(UseError::NotFitting),
                };
                assert_eq!(done.is_ok(), usage.is_public(), "{spec:?} {usage:?} {by:?}");
            }
        }
    }
}

#[test]
fn a_private_key_in_its_place_is_told_apart_and_taken_for_exposed() {
    let refused = |given: &[u8]| PublicKey::read(given).err().expect("no public key").to_string();
    for (spec, fresh, _) in keys().filter(|(spec, ..)| spec.material_len().is_none()) {
        let (public, private) = (fresh.public.unwrap(), fresh.material);
        assert!(!is_private_key(&public) && is_private_key(&private), "{spec:?}");
        assert!(refused(&private).contains("take it for exposed"), "{spec:?}");
        assert!(!is_private_key(encode::public_pem(&public).as_bytes()));
        // As others write them: PKCS#1 and SEC 1 are what is inside; an encrypted one is no less somebody's private key.
        for label in
            ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "OPENSSH PRIVATE KEY"]
        {
            let pem = format!("\n-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(&*private));
            assert!(refused(pem.as_bytes()).contains("take it for exposed"), "{label}");
        }
    }
    let rsa = Material::fresh(KeySpec::Rsa2048, &TestEntropy::new(1)).material;
    assert!(is_private_key(encode::read_pkcs8(KeySpec::Rsa2048, &rsa).unwrap()), "PKCS#1");
    // EncryptedPrivateKeyInfo.
    assert!(is_private_key(&[0x30, 9, 0x30, 3, 6, 1, 1, 4, 2, 1, 2]));
    for other in [&b""[..], b"-----BEGIN CERTIFICATE-----", &[0x30], &[7; 32], b"{}"] {
        assert!(!is_private_key(other));
        assert!(!refused(other).contains("exposed"));
    }
}

/// Of these eight points (and of other bytes that mean them) anybody makes signatures that seem to be of any message.
#[test]
fn points_of_small_order_and_bytes_that_are_no_point_are_no_ed25519_keys() {
    let refused = |point: [u8; 32]| {
        let e = PublicKey::parse(&encode::spki(KeySpec::Ed25519, &point)).err().expect("refused");
        assert_eq!(e.part(), Part::PublicKey);
        e.to_string()
    };
    let number = |low: u8, middle: u8, high: u8| {
        let mut bytes = [middle; 32];
        (bytes[0], bytes[31]) = (low, high);
        bytes
    };
    let eighth = |hex: &str| std::array::from_fn(|n| u8::from_str_radix(&hex[2 * n..][..2], 16).unwrap());
    for point in [
        number(0, 0, 0),
        number(0, 0, 0x80),
        number(1, 0, 0),
        number(0xec, 0xff, 0x7f),
        eighth("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
        eighth("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85"),
        eighth("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        eighth("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa"),
    ] {
        assert!(refused(point).contains("small order"), "{point:?}");
    }
    // p and p + 1, which mean 0 and 1; 2, which is on no point; 1 with a sign that it does not have.
    for bytes in [number(0xed, 0xff, 0x7f), number(0xee, 0xff, 0x7f), number(2, 0, 0), number(1, 0, 0x80)] {
        assert!(refused(bytes).contains("point of the curve"), "{bytes:?}");
    }
}
