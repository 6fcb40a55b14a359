//! Changes at the same time: conflicts, tokens, seals.

use futures::future::join_all;
use quorate_core::batch::{Expect, Op, Outcome};
use quorate_core::decide::{Change, Write};
use quorate_core::facts::Facts;
use quorate_core::lifecycle::KeyState;
use quorate_core::record::{KeyRecord, RecordName};
use quorate_core::views::KeyView;

use super::*;
use crate::records::{EngineFacts, Secrets};

/// Many rotate one key through two desks (as through two nodes): each success is one version, none is lost or doubled.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn contended_changes_are_decided_again_until_each_has_happened_once() {
    let rig = Rig::new().await;
    let other = rig.other();
    let key = id(rig.key().await);
    let tasks = (0..40).map(|n| {
        let (kms, key) = (if n % 2 == 0 { rig.kms.clone() } else { other.clone() }, key.clone());
        tokio::spawn(async move {
            let request = Rotate { key, token: None };
            kms.rotate_key(&admin(), &request, soon()).await
        })
    });
    let mut versions = Vec::new();
    for result in join_all(tasks).await {
        match result.unwrap() {
            Ok(key) => versions.push(key.current.get()),
            Err(e) => assert_eq!(e.reason(), Reason::Contended, "{e}"),
        }
    }
    versions.sort_unstable();
    assert!(versions.len() >= 30, "two desks alternate, they do not starve: {} of 40", versions.len());
    assert_eq!(versions, (2..).take(versions.len()).collect::<Vec<_>>(), "each its own version, without gaps");
    let now = rig.kms.describe_key(&user(), &key, soon()).await.unwrap();
    assert_eq!(now.current.get() as usize, 1 + versions.len());
    assert_eq!(rig.count(Table::KeyVersion), 1 + versions.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_want_an_alias_one_gets_it() {
    let rig = Rig::new().await;
    let other = rig.other();
    let tasks = (0..12).map(|n| {
        let kms = if n % 2 == 0 { rig.kms.clone() } else { other.clone() };
        tokio::spawn(async move { kms.create_key(&admin(), &wanted(Some("one"), None), soon()).await })
    });
    let results: Vec<_> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 1);
    for result in results.into_iter().filter(Result::is_err) {
        refused(result, Reason::AlreadyExists);
    }
    assert_eq!((rig.count(Table::Key), rig.count(Table::Name)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_token_makes_one_key_however_often_and_wherever_it_is_sent() {
    let rig = Rig::new().await;
    let other = rig.other();
    let request = wanted(Some("t"), Some(rig.token(7)));
    let tasks = (0..12).map(|n| {
        let (kms, request) = (if n % 2 == 0 { rig.kms.clone() } else { other.clone() }, request.clone());
        tokio::spawn(async move { kms.create_key(&admin(), &request, soon()).await.unwrap() })
    });
    let keys: Vec<KeyView> = join_all(tasks).await.into_iter().map(Result::unwrap).collect();
    assert!(keys.iter().all(|key| *key == keys[0]));
    assert_eq!(rig.count(Table::Key), 1);

    let request = Rotate { key: named("t"), token: Some(rig.token(8)) };
    for kms in [&rig.kms, &other, &rig.kms] {
        assert_eq!(kms.rotate_key(&admin(), &request, soon()).await.unwrap().current.get(), 2);
    }
    // Another principal's token is another token.
    let theirs = Principal::certificate(Role::Admin, "another".parse().unwrap());
    let key = rig.kms.create_key(&theirs, &wanted(None, Some(rig.token(7))), soon()).await.unwrap();
    assert_ne!(key.id, keys[0].id);
}

/// Two desks (as two nodes) are given one request again and again, by callers that give up at random times: in the end
/// there are exactly its keys, and everybody who heard of them heard the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_request_for_many_keys_is_done_once_however_often_it_is_begun() {
    let rig = Rig::new().await;
    let other = rig.other();
    let request = CreateMany {
        kind: aes(),
        count: KeyCount::parse(300).unwrap(),
        description: "for tests".parse().unwrap(),
        token: Some(rig.token(7)),
    };
    let tasks = (0..12u64).map(|n| {
        let (kms, request) = (if n % 2 == 0 { rig.kms.clone() } else { other.clone() }, request.clone());
        tokio::spawn(async move {
            let until = if n < 8 { Instant::now() + Duration::from_millis(2 * n) } else { soon() };
            kms.create_keys(&admin(), &request, until).await
        })
    });
    let answers = join_all(tasks).await.into_iter().filter_map(|answer| answer.unwrap().ok());
    let answers: Vec<Vec<KeyView>> = answers.collect();
    let last = rig.kms.create_keys(&admin(), &request, soon()).await.unwrap();
    assert_eq!(last.len(), 300);
    assert!(answers.iter().all(|keys| *keys == last));
    assert_eq!((rig.count(Table::Key), rig.count(Table::KeyVersion)), (300, 300));
    assert_eq!(rig.count(Table::Idempotency), 0, "the keys are the answer");
    for key in [&last[0], &last[299]] {
        rig.kms.encrypt(&user(), &id(key.id), b"x", &no_aad(), soon()).await.unwrap();
    }
    let fewer = CreateMany { count: KeyCount::parse(299).unwrap(), ..request.clone() };
    refused(rig.kms.create_keys(&admin(), &fewer, soon()).await, Reason::TokenReused);
    refused(rig.kms.create_keys(&user(), &request, soon()).await, Reason::Denied);
    // Without a token each request is its own.
    let bare = CreateMany { token: None, ..request };
    rig.kms.create_keys(&admin(), &bare, soon()).await.unwrap();
    assert_eq!(rig.count(Table::Key), 600);
}

/// The first part is done, a later one can't be: whoever asked is not told that nothing happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_many_keys_that_breaks_off_says_that_some_may_be_there() {
    let rig = Rig::new().await;
    let count = KeyCount::parse(100).unwrap();
    let request = CreateMany { kind: aes(), count, description: Default::default(), token: Some(rig.token(7)) };
    let made = rig.kms.create_keys(&admin(), &request, soon()).await.unwrap();
    let (first, later) = (&made[..64], made[80].id);
    // As if the first part had not been done, and a key of the second were being destroyed.
    let undo = |facts: &mut EngineFacts<'_>| {
        let mut writes = Vec::new();
        for key in first {
            for name in [RecordName::Key(key.id), RecordName::KeyVersion((key.id, key.current))] {
                assert!(facts.read(&name)?.is_some());
                writes.push(Write::Delete(name));
            }
        }
        Ok(Change { writes, answer: () })
    };
    rig.kms.records.change(soon(), Secrets::default(), undo).await.unwrap();
    let destroy = |facts: &mut EngineFacts<'_>| {
        let key = facts.get::<KeyRecord>(later)?.expect("made");
        let key = KeyRecord { state: KeyState::Destroyed, ..KeyRecord::clone(&key) };
        Ok(Change { writes: vec![Write::Update(key.into())], answer: () })
    };
    rig.kms.records.change(soon(), Secrets::default(), destroy).await.unwrap();
    assert_eq!(rig.count(Table::Key), 36);

    refused(rig.kms.create_keys(&admin(), &request, soon()).await, Reason::UnknownOutcome);
    assert_eq!(rig.count(Table::Key), 100, "the first part was done");
}

/// One key in the middle is missing: that one is made, with material of its own.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_many_keys_makes_only_those_that_are_missing() {
    let rig = Rig::new().await;
    let count = KeyCount::parse(3).unwrap();
    let token = Some(rig.token(7));
    let request = CreateMany { kind: aes(), count, description: Default::default(), token };
    let made = rig.kms.create_keys(&admin(), &request, soon()).await.unwrap();
    let gone = made[1].clone();
    let undo = |facts: &mut EngineFacts<'_>| {
        let names = [RecordName::Key(gone.id), RecordName::KeyVersion((gone.id, gone.current))];
        for name in &names {
            assert!(facts.read(name)?.is_some());
        }
        Ok(Change { writes: names.map(Write::Delete).to_vec(), answer: () })
    };
    rig.kms.records.change(soon(), Secrets::default(), undo).await.unwrap();
    let again = rig.kms.create_keys(&admin(), &request, soon()).await.unwrap();
    assert_eq!(again.iter().map(|key| key.id).collect::<Vec<_>>(), made.iter().map(|key| key.id).collect::<Vec<_>>());
    for key in again {
        rig.kms.encrypt(&user(), &id(key.id), b"x", &no_aad(), soon()).await.unwrap();
    }
}

/// A cluster-wide seal is a record like any other: with its commit every desk of the epoch before is closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_wide_seal_closes_the_desk_with_its_commit() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let key = id(rig.key().await);
    let blob = kms.encrypt(&user(), &key, b"x", &no_aad(), soon()).await.unwrap().ciphertext;

    let seal = RecordKey::cluster_seal();
    let seq = rig.replica.open_seq(soon()).await.unwrap();
    let batch = Batch {
        lineage: LINEAGE,
        cluster: CLUSTER,
        group: GroupId(0),
        epoch: rig.keyring.current_epoch(),
        id: seq.id(),
        stamp_ms: 0,
        audit: [0; 32],
        expects: vec![Expect { key: seal.clone(), rev: 0 }],
        ops: vec![Op::Put(seal, b"sealed".to_vec())],
    };
    let outcome = rig.replica.propose(rig.keyring.seal_batch(&batch).unwrap().into(), soon()).await.unwrap();
    let Outcome::Applied(sealed_at) = outcome else { panic!("{outcome:?}") };
    let before = rig.records();

    let len = PageLen::parse(0).unwrap();
    refused(kms.encrypt(&user(), &key, b"x", &no_aad(), soon()).await, Reason::Sealed);
    refused(kms.decrypt(&user(), &blob, &no_aad(), None, soon()).await, Reason::Sealed);
    refused(kms.generate_data_key(&user(), &key, 0, &no_aad(), true, soon()).await, Reason::Sealed);
    refused(kms.generate_random(&user(), 8, soon()).await, Reason::Sealed);
    refused(kms.describe_key(&user(), &key, soon()).await, Reason::Sealed);
    refused(kms.list_keys(&user(), len, &[], soon()).await, Reason::Sealed);
    refused(kms.list_aliases(&user(), len, &[], soon()).await, Reason::Sealed);
    refused(kms.create_key(&admin(), &wanted(None, None), soon()).await, Reason::Sealed);
    refused(kms.disable_key(&admin(), &key, soon()).await, Reason::Sealed);
    refused(kms.duties.look_after(Duty::Destroy).await, Reason::Sealed);
    assert_eq!(rig.records(), before);

    // Unsealed again, in the new epoch.
    let again = Kms::open(desk(&rig.replica, &rig.world, &rig.keyring, sealed_at));
    assert_eq!(*again.decrypt(&user(), &blob, &no_aad(), None, soon()).await.unwrap().plaintext, b"x".to_vec());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_desk_refuses_everything_and_lets_the_keyring_go() {
    let rig = Rig::new().await;
    let kms = rig.other();
    let key = id(rig.key().await);
    let holders = Arc::strong_count(&rig.keyring);
    kms.close();
    assert_eq!(Arc::strong_count(&rig.keyring), holders - 1);
    refused(kms.encrypt(&user(), &key, b"x", &no_aad(), soon()).await, Reason::Sealed);
    refused(kms.create_key(&admin(), &wanted(None, None), soon()).await, Reason::Sealed);
    refused(kms.list_keys(&user(), PageLen::parse(0).unwrap(), &[], soon()).await, Reason::Sealed);
    rig.kms.encrypt(&user(), &key, b"x", &no_aad(), soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_has_passed_is_kept() {
    let rig = Rig::new().await;
    let key = id(rig.key().await);
    let before = rig.records();
    let past = Instant::now() - Duration::from_millis(1);
    refused(rig.kms.disable_key(&admin(), &key, past).await, Reason::Unavailable);
    refused(rig.kms.encrypt(&user(), &key, b"x", &no_aad(), past).await, Reason::Unavailable);
    assert_eq!(rig.records(), before);
}
