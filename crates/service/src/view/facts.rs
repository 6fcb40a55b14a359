//! Facts from the hot view.

use std::sync::Arc;

use quorate_core::batch::Rev;
use quorate_core::decide::Refusal;
use quorate_core::facts::{Basis, Facts, Materials, Of, Version};
use quorate_core::id::{KeyId, KeyVersion};
use quorate_core::record::{Record, RecordName};
use quorate_core::record_key::RecordKey;
use quorate_core::time::Time;
use quorate_crypto::Keyring;
use quorate_crypto::material::Material;

use super::hot::HotGuard;
use crate::error::Error;
use crate::records::barrier::Barrier;
use crate::records::facts::Known;

/// Why facts could not be had from the hot view.
pub enum Gap {
    /// Not all are there: the engine has them.
    Missing,
    /// They say no.
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

/// The hot view, held still.
pub struct HotFacts<'a> {
    guard: &'a HotGuard<'a>,
    keyring: &'a Keyring,
    time: Time,
    dev: bool,
}

impl<'a> HotFacts<'a> {
    /// `time` is at least as new as the view.
    pub fn new(guard: &'a HotGuard<'a>, keyring: &'a Keyring, time: Time, dev: bool) -> Self {
        Self { guard, keyring, time, dev }
    }

    /// The revision of the record there; 0 = there is none.
    pub fn revision(&self, key: &RecordKey) -> Result<Rev, Gap> {
        self.guard.revision(key).ok_or(Gap::Missing)
    }

    fn known(&self, name: &RecordName) -> Result<Known, Gap> {
        self.guard.get(&Barrier::key_of(self.keyring, name)).map(|(_, known)| known).ok_or(Gap::Missing)
    }
}

impl Facts for HotFacts<'_> {
    type Error = Gap;

    fn read(&mut self, name: &RecordName) -> Result<Option<Arc<Record>>, Gap> {
        match self.known(name)? {
            Known::Absent => Ok(None),
            Known::Record(record) | Known::Version(record, ..) => Ok(Some(record)),
        }
    }
}

impl Basis for HotFacts<'_> {
    fn time(&self) -> Time {
        self.time
    }
    fn is_dev(&self) -> bool {
        self.dev
    }
}

impl Materials for HotFacts<'_> {
    type Material = Arc<Material>;

    fn version(&mut self, key: KeyId, version: KeyVersion) -> Result<Option<Version<Arc<Material>>>, Gap> {
        match self.known(&RecordName::KeyVersion((key, version)))? {
            Known::Version(record, material, ..) => Ok(Of::new(record).map(|head| Version { head, material })),
            Known::Absent => Ok(None),
            Known::Record(_) => Err(Gap::Missing),
        }
    }
}
