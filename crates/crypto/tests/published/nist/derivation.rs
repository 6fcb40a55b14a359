use quorate_core::key_spec::Digest;
use quorate_crypto::material::Derivation;
use quorate_crypto::material::derive::derive;

use super::{bytes, cases, text};
use crate::Tally;

/// SP 800-108, counter mode with HMAC.
#[test]
fn kbkdf() {
    let mut tally = Tally::default();
    for case in cases("KDF/nist-800-108-KBKDF-CTR.txt", &["KO"]) {
        let digest = match text(&case, "PRF") {
            "HMAC_SHA224" => Digest::Sha224,
            "HMAC_SHA256" => Digest::Sha256,
            "HMAC_SHA384" => Digest::Sha384,
            "HMAC_SHA512" => Digest::Sha512,
            _ => {
                tally.skip("HMAC with SHA-1, and CMAC, which are not offered");
                continue;
            }
        };
        if (text(&case, "CTRLOCATION"), text(&case, "RLEN")) != ("BEFORE_FIXED", "32_BITS") {
            tally.skip("counters of other lengths, or elsewhere");
            continue;
        }
        let (info, key) = (bytes(&case, "FixedInputData"), bytes(&case, "KO"));
        let len = text(&case, "L").parse::<usize>().unwrap() / 8;
        assert_eq!(derive(&bytes(&case, "KI"), &Derivation::Kbkdf { digest, info: &info }, len).unwrap()[..], key);
        tally.ran += 1;
    }
    tally.done(
        160,
        &[
            ("HMAC with SHA-1, and CMAC, which are not offered", 2880),
            ("counters of other lengths, or elsewhere", 1760),
        ],
    );
}

#[test]
fn pbkdf2() {
    let mut tally = Tally::default();
    for case in cases("KDF/rfc-6070-PBKDF2-SHA1.txt", &["DERIVED_KEY"]) {
        let plain = |name| text(&case, name).replace("\\0", "\0").into_bytes();
        let (salt, iterations) = (plain("SALT"), text(&case, "ITERATIONS").parse().unwrap());
        if iterations > 1_000_000 {
            tally.skip("more iterations than are allowed");
            continue;
        }
        let by = Derivation::Pbkdf2 { digest: Digest::Sha1, salt: &salt, iterations };
        let key = derive(&plain("PASSWORD"), &by, text(&case, "LENGTH").parse().unwrap());
        assert_eq!(key.unwrap()[..], bytes(&case, "DERIVED_KEY"));
        tally.ran += 1;
    }
    tally.done(5, &[("more iterations than are allowed", 1)]);
}
