//! A model of the language for tests: policies of every scope and of many conditions, their text, and what they say, worked out
//! without Cedar.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;
use quorate_core::action::Action;
use quorate_core::id::Namespace;

use crate::role::Role;
use crate::schema::group_name;
use crate::{Context, GrantFacts, ObjectFacts, Pairs, PrincipalFacts};

/// How many there are of each thing in the world: principals, groups, objects, namespaces.
pub(crate) const MANY: u8 = 3;

/// Who there is, and what.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub principals: Vec<PrincipalFacts>,
    pub objects: Vec<ObjectFacts>,
    /// In which groups each group is, directly: of a higher number.
    pub nested: Vec<BTreeSet<u8>>,
    /// In which groups each principal is, directly.
    pub direct: Vec<BTreeSet<u8>>,
}

impl World {
    /// Whether the principal is in the group, found by walking up.
    fn is_in(&self, principal: usize, group: u8) -> bool {
        let mut open: Vec<u8> = self.direct[principal].iter().copied().collect();
        while let Some(one) = open.pop() {
            if one == group {
                return true;
            }
            open.extend(&self.nested[usize::from(one)]);
        }
        false
    }
}

/// What an action is done to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum What {
    Object(u8),
    Namespace(u8),
}

/// A question.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub principal: u8,
    pub action: Action,
    pub what: What,
    pub context: Context,
}

/// `principal …` in a scope.
#[derive(Clone, Debug)]
pub(crate) enum Whom {
    Any,
    Is,
    Eq(u8),
    InPrincipal(u8),
    InGroup(u8),
    IsInGroup(u8),
    InNamespace(u8),
}

/// `action …` in a scope; groups and roles by name.
#[derive(Clone, Debug)]
pub(crate) enum Does {
    Any,
    Eq(Action),
    In(Vec<String>),
}

/// `resource …` in a scope.
#[derive(Clone, Debug)]
pub(crate) enum Which {
    Any,
    IsObject,
    IsNamespace,
    Eq(What),
    In(What),
    IsObjectIn(u8),
}

/// A condition.
#[derive(Clone, Debug)]
pub(crate) enum Is {
    PrincipalTag(String, String),
    PrincipalName(u8),
    InGroup(u8),
    ObjectTag(String, String),
    SameTag(String),
    Spec(String),
    Usage(String),
    Owner,
    OwnGroup,
    Within10,
    Before(u64),
    Aad(String, String),
    AadKey(String),
    Days(u32),
    GrantsDecrypt,
    /// Fails, where the context has days above 0.
    Fails,
    Not(Box<Is>),
    And(Box<Is>, Box<Is>),
    Or(Box<Is>, Box<Is>),
    If(Box<Is>, Box<Is>, Box<Is>),
}

/// A policy.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    pub forbids: bool,
    pub whom: Whom,
    pub does: Does,
    pub which: Which,
    /// Conditions, and whether each is an `unless`.
    pub conditions: Vec<(bool, Is)>,
}

fn principal(n: u8) -> String {
    format!("Q::Principal::\"p{n}\"")
}
fn group(n: u8) -> String {
    format!("Q::Group::\"g{n}\"")
}
fn namespace(n: u8) -> String {
    format!("Q::Namespace::\"{n}\"")
}

impl What {
    fn text(self) -> String {
        match self {
            Self::Object(n) => format!("Q::Object::\"o{n}\""),
            Self::Namespace(n) => namespace(n),
        }
    }
}

impl Is {
    fn text(&self) -> String {
        let object = "resource is Q::Object &&";
        match self {
            Self::PrincipalTag(k, v) => format!("(principal.hasTag({k:?}) && principal.getTag({k:?}) == {v:?})"),
            Self::PrincipalName(n) => format!("principal.name == \"name{n}\""),
            Self::InGroup(n) => format!("principal in {}", group(*n)),
            Self::ObjectTag(k, v) => format!("({object} resource.hasTag({k:?}) && resource.getTag({k:?}) == {v:?})"),
            Self::SameTag(k) => format!(
                "({object} resource.hasTag({k:?}) && principal.hasTag({k:?}) && resource.getTag({k:?}) == principal.getTag({k:?}))"
            ),
            Self::Spec(spec) => format!("({object} [{spec:?}, \"p-521\"].contains(resource.spec))"),
            Self::Usage(usage) => format!("({object} resource.usage.contains({usage:?}))"),
            Self::Owner => format!("({object} resource has owner && resource.owner == principal)"),
            Self::OwnGroup => format!("({object} resource has group && principal in resource.group)"),
            Self::Within10 => "(context has ip && context.ip.isInRange(ip(\"10.0.0.0/8\")))".into(),
            Self::Before(ms) => {
                format!("(context has now && context.now.offset(duration(\"-{ms}ms\")) < datetime(\"1970-01-01\"))")
            }
            Self::Aad(k, v) => {
                format!("(context has aad && context.aad.hasTag({k:?}) && context.aad.getTag({k:?}) == {v:?})")
            }
            Self::AadKey(k) => format!("(context has aadKeys && context.aadKeys.contains({k:?}))"),
            Self::Days(n) => format!("(context has days && context.days < {n})"),
            Self::GrantsDecrypt => "(context has grant && context.grant.operations.contains(\"Decrypt\"))".into(),
            Self::Fails => format!("(context has days && context.days + {} > 0)", i64::MAX),
            Self::Not(a) => format!("!({})", a.text()),
            Self::And(a, b) => format!("({} && {})", a.text(), b.text()),
            Self::Or(a, b) => format!("({} || {})", a.text(), b.text()),
            Self::If(a, b, c) => format!("(if {} then {} else {})", a.text(), b.text(), c.text()),
        }
    }

    /// None = it fails.
    fn holds(&self, world: &World, asked: &Question) -> Option<bool> {
        let who = &world.principals[usize::from(asked.principal)];
        let object = match asked.what {
            What::Object(n) => Some(&world.objects[usize::from(n)]),
            What::Namespace(_) => None,
        };
        let context = &asked.context;
        let has = |pairs: &Pairs, k: &str, v: &str| pairs.get(k).is_some_and(|there| there == v);
        Some(match self {
            Self::PrincipalTag(k, v) => has(&who.tags, k, v),
            Self::PrincipalName(n) => who.name == format!("name{n}"),
            Self::InGroup(n) => world.is_in(asked.principal.into(), *n),
            Self::ObjectTag(k, v) => object.is_some_and(|object| has(&object.tags, k, v)),
            Self::SameTag(k) => object.and_then(|object| object.tags.get(k)).is_some_and(|v| has(&who.tags, k, v)),
            Self::Spec(spec) => object.is_some_and(|object| object.spec == *spec || object.spec == "p-521"),
            Self::Usage(usage) => object.is_some_and(|object| object.usage.contains(usage)),
            Self::Owner => object.is_some_and(|object| object.owner.as_ref() == Some(&who.id)),
            Self::OwnGroup => object.and_then(|object| object.group.as_ref()).is_some_and(|group| {
                (0..MANY).any(|n| *group == format!("g{n}") && world.is_in(asked.principal.into(), n))
            }),
            Self::Within10 => matches!(context.ip, Some(IpAddr::V4(ip)) if ip.octets()[0] == 10),
            Self::Before(ms) => context.now_ms.is_some_and(|now| now < *ms),
            Self::Aad(k, v) => context.aad.as_ref().is_some_and(|aad| has(aad, k, v)),
            Self::AadKey(k) => context.aad.as_ref().is_some_and(|aad| aad.contains_key(k)),
            Self::Days(n) => context.days.is_some_and(|days| days < *n),
            Self::GrantsDecrypt => context.grant.as_ref().is_some_and(|grant| grant.operations.contains("Decrypt")),
            Self::Fails => match context.days {
                None => false,
                Some(0) => true,
                Some(_) => return None,
            },
            Self::Not(a) => !a.holds(world, asked)?,
            Self::And(a, b) => a.holds(world, asked)? && b.holds(world, asked)?,
            Self::Or(a, b) => a.holds(world, asked)? || b.holds(world, asked)?,
            Self::If(a, b, c) => {
                if a.holds(world, asked)? {
                    b.holds(world, asked)?
                } else {
                    c.holds(world, asked)?
                }
            }
        })
    }

    fn may_fail(&self) -> bool {
        match self {
            Self::Fails => true,
            Self::Not(a) => a.may_fail(),
            Self::And(a, b) | Self::Or(a, b) => a.may_fail() || b.may_fail(),
            Self::If(a, b, c) => a.may_fail() || b.may_fail() || c.may_fail(),
            _ => false,
        }
    }
}

impl Rule {
    pub(crate) fn text(&self) -> String {
        let whom = match &self.whom {
            Whom::Any => "principal".into(),
            Whom::Is => "principal is Q::Principal".into(),
            Whom::Eq(n) => format!("principal == {}", principal(*n)),
            Whom::InPrincipal(n) => format!("principal in {}", principal(*n)),
            Whom::InGroup(n) => format!("principal in {}", group(*n)),
            Whom::IsInGroup(n) => format!("principal is Q::Principal in {}", group(*n)),
            Whom::InNamespace(n) => format!("principal in {}", namespace(*n)),
        };
        let named = |name: &str| format!("Q::Action::\"{name}\"");
        let does = match &self.does {
            Does::Any => "action".into(),
            Does::Eq(action) => format!("action == {}", named(action.as_str())),
            Does::In(names) if names.len() == 1 => format!("action in {}", named(&names[0])),
            Does::In(names) => {
                format!("action in [{}]", names.iter().map(|name| named(name)).collect::<Vec<_>>().join(", "))
            }
        };
        let which = match self.which {
            Which::Any => "resource".into(),
            Which::IsObject => "resource is Q::Object".into(),
            Which::IsNamespace => "resource is Q::Namespace".into(),
            Which::Eq(what) => format!("resource == {}", what.text()),
            Which::In(what) => format!("resource in {}", what.text()),
            Which::IsObjectIn(n) => format!("resource is Q::Object in {}", namespace(n)),
        };
        let word = |unless: bool| if unless { "unless" } else { "when" };
        let conditions = self.conditions.iter().map(|(unless, is)| format!("\n{} {{ {} }}", word(*unless), is.text()));
        let effect = if self.forbids { "forbid" } else { "permit" };
        format!("{effect}({whom}, {does}, {which}){};", conditions.collect::<String>())
    }

    pub(crate) fn may_fail(&self) -> bool {
        self.conditions.iter().any(|(_, is)| is.may_fail())
    }

    /// Whether it holds; none = it fails.
    pub(crate) fn holds(&self, world: &World, asked: &Question) -> Option<bool> {
        let who = asked.principal;
        let whom = match &self.whom {
            Whom::Any | Whom::Is => true,
            Whom::Eq(n) | Whom::InPrincipal(n) => who == *n,
            Whom::InGroup(n) | Whom::IsInGroup(n) => world.is_in(who.into(), *n),
            Whom::InNamespace(n) => world.principals[usize::from(who)].namespace == Namespace((*n).into()),
        };
        let action = asked.action;
        let does = match &self.does {
            Does::Any => true,
            Does::Eq(one) => *one == action,
            Does::In(names) => names.iter().any(|name| {
                let role = Role::of(action).iter().any(|role| role.as_str() == name);
                name == action.as_str() || name == group_name(action.group()) || role
            }),
        };
        let home = match asked.what {
            What::Object(n) => world.objects[usize::from(n)].namespace,
            What::Namespace(n) => Namespace(n.into()),
        };
        let which = match self.which {
            Which::Any => true,
            Which::IsObject => matches!(asked.what, What::Object(_)),
            Which::IsNamespace => matches!(asked.what, What::Namespace(_)),
            Which::Eq(what) | Which::In(what @ What::Object(_)) => asked.what == what,
            Which::In(What::Namespace(n)) => home == Namespace(n.into()),
            Which::IsObjectIn(n) => matches!(asked.what, What::Object(_)) && home == Namespace(n.into()),
        };
        if !(whom && does && which) {
            return Some(false);
        }
        for (unless, is) in &self.conditions {
            if is.holds(world, asked)? == *unless {
                return Some(false);
            }
        }
        Some(true)
    }
}

fn one() -> std::ops::Range<u8> {
    0..MANY
}
fn key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["team", "tenant"]).prop_map(str::to_owned)
}
fn value() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b"]).prop_map(str::to_owned)
}
fn pairs() -> impl Strategy<Value = Pairs> {
    prop::collection::btree_map(key(), value(), 0..3)
}
fn word(all: &'static [&'static str]) -> impl Strategy<Value = String> {
    prop::sample::select(all).prop_map(str::to_owned)
}
const ACTIONS: &[Action] = &[Action::Encrypt, Action::Decrypt, Action::ReadSecret, Action::Create, Action::Describe];
fn what() -> impl Strategy<Value = What> {
    prop_oneof![3 => one().prop_map(What::Object), 1 => one().prop_map(What::Namespace)]
}
fn groups() -> impl Strategy<Value = BTreeSet<u8>> {
    prop::collection::btree_set(one(), 0..3)
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    let count = usize::from(MANY);
    let who = (0..2u32, pairs(), groups());
    let object = (
        0..2u32,
        word(&["aes-256", "rsa-2048", "p-521"]),
        prop::collection::btree_set(word(&["encrypt", "decrypt", "sign"]), 0..3),
        prop::option::of(one()),
        prop::option::of(one()),
        pairs(),
    );
    let all = (
        prop::collection::vec(who, count),
        prop::collection::vec(object, count),
        prop::collection::vec(groups(), count),
    );
    all.prop_map(|(who, objects, nested)| {
        // Upwards only: groups are in no circle.
        let nested = nested.into_iter().enumerate();
        let nested: Vec<BTreeSet<u8>> =
            nested.map(|(n, of)| of.into_iter().filter(|up| usize::from(*up) > n).collect()).collect();
        let direct: Vec<_> = who.iter().map(|(_, _, groups)| groups.clone()).collect();
        let mut world = World { principals: Vec::new(), objects: Vec::new(), nested, direct };
        for (n, (namespace, tags, _)) in who.into_iter().enumerate() {
            let groups = (0..MANY).filter(|group| world.is_in(n, *group)).map(|group| format!("g{group}")).collect();
            world.principals.push(PrincipalFacts {
                id: format!("p{n}"),
                namespace: Namespace(namespace),
                kind: "user".into(),
                name: format!("name{n}"),
                groups,
                tags,
            });
        }
        for (n, (namespace, spec, usage, owner, group, tags)) in objects.into_iter().enumerate() {
            world.objects.push(ObjectFacts {
                id: format!("o{n}"),
                namespace: Namespace(namespace),
                kind: "symmetric".into(),
                spec,
                usage,
                origin: "here".into(),
                exportable: "no".into(),
                names: BTreeSet::from([format!("alias/o{n}")]),
                owner: owner.map(|n| format!("p{n}")),
                group: group.map(|n| format!("g{n}")),
                tags,
            });
        }
        world
    })
}

pub(crate) fn context() -> impl Strategy<Value = Context> {
    let ip = prop::sample::select(vec![Ipv4Addr::new(10, 1, 2, 3), Ipv4Addr::new(192, 168, 0, 1)]);
    let operations = prop::collection::btree_set(word(&["Encrypt", "Decrypt"]), 0..3);
    let some =
        (prop::option::of(ip), prop::option::of(0..4000u64), prop::option::of(pairs()), prop::option::of(0..3u32));
    (some, prop::option::of(operations)).prop_map(|((ip, now_ms, aad, days), operations)| Context {
        door: "native".into(),
        ip: ip.map(Into::into),
        now_ms,
        aad,
        tags: days.map(|_| BTreeMap::from([("team".to_owned(), "a".to_owned())])),
        algorithm: now_ms.map(|_| "aes-gcm".into()),
        alias: None,
        days,
        wrapping: None,
        grant: operations.map(|operations| GrantFacts { operations, grantee: "p0".into(), has_constraint: false }),
    })
}

pub(crate) fn question() -> impl Strategy<Value = Question> {
    (one(), prop::sample::select(ACTIONS), what(), context()).prop_map(|(principal, action, what, context)| Question {
        principal,
        action,
        what,
        context,
    })
}

fn condition() -> impl Strategy<Value = Is> {
    let leaf = prop_oneof![
        (key(), value()).prop_map(|(k, v)| Is::PrincipalTag(k, v)),
        one().prop_map(Is::PrincipalName),
        one().prop_map(Is::InGroup),
        (key(), value()).prop_map(|(k, v)| Is::ObjectTag(k, v)),
        key().prop_map(Is::SameTag),
        word(&["aes-256", "rsa-2048"]).prop_map(Is::Spec),
        word(&["encrypt", "sign"]).prop_map(Is::Usage),
        Just(Is::Owner),
        Just(Is::OwnGroup),
        Just(Is::Within10),
        (1..4000u64).prop_map(Is::Before),
        (key(), value()).prop_map(|(k, v)| Is::Aad(k, v)),
        key().prop_map(Is::AadKey),
        (1..3u32).prop_map(Is::Days),
        Just(Is::GrantsDecrypt),
        Just(Is::Fails),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        let inner = inner.prop_map(Box::new);
        prop_oneof![
            inner.clone().prop_map(Is::Not),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Is::And(a, b)),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Is::Or(a, b)),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| Is::If(a, b, c)),
        ]
    })
}

pub(crate) fn rule() -> impl Strategy<Value = Rule> {
    let whom = prop_oneof![
        Just(Whom::Any),
        Just(Whom::Is),
        one().prop_map(Whom::Eq),
        one().prop_map(Whom::InPrincipal),
        one().prop_map(Whom::InGroup),
        one().prop_map(Whom::IsInGroup),
        one().prop_map(Whom::InNamespace),
    ];
    let names = word(&["Encrypt", "Describe", "Use", "Manage", "CryptoUser", "SecretsOfficer", "Reader"]);
    let does = prop_oneof![
        Just(Does::Any),
        prop::sample::select(ACTIONS).prop_map(Does::Eq),
        prop::collection::vec(names, 1..3).prop_map(Does::In),
    ];
    let which = prop_oneof![
        Just(Which::Any),
        Just(Which::IsObject),
        Just(Which::IsNamespace),
        what().prop_map(Which::Eq),
        what().prop_map(Which::In),
        one().prop_map(Which::IsObjectIn),
    ];
    let conditions = prop::collection::vec((any::<bool>(), condition()), 0..3);
    (prop::bool::weighted(0.3), whom, does, which, conditions)
        .prop_map(|(forbids, whom, does, which, conditions)| Rule { forbids, whom, does, which, conditions })
}
