//! Which verb goes in which state (key-model §2.4): the table, cell by cell, through the desk.

use quorate_core::decide::{
    Activate, Archive, CancelDeletion, CreateAlias, DestroyVersion, Disable, Enable, Recover, Rekey, Revocation,
    Revoke, ScheduleDeletion, Tag, UpdateVersion,
};
use quorate_core::id::KeyVersion;
use quorate_core::key_spec::KeySpec;
use quorate_core::lifecycle::{Row, VersionState};
use quorate_core::views::KeyView;

use super::*;
use crate::operation::{By, Describe, GetPublicKey, Input, ListVersions, Sign, Verify};

/// In which state a key, or its only version, is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Pending,
    Archived,
    Disabled,
    PreActive,
    Active,
    Deactivated,
    Compromised,
    Destroyed,
}

const COLUMNS: [State; 8] = [
    State::Pending,
    State::Archived,
    State::Disabled,
    State::PreActive,
    State::Active,
    State::Deactivated,
    State::Compromised,
    State::Destroyed,
];

/// As it stands there; "t" = for administrators. Each cell that is no "o" or "t" is the refusal's reason.
const TABLE: [(Row, [&str; 8]); 16] = [
    (Row::Protect, ["pending", "archived", "disabled", "not yet", "o", "no longer", "compromised", "destroyed"]),
    (Row::Process, ["pending", "archived", "disabled", "not yet", "o", "o", "t", "destroyed"]),
    (Row::PublicKey, ["pending", "archived", "disabled", "o", "o", "o", "o", "o"]),
    (Row::Describe, ["o", "o", "o", "o", "o", "o", "o", "o"]),
    (Row::Update, ["pending", "archived", "o", "o", "o", "o", "o", "o"]),
    (Row::Enable, ["pending", "o", "o", "o", "o", "o", "o", "o"]),
    (Row::Rotate, ["pending", "archived", "disabled", "not yet", "o", "o", "o", "destroyed"]),
    (Row::Activate, ["pending", "archived", "o", "o", "state", "no longer", "compromised", "destroyed"]),
    (Row::Deactivate, ["pending", "archived", "o", "not yet", "o", "o", "o", "destroyed"]),
    (Row::Compromise, ["o", "archived", "o", "o", "o", "o", "o", "o"]),
    (Row::DestroyVersion, ["pending", "archived", "o", "o", "state", "o", "o", "destroyed"]),
    (Row::ScheduleDeletion, ["pending", "o", "o", "o", "o", "o", "o", "o"]),
    (Row::Name, ["pending", "o", "o", "o", "o", "o", "o", "o"]),
    (Row::Rekey, ["pending", "archived", "disabled", "o", "o", "o", "o", "destroyed"]),
    (Row::Archive, ["pending", "archived", "o", "o", "o", "o", "o", "destroyed"]),
    (Row::Recover, ["pending", "o", "o", "o", "o", "o", "o", "destroyed"]),
];

fn reason(cell: &str) -> Reason {
    match cell {
        "pending" => Reason::KeyPendingDeletion,
        "archived" => Reason::Archived,
        "disabled" => Reason::KeyDisabled,
        "not yet" => Reason::NotYetValid,
        "no longer" => Reason::NoLongerValid,
        "compromised" => Reason::Compromised,
        "destroyed" => Reason::Destroyed,
        "state" => Reason::WrongState,
        other => panic!("no such cell: {other}"),
    }
}

struct Table {
    rig: Rig,
    made: std::cell::Cell<u64>,
}

impl Table {
    async fn commit<D: quorate_core::decide::Decide>(&self, request: D) -> Result<(), Error> {
        self.rig.kms.commit(&call(&admin(), soon()), &request).await.map(drop)
    }

    /// A signing key in that state. Where the key's own state is asked for, its version is as the verb needs it.
    async fn key(&self, state: State, row: Row) -> KeyHandle {
        let kind = NewKind::new(KeySpec::P256, None, None).unwrap();
        let of_key = matches!(state, State::Pending | State::Archived | State::Disabled);
        let pre_active = state == State::PreActive || of_key && matches!(row, Row::Activate | Row::DestroyVersion);
        let wanted = Create { kind, activation: pre_active.then_some(0), ..wanted(None, None) };
        let key = id(self.rig.kms.create_key(&admin(), &wanted, soon()).await.unwrap().id);
        let revoke = |why| Revoke { key: key.clone(), version: None, why };
        let window = DeletionWindow::from_days(7).unwrap();
        let done = match state {
            State::Pending => self.commit(ScheduleDeletion { key: key.clone(), window }).await,
            State::Archived => self.commit(Archive { key: key.clone() }).await,
            State::Disabled => self.commit(Disable { key: key.clone() }).await,
            State::PreActive | State::Active => Ok(()),
            State::Deactivated => self.commit(revoke(Revocation::Deactivate)).await,
            State::Compromised => self.commit(revoke(Revocation::Compromise { since_ms: 0 })).await,
            State::Destroyed => {
                self.commit(revoke(Revocation::Deactivate)).await.unwrap();
                self.commit(DestroyVersion { key: key.clone(), version: KeyVersion::FIRST }).await
            }
        };
        done.unwrap();
        key
    }

    /// Does a verb of that row; what it signs, and verifies, matters to nobody.
    async fn verb(&self, row: Row, key: &KeyHandle, who: &Principal) -> Result<(), Error> {
        let (kms, call) = (&self.rig.kms, call(who, soon()));
        let key = key.clone();
        let by = By::key(key.clone());
        let input = Input::Message(Bytes::from_static(b"m"));
        let window = DeletionWindow::from_days(7).unwrap();
        match row {
            Row::Protect => kms.perform(&call, Sign { by, input, context: Bytes::new() }).await.map(drop),
            Row::Process => {
                let (context, signature) = (Bytes::new(), Bytes::new());
                kms.perform(&call, Verify { by, input, context, signature }).await.map(drop)
            }
            Row::PublicKey => kms.perform(&call, GetPublicKey { key, version: None }).await.map(drop),
            Row::Describe => {
                let len = PageLen::parse(0).unwrap();
                kms.perform(&call, ListVersions { key: key.clone(), len, before: None }).await?;
                kms.perform(&call, Describe { key }).await.map(drop)
            }
            Row::Update => {
                let tags = Tags::new([("a".into(), "b".into())]).unwrap();
                kms.commit(&call, &Tag { key, tags }).await.map(drop)
            }
            Row::Enable => kms.commit(&call, &Enable { key }).await.map(drop),
            Row::Rekey => kms.commit(&call, &Rekey { key, token: None }).await.map(drop),
            Row::Archive => kms.commit(&call, &Archive { key }).await.map(drop),
            Row::Recover => kms.commit(&call, &Recover { key }).await.map(drop),
            Row::Rotate => kms.commit(&call, &Rotate { key, token: None }).await.map(drop),
            Row::Activate => kms.commit(&call, &Activate { key, version: None }).await.map(drop),
            Row::Deactivate => {
                let why = Revocation::Deactivate;
                kms.commit(&call, &Revoke { key, version: None, why }).await.map(drop)
            }
            Row::Compromise => {
                let why = Revocation::Compromise { since_ms: 0 };
                kms.commit(&call, &Revoke { key, version: None, why }).await.map(drop)
            }
            Row::DestroyVersion => {
                kms.commit(&call, &DestroyVersion { key, version: KeyVersion::FIRST }).await.map(drop)
            }
            Row::ScheduleDeletion => kms.commit(&call, &ScheduleDeletion { key, window }).await.map(drop),
            Row::Name => {
                self.made.set(self.made.get() + 1);
                let name = format!("name-{}", self.made.get()).parse().unwrap();
                kms.commit(&call, &CreateAlias { name, key }).await.map(drop)
            }
            Row::Export | Row::Import | Row::DeleteMaterial => unreachable!("of keys that are made otherwise"),
            Row::ReadSecret | Row::AddVersion => unreachable!("of secrets"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_states_and_verbs() {
    let table = Table { rig: Rig::new().await, made: Default::default() };
    let elsewhere = |row: &Row| super::import::ROWS.contains(row) || super::secrets::ROWS.contains(row);
    let is_here = |row: &Row| TABLE.iter().any(|(of, _)| of == row) || elsewhere(row);
    assert!(Row::ALL.iter().all(is_here), "no row is left out");
    for (row, cells) in TABLE {
        for (state, cell) in COLUMNS.into_iter().zip(cells) {
            let key = table.key(state, row).await;
            let before = table.rig.records();
            if cell == "t" {
                refused(table.verb(row, &key, &user()).await, Reason::Compromised);
            }
            let done = table.verb(row, &key, &admin()).await;
            match cell {
                "o" | "t" => done.unwrap_or_else(|e| panic!("{row:?} when {state:?}: {e}")),
                other => {
                    let error = done.expect_err(&format!("{row:?} when {state:?}"));
                    assert_eq!(error.reason(), reason(other), "{row:?} when {state:?}: {error}");
                    assert_eq!(table.rig.records(), before, "{row:?} when {state:?} has changed something");
                }
            }
        }
    }
}

/// What is archived is used by no node, and comes back as it was, whatever happened to it meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_archived_comes_back_as_it_was() {
    let rig = Rig::new().await;
    let key = id(rig.key().await);
    let commit = call(&admin(), soon());
    let blob = rig.kms.encrypt(&user(), &key, b"x", &no_aad(), soon()).await.unwrap().ciphertext;
    let before = rig.kms.describe_key(&user(), &key, soon()).await.unwrap();
    refused(rig.kms.commit(&call(&user(), soon()), &Archive { key: key.clone() }).await, Reason::Denied);
    assert!(rig.kms.commit(&commit, &Archive { key: key.clone() }).await.unwrap().archived);
    for kms in [rig.kms.clone(), rig.other()] {
        let said = refused(kms.decrypt(&user(), &blob, &no_aad(), None, soon()).await, Reason::Archived);
        assert!(said.contains("recover it first"), "{said}");
    }
    // Its deletion can be scheduled, and called off: it is archived still.
    let window = DeletionWindow::from_days(7).unwrap();
    rig.kms.commit(&commit, &ScheduleDeletion { key: key.clone(), window }).await.unwrap();
    refused(rig.kms.commit(&commit, &Recover { key: key.clone() }).await, Reason::KeyPendingDeletion);
    rig.kms.commit(&commit, &CancelDeletion { key: key.clone(), as_before: true }).await.unwrap();
    refused(rig.kms.decrypt(&user(), &blob, &no_aad(), None, soon()).await, Reason::Archived);
    let back = rig.kms.commit(&commit, &Recover { key: key.clone() }).await.unwrap();
    assert_eq!(KeyView { updated_ms: before.updated_ms, ..back }, before);
    let records = rig.records();
    rig.kms.commit(&commit, &Recover { key: key.clone() }).await.unwrap();
    assert_eq!(rig.records(), records, "nothing to do");
    assert_eq!(rig.other().decrypt(&user(), &blob, &no_aad(), None, soon()).await.unwrap().plaintext[..], b"x"[..]);
}

/// What is destroyed is gone from the state and from memory at once; its head tells of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_version_leaves_its_head() {
    let rig = Rig::new().await;
    let key = id(rig.key().await);
    let old = rig.kms.encrypt(&user(), &key, b"old", &no_aad(), soon()).await.unwrap().ciphertext;
    rig.kms.rotate_key(&admin(), &Rotate { key: key.clone(), token: None }, soon()).await.unwrap();
    let new = rig.kms.encrypt(&user(), &key, b"new", &no_aad(), soon()).await.unwrap().ciphertext;
    let call = call(&admin(), soon());
    let newest = KeyVersion::new(2).unwrap();
    let active = rig.kms.commit(&call, &DestroyVersion { key: key.clone(), version: newest }).await;
    assert!(refused(active, Reason::WrongState).contains("deactivated first"));
    let absent = DestroyVersion { key: key.clone(), version: KeyVersion::new(3).unwrap() };
    refused(rig.kms.commit(&call, &absent).await, Reason::NotFound);
    let old_head =
        rig.kms.commit(&call, &DestroyVersion { key: key.clone(), version: KeyVersion::FIRST }).await.unwrap();
    assert_eq!(old_head.state, VersionState::Destroyed);
    for kms in [rig.kms.clone(), rig.other()] {
        refused(kms.decrypt(&user(), &old, &no_aad(), None, soon()).await, Reason::Destroyed);
        assert_eq!(kms.decrypt(&user(), &new, &no_aad(), None, soon()).await.unwrap().plaintext[..], b"new"[..]);
    }
    let len = PageLen::parse(0).unwrap();
    let listed = rig.kms.perform(&call, ListVersions { key: key.clone(), len, before: None }).await.unwrap();
    let states: Vec<_> = listed.versions.iter().map(|v| (v.version.get(), v.state)).collect();
    assert_eq!((states, listed.more), (vec![(2, VersionState::Active), (1, VersionState::Destroyed)], false));
    assert_eq!(listed.versions[1].material_id, old_head.material_id);
    assert_ne!(listed.versions[0].material_id, old_head.material_id);
    // What can still be changed of it brings no material back.
    let update = UpdateVersion {
        key: key.clone(),
        version: Some(KeyVersion::FIRST),
        enabled: Some(false),
        activation: None,
        protect_start: None,
        process_start: None,
        protect_stop: None,
        deactivation: None,
        tags: Default::default(),
        untag: Vec::new(),
    };
    assert_eq!(rig.kms.commit(&call, &update).await.unwrap().state, VersionState::Destroyed);
    refused(rig.other().decrypt(&user(), &old, &no_aad(), None, soon()).await, Reason::KeyDisabled);
}

/// A version that is changed keeps its material; dates are kept to, by whichever clock.
#[tokio::test(flavor = "multi_thread")]
async fn dates_are_kept_to_and_material_stays() {
    let rig = Rig::new().await;
    let key = id(rig.key().await);
    let blob = rig.kms.encrypt(&user(), &key, b"x", &no_aad(), soon()).await.unwrap().ciphertext;
    let now = rig.wall.now_ms();
    let none = UpdateVersion {
        key: key.clone(),
        version: None,
        enabled: None,
        activation: None,
        protect_start: None,
        process_start: None,
        protect_stop: None,
        deactivation: None,
        tags: Default::default(),
        untag: Vec::new(),
    };
    let update = |change: UpdateVersion| {
        let kms = rig.kms.clone();
        async move { kms.commit(&call(&admin(), soon()), &change).await }
    };
    let encrypts = async || rig.kms.encrypt(&user(), &key, b"y", &no_aad(), soon()).await;
    let decrypts = async || rig.kms.decrypt(&user(), &blob, &no_aad(), None, soon()).await;

    update(UpdateVersion { protect_start: Some(now + 3_600_000), ..none.clone() }).await.unwrap();
    assert!(refused(encrypts().await, Reason::NotYetValid).contains("before"));
    assert_eq!(decrypts().await.unwrap().plaintext[..], b"x"[..]);
    let contradiction = UpdateVersion { protect_stop: Some(now + 1_800_000), ..none.clone() };
    refused(update(contradiction).await, Reason::InvalidArgument);
    let plain = UpdateVersion { protect_start: Some(0), protect_stop: Some(now + 60_000), ..none.clone() };
    let updated = update(plain.clone()).await.unwrap();
    assert_eq!(update(plain).await.unwrap(), updated, "nothing to do");
    encrypts().await.unwrap();
    rig.wall.0.fetch_add(61_000, std::sync::atomic::Ordering::SeqCst);
    refused(encrypts().await, Reason::NoLongerValid);
    assert_eq!(decrypts().await.unwrap().plaintext[..], b"x"[..]);
    refused(update(UpdateVersion { activation: Some(1), ..none.clone() }).await, Reason::WrongState);
    update(UpdateVersion { enabled: Some(false), ..none.clone() }).await.unwrap();
    refused(decrypts().await, Reason::KeyDisabled);
    update(UpdateVersion { enabled: Some(true), protect_stop: Some(0), ..none }).await.unwrap();
    encrypts().await.unwrap();
    assert_eq!(rig.other().decrypt(&user(), &blob, &no_aad(), None, soon()).await.unwrap().plaintext[..], b"x"[..]);
}
