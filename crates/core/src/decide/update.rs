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

/// Changes what is `Some`, of what is said of `key` and is no tag.
///
/// Refused: the key is not found, or waits for its destruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update {
    /// The key.
    pub key: KeyHandle,
    /// Its new description.
    pub description: Option<Description>,
    /// Whether it is written down from now on when the key was used last. What was written stays until the key is gone.
    pub tracked: Option<bool>,
}

impl Decide for Update {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Update
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let key = at.key(&self.key)?;
        goes(Row::Update, &key, at.time())?;
        let description = self.description.as_ref().unwrap_or(&key.description).clone();
        let tracked = self.tracked.unwrap_or(key.tracked);
        Ok(updated(&key, KeyRecord { description, tracked, ..KeyRecord::clone(&key) }, at.time()))
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
        let key = at.key(&self.key)?;
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
        let key = at.key(&self.key)?;
        goes(Row::Update, &key, at.time())?;
        let tags = key.tags.without(&self.names);
        Ok(updated(&key, KeyRecord { tags, ..KeyRecord::clone(&key) }, at.time()))
    }
}
