//! What a version of a key is used for, and whether it may be.

use super::{Access, Resource};
use crate::action::Action;
use crate::decide::{Refusal, refusal};
use crate::facts::{Materials, Of, Version};
use crate::id::{KeyId, KeyVersion};
use crate::key_spec::{Algorithm, Kind, Mode, Usage};
use crate::lifecycle::{Cell, NoWay, Row, VersionState};
use crate::name::Class;
use crate::record::{KeyRecord, KeyVersionRecord, MaterialId, Origin};
use crate::request::KeyHandle;

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
    /// [`Refusal::Denied`], [`Refusal::NoVersion`], [`Refusal::WrongUsage`], [`Refusal::PrivateElsewhere`],
    /// [`Refusal::WrongAlgorithm`]; the key is not found, or it, or the version, is in a state in which that can't be done.
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
        // Whoever names a namespace that is not there is told so, although an id is of none.
        self.within()?;
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
    .ok_or(match key.origin {
        Origin::Public if !usage.is_public() => Refusal::PrivateElsewhere { key: key.id, usage, may: ops },
        _ => Refusal::WrongUsage { key: key.id, usage, may: ops },
    })
}
