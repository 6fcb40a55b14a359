//! The published schema: what policies may speak of. Made from [`Action::ALL`], so that no action can be missing.

use std::fmt::Write;
use std::sync::LazyLock;

use cedar_policy::{EntityTypeName, EntityUid, Schema};
use quorate_core::action::{Action, Group};

use crate::role::Role;

/// Entities and context. What waits: `arn` and `account` of a principal, `multiRegion` of an object, `messageType`, `bypassLockout` and
/// `grantIsForAwsResource` of the context for the AWS door; a namespace's vault and domain for the doors of Azure and KMIP. Each is
/// optional when it comes: a policy that is stored keeps its meaning.
const HEAD: &str = r#"// What policies of quorate may speak of, in Cedar's schema language (docs.cedarpolicy.com/schema).
namespace Q {
  // A tenant, by its number; 0 is the first and stands above the others.
  entity Namespace;

  // Groups may be in groups.
  entity Group in [Group, Namespace];

  // Who asks.
  entity Principal in [Group, Namespace] {
    kind: String,                 // "certificate", "user", "service" or "role"
    name: String,
  } tags String;

  // A key or a secret.
  entity Object in [Namespace] {
    kind: String,                 // "symmetric", "pair", "mac", "public" or "secret"
    spec: String,                 // of the current version: "aes-256", "rsa-2048" ...
    usage: Set<String>,           // of the current version: "encrypt", "decrypt", "sign" ...
    origin: String,               // "here", "imported" or "public"
    exportable: String,           // "no", "wrapped" or "plain"
    names: Set<String>,           // "alias/NAME", "key/NAME", "secret/NAME"
    owner?: Principal,
    group?: Group,
  } tags String;

  // Names and values that come with a request.
  entity Pairs tags String;

  type Context = {
    door: String,                 // "native"
    ip?: ipaddr,                  // where from
    now?: datetime,               // cluster time, UTC
    aad?: Pairs,                  // the encryption context, where it is given as pairs
    aadKeys?: Set<String>,        // its names
    tags?: Pairs,                 // the tags that the request puts on
    algorithm?: String,           // "aes-gcm", "rsa-pss-sha256" ...
    alias?: String,               // the alias that the object was called by
    days?: Long,                  // until the destruction that is asked for
    wrapping?: String,            // the id of the key that material leaves wrapped under
    grant?: {                     // the grant that is to be made
      operations: Set<String>,
      grantee: String,
      hasConstraint: Bool,
    },
  };

"#;

/// The context's attributes.
pub const CONTEXT: [&str; 11] =
    ["door", "ip", "now", "aad", "aadKeys", "tags", "algorithm", "alias", "days", "wrapping", "grant"];

static TEXT: LazyLock<String> = LazyLock::new(write);
static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let (schema, _) = Schema::from_cedarschema_str(&TEXT).expect("the schema is made here, and tested");
    schema
});

/// The schema's text.
pub fn text() -> &'static str {
    &TEXT
}

pub(crate) fn schema() -> &'static Schema {
    &SCHEMA
}

fn write() -> String {
    let mut text = HEAD.to_owned();
    let quoted = |names: Vec<&str>| format!("\"{}\"", names.join("\", \""));
    let _ = writeln!(text, "  // What actions are for.\n  action {};", quoted(groups().map(group_name).collect()));
    let _ = writeln!(
        text,
        "\n  // Roles: sets of actions that go together.\n  action {};\n",
        quoted(Role::ALL.map(Role::as_str).into())
    );
    let _ = writeln!(text, "  // One action for each thing that is done.");
    for action in Action::ALL.iter().copied() {
        let parents = [group_name(action.group())].into_iter().chain(Role::of(action).iter().map(|role| role.as_str()));
        let _ = writeln!(
            text,
            "  action \"{action}\" in [{}] appliesTo {{ principal: [Principal], resource: [Object, Namespace], context: Context }};",
            quoted(parents.collect())
        );
    }
    text + "}\n"
}

/// The groups that actions are in, in the order of the actions.
pub(crate) fn groups() -> impl Iterator<Item = Group> {
    let all = || Action::ALL.iter().map(|action| action.group());
    all().enumerate().filter(move |(at, group)| !all().take(*at).any(|before| before == *group)).map(|(_, group)| group)
}

/// A group's name in policies, which never changes.
pub(crate) const fn group_name(group: Group) -> &'static str {
    match group {
        Group::Use => "Use",
        Group::Secrets => "Secrets",
        Group::Read => "Read",
        Group::Manage => "Manage",
        Group::Namespaces => "Namespaces",
        Group::ReadRights => "ReadRights",
        Group::Rights => "Rights",
        Group::Evidence => "Evidence",
    }
}

/// A type of entity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Namespace,
    Group,
    Principal,
    Object,
    Pairs,
    Action,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Q::Namespace",
            Self::Group => "Q::Group",
            Self::Principal => "Q::Principal",
            Self::Object => "Q::Object",
            Self::Pairs => "Q::Pairs",
            Self::Action => "Q::Action",
        }
    }

    /// The entity of that type and id; ids are any text.
    pub(crate) fn uid(self, id: &str) -> EntityUid {
        static TYPES: LazyLock<[EntityTypeName; 6]> = LazyLock::new(|| {
            [Kind::Namespace, Kind::Group, Kind::Principal, Kind::Object, Kind::Pairs, Kind::Action]
                .map(|kind| kind.name().parse().expect("a name of Cedar's grammar"))
        });
        EntityUid::from_type_name_and_id(TYPES[self as usize].clone(), cedar_policy::EntityId::new(id))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_action_is_declared_in_its_group_and_its_roles() {
        let declared: BTreeSet<_> = schema().actions().map(ToString::to_string).collect();
        let names = Action::ALL.iter().map(|action| action.as_str());
        let all: Vec<_> = names.chain(groups().map(group_name)).chain(Role::ALL.map(Role::as_str)).collect();
        let expected: BTreeSet<_> = all.iter().map(|name| Kind::Action.uid(name).to_string()).collect();
        assert_eq!(declared, expected);
        assert_eq!(expected.len(), all.len(), "no name twice");
        let entities = schema().action_entities().unwrap();
        for action in Action::ALL.iter().copied() {
            let parents: BTreeSet<_> = entities
                .ancestors(&Kind::Action.uid(action.as_str()))
                .into_iter()
                .flatten()
                .map(ToString::to_string)
                .collect();
            let roles = Role::of(action).iter().map(|role| role.as_str());
            let expected: BTreeSet<_> =
                roles.chain([group_name(action.group())]).map(|name| Kind::Action.uid(name).to_string()).collect();
            assert_eq!(parents, expected, "{action}");
        }
    }

    #[test]
    fn the_context_has_these_attributes() {
        let context = text().split("type Context = {").nth(1).and_then(|rest| rest.split("\n  };").next()).unwrap();
        let declared: Vec<_> = context
            .lines()
            .filter_map(|line| line.strip_prefix("    ")?.split([':', '?']).next())
            .filter(|name| !name.starts_with([' ', '}']))
            .collect();
        assert_eq!(declared, CONTEXT);
    }
}
