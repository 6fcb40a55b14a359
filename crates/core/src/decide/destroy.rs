//! One step of destroying a key that is due: its names go with the first, some versions with each; after the last of them what nodes
//! have written of its uses, and the key.
//!
//! The duty repeats the step until it answers [`Progress::Done`]. Each step stands for itself and notes how far it
//! came in the key's record and in that of the destruction, so any node can take over at any point, and two at once merely conflict. The first step
//! marks the key destroyed: from then on it can't be cancelled, used, rotated or found. Of a key that was made within the last
//! two hours an empty record stays until they are over, so that a late retry of its creation does not make it again.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::details::untold;
use super::names::freed;
use super::{Change, Refusal, Write};
use crate::facts::{Basis, Of};
use crate::id::{KeyId, KeyVersion, NodeId};
use crate::lifecycle::KeyState;
use crate::record::{
    Cause, DestructionRecord, Due, DueRecord, KeyRecord, KeyVersionRecord, Record, RecordName, Scheduled,
};
use crate::request::{Tags, Token};
use crate::seeded::{self, Bug};
use crate::time::DutyTime;

/// Versions destroyed by one step: two records each, and with all names it stays below the batch's 128 operations.
pub const VERSIONS_PER_STEP: u32 = 28;

/// Records of uses removed by one step.
const NODES_PER_STEP: usize = 32;

/// How far it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Progress {
    /// More versions are left: repeat.
    More,
    /// The key is gone, or was not to be destroyed at all (cancelled, scheduled anew).
    Done,
}

/// The writes that take these versions of a key away, with what counts their uses, and what they were.
pub(super) fn taken<E>(
    key: KeyId,
    numbers: RangeInclusive<u32>,
    mut read: impl FnMut(&RecordName) -> Result<Option<Arc<Record>>, E>,
) -> Result<(Vec<Write>, Vec<Of<KeyVersionRecord>>), E> {
    let (mut writes, mut heads) = (Vec::new(), Vec::new());
    for version in numbers.filter_map(KeyVersion::new) {
        for name in [RecordName::KeyVersion((key, version)), RecordName::Allowance((key, version))] {
            if let Some(record) = read(&name)? {
                heads.extend(Of::new(record));
                writes.push(Write::Delete(name));
            }
        }
    }
    Ok((writes, heads))
}

/// Decides one step for the due record of `key` in `hour`. No principal: the schedule was authorised, the duty obeys it. `nodes`
/// are those that have written of its uses, looked up among these facts, and noted.
///
/// # Errors
/// [`Refusal::NotDue`] while duty time has not come to it.
pub fn decide<F: Basis>(
    facts: &mut F,
    hour: u32,
    key: KeyId,
    nodes: &[NodeId],
    time: DutyTime,
) -> Result<Change<Progress>, F::Error> {
    let due_name = (hour, Due::Deletion(key));
    let Some(due) = facts.get::<DueRecord>(due_name)? else {
        return Ok(Change::none(Progress::Done));
    };
    let forget_due = vec![Write::Delete(RecordName::Due(due_name))];
    let Some(record) = facts.get::<KeyRecord>(key)? else {
        return Ok(Change { writes: forget_due, answer: Progress::Done });
    };
    match record.state {
        KeyState::Destroyed => {}
        KeyState::PendingDeletion { at_ms, .. } if DueRecord::hour(at_ms) == hour => {
            if !time.is_due(at_ms.max(due.at_ms)) {
                return Err(Refusal::NotDue { key, at_ms }.into());
            }
        }
        // Cancelled, or scheduled anew for another hour: this due record means nothing.
        _ => return Ok(Change { writes: forget_due, answer: Progress::Done }),
    }
    let was_marked = record.state == KeyState::Destroyed;
    let now_ms = facts.time().stamp_ms();
    let before = facts.get::<DestructionRecord>((key, None))?;
    let destruction = match Scheduled::of(&record) {
        Some(scheduled) => {
            Some(DestructionRecord::of_key(&record, Cause::Due { scheduled }, before.as_deref(), now_ms))
        }
        // Begun by an earlier step, or by a purge.
        None => before.as_deref().cloned(),
    };
    let mut record = KeyRecord { state: KeyState::Destroyed, deletion_by: None, ..KeyRecord::clone(&record) };

    let mut writes = freed(&mut record, |name| facts.get(name))?;
    writes.extend(untold(&mut record, || facts.get(key))?);
    let last = record.newest.get();
    let gone = record.destroyed_through;
    let until = gone.saturating_add(VERSIONS_PER_STEP).min(last);
    let (versions, heads) = taken(key, gone.saturating_add(1)..=until, |name| facts.read(name))?;
    writes.extend(versions);
    record.destroyed_through = until;
    if let Some(mut destruction) = destruction
        && (until > gone || !was_marked)
    {
        destruction.went(heads.iter().map(|head| &**head), until, now_ms);
        writes.push(Write::Update(destruction.into()));
    }
    // Once it is marked no node writes of its uses any more: those on a view past the mark are all.
    if until < last || !was_marked {
        writes.push(Write::Update(record.into()));
        return Ok(Change { writes, answer: Progress::More });
    }
    if !nodes.is_empty() {
        // Unread: what can't be read any more must go, too.
        writes.extend(nodes.iter().take(NODES_PER_STEP).map(|node| Write::Delete(RecordName::Use((key, *node)))));
        writes.push(Write::Update(record.into()));
        return Ok(Change { writes, answer: Progress::More });
    }

    // While the token that it may have been made with could still come again, its id must not be made anew.
    let forgotten_ms = key.time_ms().saturating_add(Token::KEPT_MS);
    if time.is_due(forgotten_ms) || seeded::is(Bug::ForgetPurged) {
        writes.push(Write::Delete(RecordName::Key(key)));
        writes.extend(forget_due);
        return Ok(Change { writes, answer: Progress::Done });
    }
    if writes.is_empty() && DueRecord::hour(forgotten_ms) == hour {
        return Ok(Change::none(Progress::Done));
    }
    record.tags = Tags::default();
    writes.push(Write::Update(record.into()));
    let later = DueRecord { what: Due::Deletion(key), at_ms: forgotten_ms };
    if DueRecord::hour(forgotten_ms) != hour {
        facts.get::<DueRecord>((DueRecord::hour(forgotten_ms), later.what))?;
        writes.extend(forget_due);
    }
    writes.push(Write::Update(later.into()));
    Ok(Change { writes, answer: Progress::Done })
}

#[cfg(test)]
mod tests;
