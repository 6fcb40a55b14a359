//! Keys and their use, as promised to a user.

use super::*;
use quorate_core::decide::{Archive, Recover};
use quorate_core::lifecycle::KeyState;
use quorate_core::name::Class;
use quorate_core::request::{KeyFilter, KeyStates};

use crate::operation::ListObjects;

async fn encrypt(kms: &Kms, key: &KeyHandle, text: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(kms.encrypt(&user(), key, text, &no_aad(), soon()).await?.ciphertext)
}
async fn decrypt(kms: &Kms, blob: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(kms.decrypt(&user(), blob, &no_aad(), None, soon()).await?.plaintext.to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_key() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let key = kms.create_key(&admin(), &wanted(Some("db"), None), soon()).await.unwrap();
    assert_eq!((key.state, key.current.get(), key.rotated_ms), (KeyState::Enabled, 1, 0));
    for handle in ["db", "alias/db", &key.id.to_string()] {
        assert_eq!(kms.describe_key(&user(), &named(handle), soon()).await.unwrap(), key, "{handle}");
    }

    let first = encrypt(kms, &named("db"), b"one").await.unwrap();
    assert_eq!(first.len(), 3 + 104);
    let rotated = kms.rotate_key(&admin(), &Rotate { key: named("db"), token: None }, soon()).await.unwrap();
    assert_eq!(rotated.current.get(), 2);
    assert!(rotated.rotated_ms >= key.created_ms);
    let made = kms.encrypt(&user(), &named("db"), b"two", &no_aad(), soon()).await.unwrap();
    assert_eq!((made.used.key, made.used.version.get()), (key.id, 2), "the current version encrypts");
    assert_eq!(decrypt(kms, &first).await.unwrap(), b"one", "an old version decrypts");
    assert_eq!(decrypt(kms, &made.ciphertext).await.unwrap(), b"two");

    kms.disable_key(&admin(), &named("db"), soon()).await.unwrap();
    refused(encrypt(kms, &named("db"), b"x").await, Reason::KeyDisabled);
    refused(decrypt(kms, &first).await, Reason::KeyDisabled);
    kms.disable_key(&admin(), &named("db"), soon()).await.unwrap();
    kms.enable_key(&admin(), &named("db"), soon()).await.unwrap();
    assert_eq!(decrypt(kms, &first).await.unwrap(), b"one");

    let window = DeletionWindow::from_days(7).unwrap();
    let doomed = kms.schedule_key_deletion(&admin(), &named("db"), window, soon()).await.unwrap();
    assert!(
        matches!(doomed.state, KeyState::PendingDeletion { at_ms, .. } if at_ms >= rig.wall.now_ms() + 7 * 86_400_000 - 60_000)
    );
    refused(encrypt(kms, &named("db"), b"x").await, Reason::KeyPendingDeletion);
    refused(decrypt(kms, &first).await, Reason::KeyPendingDeletion);
    let spared = kms.cancel_key_deletion(&admin(), &named("db"), soon()).await.unwrap();
    assert_eq!(spared.state, KeyState::Disabled);
    kms.enable_key(&admin(), &named("db"), soon()).await.unwrap();
    assert_eq!(decrypt(kms, &first).await.unwrap(), b"one");
    assert_eq!(rig.count(Table::Due), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn aliases_come_and_go() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let (a, b) = (rig.key().await, rig.key().await);
    let name = "payments/card".parse().unwrap();
    let alias = kms.create_alias(&admin(), &name, &id(a), soon()).await.unwrap();
    assert_eq!(alias.key, a);
    assert_eq!(kms.create_alias(&admin(), &name, &id(a), soon()).await.unwrap(), alias, "again: the same");
    refused(kms.create_alias(&admin(), &name, &id(b), soon()).await, Reason::AlreadyExists);
    let blob = encrypt(kms, &named("payments/card"), b"x").await.unwrap();
    kms.delete_alias(&admin(), &name, soon()).await.unwrap();
    refused(encrypt(kms, &named("payments/card"), b"x").await, Reason::NotFound);
    refused(kms.delete_alias(&admin(), &name, soon()).await, Reason::NotFound);
    kms.create_alias(&admin(), &name, &id(b), soon()).await.unwrap();
    assert_eq!(kms.describe_key(&user(), &named("payments/card"), soon()).await.unwrap().id, b);
    assert_eq!(decrypt(kms, &blob).await.unwrap(), b"x", "the ciphertext names the key, not the alias");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_keys_and_random_bytes() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let key = id(rig.key().await);
    let bound = aad(&[("file", "1"), ("app", "x")]);
    for (asked, len) in [(0, 32), (1, 1), (64, 64), (1024, 1024)] {
        let made = kms.generate_data_key(&user(), &key, asked, &bound, true, soon()).await.unwrap();
        let plaintext = made.plaintext.unwrap();
        assert_eq!(plaintext.len(), len);
        // The pairs' order does not matter.
        let same = aad(&[("app", "x"), ("file", "1")]);
        let back = kms.decrypt(&user(), &made.ciphertext, &same, None, soon()).await.unwrap();
        assert_eq!(*back.plaintext, *plaintext);
        assert!(asked != 64 || made.ciphertext != plaintext.to_vec());
    }
    let made = kms.generate_data_key(&user(), &key, 32, &bound, false, soon()).await.unwrap();
    assert!(made.plaintext.is_none());
    assert_eq!(kms.decrypt(&user(), &made.ciphertext, &bound, None, soon()).await.unwrap().plaintext.len(), 32);

    let random = kms.generate_random(&user(), 1024, soon()).await.unwrap();
    assert_eq!(random.len(), 1024);
    assert_ne!(*random, *kms.generate_random(&user(), 1024, soon()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let mut made = Vec::new();
    for n in 0..23 {
        // The names that keys have for life lie among their aliases, and count for nothing there.
        let (alias, name) = (format!("alias-{n}"), Some(format!("name-{n}").parse().unwrap()));
        made.push(kms.create_key(&admin(), &Create { name, ..wanted(Some(&alias), None) }, soon()).await.unwrap().id);
    }
    made.sort();
    for (len, pages) in [(10, 3), (23, 1), (1000, 1), (1, 23)] {
        let len = PageLen::parse(len).unwrap();
        let (mut keys, mut aliases, mut turned) = (Vec::new(), Vec::new(), 0);
        let (mut token, mut alias_token) = (Vec::new(), Vec::new());
        loop {
            let page = kms.list_keys(&user(), len, &token, soon()).await.unwrap();
            let alias_page = kms.list_aliases(&user(), len, &alias_token, soon()).await.unwrap();
            assert!(page.items.len() <= len.get());
            keys.extend(page.items.into_iter().map(|key| key.id));
            aliases.extend(alias_page.items);
            turned += 1;
            assert_eq!(page.next.is_some(), alias_page.next.is_some());
            let (Some(next), Some(alias_next)) = (page.next, alias_page.next) else { break };
            token = next.as_bytes().to_vec();
            alias_token = alias_next.as_bytes().to_vec();
        }
        // Newest first, by the id's time; those of one millisecond in any order.
        assert!(keys.is_sorted_by(|a, b| a.time() >= b.time()));
        keys.sort();
        assert_eq!((keys, turned), (made.clone(), pages));
        aliases.sort_by(|a, b| a.name.cmp(&b.name));
        aliases.dedup_by(|a, b| a.name == b.name);
        assert_eq!(aliases.len(), 23);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_listed_and_counted_by_state() {
    let rig = Rig::new().await;
    let kms = &rig.kms;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(rig.key().await);
    }
    for key in &made[..3] {
        kms.disable_key(&admin(), &id(*key), soon()).await.unwrap();
    }
    kms.schedule_key_deletion(&admin(), &id(made[3]), DeletionWindow::from_days(7).unwrap(), soon()).await.unwrap();
    let listed = async |states: KeyStates| {
        let wanted = ListObjects {
            class: Class::Key,
            len: PageLen::parse(0).unwrap(),
            filter: KeyFilter { states, ..KeyFilter::any() },
            token: Bytes::new(),
        };
        let mut keys: Vec<_> = kms.page(&crate::seal::support::call(&user(), soon()), wanted).await.unwrap().items;
        keys.sort_by_key(|key| key.id);
        keys.into_iter().map(|key| key.id).collect::<Vec<_>>()
    };
    let sorted = |keys: &[KeyId]| {
        let mut keys = keys.to_vec();
        keys.sort();
        keys
    };
    assert_eq!(listed(KeyStates { disabled: true, ..KeyStates::default() }).await, sorted(&made[..3]));
    assert_eq!(listed(KeyStates { pending_deletion: true, ..KeyStates::default() }).await, [made[3]]);
    assert_eq!(
        listed(KeyStates { enabled: true, pending_deletion: true, ..KeyStates::default() }).await,
        sorted(&made[3..])
    );
    assert_eq!(listed(KeyStates::default()).await, []);
    for away in [made[0], made[4]] {
        kms.commit(&call(&admin(), soon()), &Archive { key: id(away) }).await.unwrap();
    }
    assert_eq!(listed(KeyStates { archived: true, ..KeyStates::default() }).await, sorted(&[made[0], made[4]]));
    assert_eq!(listed(KeyStates { disabled: true, ..KeyStates::default() }).await, sorted(&made[1..3]));
    assert_eq!(listed(KeyStates::ANY).await.len(), made.len());
    for away in [made[0], made[4]] {
        kms.commit(&call(&admin(), soon()), &Recover { key: id(away) }).await.unwrap();
    }
    let stock = kms.count().await.unwrap();
    assert_eq!((stock.enabled, stock.disabled, stock.pending_deletion), (3, 3, 1));
    assert_eq!(kms.stock(), None, "nobody counts yet");
    kms.take_stock();
    while kms.stock().is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(kms.stock().map(|stock| stock.enabled), Some(3));
    kms.close();
    assert_eq!(kms.stock(), None, "a sealed node tells of no keys");
}

/// Promise P2 on one node: once a disable is acknowledged, no use that begins later succeeds, cached or not.
#[tokio::test(flavor = "multi_thread")]
async fn after_disable_returns_no_use_succeeds() {
    let rig = Rig::new().await;
    let key = id(rig.key().await);
    let blob = encrypt(&rig.kms, &key, b"x").await.unwrap();
    for _ in 0..100 {
        encrypt(&rig.kms, &key, b"x").await.unwrap();
        rig.kms.disable_key(&admin(), &key, soon()).await.unwrap();
        let uses = (0..4).map(|_| async {
            refused(encrypt(&rig.kms, &key, b"x").await, Reason::KeyDisabled);
            refused(decrypt(&rig.kms, &blob).await, Reason::KeyDisabled);
        });
        futures::future::join_all(uses).await;
        rig.kms.enable_key(&admin(), &key, soon()).await.unwrap();
        decrypt(&rig.kms, &blob).await.unwrap();
    }
}

/// The same while others use the key all the time and fill the hot view in every interleaving.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_use_under_way_never_leaves_a_stale_fact_behind() {
    let rig = Rig::new().await;
    let key = id(rig.key().await);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let users: Vec<_> = (0..8)
        .map(|_| {
            let (kms, key, stop) = (rig.kms.clone(), key.clone(), stop.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    match encrypt(&kms, &key, b"x").await {
                        Ok(_) => {}
                        Err(e) => assert_eq!(e.reason(), Reason::KeyDisabled),
                    }
                }
            })
        })
        .collect();
    for _ in 0..150 {
        rig.kms.disable_key(&admin(), &key, soon()).await.unwrap();
        refused(encrypt(&rig.kms, &key, b"x").await, Reason::KeyDisabled);
        rig.kms.enable_key(&admin(), &key, soon()).await.unwrap();
        encrypt(&rig.kms, &key, b"x").await.unwrap();
    }
    stop.store(true, Ordering::SeqCst);
    for user in users {
        user.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_is_kept_hot_until_it_changes_or_the_desk_closes() {
    let rig = Rig::new().await;
    let key = rig.key().await;
    let hot = |kms: &Kms| {
        use quorate_core::id::KeyVersion;
        use quorate_core::record::RecordName;
        let guard = kms.hot.read();
        [RecordName::Key(key), RecordName::KeyVersion((key, KeyVersion::FIRST))]
            .map(|name| guard.get(&crate::records::barrier::Barrier::key_of(&rig.keyring, &name)).is_some())
    };
    assert_eq!(hot(&rig.kms), [false, false]);
    let blob = encrypt(&rig.kms, &id(key), b"x").await.unwrap();
    assert_eq!(hot(&rig.kms), [true, true]);
    rig.kms.disable_key(&admin(), &id(key), soon()).await.unwrap();
    assert_eq!(hot(&rig.kms), [false, false], "the change dropped what it touched, and its material");
    rig.kms.enable_key(&admin(), &id(key), soon()).await.unwrap();
    decrypt(&rig.kms, &blob).await.unwrap();
    assert_eq!(hot(&rig.kms), [true, true]);
    rig.kms.close();
    assert_eq!(hot(&rig.kms), [false, false]);
    refused(encrypt(&rig.kms, &id(key), b"x").await, Reason::Sealed);
}
