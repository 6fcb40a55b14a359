//! Erase imported material whose time is over. Nobody uses it any more by then: a use goes by whichever clock is first.

use super::import::recount;
use super::{Change, Refusal, Write, touch};
use crate::facts::Basis;
use crate::id::{KeyId, KeyVersion};
use crate::lifecycle::KeyState;
use crate::record::{Due, DueRecord, KeyRecord, KeyVersionRecord, RecordName};
use crate::time::DutyTime;

/// Decides the erasure that the due record of that version in `hour` asks for; the answer is whether something was erased. No
/// principal: whoever imported the material set its end.
///
/// # Errors
/// [`Refusal::NotDue`] while duty time has not come to it.
pub fn decide<F: Basis>(
    facts: &mut F,
    hour: u32,
    (id, number): (KeyId, KeyVersion),
    time: DutyTime,
) -> Result<Change<bool>, F::Error> {
    let name = (hour, Due::Material(id, number));
    let Some(filed) = facts.get::<DueRecord>(name)? else {
        return Ok(Change::none(false));
    };
    let forget = Write::Delete(RecordName::Due(name));
    let key = facts.get::<KeyRecord>(id)?.filter(|key| key.state != KeyState::Destroyed);
    let head = facts.get::<KeyVersionRecord>((id, number))?;
    let (Some(key), Some(head)) = (key, head) else {
        return Ok(Change { writes: vec![forget], answer: false });
    };
    let at_ms = head.life.dates.material_expires;
    // Deleted, or imported again with another end.
    if !head.has_material || at_ms == 0 || DueRecord::hour(at_ms) != hour {
        return Ok(Change { writes: vec![forget], answer: false });
    }
    let at_ms = at_ms.max(filed.at_ms);
    if !time.is_due(at_ms) {
        return Err(Refusal::NotDue { key: id, at_ms }.into());
    }
    let (mut key, mut head) = (KeyRecord::clone(&key), KeyVersionRecord::clone(&head));
    head.has_material = false;
    recount(&mut key, &head, |version| facts.get::<KeyVersionRecord>((id, version)))?;
    touch(&mut key, facts.time());
    head.life.updated_ms = head.life.updated_ms.max(key.updated_ms);
    Ok(Change { writes: vec![Write::Update(key.into()), Write::Update(head.into()), forget], answer: true })
}
