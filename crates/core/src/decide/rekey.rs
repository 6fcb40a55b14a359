//! Replace a key by a new one, which takes over its aliases (KMIP: Re-key). Where rotation adds a version under the same id, this
//! makes another key: for who names keys by id, or whose protocol knows no versions.

use super::create::{NewKey, birth, new_key};
use super::details::told;
use super::due::refile;
use super::rotate::falls_due;
use super::{Change, Decide, Refusal, Retry, Slot, Write, touch, version};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::id::KeyVersion;
use crate::lifecycle::{KeyState, Row, VersionState};
use crate::name::FoldedName;
use crate::record::{DetailsRecord, KeyRecord, KeyVersionRecord, NameRecord, Origin, Rotation, handle_bytes};
use crate::request::{KeyHandle, Token};
use crate::seam::NewIds;
use crate::views::KeyView;

/// Makes a key like `key`, in its namespace, with fresh material, and moves the aliases and the schedule of rotations to it; the answer is the new key,
/// or the one that the same token made before. The old one stays as it is, and each names the other.
///
/// Refused: the key is not found, archived, disabled, or waits for its destruction; its current version is destroyed;
/// [`Refusal::AlreadyReplaced`], [`Refusal::NotRekeyed`], [`Refusal::PublicAlone`]; the token stands for another request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rekey {
    /// Which key.
    pub key: KeyHandle,
    /// Makes a retry recognisable.
    pub token: Option<Token>,
}

impl Decide for Rekey {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Rekey
    }

    fn retry(&self) -> Retry<KeyView> {
        self.token.map_or(Retry::Again, Retry::Id)
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, ids: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let home = at.home_of(&self.key)?;
        let birth = birth("rekey", &[&handle_bytes(&self.key)]);
        // Looked for first: of a retry, the name stands for the new key.
        let id = match new_key(at, ids, home.namespace, self.token, 0, birth)? {
            NewKey::Made(earlier) => return Ok(Change::none(*earlier)),
            NewKey::Free(id) => id,
        };
        let before = at.key(&self.key)?;
        match before.origin {
            Origin::Here => {}
            Origin::Imported(_) => return Err(Refusal::NotRekeyed(before.id).into()),
            Origin::Public => return Err(Refusal::PublicAlone(before.id).into()),
        }
        let current = version(at, Row::Rekey, &before, None)?;
        if let Some(by) = before.replaced_by
            && at.get::<KeyRecord>(by)?.is_some_and(|key| key.state != KeyState::Destroyed)
        {
            return Err(Refusal::AlreadyReplaced { key: before.id, by }.into());
        }

        let now = at.time();
        let mut old = KeyRecord::clone(&before);
        touch(&mut old, now);
        let mut new = KeyRecord {
            id,
            namespace: home.namespace,
            birth,
            current: KeyVersion::FIRST,
            newest: KeyVersion::FIRST,
            protect_floor: KeyVersion::FIRST,
            process_floor: KeyVersion::FIRST,
            created_ms: now.stamp_ms(),
            updated_ms: now.stamp_ms(),
            rotated_ms: 0,
            rotation: old
                .rotation
                .map(|rotation| Rotation { next_ms: now.cluster_ms.saturating_add(rotation.period_ms), ..rotation }),
            backed_up_ms: 0,
            born_as: None,
            replaces: Some(old.id),
            replaced_by: None,
            exportable: old.exportable.min(home.settings.exportable),
            deletion_by: None,
            // It is the old one's for life.
            name: None,
            ..old.clone()
        };
        old.aliases.clear();
        old.rotation = None;
        old.replaced_by = Some(id);

        let mut made = KeyVersionRecord::new(id, new.current, new.spec, current.mode, current.usage, new.created_ms);
        // What is not to be used yet is replaced by what is not, either.
        if current.life.state(false, now) == VersionState::PreActive {
            made.life.dates.activation = current.life.dates.activation;
        }
        let details = if before.has_details { at.get::<DetailsRecord>(before.id)? } else { None };
        let mut writes = refile(at, before.rotation.map(|due| falls_due(before.id, due)), None)?;
        writes.extend(refile(at, None, new.rotation.map(|due| falls_due(id, due)))?);
        for name in &new.aliases {
            if let Some(alias) = at.get::<NameRecord>(FoldedName::alias(home.namespace, name))? {
                let updated_ms = new.created_ms.max(alias.updated_ms);
                writes.push(Write::Update(NameRecord { key: id, updated_ms, ..NameRecord::clone(&alias) }.into()));
            }
        }
        writes.extend(told(&mut new, &details.map(|told| told.description.clone()).unwrap_or_default()));
        let answer = KeyView::from(&new);
        let made = Write::CreateWith(made.into(), Slot::Fresh(0, new.spec));
        writes.extend([Write::Update(old.into()), Write::Create(new.into()), made]);
        Ok(Change { writes, answer })
    }
}
