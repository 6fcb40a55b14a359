//! Roles: sets of actions that go together, bound to somebody on a namespace or an object. A binding *is* a policy.

use cedar_policy::Policy as Cedar;
use quorate_core::action::{Action, Group};
use quorate_core::id::{Name, Namespace};
use quorate_core::principal::Role as CertificateRole;
use serde_json::{Value, json};

use crate::policy::Policy;
use crate::schema::{Kind, group_name, groups};

/// A named set of actions (key-model §7.2). There is no role for custodians: what they do, no policy decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Uses keys.
    CryptoUser,
    /// Manages keys, and uses none: who makes and destroys keys need not be who decrypts.
    CryptoOfficer,
    /// Reads secrets.
    SecretsUser,
    /// Manages secrets, and reads them.
    SecretsOfficer,
    /// Sees what there is, and no secret.
    Reader,
    /// Everything.
    Administrator,
    /// Sees what there is, and gets evidence of what was done.
    Auditor,
}

use Role::{Administrator, Auditor, CryptoOfficer, CryptoUser, Reader, SecretsOfficer, SecretsUser};

const EVERYBODY: &[Role] = &[CryptoUser, CryptoOfficer, SecretsUser, SecretsOfficer, Reader, Administrator, Auditor];

impl Role {
    /// Every role.
    pub const ALL: [Self; 7] = [CryptoUser, CryptoOfficer, SecretsUser, SecretsOfficer, Reader, Administrator, Auditor];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            CryptoUser => "CryptoUser",
            CryptoOfficer => "CryptoOfficer",
            SecretsUser => "SecretsUser",
            SecretsOfficer => "SecretsOfficer",
            Reader => "Reader",
            Administrator => "Administrator",
            Auditor => "Auditor",
        }
    }

    /// The roles that have that action. A new action has to be given its row here.
    pub const fn of(action: Action) -> &'static [Self] {
        use Action::*;
        match action {
            Encrypt
            | Decrypt
            | DataKey
            | DataKeyWithoutPlaintext
            | DataKeyPair
            | DataKeyPairWithoutPlaintext
            | ReEncryptFrom
            | ReEncryptTo
            | Wrap
            | Unwrap
            | Sign
            | Verify
            | Mac
            | VerifyMac
            | Agree
            | Encapsulate
            | Decapsulate
            | DeriveKey
            | Digest
            | Random => &[CryptoUser, Administrator],
            PublicKey => &[CryptoUser, CryptoOfficer, Administrator],
            ReadSecret => &[SecretsUser, SecretsOfficer, Administrator],
            Describe | LastUse | ListVersions | ListObjects | NameList => EVERYBODY,
            Create | Enable | Disable | Update | Tag | Untag | UpdateVersion | DestroyVersion | ScheduleDeletion
            | Purge | CancelDeletion | Backup | Restore | NameCreate | NameDelete => {
                &[CryptoOfficer, SecretsOfficer, Administrator]
            }
            AddVersion => &[SecretsOfficer, Administrator],
            CreateMany | Rekey | Archive | Recover | Rotate | Activate | Revoke | SetRotation | ImportParameters
            | ImportMaterial | DeleteMaterial => &[CryptoOfficer, Administrator],
            // Whoever gets material, even wrapped under a key that he brought, uses it where nobody sees it.
            ExportWrapped | ExportPlain | ProcessCompromised => &[Administrator],
            ProveDestruction | PrincipalList | CredentialDescribe | CredentialList => &[Administrator, Auditor],
            NamespaceDescribe | NamespaceList => &[Reader, Administrator, Auditor],
            NamespaceCreate | NamespaceUpdate | NamespaceDelete => &[Administrator],
            PrincipalEnable | PrincipalDisable | CredentialRevoke => &[Administrator],
        }
    }

    /// Whether it has that action.
    pub fn has(self, action: Action) -> bool {
        Self::of(action).contains(&self)
    }

    /// Its actions.
    pub fn actions(self) -> impl Iterator<Item = Action> {
        Action::ALL.iter().copied().filter(move |action| self.has(*action))
    }

    /// Of objects, which: roles of keys are none of secrets, and the other way round. A namespace has no kind: whoever may create
    /// there by one may create both.
    fn condition(self) -> Option<&'static str> {
        match self {
            CryptoUser | CryptoOfficer => Some("!="),
            SecretsUser | SecretsOfficer => Some("=="),
            Reader | Administrator | Auditor => None,
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = UnknownRole;
    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| UnknownRole(text.chars().take(64).collect()))
    }
}

/// There is no such role.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "there is no role {0:?}; the roles are CryptoUser, CryptoOfficer, SecretsUser, SecretsOfficer, Reader, Administrator and Auditor"
)]
pub struct UnknownRole(pub String);

/// Who has a role. The ids are those of the records: a name used again inherits nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Holder<'a> {
    /// A principal.
    Principal(&'a str),
    /// Whoever is in a group.
    Group(&'a str),
}

/// On what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Within<'a> {
    /// A namespace, and all that is in it.
    Namespace(Namespace),
    /// One object.
    Object(&'a str),
    /// Every namespace: for bindings of the first.
    Everything,
}

/// A role that somebody has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Binding<'a> {
    /// Who.
    pub holder: Holder<'a>,
    /// What they may do.
    pub role: Role,
    /// To what.
    pub within: Within<'a>,
}

impl Binding<'_> {
    /// The policy that says so.
    ///
    /// # Panics
    /// Never: it is made of parts, not of text, and a test makes one of each form.
    pub fn policy(&self, id: Name) -> Policy {
        let is_other_kind = |op: &str| {
            let kind = json!({ ".": { "left": { "Var": "resource" }, "attr": "kind" } });
            let is_kind = json!({ op: { "left": kind, "right": { "Value": "secret" } } });
            let is_object = json!({ "is": { "left": { "Var": "resource" }, "entity_type": "Q::Object" } });
            json!({ "kind": "when", "body": { "||": { "left": { "!": { "arg": is_object } }, "right": is_kind } } })
        };
        let conditions: Vec<Value> = self.role.condition().map(is_other_kind).into_iter().collect();
        let resource = match self.within {
            Within::Namespace(namespace) => entity("in", Kind::Namespace, &namespace.0.to_string()),
            Within::Object(id) => entity("==", Kind::Object, id),
            Within::Everything => json!({ "op": "All" }),
        };
        permit(id, self.holder, entity("in", Kind::Action, self.role.as_str()), resource, &conditions)
    }
}

/// What a role in a certificate gives its group, on everything, as the fixed rule has it; none where that is nothing.
pub fn of_certificates(id: Name, holder: Holder<'_>, role: CertificateRole) -> Option<Policy> {
    let has: Vec<Group> = groups().filter(|group| group.roles().contains(&role)).collect();
    let entities: Vec<_> = has.iter().map(|group| uid(Kind::Action, group_name(*group))).collect();
    let action = json!({ "op": "in", "entities": entities });
    (!has.is_empty()).then(|| permit(id, holder, action, json!({ "op": "All" }), &[]))
}

fn permit(id: Name, holder: Holder<'_>, action: Value, resource: Value, conditions: &[Value]) -> Policy {
    let principal = match holder {
        Holder::Principal(id) => entity("==", Kind::Principal, id),
        Holder::Group(id) => entity("in", Kind::Group, id),
    };
    let json = json!({
        "effect": "permit", "principal": principal, "action": action, "resource": resource, "conditions": conditions,
    });
    let cedar =
        Cedar::from_json(Some(cedar_policy::PolicyId::new(id.as_str())), json).expect("a policy of Cedar's form");
    Policy::of_parts(id, cedar)
}

fn entity(op: &str, kind: Kind, id: &str) -> Value {
    json!({ "op": op, "entity": uid(kind, id) })
}

fn uid(kind: Kind, id: &str) -> Value {
    json!({ "type": kind.name(), "id": id })
}

#[cfg(test)]
#[path = "role_tests.rs"]
mod tests;
