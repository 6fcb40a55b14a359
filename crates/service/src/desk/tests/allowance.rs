//! Versions that have only so many uses: counted at any number of nodes, never too few, and nobody waits for it.

use quorate_core::decide::lease::{Of, decide as lease};
use quorate_core::decide::{Change, Purge, Slot, Write};
use quorate_core::facts::Facts;
use quorate_core::id::KeyVersion;
use quorate_core::key_spec::{Algorithm, Purpose};
use quorate_core::record::{AllowanceRecord, GCM_USES_DUE, GCM_USES_MAX, KeyVersionRecord};
use quorate_crypto::SecretBytes;

use super::*;
use crate::operation::{Binding, By, Ciphertext, Decrypt, Describe, Encrypt, Given, ListVersions, Many};
use crate::records::Secrets;

/// The first block that a node is given.
const BLOCK: u64 = 1 << 14;

impl Rig {
    async fn gcm(&self) -> KeyId {
        let kind = NewKind::new(KeySpec::Aes256, Some(Purpose::Encrypt), Some(Algorithm::AesGcm)).unwrap();
        self.kms.create_key(&admin(), &Create { kind, ..wanted(None, None) }, soon()).await.unwrap().id
    }
    /// As if nodes had been given so many.
    async fn give(&self, key: KeyId, gcm: u64) {
        let version = KeyVersion::FIRST;
        let written = self.kms.records.change(soon(), Secrets::default(), |facts| {
            facts.get::<AllowanceRecord>((key, version))?;
            Ok(Change { writes: vec![Write::Update(AllowanceRecord { key, version, gcm }.into())], answer: () })
        });
        written.await.unwrap();
    }
    async fn given(&self, key: KeyId) -> u64 {
        let described = self.kms.perform(&call(&user(), soon()), Describe { key: id(key) }).await.unwrap();
        described.gcm_uses.unwrap()
    }
}

fn one(key: KeyId, version: Option<u32>) -> Encrypt {
    let by = By { version: version.and_then(KeyVersion::new), ..By::key(id(key)) };
    Encrypt { by, plaintext: Bytes::from_static(b"secret"), bound: Binding::default() }
}
async fn encrypt(kms: &Kms, key: KeyId) -> Result<Ciphertext, Error> {
    kms.perform(&call(&user(), soon()), one(key, None)).await
}
async fn many(kms: &Kms, keys: &[KeyId]) -> Result<Vec<Result<Ciphertext, Error>>, Error> {
    let parts = keys.iter().map(|key| one(*key, None)).collect();
    kms.perform(&call(&user(), soon()), Many::new(parts).unwrap()).await
}

/// 64 clients at each of two nodes begin at once: each node is given one block, whoever was first.
#[tokio::test(flavor = "multi_thread")]
async fn one_asks_for_all_who_wait_and_two_nodes_share_what_there_is() {
    let rig = Rig::new().await;
    let (key, other) = (rig.gcm().await, rig.other());
    assert_eq!(rig.given(key).await, 0);
    let uses = (0..64).flat_map(|_| [&rig.kms, &other]).map(|kms| encrypt(kms, key));
    futures::future::try_join_all(uses).await.unwrap();
    assert_eq!(rig.given(key).await, 2 * BLOCK);
    // A node that starts anew has forgotten what it was given.
    other.close();
    encrypt(&rig.other(), key).await.unwrap();
    assert_eq!(rig.given(key).await, 3 * BLOCK);
}

/// More is there before the last is spent: of 24 000 uses one waits, and two changes are written for them.
#[tokio::test(flavor = "multi_thread")]
async fn more_is_asked_for_ahead_of_need_and_seldom() {
    let rig = Rig::new().await;
    let key = rig.gcm().await;
    for n in 1..=48 {
        assert!(many(&rig.kms, &[key; 500]).await.unwrap().iter().all(Result::is_ok));
        let used = 500 * n;
        assert!(rig.given(key).await >= used, "{used} used");
    }
    // 24 000 used of 32 768: the second block was had ahead, once, and the last quarter of it is not reached.
    assert_eq!(rig.given(key).await, 2 * BLOCK);
    for _ in 0..10 {
        many(&rig.kms, &[key; 500]).await.unwrap();
    }
    // Now it is.
    while rig.given(key).await == 2 * BLOCK {
        tokio::task::yield_now().await;
    }
    assert_eq!(rig.given(key).await, 3 * BLOCK, "asked for in the background, once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_used_up_encrypts_no_more_and_its_key_is_rotated() {
    let rig = Rig::new().await;
    let (key, fresh, kms) = (rig.gcm().await, rig.gcm().await, &rig.kms);
    rig.give(key, GCM_USES_MAX - 3).await;
    let all = many(kms, &[key, fresh, key, key, key]).await.unwrap();
    assert_eq!(all.iter().map(Result::is_ok).collect::<Vec<_>>(), [false, true, false, false, false]);
    let said = refused(all.into_iter().next().unwrap(), Reason::Exhausted);
    assert!(said.contains("version 1 of key") && said.contains("rotate the key"), "{said}");

    let made = many(kms, &[key, key]).await.unwrap().pop().unwrap().unwrap();
    encrypt(kms, key).await.unwrap();
    refused(encrypt(kms, key).await, Reason::Exhausted);
    refused(many(kms, &[key, key]).await, Reason::Exhausted);
    refused(encrypt(&rig.other(), key).await, Reason::Exhausted);
    assert_eq!(rig.given(key).await, GCM_USES_MAX);
    // What was refused was no use.
    let used = kms.last_use(&call(&user(), soon()), &id(key)).await.unwrap().tally.unwrap();
    assert_eq!(used.uses, 3);

    // What it encrypted opens as ever; the next version has uses of its own.
    let open = || {
        let (ciphertext, iv, tag) = (made.ciphertext.clone().into(), made.iv.clone().into(), made.tag.clone().into());
        let given = Given { ciphertext, iv, tag, keys: vec![id(key)], version: KeyVersion::new(1), ..Given::default() };
        Decrypt::new(Given { algorithm: Some(Algorithm::AesGcm), ..given }).unwrap()
    };
    assert_eq!(kms.perform(&call(&user(), soon()), open()).await.unwrap().plaintext[..], b"secret"[..]);
    kms.rotate_key(&admin(), &Rotate { key: id(key), token: None }, soon()).await.unwrap();
    assert_eq!(encrypt(kms, key).await.unwrap().used.version.get(), 2);
    refused(kms.perform(&call(&user(), soon()), one(key, Some(1))).await, Reason::Exhausted);
    let versions = ListVersions { key: id(key), len: PageLen::parse(0).unwrap(), before: None };
    let versions = kms.perform(&call(&user(), soon()), versions).await.unwrap().versions;
    assert_eq!(versions.iter().map(|one| one.gcm_uses).collect::<Vec<_>>(), [Some(BLOCK), Some(GCM_USES_MAX)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_not_counted_and_opening_is_not() {
    let rig = Rig::new().await;
    let (blob, gcm) = (rig.key().await, rig.gcm().await);
    let made = encrypt(&rig.kms, gcm).await.unwrap();
    rig.give(gcm, 77).await;
    let other = rig.other();
    encrypt(&other, blob).await.unwrap();
    let given = Given {
        ciphertext: made.ciphertext.into(),
        iv: made.iv.into(),
        tag: made.tag.into(),
        keys: vec![id(gcm)],
        algorithm: Some(Algorithm::AesGcm),
        ..Given::default()
    };
    other.perform(&call(&user(), soon()), Decrypt::new(given).unwrap()).await.unwrap();
    assert_eq!((rig.count(Table::Allowance), rig.given(gcm).await), (1, 77));
    let described = rig.kms.perform(&call(&user(), soon()), Describe { key: id(blob) }).await.unwrap();
    assert_eq!(described.gcm_uses, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_past_half_of_their_uses_are_counted() {
    let rig = Rig::new().await;
    let (key, other) = (rig.gcm().await, rig.gcm().await);
    rig.give(other, GCM_USES_DUE - 1).await;
    rig.give(key, GCM_USES_DUE - 1).await;
    assert_eq!(rig.kms.count().await.unwrap().gcm_due, 0);
    encrypt(&rig.kms, key).await.unwrap();
    assert_eq!(rig.kms.count().await.unwrap().gcm_due, 1);
    // Who has done what is asked for is asked no more.
    rig.kms.commit(&call(&admin(), soon()), &Rotate { key: id(key), token: None }).await.unwrap();
    assert_eq!(rig.kms.count().await.unwrap().gcm_due, 0);
}

/// Who asks for uses of what was destroyed meanwhile gets none, and leaves no record behind.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_destroyed_has_no_allowance() {
    let rig = Rig::new().await;
    let key = rig.gcm().await;
    encrypt(&rig.kms, key).await.unwrap();
    let window = DeletionWindow::from_days(7).unwrap();
    rig.kms.schedule_key_deletion(&admin(), &id(key), window, soon()).await.unwrap();
    rig.kms.commit(&call(&admin(), soon()), &Purge { key: id(key) }).await.unwrap();
    assert_eq!(rig.count(Table::Allowance), 0);
    let of = Of { key, version: KeyVersion::FIRST, material: [0; 32] };
    let late = rig.kms.records.change(soon(), Secrets::default(), |facts| lease(facts, of, 1, true));
    refused(late.await, Reason::NotFound);
    assert_eq!(rig.count(Table::Allowance), 0);
}

/// A key that comes back from a backup may give a number that it had before to other material.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_given_of_other_material_is_not_spent() {
    let rig = Rig::new().await;
    let key = rig.gcm().await;
    encrypt(&rig.kms, key).await.unwrap();
    let other = [SecretBytes::new(vec![9; 32])];
    let replaced = rig.kms.records.change(soon(), Secrets::given(&other), |facts| {
        let head = facts.get::<KeyVersionRecord>((key, KeyVersion::FIRST))?.expect("it is there");
        let head = KeyVersionRecord { material_id: [0; 32], ..KeyVersionRecord::clone(&head) };
        Ok(Change { writes: vec![Write::UpdateWith(head.into(), Slot::Given(0))], answer: () })
    });
    replaced.await.unwrap();
    assert_eq!(rig.given(key).await, BLOCK);
    encrypt(&rig.kms, key).await.unwrap();
    assert_eq!(rig.given(key).await, 2 * BLOCK);
}
