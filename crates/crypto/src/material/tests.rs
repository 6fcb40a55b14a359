//! Every kind of key, by every algorithm that core's table has for it, and by no other; what is imported, and what is not.

mod imports;
mod public;

use quorate_core::key_spec::Usage;

use super::*;
use crate::testing::TestEntropy;

/// A fresh key of every kind; an RSA key of each length would take seconds.
fn keys() -> impl Iterator<Item = (KeySpec, Encoded, Material)> {
    KeySpec::ALL.iter().filter(|spec| !matches!(spec, KeySpec::Rsa3072 | KeySpec::Rsa4096)).map(|spec| {
        let fresh = Material::fresh(*spec, &TestEntropy::new(1));
        let read = Material::read(*spec, &fresh.material).unwrap();
        (*spec, fresh, read)
    })
}

#[test]
fn fresh_material_reads_back_and_nothing_else_does() {
    for (spec, fresh, read) in keys() {
        assert_eq!(read.public().map(PublicKey::spki), fresh.public.as_deref(), "{spec:?}");
        assert!(read.public().is_none_or(|public| public.spec() == spec));
        assert!(Material::read(spec, &fresh.material[..13]).is_none() && Material::read(spec, &[]).is_none());
        assert!(Material::read(spec, &[&fresh.material[..], &[0; 128]].concat()).is_none());
        if spec != KeySpec::Rsa2048 {
            assert_ne!(Material::fresh(spec, &TestEntropy::new(2)).material, fresh.material);
        }
        // What was imported is kept as what was made.
        let again = Material::import(spec, &fresh.material).unwrap();
        assert_eq!((&again.material, again.public), (&fresh.material, fresh.public));
        assert_eq!(*read.export(), *again.material, "it is exported as it is imported");
        assert_eq!(read.symmetric().is_some(), spec == KeySpec::Aes256);
        assert!(read.size() < 64 * 1024);
    }
}

#[test]
fn long_rsa_keys_are_of_their_length() {
    for (spec, len) in [(KeySpec::Rsa3072, 384), (KeySpec::Rsa4096, 512)] {
        let fresh = Material::fresh(spec, &TestEntropy::new(1));
        let key = Material::read(spec, &fresh.material).unwrap();
        assert_eq!(key.public().unwrap().spec(), spec);
        assert_eq!(key.sign(Algorithm::RsaPssSha512, SignInput::Message(b"m"), &[]).unwrap().len(), len);
    }
}

/// Does what a usage is for, there and back; also what must be refused on the way.
fn use_key(key: &Material, usage: Usage, by: Algorithm) -> Result<(), UseError> {
    let (entropy, message) = (TestEntropy::new(7), [5; 48]);
    match usage {
        Usage::Sign | Usage::Verify => {
            let signature = key.sign(by, SignInput::Message(&message), &[])?;
            let public = PublicKey::read(key.public().unwrap().pem().as_bytes()).unwrap();
            assert_eq!(public.verify(by, SignInput::Message(&message), &signature, &[]), Ok(true));
            assert_eq!(public.verify(by, SignInput::Message(&message[1..]), &signature, &[]), Ok(false));
            let mut bad = signature.clone();
            bad[signature.len() / 2] ^= 1;
            for bad in [&bad[..], &signature[1..], &[&signature[..], &[0]].concat(), &[]] {
                assert_eq!(public.verify(by, SignInput::Message(&message), bad, &[]), Ok(false));
            }
            if let Some(hash) = by.digest() {
                let hash = digest::digest(hash, &message);
                let of_digest = key.sign(by, SignInput::Digest(&hash), &[])?;
                assert_eq!(public.verify(by, SignInput::Message(&message), &of_digest, &[]), Ok(true));
                assert_eq!(public.verify(by, SignInput::Digest(&hash), &signature, &[]), Ok(true));
                let short = SignInput::Digest(&hash[1..]);
                assert_eq!(part(key.sign(by, short, &[])), Some(Part::Digest));
                assert_eq!(part(public.verify(by, short, &signature, &[])), Some(Part::Digest));
            }
        }
        Usage::Mac | Usage::VerifyMac => {
            let mac = key.mac(by, &message)?;
            assert_eq!(key.verify_mac(by, &message, &mac), Ok(true));
            for bad in [&mac[1..], &mac[..mac.len() - 1], &[&mac[..], &[0]].concat(), &[]] {
                assert_eq!(key.verify_mac(by, &message, bad), Ok(false));
            }
            assert_eq!(key.verify_mac(by, &message[1..], &mac), Ok(false));
        }
        Usage::Encrypt | Usage::Decrypt => there_and_back(key, by)?,
        Usage::Wrap | Usage::Unwrap => match key.wrap(by, &message, &entropy) {
            Ok(wrapped) => {
                assert_eq!(key.unwrap(by, &wrapped).unwrap()[..], message);
                for n in [0, wrapped.len() / 2, wrapped.len() - 1] {
                    let mut bad = wrapped.clone();
                    bad[n] ^= 1;
                    assert_eq!(key.unwrap(by, &bad), Err(UseError::Tampered));
                    assert_eq!(key.unwrap(by, &wrapped[..n]), Err(UseError::Tampered));
                }
            }
            // Keys are also wrapped by the modes that encrypt.
            Err(_) => there_and_back(key, by)?,
        },
        Usage::Derive => {
            let digest = quorate_core::key_spec::Digest::Sha256;
            let methods = [
                Derivation::Kbkdf { digest, info: b"i" },
                Derivation::Hmac { digest, data: b"d" },
                Derivation::Hash { digest },
                Derivation::Pbkdf2 { digest, salt: b"s", iterations: 2 },
            ];
            let method = methods.iter().find(|method| method.algorithm() == by).ok_or(UseError::NotFitting)?;
            assert_eq!(key.derive(method, 32)?.len(), 32);
        }
        Usage::Agree => {
            if by != Algorithm::Ecdh {
                return Err(UseError::NotFitting);
            }
            let spec = key.public().map_or(KeySpec::P256, PublicKey::spec);
            let other = Material::read(spec, &Material::fresh(spec, &TestEntropy::new(9)).material).unwrap();
            let shared = key.agree(other.public().unwrap())?;
            assert_eq!(other.agree(key.public().unwrap()).unwrap(), shared);
        }
        Usage::Encapsulate | Usage::Decapsulate => {
            if by != Algorithm::MlKem {
                return Err(UseError::NotFitting);
            }
            let (ciphertext, secret) = key.public().ok_or(UseError::NotFitting)?.encapsulate()?;
            assert_eq!(key.decapsulate(&ciphertext).unwrap(), secret);
            assert_eq!(part(key.decapsulate(&ciphertext[1..])), Some(Part::Ciphertext));
        }
    }
    Ok(())
}

fn there_and_back(key: &Material, by: Algorithm) -> Result<(), UseError> {
    let (entropy, plaintext) = (TestEntropy::new(7), [5; 48]);
    let made = key.encrypt(by, &plaintext, None, &[], &entropy)?;
    assert_eq!(key.decrypt(by, &made, &[]).unwrap()[..], plaintext);
    // An IV of ours is never used twice.
    assert_ne!(key.encrypt(by, &plaintext, None, &[], &entropy)?, made);
    let is_authentic = matches!(by, Algorithm::AesGcm) || made.iv.is_empty();
    for n in [0, made.ciphertext.len() - 1] {
        let mut bad = made.clone();
        bad.ciphertext[n] ^= 1;
        let opened = key.decrypt(by, &bad, &[]);
        assert!(if is_authentic { opened == Err(UseError::Tampered) } else { opened != key.decrypt(by, &made, &[]) });
    }
    let long = Encrypted { iv: vec![0; 17], ..made.clone() };
    assert_eq!(part(key.decrypt(by, &long, &[])), Some(Part::Iv));
    let tagged = Encrypted { tag: vec![0; 15], ..made };
    assert_eq!(part(key.decrypt(by, &tagged, &[])), Some(Part::Tag));
    assert_eq!(part(key.encrypt(by, &plaintext, Some(&[1; 17]), &[], &entropy)), Some(Part::Iv));
    Ok(())
}

/// The part of the request that is refused.
fn part<T>(result: Result<T, UseError>) -> Option<Part> {
    match result {
        Err(UseError::Invalid(refused)) => Some(refused.part()),
        _ => None,
    }
}

/// The blob is a form of its own: `symmetric::encrypt`.
#[test]
fn every_key_does_what_the_table_says_and_nothing_else() {
    let mut done = 0;
    for (spec, _, key) in keys() {
        for (usage, by) in Usage::ALL.iter().flat_map(|usage| Algorithm::ALL.iter().map(move |by| (*usage, *by))) {
            let expected = if spec.fits(usage, by) && by != Algorithm::Blob {
                done += 1;
                Ok(())
            } else if usage == Usage::Wrap || usage == Usage::Unwrap {
                // Those of modes, asked about above.
                continue;
            } else {
                Err(UseError::NotFitting)
            };
            assert_eq!(use_key(&key, usage, by), expected, "{} {} {}", spec.as_str(), usage.as_str(), by.as_str());
        }
    }
    assert!(done > 150);
}

/// One parsed key serves many callers at once.
#[test]
fn keys_are_used_by_many_threads_at_once() {
    for (spec, _, key) in keys() {
        let usage = spec.purpose().unwrap().usages().iter().next().unwrap();
        let by = *spec.algorithms(usage).iter().find(|by| **by != Algorithm::Blob).unwrap();
        std::thread::scope(|threads| {
            let workers: Vec<_> =
                (0..4).map(|_| threads.spawn(|| (0..4).all(|_| use_key(&key, usage, by).is_ok()))).collect();
            assert!(workers.into_iter().all(|worker| worker.join().unwrap()), "{}", spec.as_str());
        });
    }
}

#[test]
fn what_is_bound_differs_by_algorithm() {
    let keys: Vec<_> = keys().collect();
    let of = |spec| keys.iter().find(|(of, ..)| *of == spec).map(|(.., key)| key).unwrap();
    let (aes, entropy, message) = (of(KeySpec::Aes256), TestEntropy::new(3), SignInput::Message(b"m"));
    let made = aes.encrypt(Algorithm::AesGcm, b"secret", None, b"aad", &entropy).unwrap();
    assert_eq!((made.iv.len(), made.tag.len(), made.ciphertext.len()), (GCM_IV_LEN, GCM_TAG_LEN, 6));
    assert_eq!(aes.decrypt(Algorithm::AesGcm, &made, b"aad").unwrap()[..], b"secret"[..]);
    assert_eq!(aes.decrypt(Algorithm::AesGcm, &made, b"AAD"), Err(UseError::Tampered));
    assert_eq!(part(aes.encrypt(Algorithm::AesCbcPad, b"secret", None, b"aad", &entropy)), Some(Part::Context));
    assert_eq!(part(aes.encrypt(Algorithm::AesCbc, b"secret", None, &[], &entropy)), Some(Part::Plaintext));
    let halved = Encrypted { iv: vec![0; BLOCK_LEN], ciphertext: vec![0; 17], tag: vec![] };
    assert_eq!(part(aes.decrypt(Algorithm::AesCbcPad, &halved, &[])), Some(Part::Ciphertext));
    assert_eq!(part(aes.wrap(Algorithm::AesKw, &[0; 12], &entropy)), Some(Part::Material));
    assert_eq!(part(aes.wrap(Algorithm::AesKwp, &[], &entropy)), Some(Part::Material));
    let rsa = of(KeySpec::Rsa2048);
    assert_eq!(part(rsa.encrypt(Algorithm::RsaOaepSha256, &[0; 191], None, &[], &entropy)), Some(Part::Plaintext));
    assert_eq!(part(rsa.encrypt(Algorithm::RsaOaepSha256, &[0; 190], None, b"aad", &entropy)), Some(Part::Context));
    // Contexts: of ML-DSA and Ed25519ph.
    let (ml_dsa, ed25519) = (of(KeySpec::MlDsa44), of(KeySpec::Ed25519));
    for (key, by) in [(ml_dsa, Algorithm::MlDsa), (ed25519, Algorithm::Ed25519ph)] {
        let public = key.public().unwrap();
        let signature = key.sign(by, message, &[7; 255]).unwrap();
        assert_eq!(public.verify(by, message, &signature, &[7; 255]), Ok(true));
        assert_eq!(public.verify(by, message, &signature, &[7; 254]), Ok(false));
        assert_eq!(part(key.sign(by, message, &[7; 256])), Some(Part::Context));
        assert_eq!(part(public.verify(by, message, &signature, &[7; 256])), Some(Part::Context));
    }
    assert_eq!(part(ml_dsa.sign(Algorithm::MlDsa, SignInput::Digest(&[0; 64]), b"c")), Some(Part::Context));
    assert_eq!(part(ml_dsa.sign(Algorithm::MlDsa, SignInput::Digest(&[0; 63]), &[])), Some(Part::Digest));
    assert_eq!(part(ed25519.sign(Algorithm::Ed25519, message, b"c")), Some(Part::Context));
    assert_eq!(part(ed25519.sign(Algorithm::Ed25519, SignInput::Digest(&[0; 64]), &[])), Some(Part::Digest));
    assert_eq!(part(of(KeySpec::P256).sign(Algorithm::EcdsaSha256, message, b"c")), Some(Part::Context));
    // Peers of other kinds, and one of small order.
    let (p256, x25519) = (of(KeySpec::P256), of(KeySpec::X25519));
    for peer in [KeySpec::P384, KeySpec::X25519, KeySpec::Secp256k1, KeySpec::Rsa2048] {
        assert_eq!(part(p256.agree(of(peer).public().unwrap())), Some(Part::PublicKey));
    }
    let zero = PublicKey::parse(&encode::spki(KeySpec::X25519, &[0; 32])).unwrap();
    assert_eq!(part(x25519.agree(&zero)), Some(Part::PublicKey));
}

/// RFC 8032 §7.3.
#[test]
fn ed25519ph_of_abc() {
    let unhex = |hex: &str| -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|n| u8::from_str_radix(&hex[n..n + 2], 16).unwrap()).collect()
    };
    let seed = unhex("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42");
    let public = unhex("ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf");
    let signature = unhex(
        "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae4131f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406",
    );
    let pkcs8 = encode::pkcs8(KeySpec::Ed25519, &der::element(der::OCTET_STRING, &[&seed]));
    let key = Material::read(KeySpec::Ed25519, &pkcs8).unwrap();
    assert_eq!(key.public().unwrap().spki(), encode::spki(KeySpec::Ed25519, &public));
    assert_eq!(key.sign(Algorithm::Ed25519ph, SignInput::Message(b"abc"), &[]), Ok(signature));
}
