//! Change what people say of a key: its description, its tags.

use super::{Change, Decide, Refusal, goes, updated};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::lifecycle::Row;
use crate::record::KeyRecord;
use crate::request::{Description, KeyHandle, Tags};
use crate::seam::NewIds;
use crate::views::KeyView;

/// Gives `key` another description.
///
/// Refused: the key is not found, or waits for its destruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update {
    /// The key.
    pub key: KeyHandle,
    /// Its new description.
    pub description: Description,
}

impl Decide for Update {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Update
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let key = at.object(&self.key)?;
        goes(Row::Update, &key, at.time())?;
        let described = KeyRecord { description: self.description.clone(), ..KeyRecord::clone(&key) };
        Ok(updated(&key, described, at.time()))
    }
}

/// Puts tags on `key`, over those of the same names.
///
/// Refused: likewise; too many tags.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tag {
    /// The key.
    pub key: KeyHandle,
    /// The tags.
    pub tags: Tags,
}

impl Decide for Tag {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Tag
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let key = at.object(&self.key)?;
        goes(Row::Update, &key, at.time())?;
        let tags = key.tags.with(&self.tags).map_err(Refusal::Invalid)?;
        Ok(updated(&key, KeyRecord { tags, ..KeyRecord::clone(&key) }, at.time()))
    }
}

/// Takes the tags of such names off `key`; names of none do no harm.
///
/// Refused: the key is not found, or waits for its destruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Untag {
    /// The key.
    pub key: KeyHandle,
    /// Names of tags.
    pub names: Vec<String>,
}

impl Decide for Untag {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Untag
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let key = at.object(&self.key)?;
        goes(Row::Update, &key, at.time())?;
        let tags = key.tags.without(&self.names);
        Ok(updated(&key, KeyRecord { tags, ..KeyRecord::clone(&key) }, at.time()))
    }
}
