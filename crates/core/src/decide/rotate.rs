//! Rotate a key: a fresh version becomes the one that protects; all before it go on processing what they protected. On demand,
//! or when it is due.

use super::due::{self, refile};
use super::import::{recount, rotated_to};
use super::{Change, Decide, Filed, Refusal, Retry, Slot, Write, goes, touch, version};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::id::{KeyId, KeyVersion};
use crate::key_spec::Mode;
use crate::lifecycle::{Cell, KeyState, Row};
use crate::record::{
    Due, DueRecord, KeyRecord, KeyVersionRecord, Origin, RecordName, Rotation, handle_bytes, request_hash,
};
use crate::request::{KeyHandle, RotationPeriod, Token};
use crate::seam::NewIds;
use crate::seeded::{self, Bug};
use crate::time::{DAY_MS, DutyTime, Time};
use crate::views::KeyView;

/// Gives `key` a fresh version; the answer is the key with its new current version, or, if the same token rotated it before, as
/// it is now.
///
/// Where outputs don't name their version, older ones may still protect when they are asked for by number. The version of a key
/// whose material is imported is the one that was imported for it.
///
/// Refused: the key is not found, disabled, or waits for its destruction; [`Refusal::VersionsMax`], [`Refusal::NothingToRotateTo`],
/// [`Refusal::PublicAlone`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rotate {
    /// Which key.
    pub key: KeyHandle,
    /// Makes a retry recognisable; without one, a retry rotates again.
    pub token: Option<Token>,
}

impl Decide for Rotate {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Rotate
    }

    fn retry(&self) -> Retry<KeyView> {
        self.token.map_or(Retry::Again, |token| {
            let request_hash = request_hash("rotate", &[&handle_bytes(&self.key)]);
            Retry::Filed(Filed { token, request_hash, key_of: |key| key.id, answer: |key| key.into() })
        })
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let key = at.key(&self.key)?;
        let current = version(at, Row::Rotate, &key, None)?;
        let (key, made) = match key.origin {
            Origin::Here => rotated(&key, &current, at.time())?,
            Origin::Public => return Err(Refusal::PublicAlone(key.id).into()),
            Origin::Imported(_) => {
                let head = rotated_to(at, &key)?;
                let mut key = with_current(&key, head.version, current.mode, at.time());
                recount(&mut key, &head, |version| at.get::<KeyVersionRecord>((head.key, version)))?;
                // One that was given up while it waited would count from now on, and keep the whole key from being used.
                if key.lacks_material(at.time()) {
                    return Err(Refusal::RotationLacksMaterial(key.id).into());
                }
                (key, Write::UpdateKeeping(head.into()))
            }
        };
        let answer = KeyView::from(&key);
        Ok(Change { writes: vec![Write::Update(key.into()), made], answer })
    }
}

/// Whoever brought material, or a public key, brings the next one, too: here none can be made.
fn is_ours(key: &KeyRecord) -> Result<(), Refusal> {
    match key.origin {
        Origin::Here => Ok(()),
        Origin::Imported(_) => Err(Refusal::NotRotated(key.id)),
        Origin::Public => Err(Refusal::PublicAlone(key.id)),
    }
}

/// The key with one version more, and what makes that.
fn rotated(key: &KeyRecord, current: &KeyVersionRecord, time: Time) -> Result<(KeyRecord, Write), Refusal> {
    let next = key.current.next().ok_or(Refusal::VersionsMax(key.id))?;
    let key = with_current(key, next, current.mode, time);
    let made = KeyVersionRecord::new(key.id, key.current, key.spec, current.mode, current.usage, key.rotated_ms);
    let made = Write::CreateWith(made.into(), Slot::Fresh(0, key.spec));
    Ok((key, made))
}

/// The key with that version as its current one.
pub(super) fn with_current(key: &KeyRecord, current: KeyVersion, mode: Mode, time: Time) -> KeyRecord {
    let mut key = KeyRecord { current, newest: key.newest.max(current), ..key.clone() };
    // Only a ciphertext that names its version lets the one before retire unasked.
    if mode == Mode::Blob && !seeded::is(Bug::KeepFloor) {
        key.protect_floor = current;
    }
    touch(&mut key, time);
    key.rotated_ms = key.updated_ms;
    key
}

/// Has `key` rotated every so often from now on, or no more.
///
/// Refused: [`Refusal::BriefWindow`], [`Refusal::NotRotated`], [`Refusal::NotRotatedUnasked`]; the key is not found, disabled, or waits for its destruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetRotation {
    /// Which key.
    pub key: KeyHandle,
    /// How often; none = not without being asked.
    pub period: Option<RotationPeriod>,
}

impl Decide for SetRotation {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::SetRotation
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        if self.period.is_some_and(RotationPeriod::is_brief) && !at.is_dev() {
            return at.refuse(Refusal::BriefWindow);
        }
        let before = at.key(&self.key)?;
        is_ours(&before)?;
        if self.period.is_some() {
            let current = version(at, Row::Rotate, &before, None)?;
            if current.mode != Mode::Blob {
                return Err(Refusal::NotRotatedUnasked(before.id).into());
            }
        } else {
            goes(Row::Rotate, &before, at.time())?;
        }
        let period_ms = self.period.map(RotationPeriod::millis);
        if before.rotation.map(|rotation| rotation.period_ms) == period_ms {
            return Ok(Change::none(KeyView::from(&*before)));
        }
        let mut key = KeyRecord::clone(&before);
        let now_ms = at.time().cluster_ms;
        key.rotation = period_ms.map(|period_ms| Rotation { period_ms, next_ms: now_ms.saturating_add(period_ms) });
        touch(&mut key, at.time());
        let (old, new) = (before.rotation.map(|r| falls_due(key.id, r)), key.rotation.map(|r| falls_due(key.id, r)));
        let mut writes = refile(at, old, new)?;
        let answer = KeyView::from(&key);
        writes.push(Write::Update(key.into()));
        Ok(Change { writes, answer })
    }
}

pub(super) fn falls_due(key: KeyId, rotation: Rotation) -> DueRecord {
    DueRecord { what: Due::Rotation(key), at_ms: rotation.next_ms }
}

/// What became of a rotation that was due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rotated {
    /// The key has a fresh version.
    Yes,
    /// It could not have one now, and is looked at again a day later.
    Later,
    /// It is not to be rotated (any more).
    No,
}

/// Decides the rotation that the due record of `key` in `hour` asks for. No principal: it was authorised when it was set.
/// `time` says when it is due, `now` dates what is made.
///
/// # Errors
/// [`Refusal::NotDue`] while duty time has not come to it.
pub fn decide_due<F: Basis>(facts: &mut F, hour: u32, key: KeyId, time: DutyTime) -> Result<Change<Rotated>, F::Error> {
    let name = (hour, Due::Rotation(key));
    let Some(filed) = facts.get::<DueRecord>(name)? else {
        return Ok(Change::none(Rotated::No));
    };
    let forget = vec![Write::Delete(RecordName::Due(name))];
    let record = facts.get::<KeyRecord>(key)?.filter(|key| key.state != KeyState::Destroyed);
    let Some((record, rotation)) = record.and_then(|key| Some((key.clone(), key.rotation?))) else {
        return Ok(Change { writes: forget, answer: Rotated::No });
    };
    if due::name(&falls_due(key, rotation)) != name {
        return Ok(Change { writes: forget, answer: Rotated::No });
    }
    let at_ms = rotation.next_ms.max(filed.at_ms);
    if !time.is_due(at_ms) {
        return Err(Refusal::NotDue { key, at_ms }.into());
    }
    let now = facts.time();
    let current = facts.get::<KeyVersionRecord>((key, record.current))?;
    let goes = Row::Rotate.goes(record.standing(now)).is_ok();
    let fit = current.filter(|head| {
        let cell = Row::Protect.goes_with(&head.life, record.has_retired(head.version), now);
        goes && cell == Ok(Cell::Goes)
    });
    let (mut after, mut writes, answer) = match &fit {
        Some(current) => {
            let (after, made) = rotated(&record, current, now)?;
            (after, vec![made], Rotated::Yes)
        }
        None => (KeyRecord::clone(&record), Vec::new(), Rotated::Later),
    };
    // From duty time: nobody can make a key rotate again and again by pushing a clock.
    let wait = if answer == Rotated::Later { rotation.period_ms.min(DAY_MS) } else { rotation.period_ms };
    let next = Rotation { next_ms: time.ms().saturating_add(wait), ..rotation };
    after.rotation = Some(next);
    let refiled = falls_due(key, next);
    if due::name(&refiled) == name {
        writes.push(Write::Update(refiled.into()));
    } else {
        facts.get::<DueRecord>(due::name(&refiled))?;
        writes.extend(forget);
        writes.push(Write::Update(refiled.into()));
    }
    writes.push(Write::Update(after.into()));
    Ok(Change { writes, answer })
}
