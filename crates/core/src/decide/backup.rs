//! Note that a backup of a key is made, and bring a key back from one (key-model §1.4).
//!
//! A backup outlives its key: it is what brings one back that was destroyed, by mistake or by malice. So destruction ends what
//! this cluster holds, and a key tells when it was backed up last. What comes back comes disabled, with the name that it has for life, without aliases and
//! without rights, and takes an administrator twice: to restore it, and to enable it.

use std::collections::BTreeSet;

use super::create::{NewKey, birth, new_key};
use super::details::told;
use super::due::refile;
use super::import::expiry;
use super::rotate::falls_due;
use super::{Change, Decide, Filed, Refusal, Retry, Slot, Write, goes, touch};
use crate::access::{Access, Under};
use crate::action::Action;
use crate::facts::Basis;
use crate::id::{KeyVersion, Namespace};
use crate::key_spec::Mode;
use crate::lifecycle::{KeyState, Row};
use crate::name::{FoldedName, Named, NamespaceName};
use crate::record::{Imported, KeyRecord, KeyVersionRecord, NameRecord, NamespaceRecord, Origin, Rotation};
use crate::request::{Description, KeyHandle, Token};
use crate::seam::NewIds;
use crate::views::KeyView;

/// Most versions of a key that is backed up: one batch has to bring them back.
pub const BACKUP_VERSIONS_MAX: u32 = 100;

/// Notes that a backup of a key is made: from then on copies of its material may live outside.
///
/// The answer is whether the key is still as it was read for the backup; else nothing is noted, as that does not hold what the key
/// has become.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MarkBackedUp {
    /// The key as it was read.
    pub read: KeyRecord,
}

impl Decide for MarkBackedUp {
    type Answer = bool;

    fn action(&self) -> Action {
        Action::Backup
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<bool>, F::Error> {
        let key = at.key(&KeyHandle::Id(self.read.id))?;
        goes(Row::Update, &key, at.time())?;
        if *key != self.read {
            return Ok(Change::none(false));
        }
        let mut key = KeyRecord::clone(&key);
        touch(&mut key, at.time());
        key.backed_up_ms = key.updated_ms;
        Ok(Change { writes: vec![Write::Update(key.into())], answer: true })
    }
}

/// Brings back what a backup holds, which was opened: the material of those versions that have some is the change's given
/// secrets, in their order. The answer is the key, or the one that the same token brought back before.
///
/// It has the id that it had if that is free and of the caller's namespace, else a new one; and may leave no further than keys that are
/// made there. Refused: [`Refusal::RestoreElsewhere`], [`Refusal::RestoreTaken`], [`Refusal::RestoreNamed`]; the token stands for another
/// request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Restore {
    /// The key as it was.
    pub key: KeyRecord,
    /// What was told about it.
    pub description: Description,
    /// All its versions, from the first.
    pub versions: Vec<KeyVersionRecord>,
    /// Whether it comes back without the name that it had for life.
    pub without_name: bool,
    /// Of the backup's bytes ([`crate::record::request_hash`]).
    pub hash: [u8; 32],
    /// Makes a retry recognisable.
    pub token: Option<Token>,
}

impl Decide for Restore {
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Restore
    }

    fn retry(&self) -> Retry<KeyView> {
        self.token.map_or(Retry::Again, |token| {
            let request_hash = self.hash;
            Retry::Filed(Filed { token, request_hash, key_of: |key| key.id, answer: |key| key.into() })
        })
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, ids: &dyn NewIds) -> Result<Change<KeyView>, F::Error> {
        let home = at.home()?;
        let under = at.under(self.key.id)?;
        let there = if let Under::Object(there) = &under { Some(there) } else { None };
        // One that is being destroyed is gone soon, and then its id is free for this.
        let ends = there.is_some_and(|there| there.state == KeyState::Destroyed);
        let at_home = home.namespace == self.key.namespace;
        let same = at_home && there.is_none();
        // A ciphertext that names its key is opened under that id or not at all, and an id is of one namespace for ever.
        let names_itself = self.versions.iter().any(|head| head.mode == Mode::Blob);
        if !at_home && names_itself {
            let of = at.get::<NamespaceRecord>(self.key.namespace)?.map(|of| of.name.clone());
            let of = of.or((self.key.namespace == Namespace::FIRST).then(NamespaceName::first));
            return Err(Refusal::RestoreElsewhere { key: self.key.id, of }.into());
        }
        if ends || !same && names_itself {
            return Err(Refusal::RestoreTaken(self.key.id).into());
        }
        let (id, birth) = if same {
            (self.key.id, self.key.birth)
        } else {
            let birth = birth("restore", &[&self.hash]);
            match new_key(at, ids, home.namespace, None, 0, birth)? {
                NewKey::Free(id) => (id, birth),
                NewKey::Made(earlier) => return Ok(Change::none(*earlier)),
            }
        };
        let name = self.key.name.clone().filter(|_| !self.without_name);
        if let Some(name) = &name
            && let Some(taken) = at.get::<NameRecord>(FoldedName::object(home.namespace, self.key.class(), name))?
        {
            return Err(Refusal::RestoreNamed { name: name.clone(), key: taken.key }.into());
        }
        let now = at.time();
        let mut key = KeyRecord {
            id,
            namespace: home.namespace,
            birth,
            // Whoever restores it looks at it before anybody uses it.
            state: KeyState::Disabled,
            destroyed_through: 0,
            name,
            aliases: BTreeSet::new(),
            rotation: self
                .key
                .rotation
                .map(|before| Rotation { next_ms: now.cluster_ms.saturating_add(before.period_ms), ..before }),
            // Whose place it took, and who took its place, is said of that id.
            replaces: self.key.replaces.filter(|_| same),
            replaced_by: self.key.replaced_by.filter(|_| same),
            deletion_by: None,
            born_as: Some(self.key.birth_id()).filter(|born| *born != id),
            ..self.key.clone()
        };
        // What was taken from the original since then, for ever, is taken from its double.
        if let Some(there) = there {
            key.exportable = key.exportable.min(there.exportable);
        }
        key.exportable = key.exportable.min(home.settings.exportable);
        key.tracked &= home.settings.tracked;
        touch(&mut key, now);
        key.backed_up_ms = key.backed_up_ms.max(key.updated_ms);

        let mut writes = refile(at, None, key.rotation.map(|rotation| falls_due(id, rotation)))?;
        let (mut heads, mut nth) = (Vec::new(), 0);
        for saved in &self.versions {
            let mut head = KeyVersionRecord { key: id, ..saved.clone() };
            let slot = Slot::Given(nth);
            nth += usize::from(saved.has_material);
            let known = match there {
                Some(there) => at.get::<KeyVersionRecord>((there.id, saved.version))?,
                None => None,
            };
            if let Some(known) = known.filter(|known| known.material_id == saved.material_id) {
                let (dates, since) = (&mut head.life.dates, known.life.dates);
                dates.compromise = if dates.compromise == 0 { since.compromise } else { dates.compromise };
                dates.destroyed = if dates.destroyed == 0 { since.destroyed } else { dates.destroyed };
                head.life.updated_ms = head.life.updated_ms.max(known.life.updated_ms);
            }
            // What has ended stays away, whatever the backup still holds.
            let ended = head.life.dates.destroyed != 0 || head.life.ended(head.life.dates.material_expires, now);
            head.has_material = saved.has_material && !ended;
            // How often it was used since then nobody can tell: it opens what it made, and makes nothing new.
            if head.mode == Mode::Gcm && !head.life.ended(head.life.dates.deactivation, now) {
                head.life.dates.deactivation = key.updated_ms;
                head.life.updated_ms = head.life.updated_ms.max(key.updated_ms);
            }
            writes.push(match head.has_material {
                true => Write::CreateWith(head.clone().into(), slot),
                false => Write::Create(head.clone().into()),
            });
            if head.has_material {
                writes.extend(refile(at, None, expiry(&head))?);
            }
            heads.push(head);
        }
        if let Origin::Imported(imported) = &mut key.origin {
            *imported = Imported::of(heads.iter().filter(|head| head.version <= key.current));
        }
        writes.extend(told(&mut key, &self.description));
        let answer = KeyView::from(&key);
        let named = key.name.iter().map(|name| Named::Object(key.class(), name.clone()));
        writes.extend(named.map(|named| Write::Create(NameRecord::new(named, &key, key.updated_ms).into())));
        writes.push(match under {
            // What of its own destruction still is filed as due finds a key that does not wait for it.
            Under::Remains if same => Write::Update(key.into()),
            _ => Write::Create(key.into()),
        });
        Ok(Change { writes, answer })
    }
}

/// Whether what a backup says of a key and its versions fits together.
pub fn is_whole(key: &KeyRecord, versions: &[KeyVersionRecord]) -> bool {
    let numbers = (1..).map_while(KeyVersion::new);
    versions.len() as u64 == u64::from(key.newest.get())
        && versions.iter().zip(numbers).all(|(head, number)| head.key == key.id && head.version == number)
}
