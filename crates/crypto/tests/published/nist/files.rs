//! Keys in files, as OpenSSL and others write them, and as nobody should.

use quorate_core::key_spec::KeySpec;
use quorate_crypto::material::{Material, PublicKey, private_der};

use super::raw;

#[test]
fn private_keys() {
    const KIND: &str = "this private key is of a kind that is not supported here";
    const CURVE: &str = "the private number is 0 or too large for the curve, or what stands beside it is of another";
    const NUMBER: &str = "the PKCS#8 holds no ECPrivateKey (RFC 5915)";
    const NONE: &str = "this is no private key";
    for (file, spec, refused) in [
        ("PKCS8/ec_private_key.pem", KeySpec::P256, None),
        ("PKCS8/ec-consistent-curve.pem", KeySpec::P256, None),
        ("PKCS8/ecc_private_with_rfc5915_ext.pem", KeySpec::P256, None),
        ("Ed25519/ed25519-pkcs8.der", KeySpec::Ed25519, None),
        ("Ed25519/ed25519-pkcs8.pem", KeySpec::Ed25519, None),
        ("MLDSA/mldsa44_priv.der", KeySpec::MlDsa44, None),
        ("MLKEM/mlkem768.der", KeySpec::MlKem768, None),
        ("MLKEM/mlkem768.pem", KeySpec::MlKem768, None),
        ("PKCS8/ec-inconsistent-curve.pem", KeySpec::P256, Some(CURVE)),
        ("PKCS8/ec-inconsistent-curve2.pem", KeySpec::P384, Some(NUMBER)),
        ("PKCS8/ec-invalid-private-scalar.pem", KeySpec::P256, Some(NUMBER)),
        ("PKCS8/ec-invalid-version.pem", KeySpec::P256, Some(NUMBER)),
        ("PKCS8/ec_oid_not_in_reg_private_2.pkcs8.pem", KeySpec::P256, Some(KIND)),
        ("PKCS8/nodompar_private.pkcs8.pem", KeySpec::P256, Some(KIND)),
        ("PKCS8/private.pem", KeySpec::P384, Some(KIND)),
        ("PKCS8/rsa_pss_2048.pem", KeySpec::Rsa2048, Some(KIND)),
        ("PKCS8/unenc-dsa-pkcs8.pem", KeySpec::Rsa2048, Some(KIND)),
        ("PKCS8/bad-oid-dsa-key.pem", KeySpec::Rsa2048, Some(KIND)),
        ("PKCS8/unenc-rsa-pkcs8.pem", KeySpec::Rsa2048, Some(NONE)),
        ("PKCS8/invalid-version.der", KeySpec::P256, Some(NONE)),
        ("PKCS8/unknown-oid.der", KeySpec::P256, Some(KIND)),
        ("PKCS8/enc-rsa-pkcs8.pem", KeySpec::Rsa2048, Some(NONE)),
        ("PKCS8/wrong-pem-delimiter-rsa.pem", KeySpec::Rsa2048, Some("this is not the one PEM block")),
        ("Ed25519/ed25519-pkcs8-enc.der", KeySpec::Ed25519, Some(NONE)),
        ("MLDSA/mldsa65_noseed_priv.der", KeySpec::MlDsa65, Some("this ml-dsa-65 key is in expanded form")),
    ] {
        let read = private_der(&raw(&format!("asymmetric/{file}"))).and_then(|der| Material::import(spec, &der));
        match (read, refused) {
            (Ok(key), None) => assert!(Material::read(spec, &key.material).is_some()),
            (Err(e), Some(said)) => assert!(e.to_string().starts_with(said), "{file}: {e}"),
            (read, _) => panic!("{file}: {:?}", read.err()),
        }
    }
}

#[test]
fn public_keys() {
    for (file, spec) in [
        ("Ed25519/ed25519-pub.der", KeySpec::Ed25519),
        ("Ed25519/ed25519-pub.pem", KeySpec::Ed25519),
        ("MLDSA/mldsa44_pub.der", KeySpec::MlDsa44),
    ] {
        assert_eq!(PublicKey::read(&raw(&format!("asymmetric/{file}"))).unwrap().spec(), spec);
    }
    for file in
        ["Ed25519/ed25519-pub-non-zero-unused-bits.der", "PKCS8/rsa_pss_2048_pub.der", "PKCS8/unenc-dsa-pkcs8.pub.pem"]
    {
        assert!(PublicKey::read(&raw(&format!("asymmetric/{file}"))).is_err(), "{file}");
    }
}
