//! Namespaces through the desk: names and lists of their own, and an end that nothing slips through.

use quorate_core::decide::{
    Archive, CloseNamespace, CreateNamespace, Decide, Purge, Rekey, ScheduleDeletion, SetSecret,
};
use quorate_core::id::Namespace;
use quorate_core::lifecycle::KeyState;
use quorate_core::name::Class;
use quorate_core::record::{Exportable, NamespaceSettings, NamespaceState, Record};
use quorate_core::request::{KeyFilter, NamespaceName};
use quorate_core::views::{KeyView, NamespaceView};
use quorate_crypto::SecretBytes;

use super::*;
use crate::call::Call;
use crate::operation::{
    BackUp, Binding, Decrypt, Describe, DescribeNamespace, Given, ListAliases, ListNamespaces, ListObjects, ReadSecret,
    RestoreKey,
};
use crate::testing::node::call_in;

fn called(name: &str) -> NamespaceName {
    name.parse().unwrap()
}
fn within(namespace: &str) -> Call {
    call_in(namespace, &admin(), soon())
}

impl Rig {
    async fn namespace_called(&self, name: &str) -> Result<NamespaceView, Error> {
        let settings = NamespaceSettings::default();
        self.kms.commit(&call(&admin(), soon()), &CreateNamespace { name: called(name), settings }).await
    }
    async fn commit_in<D: Decide>(&self, namespace: &str, request: D) -> Result<D::Answer, Error> {
        self.kms.commit(&within(namespace), &request).await
    }
    async fn set_secret_in(&self, namespace: &str, value: &[u8]) -> KeyView {
        let wanted = SetSecret {
            name: "pay".parse().unwrap(),
            content_type: Default::default(),
            not_before_ms: 0,
            expires_ms: 0,
            enabled: true,
            tags: Tags::default(),
            purge_protected: false,
            value_tag: [0; 32],
            token: None,
        };
        self.kms.set_secret(&within(namespace), wanted, SecretBytes::new(value.to_vec())).await.unwrap()
    }
    /// Keys, secrets and aliases that its lists show, page by page of one.
    async fn listed_in(&self, namespace: &str) -> [Vec<String>; 3] {
        let (call, len) = (within(namespace), PageLen::parse(1).unwrap());
        let mut lists: [Vec<String>; 3] = Default::default();
        for (n, list) in lists.iter_mut().enumerate() {
            let mut token = Bytes::new();
            loop {
                let (names, next) = match n {
                    0 => {
                        let page = ListObjects { class: Class::Key, len, filter: KeyFilter::any(), token };
                        let page = self.kms.page(&call, page).await.unwrap();
                        (page.items.iter().map(|key| key.id.to_string()).collect::<Vec<_>>(), page.next)
                    }
                    1 => {
                        let page = ListObjects { class: Class::Secret, len, filter: KeyFilter::any(), token };
                        let page = self.kms.page(&call, page).await.unwrap();
                        (page.items.iter().map(|secret| secret.id.to_string()).collect(), page.next)
                    }
                    _ => {
                        let page = self.kms.page(&call, ListAliases { len, token }).await.unwrap();
                        (page.items.iter().map(|alias| alias.key.to_string()).collect(), page.next)
                    }
                };
                list.extend(names);
                let Some(next) = next else { break };
                token = Bytes::copy_from_slice(next.as_bytes());
            }
        }
        lists
    }
    async fn purge_in(&self, namespace: &str, key: &KeyHandle) {
        let window = DeletionWindow::from_days(7).unwrap();
        self.commit_in(namespace, ScheduleDeletion { key: key.clone(), window }).await.unwrap();
        self.commit_in(namespace, Purge { key: key.clone() }).await.unwrap();
    }
    /// What a table holds.
    fn opened(&self, table: Table) -> Vec<Record> {
        let (barrier, rows) = (&self.kms.records.barrier, self.records());
        let rows = rows.into_iter().filter(|(key, ..)| key.table() == table);
        rows.map(|(key, _, value)| barrier.record(&self.keyring, &key, None, &value).unwrap()).collect()
    }
    /// In which namespaces there are objects that anybody finds, and which there are besides the first.
    fn homes(&self) -> [Vec<Namespace>; 2] {
        let [mut homes, mut there] = <[Vec<Namespace>; 2]>::default();
        for record in [Table::Key, Table::Namespace].into_iter().flat_map(|table| self.opened(table)) {
            match record {
                Record::Key(key) if key.state != KeyState::Destroyed => homes.push(key.namespace),
                Record::Namespace(namespace) => there.push(namespace.number),
                _ => {}
            }
        }
        [homes, there]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_namespaces_have_the_same_names_and_lists_of_their_own() {
    let rig = Rig::new().await;
    let made = rig.namespace_called("Team-A").await.unwrap();
    assert_eq!((made.name.as_str(), made.state), ("team-a", NamespaceState::Live));
    let named = |alias: &str| Create { name: Some("pay".parse().unwrap()), ..wanted(Some(alias), None) };
    let one = rig.commit_in("default", named("pay")).await.unwrap();
    let two = rig.commit_in("team-a", named("pay")).await.unwrap();
    // What is made in one millisecond is listed in any order.
    rig.wall.0.fetch_add(2, Ordering::SeqCst);
    let three = rig.commit_in("team-a", wanted(None, Some(rig.token(1)))).await.unwrap();
    let secrets = [rig.set_secret_in("default", b"one").await, rig.set_secret_in("team-a", b"two").await];
    let text = |keys: &[&KeyView]| keys.iter().map(|key| key.id.to_string()).collect::<Vec<_>>();
    let (one, two, three) = (&one, &two, &three);
    assert_eq!(rig.listed_in("default").await, [text(&[one]), text(&[&secrets[0]]), text(&[one])]);
    assert_eq!(rig.listed_in("team-a").await, [text(&[three, two]), text(&[&secrets[1]]), text(&[two])]);
    for (namespace, key, value) in [("default", one, &b"one"[..]), ("team-a", two, b"two")] {
        let call = call_in(namespace, &user(), soon());
        for handle in ["pay", "key/pay"] {
            let found = rig.kms.perform(&call, Describe { key: handle.parse().unwrap() }).await;
            assert_eq!(found.unwrap().id, key.id, "{namespace}: {handle}");
        }
        let read = ReadSecret { secret: KeyHandle::Secret("pay".parse().unwrap()), version: None };
        assert_eq!(&rig.kms.perform(&call, read).await.unwrap().value[..], value);
        // By its id everything is reached from everywhere, and a ciphertext names its key by that.
        let sealed = rig.kms.encrypt(&user(), &id(key.id), b"x", &no_aad(), soon()).await.unwrap();
        let opened = rig.kms.decrypt(&user(), &sealed.ciphertext, &no_aad(), None, soon()).await.unwrap();
        assert_eq!((&opened.plaintext[..], opened.used.key), (&b"x"[..], key.id));
    }
    // A page of one list is no page of another's.
    let first = ListObjects {
        class: Class::Key,
        len: PageLen::parse(1).unwrap(),
        filter: KeyFilter::any(),
        token: Bytes::new(),
    };
    let next = rig.kms.page(&within("team-a"), first).await.unwrap().next.unwrap();
    let token = Bytes::copy_from_slice(next.as_bytes());
    let other = ListObjects { class: Class::Key, len: PageLen::parse(1).unwrap(), filter: KeyFilter::any(), token };
    refused(rig.kms.page(&within("default"), other).await, Reason::InvalidArgument);

    assert_eq!(rig.kms.count().await.unwrap().enabled, 3, "what is told of all keys is told of all namespaces");
    rig.commit_in("default", Rekey { key: id(two.id), token: None }).await.unwrap();
    assert_eq!(rig.listed_in("team-a").await[0].len(), 3, "it is where the old one is");
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_listed_and_told_of_to_administrators() {
    let rig = Rig::new().await;
    for name in ["a", "b", "c"] {
        rig.namespace_called(name).await.unwrap();
    }
    refused(rig.namespace_called("B").await, Reason::AlreadyExists);
    let (mut names, mut token) = (Vec::new(), Bytes::new());
    loop {
        let page = ListNamespaces { len: PageLen::parse(1).unwrap(), token };
        let page = rig.kms.page(&within("nowhere"), page).await.unwrap();
        names.extend(page.items.into_iter().map(|namespace| namespace.name.to_string()));
        let Some(next) = page.next else { break };
        token = Bytes::copy_from_slice(next.as_bytes());
    }
    assert_eq!((names.len(), names[0].as_str()), (4, "default"));
    names.sort_unstable();
    assert_eq!(names, ["a", "b", "c", "default"]);
    let all = ListNamespaces { len: PageLen::parse(0).unwrap(), token: Bytes::new() };
    refused(rig.kms.page(&call(&user(), soon()), all).await, Reason::Denied);
    let describe = |name: &str| DescribeNamespace { name: called(name) };
    assert_eq!(rig.kms.perform(&call(&admin(), soon()), describe("default")).await.unwrap(), NamespaceView::first());
    refused(rig.kms.perform(&call(&admin(), soon()), describe("x")).await, Reason::NamespaceNotFound);
    refused(rig.kms.perform(&call(&user(), soon()), describe("a")).await, Reason::Denied);

    // Whoever is in none is told so, whatever else he names, and who may not ask there is told nothing; the second time by the hot view.
    let key = id(rig.key().await);
    let ciphertext: Bytes = rig.kms.encrypt(&user(), &key, b"x", &no_aad(), soon()).await.unwrap().ciphertext.into();
    for _ in 0..2 {
        for handle in [key.clone(), named("x")] {
            let call = call_in("nowhere", &user(), soon());
            let said = refused(rig.kms.perform(&call, Describe { key: handle }).await, Reason::NamespaceNotFound);
            assert!(said.contains("no namespace nowhere"), "{said}");
        }
        let call = call_in("nowhere", &user(), soon());
        let given = Given {
            ciphertext: ciphertext.clone(),
            iv: Bytes::new(),
            tag: Bytes::new(),
            bound: Binding::default(),
            keys: Vec::new(),
            version: None,
            algorithm: None,
        };
        refused(rig.kms.perform(&call, Decrypt::new(given).unwrap()).await, Reason::NamespaceNotFound);
        let call = call_in("nowhere", &as_role(Role::Custodian), soon());
        refused(rig.kms.perform(&call, Describe { key: key.clone() }).await, Reason::Denied);
    }
    rig.namespace_called("nowhere").await.unwrap();
    let call = call_in("nowhere", &user(), soon());
    rig.kms.perform(&call, Describe { key: key.clone() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_comes_back_to_its_namespace_or_under_a_new_id() {
    let rig = Rig::new().await;
    for (name, exportable) in [("a", Exportable::Plain), ("b", Exportable::No)] {
        let settings = NamespaceSettings { exportable, tracked: true };
        rig.commit_in("default", CreateNamespace { name: called(name), settings }).await.unwrap();
    }
    let plain = |spec| Create {
        kind: NewKind::new(spec, None, None).unwrap(),
        exportable: Exportable::Plain,
        ..wanted(None, None)
    };
    let said = refused(rig.commit_in("b", plain(KeySpec::Ed25519)).await, Reason::NotExportable);
    assert!(said.contains("no at most"), "{said}");
    let restore = async |namespace: &str, backup: &[u8]| {
        let wanted = RestoreKey { backup: Bytes::copy_from_slice(backup), without_name: false, token: None };
        rig.kms.restore(&within(namespace), wanted).await
    };
    let backup = async |key: KeyId| rig.kms.back_up(&within("b"), BackUp { key: id(key) }).await.unwrap().backup;
    let pair = rig.commit_in("a", plain(KeySpec::Ed25519)).await.unwrap();
    let saved = backup(pair.id).await;
    let double = restore("b", &saved).await.unwrap();
    assert_eq!((double.born_as, double.exportable), (Some(pair.id), Exportable::No), "as far as keys may there");
    assert_eq!(rig.listed_in("b").await[0], [double.id.to_string()]);
    let blob = rig.commit_in("a", plain(KeySpec::Aes256)).await.unwrap();
    let saved = backup(blob.id).await;
    rig.purge_in("default", &id(blob.id)).await;
    let said = refused(restore("default", &saved).await, Reason::InvalidArgument);
    assert!(said.contains("in the namespace a"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_empty_namespace_is_deleted() {
    let rig = Rig::new().await;
    rig.namespace_called("a").await.unwrap();
    let delete = async |who: &Principal| rig.kms.delete_namespace(&call(who, soon()), called("a")).await;
    let key = rig.commit_in("a", wanted(Some("pay"), None)).await.unwrap();
    let secret = rig.set_secret_in("a", b"x").await;
    refused(delete(&user()).await, Reason::Denied);
    let window = DeletionWindow::from_days(7).unwrap();
    rig.commit_in("default", ScheduleDeletion { key: id(key.id), window }).await.unwrap();
    let said = refused(delete(&admin()).await, Reason::NotEmpty);
    assert!(said.contains("it has 1 key and 1 secret, 1 of which waiting for destruction"), "{said}");
    let other = rig.commit_in("a", wanted(None, None)).await.expect("it lives on");
    rig.commit_in("default", Archive { key: id(other.id) }).await.unwrap();
    let said = refused(delete(&admin()).await, Reason::NotEmpty);
    assert!(said.contains("it has 2 keys and 1 secret"), "{said}");
    rig.commit_in("default", Purge { key: id(key.id) }).await.unwrap();
    rig.purge_in("default", &id(other.id)).await;
    let said = refused(delete(&admin()).await, Reason::NotEmpty);
    assert!(said.contains("it has 1 secret;"), "{said}");
    assert_eq!(rig.listed_in("a").await[1], [secret.id.to_string()]);
    rig.purge_in("a", &KeyHandle::Secret("pay".parse().unwrap())).await;
    // Somebody stopped after the mark: to delete it again goes on.
    rig.commit_in("default", CloseNamespace { name: called("a") }).await.unwrap();
    let said = refused(rig.commit_in("a", wanted(None, None)).await, Reason::WrongState);
    assert!(said.contains("namespace a is being deleted"), "{said}");
    delete(&admin()).await.unwrap();
    refused(delete(&admin()).await, Reason::NamespaceNotFound);
    refused(rig.commit_in("a", wanted(None, None)).await, Reason::NamespaceNotFound);
    refused(rig.kms.delete_namespace(&call(&admin(), soon()), called("default")).await, Reason::WrongState);

    // What is called so next is another one.
    rig.namespace_called("a").await.unwrap();
    assert_eq!(rig.listed_in("a").await, <[Vec<String>; 3]>::default());
}

/// Who makes things and who deletes the namespace, at two desks at once, over and over: nothing is ever left where nobody finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_made_while_a_namespace_goes_is_never_in_one_that_is_gone() {
    let rig = Arc::new(Rig::new().await);
    let (other, mut made, mut deleted) = (rig.other(), 0, 0);
    for round in 0..12 {
        let name = format!("n{}", round % 2);
        rig.namespace_called(&name).await.unwrap();
        let makers = (0..4).map(|n| {
            let (rig, name) = (rig.clone(), name.clone());
            tokio::spawn(async move {
                let token = (n % 2 == 0).then(|| rig.token(100 * round + n));
                match rig.kms.commit(&within(&name), &wanted(None, token)).await {
                    Ok(key) => Some(id(key.id)),
                    Err(e) => {
                        assert!(
                            matches!(e.reason(), Reason::WrongState | Reason::NamespaceNotFound | Reason::Contended),
                            "{e}"
                        );
                        None
                    }
                }
            })
        });
        let makers: Vec<_> = makers.collect();
        let delete = |kms: Arc<Kms>| {
            let name = called(&name);
            async move { kms.delete_namespace(&call(&admin(), soon()), name).await }
        };
        let ended = tokio::join!(delete(rig.kms.clone()), delete(other.clone()));
        for e in [ended.0, ended.1].into_iter().filter_map(Result::err) {
            assert!(
                matches!(
                    e.reason(),
                    Reason::NotEmpty | Reason::NamespaceNotFound | Reason::UnknownOutcome | Reason::Contended
                ),
                "{e}"
            );
        }
        let mut there = Vec::new();
        for maker in makers {
            there.extend(maker.await.unwrap());
        }
        let [homes, standing] = rig.homes();
        assert!(homes.iter().all(|home| standing.contains(home)), "an object of a namespace that is gone");
        (made, deleted) = (made + there.len(), deleted + usize::from(standing.is_empty()));
        for key in there {
            rig.purge_in("default", &key).await;
        }
        if !standing.is_empty() {
            rig.kms.delete_namespace(&call(&admin(), soon()), called(&name)).await.unwrap();
        }
    }
    assert!(made + deleted >= 12, "each time one of both, at least: {made} {deleted}");
}
