//! Back a key up, and read a backup.
//!
//! ```text
//! plaintext of a backup = format u8 ‖ key record field ‖ description field ‖ n u16 × {version u32 ‖ version record, its material last, field}
//! ```

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::access::{Access, WholeKey};
use quorate_core::action::Action;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::decide::{BACKUP_VERSIONS_MAX, Refusal, is_whole};
use quorate_core::facts::{Of, Version};
use quorate_core::id::{KeyId, KeyVersion};
use quorate_core::level::Level;
use quorate_core::record::{KeyRecord, KeyVersionRecord, Record, RecordName, Unreadable};
use quorate_core::request::{Description, InvalidRequest, KeyHandle, Part, Token};
use quorate_crypto::material::{Encoded, Material};
use quorate_crypto::{BACKUP_LEN_MAX, Backup, SecretBytes};

use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;
use crate::records::barrier::body;

const FORMAT: u8 = 2;
const WHAT: &str = "content of a backup";

/// Makes a backup of `key`: all of it but its aliases, for this cluster alone.
///
/// Refused: the key is not found, is archived, or waits for its destruction; it has too many versions, or is too long.
pub struct BackUp {
    /// The key.
    pub key: KeyHandle,
}

/// A backup.
pub struct BackedUp {
    /// Of which key.
    pub key: KeyId,
    /// How many versions are in it.
    pub versions: u32,
    /// Its bytes: only this cluster opens them.
    pub backup: Vec<u8>,
}

/// A key with all its versions and their material, as it is read for a backup.
pub(crate) struct Whole {
    pub key: Of<KeyRecord>,
    description: Description,
    versions: Vec<(Of<KeyVersionRecord>, Option<SecretBytes>)>,
}

/// Reads all that a backup of that key holds.
pub(crate) struct ReadWhole(pub KeyHandle);

impl Use for ReadWhole {
    type Facts = WholeKey<Arc<Material>>;
    type Answer = Whole;

    fn action(&self) -> Action {
        Action::Backup
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.backs_up(&self.0)
    }

    fn is_slow(&self, _: &Self::Facts) -> bool {
        true
    }

    fn act(&self, WholeKey { key, description, versions }: Self::Facts, _: &Tools) -> Result<Whole, Error> {
        let clear = |Version { head, material }: Version<Arc<Material>>| {
            // A public key alone is in the head already.
            let material = material.filter(|_| head.has_material).map(|material| material.export());
            (head, material)
        };
        Ok(Whole { key, description, versions: versions.into_iter().map(clear).collect() })
    }
}

impl Whole {
    /// The plaintext of its backup, in the formats of that level.
    fn encode(&self, level: Level) -> SecretBytes {
        let key = Record::from(KeyRecord::clone(&self.key)).encode(level);
        let version = |(head, material): &(Of<KeyVersionRecord>, Option<SecretBytes>)| {
            (head.version, body(&KeyVersionRecord::clone(head).into(), level, material.as_ref()))
        };
        let versions: Vec<_> = self.versions.iter().map(version).collect();
        let head = Writer::new().u8(FORMAT).field(&key).field(self.description.as_str().as_bytes());
        let head = head.u16(versions.len() as u16).finish();
        // Reserved at once: growing would leave material behind in the old allocation.
        let len = versions.iter().map(|(_, body)| 4 + 4 + body.len()).sum::<usize>();
        let mut plain = SecretBytes::new(Vec::with_capacity(head.len() + len));
        plain.extend_from_slice(&head);
        for (version, body) in &versions {
            plain.extend_from_slice(&version.get().to_be_bytes());
            plain.extend_from_slice(&u32::try_from(body.len()).expect("a version is far below 4 GiB").to_be_bytes());
            plain.extend_from_slice(body);
        }
        plain
    }

    /// Its backup.
    ///
    /// # Errors
    /// When it is too long.
    pub fn seal(&self, level: Level, tools: &Tools) -> Result<BackedUp, Error> {
        let (key, plain) = (self.key.id, self.encode(level));
        let backup = tools.barrier.keyring()?.seal_backup(tools.lineage, key, &plain, &*tools.entropy);
        let (len, max) = (backup.len(), BACKUP_LEN_MAX);
        if len > max {
            return Err(InvalidRequest::TooLarge { part: Part::Backup, len, max }.into());
        }
        Ok(BackedUp { key, versions: self.versions.len() as u32, backup })
    }
}

/// Brings back the key that is in a backup: disabled, with its own name and without aliases; under its id if that is free, else under
/// a new one.
///
/// Refused: it is no backup, or another cluster's, or was changed; what the key made names its id, and that is taken; its name is.
pub struct RestoreKey {
    /// The backup.
    pub backup: Bytes,
    /// Whether it comes back without the name that it had for life.
    pub without_name: bool,
    /// Makes a retry recognisable.
    pub token: Option<Token>,
}

/// Reads the backup of a [`RestoreKey`].
pub(crate) struct OpenBackup(pub Bytes);

/// What was in a backup.
pub(crate) struct Opened {
    pub key: KeyRecord,
    pub description: Description,
    pub versions: Vec<KeyVersionRecord>,
    /// Of the versions that have some.
    pub material: Vec<Encoded>,
}

impl Use for OpenBackup {
    type Facts = ();
    type Answer = Opened;

    fn action(&self) -> Action {
        Action::Restore
    }

    fn check(&self, _: &Tools) -> Result<(), Error> {
        let (len, max) = (self.0.len(), BACKUP_LEN_MAX);
        if len > max { Err(InvalidRequest::TooLarge { part: Part::Backup, len, max }.into()) } else { Ok(()) }
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<(), F::Error> {
        at.namespace().map(drop)
    }

    fn is_slow(&self, (): &()) -> bool {
        true
    }

    fn act(&self, (): (), tools: &Tools) -> Result<Opened, Error> {
        let none =
            |_| InvalidRequest::wrong(Part::Backup, "this is no backup of a key; give the file that `backup` wrote");
        let backup = Backup::parse(&self.0).map_err(none)?;
        if backup.lineage() != tools.lineage {
            return Err(Refusal::BackupForeign.into());
        }
        let plain = tools.barrier.keyring()?.open_backup(&backup).map_err(|_| Refusal::BackupNotOpened)?;
        Opened::read(backup.key(), &plain).map_err(|why| match why {
            Unreadable::Newer(what) => Error::Newer(what),
            Unreadable::Malformed(_) => Refusal::BackupNotOpened.into(),
        })
    }
}

impl Opened {
    fn read(id: KeyId, plain: &[u8]) -> Result<Self, Unreadable> {
        const BAD: Malformed = Malformed(WHAT);
        let mut r = Reader::new(WHAT, plain);
        match r.u8()? {
            FORMAT => {}
            newer if newer > FORMAT => return Err(Unreadable::Newer(WHAT)),
            _ => return Err(BAD.into()),
        }
        let Record::Key(key) = Record::decode(&RecordName::Key(id), r.field(BACKUP_LEN_MAX)?)? else {
            return Err(BAD.into());
        };
        let description = r.text(BACKUP_LEN_MAX)?.parse().map_err(|_| BAD)?;
        let (mut versions, mut material) = (Vec::new(), Vec::new());
        for _ in 0..r.u16()? {
            let number = KeyVersion::new(r.u32()?).ok_or(BAD)?;
            let (head, bytes) = KeyVersionRecord::split(id, number, r.field(BACKUP_LEN_MAX)?)?;
            if head.has_material {
                Material::read(head.spec, bytes).ok_or(BAD)?;
                let public = Some(head.public.clone()).filter(|public| !public.is_empty());
                material.push(Encoded { material: SecretBytes::new(bytes.to_vec()), public });
            }
            versions.push(head);
        }
        r.finish()?;
        if versions.len() > BACKUP_VERSIONS_MAX as usize || !is_whole(&key, &versions) {
            return Err(BAD.into());
        }
        Ok(Self { key, description, versions, material })
    }
}
