//! Backups of one key: everything that is known of it, material too, boxed under a key of the keyring, so that it opens in this
//! cluster alone, also when the key was destroyed meanwhile (key-model §1.4).
//!
//! ```text
//! backup = "QBKP" ‖ ver u8 ‖ L 16 ‖ K_backup generation u32 ‖ key id 16
//!          ‖ box(kdf(K_backup, "backup", [generation u32], 32), "backup-box", hdr = [L, generation u32, key id], pt)
//! ```

use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{KeyId, Lineage};
use quorate_core::seam::Entropy;

use crate::boxes::{self, NotOpened};
use crate::kdf::{Label, derive};
use crate::keyring::Keyring;
use crate::secret::{Secret, SecretBytes};

const MAGIC: [u8; 4] = *b"QBKP";
const VERSION: u8 = 1;
const WHAT: &str = "backup of a key";

/// Longest backup, in bytes: one batch has to hold what is in it.
pub const BACKUP_LEN_MAX: usize = 200 * 1024;

/// A backup as it says of itself what it is; only opening it shows whether that is so.
pub struct Backup<'a> {
    lineage: Lineage,
    generation: u32,
    key: KeyId,
    boxed: &'a [u8],
}

impl<'a> Backup<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// When it has not that form.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(WHAT, bytes);
        if r.array()? != MAGIC || r.u8()? != VERSION {
            return Err(Malformed(WHAT));
        }
        let (lineage, generation, key) = (Lineage(r.array()?), r.u32()?, KeyId(r.array()?));
        Ok(Self { lineage, generation, key, boxed: r.rest() })
    }

    /// Of whose data it is.
    pub fn lineage(&self) -> Lineage {
        self.lineage
    }
    /// Of which key.
    pub fn key(&self) -> KeyId {
        self.key
    }
}

fn box_key(generation: u32, backup_key: &Secret<32>) -> Secret<32> {
    derive(backup_key.expose(), Label::Backup, &Writer::new().u32(generation).finish())
}

fn header(lineage: Lineage, generation: u32, key: KeyId) -> Vec<u8> {
    Writer::new().field(&lineage.0).u32(generation).field(&key.0).finish()
}

impl Keyring {
    /// Makes a backup of what is to be kept of a key.
    pub fn seal_backup(&self, lineage: Lineage, key: KeyId, pt: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
        let (generation, backup_key) = self.backup_key();
        let clear = Writer::new().raw(&MAGIC).u8(VERSION).raw(&lineage.0).u32(generation).raw(&key.0).finish();
        let hdr = header(lineage, generation, key);
        boxes::seal_onto(clear, &box_key(generation, backup_key), Label::BackupBox, &hdr, b"", pt, entropy)
    }

    /// What is in a backup.
    ///
    /// # Errors
    /// [`NotOpened`]: it is another cluster's, or was changed, or its key was rolled since.
    pub fn open_backup(&self, backup: &Backup<'_>) -> Result<SecretBytes, NotOpened> {
        let (generation, backup_key) = self.backup_key();
        let hdr = header(backup.lineage, backup.generation, backup.key);
        boxes::open(&box_key(generation, backup_key), Label::BackupBox, &hdr, b"", backup.boxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestEntropy;

    const LINEAGE: Lineage = Lineage([3; 16]);

    fn keyring(seed: u64) -> Keyring {
        Keyring::generate(&Secret::from_array([4; 32]), &TestEntropy::new(seed))
    }
    fn opened(keyring: &Keyring, backup: &[u8]) -> Option<Vec<u8>> {
        keyring.open_backup(&Backup::parse(backup).ok()?).ok().map(|pt| pt.to_vec())
    }

    #[test]
    fn a_backup_opens_where_it_was_made_and_only_whole() {
        let mut own = keyring(1);
        let backup = own.seal_backup(LINEAGE, KeyId([7; 16]), b"a key", &TestEntropy::new(2));
        let read = Backup::parse(&backup).unwrap();
        assert_eq!((read.lineage(), read.key()), (LINEAGE, KeyId([7; 16])));
        own.begin_epoch(9, &Secret::from_array([4; 32]), &TestEntropy::new(5)).unwrap();
        assert_eq!(opened(&own, &backup).as_deref(), Some(&b"a key"[..]), "whatever epochs come and go");
        assert_eq!(opened(&keyring(2), &backup), None, "another cluster's");
        for i in 0..backup.len() {
            let mut bad = backup.clone();
            bad[i] ^= 1;
            assert_eq!(opened(&own, &bad), None, "byte {i}");
            assert_eq!(opened(&own, &backup[..i]), None, "first {i}");
        }
        assert_eq!(opened(&own, &[&backup[..], &[0]].concat()), None);
    }
}
