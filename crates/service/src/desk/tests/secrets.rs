//! Secrets through the desk: their life, their states, their bounds.

use quorate_core::decide::destroy::VERSIONS_PER_STEP;
use quorate_core::decide::{
    CancelDeletion, CreateAlias, DestroyVersion, Disable, Enable, Purge, Revocation, Revoke, ScheduleDeletion,
    SetRotation, SetSecret, UpdateSecret,
};
use quorate_core::id::KeyVersion;
use quorate_core::lifecycle::{KeyState, Row, VersionState};
use quorate_core::name::Class;
use quorate_core::request::{KeyFilter, ObjectName, PageLen, RotationPeriod, SECRET_LEN_MAX};
use quorate_core::views::{KeyView, SecretView};
use quorate_crypto::SecretBytes;

use super::*;
use crate::desk::Page;
use crate::operation::{
    By, Describe, DescribeSecret, Encrypt, Export, GenerateDataKey, GetPublicKey, Input, ListObjects, ListVersions,
    MakeMac, ReadSecret, Sign,
};

/// The rows of the table of states that are of secrets alone.
pub(super) const ROWS: [Row; 2] = [Row::ReadSecret, Row::AddVersion];

fn name(text: &str) -> ObjectName {
    text.parse().unwrap()
}
fn secret(text: &str) -> KeyHandle {
    KeyHandle::Secret(name(text))
}
fn of(text: &str) -> SetSecret {
    SetSecret {
        name: name(text),
        content_type: Default::default(),
        not_before_ms: 0,
        expires_ms: 0,
        enabled: true,
        tags: Tags::default(),
        purge_protected: false,
        value_tag: [0; 32],
        token: None,
    }
}
fn nothing(text: &str) -> UpdateSecret {
    UpdateSecret {
        secret: secret(text),
        version: None,
        enabled: None,
        content_type: None,
        not_before: None,
        expires: None,
        tags: Tags::default(),
        untag: Vec::new(),
    }
}
fn tag(n: &str, value: &str) -> Tags {
    Tags::new([(n.into(), value.into())]).unwrap()
}

impl Rig {
    async fn set_to(&self, wanted: SetSecret, value: &[u8]) -> Result<KeyView, Error> {
        self.kms.set_secret(&call(&admin(), soon()), wanted, SecretBytes::new(value.to_vec())).await
    }
    async fn read(&self, who: &Principal, secret: KeyHandle, version: Option<u32>) -> Result<Vec<u8>, Error> {
        let version = version.and_then(KeyVersion::new);
        let read = self.kms.perform(&call(who, soon()), ReadSecret { secret, version }).await?;
        Ok(read.value.to_vec())
    }
    async fn told(&self, of: &str) -> Result<SecretView, Error> {
        self.kms.perform(&call(&user(), soon()), DescribeSecret { secret: secret(of) }).await
    }
    async fn change_secret<D: quorate_core::decide::Decide>(&self, request: D) -> Result<D::Answer, Error> {
        self.kms.commit(&call(&admin(), soon()), &request).await
    }
    async fn secrets(&self, filter: KeyFilter, token: &[u8]) -> Page<KeyView> {
        let list =
            ListObjects { class: Class::Secret, len: PageLen::parse(2).unwrap(), filter, token: token.to_vec().into() };
        self.kms.page(&call(&user(), soon()), list).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_has_versions_and_what_is_said_of_them() {
    let rig = Rig::new().await;
    let text =
        SetSecret { content_type: "text/plain".parse().unwrap(), tags: tag("team", "shop"), ..of("Db-Password") };
    let made = rig.set_to(text, b"s3cret one").await.unwrap();
    assert_eq!((made.name.as_ref().unwrap().as_str(), made.current.get()), ("Db-Password", 1));
    let set = rig.set_to(of("db-password"), b"s3cret two").await.unwrap();
    assert_eq!((set.id, set.current.get(), &set.tags), (made.id, 2, &tag("team", "shop")));
    assert_eq!(set.name, made.name, "it is called as it was first written");
    for who in [admin(), user()] {
        assert_eq!(rig.read(&who, secret("DB-PASSWORD"), None).await.unwrap(), b"s3cret two");
        assert_eq!(rig.read(&who, secret("db-password"), Some(1)).await.unwrap(), b"s3cret one");
    }
    let said = refused(rig.read(&user(), secret("db-password"), Some(3)).await, Reason::NotFound);
    assert!(said.contains("no version 3"), "{said}");
    let said = refused(rig.read(&user(), secret("other"), None).await, Reason::NotFound);
    assert!(said.starts_with("there is no secret other here"), "{said}");
    for (_, _, value) in rig.records() {
        assert!(!value.windows(6).any(|part| part == b"s3cret"), "no value lies in clear");
    }

    // What is known of a version, and changing it; its value stays.
    let now = rig.wall.now_ms();
    let update = UpdateSecret {
        version: Some(KeyVersion::FIRST),
        content_type: Some("application/json".parse().unwrap()),
        not_before: Some(now + 60_000),
        expires: Some(now + 120_000),
        tags: tag("stage", "live"),
        untag: vec!["team".into()],
        ..nothing("db-password")
    };
    let first = rig.change_secret(update.clone()).await.unwrap();
    assert_eq!(first.version.content_type.as_str(), "application/json");
    assert_eq!((first.version.version.get(), first.version.dates.protect_stop), (1, now + 120_000));
    assert_eq!(first.secret.tags, tag("stage", "live"));
    let records = rig.records();
    assert_eq!(rig.change_secret(UpdateSecret { untag: Vec::new(), ..update }).await.unwrap(), first);
    assert_eq!(rig.records(), records, "nothing to do");
    assert_eq!(rig.read(&user(), secret("db-password"), Some(1)).await.unwrap(), b"s3cret one", "dates only tell");
    rig.wall.0.fetch_add(180_000, Ordering::SeqCst);
    assert_eq!(rig.read(&user(), secret("db-password"), Some(1)).await.unwrap(), b"s3cret one");
    let backwards = UpdateSecret { expires: Some(now), not_before: Some(now), ..nothing("db-password") };
    refused(rig.change_secret(backwards).await, Reason::InvalidArgument);
    let backwards = SetSecret { expires_ms: 1, not_before_ms: 2, ..of("db-password") };
    refused(rig.set_to(backwards, b"x").await, Reason::InvalidArgument);

    let off = |enabled| UpdateSecret { enabled: Some(enabled), ..nothing("db-password") };
    assert!(!rig.change_secret(off(false)).await.unwrap().version.enabled);
    let disabled = rig.read(&user(), secret("db-password"), None).await.map_err(|e| e.of_secret(&name("db-password")));
    assert_eq!(refused(disabled, Reason::KeyDisabled), "version 2 of secret db-password is disabled; enable it first");
    assert_eq!(rig.read(&user(), secret("db-password"), Some(1)).await.unwrap(), b"s3cret one");
    rig.change_secret(off(true)).await.unwrap();
    let told = rig.told("db-password").await.unwrap();
    assert_eq!((told.version.version.get(), told.version.state), (2, VersionState::Active));
    let versions = ListVersions { key: secret("db-password"), len: PageLen::parse(0).unwrap(), before: None };
    let versions = rig.kms.perform(&call(&user(), soon()), versions).await.unwrap().versions;
    assert_eq!(versions.iter().map(|v| v.version.get()).collect::<Vec<_>>(), [2, 1]);
    assert_ne!(versions[0].material_id, versions[1].material_id);
}

/// The id of a value tells nothing of it: a guess could be tried.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_value_twice_has_two_ids() {
    let rig = Rig::new().await;
    for _ in 0..2 {
        rig.set_to(of("a"), b"1234").await.unwrap();
    }
    let versions = ListVersions { key: secret("a"), len: PageLen::parse(0).unwrap(), before: None };
    let versions = rig.kms.perform(&call(&user(), soon()), versions).await.unwrap().versions;
    assert_ne!(versions[0].material_id, versions[1].material_id);
    for version in versions {
        assert_ne!(version.material_id, rig.keyring.material_id(version.key, b"1234"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_is_read_by_nobody_and_keeps_its_name_until_it_is_purged() {
    let rig = Rig::new().await;
    let id = rig.set_to(of("a"), b"s3cret").await.unwrap().id;
    rig.set_to(of("a"), b"s3cret too").await.unwrap();
    let delete = || ScheduleDeletion { key: secret("a"), window: DeletionWindow::from_days(7).unwrap() };
    let of_a = |e: Error| e.of_secret(&name("a"));
    let said = refused(rig.change_secret(Purge { key: secret("a") }).await.map_err(of_a), Reason::WrongState);
    assert_eq!(said, "secret a is not deleted; only one that is deleted is recovered, or purged");
    let deleted = rig.change_secret(delete()).await.unwrap();
    assert!(matches!(deleted.state, KeyState::PendingDeletion { .. }));
    for desk in [rig.kms.clone(), rig.other()] {
        let read = desk.perform(&call(&admin(), soon()), ReadSecret { secret: secret("a"), version: None }).await;
        let said = refused(read.map_err(of_a), Reason::KeyPendingDeletion);
        assert!(said.starts_with("secret a was deleted") && said.ends_with("recover it, or purge it, first"), "{said}");
    }
    let before = rig.records();
    let set = rig.set_to(of("A"), b"s3cret").await.map_err(of_a);
    assert!(refused(set, Reason::KeyPendingDeletion).contains("recover it, or purge it"));
    refused(rig.change_secret(nothing("a")).await, Reason::KeyPendingDeletion);
    assert_eq!(rig.records(), before);

    let recovered = rig.change_secret(CancelDeletion { key: secret("a"), as_before: true }).await.unwrap();
    assert_eq!((recovered.id, recovered.state), (id, KeyState::Enabled));
    assert_eq!(rig.read(&user(), secret("a"), None).await.unwrap(), b"s3cret too");

    rig.change_secret(delete()).await.unwrap();
    assert_eq!(rig.change_secret(Purge { key: secret("a") }).await.unwrap(), id);
    assert_eq!((rig.count(Table::KeyVersion), rig.count(Table::Name)), (0, 0), "the values went with it");
    refused(rig.read(&user(), secret("a"), None).await, Reason::NotFound);
    let next = rig.set_to(SetSecret { purge_protected: true, ..of("a") }, b"new").await.unwrap();
    assert_ne!((next.id, next.current.get()), (id, 3));
    assert_eq!(rig.read(&user(), secret("a"), None).await.unwrap(), b"new");

    rig.change_secret(delete()).await.unwrap();
    let said = refused(rig.change_secret(Purge { key: secret("a") }).await.map_err(of_a), Reason::PurgeProtected);
    assert!(said.starts_with("secret a was set so that"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_has_1_to_32_kib_and_many_of_them_fit() {
    let rig = Rig::new().await;
    let before = rig.records();
    let said = refused(rig.set_to(of("a"), b"").await, Reason::InvalidArgument);
    assert!(said.contains("1 to 32768 bytes"), "{said}");
    let said = refused(rig.set_to(of("a"), &vec![b'x'; SECRET_LEN_MAX + 1]).await, Reason::TooLarge);
    assert!(said.contains("32769 bytes") && !said.contains("xx"), "{said}");
    assert_eq!(rig.records(), before);

    let long = SetSecret { content_type: "\u{10000}".repeat(255).parse().unwrap(), ..of("a") };
    for n in 0..35 {
        rig.set_to(long.clone(), &vec![n; SECRET_LEN_MAX]).await.unwrap();
    }
    for n in [1, 17, 35] {
        let value = rig.read(&user(), secret("a"), Some(n)).await.unwrap();
        assert_eq!((value.len(), u32::from(value[0])), (SECRET_LEN_MAX, n - 1));
    }
    let versions = ListVersions { key: secret("a"), len: PageLen::parse(0).unwrap(), before: None };
    assert_eq!(rig.kms.perform(&call(&user(), soon()), versions).await.unwrap().versions.len(), 35);
    rig.change_secret(UpdateSecret { enabled: Some(false), ..nothing("a") }).await.unwrap();
    // Most go with the purge itself, what is left with the duty's next look.
    let window = DeletionWindow::from_days(7).unwrap();
    rig.change_secret(ScheduleDeletion { key: secret("a"), window }).await.unwrap();
    rig.change_secret(Purge { key: secret("a") }).await.unwrap();
    let left = 35 - VERSIONS_PER_STEP as usize;
    assert_eq!((rig.count(Table::KeyVersion), rig.count(Table::Name)), (left, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_token_sets_a_secret_once() {
    let rig = Rig::new().await;
    let token = Some(rig.token(1));
    let wanted = SetSecret { token, ..of("a") };
    let made = rig.set_to(wanted.clone(), b"one").await.unwrap();
    assert_eq!(rig.set_to(wanted.clone(), b"one").await.unwrap(), made);
    let (by, value) = (call(&admin(), soon()), SecretBytes::new(b"one".to_vec()));
    assert_eq!(rig.other().set_secret(&by, wanted.clone(), value).await.unwrap(), made, "through another node");
    refused(rig.set_to(wanted, b"two").await, Reason::TokenReused);
    refused(rig.set_to(SetSecret { token, ..of("b") }, b"one").await, Reason::TokenReused);
    let more = SetSecret { token: Some(rig.token(2)), ..of("a") };
    assert_eq!(rig.set_to(more.clone(), b"two").await.unwrap().current.get(), 2);
    assert_eq!(rig.set_to(more, b"two").await.unwrap().current.get(), 2);
    assert_eq!(rig.count(Table::KeyVersion), 2);
}

/// Whoever comes first makes it, the others give it a version each; none is lost, and there is one of that name.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_set_a_new_secret_each_has_a_version() {
    let rig = Rig::new().await;
    let desks = [rig.kms.clone(), rig.other()];
    let tasks = (0..8u8).map(|n| {
        let kms = desks[usize::from(n % 2)].clone();
        tokio::spawn(async move {
            kms.set_secret(&call(&admin(), soon()), of("a"), SecretBytes::new(vec![n]))
                .await
                .map(|set| (set.current, n))
        })
    });
    let mut seen = Vec::new();
    for set in futures::future::join_all(tasks).await {
        match set.unwrap() {
            Ok(set) => seen.push(set),
            Err(e) => assert_eq!(e.reason(), Reason::Contended, "{e}"),
        }
    }
    seen.sort_unstable();
    assert_eq!(
        seen.iter().map(|(version, _)| version.get()).collect::<Vec<_>>(),
        (1..).take(seen.len()).collect::<Vec<_>>()
    );
    for (version, n) in seen {
        assert_eq!(rig.read(&user(), secret("a"), Some(version.get())).await.unwrap(), [n]);
    }
    assert_eq!((rig.count(Table::Key), rig.count(Table::Name)), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_secrets_are_listed_apart() {
    let rig = Rig::new().await;
    let key =
        rig.kms.create_key(&admin(), &Create { name: Some(name("c")), ..wanted(None, None) }, soon()).await.unwrap();
    for n in ["a", "b", "c"] {
        rig.set_to(SetSecret { tags: tag("n", n), ..of(n) }, b"x").await.unwrap();
    }
    let names = |page: &Page<KeyView>| {
        page.items.iter().map(|s| s.name.as_ref().unwrap().to_string()).collect::<Vec<_>>().join(" ")
    };
    let first = rig.secrets(KeyFilter::any(), &[]).await;
    assert_eq!(names(&first).split(' ').count(), 2);
    let rest = rig.secrets(KeyFilter::any(), first.next.as_ref().unwrap().as_bytes()).await;
    assert_eq!((names(&rest).split(' ').count(), rest.next), (1, None));
    assert_eq!(names(&rig.secrets(KeyFilter { tags: tag("n", "b"), ..KeyFilter::any() }, &[]).await), "b");
    let keys = ListObjects {
        class: Class::Key,
        len: PageLen::parse(0).unwrap(),
        filter: KeyFilter::any(),
        token: Bytes::new(),
    };
    assert_eq!(rig.kms.page(&call(&user(), soon()), keys).await.unwrap().items, [key]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_read_secrets_and_who_may_set_them() {
    let rig = Rig::new().await;
    rig.set_to(of("a"), b"s3cret").await.unwrap();
    let before = rig.records();
    let set = rig.kms.set_secret(&call(&user(), soon()), of("a"), SecretBytes::new(b"x".to_vec())).await;
    assert!(refused(set, Reason::Denied).contains("may not manage keys and secrets"));
    let set = rig.kms.set_secret(&call(&user(), soon()), of("new"), SecretBytes::new(b"x".to_vec())).await;
    refused(set, Reason::Denied);
    for role in [Role::Custodian, Role::Auditor] {
        for there in ["a", "b"] {
            let said = refused(rig.read(&as_role(role), secret(there), None).await, Reason::Denied);
            assert!(said.contains("may not read secrets"), "{said}");
        }
    }
    assert_eq!(rig.records(), before);
}

/// What is for keys is refused at a secret, and what is for secrets at a key, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn keys_are_no_secrets_and_secrets_no_keys() {
    let rig = Rig::new().await;
    let made = rig.set_to(of("a"), b"s3cret").await.unwrap().id;
    let key = rig.kms.create_key(&admin(), &wanted(Some("k"), None), soon()).await.unwrap().id;
    let before = rig.records();
    let (kms, call) = (&rig.kms, call(&admin(), soon()));
    let input = || Input::Message(Bytes::from_static(b"m"));
    for handle in [id(made), secret("a")] {
        let (h, by) = (|| handle.clone(), || By::key(handle.clone()));
        let data_key = GenerateDataKey { key: h(), len: 0, context: no_aad(), with_plaintext: true };
        let encrypt = Encrypt { by: by(), plaintext: Bytes::from_static(b"x"), bound: Default::default() };
        let period = RotationPeriod::parse(9, 0).unwrap();
        for done in [
            kms.perform(&call, encrypt).await.map(drop),
            kms.perform(&call, Sign { by: by(), input: input(), context: Bytes::new() }).await.map(drop),
            kms.perform(&call, MakeMac { by: by(), message: Bytes::new() }).await.map(drop),
            kms.perform(&call, data_key).await.map(drop),
            kms.perform(&call, GetPublicKey { key: h(), version: None }).await.map(drop),
            kms.export(&call, Export { key: h(), version: None, wrap: None }).await.map(drop),
            kms.commit(&call, &Rotate { key: h(), token: None }).await.map(drop),
            kms.commit(&call, &SetRotation { key: h(), period }).await.map(drop),
            kms.commit(&call, &CreateAlias { name: "x".parse().unwrap(), key: h() }).await.map(drop),
        ] {
            let said = refused(done, Reason::WrongKind);
            assert!(said.contains("is a secret, not a key"), "{said}");
        }
    }
    // Whoever has an id alone means a key.
    refused(kms.perform(&call, Describe { key: id(made) }).await, Reason::WrongKind);
    refused(kms.commit(&call, &Disable { key: id(made) }).await, Reason::WrongKind);
    for done in [
        rig.read(&admin(), id(key), None).await.map(drop),
        rig.read(&admin(), named("k"), None).await.map(drop),
        kms.perform(&call, DescribeSecret { secret: id(key) }).await.map(drop),
        kms.commit(&call, &UpdateSecret { secret: id(key), ..nothing("a") }).await.map(drop),
    ] {
        let said = refused(done, Reason::WrongKind);
        assert!(said.contains("is a key, not a secret"), "{said}");
    }
    // A ciphertext that names a secret names no key.
    let blob = kms.encrypt(&user(), &id(key), b"x", &no_aad(), soon()).await.unwrap().ciphertext;
    let at = blob.windows(16).position(|part| part == key.0).unwrap();
    let forged = [&blob[..at], &made.0, &blob[at + 16..]].concat();
    refused(kms.decrypt(&user(), &forged, &no_aad(), None, soon()).await, Reason::UnknownKey);
    assert_eq!(rig.records(), before);
}

/// In which state a secret, or its only version, is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Pending,
    Disabled,
    Off,
    Active,
    Deactivated,
    Compromised,
    Destroyed,
}

/// As key-model §2.4 has it, and a version that is disabled; "t" = for administrators. A secret is active from the beginning.
const TABLE: [(Row, [&str; 7]); 8] = [
    (Row::ReadSecret, ["pending", "disabled", "disabled", "o", "o", "t", "destroyed"]),
    (Row::AddVersion, ["pending", "disabled", "o", "o", "o", "o", "o"]),
    (Row::Describe, ["o", "o", "o", "o", "o", "o", "o"]),
    (Row::Update, ["pending", "o", "o", "o", "o", "o", "o"]),
    (Row::Enable, ["pending", "o", "o", "o", "o", "o", "o"]),
    (Row::Compromise, ["o", "o", "o", "o", "o", "o", "o"]),
    (Row::DestroyVersion, ["pending", "state", "state", "state", "o", "o", "destroyed"]),
    (Row::ScheduleDeletion, ["pending", "o", "o", "o", "o", "o", "o"]),
];

impl Rig {
    async fn verb(&self, row: Row, s: &str, who: &Principal) -> Result<(), Error> {
        let call = call(who, soon());
        match row {
            Row::ReadSecret => self.read(who, secret(s), None).await.map(drop),
            Row::AddVersion => self.kms.set_secret(&call, of(s), SecretBytes::new(b"new".to_vec())).await.map(drop),
            Row::Describe => {
                let len = PageLen::parse(0).unwrap();
                self.kms.perform(&call, ListVersions { key: secret(s), len, before: None }).await?;
                self.told(s).await.map(drop)
            }
            Row::Update => self.kms.commit(&call, &UpdateSecret { tags: tag("a", "b"), ..nothing(s) }).await.map(drop),
            Row::Enable => self.kms.commit(&call, &Enable { key: secret(s) }).await.map(drop),
            Row::Compromise => {
                let why = Revocation::Compromise { since_ms: 0 };
                self.kms.commit(&call, &Revoke { key: secret(s), version: None, why }).await.map(drop)
            }
            Row::DestroyVersion => {
                let version = KeyVersion::FIRST;
                self.kms.commit(&call, &DestroyVersion { key: secret(s), version }).await.map(drop)
            }
            Row::ScheduleDeletion => {
                let window = DeletionWindow::from_days(7).unwrap();
                self.kms.commit(&call, &ScheduleDeletion { key: secret(s), window }).await.map(drop)
            }
            _ => unreachable!("not in the table"),
        }
    }

    async fn secret_in(&self, state: State, s: &str) {
        self.set_to(of(s), b"s3cret").await.unwrap();
        let key = secret(s);
        let revoke = |why| Revoke { key: secret(s), version: None, why };
        match state {
            State::Active => {}
            State::Pending => self.verb(Row::ScheduleDeletion, s, &admin()).await.unwrap(),
            State::Disabled => drop(self.change_secret(Disable { key }).await.unwrap()),
            State::Off => {
                drop(self.change_secret(UpdateSecret { enabled: Some(false), ..nothing(s) }).await.unwrap());
            }
            State::Deactivated => drop(self.change_secret(revoke(Revocation::Deactivate)).await.unwrap()),
            State::Compromised => self.verb(Row::Compromise, s, &admin()).await.unwrap(),
            State::Destroyed => {
                self.change_secret(revoke(Revocation::Deactivate)).await.unwrap();
                self.verb(Row::DestroyVersion, s, &admin()).await.unwrap();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_of_states_and_verbs_of_secrets() {
    use State::*;
    let rig = Rig::new().await;
    let mut made = 0;
    for (row, cells) in TABLE {
        let states = [Pending, Disabled, Off, Active, Deactivated, Compromised, Destroyed];
        for (state, cell) in states.into_iter().zip(cells) {
            made += 1;
            let s = format!("s-{made}");
            rig.secret_in(state, &s).await;
            let before = rig.records();
            if cell == "t" {
                let done = rig.verb(row, &s, &user()).await.map_err(|e| e.of_secret(&name(&s)));
                let said = refused(done, Reason::Compromised);
                assert!(said.contains("only who manages secrets still reads it"), "{said}");
            }
            let done = rig.verb(row, &s, &admin()).await;
            match cell {
                "o" | "t" => done.unwrap_or_else(|e| panic!("{row:?} when {state:?}: {e}")),
                other => {
                    let error = done.expect_err(&format!("{row:?} when {state:?}"));
                    let reason = match other {
                        "pending" => Reason::KeyPendingDeletion,
                        "disabled" => Reason::KeyDisabled,
                        "destroyed" => Reason::Destroyed,
                        _ => Reason::WrongState,
                    };
                    assert_eq!(error.reason(), reason, "{row:?} when {state:?}: {error}");
                    assert!(!error.to_string().contains("s3cret"));
                    assert_eq!(rig.records(), before, "{row:?} when {state:?} has changed something");
                }
            }
        }
    }
}
