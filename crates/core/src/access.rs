//! Who may do what, judged on facts: a request reaches keys through [`Access`] only, and what that gives out was granted.
//!
//! Resolving a name and judging it are one step on one view, so no decision can touch a key that was not granted to it, and a
//! right that is taken away counts from the same index as the change that took it.

mod destruction;
mod material;
mod secret;

use std::net::SocketAddr;
use std::sync::Arc;

pub use self::material::WholeKey;
pub use self::secret::Readable;

use crate::action::Action;
use crate::authorize::Denied;
use crate::decide::{Refusal, Write, refusal};
use crate::facts::{Basis, Facts, Materials, Of, Version};
use crate::id::{KeyId, KeyVersion, Namespace};
use crate::key_spec::{Algorithm, Kind, Mode, Usage};
use crate::lifecycle::{Cell, KeyState, NoWay, Row, VersionState};
use crate::name::{Class, FoldedName};
use crate::principal::Principal;
use crate::record::{
    AllowanceRecord, Due, KeyRecord, KeyVersionRecord, MaterialId, NameRecord, Record, RecordName, Stored,
};
use crate::request::KeyHandle;
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
    /// Who it is, as presented.
    pub principal: Principal,
    /// Where from, if it came over a network.
    pub source: Option<SocketAddr>,
    /// Through which door.
    pub door: Door,
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
    granted: Granted,
}

/// What was granted on this view.
#[derive(Default)]
struct Granted {
    namespace: bool,
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
        self.namespace || self.key.is_some()
    }
}

impl<'a, F: Facts> Access<'a, F> {
    /// Over facts that are true at one index.
    pub fn new(facts: &'a mut F, policies: &'a dyn PolicyEngine, caller: &'a Caller, action: Action) -> Self {
        let ask = Ask { caller, action, resource: Resource::Namespace(Namespace::FIRST) };
        Self { facts, policies, ask, granted: Granted::default() }
    }

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

    /// The namespace, if the caller may do it there.
    ///
    /// # Errors
    /// [`Refusal::Denied`].
    pub fn namespace(&mut self) -> Result<Namespace, F::Error> {
        self.judge(Resource::Namespace(Namespace::FIRST))?;
        self.granted.namespace = true;
        Ok(Namespace::FIRST)
    }

    /// The key that `handle` names, if the caller may do it to that key. One that is being destroyed is not found any more.
    ///
    /// # Errors
    /// [`Refusal::Denied`]; [`Refusal::KeyNotFound`], to who may do it in the namespace: to others it is no oracle;
    /// [`Refusal::WrongKind`], if it is a secret.
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
        let name = match handle {
            KeyHandle::Id(id) => return Ok(*id),
            KeyHandle::Alias(name) => FoldedName::alias(name),
            KeyHandle::Key(name) | KeyHandle::Secret(name) => FoldedName::object(handle.class(), name),
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
    pub(crate) fn refuse<T>(&self, refusal: Refusal) -> Result<T, F::Error> {
        self.judge(Resource::Namespace(Namespace::FIRST))?;
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
            (RecordName::Key(id), _) => self.granted.has(id) || self.granted.namespace && write.creates(),
            (RecordName::KeyVersion((id, _)), _) => self.granted.has(id) || write.creates() && made(id),
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
            _ => false,
        };
        self.granted.is_anything() && writes.iter().all(covered)
    }
}

/// A version of a key, with its material, that may be used now as was asked.
pub struct Usable<M> {
    /// The key.
    pub key: KeyId,
    /// The version, and what is known of it.
    pub version: Of<KeyVersionRecord>,
    /// Its state.
    pub state: VersionState,
    /// By which algorithm.
    pub algorithm: Algorithm,
    /// Its material.
    pub material: M,
    /// Whether something is protected with it.
    pub protects: bool,
    /// What is done with it.
    pub action: Action,
    /// Whether it is noted that the key was used.
    pub tracked: bool,
}

impl<M> Usable<M> {
    /// What is counted of its use.
    pub fn touch(&self) -> Touch {
        let is_limited = self.protects && self.algorithm == Algorithm::AesGcm;
        let Self { key, action, tracked, .. } = *self;
        Touch { key, version: self.version.version, material: self.version.material_id, action, is_limited, tracked }
    }
}

/// That something is done with a version of a key: what is counted of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Touch {
    /// The key.
    pub key: KeyId,
    /// The version.
    pub version: KeyVersion,
    /// Its material: a key that comes back from a backup may give a number of before to another.
    pub material: MaterialId,
    /// What is done.
    pub action: Action,
    /// Whether it takes one of the uses that the version has ([`crate::decide::lease`]): a random IV is made under it that is
    /// too short to be made without end.
    pub is_limited: bool,
    /// Whether it is noted that the key was used.
    pub tracked: bool,
}

/// What a version is to be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Want {
    /// What to do.
    pub usage: Usage,
    /// In which way; none = the key's default.
    pub algorithm: Option<Algorithm>,
    /// By which version; none = the current one.
    pub version: Option<KeyVersion>,
}

impl Want {
    /// By the current version, in the key's default way.
    pub const fn new(usage: Usage) -> Self {
        Self { usage, algorithm: None, version: None }
    }

    /// Whether it protects, or processes what was protected.
    const fn row(self) -> Row {
        match self.usage {
            Usage::Verify | Usage::Decrypt | Usage::Unwrap | Usage::VerifyMac | Usage::Decapsulate => Row::Process,
            Usage::Sign | Usage::Encrypt | Usage::Wrap | Usage::Mac | Usage::Derive | Usage::Agree => Row::Protect,
            Usage::Encapsulate => Row::Protect,
        }
    }
}

impl<F: Materials> Access<'_, F> {
    /// A version of the key that `handle` names, to be used as wanted.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::NoVersion`], [`Refusal::WrongUsage`], [`Refusal::WrongAlgorithm`]; the key is not found, or
    /// it, or the version, is in a state in which that can't be done.
    pub fn usable(&mut self, handle: &KeyHandle, want: Want) -> Result<Usable<F::Material>, F::Error> {
        let key = self.key(handle)?;
        let number = want.version.unwrap_or(key.current);
        match self.look(&key, number, want)? {
            Some(usable) => Ok(usable),
            None => Err(Refusal::NoVersion(key.id, number).into()),
        }
    }

    /// What opens a ciphertext: the version that it names, of the key that it names. With `expected`, that must be one of those
    /// keys.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::WrongKey`], [`Refusal::UnknownKey`], [`Refusal::UnknownVersion`]; one that is expected is not
    /// found; those of [`Self::usable`].
    pub fn opens(
        &mut self,
        id: KeyId,
        version: KeyVersion,
        expected: &[KeyHandle],
        want: Want,
    ) -> Result<Usable<F::Material>, F::Error> {
        let mut granted = None;
        let mut is_expected = expected.is_empty();
        for handle in expected {
            let named = match handle {
                KeyHandle::Id(named) => *named,
                // Who may not use what a name stands for is not told what that is.
                KeyHandle::Alias(_) | KeyHandle::Key(_) | KeyHandle::Secret(_) => {
                    let key = self.key(handle)?;
                    let named = key.id;
                    if named == id {
                        granted = Some(key);
                    }
                    named
                }
            };
            is_expected |= named == id;
        }
        if !is_expected {
            return self.refuse(Refusal::WrongKey { expected: expected.to_vec(), actual: id });
        }
        let key = match granted {
            Some(key) => key,
            // No ciphertext is a secret's.
            None => match self.live(id)?.filter(|key| key.class() == Class::Key) {
                Some(key) => self.grant(key)?,
                None => return self.refuse(Refusal::UnknownKey(id)),
            },
        };
        match self.look(&key, version, Want { version: Some(version), ..want })? {
            Some(usable) => Ok(usable),
            None => Err(Refusal::UnknownVersion(id, version).into()),
        }
    }

    /// The version of that number, if there is one, to be used as wanted: usage and algorithm are judged before any state.
    fn look(
        &mut self,
        key: &KeyRecord,
        number: KeyVersion,
        want: Want,
    ) -> Result<Option<Usable<F::Material>>, F::Error> {
        let refused = |why| refusal(key.id, number, why);
        // The material of a key that must not be used is not even read.
        let now = self.facts.time();
        if let Err(why) = want.row().goes(key.standing(now)) {
            fits(key, None, want)?;
            return Err(refused(why).into());
        }
        let Some(Version { head, material }) = self.facts.version(key.id, number)? else { return Ok(None) };
        let algorithm = fits(key, Some(&head), want)?;
        if number > key.current {
            return Err(Refusal::PendingRotation(key.id, number).into());
        }
        let cell = want.row().goes_with(&head.life, key.has_retired(number), now).map_err(refused)?;
        if number < key.process_floor {
            return Err(Refusal::Retired { key: key.id, version: number, floor: key.process_floor }.into());
        }
        // Who may use the key is told its state, not which right he lacks.
        if cell == Cell::IfTrusted && !self.may(Action::ProcessCompromised, Resource::Key(key)) {
            return Err(refused(NoWay::Version(want.row(), VersionState::Compromised)).into());
        }
        let Some(material) = material else {
            return Err(refused(NoWay::MaterialMissing).into());
        };
        let (state, protects) = (head.life.state(key.has_retired(number), now), want.row() == Row::Protect);
        let (action, tracked) = (self.ask.action, key.tracked);
        Ok(Some(Usable { key: key.id, version: head, state, algorithm, material, protects, action, tracked }))
    }

    /// A version of the key that `handle` names, for its public key.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::NoPublicKey`], [`Refusal::NoVersion`]; the key is not found, or in a state in which that
    /// can't be done.
    pub fn public_key(
        &mut self,
        handle: &KeyHandle,
        version: Option<KeyVersion>,
    ) -> Result<Of<KeyVersionRecord>, F::Error> {
        let key = self.key(handle)?;
        let number = version.unwrap_or(key.current);
        if key.spec.kind() != Kind::Pair {
            return Err(Refusal::NoPublicKey(key.id, key.spec).into());
        }
        Row::PublicKey.goes(key.standing(self.facts.time())).map_err(|why| refusal(key.id, number, why))?;
        let head = self.facts.get::<KeyVersionRecord>((key.id, number))?;
        head.ok_or_else(|| Refusal::NoVersion(key.id, number).into())
    }
}

/// By which algorithm a version does what is wanted. With no version there, its key tells as much as it can.
fn fits(key: &KeyRecord, head: Option<&KeyVersionRecord>, want: Want) -> Result<Algorithm, Refusal> {
    let (spec, mode, ops) = head.map_or((key.spec, Mode::Free, key.usage), |head| (head.spec, head.mode, head.ops));
    let usage = want.usage;
    let mut there = mode.algorithms(spec, usage);
    match (ops.contains(usage), want.algorithm) {
        (true, None) => there.next(),
        (true, Some(by)) if there.any(|one| one == by) => Some(by),
        (true, Some(by)) => return Err(Refusal::WrongAlgorithm { key: key.id, spec, mode, usage, by }),
        (false, _) => None,
    }
    .ok_or(Refusal::WrongUsage { key: key.id, usage, may: ops })
}
