//! Somebody else's public key, archived keys, descriptions and tags of versions, on the wire.

use quorate_core::key_spec::KeySpec;
use quorate_crypto::material::{Material, SignInput};

use super::*;
use crate::support::OsEntropy;

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_on_the_wire() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let (mut admin, mut user) = (keys(&node, Role::Admin).await, keys(&node, Role::User).await);
    let (first, next) = (Material::fresh(KeySpec::Ed25519, &OsEntropy), Material::fresh(KeySpec::Ed25519, &OsEntropy));
    let spki = |key: &quorate_crypto::material::Encoded| Bytes::from(key.public.clone().expect("a pair"));
    let signed = |key: &quorate_crypto::material::Encoded| {
        let pair = Material::read(KeySpec::Ed25519, &key.material).expect("a key");
        Bytes::from(pair.sign(Algorithm::Ed25519, SignInput::Message(b"m"), &[]).expect("signed"))
    };
    let create = |public_key| v1::CreateKeyRequest { alias: "partner".into(), public_key, ..Default::default() };
    let made = admin.create_key(create(spki(&first))).await.unwrap().into_inner().key.unwrap();
    assert_eq!((made.kind.as_str(), made.spec.as_str(), made.origin.as_str()), ("public", "ed25519", "external"));
    assert_eq!((&made.usage[..], made.material_missing), (&["verify".to_owned()][..], false));
    let verify = |version, signature| v1::VerifyRequest {
        key: "partner".into(),
        version,
        input: Some(v1::verify_request::Input::Message(Bytes::from_static(b"m"))),
        signature,
        ..Default::default()
    };
    assert!(user.verify(verify(0, signed(&first))).await.unwrap().into_inner().valid);
    let rotate = |public_key| v1::RotateKeyRequest { key: "partner".into(), public_key, ..Default::default() };
    refused(admin.rotate_key(rotate(Bytes::new())).await, Code::FailedPrecondition, "UNSUPPORTED");
    let rotated = admin.rotate_key(rotate(spki(&next))).await.unwrap().into_inner().key.unwrap();
    assert_eq!(rotated.current_version, 2);
    assert!(user.verify(verify(0, signed(&next))).await.unwrap().into_inner().valid);
    assert!(user.verify(verify(1, signed(&first))).await.unwrap().into_inner().valid);
    let sign = v1::SignRequest {
        key: "partner".into(),
        input: Some(v1::sign_request::Input::Message(Bytes::from_static(b"m"))),
        ..Default::default()
    };
    refused(user.sign(sign).await, Code::InvalidArgument, "WRONG_USAGE");
    let get = v1::GetPublicKeyRequest { key: "partner".into(), version: 1 };
    assert_eq!(user.get_public_key(get).await.unwrap().into_inner().public_key, spki(&first));

    // A private key in its place, or bytes that are none; words that contradict it.
    for (public_key, says) in
        [(Bytes::copy_from_slice(&first.material), "take it for exposed"), (vec![7; 44].into(), "no public key")]
    {
        let request = v1::CreateKeyRequest { public_key, ..Default::default() };
        let status = admin.create_key(request).await.expect_err("refused");
        assert!(status.message().contains(says), "{}", status.message());
        assert_eq!(status.metadata().get(PART_KEY).map(|part| part.to_str().unwrap()), Some("public-key"));
    }
    for request in [
        v1::CreateKeyRequest { origin: "external".into(), ..create(spki(&next)) },
        v1::CreateKeyRequest { spec: "p-256".into(), alias: String::new(), ..create(spki(&next)) },
    ] {
        refused(admin.create_key(request).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_about_keys_and_versions_on_the_wire() {
    let rig = Rig::new();
    let (node, _) = rig.unsealed().await;
    let mut admin = keys(&node, Role::Admin).await;
    let (alias, description) = ("told".to_owned(), "ж".repeat(8192));
    let create = v1::CreateKeyRequest { alias, description: description.clone(), ..Default::default() };
    admin.create_key(create).await.unwrap();
    assert_eq!(admin.describe_key(key("told")).await.unwrap().into_inner().key.unwrap().description, description);
    let list = async |admin: &mut KeysClient<Channel>, states: &[KeyState], archived| {
        let states = states.iter().map(|state| i32::from(*state)).collect();
        let request = v1::ListKeysRequest { states, archived, ..Default::default() };
        admin.list_keys(request).await.unwrap().into_inner().keys
    };
    assert_eq!(list(&mut admin, &[], false).await[0].description, "", "lists leave it out");
    let tag = |name: &str, value: &str| v1::Tag { name: name.into(), value: value.into() };
    let update = v1::UpdateVersionRequest { key: "told".into(), tags: vec![tag("a", "1")], ..Default::default() };
    let version = admin.update_version(update.clone()).await.unwrap().into_inner().version.unwrap();
    assert_eq!(version.tags, [tag("a", "1")]);
    let update = v1::UpdateVersionRequest { tags: vec![], untag: vec!["a".into()], ..update };
    assert_eq!(admin.update_version(update).await.unwrap().into_inner().version.unwrap().tags, []);

    admin.archive_key(key("told")).await.unwrap();
    assert_eq!(list(&mut admin, &[], true).await.len(), 1);
    assert_eq!(list(&mut admin, &[KeyState::Enabled], false).await.len(), 0, "it stands under no other state");
    assert_eq!(list(&mut admin, &[KeyState::Enabled], true).await.len(), 1);
    assert_eq!(list(&mut admin, &[], false).await.len(), 1, "nothing said: all");
}
