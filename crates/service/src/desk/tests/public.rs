//! Somebody else's public key: what it does, what it is refused, and what becomes of it.

use quorate_core::decide::{
    DeleteMaterial, DestroyVersion, Enable, PublicPart, Rekey, Revocation, Revoke, RotateTo, SetRotation,
};
use quorate_core::id::KeyVersion;
use quorate_core::key_spec::{Algorithm, Kind, Purpose};
use quorate_core::lifecycle::{KeyState, VersionState};
use quorate_core::record::Exportable;
use quorate_core::request::RotationPeriod;
use quorate_crypto::material::{Encoded, Material, PublicKey, SignInput};

use super::import::fresh;
use super::*;
use crate::operation::*;

fn theirs(key: &Encoded) -> PublicPart {
    PublicKey::parse(key.public.as_ref().unwrap()).unwrap().part()
}
fn alone(key: &Encoded, purpose: Purpose) -> Create {
    let public = theirs(key);
    let kind = NewKind::new(public.spec, Some(purpose), None).unwrap();
    let description = "theirs".parse().unwrap();
    Create { kind, description, source: Source::Public(public), ..wanted(None, None) }
}
fn message() -> Input {
    Input::Message(Bytes::from_static(b"m"))
}
fn signed(spec: KeySpec, key: &Encoded) -> Bytes {
    let by = spec.algorithm(Usage::Sign).unwrap();
    let pair = Material::read(spec, &key.material).unwrap();
    pair.sign(by, SignInput::Message(b"m"), &[]).unwrap().into()
}

impl Rig {
    async fn verified(&self, key: &KeyHandle, version: Option<u32>, signature: &Bytes) -> Result<bool, Error> {
        let by = By { version: version.and_then(KeyVersion::new), ..By::key(key.clone()) };
        let wanted = Verify { by, input: message(), context: Bytes::new(), signature: signature.clone() };
        self.kms.perform(&call(&user(), soon()), wanted).await.map(|answer| answer.valid)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_does_what_takes_no_private_half() {
    let rig = Rig::new().await;
    let (kms, call) = (&rig.kms, call(&user(), soon()));
    for spec in KeySpec::ALL.iter().filter(|spec| spec.purposes().contains(&Purpose::Sign)) {
        if matches!(spec, KeySpec::Rsa3072 | KeySpec::Rsa4096) {
            continue;
        }
        let pair = fresh(*spec);
        let key = rig.made(alone(&pair, Purpose::Sign)).await;
        let signature = signed(*spec, &pair);
        assert!(rig.verified(&key, None, &signature).await.unwrap(), "{spec:?}");
        assert!(!rig.verified(&key, None, &Bytes::from_static(b"s")).await.unwrap());
        let sign = Sign { by: By::key(key.clone()), input: message(), context: Bytes::new() };
        let said = refused(kms.perform(&call, sign).await, Reason::WrongUsage);
        assert!(said.contains("may only verify; to sign is for who holds its private half"), "{said}");
        let found = kms.perform(&call, GetPublicKey { key: key.clone(), version: None }).await.unwrap();
        assert_eq!((Some(&found.spki), found.spec), (pair.public.as_ref(), *spec));
    }
    let rsa = fresh(KeySpec::Rsa2048);
    let pair = Material::read(KeySpec::Rsa2048, &rsa.material).unwrap();
    let (encrypts, wraps) = (rig.made(alone(&rsa, Purpose::Encrypt)).await, rig.made(alone(&rsa, Purpose::Wrap)).await);
    let made = kms.encrypt(&user(), &encrypts, b"x", &no_aad(), soon()).await.unwrap();
    let encrypted = quorate_crypto::material::Encrypted { ciphertext: made.ciphertext.clone(), ..Default::default() };
    assert_eq!(*pair.decrypt(made.used.algorithm, &encrypted, &[]).unwrap(), *b"x");
    let given = Given { ciphertext: made.ciphertext.into(), keys: vec![encrypts.clone()], ..Given::default() };
    let given = Given { algorithm: Some(Algorithm::RsaOaepSha256), ..given };
    refused(kms.perform(&call, Decrypt::new(given).unwrap()).await, Reason::WrongUsage);
    // It is what another's key leaves under.
    let leaves = rig.made(Create { exportable: Exportable::Wrapped, ..wanted(None, None) }).await;
    let left = rig.export(&admin(), &leaves, Some(By::key(wraps.clone()))).await.unwrap();
    let by = left.wrapped_by.as_ref().unwrap().algorithm;
    assert_eq!(pair.unwrap(by, &left.material).unwrap().len(), 32);
    let unwrap = Unwrap { by: By::key(wraps), wrapped: left.material.to_vec().into() };
    refused(kms.perform(&call, unwrap).await, Reason::WrongUsage);

    let kem = fresh(KeySpec::MlKem768);
    let inbox = rig.made(alone(&kem, Purpose::Encapsulate)).await;
    let made = kms.perform(&call, Encapsulate { by: By::key(inbox.clone()) }).await.unwrap();
    let pair = Material::read(KeySpec::MlKem768, &kem.material).unwrap();
    assert_eq!(*pair.decapsulate(&made.ciphertext).unwrap(), *made.secret);
    let open = Decapsulate { by: By::key(inbox), ciphertext: made.ciphertext.into() };
    refused(kms.perform(&call, open).await, Reason::WrongUsage);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_public_key_has_no_material_and_lacks_none() {
    let rig = Rig::new().await;
    let (first, next) = (fresh(KeySpec::P256), fresh(KeySpec::P256));
    let key = rig.made(alone(&first, Purpose::Sign)).await;
    let described = rig.kms.describe_key(&user(), &key, soon()).await.unwrap();
    assert_eq!((described.kind, described.spec), (Kind::Public, KeySpec::P256));
    let version = rig.version(&key).await;
    assert!(version.has_material && version.material_id != [0; 32]);
    let signatures = [signed(KeySpec::P256, &first), signed(KeySpec::P256, &next)];

    let said = refused(rig.commit(Rotate { key: key.clone(), token: None }).await, Reason::Unsupported);
    assert!(said.contains("somebody else's public key"), "{said}");
    refused(rig.commit(Rekey { key: key.clone(), token: None }).await, Reason::Unsupported);
    let period = RotationPeriod::parse(9, 0).unwrap();
    refused(rig.commit(SetRotation { key: key.clone(), period }).await, Reason::Unsupported);
    refused(rig.commit(DeleteMaterial { key: key.clone(), version: None }).await, Reason::Unsupported);
    refused(rig.parameters(&key).await.map(drop), Reason::Unsupported);
    refused(rig.export(&admin(), &key, None).await.map(drop), Reason::Unsupported);
    let to = |key: &KeyHandle, pair| RotateTo { key: key.clone(), public: theirs(pair), token: None };
    let said = refused(rig.commit(to(&key, &first)).await, Reason::InvalidArgument);
    assert!(said.contains("has now"), "{said}");
    let longer = fresh(KeySpec::P384);
    refused(rig.commit(to(&key, &longer)).await, Reason::InvalidArgument);
    let pair = rig.made(Create { kind: NewKind::new(KeySpec::P256, None, None).unwrap(), ..wanted(None, None) }).await;
    let said = refused(rig.commit(to(&pair, &next)).await, Reason::InvalidArgument);
    assert!(said.contains("has a private half here"), "{said}");

    // Its owner has another; what was signed by the one before is verified by its version.
    let token = Some(rig.token(1));
    let rotated = rig.commit(RotateTo { token, ..to(&key, &next) }).await.unwrap();
    assert_eq!(rotated.current.get(), 2);
    assert_eq!(rig.commit(RotateTo { token, ..to(&key, &next) }).await.unwrap(), rotated, "a retry does nothing");
    refused(rig.commit(RotateTo { token, ..to(&key, &first) }).await, Reason::TokenReused);
    assert!(rig.verified(&key, None, &signatures[1]).await.unwrap());
    assert!(rig.verified(&key, Some(1), &signatures[0]).await.unwrap());
    assert!(!rig.verified(&key, None, &signatures[0]).await.unwrap());

    // A backup holds it; under another id it is the same key.
    let backup = rig.kms.back_up(&call(&admin(), soon()), BackUp { key: key.clone() }).await.unwrap().backup;
    let restore = RestoreKey { backup: backup.into(), without_name: false, token: None };
    let back = rig.kms.restore(&call(&admin(), soon()), restore).await.unwrap();
    assert_eq!((back.kind, back.state, back.description.as_str()), (Kind::Public, KeyState::Disabled, "theirs"));
    let back = id(back.id);
    rig.commit(Enable { key: back.clone() }).await.unwrap();
    assert!(rig.verified(&back, Some(1), &signatures[0]).await.unwrap());
    assert_eq!(rig.version(&back).await.material_id, rig.version(&key).await.material_id);

    let version = Some(KeyVersion::FIRST);
    rig.commit(Revoke { key: key.clone(), version, why: Revocation::Deactivate }).await.unwrap();
    assert!(rig.verified(&key, Some(1), &signatures[0]).await.unwrap(), "it still verifies");
    let gone = rig.commit(DestroyVersion { key: key.clone(), version: KeyVersion::FIRST }).await.unwrap();
    assert_eq!((gone.state, gone.has_material), (VersionState::Destroyed, false));
    refused(rig.verified(&key, Some(1), &signatures[0]).await, Reason::Destroyed);
    assert!(rig.verified(&key, None, &signatures[1]).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_contradicts_itself_makes_no_public_key() {
    let rig = Rig::new().await;
    let pair = fresh(KeySpec::P256);
    let right = alone(&pair, Purpose::Sign);
    let token = Some(rig.token(1));
    let made = rig.made(Create { token, ..right.clone() }).await;
    assert_eq!(rig.made(Create { token, ..right.clone() }).await, made, "a retry finds it");
    let other = alone(&fresh(KeySpec::P256), Purpose::Sign);
    refused(rig.commit(Create { token, ..other }).await, Reason::TokenReused);
    let wrong = async |wanted: Create, part: &str| {
        let said = refused(rig.commit(wanted).await, Reason::InvalidArgument);
        assert!(said.contains(part), "{said}");
    };
    wrong(Create { kind: aes(), ..right.clone() }, "the public key is of kind p-256, not aes-256").await;
    wrong(alone(&pair, Purpose::Agree), "to agree takes the private half").await;
    wrong(alone(&fresh(KeySpec::X25519), Purpose::Agree), "to agree takes the private half").await;
    wrong(Create { exportable: Exportable::Wrapped, ..right }, "no material to be exported").await;
}
