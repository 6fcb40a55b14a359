//! Import and delete the material of a key that was created without (key-model §1.4, §5.4).

use super::due::refile;
use super::version::changed;
use super::{Change, Decide, Refusal, Slot, Write, touch, version};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::id::{KeyId, KeyVersion};
use crate::lifecycle::Row;
use crate::record::{Due, DueRecord, Imported, KeyRecord, KeyVersionRecord, MaterialId};
use crate::request::{InvalidRequest, KeyHandle, Part};
use crate::seam::NewIds;
use crate::seeded::{self, Bug};
use crate::time::{Time, utc};
use crate::views::VersionView;

/// What an import token says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TokenFor {
    /// For which key it was made.
    pub key: KeyId,
    /// When it expires, ms since 1970.
    pub expires_ms: u64,
}

/// Whether material that came with `token` may be imported into `key`, as far as its state does not matter.
///
/// # Errors
/// [`Refusal::NotExternal`], [`Refusal::TokenForeign`], [`Refusal::TokenExpired`].
pub fn may_import(key: &KeyRecord, token: TokenFor, now: Time) -> Result<Imported, Refusal> {
    let imported = key.imported.ok_or(Refusal::NotExternal(key.id))?;
    if token.key != key.id {
        return Err(Refusal::TokenForeign(key.id));
    }
    if now.ended(token.expires_ms) {
        return Err(Refusal::TokenExpired { at_ms: token.expires_ms });
    }
    Ok(imported)
}

/// Puts material that was unwrapped into a version of `key`: the change's first given secret.
///
/// Refused: what [`may_import`] refuses; [`Refusal::WrongMaterial`]; the key or the version is not found, or in a state in which it
/// takes none; an end that has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportMaterial {
    /// The key.
    pub key: KeyHandle,
    /// The version for which the material was read.
    pub version: KeyVersion,
    /// What it came with.
    pub token: TokenFor,
    /// The material's.
    pub material_id: MaterialId,
    /// When it is erased, ms since 1970; 0 = never.
    pub expires_ms: u64,
}

impl Decide for ImportMaterial {
    type Answer = VersionView;

    fn action(&self) -> Action {
        Action::ImportMaterial
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<VersionView>, F::Error> {
        let (before, now) = (at.key(&self.key)?, at.time());
        let imported = may_import(&before, self.token, now)?;
        let old = version(at, Row::Import, &before, Some(self.version))?;
        if now.ended(self.expires_ms) {
            let why = format!("the material would be erased on {}, which has come already", utc(self.expires_ms));
            return Err(Refusal::Invalid(InvalidRequest::wrong(Part::Date, why)).into());
        }
        // Of a version that never had any, none is known.
        if ![[0; 32], self.material_id].contains(&old.material_id) && !seeded::is(Bug::AnyMaterial) {
            return Err(Refusal::WrongMaterial(before.id, old.version).into());
        }
        let mut head = KeyVersionRecord::clone(&old);
        head.life.dates.material_expires = self.expires_ms;
        (head.material_id, head.has_material) = (self.material_id, true);
        if head == *old {
            return Ok(Change::none(VersionView::new(&before, &head, now)));
        }
        head.life.updated_ms = head.life.updated_ms.max(now.stamp_ms());
        let mut key = KeyRecord::clone(&before);
        key.imported = Some(imported.with(old.has_material, self.expires_ms));
        touch(&mut key, now);
        let mut writes = refile(at, expiry(&old), expiry(&head))?;
        let answer = VersionView::new(&key, &head, now);
        writes.extend([Write::Update(key.into()), Write::UpdateWith(head.into(), Slot::Given(0))]);
        Ok(Change { writes, answer })
    }
}

/// What the end of a version's material is filed as.
fn expiry(head: &KeyVersionRecord) -> Option<DueRecord> {
    let at_ms = head.life.dates.material_expires;
    (at_ms != 0).then_some(DueRecord { what: Due::Material(head.key, head.version), at_ms })
}

/// Erases the material of a version, at once; the same may be imported again. Nothing to do where there is none.
///
/// Refused: [`Refusal::NotExternal`]; the key or the version is not found, or the version is destroyed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeleteMaterial {
    /// The key.
    pub key: KeyHandle,
    /// The version; none = the current one.
    pub version: Option<KeyVersion>,
}

impl Decide for DeleteMaterial {
    type Answer = VersionView;

    fn action(&self) -> Action {
        Action::DeleteMaterial
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<VersionView>, F::Error> {
        let before = at.key(&self.key)?;
        let imported = before.imported.ok_or(Refusal::NotExternal(before.id))?;
        let old = version(at, Row::DeleteMaterial, &before, self.version)?;
        let mut head = KeyVersionRecord::clone(&old);
        head.life.dates.material_expires = 0;
        head.has_material = false;
        if head == *old {
            return Ok(Change::none(VersionView::new(&before, &head, at.time())));
        }
        let mut key = KeyRecord::clone(&before);
        key.imported = Some(imported.without(old.has_material));
        let mut change = changed(&key, head, at.time(), false);
        change.writes.extend(refile(at, expiry(&old), None)?);
        Ok(change)
    }
}
