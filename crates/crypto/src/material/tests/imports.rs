//! Keys that others made: taken when they are what they are said to be, else refused with what is wrong.

use super::super::der::{self, Der, element, unsigned};
use super::*;

/// What is said of a key that is refused.
fn refusal(spec: KeySpec, bytes: &[u8]) -> String {
    let refused = Material::import(spec, bytes).err().unwrap();
    assert_eq!(refused.part(), Part::Material);
    assert!(Material::read(spec, bytes).is_none());
    refused.to_string()
}

/// What is said of a public key that is refused.
fn public_refusal(bytes: &[u8]) -> String {
    let refused = PublicKey::parse(bytes).err().unwrap();
    assert_eq!(refused.part(), Part::PublicKey);
    refused.to_string()
}

fn fresh(spec: KeySpec) -> Encoded {
    Material::fresh(spec, &TestEntropy::new(4))
}

#[test]
fn raw_keys_of_another_length() {
    assert_eq!(refusal(KeySpec::Aes192, &[0; 16]), "a key of kind aes-192 has 24 bytes, not 16");
    assert_eq!(refusal(KeySpec::Aes256, &[]), "a key of kind aes-256 has 32 bytes, not 0");
    assert_eq!(refusal(KeySpec::HmacSha256, &[0; 13]), "a key of kind hmac-sha256 has 14 to 128 bytes, not 13");
    assert_eq!(refusal(KeySpec::HmacSha512, &[0; 129]), "a key of kind hmac-sha512 has 14 to 128 bytes, not 129");
    // A MAC key is exactly as long as it was given: the same bytes and zeros are another key.
    let mac = |len| Material::read(KeySpec::HmacSha256, &vec![0; len]).unwrap().mac(Algorithm::HmacSha256, b"m");
    assert_ne!(mac(127), mac(128));
}

/// Each kind's key, as every other kind.
#[test]
fn a_key_of_another_kind() {
    let pairs: Vec<_> = keys().filter(|(spec, ..)| spec.material_len().is_none()).collect();
    for ((spec, ..), (_, other, key)) in pairs.iter().flat_map(|one| pairs.iter().map(move |other| (one, other))) {
        let kind = key.public().unwrap().spec();
        if kind == *spec {
            continue;
        }
        let said = refusal(*spec, &other.material);
        assert!(said.ends_with(&format!("; {} was expected", spec.as_str())), "{said}");
        let named = if kind == KeySpec::Rsa2048 { "an RSA key" } else { kind.as_str() };
        assert!(said.contains(named), "{said}");
    }
    let rsa = fresh(KeySpec::Rsa2048);
    let said = "this is a key of kind rsa-2048; rsa-3072 was expected";
    assert_eq!(refusal(KeySpec::Rsa3072, &rsa.material), said);
}

/// One change to the encoding each, and the key is the same: refused all the same, as a key has one encoding.
#[test]
fn encodings_that_are_not_canonical() {
    for spec in [KeySpec::P256, KeySpec::Rsa2048, KeySpec::Ed25519, KeySpec::MlDsa44, KeySpec::MlKem512] {
        let Encoded { material, public } = fresh(spec);
        let key = encode::read_pkcs8(spec, &material).unwrap();
        let id = element(der::SEQUENCE, &[encode::algorithm_id(spec)]);
        let octets = element(der::OCTET_STRING, &[key]);
        let with =
            |version: &[u8], id: &[u8], rest: &[&[u8]]| element(der::SEQUENCE, &[&[version, id][..], rest].concat());
        assert_eq!(with(&[2, 1, 0], &id, &[&octets]), material);
        // The outer length in one byte more than it needs.
        let length: &[u8] = match material[1] {
            0x81 => &[0x82, 0],
            0x82 => &[0x83, 0],
            _ => &[0x81, material[1]],
        };
        let long = [&[material[0]], length, &material[2..]].concat();
        for bad in [
            &long[..],
            &[&material[..], &[0]].concat(),
            &material[..material.len() - 1],
            &with(&[2, 1, 1], &id, &[&octets]),
            &with(&[2, 2, 0, 0], &id, &[&octets]),
            &with(&[2, 1, 0], &id, &[&octets, &[5, 0]]),
            &with(&[2, 1, 0], &id, &[]),
            key,
            &public.clone().unwrap(),
            b"-----BEGIN PRIVATE KEY-----",
        ] {
            let said = refusal(spec, bad);
            assert!(said.starts_with("this is no private key: expected PKCS#8"), "{said}");
        }
        // Something after the key, inside.
        refusal(spec, &encode::pkcs8(spec, &[key, &[5, 0]].concat()));
        // Attributes are another's affair: they are dropped.
        let attributes = with(&[2, 1, 0], &id, &[&octets, &[0xa0, 2, 5, 0]]);
        assert_eq!(Material::import(spec, &attributes).unwrap().material, material);
        let spki = public.unwrap();
        for bad in [&[&spki[..], &[0]].concat(), &spki[..spki.len() - 1], &spki[1..], &[]] {
            assert!(public_refusal(bad).starts_with("this is no public key"));
        }
        assert!(public_refusal(&material).starts_with("this is a private key"));
    }
}

#[test]
fn rsa_keys_that_are_none() {
    let Encoded { material, public } = fresh(KeySpec::Rsa2048);
    let key = encode::read_pkcs8(KeySpec::Rsa2048, &material).unwrap();
    let mut parts = Der::only(der::SEQUENCE, key).unwrap();
    let numbers: Vec<&[u8]> = std::iter::repeat_with(|| parts.unsigned()).map_while(Result::ok).collect();
    assert_eq!(numbers.len(), 9);
    let with = |at: usize, number: &[u8]| {
        let all: Vec<_> = (0..9).map(|n| unsigned(if n == at { number } else { numbers[n] })).collect();
        let all: Vec<&[u8]> = all.iter().map(|one| &one[..]).collect();
        refusal(KeySpec::Rsa2048, &encode::pkcs8(KeySpec::Rsa2048, &element(der::SEQUENCE, &all)))
    };
    let changed = |n: usize, last: u8| {
        let mut number = numbers[n].to_vec();
        *number.last_mut().unwrap() ^= last;
        number
    };
    assert_eq!(with(1, &changed(1, 1)), "the modulus is even: this is no RSA key");
    assert_eq!(with(1, &numbers[1][..128]), "RSA with 1024 bits is not supported; there are 2048, 3072 and 4096");
    let exponent = "the public exponent must be odd, at least 3 and below 2^32; 65537 is usual";
    for bad in [&[][..], &[1], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
        assert_eq!(with(2, bad), exponent, "{bad:?}");
    }
    for n in 1..9 {
        assert_eq!(with(n, &changed(n, 2)), "the numbers of this RSA key do not belong together", "{n}");
    }
    assert!(with(0, &[1]).starts_with("the PKCS#8 holds no RSA private key of two primes"));
    let (n, one, even) = (unsigned(numbers[1]), unsigned(&[1]), unsigned(&changed(1, 1)));
    let public_of = |parts: &[&[u8]]| public_refusal(&encode::spki(KeySpec::Rsa2048, &element(der::SEQUENCE, parts)));
    assert_eq!(public_of(&[&n, &one]), exponent);
    assert_eq!(public_of(&[&even, &unsigned(&[3])]), "the modulus is even: this is no RSA key");
    assert!(public_of(&[&n]).starts_with("this holds no RSA public key"));
    // The key itself is none of these.
    assert!(PublicKey::parse(&public.unwrap()).is_ok());
}

#[test]
fn points_and_numbers_that_are_not_of_the_curve() {
    for (spec, len) in [(KeySpec::P256, 32), (KeySpec::P384, 48), (KeySpec::P521, 66), (KeySpec::Secp256k1, 32)] {
        let Encoded { material, public } = fresh(spec);
        let spki = public.unwrap();
        let (_, point) = encode::read_spki(&spki).unwrap();
        let with_number = |number: &[u8], point: &[u8]| {
            let bits = element(0xa1, &[&element(der::BIT_STRING, &[&[0], point])]);
            let point: &[u8] = if point.is_empty() { &[] } else { &bits };
            let key = element(der::SEQUENCE, &[&unsigned(&[1]), &element(der::OCTET_STRING, &[number]), point]);
            encode::pkcs8(spec, &key)
        };
        let outside = "the private number is 0 or too large for the curve, or what stands beside it is of another";
        for number in [vec![0; len], vec![0xff; len]] {
            assert_eq!(refusal(spec, &with_number(&number, &[])), outside);
        }
        let mut number = vec![0; len];
        number[len - 1] = 5;
        assert_eq!(refusal(spec, &with_number(&number, point)), outside);
        for short in [&number[1..], &[&[0], &number[..]].concat()] {
            assert!(refusal(spec, &with_number(short, &[])).contains(&format!("with a number of {len} bytes")));
        }
        // Without its point a key is whole, and is kept with it.
        let five = Material::import(spec, &with_number(&number, &[])).unwrap();
        let (_, its_own) = encode::read_spki(five.public.as_deref().unwrap()).unwrap();
        assert_eq!(Material::import(spec, &with_number(&number, its_own)).unwrap().material, five.material);
        assert_ne!(five.material, material);
        let of = |point: &[u8]| public_refusal(&encode::spki(spec, point));
        let mut off = point.to_vec();
        off[len] ^= 1;
        assert_eq!(of(&off), format!("the point is not on the curve {}", spec.as_str()));
        for bad in [&[0][..], &[], &point[1..], &point[..len + 1], &[&[6], &point[1..]].concat()] {
            assert_eq!(of(bad), format!("the public key holds no point of {} (SEC 1)", spec.as_str()));
        }
        // A compressed point is the same point.
        let compressed = [&[2 + (point[2 * len] & 1)], &point[1..=len]].concat();
        assert_eq!(PublicKey::parse(&encode::spki(spec, &compressed)).unwrap().spki(), spki);
    }
}

#[test]
fn seeds_of_other_lengths_or_beside_another_key() {
    for (spec, len) in [(KeySpec::MlDsa65, 32), (KeySpec::MlKem768, 64)] {
        let seed_of = |len| encode::pkcs8(spec, &element(0x80, &[&vec![3; len]]));
        let said = refusal(spec, &seed_of(len + 1));
        assert_eq!(said, format!("a seed of {} has {len} bytes, not {}", spec.as_str(), len + 1));
        assert!(Material::import(spec, &seed_of(len)).is_ok());
        let octets = |bytes: &[u8]| element(der::OCTET_STRING, &[bytes]);
        let both = element(der::SEQUENCE, &[&octets(&vec![3; len]), &octets(&[0; 2400])]);
        let said = refusal(spec, &encode::pkcs8(spec, &both));
        assert_eq!(said, "the expanded key is not the one that the seed makes");
        let said = refusal(spec, &encode::pkcs8(spec, &octets(&[0; 2400])));
        assert!(said.ends_with("is in expanded form: give it in seed form"));
        let said = refusal(spec, &encode::pkcs8(spec, &[5, 0]));
        assert!(said.starts_with("the PKCS#8 holds no seed"), "{said}");
    }
    for spec in [KeySpec::Ed25519, KeySpec::X25519] {
        let said = refusal(spec, &encode::pkcs8(spec, &element(der::OCTET_STRING, &[&[1; 31]])));
        assert!(said.ends_with("key of 32 bytes (RFC 8410)"), "{said}");
    }
    // An ML-KEM public key with a number that is not below q.
    let said = public_refusal(&encode::spki(KeySpec::MlKem512, &[0xff; 800]));
    assert_eq!(said, "this is no public key of ml-kem-512");
}

#[test]
fn pem_is_one_block_with_the_right_label() {
    let Encoded { public, material } = fresh(KeySpec::P256);
    let key = PublicKey::parse(&public.unwrap()).unwrap();
    let pem = key.pem();
    assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----\n") && pem.ends_with("\n-----END PUBLIC KEY-----\n"));
    assert!(pem.lines().all(|line| line.len() <= 64));
    for good in [pem.clone(), pem.replace('\n', "\r\n"), format!("\n{pem}\n\n")] {
        assert_eq!(PublicKey::read(good.as_bytes()).unwrap().spki(), key.spki());
    }
    assert_eq!(PublicKey::read(key.spki()).unwrap().spki(), key.spki());
    let private = pem.replace("PUBLIC", "PRIVATE");
    for bad in [private.clone(), format!("{pem}{pem}"), pem.replace('M', "!"), pem[..pem.len() - 5].to_owned()] {
        let refused = PublicKey::read(bad.as_bytes()).err().unwrap();
        assert_eq!(refused.part(), Part::PublicKey);
    }
    assert_eq!(private_der(private.as_bytes()).unwrap()[..], *key.spki());
    assert_eq!(private_der(&material).unwrap(), material);
    assert_eq!(private_der(pem.as_bytes()).unwrap_err().part(), Part::Material);
}
