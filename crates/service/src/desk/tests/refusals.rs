//! Bad input: a precise error each, and nothing changed (promise P8).

use super::*;

/// A blob with one part of its header, or its last byte, changed.
fn altered(blob: &[u8], at: usize) -> Vec<u8> {
    let mut blob = blob.to_vec();
    blob[at] ^= 1;
    blob
}

#[tokio::test(flavor = "multi_thread")]
async fn ciphertexts_that_are_not_what_they_should_be() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let (key, other) = (rig.key().await, rig.key().await);
    let bound = aad(&[("tenant", "7")]);
    let blob = kms.encrypt(&user(), &id(key), b"secret", &bound, soon()).await.unwrap().ciphertext;
    let before = rig.records();

    let open = |blob: Vec<u8>, bound: EncryptionContext, key: Option<KeyHandle>| async move {
        kms.decrypt(&user(), &blob, &bound, key.as_ref(), soon()).await.map(|p| p.plaintext.to_vec())
    };
    let bound = || aad(&[("tenant", "7")]);
    assert_eq!(open(blob.clone(), bound(), Some(id(key))).await.unwrap(), b"secret");

    refused(open(blob.clone(), no_aad(), None).await, Reason::Tampered);
    refused(open(blob.clone(), aad(&[("tenant", "8")]), None).await, Reason::Tampered);
    refused(open(blob.clone(), aad(&[("tenant", "7"), ("more", "")]), None).await, Reason::Tampered);
    // magic, version, algorithm, kind | lineage | key id | key version | box
    for at in 0..4 {
        let result = open(altered(&blob, at), bound(), None).await;
        let reason = if at == 3 { result.as_ref().unwrap_err().reason() } else { Reason::InvalidArgument };
        refused(result, reason);
    }
    refused(open(altered(&blob, 4), bound(), None).await, Reason::WrongLineage);
    refused(open(altered(&blob, 8), bound(), None).await, Reason::UnknownKey);
    let unknown = refused(open(altered(&blob, 26), bound(), None).await, Reason::UnknownKey);
    assert!(unknown.contains("version"), "{unknown}");
    for at in 28..blob.len() {
        refused(open(altered(&blob, at), bound(), None).await, Reason::Tampered);
    }
    for len in [0, 1, 27, 28, 103] {
        refused(open(blob[..len].to_vec(), bound(), None).await, Reason::InvalidArgument);
    }
    refused(open([blob.clone(), vec![0]].concat(), bound(), None).await, Reason::Tampered);
    refused(open(vec![0x51; 4096 + 105], bound(), None).await, Reason::TooLarge);
    refused(
        open(b"not one of ours, but long enough to be mistaken for one".to_vec(), bound(), None).await,
        Reason::InvalidArgument,
    );

    let wrong = refused(open(blob.clone(), bound(), Some(id(other))).await, Reason::WrongKey);
    assert!(wrong.contains(&key.to_string()) && wrong.contains(&other.to_string()));
    refused(open(blob.clone(), bound(), Some(named("nobody"))).await, Reason::NotFound);
    assert_eq!(rig.records(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes_and_names_out_of_bounds() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let key = id(rig.key().await);
    let before = rig.records();
    assert!(kms.encrypt(&user(), &key, &[0; 4096], &no_aad(), soon()).await.is_ok());
    assert!(kms.encrypt(&user(), &key, &[], &no_aad(), soon()).await.is_ok());
    let message = refused(kms.encrypt(&user(), &key, &[0; 4097], &no_aad(), soon()).await, Reason::TooLarge);
    assert!(message.contains("4097") && message.contains("4096") && message.contains("data key"), "{message}");
    for len in [1025, u32::MAX] {
        refused(kms.generate_data_key(&user(), &key, len, &no_aad(), true, soon()).await, Reason::InvalidArgument);
    }
    // What can't be meant is said before anything is looked at.
    let unknown = kms.generate_data_key(&user(), &named("nobody"), 1025, &no_aad(), true, soon()).await;
    refused(unknown, Reason::InvalidArgument);
    for len in [0, 1025, u32::MAX] {
        refused(kms.generate_random(&user(), len, soon()).await, Reason::InvalidArgument);
    }
    refused(kms.encrypt(&user(), &named("nobody"), b"x", &no_aad(), soon()).await, Reason::NotFound);
    refused(kms.describe_key(&user(), &id(KeyId([9; 16])), soon()).await, Reason::NotFound);

    let len = PageLen::parse(0).unwrap();
    for token in [&b"x"[..], &[2; 43], &[4; 33], &[2; 44], &[255; 43]] {
        refused(kms.list_keys(&user(), len, token, soon()).await, Reason::InvalidArgument);
    }
    assert_eq!(rig.records(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_is_refused_changes_nothing() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let enabled = kms.create_key(&admin(), &wanted(Some("taken"), Some(rig.token(1))), soon()).await.unwrap().id;
    let (disabled, doomed) = (rig.key().await, rig.key().await);
    let window = DeletionWindow::from_days(30).unwrap();
    kms.disable_key(&admin(), &id(disabled), soon()).await.unwrap();
    kms.schedule_key_deletion(&admin(), &id(doomed), window, soon()).await.unwrap();
    let rotated = Rotate { key: id(disabled), token: Some(rig.token(3)) };
    kms.enable_key(&admin(), &id(disabled), soon()).await.unwrap();
    kms.rotate_key(&admin(), &rotated, soon()).await.unwrap();
    kms.disable_key(&admin(), &id(disabled), soon()).await.unwrap();
    let before = rig.records();
    let (nobody, name) = (id(KeyId([9; 16])), "free".parse().unwrap());
    let by = admin();
    let rotate = |key: &KeyHandle, token: Option<u64>| Rotate { key: key.clone(), token: token.map(|n| rig.token(n)) };

    use Reason::*;
    refused(kms.create_key(&by, &wanted(Some("taken"), None), soon()).await, AlreadyExists);
    refused(kms.create_key(&by, &wanted(None, Some(rig.token(1))), soon()).await, TokenReused);
    refused(kms.rotate_key(&by, &rotate(&id(enabled), Some(3)), soon()).await, TokenReused);
    refused(kms.rotate_key(&by, &rotate(&nobody, Some(2)), soon()).await, NotFound);
    refused(kms.rotate_key(&by, &rotate(&id(disabled), Some(2)), soon()).await, KeyDisabled);
    refused(kms.rotate_key(&by, &rotate(&id(doomed), None), soon()).await, KeyPendingDeletion);
    refused(kms.enable_key(&by, &nobody, soon()).await, NotFound);
    refused(kms.enable_key(&by, &id(doomed), soon()).await, KeyPendingDeletion);
    refused(kms.disable_key(&by, &named("nobody"), soon()).await, NotFound);
    refused(kms.disable_key(&by, &id(doomed), soon()).await, KeyPendingDeletion);
    refused(kms.schedule_key_deletion(&by, &nobody, window, soon()).await, NotFound);
    refused(kms.schedule_key_deletion(&by, &id(doomed), window, soon()).await, KeyPendingDeletion);
    refused(kms.cancel_key_deletion(&by, &nobody, soon()).await, NotFound);
    refused(kms.cancel_key_deletion(&by, &id(enabled), soon()).await, WrongState);
    refused(kms.create_alias(&by, &name, &nobody, soon()).await, NotFound);
    refused(kms.create_alias(&by, &name, &id(doomed), soon()).await, KeyPendingDeletion);
    refused(kms.create_alias(&by, &"taken".parse().unwrap(), &id(disabled), soon()).await, AlreadyExists);
    refused(kms.delete_alias(&by, &name, soon()).await, NotFound);
    assert_eq!(rig.records(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_role_gets_what_is_its_own_and_no_more() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let key = id(rig.key().await);
    let blob = kms.encrypt(&user(), &key, b"x", &no_aad(), soon()).await.unwrap().ciphertext;
    let before = rig.records();
    let len = PageLen::parse(0).unwrap();
    let window = DeletionWindow::from_days(7).unwrap();
    for role in Role::ALL {
        let who = as_role(role);
        let uses = matches!(role, Role::Admin | Role::User);
        let ok = |allowed: bool, result: Result<(), Error>| match result {
            Ok(()) => assert!(allowed, "{role}"),
            Err(e) => assert_eq!((allowed, e.reason()), (false, Reason::Denied), "{role}: {e}"),
        };
        ok(uses, kms.encrypt(&who, &key, b"x", &no_aad(), soon()).await.map(drop));
        ok(uses, kms.decrypt(&who, &blob, &no_aad(), None, soon()).await.map(drop));
        ok(uses, kms.generate_data_key(&who, &key, 0, &no_aad(), true, soon()).await.map(drop));
        ok(uses, kms.generate_random(&who, 8, soon()).await.map(drop));
        ok(uses, kms.describe_key(&who, &key, soon()).await.map(drop));
        ok(uses, kms.list_keys(&who, len, &[], soon()).await.map(drop));
        ok(uses, kms.list_aliases(&who, len, &[], soon()).await.map(drop));
        ok(role != Role::Node, crate::operation::echo::echo(&who));
        if role == Role::Admin {
            continue;
        }
        ok(false, kms.create_key(&who, &wanted(Some("a"), None), soon()).await.map(drop));
        let count = KeyCount::parse(2).unwrap();
        let many = CreateMany { kind: aes(), count, description: Default::default(), token: None };
        ok(false, kms.create_keys(&who, &many, soon()).await.map(drop));
        ok(false, kms.enable_key(&who, &key, soon()).await.map(drop));
        ok(false, kms.disable_key(&who, &key, soon()).await.map(drop));
        ok(false, kms.rotate_key(&who, &Rotate { key: key.clone(), token: None }, soon()).await.map(drop));
        ok(false, kms.schedule_key_deletion(&who, &key, window, soon()).await.map(drop));
        ok(false, kms.cancel_key_deletion(&who, &key, soon()).await.map(drop));
        ok(false, kms.create_alias(&who, &"a".parse().unwrap(), &key, soon()).await.map(drop));
        ok(false, kms.delete_alias(&who, &"a".parse().unwrap(), soon()).await);
    }
    assert_eq!(rig.records(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_use_under_way_when_a_forged_batch_is_found_gets_no_answer() {
    let rig = Rig::new().await;
    let key = rig.key().await;
    rig.replica.set_keys(Some(Turning::new(rig.keys())));
    // It has its read index and looks at the facts when the batch is applied.
    let collected = Arc::new(AtomicU64::new(0));
    let (other, replica, runtime) = (rig.other(), rig.replica.clone(), tokio::runtime::Handle::current());
    let (begun, counted) = (AtomicBool::new(false), collected.clone());
    let look = move || {
        if !begun.swap(true, Ordering::SeqCst) {
            let other = other.clone();
            runtime.spawn(async move { other.create_key(&admin(), &wanted(None, None), soon()).await });
        }
        while replica.problem().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        counted.fetch_add(1, Ordering::SeqCst);
    };
    let used = rig.kms.perform(&call(&user(), soon()), Looking { key: Some(id(key)), look: Box::new(look) }).await;
    assert!(refused(used, Reason::Damaged).contains("forged"));
    assert!(collected.load(Ordering::SeqCst) > 0);
    refused(rig.kms.encrypt(&user(), &id(key), b"x", &no_aad(), soon()).await, Reason::Damaged);
}
