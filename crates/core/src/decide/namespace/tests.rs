use proptest::prelude::*;

use super::*;
use crate::access::Caller;
use crate::decide::model::{Store, TestIds, admin, admin_in, as_role, plain_create, plain_secret};
use crate::decide::{
    Create, CreateAlias, DeleteAlias, Disable, Purge, Rekey, Restore, Rotate, ScheduleDeletion, Source,
};
use crate::id::{KeyId, KeyVersion};
use crate::key_spec::Mode;
use crate::lifecycle::KeyState;
use crate::principal::Role;
use crate::record::{KeyRecord, KeyVersionRecord, Record};
use crate::request::{DeletionWindow, KeyHandle, Token};
use crate::time::Time;
use crate::views::KeyView;

const NOW: Time = Time { cluster_ms: 1_800_000_000_000, local_ms: 1_800_000_000_000 };

fn called(name: &str) -> NamespaceName {
    name.parse().unwrap()
}

/// A store with what is asked of it most.
#[derive(Default)]
struct Bench {
    store: Store,
    ids: TestIds,
}

impl Bench {
    fn commit<D: Decide>(&mut self, by: &Caller, request: &D) -> Result<D::Answer, Refusal> {
        let before = self.store.clone();
        let answer = self.store.commit(by, &self.ids, NOW, request);
        assert!(answer.is_ok() || self.store.0 == before.0, "a refusal changed something");
        self.store.check();
        answer
    }
    fn make(&mut self, name: &str) -> NamespaceView {
        self.commit(&admin(), &CreateNamespace { name: called(name), settings: Default::default() }).unwrap()
    }
    fn close(&mut self, name: &str) -> Result<Closing, Refusal> {
        self.commit(&admin(), &CloseNamespace { name: called(name) })
    }
    fn end(&mut self, of: Closing, empty: bool) -> bool {
        self.commit(&admin(), &EndNamespace { of, empty }).unwrap()
    }
    fn create(&mut self, namespace: &str, wanted: Create) -> Result<KeyView, Refusal> {
        self.commit(&admin_in(namespace), &wanted)
    }
    fn object(&self, id: KeyId) -> KeyRecord {
        let name = RecordName::Key(id);
        match Record::decode(&name, &self.store.0[&name]) {
            Ok(Record::Key(key)) => key,
            other => panic!("{other:?}"),
        }
    }
    /// Whether nothing is in it that anybody finds.
    fn is_empty(&self, namespace: Namespace) -> bool {
        self.store.0.keys().all(|name| match name {
            RecordName::Key(id) => {
                let key = self.object(*id);
                key.namespace != namespace || key.state == KeyState::Destroyed
            }
            _ => true,
        })
    }
}

fn named(name: &str) -> Create {
    Create { alias: Some(name.parse().unwrap()), name: Some(name.parse().unwrap()), ..plain_create(None) }
}

#[test]
fn the_same_names_in_two_namespaces_are_two_objects_each() {
    let mut bench = Bench::default();
    bench.make("b");
    let (first, second) = ("default", "B");
    let mut one = bench.create(first, named("x")).unwrap();
    let two = bench.create(second, named("x")).unwrap();
    assert!(matches!(bench.create(second, named("X")), Err(Refusal::NameTaken { key, .. }) if key == two.id));
    let homes = [one.id, two.id].map(|id| bench.object(id).namespace);
    assert_eq!((homes, one.id.list_tag() != two.id.list_tag()), ([Namespace::FIRST, Namespace(1)], true));
    let secret = |bench: &mut Bench, namespace: &str| {
        bench.commit(&admin_in(namespace), &plain_secret("x".parse().unwrap())).unwrap()
    };
    let secrets = [first, second, second].map(|namespace| secret(&mut bench, namespace));
    assert!(secrets[0].id != secrets[1].id && secrets[1].id == secrets[2].id && secrets[2].current.get() == 2);

    // By its name each is found where it is, by its id from anywhere.
    for key in ["x", "key/x"] {
        let disable = Disable { key: key.parse().unwrap() };
        assert_eq!(bench.commit(&admin_in(second), &disable).unwrap().id, two.id);
    }
    one = bench.commit(&admin_in(second), &Disable { key: KeyHandle::Id(one.id) }).unwrap();
    assert_eq!(one.state, KeyState::Disabled);

    // An alias goes with its key.
    let alias = |key| CreateAlias { name: "y".parse().unwrap(), key };
    let across = bench.commit(&admin_in(second), &alias(KeyHandle::Id(one.id)));
    assert_eq!(across, Err(Refusal::OtherNamespace(one.id)));
    bench.commit(&admin_in(second), &alias(KeyHandle::Id(two.id))).unwrap();
    let gone = DeleteAlias { name: "y".parse().unwrap() };
    assert_eq!(bench.commit(&admin(), &gone), Err(Refusal::AliasNotFound("y".parse().unwrap())));
    bench.commit(&admin_in(second), &gone).unwrap();

    // Who takes another's place is where that is, from wherever that was asked.
    bench.commit(&admin_in(second), &crate::decide::Enable { key: KeyHandle::Id(two.id) }).unwrap();
    let three = bench.commit(&admin(), &Rekey { key: KeyHandle::Id(two.id), token: None }).unwrap();
    assert_eq!((bench.object(three.id).namespace, three.aliases), (Namespace(1), vec!["x".parse().unwrap()]));
}

#[test]
fn a_token_of_one_namespace_is_another_elsewhere() {
    let mut bench = Bench::default();
    bench.make("b");
    let token = Some(Token(KeyId::new(NOW.cluster_ms, 7, [0; 4]).0));
    let made = ["default", "b", "b"].map(|namespace| bench.create(namespace, plain_create(token)).unwrap().id);
    assert!(made[0] != made[1] && made[1] == made[2]);
    let rotate = Rotate { key: KeyHandle::Id(made[0]), token };
    assert_eq!(bench.commit(&admin(), &rotate).unwrap().current.get(), 2);
    assert_eq!(bench.commit(&admin_in("default"), &rotate).unwrap().current.get(), 2, "a retry");
    assert_eq!(bench.commit(&admin_in("b"), &rotate), Err(Refusal::TokenReused));
    let rekey = Rekey { key: KeyHandle::Id(made[1]), token: Some(Token(KeyId::new(NOW.cluster_ms, 8, [0; 4]).0)) };
    let new = bench.commit(&admin(), &rekey).unwrap().id;
    assert_eq!(bench.commit(&admin(), &rekey).unwrap().id, new);
}

#[test]
fn a_namespace_says_what_may_be_made_in_it() {
    let mut bench = Bench::default();
    let settings = NamespaceSettings { exportable: Exportable::Wrapped, tracked: false };
    bench.commit(&admin(), &CreateNamespace { name: called("b"), settings }).unwrap();
    let source = |exportable| if exportable == Exportable::Plain { Source::Import } else { Source::Fresh };
    let wanted = |exportable| Create { exportable, source: source(exportable), ..plain_create(None) };
    let capped = bench.create("b", wanted(Exportable::Plain));
    assert_eq!(capped, Err(Refusal::ExportableCapped { most: Exportable::Wrapped }));
    let key = bench.create("b", wanted(Exportable::Wrapped)).unwrap();
    assert_eq!((key.exportable, key.tracked), (Exportable::Wrapped, false));
    assert!(bench.create("default", wanted(Exportable::Plain)).unwrap().tracked);

    // What comes back comes as far as it may.
    let saved = KeyRecord { exportable: Exportable::Plain, tracked: true, ..bench.object(key.id) };
    let from = |mode| {
        let (id, key) = (saved.id, saved.clone());
        let head = KeyVersionRecord::new(id, KeyVersion::FIRST, key.spec, mode, key.usage, 5);
        let description = Default::default();
        Restore { key, versions: vec![head], description, without_name: true, hash: [1; 32], token: None }
    };
    let restored = bench.commit(&admin_in("b"), &from(Mode::Gcm)).unwrap();
    assert_eq!((restored.exportable, restored.tracked), (Exportable::Wrapped, false));
    assert_eq!(restored.born_as, Some(key.id));
    let elsewhere = Refusal::RestoreElsewhere { key: key.id, of: Some(called("b")) };
    let blob = from(Mode::Blob);
    assert_eq!(bench.commit(&admin(), &blob), Err(elsewhere));
    assert_eq!(bench.commit(&admin_in("b"), &blob), Err(Refusal::RestoreTaken(key.id)));

    let update = |exportable, tracked| UpdateNamespace { name: called("b"), exportable, tracked };
    let after = bench.commit(&admin(), &update(Some(Exportable::No), None)).unwrap().settings;
    assert_eq!(after, NamespaceSettings { exportable: Exportable::No, tracked: false });
    assert_eq!(bench.object(key.id).exportable, Exportable::Wrapped, "what is there stays as it is");
    let next = bench.commit(&admin(), &Rekey { key: KeyHandle::Id(key.id), token: None }).unwrap();
    assert_eq!(next.exportable, Exportable::No);
    assert!(bench.commit(&admin(), &update(None, Some(true))).unwrap().settings.tracked);
    assert!(bench.create("b", plain_create(None)).unwrap().tracked);
}

#[test]
fn a_number_is_never_given_twice_and_the_first_stays() {
    let mut bench = Bench::default();
    bench.make("b");
    let taken = CreateNamespace { name: called("B"), settings: Default::default() };
    assert_eq!(bench.commit(&admin(), &taken), Err(Refusal::NamespaceTaken(called("b"))));
    let closing = bench.close("b").unwrap();
    assert!(closing.number == Namespace(1) && bench.end(closing, true));
    assert_eq!(bench.close("b"), Err(Refusal::NamespaceNotFound(called("b"))));
    bench.make("b");
    assert_eq!(bench.close("b").unwrap().number, Namespace(2));
    let first = called("default");
    let made = CreateNamespace { name: first.clone(), settings: Default::default() };
    assert_eq!(bench.commit(&admin(), &made), Err(Refusal::NamespaceTaken(first.clone())));
    assert_eq!(bench.close("default"), Err(Refusal::NamespaceFirst));
    let update = UpdateNamespace { name: first, exportable: None, tracked: Some(false) };
    assert_eq!(bench.commit(&admin(), &update), Err(Refusal::NamespaceFirst));
}

#[test]
fn only_an_administrator_is_told_which_there_are() {
    let mut bench = Bench::default();
    bench.make("b");
    let user = |namespace: &str| Caller { namespace: Some(called(namespace)), ..as_role(Role::User) };
    for namespace in ["b", "none", "default"] {
        let denied = [
            bench.commit(&user(namespace), &CloseNamespace { name: called("b") }).map(drop),
            bench
                .commit(&user(namespace), &CreateNamespace { name: called("c"), settings: Default::default() })
                .map(drop),
            bench.commit(&user(namespace), &plain_create(None)).map(drop),
            bench.commit(&user(namespace), &Disable { key: KeyHandle::Id(KeyId([9; 16])) }).map(drop),
            bench.commit(&user(namespace), &Disable { key: "x".parse().unwrap() }).map(drop),
        ];
        assert!(denied.iter().all(|one| matches!(one, Err(Refusal::Denied(_)))), "{namespace}: {denied:?}");
    }
    let id = bench.create("default", plain_create(None)).unwrap().id;
    for key in [KeyHandle::Id(id), "x".parse().unwrap()] {
        let lost = bench.commit(&admin_in("none"), &Disable { key });
        assert_eq!(lost, Err(Refusal::NamespaceNotFound(called("none"))), "a slip is no request in another namespace");
    }
    assert_eq!(bench.create("none", plain_create(None)), Err(Refusal::NamespaceNotFound(called("none"))));
}

#[test]
fn nothing_is_made_in_what_is_marked_and_a_mark_is_good_once() {
    let mut bench = Bench::default();
    bench.make("b");
    let key = bench.create("b", named("x")).unwrap();
    let first = bench.close("b").unwrap();
    assert_eq!(bench.close("b"), Ok(first), "again: nothing");
    let deleting = Refusal::NamespaceDeleting(called("b"));
    assert_eq!(bench.create("b", plain_create(None)), Err(deleting.clone()));
    let set = plain_secret("s".parse().unwrap());
    assert_eq!(bench.commit(&admin_in("b"), &set), Err(deleting.clone()));
    let update = UpdateNamespace { name: called("b"), exportable: None, tracked: Some(false) };
    assert_eq!(bench.commit(&admin(), &update), Err(deleting));
    bench.commit(&admin_in("b"), &Disable { key: "x".parse().unwrap() }).unwrap();
    assert!(bench.end(first, false));
    bench.create("b", plain_create(None)).unwrap();

    let window = DeletionWindow::from_days(7).unwrap();
    bench.commit(&admin(), &ScheduleDeletion { key: KeyHandle::Id(key.id), window }).unwrap();
    let second = bench.close("b").unwrap();
    assert!(!bench.end(first, true) && !bench.end(first, false), "what was seen before says nothing now");
    assert!(bench.end(second, false));
}

#[test]
fn what_is_left_is_told_in_words() {
    let left = |keys, secrets, waiting, more| Left { keys, secrets, waiting, more };
    let told = |left: Left| left.to_string();
    assert_eq!(told(left(1, 0, 0, false)), "1 key");
    assert_eq!(told(left(2, 1, 3, false)), "2 keys and 1 secret, 3 of which waiting for destruction");
    assert_eq!(told(left(0, 900, 0, true)), "at least 900 secrets");
    assert!(left(0, 0, 0, false).is_empty() && !left(0, 1, 0, false).is_empty());
}

/// Who makes, who empties, and some who delete.
#[derive(Clone, Debug)]
enum Step {
    Create,
    Empty,
    Close(usize),
    Look(usize),
    End(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..3usize;
    prop_oneof![
        2 => Just(Step::Create),
        1 => Just(Step::Empty),
        2 => who().prop_map(Step::Close),
        3 => who().prop_map(Step::Look),
        3 => who().prop_map(Step::End),
    ]
}

proptest! {
    /// However they meet: no object is ever in a namespace that is gone ([`Store::check`]).
    #[test]
    fn who_makes_and_who_deletes_never_both_succeed(steps in proptest::collection::vec(step(), 1..60)) {
        let mut bench = Bench::default();
        bench.make("b");
        // What each of those who delete has seen.
        let mut seen: [Option<(Closing, Option<bool>)>; 3] = [None; 3];
        let mut made: Vec<KeyId> = Vec::new();
        for step in steps {
            match step {
                Step::Create => made.extend(bench.create("b", plain_create(None)).ok().map(|key| key.id)),
                Step::Empty => for id in made.drain(..) {
                    let (key, window) = (KeyHandle::Id(id), DeletionWindow::from_days(7).unwrap());
                    bench.commit(&admin(), &ScheduleDeletion { key: key.clone(), window }).unwrap();
                    bench.commit(&admin(), &Purge { key }).unwrap();
                },
                Step::Close(n) => seen[n] = bench.close("b").ok().map(|closing| (closing, None)),
                Step::Look(n) => if let Some((closing, empty)) = &mut seen[n] {
                    *empty = Some(bench.is_empty(closing.number));
                },
                Step::End(n) => if let Some((closing, Some(empty))) = seen[n].take() {
                    let ended = bench.end(closing, empty);
                    prop_assert!(!(ended && empty) || made.is_empty());
                    if ended && empty {
                        bench.make("b");
                    }
                },
            }
        }
    }
}
