//! Who may do what, judged on facts: a request reaches keys through [`Access`] only, and what that gives out was granted.
//!
//! Resolving a name and judging it are one step on one view, so no decision can touch a key that was not granted to it, and a
//! right that is taken away counts from the same index as the change that took it.

mod admission;
mod destruction;
mod material;
mod namespace;
mod secret;
mod usable;

use std::net::SocketAddr;
use std::sync::Arc;

pub use self::admission::{NotAdmitted, admit};
pub(crate) use self::destruction::Under;
pub use self::material::WholeKey;
pub use self::namespace::Home;
pub use self::secret::Readable;
pub use self::usable::{Touch, Usable, Want};

use crate::action::Action;
use crate::authorize::Denied;
use crate::credential::Presented;
use crate::decide::{Refusal, Write};
use crate::facts::{Basis, Facts, Of};
use crate::id::{KeyId, KeyVersion, Namespace};
use crate::key_spec::Mode;
use crate::lifecycle::KeyState;
use crate::name::{Class, FoldedName, NamespaceName};
use crate::principal::Principal;
use crate::record::{
    AllowanceRecord, DetailsRecord, Due, KeyRecord, KeyVersionRecord, NameRecord, Record, RecordName, Stored,
};
use crate::request::{Description, KeyHandle};
use crate::time::Time;

/// The door that a call came through.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Door {
    /// gRPC, `quorate.v1`.
    Native,
}

/// Who asks, and from where.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Who it is, by what was presented.
    pub principal: Principal,
    /// What was presented.
    pub presented: Presented,
    /// Where from, if it came over a network.
    pub source: Option<SocketAddr>,
    /// Through which door.
    pub door: Door,
    /// In which namespace it makes things and calls them by their names; none = the first.
    pub namespace: Option<NamespaceName>,
}

/// What an action is about.
#[derive(Clone, Copy, Debug)]
pub enum Resource<'a> {
    /// All of a namespace, or what is not there in it.
    Namespace(Namespace),
    /// A key.
    Key(&'a KeyRecord),
}

/// A question to the policies.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// What they want to do.
    pub action: Action,
    /// To what.
    pub resource: Resource<'a>,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// They may.
    Allowed,
    /// They may not, and why: for the caller as far as it is his own affair.
    Denied(Denied),
}

/// Decides who may do what.
///
/// From what it is asked alone: a decision that rests on records besides needs them read as facts, so that they are noted, and
/// the change stands only if they have not moved.
pub trait PolicyEngine: Send + Sync {
    /// Decides one question.
    fn decide(&self, ask: &Ask<'_>) -> Decision;
}

/// The fixed rule of design §6: the role in the certificate decides, whatever it is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct FixedRoles;

impl FixedRoles {
    /// Whether that principal may do it to anything at all: what a door can ask before it reads a body.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn screen(principal: &Principal, action: Action) -> Result<(), Denied> {
        let group = action.group();
        if group.roles().contains(&principal.role()) {
            return Ok(());
        }
        Err(Denied { principal: principal.clone(), phrase: group.phrase(), roles: group.roles() })
    }
}

impl PolicyEngine for FixedRoles {
    fn decide(&self, ask: &Ask<'_>) -> Decision {
        Self::screen(&ask.caller.principal, ask.action).map_or_else(Decision::Denied, |()| Decision::Allowed)
    }
}

/// The facts of one view as one call may see them, for one action.
pub struct Access<'a, F> {
    facts: &'a mut F,
    policies: &'a dyn PolicyEngine,
    ask: Ask<'a>,
    /// The caller's namespace, once it was looked for.
    within: Option<Namespace>,
    granted: Granted,
}

/// What was granted on this view.
#[derive(Default)]
struct Granted {
    namespace: bool,
    /// The namespace in which things may be made.
    home: Option<Namespace>,
    /// What is of no one namespace.
    cluster: bool,
    // Nearly always one: it needs no allocation.
    key: Option<KeyId>,
    more: Vec<KeyId>,
}

impl Granted {
    fn add(&mut self, key: KeyId) {
        match self.key {
            None => self.key = Some(key),
            Some(_) => self.more.push(key),
        }
    }
    fn has(&self, key: KeyId) -> bool {
        self.key == Some(key) || self.more.contains(&key)
    }
    fn is_anything(&self) -> bool {
        self.namespace || self.cluster || self.home.is_some() || self.key.is_some()
    }
}

impl<'a, F: Facts> Access<'a, F> {
    /// The same, for another action from here on: where one verb does two things.
    pub fn acting(&mut self, action: Action) -> &mut Self {
        self.ask.action = action;
        self
    }

    /// The time that decisions on this view go by.
    pub fn time(&self) -> Time
    where
        F: Basis,
    {
        self.facts.time()
    }

    /// Whether the cluster is marked for development.
    pub fn is_dev(&self) -> bool
    where
        F: Basis,
    {
        self.facts.is_dev()
    }

    /// Who asks.
    pub fn principal(&self) -> &'a Principal {
        &self.ask.caller.principal
    }

    /// What the caller presented.
    pub(crate) fn presented(&self) -> Presented {
        self.ask.caller.presented
    }

    /// The key that `handle` names, if the caller may do it to that key. One that is being destroyed is not found any more.
    ///
    /// # Errors
    /// [`Refusal::Denied`]; [`Refusal::KeyNotFound`], to who may do it in the caller's namespace: to others it is no oracle;
    /// [`Refusal::NamespaceNotFound`], likewise to who may do it in the first; [`Refusal::WrongKind`], if it is a secret.
    pub fn key(&mut self, handle: &KeyHandle) -> Result<Of<KeyRecord>, F::Error> {
        self.of_class(Class::Key, handle)
    }

    /// The object that `handle` names, of the class that it says, for what is done with keys and secrets alike.
    ///
    /// # Errors
    /// As [`Self::key`].
    pub fn object(&mut self, handle: &KeyHandle) -> Result<Of<KeyRecord>, F::Error> {
        self.of_class(handle.class(), handle)
    }

    /// The object of that id, whatever it is.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::KeyNotFound`].
    pub(crate) fn by_id(&mut self, id: KeyId) -> Result<Of<KeyRecord>, F::Error> {
        match self.live(id)? {
            Some(object) => self.grant(object),
            None => self.refuse(Refusal::KeyNotFound(KeyHandle::Id(id))),
        }
    }

    fn of_class(&mut self, class: Class, handle: &KeyHandle) -> Result<Of<KeyRecord>, F::Error> {
        let id = self.id(handle)?;
        match self.live(id)? {
            Some(object) if object.class() == class => self.grant(object),
            Some(object) => {
                self.judge(Resource::Key(&object))?;
                Err(Refusal::WrongKind { id, is: object.class(), wanted: class }.into())
            }
            None => self.refuse(Refusal::KeyNotFound(handle.clone())),
        }
    }

    /// The id that `handle` names; nothing is granted yet.
    fn id(&mut self, handle: &KeyHandle) -> Result<KeyId, F::Error> {
        let within = self.within()?;
        let name = match handle {
            KeyHandle::Id(id) => return Ok(*id),
            KeyHandle::Alias(name) => FoldedName::alias(within, name),
            KeyHandle::Key(name) | KeyHandle::Secret(name) => FoldedName::object(within, handle.class(), name),
        };
        match self.facts.get::<NameRecord>(name)? {
            Some(named) => Ok(named.key),
            None => self.refuse(Refusal::KeyNotFound(handle.clone())),
        }
    }

    fn live(&mut self, id: KeyId) -> Result<Option<Of<KeyRecord>>, F::Error> {
        Ok(self.facts.get::<KeyRecord>(id)?.filter(|key| key.state != KeyState::Destroyed))
    }

    fn grant(&mut self, key: Of<KeyRecord>) -> Result<Of<KeyRecord>, F::Error> {
        self.judge(Resource::Key(&key))?;
        self.granted.add(key.id);
        Ok(key)
    }

    /// Refuses, and says why to who may do it in the namespace: to others what is there, or not, is nobody's affair.
    pub(crate) fn refuse<T>(&mut self, refusal: Refusal) -> Result<T, F::Error> {
        let within = self.within()?;
        self.judge(Resource::Namespace(within))?;
        Err(refusal.into())
    }

    fn judge(&self, resource: Resource<'_>) -> Result<(), F::Error> {
        self.judge_to(self.ask.action, resource)
    }

    fn may(&self, action: Action, resource: Resource<'_>) -> bool {
        self.policies.decide(&Ask { resource, action, ..self.ask }) == Decision::Allowed
    }

    fn judge_to(&self, action: Action, resource: Resource<'_>) -> Result<(), F::Error> {
        match self.policies.decide(&Ask { resource, action, ..self.ask }) {
            Decision::Allowed => Ok(()),
            Decision::Denied(denied) => Err(Refusal::Denied(denied).into()),
        }
    }

    /// What is known of a version of a key that was granted; `None` = there is none of that number.
    ///
    /// # Errors
    /// When storage fails or the record can't be opened.
    pub fn head(&mut self, key: &KeyRecord, number: KeyVersion) -> Result<Option<Of<KeyVersionRecord>>, F::Error> {
        if self.granted.has(key.id) { self.facts.get::<KeyVersionRecord>((key.id, number)) } else { Ok(None) }
    }

    /// How often a version of a key that was granted may have encrypted by GCM, at most; none = it does not do that.
    ///
    /// # Errors
    /// When storage fails or the record can't be opened.
    pub fn gcm_uses(&mut self, head: &KeyVersionRecord) -> Result<Option<u64>, F::Error> {
        if head.mode != Mode::Gcm || !self.granted.has(head.key) {
            return Ok(None);
        }
        Ok(Some(self.facts.get::<AllowanceRecord>((head.key, head.version))?.map_or(0, |given| given.gcm)))
    }

    /// What is told about an object that was granted.
    ///
    /// # Errors
    /// When storage fails or the record can't be opened.
    pub fn description(&mut self, key: &KeyRecord) -> Result<Description, F::Error> {
        if !key.has_details || !self.granted.has(key.id) {
            return Ok(Description::default());
        }
        Ok(self.facts.get::<DetailsRecord>(key.id)?.map(|told| told.description.clone()).unwrap_or_default())
    }

    /// A record that goes with what was granted. For the decisions of this crate.
    pub(crate) fn get<K: Stored>(&mut self, name: K::Name) -> Result<Option<Of<K>>, F::Error> {
        self.facts.get(name)
    }

    /// The same by its name, of whatever kind it is.
    pub(crate) fn read(&mut self, name: &RecordName) -> Result<Option<Arc<Record>>, F::Error> {
        self.facts.read(name)
    }

    /// Whether anything was granted, and each of these writes is to a key that was, or makes one where that was, or goes with
    /// such a key. A decision that was not judged is a fault, and has no effect.
    pub fn covers(&self, writes: &[Write]) -> bool {
        let made = |id| writes.iter().any(|write| write.creates() && write.name() == RecordName::Key(id));
        let covered = |write: &Write| match (write.name(), write) {
            (RecordName::Key(_), Write::Create(Record::Key(key))) => self.granted.home == Some(key.namespace),
            (RecordName::Key(id), _) => self.granted.has(id),
            (RecordName::KeyVersion((id, _)), _) => self.granted.has(id) || write.creates() && made(id),
            (RecordName::Details(id), _) => self.granted.has(id) || write.creates() && made(id),
            (RecordName::Allowance((id, _)), Write::Delete(_)) => self.granted.has(id),
            (RecordName::Destruction((id, _)), Write::Update(_)) => self.granted.has(id),
            (RecordName::Due((_, Due::Deletion(id) | Due::Rotation(id) | Due::Material(id, _))), _) => {
                self.granted.has(id) || made(id)
            }
            (RecordName::Name(_), Write::Create(Record::Name(name)) | Write::Update(Record::Name(name))) => {
                self.granted.has(name.key) || made(name.key)
            }
            (RecordName::Name(_), Write::Delete(_)) => true,
            (RecordName::Idempotency((who, _)), _) => who == *self.principal(),
            (RecordName::Namespace(_) | RecordName::NamespaceName(_) | RecordName::NamespaceCount(()), _) => {
                self.granted.cluster
            }
            (RecordName::Principal(_) | RecordName::Credential(_), Write::Update(_)) => self.granted.cluster,
            _ => false,
        };
        self.granted.is_anything() && writes.iter().all(covered)
    }
}
