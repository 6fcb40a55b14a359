//! What answers tell besides what was asked for.

use quorate_core::decide::{DestroyVersion, Revocation, Revoke};
use quorate_core::id::KeyVersion;
use quorate_core::key_spec::Purpose;
use quorate_core::lifecycle::VersionState;
use quorate_core::name::Class;
use quorate_core::request::KeyFilter;
use quorate_core::views::KeyView;

use super::*;
use crate::operation::*;

/// Whoever verifies is told that somebody else may have signed.
#[tokio::test(flavor = "multi_thread")]
async fn who_verifies_is_told_the_versions_state() {
    let rig = Rig::new().await;
    let (kms, call) = (&rig.kms, call(&admin(), soon()));
    let (input, message) = (|| Input::Message(Bytes::from_static(b"m")), || Bytes::from_static(b"m"));
    for (spec, purpose) in [(KeySpec::Ed25519, Purpose::Sign), (KeySpec::Aes256, Purpose::Mac)] {
        let kind = NewKind::new(spec, Some(purpose), None).unwrap();
        let key = id(kms.create_key(&admin(), &Create { kind, ..wanted(None, None) }, soon()).await.unwrap().id);
        let by = || By::key(key.clone());
        let made: Bytes = match purpose {
            Purpose::Sign => {
                let made = kms.perform(&call, Sign { by: by(), input: input(), context: Bytes::new() }).await;
                made.unwrap().signature.into()
            }
            _ => kms.perform(&call, MakeMac { by: by(), message: message() }).await.unwrap().mac.into(),
        };
        let verified = async |made: Bytes| {
            let answer = match purpose {
                Purpose::Sign => {
                    let wanted = Verify { by: by(), input: input(), context: Bytes::new(), signature: made };
                    kms.perform(&call, wanted).await
                }
                _ => kms.perform(&call, VerifyMac { by: by(), message: message(), mac: made }).await,
            };
            let answer = answer.unwrap();
            (answer.valid, answer.state)
        };
        assert_eq!(verified(made.clone()).await, (true, VersionState::Active));
        for (why, state) in [
            (Revocation::Deactivate, VersionState::Deactivated),
            (Revocation::Compromise { since_ms: 0 }, VersionState::Compromised),
        ] {
            kms.commit(&call, &Revoke { key: key.clone(), version: None, why }).await.unwrap();
            assert_eq!(verified(made.clone()).await, (true, state), "{spec:?}");
            assert_eq!(verified(Bytes::from_static(b"other")).await, (false, state), "{spec:?}");
        }
    }
}

/// Whatever shows a key shows in what state its current version is: describe, every change, and lists.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_shown_a_key_is_shown_its_current_versions_state() {
    let rig = Rig::new().await;
    let (kms, call) = (&rig.kms, call(&admin(), soon()));
    let of = |view: &KeyView| view.now.as_ref().map(|now| now.state);
    let kind = NewKind::new(KeySpec::Rsa2048, Some(Purpose::Sign), None).unwrap();
    let made = kms.create_key(&admin(), &Create { kind, ..wanted(None, None) }, soon()).await.unwrap();
    assert_eq!(made.now.as_ref().unwrap().algorithms[..2], KeySpec::Rsa2048.algorithms(Usage::Sign)[..2]);
    let token = rig.token(1);
    for _ in 0..2 {
        let retried = kms.create_key(&admin(), &wanted(None, Some(token)), soon()).await.unwrap();
        assert_eq!(of(&retried), Some(VersionState::Active));
    }
    let (many, description) = (KeyCount::parse(70).unwrap(), "".parse().unwrap());
    let many = CreateMany { kind: aes(), count: many, description, token: None };
    assert!(kms.create_many(&call, &many).await.unwrap().iter().all(|key| of(key) == Some(VersionState::Active)));

    let key = id(made.id);
    let listed = async || {
        let (mut found, mut token) = (None, Bytes::new());
        loop {
            let wanted =
                ListObjects { class: Class::Key, len: PageLen::parse(7).unwrap(), filter: KeyFilter::any(), token };
            let page = kms.page(&call, wanted).await.unwrap();
            assert!(page.items.iter().all(|key| key.now.is_some()));
            found = found.or(page.items.into_iter().find(|key| key.id == made.id));
            match page.next {
                Some(next) => token = Bytes::copy_from_slice(next.as_bytes()),
                None => return found.and_then(|key| of(&key)),
            }
        }
    };
    for (change, state) in [
        (Some(Revocation::Deactivate), VersionState::Deactivated),
        (Some(Revocation::Compromise { since_ms: 0 }), VersionState::Compromised),
        (None, VersionState::DestroyedCompromised),
    ] {
        let version = KeyVersion::FIRST;
        match change {
            Some(why) => kms.commit(&call, &Revoke { key: key.clone(), version: None, why }).await.map(drop),
            None => kms.commit(&call, &DestroyVersion { key: key.clone(), version }).await.map(drop),
        }
        .unwrap();
        assert_eq!(of(&kms.describe_key(&user(), &key, soon()).await.unwrap()), Some(state));
        assert_eq!(of(&kms.disable_key(&admin(), &key, soon()).await.unwrap()), Some(state));
        assert_eq!(of(&kms.enable_key(&admin(), &key, soon()).await.unwrap()), Some(state));
        assert_eq!(listed().await, Some(state));
    }
    let rotated = id(kms.create_key(&admin(), &wanted(None, None), soon()).await.unwrap().id);
    kms.commit(&call, &Revoke { key: rotated.clone(), version: None, why: Revocation::Deactivate }).await.unwrap();
    let after = kms.rotate_key(&admin(), &Rotate { key: rotated, token: None }, soon()).await.unwrap();
    assert_eq!((after.current.get(), of(&after)), (2, Some(VersionState::Active)));
}

/// A page token is good for the list that gave it, and for whom it gave it to.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_is_of_one_list_and_of_one_caller() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    for name in ["a", "b"] {
        kms.create_key(&admin(), &wanted(Some(name), None), soon()).await.unwrap();
    }
    let one = PageLen::parse(1).unwrap();
    let keys = async |kms: &Kms, who: &Principal, token: &[u8]| kms.list_keys(who, one, token, soon()).await;
    let first = keys(kms, &user(), b"").await.unwrap();
    let token = first.next.unwrap().as_bytes().to_vec();
    let second = keys(&rig.other(), &user(), &token).await.unwrap();
    assert!(second.items[0].id != first.items[0].id && second.next.is_none(), "any node goes on");

    let mut refusals = vec![keys(kms, &admin(), &token).await.map(drop), keys(kms, &user(), b"x").await.map(drop)];
    let mut edited = token.clone();
    for n in 0..edited.len() {
        edited[n] ^= 1;
        refusals.push(keys(kms, &user(), &edited).await.map(drop));
        edited[n] ^= 1;
    }
    refusals.push(kms.list_aliases(&user(), one, &token, soon()).await.map(drop));
    let secrets = ListObjects { class: Class::Secret, len: one, filter: KeyFilter::any(), token: token.into() };
    refusals.push(kms.page(&call(&user(), soon()), secrets).await.map(drop));
    for refusal in refusals {
        assert!(refused(refusal, Reason::InvalidArgument).contains("this list gave you"));
    }
}

/// What is wrong with a ciphertext is said in the same words whether it comes alone or with others.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_is_refused_as_it_would_be_alone() {
    let (rig, foreign) = (Rig::new().await, Rig::new().await);
    let call = call(&user(), soon());
    let encrypted = async |rig: &Rig| {
        let key = id(rig.key().await);
        rig.kms.encrypt(&user(), &key, b"x", &no_aad(), soon()).await.unwrap().ciphertext
    };
    let decrypt =
        |blob: &[u8]| Decrypt::new(Given { ciphertext: Bytes::copy_from_slice(blob), ..Given::default() }).unwrap();
    let (own, of_other) = (encrypted(&rig).await, encrypted(&foreign).await);
    // Magic, version, algorithm, kind, lineage: of another, its key is unknown besides.
    let mut of_lineage = of_other.clone();
    of_lineage[4] ^= 1;
    for (blob, reason) in [(&of_lineage, Reason::WrongLineage), (&of_other, Reason::UnknownKey)] {
        refused(rig.kms.perform(&call, decrypt(blob)).await, reason);
        refused(rig.kms.perform(&call, Many::new(vec![decrypt(blob)]).unwrap()).await, reason);
        let parts = Many::new(vec![decrypt(blob), decrypt(&own)]).unwrap();
        let answers = rig.kms.perform(&call, parts).await.unwrap();
        let reasons: Vec<_> = answers.iter().map(|part| part.as_ref().err().map(Error::reason)).collect();
        assert_eq!(reasons, [Some(reason), None]);
    }
}
