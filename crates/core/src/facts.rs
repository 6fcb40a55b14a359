//! What is known at exactly one index, however it is kept: decisions and uses read through [`Facts`], and nothing else.

use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use crate::decide::Refusal;
use crate::id::{KeyId, KeyVersion};
use crate::record::{KeyVersionRecord, Record, RecordName, Stored};
use crate::time::Time;

/// Records at one index. Whoever implements it notes what was read, present or absent: a change stands only if none of that has moved.
pub trait Facts {
    /// Why a fact could not be had, or the refusal.
    type Error: From<Refusal>;

    /// The record called `name`, or `None` if there is none. Noted either way.
    ///
    /// # Errors
    /// When storage fails or the record can't be opened.
    fn read(&mut self, name: &RecordName) -> Result<Option<Arc<Record>>, Self::Error>;

    /// The record of that kind and name.
    ///
    /// # Errors
    /// Likewise.
    fn get<K: Stored>(&mut self, name: K::Name) -> Result<Option<Of<K>>, Self::Error> {
        // An answer of another kind would break the contract: it is treated as absence, and whoever expects the record's
        // revision makes sure that nothing is built on it.
        Ok(self.read(&K::named(name))?.and_then(Of::new))
    }
}

/// What a change is decided on: facts, and what goes with all of them.
pub trait Basis: Facts {
    /// The time that decisions on these facts go by.
    fn time(&self) -> Time;
    /// Whether the cluster is marked for development.
    fn is_dev(&self) -> bool;
}

/// Facts that give out the material of key versions too, for uses.
pub trait Materials: Basis {
    /// Material, as whoever uses it needs it. Nothing in this crate looks inside.
    type Material;

    /// A version of a key; `None` = there is none of that number.
    ///
    /// # Errors
    /// Likewise.
    fn version(&mut self, key: KeyId, version: KeyVersion) -> Result<Option<Version<Self::Material>>, Self::Error>;
}

/// One version of a key.
pub struct Version<M> {
    /// What is known about it.
    pub head: Of<KeyVersionRecord>,
    /// Its material, unless that is gone.
    pub material: Option<M>,
}

/// A record that was read, of a known kind; shared, never copied.
#[derive(Debug)]
pub struct Of<K>(Arc<Record>, PhantomData<fn() -> K>);

impl<K: Stored> Of<K> {
    /// The record, if it is of that kind.
    pub fn new(record: Arc<Record>) -> Option<Self> {
        K::of(&record).is_some().then_some(Self(record, PhantomData))
    }
}

impl<K> Clone for Of<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone(), PhantomData)
    }
}

impl<K: Stored> Deref for Of<K> {
    type Target = K;
    fn deref(&self) -> &K {
        K::of(&self.0).expect("its kind was looked at when it was made")
    }
}
