//! Every kind of key does what it is for at the desk, through every way of doing it, and nothing else.

use quorate_core::id::KeyVersion;
use quorate_core::key_spec::{Algorithm, KeySpec, Purpose};

use super::*;
use crate::operation::*;

impl Rig {
    async fn kind(&self, spec: KeySpec, purpose: Purpose, by: Option<Algorithm>) -> KeyHandle {
        let kind = NewKind::new(spec, Some(purpose), by).unwrap();
        let wanted = Create { kind, ..wanted(None, None) };
        id(self.kms.create_key(&admin(), &wanted, soon()).await.unwrap().id)
    }
}

fn by(key: &KeyHandle, algorithm: Option<Algorithm>) -> By {
    By { key: key.clone(), version: None, algorithm }
}
fn message() -> Input {
    Input::Message(Bytes::from_static(b"message"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_signature_verifies_and_no_other_does() {
    let rig = Rig::new().await;
    let call = call(&user(), soon());
    let (context, kms) = (Bytes::new(), &rig.kms);
    for spec in KeySpec::ALL.iter().filter(|spec| spec.purposes().contains(&Purpose::Sign)) {
        let key = rig.kind(*spec, Purpose::Sign, None).await;
        for algorithm in spec.algorithms(Usage::Sign) {
            let (by, input) = (|| by(&key, Some(*algorithm)), message);
            let made = kms.perform(&call, Sign { by: by(), input: input(), context: context.clone() }).await.unwrap();
            assert_eq!((made.used.algorithm, id(made.used.key)), (*algorithm, key.clone()));
            let verify = async |input: Input, signature: &[u8]| {
                let signature = Bytes::copy_from_slice(signature);
                let wanted = Verify { by: by(), input, context: context.clone(), signature };
                kms.perform(&call, wanted).await.map(|answer| answer.valid)
            };
            assert!(verify(input(), &made.signature).await.unwrap(), "{spec:?} {algorithm:?}");
            assert!(!verify(Input::Message(Bytes::from_static(b"other")), &made.signature).await.unwrap());
            let mut bad = made.signature.clone();
            *bad.last_mut().unwrap() ^= 1;
            assert!(!verify(input(), &bad).await.unwrap() && !verify(input(), b"").await.unwrap());
            // A digest of another length is no digest.
            if *algorithm != Algorithm::Ed25519 {
                let short = Input::Digest(Bytes::from_static(&[7; 31]));
                refused(verify(short, &made.signature).await, Reason::InvalidArgument);
            }
        }
        let wrong = Sign { by: by(&key, Some(Algorithm::AesGcm)), input: message(), context: context.clone() };
        let said = refused(kms.perform(&call, wrong).await, Reason::WrongAlgorithm);
        assert!(said.contains(spec.algorithms(Usage::Sign)[0].as_str()), "{said}");
        refused(kms.encrypt(&user(), &key, b"x", &no_aad(), soon()).await, Reason::WrongUsage);
        let public = kms.perform(&call, GetPublicKey { key, version: None }).await.unwrap();
        assert_eq!(quorate_crypto::material::PublicKey::parse(&public.spki).unwrap().spec(), *spec);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mode_decrypts_what_it_encrypted_and_nothing_else() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    // Each by its own deadline: there are many.
    let call = || call(&user(), soon());
    for spec in KeySpec::ALL.iter().filter(|spec| spec.purposes().contains(&Purpose::Encrypt)) {
        for algorithm in spec.algorithms(Usage::Encrypt) {
            let key = rig.kind(*spec, Purpose::Encrypt, Some(*algorithm)).await;
            let bound = || match algorithm {
                Algorithm::AesGcm => Binding { aad: Bytes::from_static(b"aad"), ..Binding::default() },
                Algorithm::Blob => Binding { context: aad(&[("a", "b")]), ..Binding::default() },
                _ => Binding::default(),
            };
            let plaintext = Bytes::from_static(&[7; 32]);
            let wanted = Encrypt { by: by(&key, Some(*algorithm)), plaintext: plaintext.clone(), bound: bound() };
            let made = kms.perform(&call(), wanted).await.unwrap();
            let algorithm = Some(*algorithm);
            let keys = vec![key.clone()];
            let apart = Given {
                ciphertext: made.ciphertext.clone().into(),
                iv: made.iv.clone().into(),
                tag: made.tag.clone().into(),
                bound: bound(),
                keys: keys.clone(),
                algorithm,
                version: None,
            };
            let whole: Bytes = [&made.iv[..], &made.ciphertext, &made.tag].concat().into();
            let together = |whole: Bytes| Given {
                ciphertext: whole,
                bound: bound(),
                keys: keys.clone(),
                algorithm,
                ..Given::default()
            };
            for given in [apart, together(whole.clone())] {
                let opened = kms.perform(&call(), Decrypt::new(given).unwrap()).await.unwrap();
                assert_eq!(opened.plaintext[..], plaintext[..], "{spec:?} {algorithm:?}");
            }
            // CBC alone is not authenticated: a changed one may open to something else.
            if !matches!(algorithm, Some(Algorithm::AesCbc | Algorithm::AesCbcPad)) {
                let mut bad = whole.to_vec();
                *bad.last_mut().unwrap() ^= 1;
                refused(kms.perform(&call(), Decrypt::new(together(bad.into())).unwrap()).await, Reason::Tampered);
            }
            let short = Decrypt::new(together(Bytes::from_static(b"short")));
            if let Ok(short) = short {
                let error = kms.perform(&call(), short).await.err().expect("refused");
                assert!(matches!(error.reason(), Reason::InvalidArgument | Reason::Tampered), "{error}");
            }
        }
    }
    let key = rig.kind(KeySpec::Aes128, Purpose::Encrypt, None).await;
    let pairs = Encrypt {
        by: by(&key, None),
        plaintext: Bytes::new(),
        bound: Binding { context: aad(&[("a", "b")]), ..Binding::default() },
    };
    refused(kms.perform(&call(), pairs).await, Reason::InvalidArgument);
    // One key, one family: who may encrypt in CBC could decrypt GCM.
    let other =
        Encrypt { by: by(&key, Some(Algorithm::AesCbcPad)), plaintext: Bytes::new(), bound: Binding::default() };
    assert!(refused(kms.perform(&call(), other).await, Reason::WrongAlgorithm).contains("aes-gcm"));
    let nameless = Given { ciphertext: Bytes::from_static(&[0; 64]), ..Given::default() };
    assert!(Decrypt::new(nameless).is_err(), "it names no key, and nobody else does");
}

#[tokio::test(flavor = "multi_thread")]
async fn codes_wraps_and_shared_secrets() {
    let rig = Rig::new().await;
    let (call, kms) = (call(&user(), soon()), &rig.kms);
    for spec in KeySpec::ALL {
        for purpose in spec.purposes() {
            let algorithm = spec.algorithm(purpose.usages().iter().next().unwrap());
            match purpose {
                Purpose::Mac => {
                    let key = rig.kind(*spec, *purpose, None).await;
                    let message = Bytes::from_static(b"m");
                    let made =
                        kms.perform(&call, MakeMac { by: by(&key, None), message: message.clone() }).await.unwrap();
                    let valid = async |message: Bytes, mac: &[u8]| {
                        let wanted = VerifyMac { by: by(&key, algorithm), message, mac: Bytes::copy_from_slice(mac) };
                        kms.perform(&call, wanted).await.unwrap().valid
                    };
                    assert!(valid(message.clone(), &made.mac).await, "{spec:?}");
                    assert!(!valid(Bytes::from_static(b"n"), &made.mac).await);
                    assert!(!valid(message, &made.mac[..made.mac.len() - 1]).await, "a part is not the whole");
                }
                Purpose::Wrap => {
                    let key = rig.kind(*spec, *purpose, None).await;
                    let secret = Bytes::from_static(&[9; 32]);
                    let made = kms.perform(&call, Wrap { by: by(&key, None), key: secret.clone() }).await.unwrap();
                    let opened =
                        kms.perform(&call, Unwrap { by: by(&key, None), wrapped: made.wrapped.into() }).await.unwrap();
                    assert_eq!(opened.key[..], secret[..], "{spec:?}");
                    // What is wrapped, at its longest, can be had back.
                    if algorithm == Some(Algorithm::AesKwp) {
                        let longest = Bytes::from(vec![9; quorate_core::request::PLAINTEXT_LEN_MAX]);
                        let wrap = Wrap { by: by(&key, None), key: longest.clone() };
                        let made = kms.perform(&call, wrap).await.unwrap();
                        let unwrap = Unwrap { by: by(&key, None), wrapped: made.wrapped.into() };
                        assert_eq!(kms.perform(&call, unwrap).await.unwrap().key[..], longest[..]);
                        let longer = Wrap { by: by(&key, None), key: vec![9; longest.len() + 1].into() };
                        refused(kms.perform(&call, longer).await, Reason::TooLarge);
                    }
                    let junk = Unwrap { by: by(&key, None), wrapped: Bytes::from_static(&[1; 40]) };
                    refused(kms.perform(&call, junk).await, Reason::Tampered);
                }
                Purpose::Agree => {
                    let (a, b) = (rig.kind(*spec, *purpose, None).await, rig.kind(*spec, *purpose, None).await);
                    let public = async |key: &KeyHandle| {
                        let found = kms.perform(&call, GetPublicKey { key: key.clone(), version: None }).await.unwrap();
                        quorate_crypto::material::PublicKey::parse(&found.spki).unwrap()
                    };
                    let agree =
                        async |key: &KeyHandle, peer| kms.perform(&call, Agree { by: by(key, None), peer }).await;
                    let one = agree(&a, public(&b).await).await.unwrap();
                    let other = agree(&b, public(&a).await).await.unwrap();
                    assert_eq!(one.secret, other.secret, "{spec:?}");
                    let foreign = if *spec == KeySpec::P256 { KeySpec::P384 } else { KeySpec::P256 };
                    let foreign = public(&rig.kind(foreign, *purpose, None).await).await;
                    refused(agree(&a, foreign).await, Reason::InvalidArgument);
                }
                Purpose::Encapsulate => {
                    let key = rig.kind(*spec, *purpose, None).await;
                    let made = kms.perform(&call, Encapsulate { by: by(&key, None) }).await.unwrap();
                    let open = async |ciphertext: Vec<u8>| {
                        kms.perform(&call, Decapsulate { by: by(&key, None), ciphertext: ciphertext.into() }).await
                    };
                    assert_eq!(open(made.ciphertext.clone()).await.unwrap().secret, made.secret, "{spec:?}");
                    refused(open(made.ciphertext[1..].to_vec()).await, Reason::InvalidArgument);
                }
                Purpose::Sign | Purpose::Encrypt | Purpose::Derive => {}
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn data_key_pairs_and_re_encryption() {
    let rig = Rig::new().await;
    let (call, kms) = (call(&user(), soon()), &rig.kms);
    let key = id(rig.key().await);
    let pair = |spec, with_plaintext| GenerateDataKeyPair { key: key.clone(), spec, context: no_aad(), with_plaintext };
    let made = kms.perform(&call, pair(KeySpec::P256, true)).await.unwrap();
    let opened = kms.decrypt(&user(), &made.ciphertext, &no_aad(), None, soon()).await.unwrap();
    assert_eq!(Some(&opened.plaintext), made.plaintext.as_ref());
    let private = quorate_crypto::material::Material::import(KeySpec::P256, &opened.plaintext).unwrap();
    assert_eq!(private.public.as_deref(), Some(&made.public[..]));
    assert!(kms.perform(&call, pair(KeySpec::Ed25519, false)).await.unwrap().plaintext.is_none());
    refused(kms.perform(&call, pair(KeySpec::Aes256, true)).await, Reason::InvalidArgument);

    let to = id(rig.key().await);
    let old = kms.encrypt(&user(), &key, b"text", &aad(&[("a", "1")]), soon()).await.unwrap().ciphertext;
    kms.rotate_key(&admin(), &Rotate { key: to.clone(), token: None }, soon()).await.unwrap();
    let anew = |context, expected| {
        ReEncrypt::new(old.clone().into(), context, expected, to.clone(), aad(&[("b", "2")])).unwrap()
    };
    let made = kms.perform(&call, anew(aad(&[("a", "1")]), vec![key.clone()])).await.unwrap();
    assert_eq!((id(made.from.key), id(made.to.key), made.to.version), (key, to.clone(), KeyVersion::new(2).unwrap()));
    let opened = kms.decrypt(&user(), &made.ciphertext, &aad(&[("b", "2")]), Some(&to), soon()).await.unwrap();
    assert_eq!(opened.plaintext[..], b"text"[..]);
    refused(kms.perform(&call, anew(no_aad(), vec![])).await, Reason::Tampered);
    refused(kms.perform(&call, anew(aad(&[("a", "1")]), vec![to.clone()])).await, Reason::WrongKey);
    kms.disable_key(&admin(), &to, soon()).await.unwrap();
    refused(kms.perform(&call, anew(aad(&[("a", "1")]), vec![])).await, Reason::KeyDisabled);
}

/// A ciphertext may be of any key that is expected, and of none besides.
#[tokio::test(flavor = "multi_thread")]
async fn only_keys_that_are_expected_open_a_ciphertext() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let keys = [id(rig.key().await), id(rig.key().await), id(rig.key().await)];
    let blob = kms.encrypt(&user(), &keys[1], b"x", &no_aad(), soon()).await.unwrap().ciphertext;
    let open = async |expected: &[KeyHandle]| {
        let given = Given { ciphertext: blob.clone().into(), keys: expected.to_vec(), ..Given::default() };
        kms.perform(&call(&user(), soon()), Decrypt::new(given)?).await
    };
    assert!(open(&[]).await.is_ok() && open(&keys).await.is_ok() && open(&keys[1..]).await.is_ok());
    assert!(refused(open(&[keys[0].clone(), keys[2].clone()]).await, Reason::WrongKey).contains("one of the 2 keys"));
    refused(open(&keys[..1]).await, Reason::WrongKey);
    refused(open(&[named("nobody"), keys[1].clone()]).await, Reason::NotFound);
    refused(open(&vec![keys[1].clone(); 17]).await, Reason::InvalidArgument);
}

/// Where a signature does not name its version, an older one goes on signing when it is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotated_signing_key_keeps_its_older_versions() {
    let rig = Rig::new().await;
    let (call, kms) = (call(&user(), soon()), &rig.kms);
    let key = rig.kind(KeySpec::Ed25519, Purpose::Sign, None).await;
    let sign = async |version: Option<u32>| {
        let by = By { key: key.clone(), version: version.and_then(KeyVersion::new), algorithm: None };
        kms.perform(&call, Sign { by, input: message(), context: Bytes::new() }).await
    };
    let first = sign(None).await.unwrap();
    kms.rotate_key(&admin(), &Rotate { key: key.clone(), token: None }, soon()).await.unwrap();
    let second = sign(None).await.unwrap();
    assert_eq!((first.used.version.get(), second.used.version.get()), (1, 2));
    assert_eq!(sign(Some(1)).await.unwrap().signature, first.signature, "Ed25519 is deterministic");
    refused(sign(Some(3)).await, Reason::NotFound);
    let public = async |version| {
        let wanted = GetPublicKey { key: key.clone(), version: KeyVersion::new(version) };
        kms.perform(&call, wanted).await.unwrap().spki
    };
    assert_eq!((public(0).await, public(1).await == public(2).await), (public(2).await, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_derived_the_same_each_time() {
    let rig = Rig::new().await;
    let (call, kms) = (call(&user(), soon()), &rig.kms);
    for spec in [KeySpec::Aes256, KeySpec::HmacSha256] {
        let mut all = Vec::new();
        for algorithm in spec.algorithms(Usage::Derive) {
            let key = rig.kind(spec, Purpose::Derive, Some(*algorithm)).await;
            let derive = async |info: &'static [u8], iterations, len| {
                let (by, digest) = (by(&key, Some(*algorithm)), quorate_core::key_spec::Digest::Sha256);
                let wanted = DeriveKey { by, digest, info: Bytes::from_static(info), iterations, len };
                kms.perform(&call, wanted).await.map(|derived| derived.key.to_vec())
            };
            let iterations = if *algorithm == Algorithm::Pbkdf2 { 2 } else { 0 };
            let info: &'static [u8] = if *algorithm == Algorithm::DeriveHash { b"" } else { b"what for" };
            let made = derive(info, iterations, 32).await.unwrap();
            assert_eq!(derive(info, iterations, 32).await.unwrap(), made, "{algorithm:?}");
            all.push(made);
            refused(derive(info, iterations, 0).await, Reason::InvalidArgument);
            refused(derive(info, 1 - iterations.min(1), 32).await, Reason::InvalidArgument);
            if matches!(algorithm, Algorithm::DeriveHmac | Algorithm::DeriveHash) {
                refused(derive(info, 0, 33).await, Reason::TooLarge);
            }
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4, "no two methods, or keys, come to the same");
    }
    let sha = MakeDigest { by: quorate_core::key_spec::Digest::Sha256, message: Bytes::from_static(b"abc") };
    assert_eq!(kms.perform(&call, sha).await.unwrap()[..4], [0xba, 0x78, 0x16, 0xbf]);
}

/// Each of many is judged by itself, at one index.
#[tokio::test(flavor = "multi_thread")]
async fn many_uses_with_one_request_each_succeed_or_fail_by_themselves() {
    let rig = Rig::new().await;
    let (call, kms) = (call(&user(), soon()), &rig.kms);
    let (key, off) = (id(rig.key().await), id(rig.key().await));
    kms.disable_key(&admin(), &off, soon()).await.unwrap();
    let encrypt = |key: &KeyHandle, n: u8| Encrypt {
        by: By::key(key.clone()),
        plaintext: Bytes::copy_from_slice(&[n]),
        bound: Binding::default(),
    };
    let parts = (0..100).map(|n| if n == 7 { encrypt(&off, n) } else { encrypt(&key, n) }).collect();
    let made = kms.perform(&call, Many::new(parts).unwrap()).await.unwrap();
    let (mut blobs, mut failed) = (Vec::new(), Vec::new());
    for (n, part) in made.into_iter().enumerate() {
        match part {
            Ok(part) => blobs.push((n as u8, part.ciphertext)),
            Err(e) => failed.push((n, e.reason())),
        }
    }
    assert_eq!((blobs.len(), failed), (99, vec![(7, Reason::KeyDisabled)]));
    let decrypt =
        |blob: &[u8]| Decrypt::new(Given { ciphertext: Bytes::copy_from_slice(blob), ..Given::default() }).unwrap();
    let mut parts: Vec<_> = blobs.iter().map(|(_, blob)| decrypt(blob)).collect();
    let mut bad = blobs[0].1.clone();
    *bad.last_mut().unwrap() ^= 1;
    parts.push(decrypt(&bad));
    let opened = kms.perform(&call, Many::new(parts).unwrap()).await.unwrap();
    for ((n, _), part) in blobs.iter().zip(&opened) {
        assert_eq!(part.as_ref().unwrap().plaintext[..], [*n]);
    }
    assert_eq!(opened.last().unwrap().as_ref().err().map(Error::reason), Some(Reason::Tampered));
    refused(kms.perform(&call, Many::new(vec![encrypt(&off, 1)]).unwrap()).await, Reason::KeyDisabled);
    let nobody = super::call(&as_role(Role::Auditor), soon());
    refused(kms.perform(&nobody, Many::new(vec![encrypt(&key, 1), encrypt(&key, 2)]).unwrap()).await, Reason::Denied);
    assert!(Many::<Encrypt>::new(Vec::new()).is_err());
    assert!(Many::new((0..501).map(|_| encrypt(&key, 1)).collect()).is_err());
}
