//! Keys in a real SoftHSM token: made, found again, used, and refused when they are not what they should be.
//! Each test needs a process of its own, as PKCS#11 state belongs to the process (nextest gives it one).

mod common;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use common::{OsEntropy, Raw, fresh, name, open};
use cryptoki::object::{Attribute, AttributeType};
use quorate_crypto::{HsmAlg, encapsulate, kem_secret};
use quorate_hsm::{Assurance, HsmError, KemChoice, KeyId, KeyRole, KeySelection, TokenProfile};
use rustls::{SignatureAlgorithm, SignatureScheme};
use tokio::time::Instant;

#[test]
fn keys_are_made_once_named_by_their_hash_and_found_again() {
    let (_dir, token) = fresh("t");
    let hsm = open(&token);
    assert_eq!(hsm.assurance(), Assurance::Software);
    assert_eq!(hsm.token().label, "t");
    assert!(matches!(hsm.node_keys(), Err(HsmError::KeysNotLoaded)));
    let missing = hsm.load_node_keys(&name("n1"), &KeySelection::default(), None).expect_err("no keys yet");
    assert!(matches!(&missing, HsmError::KeyMissing { label, id: None } if label == "quorate/n1/kem"), "{missing}");

    let keys = hsm.generate_node_keys(&name("n1"), KemChoice::Probe).expect("made");
    assert_eq!(keys.kem.alg, HsmAlg::P256Ecdh, "SoftHSM has no OAEP with SHA-256, so that the probe finds ECDH");
    assert_eq!(hsm.generate_node_keys(&name("n1"), KemChoice::Probe).expect("again"), keys, "nothing is made twice");
    drop(hsm);

    let hsm = open(&token);
    let select = KeySelection {
        kem: Some(KeyId::of(&keys.kem.spki_der)),
        identity: Some(KeyId::of(&keys.identity)),
        audit: Some(KeyId::of(&keys.audit)),
    };
    for select in [KeySelection::default(), select] {
        assert_eq!(hsm.load_node_keys(&name("n1"), &select, None).expect("found"), keys);
    }
    let other = KeySelection { kem: Some(KeyId([7; 16])), ..select };
    let error = hsm.load_node_keys(&name("n1"), &other, None).expect_err("no such id");
    assert!(matches!(&error, HsmError::KeyMissing { id: Some(id), .. } if *id == "07".repeat(16)), "{error}");
}

#[test]
fn every_private_key_is_bound_to_the_token_and_to_one_use() {
    let (_dir, token) = fresh("t");
    open(&token).generate_node_keys(&name("n1"), KemChoice::Probe).expect("made");
    let raw = Raw::open(&token);
    for (role, usage) in [
        (KeyRole::Kem, AttributeType::Derive),
        (KeyRole::Identity, AttributeType::Sign),
        (KeyRole::Audit, AttributeType::Sign),
    ] {
        let key = raw.private(&role.label(&name("n1")));
        let is = |kind| raw.session.get_attributes(key, &[kind]).expect("readable").pop().expect("set");
        for attribute in [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Local(true),
            Attribute::AlwaysSensitive(true),
            Attribute::NeverExtractable(true),
            Attribute::Sign(usage == AttributeType::Sign),
            Attribute::Derive(usage == AttributeType::Derive),
            Attribute::Decrypt(false),
            Attribute::Unwrap(false),
        ] {
            assert_eq!(is(attribute.attribute_type()), attribute, "{role:?}");
        }
        assert!(raw.session.get_attributes(key, &[AttributeType::Value]).expect("answers").is_empty(), "unreadable");
    }
}

#[test]
fn a_closed_token_is_let_go_before_close_returns() {
    let (_dir, token) = fresh("t");
    let hsm = open(&token);
    hsm.generate_node_keys(&name("n1"), KemChoice::Probe).expect("made");
    let threads = || std::fs::read_dir("/proc/self/task").expect("readable").count();
    let (clone, before) = (hsm.clone(), threads());
    hsm.close();
    assert_eq!(threads(), before - 1, "its thread has ended, whoever still holds a clone");
    assert!(matches!(clone.sign_identity_blocking(b"m", clone.soon()), Err(HsmError::Stopped)));
    clone.close();
    drop((hsm, clone));
    let again = open(&token);
    let before = threads();
    again.load_node_keys(&name("n1"), &KeySelection::default(), None).expect("a new start finds its keys");
    drop(again);
    assert_eq!(threads(), before - 1, "dropping the last handle waits too");
}

#[tokio::test]
async fn both_algorithms_open_what_crypto_seals() {
    for (label, alg) in [("ec", HsmAlg::P256Ecdh), ("rsa", HsmAlg::Rsa3072OaepSha1)] {
        // Two tokens of one SoftHSM, as its environment can't change within a process.
        let (_dir, token) = common::in_shared_environment(label);
        let hsm = open(&token);
        let keys = hsm.generate_node_keys(&name("n1"), KemChoice::Only(alg)).expect("made");
        assert_eq!(keys.kem.alg, alg);
        for _ in 0..20 {
            let (ct_h, sealed) = encapsulate(alg, &keys.kem.spki_der, &OsEntropy).expect("sealed");
            let raw = hsm.decapsulate(&ct_h).await.expect("opened");
            assert!(kem_secret(alg, raw, &ct_h, &keys.kem.spki_der).ct_eq(&sealed));
        }
        hsm.self_test().await.expect("healthy");
    }
}

#[tokio::test]
async fn a_ciphertext_that_is_not_ours_is_refused_and_the_token_goes_on() {
    let (_dir, token) = fresh("t");
    let hsm = open(&token);
    let keys = hsm.generate_node_keys(&name("n1"), KemChoice::Only(HsmAlg::Rsa3072OaepSha1)).expect("made");
    let (good, _) = encapsulate(keys.kem.alg, &keys.kem.spki_der, &OsEntropy).expect("sealed");
    let mut altered = good.clone();
    altered[100] ^= 1;
    for bad in [&altered[..], &good[..383], &[]] {
        let error = hsm.decapsulate(bad).await.err().expect("refused");
        assert!(matches!(error, HsmError::Refused { .. }), "{error:?}");
    }
    hsm.decapsulate(&good).await.expect("still opens what is ours");
}

#[test]
fn algorithms_that_the_token_or_the_policy_lacks_are_refused() {
    let (_dir, token) = fresh("t");
    let mut config = token.config().expect("installed");
    config.profile = TokenProfile::Standard;
    let hsm = quorate_hsm::Hsm::open(&config, token.pin()).expect("open");
    let make = |alg| hsm.generate_node_keys(&name("n1"), KemChoice::Only(alg)).expect_err("refused");
    assert!(matches!(make(HsmAlg::Rsa3072OaepSha1), HsmError::Sha1NotAllowed));
    assert!(matches!(make(HsmAlg::Rsa3072OaepSha256), HsmError::Unsupported { .. }), "SoftHSM can't");
    hsm.generate_node_keys(&name("n1"), KemChoice::Only(HsmAlg::P256Ecdh)).expect("made");
    let error = make(HsmAlg::Rsa3072OaepSha256);
    assert!(matches!(error, HsmError::KeyExists { .. } | HsmError::Unsupported { .. }), "{error}");
}

#[test]
fn signatures_verify_on_every_kind_of_runtime() {
    let (_dir, token) = fresh("t");
    let hsm = open(&token);
    let keys = hsm.generate_node_keys(&name("n1"), KemChoice::Probe).expect("made");
    let verify = |spki: &[u8], signature: &[u8]| {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki).verify(b"message", signature).expect("verifies");
    };
    let blocking = || hsm.sign_identity_blocking(b"message", hsm.soon()).expect("signed");
    verify(&keys.identity, &blocking());
    let one = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
    let many = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
    for runtime in [one, many] {
        runtime.block_on(async {
            verify(&keys.identity, &blocking());
            verify(&keys.identity, &hsm.sign_identity(b"message").await.expect("signed"));
            verify(&keys.audit, &hsm.sign_audit(b"message").await.expect("signed"));
        });
    }
    let late = hsm.sign_identity_blocking(b"message", Instant::now());
    assert!(matches!(late, Err(HsmError::TimedOut)), "a deadline that has passed is kept");
}

#[test]
fn rustls_signs_with_the_identity_key() {
    let (_dir, token) = fresh("t");
    let hsm = open(&token);
    assert!(matches!(hsm.rustls_signing_key(), Err(HsmError::KeysNotLoaded)));
    let keys = hsm.generate_node_keys(&name("n1"), KemChoice::Probe).expect("made");
    let key = hsm.rustls_signing_key().expect("loaded");
    assert_eq!(key.algorithm(), SignatureAlgorithm::ECDSA);
    assert_eq!(key.public_key().expect("known").as_ref(), keys.identity);
    assert!(key.choose_scheme(&[SignatureScheme::ED25519, SignatureScheme::ECDSA_NISTP384_SHA384]).is_none());
    let signer = key.choose_scheme(&[SignatureScheme::ECDSA_NISTP256_SHA256]).expect("offered");
    let signature = signer.sign(b"transcript").expect("signed");
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, &keys.identity)
        .verify(b"transcript", &signature)
        .expect("verifies");
}

#[tokio::test]
async fn random_bytes_come_in_the_number_asked_for() {
    let (_dir, token) = fresh("t");
    let hsm = open(&token);
    for n in [0, 1, 32, 1024] {
        assert_eq!(hsm.random(n).await.expect("given").len(), n);
    }
    assert_ne!(*hsm.random(32).await.expect("given"), *hsm.random(32).await.expect("given"));
    assert!(matches!(hsm.random(1025).await, Err(HsmError::Invalid(_))));
}

#[test]
fn two_keys_with_one_label_must_be_told_apart_by_id() {
    let (_dir, token) = fresh("t");
    let keys = open(&token).generate_node_keys(&name("n1"), KemChoice::Probe).expect("made");
    let raw = Raw::open(&token);
    let second = raw.ec_pair(&KeyRole::Kem.label(&name("n1")), AttributeType::Derive, false);
    drop(raw);
    let hsm = open(&token);
    let error = hsm.load_node_keys(&name("n1"), &KeySelection::default(), None).expect_err("ambiguous");
    assert!(matches!(&error, HsmError::KeyAmbiguous { ids, .. } if ids.len() == 2), "{error}");
    let select = |spki: &[u8]| KeySelection { kem: Some(KeyId::of(spki)), ..KeySelection::default() };
    let loaded = hsm.load_node_keys(&name("n1"), &select(&second), None).expect("named");
    assert_eq!(loaded.kem.spki_der, second);
    // This process uses one set of keys; another process takes the other.
    let error = hsm.load_node_keys(&name("n1"), &select(&keys.kem.spki_der), None).expect_err("one set per process");
    assert!(matches!(error, HsmError::Invalid(_)), "{error}");
}

#[test]
fn a_key_that_could_leave_the_token_is_refused_by_attribute() {
    let (_dir, token) = fresh("t");
    let raw = Raw::open(&token);
    raw.ec_pair(&KeyRole::Kem.label(&name("n1")), AttributeType::Derive, true);
    for role in [KeyRole::Identity, KeyRole::Audit] {
        raw.ec_pair(&role.label(&name("n1")), AttributeType::Sign, false);
    }
    let hsm = open(&token);
    let error = hsm.load_node_keys(&name("n1"), &KeySelection::default(), None).expect_err("extractable");
    assert!(
        matches!(&error, HsmError::AttributeWrong { attribute: "CKA_EXTRACTABLE", found, .. } if found == "true"),
        "{error}"
    );
    // Taking the attribute back is not enough: it was extractable once.
    let key = raw.private(&KeyRole::Kem.label(&name("n1")));
    raw.session.update_attributes(key, &[Attribute::Extractable(false)]).expect("SoftHSM lets this go one way");
    let error = hsm.load_node_keys(&name("n1"), &KeySelection::default(), None).expect_err("was extractable");
    assert!(matches!(&error, HsmError::AttributeWrong { attribute: "CKA_NEVER_EXTRACTABLE", .. }), "{error}");
}

#[test]
fn a_key_for_another_use_is_refused() {
    let (_dir, token) = fresh("t");
    let raw = Raw::open(&token);
    raw.ec_pair(&KeyRole::Kem.label(&name("n1")), AttributeType::Sign, false);
    for role in [KeyRole::Identity, KeyRole::Audit] {
        raw.ec_pair(&role.label(&name("n1")), AttributeType::Sign, false);
    }
    let error = open(&token).load_node_keys(&name("n1"), &KeySelection::default(), None).expect_err("signs");
    assert!(matches!(&error, HsmError::AttributeWrong { attribute: "CKA_DERIVE", .. }), "{error}");
}

#[test]
fn a_key_whose_id_or_public_half_does_not_fit_is_damaged() {
    let (_dir, token) = fresh("t");
    open(&token).generate_node_keys(&name("n1"), KemChoice::Probe).expect("made");
    let raw = Raw::open(&token);
    let label = KeyRole::Audit.label(&name("n1"));
    let hsm = open(&token);
    let damaged = |what: &str| {
        let error = hsm.load_node_keys(&name("n1"), &KeySelection::default(), None).expect_err(what);
        assert!(matches!(&error, HsmError::KeyDamaged { label: l, .. } if *l == label), "{what}: {error}");
    };
    let (private, public) = (raw.private(&label), raw.public(&label));
    raw.session.update_attributes(private, &[Attribute::Id(vec![1; 16])]).expect("set");
    damaged("the halves have different ids");
    raw.session.update_attributes(public, &[Attribute::Id(vec![1; 16])]).expect("set");
    damaged("the id is not the key's hash");
    raw.session.destroy_object(public).expect("destroyed");
    damaged("there is no public half");
}

#[test]
fn keys_that_a_crash_left_unfinished_are_cleared_away() {
    let (_dir, token) = fresh("t");
    let raw = Raw::open(&token);
    let unfinished = format!("{}/new", KeyRole::Kem.label(&name("n1")));
    raw.ec_pair(&unfinished, AttributeType::Derive, false);
    let hsm = open(&token);
    hsm.generate_node_keys(&name("n1"), KemChoice::Probe).expect("made");
    assert_eq!(raw.count(&unfinished), 0);
    assert_eq!(raw.count(&KeyRole::Kem.label(&name("n1"))), 2);
}
