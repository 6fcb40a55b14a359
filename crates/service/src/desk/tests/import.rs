//! Material that is imported, deleted, erased when its time is over; and material that is exported.

use quorate_core::decide::{
    Activate, Archive, CreateAlias, DeleteMaterial, DestroyVersion, Disable, Enable, ImportInto, Purge, Recover, Rekey,
    Revocation, Revoke, ScheduleDeletion, SetRotation, Tag, UpdateVersion,
};
use quorate_core::id::KeyVersion;
use quorate_core::key_spec::{Algorithm, Purpose};
use quorate_core::lifecycle::{Row, VersionState};
use quorate_core::record::Exportable;
use quorate_core::request::RotationPeriod;
use quorate_core::views::VersionView;
use quorate_crypto::material::{Encoded, Material, PublicKey};

use super::time::{later, until};
use super::*;
use crate::operation::{
    By, Describe, Export, Exported, GetPublicKey, Import, ImportParameters, Input, ListVersions, Parameters, Sign,
    Unwrap, Verify,
};
use crate::testing::node::OsEntropy;

/// The rows of the table of states that are tested here.
pub(super) const ROWS: [Row; 3] = [Row::Export, Row::Import, Row::DeleteMaterial];

pub(super) const MINUTE: u64 = 60_000;
pub(super) const DAY: u64 = 24 * 60 * MINUTE;

pub(super) fn kind(spec: KeySpec) -> NewKind {
    NewKind::new(spec, None, None).unwrap()
}
pub(super) fn external(spec: KeySpec) -> Create {
    Create { kind: kind(spec), source: Source::Import, exportable: Exportable::Plain, ..wanted(None, None) }
}
pub(super) fn fresh(spec: KeySpec) -> Encoded {
    Material::fresh(spec, &OsEntropy)
}

impl Rig {
    pub(super) async fn made(&self, wanted: Create) -> KeyHandle {
        id(self.kms.create_key(&admin(), &wanted, soon()).await.unwrap().id)
    }
    pub(super) async fn commit<D: quorate_core::decide::Decide>(&self, request: D) -> Result<D::Answer, Error> {
        self.kms.commit(&call(&admin(), soon()), &request).await
    }
    pub(super) async fn parameters(&self, key: &KeyHandle) -> Result<Parameters, Error> {
        let wanted = ImportParameters { key: key.clone(), wrapping: KeySpec::Rsa2048 };
        self.kms.import_parameters(&call(&admin(), soon()), wanted).await
    }
    /// Wraps that material with those parameters.
    pub(super) fn wrapped(&self, key: &KeyHandle, with: &Parameters, by: Algorithm, material: &[u8]) -> Import {
        let public = PublicKey::parse(&with.public).unwrap();
        let wrapped = public.wrap(by, material, &OsEntropy).unwrap().into();
        let into = ImportInto::Version(None);
        Import { key: key.clone(), into, token: with.token.clone().into(), wrapped, algorithm: by, expires_ms: None }
    }
    pub(super) async fn import(&self, request: Import) -> Result<VersionView, Error> {
        self.kms.import(&call(&admin(), soon()), request).await
    }
    pub(super) async fn put(&self, key: &KeyHandle, material: &[u8], expires_ms: u64) -> Result<VersionView, Error> {
        let with = self.parameters(key).await?;
        let import = self.wrapped(key, &with, Algorithm::RsaAesKwpSha256, material);
        self.import(Import { expires_ms: Some(expires_ms), ..import }).await
    }
    pub(super) async fn delete(&self, key: &KeyHandle) -> Result<VersionView, Error> {
        self.commit(DeleteMaterial { key: key.clone(), version: None }).await
    }
    pub(super) async fn export(&self, who: &Principal, key: &KeyHandle, wrap: Option<By>) -> Result<Exported, Error> {
        self.kms.export(&call(who, soon()), Export { key: key.clone(), version: None, wrap }).await
    }
    pub(super) async fn uses(&self, key: &KeyHandle) -> Result<Vec<u8>, Error> {
        self.kms.encrypt(&user(), key, b"x", &no_aad(), soon()).await.map(|made| made.ciphertext)
    }
    pub(super) async fn version(&self, key: &KeyHandle) -> VersionView {
        let wanted = ListVersions { key: key.clone(), len: PageLen::parse(0).unwrap(), before: None };
        self.kms.perform(&call(&admin(), soon()), wanted).await.unwrap().versions.remove(0)
    }
    pub(super) async fn missing(&self, key: &KeyHandle) -> u32 {
        self.kms.describe_key(&user(), key, soon()).await.unwrap().origin.imported().unwrap().missing
    }
}

/// Every kind of key takes material of its kind, however it is wrapped, and does with it what the material does elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn every_kind_is_imported() {
    let rig = Rig::new().await;
    for spec in KeySpec::ALL.iter().copied().filter(|spec| !matches!(spec, KeySpec::Rsa3072 | KeySpec::Rsa4096)) {
        let key = rig.made(external(spec)).await;
        assert_eq!(rig.missing(&key).await, 1);
        let material = fresh(spec);
        let with = rig.parameters(&key).await.unwrap();
        let imported = rig
            .import(rig.wrapped(&key, &with, Algorithm::RsaAesKwpSha256, &material.material))
            .await
            .unwrap_or_else(|e| panic!("{spec:?}: {e}"));
        assert!(imported.has_material && rig.missing(&key).await == 0, "{spec:?}");
        let KeyHandle::Id(of) = key else { panic!("an id") };
        assert_eq!(imported.material_id, rig.keyring.material_id(of, &material.material));
        let exported = rig.export(&admin(), &key, None).await.unwrap();
        assert_eq!(*exported.material, *material.material, "{spec:?}");
        if let Some(public) = &material.public {
            let found = rig.kms.perform(&call(&user(), soon()), GetPublicKey { key, version: None }).await.unwrap();
            assert_eq!(&found.spki, public, "{spec:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_of_wrapping_is_unwrapped_and_no_other() {
    let rig = Rig::new().await;
    let key = rig.made(external(KeySpec::Aes256)).await;
    let with = rig.parameters(&key).await.unwrap();
    let material = fresh(KeySpec::Aes256).material;
    let (before, wrap) = (rig.records(), |by| rig.wrapped(&key, &with, by, &material));

    let part = |error: Error| (error.reason(), error.part().map(|part| part.word()));
    let wrong = |part| (Reason::InvalidArgument, Some(part));
    let other = Import { algorithm: Algorithm::RsaOaepSha1, ..wrap(Algorithm::RsaOaepSha256) };
    assert_eq!(part(rig.import(other).await.unwrap_err()), wrong("wrapped-key"));
    let no_wrapping = Import { algorithm: Algorithm::AesKwp, ..wrap(Algorithm::RsaOaepSha256) };
    assert_eq!(part(rig.import(no_wrapping).await.unwrap_err()), wrong("algorithm"));
    for bad in [&b""[..], &[0; 256], &[7; 300]] {
        let bad = Import { wrapped: Bytes::copy_from_slice(bad), ..wrap(Algorithm::RsaAesKwpSha256) };
        assert_eq!(part(rig.import(bad).await.unwrap_err()), wrong("wrapped-key"));
    }
    let long = Import { wrapped: vec![0; 10_000].into(), ..wrap(Algorithm::RsaAesKwpSha256) };
    assert_eq!(rig.import(long).await.unwrap_err().reason(), Reason::TooLarge);
    for bad in [&[7; 31][..], &fresh(KeySpec::P256).material] {
        let import = rig.wrapped(&key, &with, Algorithm::RsaAesKwpSha256, bad);
        assert_eq!(part(rig.import(import).await.unwrap_err()), wrong("material"));
    }
    let not_rsa = ImportParameters { key: key.clone(), wrapping: KeySpec::P256 };
    let refused_spec = rig.kms.import_parameters(&call(&admin(), soon()), not_rsa).await.err().unwrap();
    assert_eq!(part(refused_spec), wrong("spec"));
    assert_eq!(rig.records(), before, "nothing was changed, and nothing is stored of a token");

    let ways = [Algorithm::RsaOaepSha1, Algorithm::RsaOaepSha256, Algorithm::RsaAesKwpSha1, Algorithm::RsaAesKwpSha256];
    for by in ways {
        // Through any node, as often as wanted: the same material in the same key is no change.
        rig.other().import(&call(&admin(), soon()), wrap(by)).await.unwrap();
    }
    rig.uses(&key).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_of_one_key_and_of_one_day() {
    let rig = Rig::new().await;
    let key = rig.made(external(KeySpec::Aes256)).await;
    let other = rig.made(external(KeySpec::Aes256)).await;
    let with = rig.parameters(&key).await.unwrap();
    let material = fresh(KeySpec::Aes256).material;
    let wrap = || rig.wrapped(&key, &with, Algorithm::RsaOaepSha256, &material);
    refused(rig.import(Import { key: other.clone(), ..wrap() }).await, Reason::TokenForeign);
    let mut bad = with.token.clone();
    *bad.last_mut().unwrap() ^= 1;
    for token in [bad, with.token[1..].to_vec(), vec![], vec![1; 5000]] {
        refused(rig.import(Import { token: token.into(), ..wrap() }).await, Reason::TokenForeign);
    }
    // Neither another key nor a later end can be written over what the token says of itself.
    let mut later_end = with.token.clone();
    later_end[23..31].copy_from_slice(&(with.expires_ms + DAY).to_be_bytes());
    refused(rig.import(Import { token: later_end.into(), ..wrap() }).await, Reason::TokenForeign);
    let KeyHandle::Id(of) = &other else { panic!("an id") };
    let mut moved = with.token.clone();
    moved[5..21].copy_from_slice(&of.0);
    refused(rig.import(Import { key: other.clone(), token: moved.into(), ..wrap() }).await, Reason::TokenForeign);
    // Nobody is told anything who may not import at all.
    refused(rig.kms.import(&call(&user(), soon()), wrap()).await, Reason::Denied);
    let asked = ImportParameters { key: key.clone(), wrapping: KeySpec::Rsa2048 };
    refused(rig.kms.import_parameters(&call(&user(), soon()), asked).await, Reason::Denied);

    rig.wall.0.store(with.expires_ms - MINUTE, Ordering::SeqCst);
    rig.import(wrap()).await.unwrap();
    rig.wall.0.store(with.expires_ms, Ordering::SeqCst);
    let said = refused(rig.import(wrap()).await, Reason::TokenExpired);
    assert!(said.contains("get new parameters"), "{said}");
    // With another day's token it goes again.
    rig.put(&key, &material, 0).await.unwrap();
    // A clock that leaps has the log written to, also when nobody asks.
    rig.replica.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_deleted_comes_back_and_nothing_else_does() {
    let rig = Rig::new().await;
    let key = rig.made(external(KeySpec::Aes256)).await;
    let material = fresh(KeySpec::Aes256).material;
    let said = refused(rig.uses(&key).await, Reason::MaterialMissing);
    assert!(said.contains("import it first"), "{said}");
    assert!(!rig.delete(&key).await.unwrap().has_material, "nothing to do");
    let first = rig.put(&key, &material, 0).await.unwrap();
    let blob = rig.uses(&key).await.unwrap();

    let deleted = rig.delete(&key).await.unwrap();
    assert_eq!((deleted.has_material, deleted.material_id), (false, first.material_id));
    let before = rig.records();
    assert!(!rig.delete(&key).await.unwrap().has_material && rig.records() == before, "nothing to do");
    assert_eq!(rig.missing(&key).await, 1);
    for kms in [rig.kms.clone(), rig.other()] {
        refused(kms.decrypt(&user(), &blob, &no_aad(), None, soon()).await, Reason::MaterialMissing);
    }
    let said = refused(rig.put(&key, &fresh(KeySpec::Aes256).material, 0).await, Reason::WrongMaterial);
    assert!(said.contains("would be lost"), "{said}");
    assert_eq!(rig.records(), before);
    assert_eq!(rig.put(&key, &material, 0).await.unwrap().material_id, first.material_id);
    assert_eq!(rig.other().decrypt(&user(), &blob, &no_aad(), None, soon()).await.unwrap().plaintext[..], b"x"[..]);
    refused(rig.put(&key, &fresh(KeySpec::Aes256).material, 0).await, Reason::WrongMaterial);

    // It stays deleted while the key waits for its destruction, and after that is called off.
    let window = DeletionWindow::from_days(7).unwrap();
    rig.commit(ScheduleDeletion { key: key.clone(), window }).await.unwrap();
    rig.delete(&key).await.unwrap();
    refused(rig.put(&key, &material, 0).await, Reason::KeyPendingDeletion);
    refused(rig.uses(&key).await, Reason::KeyPendingDeletion);
    rig.kms.cancel_key_deletion(&admin(), &key, soon()).await.unwrap();
    refused(rig.uses(&key).await, Reason::MaterialMissing);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_keys_that_are_made_for_it_take_material_and_those_are_not_rotated_unasked() {
    let rig = Rig::new().await;
    let ours = id(rig.key().await);
    refused(rig.parameters(&ours).await, Reason::Unsupported);
    refused(rig.delete(&ours).await, Reason::Unsupported);
    let key = rig.made(external(KeySpec::Aes256)).await;
    let with = rig.parameters(&key).await.unwrap();
    let material = fresh(KeySpec::Aes256).material;
    let to_ours = rig.wrapped(&ours, &with, Algorithm::RsaOaepSha256, &material);
    refused(rig.import(to_ours).await, Reason::Unsupported);
    let period = RotationPeriod::parse(30, 0).unwrap();
    for _ in 0..2 {
        refused(rig.commit(SetRotation { key: key.clone(), period }).await, Reason::Unsupported);
        rig.put(&key, &material, 0).await.unwrap();
    }
    // The token of a creation stands for its origin, too.
    let token = Some(rig.token(1));
    let made = rig.made(Create { token, ..external(KeySpec::Aes256) }).await;
    assert_eq!(rig.made(Create { token, ..external(KeySpec::Aes256) }).await, made);
    for other in [wanted(None, token), Create { exportable: Exportable::No, token, ..external(KeySpec::Aes256) }] {
        refused(rig.kms.create_key(&admin(), &other, soon()).await, Reason::TokenReused);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn material_ends_by_whichever_clock_and_is_erased_by_all_of_them() {
    let rig = Rig::new().await;
    let key = rig.made(external(KeySpec::Aes256)).await;
    let material = fresh(KeySpec::Aes256).material;
    let now = rig.wall.now_ms();
    let past = rig.put(&key, &material, now - 1).await.unwrap_err();
    assert_eq!(past.part().map(|part| part.word()), Some("date"));
    rig.put(&key, &material, now + 2 * DAY).await.unwrap();
    // Imported again, with another end.
    let end = now + 60 * MINUTE;
    assert_eq!(rig.put(&key, &material, end).await.unwrap().dates.material_expires, end);
    assert_eq!(rig.count(Table::Due), 1);
    let again = async || {
        let with = rig.parameters(&key).await.unwrap();
        rig.import(rig.wrapped(&key, &with, Algorithm::RsaAesKwpSha256, &material)).await
    };
    assert_eq!(again().await.unwrap().dates.material_expires, end, "who says nothing of its end changes none");
    let blob = rig.uses(&key).await.unwrap();

    rig.wall.0.store(end, Ordering::SeqCst);
    for kms in [rig.kms.clone(), rig.other()] {
        refused(kms.decrypt(&user(), &blob, &no_aad(), None, soon()).await, Reason::MaterialMissing);
        refused(kms.encrypt(&user(), &key, b"x", &no_aad(), soon()).await, Reason::MaterialMissing);
    }
    refused(rig.export(&admin(), &key, None).await, Reason::MaterialMissing);
    assert_eq!(rig.missing(&key).await, 1, "it is not there for anybody, although nothing has erased it");
    let listed = rig.kms.list_keys(&user(), PageLen::parse(0).unwrap(), b"", soon()).await.unwrap().items;
    assert_eq!(listed[0].origin.imported().unwrap().missing, 1, "nor in a list");
    assert!(rig.version(&key).await.has_material);
    rig.wall.0.store(now, Ordering::SeqCst);
    rig.uses(&key).await.unwrap();

    later(&rig, 6 * MINUTE).await;
    assert_eq!(rig.kms.duties.look_after(Duty::Expire).await.unwrap(), 0);
    rig.uses(&key).await.unwrap();
    later(&rig, 55 * MINUTE).await;
    let erased = async || rig.kms.duties.look_after(Duty::Expire).await.unwrap() == 1;
    let limit = Instant::now() + Duration::from_secs(30);
    while !erased().await {
        assert!(Instant::now() < limit, "it is not erased");
        later(&rig, 6 * MINUTE).await;
    }
    let version = rig.version(&key).await;
    assert_eq!((version.has_material, version.dates.material_expires), (false, end));
    assert_eq!((rig.missing(&key).await, rig.count(Table::Due)), (1, 0));
    refused(rig.uses(&key).await, Reason::MaterialMissing);
    assert!(refused(again().await, Reason::InvalidArgument).contains("say when now, or never"));
    // What is the same comes back, to stay.
    let back = rig.put(&key, &material, 0).await.unwrap();
    assert_eq!((back.has_material, back.dates.material_expires), (true, 0));
    assert_eq!(rig.other().decrypt(&user(), &blob, &no_aad(), None, soon()).await.unwrap().plaintext[..], b"x"[..]);
    until("nothing is due", || rig.count(Table::Due) == 0).await;

    // An end that was filed and does not hold any more erases nothing.
    rig.put(&key, &material, rig.wall.now_ms() + DAY).await.unwrap();
    rig.delete(&key).await.unwrap();
    assert_eq!(rig.count(Table::Due), 0);
    assert_eq!(again().await.unwrap().dates.material_expires, 0, "nothing is left of that end");
    rig.replica.shutdown().await;
}

/// What is destroyed before its end is taken off the list when that comes, and nothing else happens.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_what_is_destroyed_already_is_forgotten() {
    let rig = Rig::new().await;
    let (destroyed, purged) = (rig.made(external(KeySpec::Aes256)).await, rig.made(external(KeySpec::Aes256)).await);
    let end = rig.wall.now_ms() + 60 * MINUTE;
    for key in [&destroyed, &purged] {
        rig.put(key, &fresh(KeySpec::Aes256).material, end).await.unwrap();
    }
    rig.commit(Revoke { key: destroyed.clone(), version: None, why: Revocation::Deactivate }).await.unwrap();
    rig.commit(DestroyVersion { key: destroyed.clone(), version: KeyVersion::FIRST }).await.unwrap();
    assert_eq!(rig.missing(&destroyed).await, 0, "what is destroyed is not missed");
    let window = DeletionWindow::from_days(7).unwrap();
    rig.commit(ScheduleDeletion { key: purged.clone(), window }).await.unwrap();
    rig.commit(Purge { key: purged }).await.unwrap();
    later(&rig, 6 * MINUTE).await;
    assert_eq!(rig.kms.duties.look_after(Duty::Destroy).await.unwrap(), 1);
    assert_eq!(rig.count(Table::Due), 3, "two ends, and that of the key's empty record");
    let limit = Instant::now() + Duration::from_secs(30);
    while rig.count(Table::Due) > 1 {
        assert!(Instant::now() < limit, "their ends are not forgotten");
        later(&rig, 30 * MINUTE).await;
        assert_eq!(rig.kms.duties.look_after(Duty::Expire).await.unwrap(), 0, "there is nothing to erase");
    }
    assert_eq!(rig.version(&destroyed).await.state, VersionState::Destroyed);
    rig.replica.shutdown().await;
}

/// The column of key-model §2.4 for a key without material, and the rows of import and export in every column.
#[tokio::test(flavor = "multi_thread")]
async fn the_table_where_material_is_missing_imported_and_exported() {
    let rig = Rig::new().await;
    let (kms, call) = (&rig.kms, call(&admin(), soon()));
    let missing = |row| {
        matches!(
            row,
            Row::Protect | Row::Process | Row::PublicKey | Row::Enable | Row::Activate | Row::Export | Row::Rotate
        )
    };
    for row in Row::ALL.iter().copied().filter(|row| !super::secrets::ROWS.contains(row)) {
        let pre_active = matches!(row, Row::Activate | Row::DestroyVersion);
        let key = rig.made(Create { activation: pre_active.then_some(0), ..external(KeySpec::P256) }).await;
        let (k, v) = (key.clone(), KeyVersion::FIRST);
        let input = || Input::Message(Bytes::from_static(b"m"));
        let done = match row {
            Row::Protect => {
                kms.perform(&call, Sign { by: By::key(k), input: input(), context: Bytes::new() }).await.map(drop)
            }
            Row::Process => {
                let (context, signature) = (Bytes::new(), Bytes::new());
                kms.perform(&call, Verify { by: By::key(k), input: input(), context, signature }).await.map(drop)
            }
            Row::PublicKey => kms.perform(&call, GetPublicKey { key: k, version: None }).await.map(drop),
            Row::Describe => kms.perform(&call, Describe { key: k }).await.map(drop),
            Row::Update => {
                rig.commit(Tag { key: k, tags: Tags::new([("a".into(), "b".into())]).unwrap() }).await.map(drop)
            }
            Row::Enable => {
                refused(rig.commit(Disable { key: k.clone() }).await, Reason::MaterialMissing);
                rig.commit(Enable { key: k }).await.map(drop)
            }
            Row::Activate => rig.commit(Activate { key: k, version: None }).await.map(drop),
            Row::Deactivate => {
                rig.commit(Revoke { key: k, version: None, why: Revocation::Deactivate }).await.map(drop)
            }
            Row::Compromise => {
                let why = Revocation::Compromise { since_ms: 0 };
                rig.commit(Revoke { key: k, version: None, why }).await.map(drop)
            }
            Row::DestroyVersion => rig.commit(DestroyVersion { key: k, version: v }).await.map(drop),
            Row::ScheduleDeletion => {
                let window = DeletionWindow::from_days(7).unwrap();
                rig.commit(ScheduleDeletion { key: k, window }).await.map(drop)
            }
            Row::Name => rig.commit(CreateAlias { name: "missing".parse().unwrap(), key: k }).await.map(drop),
            Row::Export => rig.export(&admin(), &k, None).await.map(drop),
            Row::Import => rig.put(&k, &fresh(KeySpec::P256).material, 0).await.map(drop),
            Row::DeleteMaterial => rig.delete(&k).await.map(drop),
            Row::Archive => rig.commit(Archive { key: k }).await.map(drop),
            Row::Rekey => {
                refused(rig.commit(Rekey { key: k, token: None }).await, Reason::Unsupported);
                Ok(())
            }
            Row::Recover => rig.commit(Recover { key: k }).await.map(drop),
            Row::Rotate => rig.commit(Rotate { key: k, token: None }).await.map(drop),
            Row::ReadSecret | Row::AddVersion => unreachable!("of secrets"),
        };
        match done {
            Ok(()) => assert!(!missing(row), "{row:?}"),
            Err(e) => assert_eq!((missing(row), e.reason()), (true, Reason::MaterialMissing), "{row:?}: {e}"),
        }
    }

    let table = [
        (Row::Export, ["pending", "disabled", "o", "o", "o", "o", "destroyed", "archived"]),
        (Row::Import, ["pending", "o", "o", "o", "o", "compromised", "destroyed", "archived"]),
        (Row::DeleteMaterial, ["o", "o", "o", "o", "o", "o", "destroyed", "archived"]),
    ];
    let material = fresh(KeySpec::P256).material;
    for (row, cells) in table {
        for (column, cell) in cells.into_iter().enumerate() {
            let pre_active = (column == 2).then_some(0);
            let key = rig.made(Create { activation: pre_active, ..external(KeySpec::P256) }).await;
            rig.put(&key, &material, 0).await.unwrap();
            let (k, with) = (key.clone(), rig.parameters(&key).await.unwrap());
            let revoke = |why| Revoke { key: key.clone(), version: None, why };
            match column {
                0 => {
                    let window = DeletionWindow::from_days(7).unwrap();
                    rig.commit(ScheduleDeletion { key: k, window }).await.map(drop).unwrap();
                }
                1 => rig.commit(Disable { key: k }).await.map(drop).unwrap(),
                2 | 3 => {}
                4 => rig.commit(revoke(Revocation::Deactivate)).await.map(drop).unwrap(),
                5 => rig.commit(revoke(Revocation::Compromise { since_ms: 0 })).await.map(drop).unwrap(),
                7 => rig.commit(Archive { key: k }).await.map(drop).unwrap(),
                _ => {
                    rig.commit(revoke(Revocation::Deactivate)).await.unwrap();
                    rig.commit(DestroyVersion { key: k, version: KeyVersion::FIRST }).await.map(drop).unwrap();
                }
            }
            let before = rig.records();
            let done = match row {
                Row::Export => rig.export(&admin(), &key, None).await.map(drop),
                Row::Import => {
                    rig.import(rig.wrapped(&key, &with, Algorithm::RsaAesKwpSha1, &material)).await.map(drop)
                }
                _ => rig.delete(&key).await.map(drop),
            };
            let reason = match cell {
                "o" => {
                    done.unwrap_or_else(|e| panic!("{row:?} in column {column}: {e}"));
                    continue;
                }
                "pending" => Reason::KeyPendingDeletion,
                "disabled" => Reason::KeyDisabled,
                "archived" => Reason::Archived,
                "compromised" => Reason::Compromised,
                _ => Reason::Destroyed,
            };
            assert_eq!(done.unwrap_err().reason(), reason, "{row:?} in column {column}");
            assert_eq!(rig.records(), before, "{row:?} in column {column} has changed something");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn material_leaves_as_it_was_said_when_the_key_was_made_and_that_is_noted_first() {
    let rig = Rig::new().await;
    let made = async |exportable| rig.made(Create { exportable, ..wanted(None, None) }).await;
    let wrapping = async |spec, by| {
        let kind = NewKind::new(spec, Some(Purpose::Wrap), by).unwrap();
        rig.made(Create { kind, ..wanted(None, None) }).await
    };
    let (never, wrapped, plain) =
        (made(Exportable::No).await, made(Exportable::Wrapped).await, made(Exportable::Plain).await);
    let kek = wrapping(KeySpec::Aes256, None).await;
    let by = || Some(By::key(kek.clone()));
    let before = rig.records();
    refused(rig.export(&admin(), &never, None).await, Reason::NotExportable);
    refused(rig.export(&admin(), &never, by()).await, Reason::NotExportable);
    refused(rig.export(&admin(), &wrapped, None).await, Reason::WrappedOnly);
    refused(rig.export(&user(), &plain, None).await, Reason::Denied);
    refused(rig.export(&user(), &wrapped, by()).await, Reason::Denied);
    refused(rig.export(&admin(), &plain, Some(By::key(never.clone()))).await, Reason::WrongUsage);
    let wrong = Some(By { algorithm: Some(Algorithm::AesGcm), ..By::key(kek.clone()) });
    refused(rig.export(&admin(), &plain, wrong).await, Reason::WrongAlgorithm);
    let absent = Export { key: plain.clone(), version: KeyVersion::new(2), wrap: None };
    refused(rig.kms.export(&call(&admin(), soon()), absent).await, Reason::NotFound);
    assert_eq!(rig.records(), before, "what did not leave is not noted");
    assert_eq!(rig.version(&plain).await.first_exported_ms, 0);

    let blob = rig.uses(&plain).await.unwrap();
    let clear = rig.export(&admin(), &plain, None).await.unwrap();
    assert_eq!((clear.material.len(), clear.wrapped_by), (32, None));
    let noted = rig.version(&plain).await.first_exported_ms;
    assert!(noted >= rig.wall.now_ms());
    let after = rig.records();
    assert_eq!(*rig.export(&admin(), &plain, None).await.unwrap().material, *clear.material);
    assert_eq!(rig.records(), after, "noted once");
    // It is the key: what is imported elsewhere has the same bytes. The version has kept its material.
    assert_eq!(rig.other().decrypt(&user(), &blob, &no_aad(), None, soon()).await.unwrap().plaintext[..], b"x"[..]);
    let again = rig.made(external(KeySpec::Aes256)).await;
    rig.put(&again, &clear.material, 0).await.unwrap();
    assert_eq!(*rig.export(&admin(), &again, None).await.unwrap().material, *clear.material);

    let out = rig.export(&admin(), &wrapped, by()).await.unwrap();
    assert_eq!(out.wrapped_by.map(|used| (id(used.key), used.algorithm)), Some((kek.clone(), Algorithm::AesKwp)));
    let unwrap = Unwrap { by: By::key(kek.clone()), wrapped: out.material.to_vec().into() };
    let inside = rig.kms.perform(&call(&user(), soon()), unwrap).await.unwrap().key;
    assert_eq!(Material::import(KeySpec::Aes256, &inside).unwrap().material, inside);
    assert!(rig.version(&wrapped).await.first_exported_ms > 0);
    // What does not fit is refused before anything is noted.
    let pair =
        rig.made(Create { kind: kind(KeySpec::Rsa2048), exportable: Exportable::Wrapped, ..wanted(None, None) }).await;
    let rsa = wrapping(KeySpec::Rsa2048, None).await;
    let too_long = rig.export(&admin(), &pair, Some(By::key(rsa.clone()))).await.err().unwrap();
    assert_eq!(too_long.reason(), Reason::TooLarge, "{too_long}");
    assert_eq!(rig.version(&pair).await.first_exported_ms, 0);
    let fits = By { algorithm: Some(Algorithm::RsaAesKwpSha256), ..By::key(rsa) };
    rig.export(&admin(), &pair, Some(fits)).await.unwrap();
    rig.commit(Disable { key: kek.clone() }).await.unwrap();
    refused(rig.export(&admin(), &wrapped, by()).await, Reason::KeyDisabled);
    // A note is no use: it changes neither what the version may do nor its material.
    let update = UpdateVersion {
        key: plain.clone(),
        version: None,
        enabled: Some(false),
        activation: None,
        protect_start: None,
        process_start: None,
        protect_stop: None,
        deactivation: None,
        tags: Default::default(),
        untag: Vec::new(),
    };
    assert_eq!(rig.commit(update).await.unwrap().first_exported_ms, noted);
    assert_eq!(*rig.export(&admin(), &plain, None).await.unwrap().material, *clear.material);
}
