use super::*;

#[test]
fn numbers_and_words_name_one_of_each() {
    for (n, spec) in KeySpec::ALL.iter().enumerate() {
        assert_eq!(KeySpec::from_code(spec.code()), Some(*spec));
        assert_eq!(spec.as_str().parse(), Ok(*spec));
        assert!(KeySpec::ALL[..n].iter().all(|other| other.code() != spec.code()));
    }
    assert_eq!(KeySpec::from_code(0), None);
    for usage in Usage::ALL {
        assert_eq!((*usage as u32).count_ones(), 1);
        assert_eq!(Usage::ALL.iter().filter(|other| other.as_str() == usage.as_str()).count(), 1);
    }
    assert!(Purpose::ALL.iter().all(|purpose| purpose.as_str().parse() == Ok(*purpose)));
    assert!(Algorithm::ALL.iter().all(|algorithm| algorithm.as_str().parse() == Ok(*algorithm)));
    assert!(Digest::ALL.iter().all(|digest| digest.as_str().parse() == Ok(*digest)));
}

#[test]
fn what_is_no_such_word_is_told_what_there_is() {
    let refused = "aes-512".parse::<KeySpec>().unwrap_err();
    assert_eq!(refused.part(), Part::Spec);
    let said = refused.to_string();
    assert!(said.starts_with("\"aes-512\" is no key spec; there are: aes-256, aes-128, "), "{said}");
    assert!(said.ends_with("ml-kem-768, ml-kem-1024"), "{said}");
    let refused = "Encrypt".parse::<Purpose>().unwrap_err();
    let said = "\"Encrypt\" is no usage; there are: encrypt, sign, mac, agree, wrap, encapsulate, derive";
    assert_eq!((refused.part(), &*refused.to_string()), (Part::Usage, said));
    assert_eq!("AES_GCM".parse::<Algorithm>().unwrap_err().part(), Part::Algorithm);
    let said = "md5".parse::<Digest>().unwrap_err().to_string();
    assert_eq!(said, "\"md5\" is no algorithm; there are: sha1, sha224, sha256, sha384, sha512");
}

#[test]
fn a_usage_and_its_opposite_go_by_the_same_algorithms() {
    for spec in KeySpec::ALL {
        assert!(spec.usages().iter().eq(Usage::ALL.iter().copied().filter(|usage| spec.algorithm(*usage).is_some())));
        for usage in Usage::ALL {
            assert_eq!(spec.usages().contains(*usage), spec.purposes().contains(&usage.purpose()));
            let algorithms = spec.algorithms(*usage);
            assert!(algorithms.iter().all(|one| spec.fits(*usage, *one)));
            assert!(algorithms.iter().enumerate().all(|(n, one)| !algorithms[..n].contains(one)), "{spec:?} {usage:?}");
        }
    }
    let of = |spec: KeySpec, usage| spec.algorithm(usage).map(Algorithm::as_str);
    assert_eq!(of(KeySpec::DEFAULT, Usage::Encrypt), Some("blob"));
    assert_eq!(of(KeySpec::Aes128, Usage::Decrypt), Some("aes-gcm"));
    assert_eq!(of(KeySpec::P384, Usage::Sign), Some("ecdsa-sha384"));
    assert_eq!(of(KeySpec::X25519, Usage::Sign), None);
    assert!(!KeySpec::Aes192.fits(Usage::Encrypt, Algorithm::Blob));
    assert!(!KeySpec::P256.fits(Usage::Sign, Algorithm::EcdsaSha384));
}

#[test]
fn material_is_as_long_as_its_kind_says() {
    assert_eq!(KeySpec::Aes192.material_lens(), Some(24..=24));
    assert_eq!(KeySpec::HmacSha384.material_len(), Some(48));
    assert_eq!(KeySpec::HmacSha384.material_lens(), Some(14..=128));
    for spec in KeySpec::ALL {
        assert_eq!(spec.material_len().is_none(), spec.kind() == Kind::Pair);
        assert!(spec.material_len().is_none_or(|len| spec.material_lens().is_some_and(|lens| lens.contains(&len))));
    }
}

#[test]
fn a_set_of_usages_is_kmips_mask() {
    assert_eq!(Purpose::Encrypt.usages().bits(), 0xc);
    assert_eq!(Purpose::Sign.usages().bits(), 0x3);
    assert_eq!(Purpose::Mac.usages().bits(), 0x180);
    assert_eq!(KeySpec::Rsa2048.usages().bits(), 0x3f);
    assert_eq!(Usages::from_bits(0xc), Some(Purpose::Encrypt.usages()));
    // Export, which is no usage here, and a bit that nobody has given a meaning.
    assert_eq!((Usages::from_bits(0x40), Usages::from_bits(0x8000_0000)), (None, None));
    let set: Usages = [Usage::Verify, Usage::Sign].into_iter().collect();
    assert!(set.iter().eq([Usage::Sign, Usage::Verify]));
    assert!(set.contains_all(Usage::Sign.into()) && !Usages::from(Usage::Sign).contains_all(set));
    assert!(set.contains(Usage::Verify) && !set.contains(Usage::Encrypt) && Usages::default().is_empty());
}

#[test]
fn what_fips_mode_has() {
    let without: Vec<_> = KeySpec::ALL.iter().filter(|spec| !spec.fips()).map(|spec| spec.as_str()).collect();
    assert_eq!(without, ["hmac-sha1", "secp256k1", "x25519"]);
    let without: Vec<_> = Algorithm::ALL.iter().filter(|one| !one.fips()).map(|one| one.as_str()).collect();
    assert_eq!(without, ["hmac-sha1", "rsa-oaep-sha1", "rsa-aes-kwp-sha1"]);
}
