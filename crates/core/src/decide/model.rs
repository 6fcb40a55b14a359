//! Decisions against a model: random sequences of requests on records in a `BTreeMap`, compared at each step with a
//! few plain rules, and the invariants of the records checked after it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;
use crate::access::{Caller, Door, FixedRoles};
use crate::credential::{CredentialId, Presented};
use crate::facts::Facts;
use crate::id::{KeyId, KeyVersion, Namespace, NodeId};
use crate::key_spec::Mode;
use crate::level::LEVEL;
use crate::lifecycle::{Cell, KeyState, Row, VersionState};
use crate::name::{Class, FoldedName, Named};
use crate::principal::{Principal, Role};
use crate::record::{
    Cause, DestructionRecord, Due, DueRecord, Duty, IdempotencyRecord, KeyVersionRecord, Kind, NameRecord, Scheduled,
    Tally,
};
use crate::record_key::RecordKey;
use crate::request::{
    AliasName, DELETION_DAYS_MIN, DeletionWindow, Description, KeyCount, KeyHandle, ObjectName, RotationPeriod, Tags,
    Token,
};
use crate::seam::NewIds;
use crate::time::{DAY_MS, DutyTime, Time};

/// Records at one index, as bodies: what is written is read back through the codec each time.
#[derive(Clone, Default)]
pub(super) struct Store(pub(super) BTreeMap<RecordName, Vec<u8>>);

pub(super) struct StoreFacts<'a> {
    store: &'a Store,
    time: Time,
    read: BTreeSet<RecordName>,
}

impl Facts for StoreFacts<'_> {
    type Error = Refusal;
    fn read(&mut self, name: &RecordName) -> Result<Option<Arc<Record>>, Refusal> {
        self.read.insert(name.clone());
        Ok(self.store.0.get(name).map(|body| Arc::new(Record::decode(name, body).expect("written by encode"))))
    }
}

impl Basis for StoreFacts<'_> {
    fn time(&self) -> Time {
        self.time
    }
    fn is_dev(&self) -> bool {
        false
    }
}

impl StoreFacts<'_> {
    /// The nodes that have written of a key's uses; noted.
    pub(super) fn users(&mut self, key: KeyId) -> Vec<NodeId> {
        let of = |name: &RecordName| {
            if let RecordName::Use((of, node)) = name { (*of == key).then_some(*node) } else { None }
        };
        let nodes: Vec<_> = self.store.0.keys().filter_map(of).collect();
        self.read.extend(nodes.iter().map(|node| RecordName::Use((key, *node))));
        nodes
    }
}

impl Store {
    /// One step of a key's destruction.
    pub(super) fn destroy(&mut self, hour: u32, key: KeyId, time: DutyTime) -> Result<destroy::Progress, Refusal> {
        let now = Time { cluster_ms: time.ms(), local_ms: time.ms() };
        self.run_at(now, |facts| {
            let nodes = facts.users(key);
            destroy::decide(facts, hour, key, &nodes, time)
        })
    }

    /// Decides and applies what a caller asks for; checks that everything it writes was granted.
    pub(super) fn commit<D: Decide>(
        &mut self,
        caller: &Caller,
        ids: &dyn NewIds,
        time: Time,
        request: &D,
    ) -> Result<D::Answer, Refusal> {
        self.run_at(time, |facts| {
            let mut at = Access::admit(facts, &FixedRoles, caller, request.action())?;
            let change = decide(request, &request.retry(), &mut at, ids)?;
            assert!(at.covers(&change.writes), "{:?} is not all granted", change.writes);
            Ok(change)
        })
    }

    /// Decides and applies what the cluster owes, which has a time of its own.
    pub(super) fn run<A>(
        &mut self,
        decide: impl FnOnce(&mut StoreFacts<'_>) -> Result<Change<A>, Refusal>,
    ) -> Result<A, Refusal> {
        self.run_at(Time { cluster_ms: 0, local_ms: 0 }, decide)
    }

    /// Decides and applies; checks what every decision owes: it read what it writes, and writes nothing twice.
    fn run_at<A>(
        &mut self,
        at: Time,
        decide: impl FnOnce(&mut StoreFacts<'_>) -> Result<Change<A>, Refusal>,
    ) -> Result<A, Refusal> {
        let mut view = StoreFacts { store: self, time: at, read: BTreeSet::new() };
        let change = decide(&mut view)?;
        let mut read = view.read;
        let mut written = BTreeSet::new();
        for write in &change.writes {
            let (name, creates) = (write.name(), write.creates());
            assert!(creates || read.contains(&name), "writes {name:?} without having read it");
            assert!(!creates || !self.has(&name), "creates {name:?}, which is there");
            assert!(written.insert(name), "writes a record twice");
        }
        read.extend(written.iter().cloned());
        assert!(written.len() <= crate::batch::OPS_MAX && read.len() < crate::batch::EXPECTS_MAX);
        for write in change.writes {
            match write {
                Write::Delete(name) => assert!(self.0.remove(&name).is_some(), "deletes what is not there"),
                Write::Create(ref record)
                | Write::CreateWith(ref record, _)
                | Write::Update(ref record)
                | Write::UpdateKeeping(ref record)
                | Write::UpdateWith(ref record, _) => {
                    let mut body = record.encode(LEVEL);
                    if matches!(record, Record::KeyVersion(_)) {
                        let len: u32 = match write {
                            Write::CreateWith(..) | Write::UpdateWith(..) => 32,
                            Write::UpdateKeeping(_) => self.material_len(&record.name()),
                            _ => 0,
                        };
                        body.extend_from_slice(&len.to_be_bytes());
                        body.resize(body.len() + len as usize, 0);
                    }
                    self.0.insert(record.name(), body);
                }
            }
        }
        Ok(change.answer)
    }

    pub(super) fn destruction(&self, key: KeyId, version: Option<KeyVersion>) -> Option<DestructionRecord> {
        let name = RecordName::Destruction((key, version));
        match Record::decode(&name, self.0.get(&name)?) {
            Ok(Record::Destruction(record)) => Some(record),
            other => panic!("{other:?}"),
        }
    }

    /// How much material is stored with a version.
    fn material_len(&self, name: &RecordName) -> u32 {
        match self.0.get(name).map(|body| Record::decode(name, body).expect("written by encode")) {
            Some(Record::KeyVersion(head)) if head.has_material => 32,
            _ => 0,
        }
    }

    pub(super) fn has(&self, name: &RecordName) -> bool {
        self.0.contains_key(name)
    }

    /// What must hold of the records together, always.
    pub(super) fn check(&self) {
        let mut keys = BTreeMap::new();
        for (name, body) in &self.0 {
            if let Record::Key(key) = Record::decode(name, body).unwrap() {
                keys.insert(key.id, key);
            }
        }
        for (name, body) in &self.0 {
            match Record::decode(name, body).unwrap() {
                Record::Name(named) => {
                    assert!(keys[&named.key].names().any(|name| name == named.name()), "a stray name");
                }
                Record::KeyVersion(v) => {
                    let key = &keys[&v.key];
                    // Of a double it is known under the id that it was destroyed under.
                    let told = key.born_as.is_some() || self.destruction(v.key, Some(v.version)).is_some();
                    assert!(told || v.life.dates.destroyed == 0, "nobody would know who destroyed {name:?}");
                    assert!(v.version <= key.current && v.version.get() > key.destroyed_through);
                }
                Record::NamespaceName(of) => {
                    assert!(self.has(&RecordName::Namespace(of.number)), "a stray name of a namespace");
                }
                Record::Details(of) => assert!(keys[&of.key].has_details, "stray details"),
                Record::Use(of) => assert!(keys.contains_key(&of.key), "a stray tally"),
                Record::Allowance(of) => {
                    assert!(self.has(&RecordName::KeyVersion((of.key, of.version))), "a stray allowance")
                }
                Record::Due(DueRecord { what: Due::Rotation(_) | Due::Material(..), .. }) => {}
                Record::Due(DueRecord { what: Due::Deletion(key), at_ms: due_ms }) => match keys[&key].state {
                    KeyState::PendingDeletion { at_ms, .. } => assert_eq!(at_ms, due_ms),
                    KeyState::Destroyed => {}
                    state => panic!("due, but {state:?}"),
                },
                _ => {}
            }
        }
        for key in keys.values() {
            let home = key.namespace == Namespace::FIRST || self.has(&RecordName::Namespace(key.namespace));
            assert!(home || key.state == KeyState::Destroyed, "a key is in a namespace that is gone");
            for name in key.names() {
                assert!(key.state != KeyState::Destroyed, "{name:?} is not free");
                assert!(self.has(&RecordName::Name(name.clone())), "{name:?} is missing");
            }
            for n in key.destroyed_through + 1..=key.current.get() {
                assert!(
                    self.has(&RecordName::KeyVersion((key.id, KeyVersion::new(n).unwrap()))),
                    "version {n} is lost"
                );
            }
            if let KeyState::PendingDeletion { at_ms, .. } = key.state {
                assert!(
                    self.has(&RecordName::Due((DueRecord::hour(at_ms), Due::Deletion(key.id)))),
                    "nobody would destroy it"
                );
            }
            assert!(key.state == KeyState::Destroyed || key.destroyed_through == 0);
            let waits = matches!(key.state, KeyState::PendingDeletion { .. });
            assert_eq!(key.deletion_by.is_some(), waits, "who asked is known, for as long as it waits");
            if key.state == KeyState::Destroyed {
                let destruction = self.destruction(key.id, None).expect("nobody would know who destroyed it");
                assert_eq!(destruction.through, key.destroyed_through);
            }
            assert_eq!(key.has_details, self.has(&RecordName::Details(key.id)), "its details");
        }
    }
}

/// Counts up: no two ids are equal, and a run can be repeated.
#[derive(Default)]
pub(super) struct TestIds(Mutex<u64>);

impl NewIds for TestIds {
    fn fresh(&self, namespace: Namespace, _: Class, time_ms: u64) -> KeyId {
        let mut counter = self.0.lock().unwrap();
        *counter += 1;
        KeyId::new(time_ms, *counter, [1 + namespace.0 as u8; 4])
    }
    fn of_token(&self, by: &Principal, namespace: Namespace, token: Token, n: u32) -> KeyId {
        let hash = crate::record::request_hash("id", &[&by.encode(), &token.0, &n.to_be_bytes()]);
        KeyId::new(token.time_ms(), u64::from_be_bytes(hash[..8].try_into().unwrap()), [1 + namespace.0 as u8; 4])
    }
}

pub(super) fn as_role(role: Role) -> Caller {
    let principal = Principal::certificate(role, "root".parse().unwrap());
    let presented = Presented { id: CredentialId::Certificate([role as u8; 32]), ends_ms: 0 };
    Caller { principal, presented, source: None, door: Door::Native, namespace: None }
}
pub(super) fn admin() -> Caller {
    as_role(Role::Admin)
}
pub(super) fn admin_in(namespace: &str) -> Caller {
    Caller { namespace: Some(namespace.parse().unwrap()), ..admin() }
}
fn alias(n: u8) -> AliasName {
    format!("alias-{n}").parse().unwrap()
}
/// Two ways to write each name.
fn name(n: u8) -> ObjectName {
    format!("{}-{}", if n.is_multiple_of(2) { "name" } else { "Name" }, n / 2).parse().unwrap()
}

/// A request; keys and aliases by small numbers, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Create { alias: Option<u8>, name: Option<u8>, token: Option<u8>, pre_active: bool },
    CreateMany { count: u32, parts: u32, token: Option<u8> },
    Enable(Handle),
    Disable(Handle),
    Rotate { key: Handle, token: Option<u8> },
    Schedule { key: Handle, days: u32 },
    Cancel(Handle),
    AddAlias { alias: u8, key: Handle },
    RemoveAlias(u8),
    SetRotation { key: Handle, days: u32 },
    Purge(Handle),
    Tag { key: Handle, name: u8, value: u8 },
    Untag { key: Handle, name: u8 },
    Tell { key: Handle, times: usize },
    Archive(Handle),
    Recover(Handle),
    Activate { key: Handle, version: u32 },
    Revoke { key: Handle, version: u32, compromised: bool },
    DestroyVersion { key: Handle, version: u32 },
    SetSecret { name: u8, token: Option<u8> },
    Minutes(u64),
    Duty,
    Sweep,
}
#[derive(Clone, Debug)]
enum Handle {
    Nth(prop::sample::Index),
    Alias(u8),
    Name(u8),
    Secret(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let handle = || {
        prop_oneof![
            6 => any::<prop::sample::Index>().prop_map(Handle::Nth),
            2 => (0..4u8).prop_map(Handle::Alias),
            1 => (0..6u8).prop_map(Handle::Name),
        ]
    };
    let object = || prop_oneof![3 => handle(), 1 => (0..4u8).prop_map(Handle::Secret)];
    let token = || proptest::option::weighted(0.4, 0..3u8);
    prop_oneof![
        3 => (proptest::option::of(0..4u8), proptest::option::weighted(0.3, 0..6u8), token(), prop::bool::weighted(0.2))
            .prop_map(|(alias, name, token, pre_active)| Step::Create { alias, name, token, pre_active }),
        1 => (prop_oneof![1..4u32, 60..70u32], 0..3u32, token())
            .prop_map(|(count, parts, token)| Step::CreateMany { count, parts, token }),
        4 => (0..4u8, token()).prop_map(|(name, token)| Step::SetSecret { name, token }),
        1 => object().prop_map(Step::Enable),
        2 => object().prop_map(Step::Disable),
        4 => (handle(), token()).prop_map(|(key, token)| Step::Rotate { key, token }),
        2 => (object(), DELETION_DAYS_MIN..=30).prop_map(|(key, days)| Step::Schedule { key, days }),
        1 => object().prop_map(Step::Cancel),
        3 => (0..4u8, handle()).prop_map(|(alias, key)| Step::AddAlias { alias, key }),
        1 => (0..4u8).prop_map(Step::RemoveAlias),
        2 => prop_oneof![0..50u64, (0..9u64).prop_map(|days| days * 24 * 60)].prop_map(Step::Minutes),
        1 => (handle(), 0..20u32).prop_map(|(key, days)| Step::SetRotation { key, days }),
        1 => object().prop_map(Step::Purge),
        2 => (object(), 0..3u8, 0..2u8).prop_map(|(key, name, value)| Step::Tag { key, name, value }),
        1 => (object(), 0..3u8).prop_map(|(key, name)| Step::Untag { key, name }),
        2 => (object(), 0..3usize).prop_map(|(key, times)| Step::Tell { key, times }),
        1 => handle().prop_map(Step::Archive),
        2 => handle().prop_map(Step::Recover),
        2 => (object(), 0..4u32).prop_map(|(key, version)| Step::Activate { key, version }),
        3 => (object(), 0..4u32, any::<bool>())
            .prop_map(|(key, version, compromised)| Step::Revoke { key, version, compromised }),
        2 => (object(), 1..4u32).prop_map(|(key, version)| Step::DestroyVersion { key, version }),
        2 => Just(Step::Duty),
        1 => Just(Step::Sweep),
    ]
}

/// The rules in their plainest form.
#[derive(Clone, Debug, PartialEq)]
struct Plain {
    namespace: Namespace,
    class: Class,
    state: KeyState,
    version: u32,
    /// Of each version, from the first: whether it was activated, deactivated, compromised, destroyed.
    versions: Vec<Marks>,
    tags: BTreeMap<String, String>,
    description: String,
    /// How often it is rotated, and when next.
    rotation: Option<(u64, u64)>,
    archived: bool,
}
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Marks {
    active: bool,
    revoked: bool,
    compromised: bool,
    destroyed: bool,
}
impl Plain {
    fn new(namespace: Namespace, class: Class, active: bool) -> Self {
        let first = Marks { active, ..Marks::default() };
        let (state, tags) = (KeyState::Enabled, BTreeMap::new());
        let description = String::new();
        Self {
            namespace,
            class,
            state,
            version: 1,
            versions: vec![first],
            tags,
            description,
            rotation: None,
            archived: false,
        }
    }
    fn add_version(&mut self) {
        self.version += 1;
        self.versions.push(Marks { active: true, ..Marks::default() });
    }
    /// The state of a version, in the plainest words; all of a key before the current one have retired.
    fn of(&self, version: u32) -> VersionState {
        let marks = self.versions[version as usize - 1];
        match (marks.destroyed, marks.compromised) {
            (true, true) => VersionState::DestroyedCompromised,
            (true, false) => VersionState::Destroyed,
            (false, true) => VersionState::Compromised,
            _ if marks.revoked || self.class == Class::Key && version < self.version => VersionState::Deactivated,
            _ if !marks.active => VersionState::PreActive,
            _ => VersionState::Active,
        }
    }
}
#[derive(Default)]
struct Model {
    /// Keys that are being destroyed before their day: nobody finds them.
    purged: BTreeSet<KeyId>,
    keys: BTreeMap<KeyId, Plain>,
    order: Vec<KeyId>,
    names: BTreeMap<FoldedName, KeyId>,
    /// Token → what was asked, and which key was rotated, or secret set.
    filed: BTreeMap<Token, (Vec<u8>, KeyId)>,
    /// Token, in its namespace → what was asked, which keys it made.
    creations: BTreeMap<(Namespace, Token), (String, Vec<KeyId>)>,
    /// In which namespace the step is.
    within: Namespace,
}

impl Model {
    fn handle(&self, handle: &Handle) -> KeyHandle {
        match handle {
            Handle::Nth(i) if self.order.is_empty() => KeyHandle::Id(KeyId([i.index(255) as u8; 16])),
            Handle::Nth(i) => KeyHandle::Id(self.order[i.index(self.order.len())]),
            Handle::Alias(n) => KeyHandle::Alias(alias(*n)),
            Handle::Name(n) => KeyHandle::Key(name(*n)),
            Handle::Secret(n) => KeyHandle::Secret(name(*n)),
        }
    }
    fn find(&self, handle: &KeyHandle) -> Result<(KeyId, Plain), Refusal> {
        let id = match handle {
            KeyHandle::Id(id) => Some(id),
            KeyHandle::Alias(name) => self.names.get(&FoldedName::alias(self.within, name)),
            KeyHandle::Key(name) => self.names.get(&FoldedName::object(self.within, Class::Key, name)),
            KeyHandle::Secret(name) => self.names.get(&FoldedName::object(self.within, Class::Secret, name)),
        };
        let found = id.and_then(|id| self.keys.get(id).map(|key| (*id, key.clone())));
        let (id, plain) = found.ok_or_else(|| Refusal::KeyNotFound(handle.clone()))?;
        let (is, wanted) = (plain.class, handle.class());
        if is == wanted { Ok((id, plain)) } else { Err(Refusal::WrongKind { id, is, wanted }) }
    }
    fn not_pending(&self, handle: &KeyHandle) -> Result<(KeyId, Plain), Refusal> {
        match self.find(handle)? {
            (key, Plain { state: KeyState::PendingDeletion { at_ms, .. }, .. }) => {
                Err(Refusal::PendingDeletion { key, at_ms })
            }
            found => Ok(found),
        }
    }
}

/// A key that is not archived.
fn in_use((id, plain): (KeyId, Plain)) -> Result<(KeyId, Plain), Refusal> {
    if plain.archived { Err(Refusal::Archived(id)) } else { Ok((id, plain)) }
}

#[track_caller]
fn expect(answer: Result<(), Refusal>, refusal: Refusal) -> Refusal {
    assert_eq!(answer, Err(refusal.clone()));
    refusal
}

/// The `n`th token of this half hour: within it, a request with the same number is a retry.
fn token(n: Option<u8>, now: u64) -> Option<Token> {
    const HALF_HOUR_MS: u64 = 30 * 60_000;
    n.map(|n| Token(KeyId::new(now / HALF_HOUR_MS * HALF_HOUR_MS, u64::from(n), [0; 4]).0))
}

/// Each step is in one of two namespaces.
fn play(steps: Vec<(bool, Step)>) {
    let ids = TestIds::default();
    let (mut store, mut model) = (Store::default(), Model::default());
    let mut now = 1_800_000_000_000;
    let made = CreateNamespace { name: "second".parse().unwrap(), settings: Default::default() };
    store.commit(&admin(), &ids, Time { cluster_ms: now, local_ms: now }, &made).unwrap();
    for (first, step) in steps {
        let by = if first { admin() } else { admin_in("second") };
        let within = if first { Namespace::FIRST } else { Namespace(1) };
        model.within = within;
        let before = store.clone();
        let time = Time { cluster_ms: now, local_ms: now + 3 };
        let refused = match step {
            Step::Minutes(minutes) => {
                now += minutes * 60_000;
                None
            }
            Step::Create { alias: n, name: own, token: t, pre_active } => {
                let (alias, own_name, token) = (n.map(alias), own.map(name), token(t, now));
                let request = Create {
                    kind: aes(),
                    alias: alias.clone(),
                    name: own_name.clone(),
                    description: if pre_active { "early" } else { "" }.parse().unwrap(),
                    tags: Tags::default(),
                    activation: pre_active.then_some(0),
                    purge_protected: false,
                    source: Source::Fresh,
                    exportable: Default::default(),
                    tracked: true,
                    token,
                };
                let answer = store.commit(&by, &ids, time, &request);
                let asked = format!("create {n:?} {own:?} {pre_active}");
                let taken = alias.iter().find_map(|name| {
                    let key = *model.names.get(&FoldedName::alias(within, name))?;
                    Some(Refusal::AliasTaken { name: name.clone(), key })
                });
                let own_taken = own_name.iter().find_map(|name| {
                    let key = *model.names.get(&FoldedName::object(within, Class::Key, name))?;
                    Some(Refusal::NameTaken { name: name.clone(), key })
                });
                let taken = taken.or(own_taken);
                match (token.and_then(|token| model.creations.get(&(within, token))), taken) {
                    (Some((before, keys)), _) if *before == asked && model.purged.contains(&keys[0]) => {
                        Some(Err(expect(answer.map(drop), Refusal::KeyNotFound(KeyHandle::Id(keys[0])))))
                    }
                    (Some((before, keys)), _) if *before == asked => {
                        // The same key, as it is now; nothing was written either.
                        let key = answer.unwrap();
                        let plain = &model.keys[&key.id];
                        assert_eq!(key.description.as_str(), plain.description);
                        assert_eq!(
                            (&[key.id][..], key.state, key.current.get()),
                            (&keys[..], plain.state, plain.version)
                        );
                        Some(Ok(()))
                    }
                    (Some(_), _) => Some(Err(answer.expect_err("another request made that key"))),
                    (None, Some(taken)) => Some(Err(expect(answer.map(drop), taken))),
                    (None, None) => {
                        let key = answer.expect("nothing speaks against it");
                        assert!(!model.order.contains(&key.id));
                        model.order.push(key.id);
                        let description = key.description.as_str().to_owned();
                        assert_eq!(description, request.description.as_str());
                        let plain = Plain::new(within, Class::Key, !pre_active);
                        model.keys.insert(key.id, Plain { description, ..plain });
                        assert_eq!((&key.name, key.aliases.first()), (&own_name, alias.as_ref()));
                        let named = alias.map(Named::Alias).into_iter();
                        let named = named.chain(own_name.map(|name| Named::Object(Class::Key, name)));
                        model.names.extend(named.map(|named| (named.folded(within), key.id)));
                        if let Some(token) = token {
                            model.creations.insert((within, token), (asked, vec![key.id]));
                        }
                        None
                    }
                }
            }
            // As many parts as were done before the node died, perhaps none; a later repetition may go further.
            Step::CreateMany { count, parts, token: t } => {
                let (count, token) = (KeyCount::parse(count).unwrap(), token(t, now));
                let asked = format!("create {} keys", count.get());
                let request = CreateMany { kind: aes(), count, description: Description::default(), token };
                let mut wrote = false;
                for (first, part) in (0..).step_by(64).zip(request.parts()).take(parts as usize) {
                    let answer = store.commit(&by, &ids, time, &part);
                    let before = token.and_then(|token| model.creations.get(&(within, token)));
                    if before.is_some_and(|(before, _)| *before != asked) {
                        // And whoever asked goes no further.
                        assert_eq!(answer, Err(Refusal::TokenReused));
                        break;
                    }
                    let made = before.and_then(|(_, made)| made.get(first as usize..)).unwrap_or_default();
                    let size = (count.get() - first).min(64) as usize;
                    if let Some(purged) = made.iter().take(size).find(|id| model.purged.contains(id)) {
                        expect(answer.map(drop), Refusal::KeyNotFound(KeyHandle::Id(*purged)));
                        break;
                    }
                    let keys: Vec<_> = answer.unwrap().iter().map(|key| key.id).collect();
                    assert_eq!(keys.len() as u32, (count.get() - first).min(64));
                    match before.and_then(|(_, made)| made.get(first as usize..)).filter(|made| !made.is_empty()) {
                        Some(made) => assert_eq!(keys[..], made[..keys.len()]),
                        None => {
                            for id in &keys {
                                model.order.push(*id);
                                let new = model.keys.insert(*id, Plain::new(within, Class::Key, true));
                                assert!(new.is_none());
                            }
                            if let Some(token) = token {
                                model
                                    .creations
                                    .entry((within, token))
                                    .or_insert((asked.clone(), Vec::new()))
                                    .1
                                    .extend(keys);
                            }
                            wrote = true;
                        }
                    }
                }
                if wrote { None } else { Some(Ok(())) }
            }
            Step::Enable(ref h) | Step::Disable(ref h) => {
                let h = model.handle(h);
                let (answer, to) = match step {
                    Step::Enable(_) => (store.commit(&by, &ids, time, &Enable { key: h.clone() }), KeyState::Enabled),
                    _ => (store.commit(&by, &ids, time, &Disable { key: h.clone() }), KeyState::Disabled),
                };
                match model.not_pending(&h) {
                    Ok((id, _)) => {
                        assert_eq!(answer.unwrap().state, to);
                        model.keys.get_mut(&id).unwrap().state = to;
                        None
                    }
                    Err(e) => {
                        assert_eq!(answer.unwrap_err(), e);
                        Some(Err(e))
                    }
                }
            }
            Step::Rotate { key, token: t } => {
                let (h, token) = (model.handle(&key), token(t, now));
                let request = Rotate { key: h.clone(), token };
                let answer = store.commit(&by, &ids, time, &request);
                let asked = [b"rotate", &within.0.to_be_bytes()[..], &crate::record::handle_bytes(&h)].concat();
                match (token.and_then(|token| model.filed.get(&token)), model.not_pending(&h).and_then(in_use)) {
                    (Some((before, id)), _) if *before == asked && !model.keys.contains_key(id) => {
                        Some(Err(expect(answer.map(drop), Refusal::KeyNotFound(KeyHandle::Id(*id)))))
                    }
                    (Some((before, id)), _) if *before == asked => {
                        assert_eq!(answer.map(|key| (key.id, key.current.get())), Ok((*id, model.keys[id].version)));
                        Some(Ok(()))
                    }
                    (Some(_), _) => {
                        assert_eq!(answer.unwrap_err(), Refusal::TokenReused);
                        Some(Err(Refusal::TokenReused))
                    }
                    (None, Ok((id, plain)))
                        if plain.state == KeyState::Enabled
                            && Row::Rotate.cell(plain.of(plain.version)) == Cell::No =>
                    {
                        let current = KeyVersion::new(plain.version).unwrap();
                        let e = Refusal::VersionState(id, current, Row::Rotate, plain.of(plain.version));
                        assert_eq!(answer.unwrap_err(), e);
                        Some(Err(e))
                    }
                    (None, Ok((id, plain))) if plain.state == KeyState::Enabled => {
                        let key = answer.unwrap();
                        let plain = model.keys.get_mut(&id).unwrap();
                        plain.add_version();
                        assert_eq!(key.current.get(), plain.version);
                        model.filed.extend(token.map(|token| (token, (asked, id))));
                        None
                    }
                    (None, Ok((id, _))) => {
                        assert_eq!(answer.unwrap_err(), Refusal::Disabled(id));
                        Some(Err(Refusal::Disabled(id)))
                    }
                    (None, Err(e)) => {
                        assert_eq!(answer.unwrap_err(), e);
                        Some(Err(e))
                    }
                }
            }
            Step::Schedule { key, days } => {
                let h = model.handle(&key);
                let window = DeletionWindow::from_days(days).unwrap();
                let answer = store.commit(&by, &ids, time, &ScheduleDeletion { key: h.clone(), window });
                match model.not_pending(&h) {
                    Ok((id, _)) => {
                        let at_ms = now + u64::from(days) * DAY_MS;
                        let was_enabled = model.keys[&id].state == KeyState::Enabled;
                        let state = KeyState::PendingDeletion { at_ms, since_ms: time.stamp_ms(), was_enabled };
                        assert_eq!(answer.unwrap().state, state);
                        model.keys.get_mut(&id).unwrap().state = state;
                        None
                    }
                    Err(e) => {
                        assert_eq!(answer.unwrap_err(), e);
                        Some(Err(e))
                    }
                }
            }
            Step::Cancel(key) => {
                let h = model.handle(&key);
                let answer = store.commit(&by, &ids, time, &CancelDeletion { key: h.clone(), as_before: false });
                match model.find(&h) {
                    Ok((id, Plain { state: KeyState::PendingDeletion { .. }, .. })) => {
                        assert_eq!(answer.unwrap().state, KeyState::Disabled);
                        model.keys.get_mut(&id).unwrap().state = KeyState::Disabled;
                        None
                    }
                    Ok((id, _)) => {
                        assert_eq!(answer.unwrap_err(), Refusal::NotPendingDeletion(id));
                        Some(Err(Refusal::NotPendingDeletion(id)))
                    }
                    Err(e) => {
                        assert_eq!(answer.unwrap_err(), e);
                        Some(Err(e))
                    }
                }
            }
            Step::SetRotation { key, days } => {
                let h = model.handle(&key);
                let period = RotationPeriod::parse(days, 0).unwrap();
                let answer = store.commit(&by, &ids, time, &SetRotation { key: h.clone(), period });
                match model.not_pending(&h).and_then(in_use) {
                    Ok((id, plain))
                        if plain.state == KeyState::Enabled
                            && period.is_some()
                            && Row::Rotate.cell(plain.of(plain.version)) == Cell::No =>
                    {
                        let current = KeyVersion::new(plain.version).unwrap();
                        let e = Refusal::VersionState(id, current, Row::Rotate, plain.of(plain.version));
                        Some(Err(expect(answer.map(drop), e)))
                    }
                    Ok((id, plain)) if plain.state == KeyState::Enabled => {
                        let period = period.map(RotationPeriod::millis);
                        let plain = model.keys.get_mut(&id).unwrap();
                        let same = plain.rotation.map(|(period, _)| period) == period;
                        if !same {
                            plain.rotation = period.map(|period| (period, now + period));
                        }
                        let rotation = answer.unwrap().rotation.map(|r| (r.period_ms, r.next_ms));
                        assert_eq!(rotation, plain.rotation);
                        same.then_some(Ok(()))
                    }
                    Ok((id, _)) => Some(Err(expect(answer.map(drop), Refusal::Disabled(id)))),
                    Err(e) => Some(Err(expect(answer.map(drop), e))),
                }
            }
            Step::Purge(key) => {
                let h = model.handle(&key);
                let answer = store.commit(&by, &ids, time, &Purge { key: h.clone() });
                match model.find(&h) {
                    Ok((id, Plain { state: KeyState::PendingDeletion { .. }, .. })) => {
                        assert_eq!(answer, Ok(id));
                        model.keys.remove(&id);
                        model.order.retain(|other| *other != id);
                        model.purged.insert(id);
                        model.names.retain(|_, key| *key != id);
                        None
                    }
                    Ok((id, _)) => Some(Err(expect(answer.map(drop), Refusal::NotPendingDeletion(id)))),
                    Err(e) => Some(Err(expect(answer.map(drop), e))),
                }
            }
            Step::Tell { key, times } => {
                let (h, text) = (model.handle(&key), "told ".repeat(times));
                let changes = Changes { description: Some(text.parse().unwrap()), ..Changes::default() };
                let answer = store.commit(&by, &ids, time, &Update { key: h.clone(), changes });
                match model.not_pending(&h).and_then(in_use) {
                    Ok((id, before)) => {
                        assert_eq!(answer.unwrap().description.as_str(), text);
                        let same = before.description == text;
                        model.keys.get_mut(&id).unwrap().description = text;
                        same.then_some(Ok(()))
                    }
                    Err(e) => Some(Err(expect(answer.map(drop), e))),
                }
            }
            Step::Tag { .. } | Step::Untag { .. } => {
                let (key, change) = match step {
                    Step::Tag { ref key, name, value } => (key, Some((name.to_string(), value.to_string()))),
                    Step::Untag { ref key, .. } => (key, None),
                    _ => unreachable!(),
                };
                let h = model.handle(key);
                let answer = match (&change, &step) {
                    (Some(tag), _) => {
                        let tags = Tags::new([tag.clone()]).unwrap();
                        store.commit(&by, &ids, time, &Tag { key: h.clone(), tags })
                    }
                    (None, Step::Untag { name, .. }) => {
                        store.commit(&by, &ids, time, &Untag { key: h.clone(), names: vec![name.to_string()] })
                    }
                    _ => unreachable!(),
                };
                match model.not_pending(&h).and_then(in_use) {
                    Ok((id, before)) => {
                        let plain = model.keys.get_mut(&id).unwrap();
                        match (change, &step) {
                            (Some((name, value)), _) => drop(plain.tags.insert(name, value)),
                            (None, Step::Untag { name, .. }) => drop(plain.tags.remove(&name.to_string())),
                            _ => unreachable!(),
                        }
                        let tags = answer.unwrap().tags;
                        assert!(tags.iter().eq(plain.tags.iter().map(|(n, v)| (n.as_str(), v.as_str()))));
                        (plain.tags == before.tags).then_some(Ok(()))
                    }
                    Err(e) => Some(Err(expect(answer.map(drop), e))),
                }
            }
            Step::Activate { .. } | Step::Revoke { .. } | Step::DestroyVersion { .. } => {
                let (key, number, row) = match step {
                    Step::Activate { ref key, version } => (key, version, Row::Activate),
                    Step::Revoke { ref key, version, compromised: false } => (key, version, Row::Deactivate),
                    Step::Revoke { ref key, version, .. } => (key, version, Row::Compromise),
                    Step::DestroyVersion { ref key, version } => (key, version, Row::DestroyVersion),
                    _ => unreachable!(),
                };
                let (key, version) = (model.handle(key), KeyVersion::new(number));
                let h = key.clone();
                let answer = match row {
                    Row::Activate => store.commit(&by, &ids, time, &Activate { key, version }),
                    Row::Deactivate => {
                        store.commit(&by, &ids, time, &Revoke { key, version, why: Revocation::Deactivate })
                    }
                    Row::Compromise => {
                        let why = Revocation::Compromise { since_ms: 0 };
                        store.commit(&by, &ids, time, &Revoke { key, version, why })
                    }
                    _ => store.commit(&by, &ids, time, &DestroyVersion { key, version: version.unwrap() }),
                };
                // A compromise is told of a key that waits for its destruction too.
                let found = if row == Row::Compromise { model.find(&h) } else { model.not_pending(&h) };
                match found.and_then(in_use) {
                    Err(e) => Some(Err(expect(answer.map(drop), e))),
                    Ok((id, plain)) => {
                        let version = version.unwrap_or(KeyVersion::new(plain.version).unwrap());
                        if version.get() > plain.version {
                            Some(Err(expect(answer.map(drop), Refusal::NoVersion(id, version))))
                        } else if row.cell(plain.of(version.get())) == Cell::No {
                            let e = Refusal::VersionState(id, version, row, plain.of(version.get()));
                            Some(Err(expect(answer.map(drop), e)))
                        } else {
                            let plain = model.keys.get_mut(&id).unwrap();
                            let marks = &mut plain.versions[version.get() as usize - 1];
                            let before = *marks;
                            match row {
                                Row::Activate => marks.active = true,
                                Row::Deactivate => marks.revoked = true,
                                Row::Compromise => marks.compromised = true,
                                _ => marks.destroyed = true,
                            }
                            let same = *marks == before;
                            assert_eq!(answer.unwrap().state, plain.of(version.get()), "{row:?}");
                            same.then_some(Ok(()))
                        }
                    }
                }
            }
            Step::Archive(_) | Step::Recover(_) => {
                let (key, archive) = match step {
                    Step::Archive(ref key) => (key, true),
                    Step::Recover(ref key) => (key, false),
                    _ => unreachable!(),
                };
                let key = model.handle(key);
                let found = model.not_pending(&key).and_then(|found| if archive { in_use(found) } else { Ok(found) });
                let answer = if archive {
                    store.commit(&by, &ids, time, &Archive { key })
                } else {
                    store.commit(&by, &ids, time, &Recover { key })
                };
                match found {
                    Err(e) => Some(Err(expect(answer.map(drop), e))),
                    Ok((id, plain)) if plain.versions[plain.version as usize - 1].destroyed => {
                        let current = KeyVersion::new(plain.version).unwrap();
                        let row = if archive { Row::Archive } else { Row::Recover };
                        let e = Refusal::VersionState(id, current, row, plain.of(plain.version));
                        Some(Err(expect(answer.map(drop), e)))
                    }
                    Ok((id, before)) => {
                        assert_eq!(answer.unwrap().archived, archive);
                        model.keys.get_mut(&id).unwrap().archived = archive;
                        (before.archived == archive).then_some(Ok(()))
                    }
                }
            }
            Step::AddAlias { alias: n, key } => {
                let (h, name) = (model.handle(&key), alias(n));
                let answer = store.commit(&by, &ids, time, &CreateAlias { name: name.clone(), key: h.clone() });
                let taken = model.names.get(&FoldedName::alias(within, &name)).copied();
                match (model.find(&h), taken) {
                    (Err(e), _) => {
                        assert_eq!(answer.unwrap_err(), e);
                        Some(Err(e))
                    }
                    (Ok((id, Plain { namespace, .. })), _) if namespace != within => {
                        Some(Err(expect(answer.map(drop), Refusal::OtherNamespace(id))))
                    }
                    (Ok((id, _)), Some(key)) if key != id => {
                        let e = Refusal::AliasTaken { name, key };
                        assert_eq!(answer.unwrap_err(), e);
                        Some(Err(e))
                    }
                    (Ok(_), Some(_)) => {
                        answer.unwrap();
                        Some(Ok(()))
                    }
                    (Ok(_), None) => match model.not_pending(&h) {
                        Ok((id, _)) => {
                            assert_eq!(answer.unwrap().key, id);
                            model.names.insert(FoldedName::alias(within, &name), id);
                            None
                        }
                        Err(e) => {
                            assert_eq!(answer.unwrap_err(), e);
                            Some(Err(e))
                        }
                    },
                }
            }
            Step::RemoveAlias(n) => {
                let name = alias(n);
                let answer = store.commit(&by, &ids, time, &DeleteAlias { name: name.clone() });
                if model.names.remove(&FoldedName::alias(within, &name)).is_some() {
                    answer.unwrap();
                    None
                } else {
                    assert_eq!(answer, Err(Refusal::AliasNotFound(name.clone())));
                    Some(Err(Refusal::AliasNotFound(name)))
                }
            }
            Step::Duty => {
                destroy_all_due(&mut store, duty(now));
                let due =
                    |plain: &Plain| matches!(plain.state, KeyState::PendingDeletion { at_ms, .. } if at_ms <= now);
                model.keys.retain(|_, plain| !due(plain));
                model.names.retain(|_, key| model.keys.contains_key(key));
                rotate_all_due(&mut store, Time { cluster_ms: now, local_ms: now }, duty(now));
                for plain in model.keys.values_mut() {
                    let Some((period, next)) = plain.rotation.filter(|(_, next)| *next <= now) else { continue };
                    debug_assert!(next <= now);
                    let usable = plain.state == KeyState::Enabled && !plain.archived;
                    let goes = usable && plain.of(plain.version) == VersionState::Active;
                    if goes {
                        plain.add_version();
                    }
                    let wait = if goes { period } else { period.min(DAY_MS) };
                    plain.rotation = Some((period, now + wait));
                }
                None
            }
            Step::SetSecret { name: n, token: t } => {
                let (secret, token) = (name(n), token(t, now));
                let request = SetSecret { token, ..plain_secret(secret.clone()) };
                let answer = store.commit(&by, &ids, time, &request);
                let folded = FoldedName::object(within, Class::Secret, &secret);
                let asked = format!("set {folded:?}").into_bytes();
                match (token.and_then(|token| model.filed.get(&token)), model.not_pending(&KeyHandle::Secret(secret))) {
                    (Some((before, _)), _) if *before != asked => {
                        Some(Err(expect(answer.map(drop), Refusal::TokenReused)))
                    }
                    (Some((_, id)), _) if !model.keys.contains_key(id) => {
                        Some(Err(expect(answer.map(drop), Refusal::KeyNotFound(KeyHandle::Id(*id)))))
                    }
                    (Some((_, id)), _) => {
                        let now = answer.map(|secret| (secret.id, secret.current.get()));
                        assert_eq!(now, Ok((*id, model.keys[id].version)));
                        Some(Ok(()))
                    }
                    (None, Err(e @ Refusal::PendingDeletion { .. })) => Some(Err(expect(answer.map(drop), e))),
                    (None, Ok((id, Plain { state: KeyState::Disabled, .. }))) => {
                        Some(Err(expect(answer.map(drop), Refusal::Disabled(id))))
                    }
                    (None, found) => {
                        let secret = answer.expect("nothing speaks against it");
                        match found {
                            Ok((id, _)) => {
                                assert_eq!(secret.id, id);
                                model.keys.get_mut(&id).unwrap().add_version();
                            }
                            Err(_) => {
                                assert!(!model.order.contains(&secret.id));
                                model.order.push(secret.id);
                                model.keys.insert(secret.id, Plain::new(within, Class::Secret, true));
                                model.names.insert(folded, secret.id);
                            }
                        }
                        assert_eq!(secret.current.get(), model.keys[&secret.id].version);
                        model.filed.extend(token.map(|token| (token, (asked, secret.id))));
                        None
                    }
                }
            }
            Step::Sweep => {
                let token = |name: &RecordName| {
                    if let RecordName::Idempotency(name) = name { Some(name.clone()) } else { None }
                };
                let tokens: Vec<_> = store.0.keys().filter_map(token).collect();
                for tokens in tokens.chunks(sweep::RECORDS_MAX) {
                    store.run(|view| sweep::decide(view, tokens, duty(now))).unwrap();
                }
                model.filed.retain(|token, _| token.time_ms() + Token::KEPT_MS > now);
                let kept = store.0.keys().filter(|name| matches!(name, RecordName::Idempotency(_))).count();
                assert_eq!(kept, model.filed.len());
                None
            }
        };
        if refused.is_some() {
            assert_eq!(store.0, before.0, "a refusal, or a repeated answer, changed something");
        }
        store.check();
        compare(&store, &model);
    }
}

/// All three clocks agree.
pub(super) fn duty(now: u64) -> DutyTime {
    DutyTime::new(now, now, now)
}

/// Runs the duty over every due record, as far as it goes; a step that is not due must say so.
fn destroy_all_due(store: &mut Store, time: DutyTime) {
    let dues: Vec<_> = store.0.keys().cloned().collect();
    for name in dues {
        let RecordName::Due((hour, Due::Deletion(key))) = name else { continue };
        loop {
            match store.destroy(hour, key, time) {
                Ok(destroy::Progress::More) => store.check(),
                Ok(destroy::Progress::Done) => break,
                Err(Refusal::NotDue { at_ms, .. }) => {
                    assert!(at_ms > time.ms());
                    break;
                }
                Err(e) => panic!("{e}"),
            }
        }
    }
}

fn rotate_all_due(store: &mut Store, now: Time, time: DutyTime) {
    let dues: Vec<_> = store.0.keys().cloned().collect();
    for name in dues {
        let RecordName::Due((hour, Due::Rotation(key))) = name else { continue };
        match store.run_at(now, |view| rotate::decide_due(view, hour, key, time)) {
            Ok(_) => store.check(),
            Err(Refusal::NotDue { at_ms, .. }) => assert!(at_ms > time.ms()),
            Err(e) => panic!("{e}"),
        }
    }
}

fn compare(store: &Store, model: &Model) {
    let mut keys = BTreeMap::new();
    let mut names = BTreeMap::new();
    for (name, body) in &store.0 {
        match Record::decode(name, body).unwrap() {
            // Of a key that is purged nobody sees anything.
            Record::Key(key) if key.state == KeyState::Destroyed => assert!(!model.keys.contains_key(&key.id)),
            Record::Key(key) => {
                let version = |n: u32| {
                    let name = RecordName::KeyVersion((key.id, KeyVersion::new(n).unwrap()));
                    match Record::decode(&name, &store.0[&name]).unwrap() {
                        Record::KeyVersion(head) => head,
                        _ => unreachable!(),
                    }
                };
                let versions = (1..=key.current.get()).map(|n| {
                    let dates = version(n).life.dates;
                    Marks {
                        active: dates.activation != 0,
                        revoked: dates.deactivation != 0,
                        compromised: dates.compromise != 0,
                        destroyed: dates.destroyed != 0,
                    }
                });
                let told = RecordName::Details(key.id);
                let description = store.0.get(&told).map(|body| match Record::decode(&told, body).unwrap() {
                    Record::Details(told) => told.description.as_str().to_owned(),
                    _ => unreachable!(),
                });
                let plain = Plain {
                    namespace: key.namespace,
                    description: description.unwrap_or_default(),
                    class: key.class(),
                    state: key.state,
                    version: key.current.get(),
                    versions: versions.collect(),
                    tags: key.tags.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
                    rotation: key.rotation.map(|r| (r.period_ms, r.next_ms)),
                    archived: key.archived,
                };
                keys.insert(key.id, plain);
            }
            Record::Name(named) => {
                names.insert(named.name(), named.key);
            }
            _ => {}
        }
    }
    assert_eq!((&keys, &names), (&model.keys, &model.names));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn decisions_do_what_the_model_does(steps in proptest::collection::vec((prop::bool::weighted(0.7), step()), 1..60)) {
        play(steps);
    }
}

fn aes() -> NewKind {
    NewKind::new(KeySpec::Aes256, None, None).unwrap()
}
pub(super) fn plain_create(token: Option<Token>) -> Create {
    Create {
        kind: aes(),
        alias: None,
        name: None,
        description: Description::default(),
        tags: Tags::default(),
        activation: None,
        purge_protected: false,
        source: Source::Fresh,
        exportable: Default::default(),
        tracked: true,
        token,
    }
}
pub(super) fn plain_secret(name: ObjectName) -> SetSecret {
    SetSecret {
        name,
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
pub(super) fn new_key(store: &mut Store, time: Time, ids: &dyn NewIds) -> KeyId {
    let request = plain_create(None);
    store.commit(&admin(), ids, time, &request).unwrap().id
}

/// Destruction of a key with many versions takes several steps; wherever it is taken over, it ends.
#[test]
fn destruction_resumes_wherever_it_stopped() {
    let (by, ids) = (admin(), TestIds::default());
    let mut store = Store::default();
    let start = Time { cluster_ms: 1_000_000_000, local_ms: 1_000_000_000 };
    let id = new_key(&mut store, start, &ids);
    let handle = KeyHandle::Id(id);
    for n in 0..64 {
        store.commit(&by, &ids, start, &CreateAlias { name: alias(n), key: handle.clone() }).unwrap();
    }
    let one_more = store.commit(&by, &ids, start, &CreateAlias { name: alias(64), key: handle.clone() });
    assert_eq!(one_more, Err(Refusal::AliasesMax(id)));
    for _ in 1..84 {
        let request = Rotate { key: handle.clone(), token: None };
        store.commit(&by, &ids, start, &request).unwrap();
    }
    for n in 1..=84 {
        store
            .run(|view| {
                lease::decide(
                    view,
                    lease::Of { key: id, version: KeyVersion::new(n).unwrap(), material: [0; 32] },
                    1,
                    true,
                )
            })
            .unwrap();
    }
    for node in (1..=40).map(NodeId) {
        store.run(|view| tally::decide(view, node, &[(id, Tally::one(Action::Encrypt, 5))])).unwrap();
    }
    let window = DeletionWindow::from_days(7).unwrap();
    store.commit(&by, &ids, start, &ScheduleDeletion { key: handle.clone(), window }).unwrap();
    let at = start.cluster_ms + 7 * DAY_MS;
    let hour = DueRecord::hour(at);

    let before = store.clone();
    let step = store.run(|view| destroy::decide(view, hour, id, &[], duty(at - 1)));
    assert_eq!(step, Err(Refusal::NotDue { key: id, at_ms: at }));
    assert_eq!(store.0, before.0);

    let time = duty(at);
    let mut steps = 0;
    loop {
        let step = store.destroy(hour, id, time).unwrap();
        store.check();
        steps += 1;
        if step == destroy::Progress::Done {
            break;
        }
        // Once begun there is no way back, and the key is not found any more.
        let cancelled = store.commit(&by, &ids, start, &CancelDeletion { key: handle.clone(), as_before: false });
        assert_eq!(cancelled, Err(Refusal::KeyNotFound(handle.clone())));
    }
    assert_eq!(steps, 5, "84 versions, 28 a step; 40 nodes, 32 a step; the rest");
    let left = store.destruction(id, None).expect("what was destroyed is known for ever");
    assert!(left.is_complete() && left.gone.len() == 84 && left.aliases.len() == 64, "{left:?}");
    assert_eq!((left.began_ms, left.ended_ms), (at, at));
    let scheduled = Scheduled { by: Some(by.principal.clone()), since_ms: start.cluster_ms, due_ms: at };
    assert_eq!((left.cause, left.earlier), (Cause::Due { scheduled }, 0));
    assert_eq!(store.0.len(), 1, "no version, alias or due record is left: {:?}", store.0.keys());
    assert_eq!(
        store.run(|view| destroy::decide(view, hour, id, &[], time)),
        Ok(destroy::Progress::Done),
        "again: nothing"
    );
}

/// A due record that outlived a cancellation (written by nobody, but harmless) destroys nothing.
#[test]
fn a_stray_due_record_destroys_nothing() {
    let ids = TestIds::default();
    let mut store = Store::default();
    let time = Time { cluster_ms: 9 * DAY_MS, local_ms: 9 * DAY_MS };
    let id = new_key(&mut store, time, &ids);
    let stray = Record::Due(DueRecord { what: Due::Deletion(id), at_ms: DAY_MS });
    store.0.insert(stray.name(), stray.encode(LEVEL));
    let step = store.run(|view| destroy::decide(view, DueRecord::hour(DAY_MS), id, &[], duty(time.cluster_ms)));
    assert_eq!(step, Ok(destroy::Progress::Done));
    assert!(store.has(&RecordName::Key(id)) && !store.has(&stray.name()));
    store.check();
}

#[test]
fn a_lease_is_one_nodes_until_it_ends_and_of_its_start() {
    let mut store = Store::default();
    let mut claim = |node, boot, now| {
        let time = Time { cluster_ms: now, local_ms: 0 };
        store.run_at(time, |facts| claim::decide(facts, Duty::Destroy, NodeId(node), boot)).unwrap()
    };
    assert!(claim(1, 1, 100));
    assert!(!claim(2, 1, 101));
    assert!(!claim(1, 2, 101), "after a restart it waits like anybody");
    assert!(claim(1, 1, 20_000), "renewed: now until 50 000");
    assert!(!claim(2, 1, 49_999));
    assert!(claim(2, 1, 50_000));
    assert!(!claim(1, 1, 50_001));
    // Cluster time was a week ahead, and is set back.
    assert!(claim(2, 1, 600_050_000));
    assert!(claim(1, 1, 50_002), "no lease lasts a week");
    assert!(!claim(2, 1, 50_003));
}

#[test]
fn a_token_with_other_parameters_is_refused() {
    let (by, ids) = (admin(), TestIds::default());
    let mut store = Store::default();
    let time = Time { cluster_ms: 5, local_ms: 5 };
    let token = token(Some(1), 5);
    let mut request = Create { description: "a".parse().unwrap(), ..plain_create(token) };
    let first = store.commit(&by, &ids, time, &request).unwrap();
    assert_eq!(store.commit(&by, &ids, time, &request).unwrap(), first);
    request.description = "b".parse().unwrap();
    let other = store.commit(&by, &ids, time, &request);
    assert_eq!(other, Err(Refusal::TokenReused));
    let request =
        CreateMany { kind: aes(), count: KeyCount::parse(2).unwrap(), description: "a".parse().unwrap(), token };
    let part = request.parts().next().unwrap();
    let other = store.commit(&by, &ids, time, &part);
    assert_eq!(other, Err(Refusal::TokenReused));
}

/// A retry that comes late could be one of a request that is forgotten: it never acts twice, since it does not act.
#[test]
fn a_token_that_is_late_or_early_is_refused() {
    let (by, ids) = (admin(), TestIds::default());
    let mut store = Store::default();
    let made_ms = 1_800_000_000_000;
    let token = token(Some(1), made_ms);
    let request = plain_create(token);
    let mut create = |cluster_ms, local_ms| {
        let time = Time { cluster_ms, local_ms };
        store.commit(&by, &ids, time, &request).map(|key| key.id)
    };
    let minutes = |n: u64| n * 60_000;
    assert_eq!(
        create(made_ms - minutes(11), made_ms - minutes(11)),
        Err(Refusal::TokenTime { now_ms: made_ms - minutes(11) })
    );
    let id = create(made_ms - minutes(10), made_ms - minutes(10)).unwrap();
    // After a long rest cluster time is old until its first tick.
    assert_eq!(create(made_ms - DAY_MS, made_ms), Ok(id));
    assert_eq!(create(made_ms + minutes(60), made_ms), Ok(id));
    let late = made_ms + minutes(60) + 1;
    assert_eq!(create(late, made_ms), Err(Refusal::TokenTime { now_ms: late }));
    // And what a token did is remembered for longer than a retry is taken.
    assert!(!sweep::is_old(token.unwrap(), duty(late)) && sweep::is_old(token.unwrap(), duty(made_ms + minutes(120))));
}

/// Two nodes decide by two clocks, one of which may be wrong; what came later is still never dated earlier.
#[test]
fn a_version_is_never_dated_before_the_one_before_it() {
    let (by, ids) = (admin(), TestIds::default());
    let mut store = Store::default();
    let at = |local_ms| Time { cluster_ms: 1_000_000, local_ms };
    let id = new_key(&mut store, at(1_000_700), &ids);
    let mut last = 1_000_700;
    for local_ms in [1_000_200, 1_000_900, 0, 1_000_901] {
        let request = Rotate { key: KeyHandle::Id(id), token: None };
        let key = store.commit(&by, &ids, at(local_ms), &request).unwrap();
        assert_eq!(key.rotated_ms, local_ms.max(last));
        last = key.rotated_ms;
    }
}

/// Whoever may not do it learns nothing: neither that a key is there, nor that it is not.
#[test]
fn who_may_not_is_told_so_whether_the_key_is_there_or_not() {
    let ids = TestIds::default();
    let mut store = Store::default();
    let time = Time { cluster_ms: 5, local_ms: 5 };
    let there = KeyHandle::Id(new_key(&mut store, time, &ids));
    let before = store.clone();
    for key in [there, KeyHandle::Id(KeyId([9; 16])), KeyHandle::Alias(alias(1)), KeyHandle::Key(name(1))] {
        let denied = |refused: Result<KeyView, Refusal>| assert!(matches!(refused, Err(Refusal::Denied(_))), "{key}");
        denied(store.commit(&as_role(Role::User), &ids, time, &Disable { key: key.clone() }));
        denied(store.commit(
            &as_role(Role::Auditor),
            &ids,
            time,
            &Rotate { key: key.clone(), token: token(Some(1), 5) },
        ));
    }
    let request = plain_create(None);
    let refused = store.commit(&as_role(Role::User), &ids, time, &request);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "user/root may not manage keys and secrets; that takes a certificate with the role admin"
    );
    let refused = store.commit(&as_role(Role::User), &ids, time, &DeleteAlias { name: alias(1) });
    assert!(matches!(refused, Err(Refusal::Denied(_))));
    assert_eq!(store.0, before.0);
}

/// Should a decision ever write a key that it did not ask for, that is seen before it has an effect.
#[test]
fn a_write_to_what_was_not_granted_is_not_covered() {
    let ids = TestIds::default();
    let mut store = Store::default();
    let time = Time { cluster_ms: 5, local_ms: 5 };
    let (mine, other) = (new_key(&mut store, time, &ids), new_key(&mut store, time, &ids));
    let caller = admin();
    let mut facts = StoreFacts { store: &store, time, read: BTreeSet::new() };
    let mut at = Access::admit(&mut facts, &FixedRoles, &caller, Action::Disable).unwrap();
    let update = |key: &KeyRecord| [Write::Update(key.clone().into())];
    let other = KeyRecord::clone(&at.get::<KeyRecord>(other).unwrap().unwrap());
    assert!(!at.covers(&[]), "nothing was asked");
    let mine = KeyRecord::clone(&at.key(&KeyHandle::Id(mine)).unwrap());
    assert!(at.covers(&[]) && at.covers(&update(&mine)) && !at.covers(&update(&other)));
    assert!(!at.covers(&[Write::Create(other.clone().into())]), "what is made is made where that was granted");
    let version = |key: &KeyRecord| {
        let version = key.current.next().unwrap();
        Write::Create(KeyVersionRecord::new(key.id, version, key.spec, Mode::Blob, key.usage, 5).into())
    };
    let named = |key: &KeyRecord| Write::Create(NameRecord::new(Named::Alias(alias(1)), key, 5).into());
    let answer = |who: &Caller| {
        let principal = who.principal.clone();
        let (token, request_hash) = (Token([7; 16]), [7; 32]);
        Write::Create(IdempotencyRecord { principal, token, request_hash, key: mine.id }.into())
    };
    for (write, covered) in [
        (version(&mine), true),
        (version(&other), false),
        (named(&mine), true),
        (named(&other), false),
        (answer(&caller), true),
        (answer(&as_role(Role::User)), false),
        (Write::Delete(RecordName::Duty(Duty::Sweep)), false),
        (Write::Delete(RecordName::Seal(RecordKey::cluster_seal())), false),
    ] {
        assert_eq!(at.covers(std::slice::from_ref(&write)), covered, "{write:?}");
    }
    at.home().unwrap();
    let made = Write::Create(other.clone().into());
    assert!(at.covers(&[made.clone(), version(&other), named(&other)]), "what is made there is whole");
    assert!(!at.covers(&[version(&other)]) && !at.covers(&[named(&other)]) && !at.covers(&update(&other)));
}

/// From the moment that a key's destruction begins, however many steps it takes, others may be called as it was.
#[test]
fn the_names_of_a_key_under_destruction_are_free() {
    let (by, ids) = (admin(), TestIds::default());
    let time = Time { cluster_ms: 5, local_ms: 5 };
    let at = time.cluster_ms + 7 * DAY_MS;
    for purged in [true, false] {
        let mut store = Store::default();
        let wanted = Create { alias: Some(alias(1)), name: Some(name(1)), ..plain_create(None) };
        let id = store.commit(&by, &ids, time, &wanted).unwrap().id;
        let key = KeyHandle::Key(name(0));
        for _ in 0..40 {
            store.commit(&by, &ids, time, &Rotate { key: key.clone(), token: None }).unwrap();
        }
        let window = DeletionWindow::from_days(7).unwrap();
        store.commit(&by, &ids, time, &ScheduleDeletion { key: key.clone(), window }).unwrap();
        let taken = store.commit(&by, &ids, time, &Create { alias: None, ..wanted.clone() });
        assert_eq!(taken, Err(Refusal::NameTaken { name: name(1), key: id }), "it may be spared yet");
        let step = |facts: &mut StoreFacts<'_>, hour| destroy::decide(facts, hour, id, &[], duty(at));
        let hour = if purged {
            assert_eq!(store.commit(&by, &ids, time, &Purge { key }), Ok(id));
            0
        } else {
            assert_eq!(store.run(|facts| step(facts, DueRecord::hour(at))), Ok(destroy::Progress::More));
            DueRecord::hour(at)
        };
        store.check();
        let gone = store.commit(&by, &ids, time, &DeleteAlias { name: alias(1) });
        assert_eq!(gone, Err(Refusal::AliasNotFound(alias(1))));
        let next = store.commit(&by, &ids, time, &wanted).unwrap().id;
        assert_ne!(next, id);
        assert_eq!(store.run(|facts| step(facts, hour)), Ok(destroy::Progress::Done));
        store.check();
        assert!(!store.has(&RecordName::Key(id)) && store.has(&RecordName::Key(next)));
        assert!(
            store.commit(&by, &ids, time, &Disable { key: KeyHandle::Key(name(0)) }).is_ok(),
            "it is another key's now"
        );
    }
}
