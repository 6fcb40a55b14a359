use quorate_core::key_spec::{Algorithm, KeySpec};
use quorate_crypto::material::{PublicKey, SignInput};

use super::{bytes, cases, text};
use crate::{Tally, der, spki};

fn number(bytes: &[u8]) -> Vec<u8> {
    let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    let sign: &[u8] = if bytes[0] >= 0x80 { &[0] } else { &[] };
    der(2, &[sign, bytes])
}

/// PKCS#1 v1.5 signatures. Of PSS's files none has salts as long as the digest.
#[test]
fn signatures() {
    let mut tally = Tally::default();
    for (file, last) in [("SigGen15_186-2", "S"), ("SigGen15_186-3", "S"), ("SigVer15_186-3", "Result")] {
        for case in cases(&format!("asymmetric/RSA/FIPS_186-2/{file}.rsp"), &[last]) {
            let by = match text(&case, "SHAAlg") {
                "SHA256" => Algorithm::RsaPkcs1Sha256,
                "SHA384" => Algorithm::RsaPkcs1Sha384,
                "SHA512" => Algorithm::RsaPkcs1Sha512,
                _ => {
                    tally.skip("hash functions that are not offered");
                    continue;
                }
            };
            let key = der(0x30, &[&number(&bytes(&case, "n")), &number(&bytes(&case, "e"))]);
            let key = PublicKey::parse(&spki(KeySpec::Rsa2048, &key));
            if matches!(text(&case, "mod"), "1024" | "1536") {
                assert!(key.is_err());
                tally.skip("keys that are too short, which are refused");
                continue;
            }
            let worked = key.unwrap().verify(by, SignInput::Message(&bytes(&case, "Msg")), &bytes(&case, "S"), &[]);
            let expected = case.get("Result").is_none_or(|result| result.starts_with('P'));
            assert_eq!(worked, Ok(expected), "{case:?}");
            tally.ran += 1;
        }
    }
    tally.done(
        342,
        &[("hash functions that are not offered", 380), ("keys that are too short, which are refused", 228)],
    );
}
