//! One step of destroying a key that is due: its names go with the first, some versions with each; after the last of them what nodes
//! have written of its uses, and the key.
//!
//! The duty repeats the step until it answers [`Progress::Done`]. Each step stands for itself and notes how far it
//! came in the key's record, so any node can take over at any point, and two at once merely conflict. The first step
//! marks the key destroyed: from then on it can't be cancelled, used, rotated or found. Of a key that was made within the last
//! two hours an empty record stays until they are over, so that a late retry of its creation does not make it again.

use super::details::untold;
use super::names::freed;
use super::{Change, Refusal, Write};
use crate::facts::Facts;
use crate::id::{KeyId, KeyVersion, NodeId};
use crate::lifecycle::KeyState;
use crate::record::{Due, DueRecord, KeyRecord, RecordName};
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

/// Decides one step for the due record of `key` in `hour`. No principal: the schedule was authorised, the duty obeys it. `nodes`
/// are those that have written of its uses, looked up among these facts, and noted.
///
/// # Errors
/// [`Refusal::NotDue`] while duty time has not come to it.
pub fn decide<F: Facts>(
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
    let mut record = KeyRecord { state: KeyState::Destroyed, ..KeyRecord::clone(&record) };

    let mut writes = freed(&mut record, |name| facts.get(name))?;
    writes.extend(untold(&mut record, || facts.get(key))?);
    let last = record.newest.get();
    let until = record.destroyed_through.saturating_add(VERSIONS_PER_STEP).min(last);
    for version in (record.destroyed_through.saturating_add(1)..=until).filter_map(KeyVersion::new) {
        let name = RecordName::KeyVersion((key, version));
        for name in [name, RecordName::Allowance((key, version))] {
            if facts.read(&name)?.is_some() {
                writes.push(Write::Delete(name));
            }
        }
    }
    record.destroyed_through = until;
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
