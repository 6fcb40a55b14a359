//! Have a key destroyed before its day.

use super::destroy::{VERSIONS_PER_STEP, taken};
use super::details::untold;
use super::names::freed;
use super::{Change, Decide, Refusal, Write, touch};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::id::KeyId;
use crate::lifecycle::KeyState;
use crate::record::{Cause, DestructionRecord, Due, DueRecord, KeyRecord, RecordName, Scheduled};
use crate::request::KeyHandle;
use crate::seam::NewIds;

/// Destroys `key` at once: its names and its material go with this change, that of more than [`VERSIONS_PER_STEP`] versions with the
/// duty's next look. There is no way back; a [`DestructionRecord`] stays.
///
/// Refused: the key is not found, does not wait for its destruction, or is protected from this.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Purge {
    /// The key.
    pub key: KeyHandle,
}

impl Decide for Purge {
    type Answer = KeyId;

    fn action(&self) -> Action {
        Action::Purge
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyId>, F::Error> {
        let key = at.object(&self.key)?;
        let Some(scheduled) = Scheduled::of(&key) else {
            return Err(Refusal::NotPendingDeletion(key.id).into());
        };
        if key.purge_protected {
            return Err(Refusal::PurgeProtected(key.id).into());
        }
        let (at_ms, now_ms) = (scheduled.due_ms, at.time().stamp_ms());
        let cause = Cause::Purge { by: at.principal().clone(), scheduled };
        let before = at.get::<DestructionRecord>((key.id, None))?;
        let mut destruction = DestructionRecord::of_key(&key, cause, before.as_deref(), now_ms);
        let mut key = KeyRecord { state: KeyState::Destroyed, deletion_by: None, ..KeyRecord::clone(&key) };
        touch(&mut key, at.time());
        let answer = key.id;
        let mut writes = freed(&mut key, |name| at.get(name))?;
        writes.extend(untold(&mut key, || at.get(answer))?);
        // The bytes go with this change: nearly all keys have fewer versions.
        let until = key.newest.get().min(VERSIONS_PER_STEP);
        let (versions, heads) = taken(key.id, 1..=until, |name| at.read(name))?;
        writes.extend(versions);
        destruction.went(heads.iter().map(|head| &**head), until, now_ms);
        key.destroyed_through = until;
        // Filed for an hour that has come by every clock: the duty finds it at its next look.
        let (old, now) = (DueRecord::hour(at_ms), DueRecord { what: Due::Deletion(key.id), at_ms: 0 });
        writes.extend([Write::Update(key.into()), Write::Update(destruction.into())]);
        if at.get::<DueRecord>((old, now.what))?.is_some() && old != DueRecord::hour(now.at_ms) {
            writes.push(Write::Delete(RecordName::Due((old, now.what))));
        }
        at.get::<DueRecord>((DueRecord::hour(now.at_ms), now.what))?;
        writes.push(Write::Update(now.into()));
        Ok(Change { writes, answer })
    }
}
