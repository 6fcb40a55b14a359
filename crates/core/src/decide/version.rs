//! Change one version of a key: its dates, whether it may be used; activate, deactivate, destroy it.

use super::import::recount;
use super::{Change, Decide, Refusal, Write, touch, version};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::id::KeyVersion;
use crate::lifecycle::{Dates, Row, VersionState};
use crate::record::{AllowanceRecord, DestructionRecord, KeyRecord, KeyVersionRecord, RecordName};
use crate::request::{InvalidRequest, KeyHandle, Part, Tags};
use crate::seam::NewIds;
use crate::time::{Time, utc};
use crate::views::VersionView;

/// What a change makes of a version: with its key's record, so that nothing known of the version is believed any longer.
pub(super) fn changed(
    key: &KeyRecord,
    mut head: KeyVersionRecord,
    time: Time,
    keeps_material: bool,
) -> Change<VersionView> {
    let mut key = key.clone();
    touch(&mut key, time);
    head.life.updated_ms = head.life.updated_ms.max(time.stamp_ms());
    let answer = VersionView::new(&key, &head, time);
    let head = if keeps_material { Write::UpdateKeeping(head.into()) } else { Write::Update(head.into()) };
    Change { writes: vec![Write::Update(key.into()), head], answer }
}

/// A date as somebody wants it: milliseconds since 1970; 0 = none.
pub type NewDate = Option<u64>;

/// Changes dates of a version, whether it may be used, or what is put on it; what is `None`, or empty, stays.
///
/// Refused: the key or the version is not found, or the key waits for its destruction; an activation that has begun, or a
/// deactivation that has ended, is moved; dates that contradict each other; too many tags.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UpdateVersion {
    /// The key.
    pub key: KeyHandle,
    /// The version; none = the current one.
    pub version: Option<KeyVersion>,
    /// Whether it may be used.
    pub enabled: Option<bool>,
    /// [`Dates::activation`].
    pub activation: NewDate,
    /// [`Dates::protect_start`].
    pub protect_start: NewDate,
    /// [`Dates::process_start`].
    pub process_start: NewDate,
    /// [`Dates::protect_stop`].
    pub protect_stop: NewDate,
    /// [`Dates::deactivation`].
    pub deactivation: NewDate,
    /// Tags that are put on the version, over those of the same names.
    pub tags: Tags,
    /// Names of tags that are taken off it first.
    pub untag: Vec<String>,
}

impl UpdateVersion {
    fn moved(&self, key: &KeyRecord, head: &KeyVersionRecord, now: Time) -> Result<Dates, Refusal> {
        let before = head.life.dates;
        let dates = Dates {
            activation: self.activation.unwrap_or(before.activation),
            protect_start: self.protect_start.unwrap_or(before.protect_start),
            process_start: self.process_start.unwrap_or(before.process_start),
            protect_stop: self.protect_stop.unwrap_or(before.protect_stop),
            deactivation: self.deactivation.unwrap_or(before.deactivation),
            ..before
        };
        let state = head.life.state(key.has_retired(head.version), now);
        if dates.activation != before.activation {
            not_pending(key, head)?;
        }
        if dates.activation != before.activation && state != VersionState::PreActive {
            return Err(Refusal::VersionState(key.id, head.version, Row::Update, state));
        }
        if dates.deactivation != before.deactivation && head.life.ended(before.deactivation, now) {
            let (key, version, at_ms) = (key.id, head.version, before.deactivation);
            return Err(Refusal::Ended { key, version, at_ms });
        }
        let ends = [dates.protect_stop, dates.deactivation].into_iter().filter(|end| *end != 0).min();
        let starts = dates.activation.max(dates.protect_start);
        match ends {
            Some(end) if end <= starts => Err(Refusal::Invalid(InvalidRequest::wrong(
                Part::Date,
                format!("the version would end on {}, before it begins on {}", utc(end), utc(starts)),
            ))),
            _ => Ok(dates),
        }
    }
}

impl Decide for UpdateVersion {
    type Answer = VersionView;

    fn action(&self) -> Action {
        Action::UpdateVersion
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<VersionView>, F::Error> {
        let key = at.object(&self.key)?;
        let head = version(at, Row::Update, &key, self.version)?;
        let mut after = KeyVersionRecord::clone(&head);
        after.life.dates = self.moved(&key, &head, at.time())?;
        after.life.enabled = self.enabled.unwrap_or(head.life.enabled);
        after.tags = head.tags.without(&self.untag).with(&self.tags).map_err(Refusal::Invalid)?;
        // What comes to activating or revoking it takes the right to that.
        let (dates, now) = (after.life.dates, at.time());
        if dates.activation != head.life.dates.activation && (1..=now.stamp_ms()).contains(&dates.activation) {
            at.acting(Action::Activate).object(&self.key)?;
        }
        if dates.deactivation != head.life.dates.deactivation && now.ended(dates.deactivation) {
            at.acting(Action::Revoke).object(&self.key)?;
        }
        if after == *head {
            return Ok(Change::none(VersionView::new(&key, &head, at.time())));
        }
        // A version whose material is gone has none to keep.
        Ok(changed(&key, after, at.time(), head.life.dates.destroyed == 0))
    }
}

/// Lets a version that is not active yet be used from now on.
///
/// Refused: the key or the version is not found; the version is not pre-active.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Activate {
    /// The key.
    pub key: KeyHandle,
    /// The version; none = the current one.
    pub version: Option<KeyVersion>,
}

impl Decide for Activate {
    type Answer = VersionView;

    fn action(&self) -> Action {
        Action::Activate
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<VersionView>, F::Error> {
        let key = at.object(&self.key)?;
        let mut head = KeyVersionRecord::clone(&*version(at, Row::Activate, &key, self.version)?);
        not_pending(&key, &head)?;
        let now_ms = at.time().stamp_ms();
        head.life.dates.activation = now_ms;
        head.life.updated_ms = head.life.updated_ms.max(now_ms);
        Ok(changed(&key, head, at.time(), true))
    }
}

/// What waits for a rotation is activated by that.
fn not_pending(key: &KeyRecord, head: &KeyVersionRecord) -> Result<(), Refusal> {
    if head.version > key.current { Err(Refusal::PendingRotation(key.id, head.version)) } else { Ok(()) }
}

/// Why a version is revoked (KMIP 2.1 §11.48).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Revocation {
    /// It is not to protect any more.
    Deactivate,
    /// Somebody else may know its material.
    Compromise {
        /// Since when, ms since 1970; 0 = now.
        since_ms: u64,
    },
}

/// Takes a version out of use: deactivated it protects nothing more, compromised it processes only for who may do even that.
///
/// Refused: the key or the version is not found; the version can't be deactivated any more, or not yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Revoke {
    /// The key.
    pub key: KeyHandle,
    /// The version; none = the current one.
    pub version: Option<KeyVersion>,
    /// Why.
    pub why: Revocation,
}

impl Decide for Revoke {
    type Answer = VersionView;

    fn action(&self) -> Action {
        Action::Revoke
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<VersionView>, F::Error> {
        let key = at.object(&self.key)?;
        let row = match self.why {
            Revocation::Deactivate => Row::Deactivate,
            Revocation::Compromise { .. } => Row::Compromise,
        };
        let before = version(at, row, &key, self.version)?;
        let (mut head, now_ms) = (KeyVersionRecord::clone(&before), at.time().stamp_ms());
        let dates = &mut head.life.dates;
        match self.why {
            // What has ended by this node's clock alone may go on at others: then it is written down that it has.
            Revocation::Deactivate if (1..=before.life.updated_ms).contains(&dates.deactivation) => {}
            Revocation::Deactivate => {
                dates.deactivation = if dates.deactivation == 0 { now_ms } else { dates.deactivation.min(now_ms) };
            }
            Revocation::Compromise { since_ms: 0 } if dates.compromise != 0 => {}
            Revocation::Compromise { since_ms: 0 } => dates.compromise = now_ms,
            Revocation::Compromise { since_ms } if since_ms > now_ms => {
                let why = format!("the key can't be compromised since {}, which is to come", utc(since_ms));
                return Err(Refusal::Invalid(InvalidRequest::wrong(Part::Date, why)).into());
            }
            Revocation::Compromise { since_ms } => dates.compromise = since_ms,
        }
        // Written also where no date moves: it has ended from here on, whatever clocks say.
        let ends_now = matches!(self.why, Revocation::Deactivate)
            && !(1..=before.life.updated_ms).contains(&head.life.dates.deactivation);
        if head == *before && !ends_now {
            return Ok(Change::none(VersionView::new(&key, &head, at.time())));
        }
        head.life.updated_ms = head.life.updated_ms.max(now_ms);
        let keeps_material = head.life.dates.destroyed == 0;
        Ok(changed(&key, head, at.time(), keeps_material))
    }
}

/// Destroys the material of a version, at once and for ever; what is known of it stays, and a [`DestructionRecord`] says who did it.
///
/// Refused: the key or the version is not found; the version is active, or destroyed already; [`Refusal::PurgeProtected`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DestroyVersion {
    /// The key.
    pub key: KeyHandle,
    /// The version.
    pub version: KeyVersion,
}

impl Decide for DestroyVersion {
    type Answer = VersionView;

    fn action(&self) -> Action {
        Action::DestroyVersion
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<VersionView>, F::Error> {
        let key = at.object(&self.key)?;
        let mut head = KeyVersionRecord::clone(&*version(at, Row::DestroyVersion, &key, Some(self.version))?);
        // Of one whose material is gone already there is nothing to protect, and it may keep the key from being used.
        if key.purge_protected && head.has_material {
            return Err(Refusal::PurgeProtected(key.id).into());
        }
        let (now_ms, by) = (at.time().stamp_ms(), at.principal().clone());
        let before = at.get::<DestructionRecord>((key.id, Some(self.version)))?;
        let destruction = DestructionRecord::of_version(&key, &head, by, before.as_deref(), now_ms);
        head.life.dates.destroyed = now_ms;
        head.has_material = false;
        let mut key = KeyRecord::clone(&key);
        recount(&mut key, &head, |version| at.get::<KeyVersionRecord>((head.key, version)))?;
        let mut change = changed(&key, head, at.time(), false);
        if at.get::<AllowanceRecord>((key.id, self.version))?.is_some() {
            change.writes.push(Write::Delete(RecordName::Allowance((key.id, self.version))));
        }
        change.writes.push(Write::Update(destruction.into()));
        Ok(change)
    }
}
