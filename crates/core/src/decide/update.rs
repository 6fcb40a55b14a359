//! Change what people say of a key, its description and its tags; and narrow what it does: its floors, whether it may leave.

use super::details::retold;
use super::{Change, Decide, Refusal, Write, goes, touch, updated};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::id::KeyVersion;
use crate::lifecycle::Row;
use crate::record::{Exportable, KeyRecord};
use crate::request::{Description, InvalidRequest, KeyHandle, Part, Tags};
use crate::seam::NewIds;
use crate::views::KeyView;

/// Changes what is said of `key`, or narrows what it does; what is `None` stays.
///
/// Refused: the key is not found, is archived, or waits for its destruction; a floor above the current version, or one for
/// processing above that for protecting; [`Refusal::ExportableRaised`].
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Changes {
    /// Its description.
    pub description: Option<Description>,
    /// The first version that may still protect.
    pub protect_floor: Option<KeyVersion>,
    /// The first version that may still process.
    pub process_floor: Option<KeyVersion>,
    /// Whether its material may leave: less than it could until now.
    pub exportable: Option<Exportable>,
    /// Whether it is written down from now on when the key was used last. What was written stays until the key is gone.
    pub tracked: Option<bool>,
}

/// The key, and what is to change of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Update {
    /// The key.
    pub key: KeyHandle,
    /// What changes.
    pub changes: Changes,
}

impl Changes {
    fn made(&self, before: &KeyRecord) -> Result<KeyRecord, Refusal> {
        let key = KeyRecord {
            protect_floor: self.protect_floor.unwrap_or(before.protect_floor),
            process_floor: self.process_floor.unwrap_or(before.process_floor),
            exportable: self.exportable.unwrap_or(before.exportable),
            tracked: self.tracked.unwrap_or(before.tracked),
            ..before.clone()
        };
        if key.exportable > before.exportable {
            return Err(Refusal::ExportableRaised { key: key.id, is: before.exportable });
        }
        let wrong = |why| Err(Refusal::Invalid(InvalidRequest::wrong(Part::Version, why)));
        let (protect, process, current) = (key.protect_floor, key.process_floor, key.current);
        if protect > current {
            return wrong(format!("version {protect} can't be the first to protect: the current one is {current}"));
        }
        // Else what is protected could not be opened.
        if process > protect {
            return wrong(format!(
                "version {process} can't be the first to process, as versions from {protect} on protect; raise that floor too"
            ));
        }
        Ok(key)
    }
}

impl Decide for Update {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Update
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let key = at.object(&self.key)?;
        goes(Row::Update, &key, at.time())?;
        let mut made = self.changes.made(&key)?;
        let details = match &self.changes.description {
            Some(description) => retold(&mut made, description, || at.get(key.id))?,
            None => None,
        };
        let Some(details) = details else { return Ok(updated(&key, made, at.time())) };
        touch(&mut made, at.time());
        let answer = KeyView::from(&made);
        Ok(Change { writes: vec![Write::Update(made.into()), details], answer })
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
