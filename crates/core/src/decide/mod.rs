//! What a request changes, as pure functions of facts: one file per verb, each a request that can [`Decide`].
//!
//! A decision sees one view and nothing else: no protocol, storage, network, clock or randomness inside (design §3).
//! The view notes every record that was read, present or absent; those are the batch's expectations, so a decision
//! stands only if nothing it looked at has moved. A decision reads what it writes. A refusal writes nothing.
//!
//! What a caller asks for reads through [`Access`], which judges; what the cluster owes ([`destroy`], [`sweep`], [`claim`], [`lease`], [`tally`]) was
//! judged when it was asked for, and reads plain facts.

pub mod claim;
pub mod destroy;
pub mod lease;
pub mod sweep;
pub mod tally;

mod alias_create;
mod alias_delete;
mod archive;
mod backup;
mod cancel_deletion;
mod create;
mod create_many;
mod credential;
mod details;
mod disable;
mod due;
mod enable;
pub mod expire;
mod export;
mod import;
mod names;
mod namespace;
mod purge;
mod refusal;
mod rekey;
mod retry;
pub mod rotate;
mod rotate_to;
mod schedule_deletion;
mod secret;
mod update;
mod version;

#[cfg(test)]
mod material_model;
#[cfg(test)]
mod model;

pub use self::alias_create::CreateAlias;
pub use self::alias_delete::DeleteAlias;
pub use self::archive::{Archive, Recover};
pub use self::backup::{BACKUP_VERSIONS_MAX, MarkBackedUp, Restore, is_whole};
pub use self::cancel_deletion::CancelDeletion;
pub use self::create::{Create, NewKind, PublicPart, Source};
pub use self::create_many::{CreateMany, CreatePart, PART_LEN_MAX};
pub use self::credential::{EnablePrincipal, RevokeCredential};
pub use self::disable::Disable;
pub use self::enable::Enable;
pub use self::export::{MarkExported, export, may_leave};
pub use self::import::{DeleteMaterial, ImportInto, ImportMaterial, TokenFor, may_import};
pub use self::namespace::{CloseNamespace, Closing, CreateNamespace, EndNamespace, Left, UpdateNamespace};
pub use self::purge::Purge;
pub use self::refusal::{Refusal, refusal};
pub use self::rekey::Rekey;
pub use self::retry::{Filed, Retry, decide};
pub use self::rotate::{Rotate, SetRotation};
pub use self::rotate_to::RotateTo;
pub use self::schedule_deletion::ScheduleDeletion;
pub use self::secret::{SetSecret, UpdateSecret};
pub use self::update::{Changes, Tag, Untag, Update};
pub use self::version::{Activate, DestroyVersion, NewDate, Revocation, Revoke, UpdateVersion};

use crate::access::Access;
use crate::action::Action;
use crate::facts::{Basis, Of};
use crate::id::KeyVersion;
use crate::key_spec::KeySpec;
use crate::lifecycle::Row;
use crate::record::{KeyRecord, KeyVersionRecord, Origin, Record, RecordName, Stored};
use crate::seam::NewIds;
use crate::time::Time;
use crate::views::{KeyView, ShowsKeys};

/// A request to change something. [`decide`] decides it; nobody calls [`Decide::decide`] otherwise.
pub trait Decide {
    /// What it answers.
    type Answer: ShowsKeys;

    /// What the caller has to be allowed.
    fn action(&self) -> Action;
    /// How a retry is told from a new request.
    fn retry(&self) -> Retry<Self::Answer> {
        Retry::Again
    }
    /// What it does, on facts that are true at one index.
    ///
    /// # Errors
    /// The refusals of the verb; whatever keeps facts from being read.
    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, ids: &dyn NewIds) -> Result<Change<Self::Answer>, F::Error>;
}

/// A secret that the shell has, or makes: a decision says where it goes, and never sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Slot {
    /// The one at that place among those that the shell gave.
    Given(usize),
    /// Fresh material of that kind, the `n`th of the change: made once, and kept when the change has to be decided again.
    Fresh(usize, KeySpec),
}

/// One write of a change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// Writes a record that is not there: whether the decision has looked or not, the change stands only if it is not.
    Create(Record),
    /// The same, with a secret at the end of its body.
    CreateWith(Record, Slot),
    /// Writes a record that the decision has read. Others may want to write it too, so such changes queue. The secret at the end
    /// of its body, if it had one, is gone.
    Update(Record),
    /// The same, and the secret stays.
    UpdateKeeping(Record),
    /// The same, and another secret takes its place.
    UpdateWith(Record, Slot),
    /// Removes a record that the decision has read; likewise.
    Delete(RecordName),
}

impl Write {
    /// The record it writes.
    pub fn name(&self) -> RecordName {
        match self {
            Self::Create(record)
            | Self::CreateWith(record, _)
            | Self::Update(record)
            | Self::UpdateKeeping(record)
            | Self::UpdateWith(record, _) => record.name(),
            Self::Delete(name) => name.clone(),
        }
    }
    /// The record of that kind that it writes, if it writes one.
    fn written<K: Stored>(&self) -> Option<&K> {
        match self {
            Self::Create(record)
            | Self::CreateWith(record, _)
            | Self::Update(record)
            | Self::UpdateKeeping(record)
            | Self::UpdateWith(record, _) => K::of(record),
            Self::Delete(_) => None,
        }
    }
    /// Whether it writes what was not there.
    pub fn creates(&self) -> bool {
        matches!(self, Self::Create(_) | Self::CreateWith(..))
    }
}

/// What a request does, and its answer once that is applied. No writes: the answer holds as it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change<A> {
    /// All of these or none.
    pub writes: Vec<Write>,
    /// What to say.
    pub answer: A,
}

impl<A> Change<A> {
    /// Nothing to do.
    pub fn none(answer: A) -> Self {
        Self { writes: Vec::new(), answer }
    }
}

/// Whether material is imported into the key.
///
/// # Errors
/// [`Refusal::NotExternal`], [`Refusal::PublicAlone`].
pub(crate) fn takes_material(key: &KeyRecord) -> Result<(), Refusal> {
    match key.origin {
        Origin::Imported(_) => Ok(()),
        Origin::Here => Err(Refusal::NotExternal(key.id)),
        Origin::Public => Err(Refusal::PublicAlone(key.id)),
    }
}

/// Whether verbs of that row go while the key is as it is.
fn goes(row: Row, key: &KeyRecord, now: Time) -> Result<(), Refusal> {
    row.goes(key.standing(now)).map_err(|why| refusal(key.id, key.current, why))
}

/// A version of a key to be changed, if verbs of that row go with it; with none named, the current one.
fn version<F: Basis>(
    at: &mut Access<'_, F>,
    row: Row,
    key: &KeyRecord,
    version: Option<KeyVersion>,
) -> Result<Of<KeyVersionRecord>, F::Error> {
    let number = version.unwrap_or(key.current);
    goes(row, key, at.time())?;
    let Some(head) = at.get::<KeyVersionRecord>((key.id, number))? else {
        return Err(Refusal::NoVersion(key.id, number).into());
    };
    let cell = row.goes_with(&head.life, key.has_retired(number), at.time());
    cell.map_err(|why| refusal(key.id, number, why))?;
    Ok(head)
}

/// The change that makes a key's record that one; none when it is.
fn updated(before: &KeyRecord, mut key: KeyRecord, time: Time) -> Change<KeyView> {
    if key == *before {
        return Change::none(KeyView::from(&key));
    }
    touch(&mut key, time);
    let answer = KeyView::from(&key);
    Change { writes: vec![Write::Update(key.into())], answer }
}

/// Notes that a key's record is changed now.
fn touch(key: &mut KeyRecord, time: Time) {
    // The node of the last change may have had a faster clock.
    key.updated_ms = time.stamp_ms().max(key.updated_ms);
}
