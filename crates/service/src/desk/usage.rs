//! The path of every use and read: a read-index round of its own, all facts at one index, then the work, and the
//! answer only while the round is fresh (key-log §1.8, §1.9). Nothing is written.

use std::sync::Arc;
use std::time::Duration;

use quorate_core::REPLACE_MEMBER;
use quorate_core::batch::Rev;
use quorate_core::decide::{Refusal, refusal};
use quorate_core::id::{KeyId, KeyVersion};
use quorate_core::lifecycle::KeyState;
use quorate_core::record::{KeyRecord, KeyVersionRecord, MATERIAL_LEN, Record, RecordName};
use quorate_core::record_key::RecordKey;
use quorate_core::request::KeyHandle;
use quorate_core::seeded::{self, Bug};
use quorate_crypto::{Keyring, Secret};
use quorate_replica::View;
use tokio::time::Instant;

use super::Kms;

use super::hot::{Fact, HotGuard};
use crate::error::Error;
use crate::records::barrier::{Barrier, damaged, unreadable as undecoded};
use crate::records::facts::{revision, unreadable};

/// How old a round may be when the answer goes out. A machine that slept, or a process that was stopped, in between
/// takes a new round and looks again; what happens after that last look can't be bounded by anybody.
const ROUND_AGE_MAX: Duration = Duration::from_secs(1);

/// Where facts come from; all that one source gives are true at one index.
pub(super) trait Source {
    /// What is known under that name.
    fn fact(&mut self, name: &RecordName) -> Result<Fact, Gap>;
    /// The revision of the cluster-wide seal.
    fn seal(&mut self) -> Result<Rev, Gap>;
}

/// Why facts could not be collected.
pub(super) enum Gap {
    /// Not in this source.
    Missing,
    /// They say no, or can't be read.
    Error(Error),
}

impl From<Error> for Gap {
    fn from(e: Error) -> Self {
        Self::Error(e)
    }
}

impl From<Refusal> for Gap {
    fn from(e: Refusal) -> Self {
        Self::Error(e.into())
    }
}

/// A key version that may be used now.
pub(super) struct Usable {
    pub id: KeyId,
    pub version: KeyVersion,
    pub material: Arc<Secret<MATERIAL_LEN>>,
}

impl Kms {
    /// Collects facts by `gather` and answers by `act`.
    ///
    /// # Errors
    /// Those of both, [`Error::Sealed`], [`Error::Unavailable`] and [`Error::Damaged`].
    pub(super) async fn with_facts<G, T>(
        &self,
        deadline: Instant,
        gather: impl Fn(&mut dyn Source) -> Result<G, Gap>,
        act: impl Fn(G) -> Result<T, Error>,
    ) -> Result<T, Error> {
        loop {
            let began = self.records.world.boot_clock.now();
            // Seeded bug: the key is judged by the view at the request's arrival, the cluster's seal by that after the round.
            let early = if seeded::is(Bug::TwoViews) { self.collect(0, &gather).ok() } else { None };
            let index = self.records.read_index(deadline).await?;
            let facts = match early {
                Some(early) => self.collect(index, &|_| Ok(())).map(|()| early)?,
                None => self.collect(index, &gather)?,
            };
            let answer = act(facts)?;
            self.records.check_open()?;
            if self.records.world.boot_clock.now().saturating_sub(began) <= ROUND_AGE_MAX {
                return Ok(answer);
            }
            if Instant::now() >= deadline {
                return Err(Error::Unavailable("no fresh confirmation of the state was had in time".into()));
            }
        }
    }

    /// All facts at one index, which is at or past `index`. Nothing in here awaits.
    fn collect<G>(&self, index: u64, gather: &impl Fn(&mut dyn Source) -> Result<G, Gap>) -> Result<G, Error> {
        let keyring = self.records.barrier.keyring()?;
        let gather = |source: &mut dyn Source| {
            if source.seal()? == self.records.seal_epoch { gather(source) } else { Err(Gap::Error(Error::Sealed)) }
        };

        let guard = self.hot.read();
        if guard.index() >= index {
            let mut source = HotFacts { guard: &guard, keyring: &keyring, seal: &self.records.seal_key };
            match gather(&mut source) {
                Ok(facts) => return Ok(facts),
                Err(Gap::Error(e)) => return Err(e),
                Err(Gap::Missing) => {}
            }
        }
        drop(guard);

        let view = self.records.view()?;
        if view.applied() < index {
            return Err(Error::Internal("the state is behind the read index"));
        }
        let mut source = ViewFacts {
            view: &view,
            barrier: &self.records.barrier,
            keyring: &keyring,
            seal: &self.records.seal_key,
            read: Vec::with_capacity(4),
        };
        let facts = gather(&mut source);
        self.hot.offer(view.applied(), source.read);
        match facts {
            Ok(facts) => Ok(facts),
            Err(Gap::Error(e)) => Err(e),
            Err(Gap::Missing) => Err(Error::Internal("a view did not answer")),
        }
    }
}

struct HotFacts<'a> {
    guard: &'a HotGuard<'a>,
    keyring: &'a Keyring,
    seal: &'a RecordKey,
}

impl Source for HotFacts<'_> {
    fn fact(&mut self, name: &RecordName) -> Result<Fact, Gap> {
        self.guard.get(&Barrier::key_of(self.keyring, name)).ok_or(Gap::Missing)
    }
    fn seal(&mut self) -> Result<Rev, Gap> {
        match self.guard.get(self.seal) {
            Some(Fact::Seal(rev)) => Ok(rev),
            _ => Err(Gap::Missing),
        }
    }
}

struct ViewFacts<'a> {
    view: &'a View,
    barrier: &'a Barrier,
    keyring: &'a Keyring,
    seal: &'a RecordKey,
    read: Vec<(RecordKey, Fact)>,
}

impl Source for ViewFacts<'_> {
    fn fact(&mut self, name: &RecordName) -> Result<Fact, Gap> {
        let key = Barrier::key_of(self.keyring, name);
        let fact = match self.view.get(&key).map_err(unreadable)? {
            None => Fact::Absent,
            Some((_, value)) => self.open(name, &key, &value)?,
        };
        self.read.push((key, fact.clone()));
        Ok(fact)
    }
    fn seal(&mut self) -> Result<Rev, Gap> {
        let rev = revision(self.view, self.seal)?;
        self.read.push((self.seal.clone(), Fact::Seal(rev)));
        Ok(rev)
    }
}

impl ViewFacts<'_> {
    fn open(&self, name: &RecordName, key: &RecordKey, value: &[u8]) -> Result<Fact, Error> {
        let (_, body) = self.barrier.open(self.keyring, key, Some(name), value)?;
        if let RecordName::KeyVersion((id, version)) = name {
            let (_, material) = KeyVersionRecord::split(*id, *version, &body).map_err(|why| undecoded(key, why))?;
            let material = Secret::from_slice(material).ok_or_else(|| damaged(key))?;
            let of = Barrier::key_of(self.keyring, &RecordName::Key(*id));
            return Ok(Fact::Material(Arc::new(material), Arc::new(of)));
        }
        match Record::decode(name, &body).map_err(|why| undecoded(key, why))? {
            Record::Key(record) => Ok(Fact::Key(Arc::new(record))),
            Record::Alias(record) => Ok(Fact::Alias(record.key)),
            _ => Err(Error::Internal("a use asked for a record that is none of its facts")),
        }
    }
}

/// The id that `handle` names.
pub(super) fn key_id(source: &mut dyn Source, handle: &KeyHandle) -> Result<KeyId, Gap> {
    match handle {
        KeyHandle::Id(id) => Ok(*id),
        KeyHandle::Alias(name) => match source.fact(&RecordName::Alias(name.clone()))? {
            Fact::Alias(id) => Ok(id),
            _ => Err(Refusal::KeyNotFound(handle.clone()).into()),
        },
    }
}

/// The key of that id; one that is being destroyed is not there any more.
pub(super) fn key_record(source: &mut dyn Source, id: KeyId) -> Result<Option<Arc<KeyRecord>>, Gap> {
    match source.fact(&RecordName::Key(id))? {
        Fact::Key(record) if record.state != KeyState::Destroyed => Ok(Some(record)),
        _ => Ok(None),
    }
}

/// The key that `handle` names.
pub(super) fn named_key(source: &mut dyn Source, handle: &KeyHandle) -> Result<Arc<KeyRecord>, Gap> {
    let id = key_id(source, handle)?;
    key_record(source, id)?.ok_or_else(|| Refusal::KeyNotFound(handle.clone()).into())
}

/// The current version of the key that `handle` names, to protect with.
pub(super) fn to_protect(source: &mut dyn Source, handle: &KeyHandle) -> Result<Usable, Gap> {
    let key = named_key(source, handle)?;
    let version = key.protect().map_err(|why| refusal(key.id, why))?;
    Ok(Usable { id: key.id, version, material: material(source, key.id, version)? })
}

/// The material of a version that must exist, as its key's record says.
pub(super) fn material(
    source: &mut dyn Source,
    id: KeyId,
    version: KeyVersion,
) -> Result<Arc<Secret<MATERIAL_LEN>>, Gap> {
    match source.fact(&RecordName::KeyVersion((id, version)))? {
        Fact::Material(material, _) => Ok(material),
        _ => Err(Gap::Error(Error::Damaged(format!(
            "version {version} of key {id} is missing in its state; {REPLACE_MEMBER}"
        )))),
    }
}
