//! Import and delete the material of a key that was created without (key-model §1.4, §5.4).

use super::due::refile;
use super::version::changed;
use super::{Change, Decide, Refusal, Slot, Write, goes, takes_material, touch, version};
use crate::access::Access;
use crate::action::Action;
use crate::facts::{Basis, Of};
use crate::id::{KeyId, KeyVersion};
use crate::lifecycle::{Row, VersionState};
use crate::record::{Due, DueRecord, Imported, KeyRecord, KeyVersionRecord, MaterialId, Origin};
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
/// [`Refusal::NotExternal`], [`Refusal::PublicAlone`], [`Refusal::TokenForeign`], [`Refusal::TokenExpired`].
pub fn may_import(key: &KeyRecord, token: TokenFor, now: Time) -> Result<(), Refusal> {
    takes_material(key)?;
    if token.key != key.id {
        return Err(Refusal::TokenForeign(key.id));
    }
    if now.ended(token.expires_ms) {
        return Err(Refusal::TokenExpired { at_ms: token.expires_ms });
    }
    Ok(())
}

/// Where imported material goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImportInto {
    /// A version that there is; none = the current one.
    Version(Option<KeyVersion>),
    /// A version that waits for the next rotation: the one that waits already, or a new one.
    New,
}

/// Most versions of an imported key: what is known of the key follows from all of them.
const VERSIONS_MAX: u32 = 50;

/// Puts material that was unwrapped into a version of `key`: the change's first given secret.
///
/// A version that there is takes only what it had before; one that waits for a rotation has protected nothing yet, and takes other
/// material, too, but none that another version has.
///
/// Refused: what [`may_import`] refuses; [`Refusal::WrongMaterial`], [`Refusal::VersionsMax`]; the key or the version is not found,
/// or in a state in which it takes none; an end that has come; a new version while others lack their material.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportMaterial {
    /// The key.
    pub key: KeyHandle,
    /// Which version.
    pub into: ImportInto,
    /// What it came with.
    pub token: TokenFor,
    /// The material's.
    pub material_id: MaterialId,
    /// When it is erased, ms since 1970; 0 = never. None = as was said of the material that is there, or never.
    pub expires_ms: Option<u64>,
}

impl ImportMaterial {
    /// The version that waits for a rotation, or a new one, which waits then; and whether there is one.
    fn waiting<F: Basis>(&self, at: &mut Access<'_, F>, key: &KeyRecord) -> Result<(KeyVersionRecord, bool), F::Error> {
        goes(Row::Import, key, at.time())?;
        if key.lacks_material(at.time()) {
            return Err(Refusal::MaterialMissing(key.id).into());
        }
        let heads = versions(key.newest, |version| at.get::<KeyVersionRecord>((key.id, version)))?;
        let waiting = heads.iter().find(|head| head.version > key.current && is_fresh(head, at.time()));
        let number = match waiting {
            Some(head) => head.version,
            None => key.newest.next().filter(|next| next.get() <= VERSIONS_MAX).ok_or(Refusal::VersionsMax(key.id))?,
        };
        if let Some(same) = heads.iter().find(|one| one.material_id == self.material_id && one.version != number) {
            let why = format!(
                "version {} of key {} has this material already; a new version takes another",
                same.version, key.id
            );
            return Err(Refusal::Invalid(InvalidRequest::wrong(Part::Material, why)).into());
        }
        let Some(current) = heads.iter().find(|head| head.version == key.current) else {
            return Err(Refusal::NoVersion(key.id, key.current).into());
        };
        let made_ms = at.time().stamp_ms().max(key.updated_ms);
        let mut made = KeyVersionRecord::new(key.id, number, key.spec, current.mode, current.usage, made_ms);
        made.life.dates.activation = 0;
        made.has_material = false;
        Ok(waiting.map_or((made, false), |head| (KeyVersionRecord::clone(head), true)))
    }
}

/// Whether a version that waits for a rotation may still have it.
fn is_fresh(head: &KeyVersionRecord, now: Time) -> bool {
    head.life.state(false, now) == VersionState::PreActive
}

/// Versions of a key, up to that one.
fn versions<E>(
    last: KeyVersion,
    mut get: impl FnMut(KeyVersion) -> Result<Option<Of<KeyVersionRecord>>, E>,
) -> Result<Vec<Of<KeyVersionRecord>>, E> {
    let all = (1..=last.get()).filter_map(KeyVersion::new);
    all.filter_map(|version| get(version).transpose()).collect()
}

/// Writes down what is known of an imported key now that one of its versions has changed.
pub(super) fn recount<E>(
    key: &mut KeyRecord,
    changed: &KeyVersionRecord,
    mut get: impl FnMut(KeyVersion) -> Result<Option<Of<KeyVersionRecord>>, E>,
) -> Result<(), E> {
    if let Origin::Imported(imported) = &mut key.origin {
        let others = |version| if version == changed.version { Ok(None) } else { get(version) };
        let others = versions(key.current, others)?;
        let changed = Some(changed).filter(|changed| changed.version <= key.current);
        *imported = Imported::of(others.iter().map(|head| &**head).chain(changed));
    }
    Ok(())
}

impl Decide for ImportMaterial {
    type Answer = VersionView;

    fn action(&self) -> Action {
        Action::ImportMaterial
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<VersionView>, F::Error> {
        let (before, now) = (at.key(&self.key)?, at.time());
        may_import(&before, self.token, now)?;
        let (old, is_there) = match self.into {
            ImportInto::Version(number) => {
                let head = version(at, Row::Import, &before, number)?;
                (KeyVersionRecord::clone(&head), true)
            }
            ImportInto::New => self.waiting(at, &before)?,
        };
        // Whoever brings the same again, and says nothing of its end, does not mean that it stays for ever.
        let expires_ms = self.expires_ms.unwrap_or(old.life.dates.material_expires);
        if now.ended(expires_ms) {
            let why = match self.expires_ms {
                Some(_) => format!("the material would be erased on {}, which has come already", utc(expires_ms)),
                None => format!(
                    "the material was to be erased on {}, which has come; say when now, or never",
                    utc(expires_ms)
                ),
            };
            return Err(Refusal::Invalid(InvalidRequest::wrong(Part::Date, why)).into());
        }
        // Of a version that never had any, none is known.
        let is_other = self.into != ImportInto::New && ![[0; 32], self.material_id].contains(&old.material_id);
        if is_other && !seeded::is(Bug::AnyMaterial) {
            return Err(Refusal::WrongMaterial(before.id, old.version).into());
        }
        let mut head = old.clone();
        head.life.dates.material_expires = expires_ms;
        (head.material_id, head.has_material) = (self.material_id, true);
        if head == old {
            return Ok(Change::none(VersionView::new(&before, &head, now)));
        }
        head.life.updated_ms = head.life.updated_ms.max(now.stamp_ms());
        let mut key = KeyRecord::clone(&before);
        key.newest = key.newest.max(head.version);
        recount(&mut key, &head, |version| at.get::<KeyVersionRecord>((head.key, version)))?;
        touch(&mut key, now);
        let mut writes = refile(at, expiry(&old), expiry(&head))?;
        let answer = VersionView::new(&key, &head, now);
        let put = if is_there { Write::UpdateWith } else { Write::CreateWith };
        writes.extend([Write::Update(key.into()), put(head.into(), Slot::Given(0))]);
        Ok(Change { writes, answer })
    }
}

/// The version that the next rotation of an imported key makes current, as it is then.
///
/// # Errors
/// [`Refusal::NothingToRotateTo`]; it is not pre-active any more; its material is not there.
pub(super) fn rotated_to<F: Basis>(at: &mut Access<'_, F>, key: &KeyRecord) -> Result<KeyVersionRecord, F::Error> {
    let pending = key.pending().ok_or(Refusal::NothingToRotateTo(key.id))?;
    let Some(head) = at.get::<KeyVersionRecord>((key.id, pending))? else {
        return Err(Refusal::NoVersion(key.id, pending).into());
    };
    let (mut head, now) = (KeyVersionRecord::clone(&head), at.time());
    if !is_fresh(&head, now) {
        return Err(Refusal::NothingToRotateTo(key.id).into());
    }
    if !head.has_material || head.life.ended(head.life.dates.material_expires, now) {
        return Err(Refusal::MaterialMissing(key.id).into());
    }
    head.life.dates.activation = now.stamp_ms();
    head.life.updated_ms = head.life.updated_ms.max(now.stamp_ms());
    Ok(head)
}

/// What the end of a version's material is filed as.
pub(super) fn expiry(head: &KeyVersionRecord) -> Option<DueRecord> {
    let at_ms = head.life.dates.material_expires;
    (at_ms != 0).then_some(DueRecord { what: Due::Material(head.key, head.version), at_ms })
}

/// Erases the material of a version, at once; the same may be imported again. Nothing to do where there is none.
///
/// Refused: [`Refusal::NotExternal`], [`Refusal::PublicAlone`]; the key or the version is not found, or the version is destroyed.
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
        takes_material(&before)?;
        let old = version(at, Row::DeleteMaterial, &before, self.version)?;
        let mut head = KeyVersionRecord::clone(&old);
        head.life.dates.material_expires = 0;
        head.has_material = false;
        if head == *old {
            return Ok(Change::none(VersionView::new(&before, &head, at.time())));
        }
        let mut key = KeyRecord::clone(&before);
        recount(&mut key, &head, |version| at.get::<KeyVersionRecord>((head.key, version)))?;
        let mut change = changed(&key, head, at.time(), false);
        change.writes.extend(refile(at, expiry(&old), None)?);
        Ok(change)
    }
}
