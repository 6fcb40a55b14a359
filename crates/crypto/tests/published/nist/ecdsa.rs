use quorate_core::key_spec::{Algorithm, KeySpec, Usage};
use quorate_crypto::material::digest::digest;
use quorate_crypto::material::{PublicKey, SignInput, der_signature};

use super::{Case, bytes, cases, curve, file, public, text, unhex};
use crate::{Tally, coordinate, der, key, of_curve, pkcs8, spki};

/// The public key of a case.
fn key_of(case: &Case, spec: KeySpec) -> Option<PublicKey> {
    public(spec, &bytes(case, "Qx"), &bytes(case, "Qy"))
}

/// Whether the case's signature verifies, as the message's and as its digest's.
fn verify(case: &Case, spec: KeySpec, public: &PublicKey) -> bool {
    let by = spec.algorithm(Usage::Sign).unwrap();
    let raw = ["R", "S"].map(|name| coordinate(spec, &bytes(case, name)).unwrap()).concat();
    let (message, signature) = (bytes(case, "Msg"), der_signature(spec, &raw).unwrap());
    let hash = digest(by.digest().unwrap(), &message);
    let worked = public.verify(by, SignInput::Message(&message), &signature, &[]).unwrap();
    assert_eq!(public.verify(by, SignInput::Digest(&hash), &signature, &[]), Ok(worked));
    worked
}

#[test]
fn signatures() {
    let mut tally = Tally::default();
    for (name, last) in [
        ("FIPS_186-2/SigVer.rsp", "Result"),
        ("FIPS_186-3/SigVer.rsp", "Result"),
        ("FIPS_186-2/SigGen.txt", "S"),
        ("FIPS_186-3/SigGen.txt", "S"),
        ("SECP256K1/SigGen.txt", "S"),
    ] {
        for case in cases(&format!("asymmetric/ECDSA/{name}"), &[last]) {
            let section = text(&case, "section").replace("SHA-", "sha");
            let (name, hash) = section.split_once(',').unwrap_or((&section, "sha1"));
            let spec = if name == "K-256" { Some(KeySpec::Secp256k1) } else { curve(name) };
            let by = spec.and_then(|spec| spec.algorithm(Usage::Sign)).and_then(Algorithm::digest);
            let Some(spec) = spec.filter(|_| by.map(|by| by.as_str()) == Some(hash)) else {
                tally.skip("curves that are not offered, or not with that hash function");
                continue;
            };
            let public = key_of(&case, spec);
            if last == "S" {
                // The private number makes that public key, and a signature that verifies under it.
                let (material, by) =
                    (of_curve(spec, &bytes(&case, "d")).unwrap(), spec.algorithm(Usage::Sign).unwrap());
                let public = public.as_ref().unwrap();
                assert_eq!(material.public().unwrap().spki(), public.spki());
                let message = bytes(&case, "Msg");
                let made = material.sign(by, SignInput::Message(&message), &[]).unwrap();
                assert_eq!(public.verify(by, SignInput::Message(&message), &made, &[]), Ok(true));
            }
            let worked = public.is_some_and(|public| verify(&case, spec, &public));
            assert_eq!(worked, case.get("Result").is_none_or(|result| result.starts_with('P')), "{case:?}");
            tally.ran += 1;
        }
    }
    tally.done(315, &[("curves that are not offered, or not with that hash function", 3510)]);
}

/// Points that are on their curves, and such that are not.
#[test]
fn public_keys() {
    let mut tally = Tally::default();
    for case in ["2", "3"].iter().flat_map(|n| cases(&format!("asymmetric/ECDSA/FIPS_186-{n}/PKV.rsp"), &["Result"])) {
        let Some(spec) = curve(text(&case, "section")) else {
            tally.skip("curves that are not offered");
            continue;
        };
        let valid = text(&case, "Result").starts_with('P');
        assert_eq!(key_of(&case, spec).is_some(), valid, "{case:?}");
        tally.ran += 1;
    }
    tally.done(72, &[("curves that are not offered", 288)]);
}

#[test]
fn key_pairs() {
    let mut tally = Tally::default();
    for case in ["2", "3"].iter().flat_map(|n| cases(&format!("asymmetric/ECDSA/FIPS_186-{n}/KeyPair.rsp"), &["Qy"])) {
        let Some(spec) = curve(text(&case, "section")) else {
            tally.skip("curves that are not offered");
            continue;
        };
        let made = of_curve(spec, &bytes(&case, "d")).unwrap();
        let expected = key_of(&case, spec).unwrap();
        assert_eq!(made.public().unwrap().spki(), expected.spki());
        tally.ran += 1;
    }
    tally.done(30, &[("curves that are not offered", 270)]);
}

/// Bernstein's own: secret ‖ public : public : message : signature ‖ message.
#[test]
fn ed25519() {
    let mut ran = 0;
    for line in file("asymmetric/Ed25519/sign.input").lines() {
        let parts: Vec<_> = line.split(':').map(unhex).collect();
        let (seed, public, message, signature) = (&parts[0][..32], &parts[1], &parts[2], &parts[3][..64]);
        let material = key(KeySpec::Ed25519, &pkcs8(KeySpec::Ed25519, &der(4, &[seed]))).unwrap();
        assert_eq!(material.public().unwrap().spki(), spki(KeySpec::Ed25519, public));
        let input = SignInput::Message(message);
        assert_eq!(material.sign(Algorithm::Ed25519, input, &[]), Ok(signature.to_vec()));
        assert_eq!(material.public().unwrap().verify(Algorithm::Ed25519, input, signature, &[]), Ok(true));
        ran += 1;
    }
    assert_eq!(ran, 1024);
}
