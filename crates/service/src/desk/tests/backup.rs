//! A key is backed up, and comes back.

use quorate_core::decide::{
    Changes, CreateAlias, DestroyVersion, Enable, MarkBackedUp, Purge, Revocation, Revoke, ScheduleDeletion, Update,
};
use quorate_core::id::KeyVersion;
use quorate_core::key_spec::Algorithm;
use quorate_core::lifecycle::{KeyState, VersionState};
use quorate_core::record::{Exportable, KeyRecord};
use quorate_core::views::{KeyView, VersionView};
use quorate_crypto::{BACKUP_LEN_MAX, Secret};

use super::import::{DAY, MINUTE, external, fresh};
use super::time::later;
use super::*;
use crate::operation::{BackUp, Binding, By, Encrypt, Input, ListVersions, ReadWhole, RestoreKey, Sign, Verify};
use crate::testing::node::OsEntropy;

impl Rig {
    async fn backup(&self, key: &KeyHandle) -> Result<Vec<u8>, Error> {
        Ok(self.kms.back_up(&call(&admin(), soon()), BackUp { key: key.clone() }).await?.backup)
    }
    async fn restore(&self, backup: &[u8], token: Option<Token>) -> Result<KeyView, Error> {
        self.restore_named(backup, false, token).await
    }
    async fn restore_named(&self, backup: &[u8], without_name: bool, token: Option<Token>) -> Result<KeyView, Error> {
        let wanted = RestoreKey { backup: Bytes::copy_from_slice(backup), without_name, token };
        self.other().restore(&call(&admin(), soon()), wanted).await
    }
    async fn versions(&self, key: &KeyHandle) -> Vec<VersionView> {
        let wanted = ListVersions { key: key.clone(), len: PageLen::parse(0).unwrap(), before: None };
        self.kms.perform(&call(&admin(), soon()), wanted).await.unwrap().versions
    }
    /// Nothing of a key is left, its tokens' time being over.
    async fn forgotten(&self) {
        let limit = Instant::now() + Duration::from_secs(30);
        while self.count(Table::Key) > 0 {
            assert!(Instant::now() < limit, "it is not destroyed");
            later(self, 60 * MINUTE).await;
            let _ = self.kms.duties.look_after(Duty::Destroy).await.unwrap();
        }
    }
    async fn signature(&self, key: &KeyHandle) -> Bytes {
        let wanted = Sign { by: By::key(key.clone()), input: message(), context: Bytes::new() };
        self.kms.perform(&call(&user(), soon()), wanted).await.unwrap().signature.into()
    }
    async fn verifies(&self, key: &KeyHandle, version: u32, signature: &Bytes) -> Result<bool, Error> {
        let by = By { version: KeyVersion::new(version), ..By::key(key.clone()) };
        let wanted = Verify { by, input: message(), context: Bytes::new(), signature: signature.clone() };
        self.kms.perform(&call(&user(), soon()), wanted).await.map(|verified| verified.valid)
    }
    async fn made_of(&self, spec: KeySpec, by: Option<Algorithm>) -> KeyHandle {
        self.made(Create { kind: NewKind::new(spec, None, by).unwrap(), ..wanted(None, None) }).await
    }
}

fn message() -> Input {
    Input::Message(Bytes::from_static(b"m"))
}

/// What was destroyed comes back under its id, as it was when it was backed up, but disabled and without names.
#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_key_comes_back_where_it_was() {
    let rig = Rig::new().await;
    let key = id(rig.key().await);
    rig.commit(CreateAlias { name: "pay".parse().unwrap(), key: key.clone() }).await.unwrap();
    let old = rig.uses(&key).await.unwrap();
    rig.commit(Rotate { key: key.clone(), token: None }).await.unwrap();
    let new = rig.uses(&key).await.unwrap();
    rig.commit(Rotate { key: key.clone(), token: None }).await.unwrap();
    let gone = rig.uses(&key).await.unwrap();
    rig.commit(Revoke { key: key.clone(), version: None, why: Revocation::Deactivate }).await.unwrap();
    rig.commit(DestroyVersion { key: key.clone(), version: KeyVersion::new(3).unwrap() }).await.unwrap();
    rig.commit(Rotate { key: key.clone(), token: None }).await.unwrap_err();
    let before = rig.kms.describe_key(&user(), &key, soon()).await.unwrap();
    assert_eq!(before.backed_up_ms, 0);
    let versions = rig.versions(&key).await;
    refused(rig.kms.back_up(&call(&user(), soon()), BackUp { key: key.clone() }).await, Reason::Denied);
    let backup = rig.backup(&key).await.unwrap();
    let noted = rig.kms.describe_key(&user(), &key, soon()).await.unwrap();
    assert!(noted.backed_up_ms > 0, "who has it, everybody knows of");

    let said = refused(rig.restore(&backup, None).await, Reason::AlreadyExists);
    assert!(said.contains("names its id"), "{said}");
    let window = DeletionWindow::from_days(7).unwrap();
    rig.commit(ScheduleDeletion { key: key.clone(), window }).await.unwrap();
    refused(rig.backup(&key).await, Reason::KeyPendingDeletion);
    rig.commit(Purge { key: key.clone() }).await.unwrap();
    rig.forgotten().await;

    refused(
        rig.kms
            .restore(
                &call(&user(), soon()),
                RestoreKey { backup: backup.clone().into(), without_name: false, token: None },
            )
            .await,
        Reason::Denied,
    );
    let token = Some(rig.token(1));
    let back = rig.restore(&backup, token).await.unwrap();
    assert_eq!(id(back.id), key);
    assert_eq!((back.state, back.aliases.len(), back.born_as), (KeyState::Disabled, 0, None));
    assert!(back.backed_up_ms >= noted.backed_up_ms);
    assert_eq!(rig.restore(&backup, token).await.unwrap(), back, "a retry does nothing");
    refused(rig.restore(&backup, None).await, Reason::AlreadyExists);
    let same = KeyView { state: KeyState::Enabled, aliases: before.aliases.clone(), ..back.clone() };
    let (updated_ms, backed_up_ms) = (before.updated_ms, 0);
    assert_eq!(KeyView { updated_ms, backed_up_ms, ..same }, before, "all else is as it was");
    assert_eq!(rig.versions(&key).await, versions, "material ids, dates and all");

    refused(rig.opens_blob(&new).await, Reason::KeyDisabled);
    rig.commit(Enable { key: key.clone() }).await.unwrap();
    for blob in [&old, &new] {
        assert_eq!(rig.opens_blob(blob).await.unwrap(), b"x");
    }
    refused(rig.opens_blob(&gone).await, Reason::Destroyed);
    rig.replica.shutdown().await;
}

impl Rig {
    async fn opens_blob(&self, blob: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(self.other().decrypt(&user(), blob, &no_aad(), None, soon()).await?.plaintext.to_vec())
    }
}

/// Of a young key an empty record is left when it is purged, so that a late retry does not make it anew: a backup takes its
/// place at once, that retry is told of what came back, and nothing that was filed for its end ends it again.
#[tokio::test(flavor = "multi_thread")]
async fn a_young_key_comes_back_the_moment_it_is_purged() {
    let rig = Rig::new().await;
    for duty_first in [false, true] {
        let token = Some(rig.token(u64::from(duty_first)));
        let create = Create { token, description: "d".parse().unwrap(), ..wanted(None, None) };
        let key = rig.made(create.clone()).await;
        let blob = rig.uses(&key).await.unwrap();
        let backup = rig.backup(&key).await.unwrap();
        let window = DeletionWindow::from_days(7).unwrap();
        rig.commit(ScheduleDeletion { key: key.clone(), window }).await.unwrap();
        rig.commit(Purge { key: key.clone() }).await.unwrap();
        refused(rig.kms.create_key(&admin(), &create, soon()).await, Reason::NotFound);
        if duty_first {
            rig.kms.duties.look_after(Duty::Destroy).await.unwrap();
        }
        let back = rig.restore(&backup, None).await.unwrap();
        assert_eq!((id(back.id), back.state), (key.clone(), KeyState::Disabled));
        let retried = rig.kms.create_key(&admin(), &create, soon()).await.unwrap();
        assert_eq!((id(retried.id), retried.state), (key.clone(), KeyState::Disabled));
        rig.commit(Enable { key: key.clone() }).await.unwrap();
        for _ in 0..3 {
            later(&rig, 60 * MINUTE).await;
            rig.kms.duties.look_after(Duty::Destroy).await.unwrap();
        }
        assert_eq!(rig.count(Table::Due), 0, "nothing waits for its end any more");
        assert_eq!(rig.opens_blob(&blob).await.unwrap(), b"x");
    }
    rig.replica.shutdown().await;
}

/// A key whose outputs do not name it comes back beside itself, with the same material and a new id.
#[tokio::test(flavor = "multi_thread")]
async fn a_pair_comes_back_beside_itself() {
    let rig = Rig::new().await;
    let key = rig.made_of(KeySpec::P256, None).await;
    let first = rig.signature(&key).await;
    rig.commit(Rotate { key: key.clone(), token: None }).await.unwrap();
    let second = rig.signature(&key).await;
    let floor = Changes { protect_floor: KeyVersion::new(2), process_floor: KeyVersion::new(2), ..Changes::default() };
    let backup = rig.backup(&key).await.unwrap();
    // What happens to the key afterwards is not in it.
    rig.commit(Update { key: key.clone(), changes: floor }).await.unwrap();
    let tokens = [1, 2].map(|n| Some(rig.token(n)));
    let back = rig.restore(&backup, tokens[0]).await.unwrap();
    assert_eq!(
        Some(back.born_as),
        Some(Some(match key {
            KeyHandle::Id(id) => id,
            _ => panic!("an id"),
        }))
    );
    assert_eq!(rig.restore(&backup, tokens[0]).await.unwrap().id, back.id, "a retry finds it");
    let third = rig.restore(&backup, tokens[1]).await.unwrap();
    assert_ne!(third.id, back.id, "another request makes another");
    let other = rig.backup(&id(third.id)).await.unwrap();
    refused(rig.restore(&other, tokens[0]).await, Reason::TokenReused);
    let back = id(back.id);
    rig.commit(Enable { key: back.clone() }).await.unwrap();
    assert!(rig.verifies(&back, 1, &first).await.unwrap() && rig.verifies(&back, 2, &second).await.unwrap());
    refused(rig.verifies(&key, 1, &first).await, Reason::Retired);
    let ids = async |key: &KeyHandle| rig.versions(key).await.iter().map(|v| v.material_id).collect::<Vec<_>>();
    assert_eq!(ids(&back).await, ids(&key).await);
    // A copy of a copy is born of the first.
    let again = rig.restore(&rig.backup(&back).await.unwrap(), None).await.unwrap();
    assert_eq!(id(again.born_as.unwrap()), key);
}

/// A name for life comes back with its key, where no other key has it; and a double, which can't have it, has no more than the key
/// that is there has left.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_comes_back_if_it_is_free_and_a_double_has_no_more_than_is_left() {
    let rig = Rig::new().await;
    let named = |text: &str| Some(text.parse().unwrap());
    let kind = NewKind::new(KeySpec::HmacSha256, None, None).unwrap();
    let create = Create { kind, name: named("Codes"), exportable: Exportable::Plain, ..wanted(None, None) };
    let key = rig.made(create.clone()).await;
    rig.commit(Rotate { key: key.clone(), token: None }).await.unwrap();
    let backup = rig.backup(&key).await.unwrap();
    let lowered = Changes { exportable: Some(Exportable::No), ..Changes::default() };
    rig.commit(Update { key: key.clone(), changes: lowered }).await.unwrap();
    let (first, why) = (KeyVersion::FIRST, Revocation::Compromise { since_ms: 0 });
    rig.commit(Revoke { key: key.clone(), version: Some(first), why }).await.unwrap();

    let before = rig.records();
    let said = refused(rig.restore(&backup, None).await, Reason::AlreadyExists);
    assert!(said.contains("without its name"), "{said}");
    assert_eq!(rig.records(), before);
    let double = rig.restore_named(&backup, true, None).await.unwrap();
    assert_eq!((&double.name, double.exportable), (&None, Exportable::No));
    let states = async |key: &KeyHandle| rig.versions(key).await.iter().map(|v| v.state).collect::<Vec<_>>();
    assert_eq!(states(&id(double.id)).await, [VersionState::Active, VersionState::Compromised]);

    let window = DeletionWindow::from_days(7).unwrap();
    rig.commit(ScheduleDeletion { key: key.clone(), window }).await.unwrap();
    rig.commit(Purge { key: key.clone() }).await.unwrap();
    let back = rig.restore(&backup, None).await.unwrap();
    assert_eq!((id(back.id), &back.name), (key.clone(), &named("Codes")));
    assert!(rig.kms.describe_key(&user(), &KeyHandle::Key("codes".parse().unwrap()), soon()).await.is_ok());
    refused(rig.kms.create_key(&admin(), &create, soon()).await, Reason::AlreadyExists);
    rig.replica.shutdown().await;
}

/// A backup is noted of a key as it was read, and of no other.
#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_it_was_read_is_not_noted_as_backed_up() {
    let rig = Rig::new().await;
    let key = id(rig.key().await);
    let read = rig.kms.perform(&call(&admin(), soon()), ReadWhole(key.clone())).await.unwrap().key;
    rig.commit(Rotate { key: key.clone(), token: None }).await.unwrap();
    let mark = MarkBackedUp { read: KeyRecord::clone(&read) };
    assert!(!rig.commit(mark).await.unwrap());
    assert_eq!(rig.kms.describe_key(&user(), &key, soon()).await.unwrap().backed_up_ms, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_backup_of_this_cluster_whole_and_unchanged_is_refused() {
    let rig = Rig::new().await;
    let key = rig.made_of(KeySpec::HmacSha256, None).await;
    let backup = rig.backup(&key).await.unwrap();
    let before = rig.records();
    let part = |error: Error| (error.reason(), error.part().map(|part| part.word()));
    for i in (0..backup.len()).step_by(7) {
        let mut bad = backup.clone();
        bad[i] ^= 1;
        let reason = match i {
            0..5 => Reason::InvalidArgument,
            5..21 => Reason::WrongLineage,
            _ => Reason::Tampered,
        };
        assert_eq!(part(rig.restore(&bad, None).await.unwrap_err()), (reason, Some("backup")), "byte {i}");
        let reason = if i < 41 { Reason::InvalidArgument } else { Reason::Tampered };
        assert_eq!(part(rig.restore(&backup[..i], None).await.unwrap_err()), (reason, Some("backup")), "first {i}");
    }
    assert_eq!(rig.restore(&[&backup[..], &[0]].concat(), None).await.unwrap_err().reason(), Reason::Tampered);
    let long = rig.restore(&vec![0; BACKUP_LEN_MAX + 1], None).await.unwrap_err();
    assert_eq!(part(long), (Reason::TooLarge, Some("backup")));
    // Of the same lineage, as it says, and by another keyring; and one of this keyring that says nothing.
    let stranger = quorate_crypto::Keyring::generate(&Secret::from_array([6; 32]), &OsEntropy);
    let of = match key {
        KeyHandle::Id(id) => id,
        _ => panic!("an id"),
    };
    for (keyring, plain, reason) in [
        (&stranger, &b"\x02"[..], Reason::Tampered),
        (&*rig.keyring, b"", Reason::Tampered),
        (&*rig.keyring, b"\x02\0\0\0\0\0\0", Reason::Tampered),
        (&*rig.keyring, b"\x01\0\0\0\0\0\0", Reason::Tampered),
        (&*rig.keyring, b"\x03", Reason::UpgradeNeeded),
    ] {
        let made = keyring.seal_backup(LINEAGE, of, plain, &OsEntropy);
        assert_eq!(rig.restore(&made, None).await.unwrap_err().reason(), reason, "{plain:?}");
    }
    assert_eq!(rig.records(), before, "nothing was changed");
}

/// Imported material whose time is over stays away; the same can be imported into what was restored, whatever its id is.
#[tokio::test(flavor = "multi_thread")]
async fn imported_material_keeps_its_end_and_its_id() {
    let rig = Rig::new().await;
    let key = rig.made(external(KeySpec::P256)).await;
    let material = fresh(KeySpec::P256).material;
    let end = rig.wall.now_ms() + DAY;
    let first = rig.put(&key, &material, end).await.unwrap();
    let backup = rig.backup(&key).await.unwrap();
    let early = id(rig.restore(&backup, None).await.unwrap().id);
    assert_eq!((rig.missing(&early).await, rig.count(Table::Due)), (0, 2), "both ends are looked after");
    rig.wall.0.store(end, Ordering::SeqCst);
    let late = id(rig.restore(&backup, None).await.unwrap().id);
    let version = rig.versions(&late).await.remove(0);
    assert_eq!((version.has_material, version.material_id), (false, first.material_id));
    assert_eq!((rig.missing(&late).await, rig.count(Table::Due)), (1, 2));
    refused(rig.put(&late, &fresh(KeySpec::P256).material, 0).await, Reason::WrongMaterial);
    rig.put(&late, &material, 0).await.unwrap();
    rig.replica.shutdown().await;
}

/// Nobody can tell how often a version for GCM was used since its backup: what comes back only opens.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_counted_only_opens_when_it_comes_back() {
    let rig = Rig::new().await;
    let key = rig.made_of(KeySpec::Aes256, Some(Algorithm::AesGcm)).await;
    let back = id(rig.restore(&rig.backup(&key).await.unwrap(), None).await.unwrap().id);
    rig.commit(Enable { key: back.clone() }).await.unwrap();
    let encrypts = async |key: &KeyHandle| {
        let bound = Binding { context: no_aad(), aad: Bytes::new() };
        let wanted = Encrypt { by: By::key(key.clone()), plaintext: Bytes::from_static(b"x"), bound };
        rig.kms.perform(&call(&user(), soon()), wanted).await
    };
    encrypts(&key).await.unwrap();
    refused(encrypts(&back).await, Reason::NoLongerValid);
    assert_eq!(rig.versions(&back).await[0].state, VersionState::Deactivated);
    rig.commit(Rotate { key: back.clone(), token: None }).await.unwrap();
    encrypts(&back).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_holds_a_hundred_versions_and_two_hundred_kibibytes() {
    let rig = Rig::new().await;
    let (many, long) = (rig.made_of(KeySpec::HmacSha256, None).await, rig.made_of(KeySpec::MlDsa87, None).await);
    for n in 2..=101 {
        if n == 101 {
            let back = rig.restore(&rig.backup(&many).await.unwrap(), None).await.unwrap();
            assert_eq!(back.newest.get(), 100);
        }
        rig.commit(Rotate { key: many.clone(), token: None }).await.unwrap();
    }
    let said = refused(rig.backup(&many).await, Reason::LimitExceeded);
    assert!(said.contains("101 versions"), "{said}");
    for _ in 2..=80 {
        rig.commit(Rotate { key: long.clone(), token: None }).await.unwrap();
    }
    let before = rig.records();
    refused(rig.backup(&long).await, Reason::TooLarge);
    assert_eq!(rig.records(), before, "what nobody has is not noted");
}
