//! Keys whose material comes from elsewhere, or leaves.

use super::{Access, Touch};
use crate::decide::{BACKUP_VERSIONS_MAX, ImportInto, Refusal, may_leave, refusal, takes_material};
use crate::facts::{Materials, Of, Version};
use crate::id::KeyVersion;
use crate::lifecycle::{NoWay, Row};
use crate::record::{KeyRecord, KeyVersionRecord};
use crate::request::{Description, KeyHandle};
use crate::time::Time;

/// A key with all its versions and their material.
pub struct WholeKey<M> {
    /// The key.
    pub key: Of<KeyRecord>,
    /// What is told about it.
    pub description: Description,
    /// Its versions, from the first.
    pub versions: Vec<Version<M>>,
}

impl<F: Materials> Access<'_, F> {
    /// The key that `handle` names, if material is imported into it as it stands, and `may` has nothing against that key.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::NotExternal`], [`Refusal::PublicAlone`], what `may` refuses; the key is not found, or in a state in which it takes none.
    pub fn external(
        &mut self,
        handle: &KeyHandle,
        may: impl FnOnce(&KeyRecord, Time) -> Result<(), Refusal>,
    ) -> Result<Of<KeyRecord>, F::Error> {
        let (key, now) = (self.key(handle)?, self.time());
        takes_material(&key)?;
        may(&key, now)?;
        Row::Import.goes(key.standing(now)).map_err(|why| refusal(key.id, key.current, why))?;
        Ok(key)
    }

    /// What that key takes, if the version does, too: of one to be made, as much as its current version tells.
    ///
    /// # Errors
    /// Those of [`Self::external`]; the version is in a state in which it takes none.
    pub fn imports(
        &mut self,
        handle: &KeyHandle,
        into: ImportInto,
        may: impl FnOnce(&KeyRecord, Time) -> Result<(), Refusal>,
    ) -> Result<(Of<KeyRecord>, Of<KeyVersionRecord>), F::Error> {
        let (key, now) = (self.external(handle, may)?, self.time());
        let number = match into {
            ImportInto::Version(named) => named.unwrap_or(key.current),
            ImportInto::New => key.current,
        };
        let head = self.head(&key, number)?.ok_or(Refusal::NoVersion(key.id, number))?;
        if into != ImportInto::New {
            let goes = Row::Import.goes_with(&head.life, key.has_retired(number), now);
            goes.map_err(|why| refusal(key.id, number, why))?;
        }
        Ok((key, head))
    }

    /// The key that `handle` names with all its versions, for a backup.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::BackupVersions`]; the key is not found, is archived, or waits for its destruction.
    pub fn backs_up(&mut self, handle: &KeyHandle) -> Result<WholeKey<F::Material>, F::Error> {
        let (key, now) = (self.key(handle)?, self.time());
        Row::Update.goes(key.standing(now)).map_err(|why| refusal(key.id, key.current, why))?;
        if key.newest.get() > BACKUP_VERSIONS_MAX {
            return Err(Refusal::BackupVersions(key.id, key.newest).into());
        }
        let mut versions = Vec::new();
        for number in (1..=key.newest.get()).filter_map(KeyVersion::new) {
            versions.push(self.facts.version(key.id, number)?.ok_or(Refusal::NoVersion(key.id, number))?);
        }
        let description = self.description(&key)?;
        Ok(WholeKey { key, description, versions })
    }

    /// A version of the key that `handle` names, with its material, to be exported: wrapped, or as it is.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::NotExportable`], [`Refusal::WrappedOnly`], [`Refusal::NoVersion`]; the key is not found, or
    /// it, or the version, is in a state in which that can't be done.
    pub fn exports(
        &mut self,
        handle: &KeyHandle,
        version: Option<KeyVersion>,
        wrapped: bool,
    ) -> Result<(Of<KeyVersionRecord>, F::Material, Touch), F::Error> {
        let key = self.key(handle)?;
        let (number, now) = (version.unwrap_or(key.current), self.facts.time());
        may_leave(&key, wrapped)?;
        let refused = |why| refusal(key.id, number, why);
        Row::Export.goes(key.standing(now)).map_err(refused)?;
        let Some(Version { head, material }) = self.facts.version(key.id, number)? else {
            return Err(Refusal::NoVersion(key.id, number).into());
        };
        Row::Export.goes_with(&head.life, key.has_retired(number), now).map_err(refused)?;
        let material = material.ok_or_else(|| refused(NoWay::MaterialMissing))?;
        let (action, is_limited, tracked) = (self.ask.action, false, key.tracked);
        let touch = Touch { key: key.id, version: number, material: head.material_id, action, is_limited, tracked };
        Ok((head, material, touch))
    }
}
