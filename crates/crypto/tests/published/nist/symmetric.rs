use quorate_core::key_spec::{Algorithm, Digest, KeySpec};
use quorate_crypto::material::digest::digest;
use quorate_crypto::material::{Encrypted, GCM_IV_LEN, GCM_TAG_LEN};

use super::{bytes, cases, text};
use crate::{Fixed, Tally, aes, key};

#[test]
fn digests() {
    let mut ran = 0;
    for by in Digest::ALL {
        let family = if *by == Digest::Sha1 { "SHA1" } else { "SHA2" };
        for kind in ["Short", "Long"] {
            for case in cases(&format!("hashes/{family}/{}{kind}Msg.rsp", by.as_str().to_uppercase()), &["MD"]) {
                let mut message = bytes(&case, "Msg");
                message.truncate(text(&case, "Len").parse::<usize>().unwrap() / 8);
                assert_eq!(digest(*by, &message), bytes(&case, "MD"));
                ran += 1;
            }
        }
    }
    assert_eq!(ran, 901);
}

#[test]
fn hmac_and_cmac() {
    let mut tally = Tally::default();
    for (file, spec) in [
        ("HMAC/rfc-2202-sha1.txt", KeySpec::HmacSha1),
        ("HMAC/rfc-4231-sha224.txt", KeySpec::HmacSha224),
        ("HMAC/rfc-4231-sha256.txt", KeySpec::HmacSha256),
        ("HMAC/rfc-4231-sha384.txt", KeySpec::HmacSha384),
        ("HMAC/rfc-4231-sha512.txt", KeySpec::HmacSha512),
    ] {
        for case in cases(file, &["MD"]) {
            let Some(material) = key(spec, &bytes(&case, "Key")) else {
                tally.skip("keys that are too short or too long");
                continue;
            };
            let by = spec.as_str().parse().unwrap();
            assert_eq!(material.mac(by, &bytes(&case, "Msg")), Ok(bytes(&case, "MD")));
            assert_eq!(material.verify_mac(by, &bytes(&case, "Msg"), &bytes(&case, "MD")), Ok(true));
            tally.ran += 1;
        }
    }
    for bits in [128, 192, 256] {
        for case in cases(&format!("CMAC/nist-800-38b-aes{bits}.txt"), &["OUTPUT"]) {
            let material = aes(&bytes(&case, "KEY")).unwrap();
            assert_eq!(material.mac(Algorithm::AesCmac, &bytes(&case, "MESSAGE")), Ok(bytes(&case, "OUTPUT")));
            tally.ran += 1;
        }
    }
    tally.done(30, &[("keys that are too short or too long", 13)]);
}

#[test]
fn aes_cbc() {
    let mut ran = 0;
    for kind in ["GFSbox", "KeySbox", "MMT", "VarKey", "VarTxt"] {
        for (bits, order) in [128, 192, 256].into_iter().flat_map(|bits| [(bits, "ENCRYPT"), (bits, "DECRYPT")]) {
            let last = if order == "ENCRYPT" { "CIPHERTEXT" } else { "PLAINTEXT" };
            for case in cases(&format!("ciphers/AES/CBC/CBC{kind}{bits}.rsp"), &[last]) {
                if text(&case, "section") != order {
                    continue;
                }
                let (material, plaintext) = (aes(&bytes(&case, "KEY")).unwrap(), bytes(&case, "PLAINTEXT"));
                let made = material.encrypt(Algorithm::AesCbc, &plaintext, Some(&bytes(&case, "IV")), &[], &Fixed);
                let made = made.unwrap();
                assert_eq!(made.ciphertext, bytes(&case, "CIPHERTEXT"));
                assert_eq!(material.decrypt(Algorithm::AesCbc, &made, &[]).unwrap()[..], plaintext);
                ran += 1;
            }
        }
    }
    assert_eq!(ran, 2138);
}

#[test]
fn aes_gcm() {
    let mut tally = Tally::default();
    let by = Algorithm::AesGcm;
    for (file, last) in [("gcmEncryptExtIV", &["Tag"][..]), ("gcmDecrypt", &["PT", "FAIL"])] {
        for case in [128, 192, 256].iter().flat_map(|bits| cases(&format!("ciphers/AES/GCM/{file}{bits}.rsp"), last)) {
            let (iv, tag, aad) = (bytes(&case, "IV"), bytes(&case, "Tag"), bytes(&case, "AAD"));
            let (material, given) =
                (aes(&bytes(&case, "Key")).unwrap(), Encrypted { iv, ciphertext: bytes(&case, "CT"), tag });
            if given.iv.len() != GCM_IV_LEN || given.tag.len() != GCM_TAG_LEN {
                assert!(crate::is_refusal(&material.decrypt(by, &given, &aad)));
                tally.skip("IVs and tags of other lengths, which are refused");
                continue;
            }
            let opened = material.decrypt(by, &given, &aad).ok();
            assert_eq!(opened.as_ref().map(|opened| opened.to_vec()), case.get("PT").map(|_| bytes(&case, "PT")));
            if let Some(plaintext) = opened {
                assert_eq!(material.encrypt(by, &plaintext, Some(&given.iv), &aad, &Fixed), Ok(given));
            }
            tally.ran += 1;
        }
    }
    tally.done(2250, &[("IVs and tags of other lengths, which are refused", 45000)]);
}

#[test]
fn aes_key_wrap() {
    let mut ran = 0;
    for (mode, by) in [("KW", Algorithm::AesKw), ("KWP", Algorithm::AesKwp)] {
        for bits in [128, 192, 256] {
            for case in cases(&format!("keywrap/kwtestvectors/{mode}_AE_{bits}.txt"), &["C"]) {
                let material = aes(&bytes(&case, "K")).unwrap();
                assert_eq!(material.wrap(by, &bytes(&case, "P"), &Fixed), Ok(bytes(&case, "C")));
                ran += 1;
            }
            for case in cases(&format!("keywrap/kwtestvectors/{mode}_AD_{bits}.txt"), &["P", "FAIL"]) {
                let unwrapped = aes(&bytes(&case, "K")).unwrap().unwrap(by, &bytes(&case, "C")).ok();
                assert_eq!(unwrapped.map(|key| key.to_vec()), case.get("P").map(|_| bytes(&case, "P")));
                ran += 1;
            }
        }
    }
    assert_eq!(ran, 6000);
}
