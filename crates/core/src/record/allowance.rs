//! How many uses of a version nodes have been given, where a version has only so many.

use super::{BAD_NAME, Formats, Kind, Place, Unreadable};
use crate::codec::{Malformed, Reader, Writer};
use crate::id::{KeyId, KeyVersion};
use crate::record_key::Table;

/// How often one version encrypts by GCM, at most: a random IV of 96 bits is then had twice with a probability below 2^-32
/// (SP 800-38D §8.3).
pub const GCM_USES_MAX: u64 = 1 << 32;
/// From so many on the key is to be rotated.
pub const GCM_USES_DUE: u64 = GCM_USES_MAX / 2;

/// The uses of a version that nodes were given: `format u8 ‖ gcm u64`. They may have made all of them, and no more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AllowanceRecord {
    /// Of which key.
    pub key: KeyId,
    /// Of which version.
    pub version: KeyVersion,
    /// Encryptions by GCM, at most [`GCM_USES_MAX`].
    pub gcm: u64,
}

impl Kind for AllowanceRecord {
    type Name = (KeyId, KeyVersion);
    const TABLE: Table = Table::Allowance;
    const WHAT: &'static str = "allowance record";
    const FORMATS: Formats = Formats::only(1);

    fn name(&self) -> Self::Name {
        (self.key, self.version)
    }
    fn place((id, version): &Self::Name) -> Place {
        Place { prefix: id.time().into(), suffix: version.get().to_be_bytes().into(), ..Place::named(id.0) }
    }
    fn find(place: &Place) -> Result<Self::Name, Unreadable> {
        let id = place.true_name[..].try_into().map(KeyId).map_err(|_| BAD_NAME)?;
        let version = place.suffix[..].try_into().map(u32::from_be_bytes).map_err(|_| BAD_NAME)?;
        Ok((id, KeyVersion::new(version).ok_or(BAD_NAME)?))
    }
    fn write(&self, _: u8, to: Writer) -> Writer {
        to.u64(self.gcm)
    }
    fn read((key, version): &Self::Name, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let gcm = from.u64()?;
        if gcm > GCM_USES_MAX {
            return Err(Malformed(Self::WHAT).into());
        }
        Ok(Self { key: *key, version: *version, gcm })
    }
}
