//! Imported keys with several versions: the next one waits until the key is rotated.

use quorate_core::decide::{
    Activate, Changes, DeleteMaterial, DestroyVersion, ImportInto, Purge, Revocation, Revoke, ScheduleDeletion, Update,
    UpdateVersion,
};
use quorate_core::id::KeyVersion;
use quorate_core::lifecycle::VersionState;
use quorate_core::views::{KeyView, VersionView};

use super::import::{DAY, MINUTE, external, fresh};
use super::time::later;
use super::*;
use crate::operation::ListVersions;

const AES: KeySpec = KeySpec::Aes256;

fn number(n: u32) -> Option<KeyVersion> {
    KeyVersion::new(n)
}

impl Rig {
    async fn put_into(
        &self,
        key: &KeyHandle,
        material: &[u8],
        into: ImportInto,
        end: u64,
    ) -> Result<VersionView, Error> {
        let with = self.parameters(key).await?;
        let import = self.wrapped(key, &with, quorate_core::key_spec::Algorithm::RsaOaepSha256, material);
        self.import(crate::operation::Import { into, expires_ms: Some(end), ..import }).await
    }
    async fn put_next(&self, key: &KeyHandle, material: &[u8]) -> Result<VersionView, Error> {
        self.put_into(key, material, ImportInto::New, 0).await
    }
    async fn rotate(&self, key: &KeyHandle) -> Result<KeyView, Error> {
        self.commit(Rotate { key: key.clone(), token: None }).await
    }
    async fn opens(&self, blob: &[u8]) -> Result<Vec<u8>, Error> {
        let opened = self.other().decrypt(&user(), blob, &no_aad(), None, soon()).await?;
        self.kms.decrypt(&user(), blob, &no_aad(), None, soon()).await?;
        Ok(opened.plaintext.to_vec())
    }
}

/// The way of AWS's imported material sets, with what can go wrong on it.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_material_waits_until_the_key_is_rotated() {
    let rig = Rig::new().await;
    let key = rig.made(external(AES)).await;
    let [first, second, third] = [(); 3].map(|()| fresh(AES).material);
    refused(rig.put_next(&key, &first).await, Reason::MaterialMissing);
    rig.put(&key, &first, 0).await.unwrap();
    let said = refused(rig.rotate(&key).await, Reason::WrongState);
    assert!(said.contains("import one as a new version"), "{said}");
    let old = rig.uses(&key).await.unwrap();

    let before = rig.records();
    let same = rig.put_next(&key, &first).await.unwrap_err();
    assert_eq!(
        (same.reason(), same.part().map(|part| part.word())),
        (Reason::InvalidArgument, Some("material")),
        "{same}"
    );
    assert_eq!(rig.records(), before);
    let waiting = rig.put_next(&key, &third).await.unwrap();
    assert_eq!((waiting.version.get(), waiting.state), (2, VersionState::PreActive));
    // It has protected nothing yet: other material takes its place, and the same again is no change.
    let waiting = rig.put_next(&key, &second).await.unwrap();
    assert_eq!(waiting.version.get(), 2);
    let records = rig.records();
    assert_eq!(rig.put_next(&key, &second).await.unwrap(), waiting);
    assert_eq!(rig.records(), records);
    let shown = rig.kms.describe_key(&user(), &key, soon()).await.unwrap();
    assert_eq!((shown.current.get(), shown.newest.get()), (1, 2));

    // Nothing but the rotation makes it one that is used.
    let activation = Some(rig.wall.now_ms());
    let update = UpdateVersion {
        key: key.clone(),
        version: number(2),
        enabled: None,
        activation,
        protect_start: None,
        process_start: None,
        protect_stop: None,
        deactivation: None,
        tags: Default::default(),
        untag: Vec::new(),
    };
    let said = refused(rig.commit(Activate { key: key.clone(), version: number(2) }).await, Reason::NotYetValid);
    assert!(said.contains("rotate the key"), "{said}");
    refused(rig.commit(update).await, Reason::NotYetValid);
    let floor = Changes { protect_floor: number(2), ..Changes::default() };
    refused(rig.commit(Update { key: key.clone(), changes: floor }).await, Reason::InvalidArgument);
    let by = crate::operation::By { version: number(2), ..crate::operation::By::key(key.clone()) };
    let bound = crate::operation::Binding { context: no_aad(), aad: Bytes::new() };
    let wanted = crate::operation::Encrypt { by, plaintext: Bytes::from_static(b"x"), bound };
    refused(rig.kms.perform(&call(&user(), soon()), wanted).await, Reason::NotYetValid);

    let rotated = rig.rotate(&key).await.unwrap();
    assert_eq!((rotated.current.get(), rotated.newest.get(), rotated.protect_floor.get()), (2, 2, 2));
    let new = rig.uses(&key).await.unwrap();
    assert_eq!((rig.opens(&old).await.unwrap(), rig.opens(&new).await.unwrap()), (b"x".to_vec(), b"x".to_vec()));
    assert_eq!(rig.version(&key).await.material_id, waiting.material_id);
    refused(rig.rotate(&key).await, Reason::WrongState);
    // Neither version takes other material from here on.
    for n in 1..=2 {
        let other = rig.put_into(&key, &fresh(AES).material, ImportInto::Version(number(n)), 0).await;
        refused(other, Reason::WrongMaterial);
    }
    refused(rig.put_into(&key, &first, ImportInto::Version(number(3)), 0).await, Reason::NotFound);
    refused(rig.put_next(&key, &first).await, Reason::InvalidArgument);
}

/// A version up to the current one that lacks its material keeps the whole key from being used; one that waits does not.
#[tokio::test(flavor = "multi_thread")]
async fn any_version_without_its_material_keeps_the_key_from_being_used() {
    let rig = Rig::new().await;
    let key = rig.made(external(AES)).await;
    let [first, second, third] = [(); 3].map(|()| fresh(AES).material);
    rig.put(&key, &first, 0).await.unwrap();
    let old = rig.uses(&key).await.unwrap();
    let now = rig.wall.now_ms();
    let delete = |n| DeleteMaterial { key: key.clone(), version: number(n) };

    // What waits is not missed, has an end of its own, and is not rotated to without its material.
    rig.put_into(&key, &second, ImportInto::New, now + 60 * MINUTE).await.unwrap();
    rig.commit(delete(2)).await.unwrap();
    assert_eq!(rig.missing(&key).await, 0);
    refused(rig.rotate(&key).await, Reason::MaterialMissing);
    rig.put_into(&key, &second, ImportInto::New, now + 60 * MINUTE).await.unwrap();
    assert_eq!(rig.kms.describe_key(&user(), &key, soon()).await.unwrap().origin.imported().unwrap().expires_ms, 0);
    rig.rotate(&key).await.unwrap();
    let ends =
        async || rig.kms.describe_key(&user(), &key, soon()).await.unwrap().origin.imported().unwrap().expires_ms;
    assert_eq!(ends().await, now + 60 * MINUTE);

    rig.commit(delete(1)).await.unwrap();
    assert_eq!((rig.missing(&key).await, ends().await), (1, now + 60 * MINUTE));
    refused(rig.uses(&key).await, Reason::MaterialMissing);
    refused(rig.opens(&old).await, Reason::MaterialMissing);
    refused(rig.put_next(&key, &third).await, Reason::MaterialMissing);
    rig.put_into(&key, &first, ImportInto::Version(number(1)), now + 30 * MINUTE).await.unwrap();
    assert_eq!((rig.missing(&key).await, ends().await), (0, now + 30 * MINUTE), "the first end counts");
    rig.opens(&old).await.unwrap();
    rig.put_into(&key, &first, ImportInto::Version(number(1)), now + DAY).await.unwrap();

    // The second ends; erasing it counts it as missing, and the first one's end is the next.
    rig.wall.0.store(now + 60 * MINUTE, Ordering::SeqCst);
    refused(rig.opens(&old).await, Reason::MaterialMissing);
    rig.wall.0.store(now, Ordering::SeqCst);
    later(&rig, 6 * MINUTE).await;
    let limit = Instant::now() + Duration::from_secs(30);
    while rig.kms.duties.look_after(Duty::Expire).await.unwrap() == 0 {
        assert!(Instant::now() < limit, "it is not erased");
        later(&rig, 13 * MINUTE).await;
    }
    assert_eq!((rig.missing(&key).await, ends().await), (1, now + DAY));
    // What is destroyed is not missed: the first version opens what it made.
    rig.commit(Revoke { key: key.clone(), version: None, why: Revocation::Deactivate }).await.unwrap();
    rig.commit(DestroyVersion { key: key.clone(), version: number(2).unwrap() }).await.unwrap();
    assert_eq!(rig.missing(&key).await, 0);
    rig.opens(&old).await.unwrap();
    rig.replica.shutdown().await;
}

/// A version that waits can be given up; with its key it goes.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_can_be_given_up_and_goes_with_its_key() {
    let rig = Rig::new().await;
    let key = rig.made(external(AES)).await;
    rig.put(&key, &fresh(AES).material, 0).await.unwrap();
    rig.put_next(&key, &fresh(AES).material).await.unwrap();
    rig.commit(DestroyVersion { key: key.clone(), version: number(2).unwrap() }).await.unwrap();
    refused(rig.rotate(&key).await, Reason::WrongState);
    assert_eq!(rig.put_next(&key, &fresh(AES).material).await.unwrap().version.get(), 3);
    let why = Revocation::Compromise { since_ms: 0 };
    rig.commit(Revoke { key: key.clone(), version: number(3), why }).await.unwrap();
    refused(rig.rotate(&key).await, Reason::WrongState);
    let next = rig.put_next(&key, &fresh(AES).material).await.unwrap();
    assert_eq!((next.version.get(), rig.rotate(&key).await.unwrap().current.get()), (4, 4));
    rig.put_next(&key, &fresh(AES).material).await.unwrap();
    let wanted = ListVersions { key: key.clone(), len: PageLen::parse(0).unwrap(), before: None };
    let listed = rig.kms.perform(&call(&user(), soon()), wanted).await.unwrap().versions;
    use VersionState::{Active, Compromised, Deactivated, Destroyed, PreActive};
    let states: Vec<_> = listed.iter().map(|version| version.state).collect();
    assert_eq!(states, [PreActive, Active, Compromised, Destroyed, Deactivated]);

    let window = DeletionWindow::from_days(7).unwrap();
    rig.commit(ScheduleDeletion { key: key.clone(), window }).await.unwrap();
    rig.commit(Purge { key }).await.unwrap();
    assert_eq!(rig.count(Table::KeyVersion), 0, "none is left, that which waited neither");
}

/// What waited, was given up and lost its material would count from the rotation on: it is told before.
#[tokio::test(flavor = "multi_thread")]
async fn no_rotation_leaves_a_key_that_can_not_be_used() {
    let rig = Rig::new().await;
    let key = rig.made(Create { purge_protected: true, ..external(AES) }).await;
    rig.put(&key, &fresh(AES).material, 0).await.unwrap();
    rig.put_next(&key, &fresh(AES).material).await.unwrap();
    let why = Revocation::Compromise { since_ms: 0 };
    rig.commit(Revoke { key: key.clone(), version: number(2), why }).await.unwrap();
    rig.put_next(&key, &fresh(AES).material).await.unwrap();
    refused(rig.commit(DestroyVersion { key: key.clone(), version: number(2).unwrap() }).await, Reason::PurgeProtected);
    rig.commit(DeleteMaterial { key: key.clone(), version: number(2) }).await.unwrap();
    let before = rig.records();
    let said = refused(rig.rotate(&key).await, Reason::MaterialMissing);
    assert!(said.contains("destroy it, first"), "{said}");
    assert_eq!(rig.records(), before);
    rig.uses(&key).await.unwrap();
    // Nothing is left of it that the protection could keep.
    rig.commit(DestroyVersion { key: key.clone(), version: number(2).unwrap() }).await.unwrap();
    assert_eq!(rig.rotate(&key).await.unwrap().current.get(), 3);
    rig.uses(&key).await.unwrap();
}

/// What is known of a key follows from all its versions, so there are not too many of them.
#[tokio::test(flavor = "multi_thread")]
async fn an_imported_key_has_fifty_versions_at_most() {
    let rig = Rig::new().await;
    let key = rig.made(external(AES)).await;
    rig.put(&key, &fresh(AES).material, 0).await.unwrap();
    let with = rig.parameters(&key).await.unwrap();
    let next = async || {
        let import = rig.wrapped(&key, &with, quorate_core::key_spec::Algorithm::RsaOaepSha256, &fresh(AES).material);
        rig.import(crate::operation::Import { into: ImportInto::New, ..import }).await
    };
    for n in 2..=50 {
        assert_eq!(next().await.unwrap().version.get(), n);
        rig.rotate(&key).await.unwrap();
    }
    refused(next().await, Reason::LimitExceeded);
    rig.commit(DeleteMaterial { key: key.clone(), version: number(7) }).await.unwrap();
    assert_eq!(rig.missing(&key).await, 1);
}
