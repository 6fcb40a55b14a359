//! One version of a key.

use super::{BAD_NAME, Formats, Kind, Place, Unreadable, begin};
use crate::codec::{Malformed, Reader, Writer};
use crate::id::{KeyId, KeyVersion};
use crate::key_spec::KeySpec;
use crate::record_key::Table;

/// Longest material, in bytes: an RSA-4096 key takes about 2400.
pub const MATERIAL_LEN_MAX: usize = 8 * 1024;

/// One version of a key: `format u8 ‖ spec u16 ‖ created_ms u64 ‖ material field`, the material only in the boxed body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyVersionRecord {
    /// Which key.
    pub key: KeyId,
    /// Which version.
    pub version: KeyVersion,
    /// The kind of its material.
    pub spec: KeySpec,
    /// When it was made (display time, ms since 1970).
    pub created_ms: u64,
}

impl KeyVersionRecord {
    /// Divides an opened body into what is known about the version and its material (borrowed: nothing is copied).
    ///
    /// # Errors
    /// When it has not exactly that form.
    pub fn split(key: KeyId, version: KeyVersion, body: &[u8]) -> Result<(Self, &[u8]), Unreadable> {
        let (_, mut r) = begin::<Self>(body)?;
        let (record, material) = Self::read_split(key, version, &mut r)?;
        r.finish()?;
        Ok((record, material))
    }

    fn read_split<'a>(key: KeyId, version: KeyVersion, from: &mut Reader<'a>) -> Result<(Self, &'a [u8]), Unreadable> {
        let spec = KeySpec::from_code(from.u16()?).ok_or(Unreadable::Newer(Self::WHAT))?;
        let record = Self { key, version, spec, created_ms: from.u64()? };
        let material = from.field(MATERIAL_LEN_MAX)?;
        if spec.material_len().is_some_and(|len| len != material.len()) {
            return Err(Malformed(Self::WHAT).into());
        }
        Ok((record, material))
    }
}

impl Kind for KeyVersionRecord {
    type Name = (KeyId, KeyVersion);
    const TABLE: Table = Table::KeyVersion;
    const WHAT: &'static str = "key version record";
    const FORMATS: Formats = Formats::only(2);

    fn name(&self) -> Self::Name {
        (self.key, self.version)
    }
    fn place((id, version): &Self::Name) -> Place {
        Place { prefix: id.time().into(), suffix: version.get().to_be_bytes().into(), ..Place::named(id.0) }
    }
    fn find(place: &Place) -> Result<Self::Name, Unreadable> {
        let version = place.suffix[..].try_into().map(u32::from_be_bytes).map_err(|_| BAD_NAME)?;
        let id = place.true_name[..].try_into().map(KeyId).map_err(|_| BAD_NAME)?;
        Ok((id, KeyVersion::new(version).ok_or(BAD_NAME)?))
    }
    /// The material has to follow, as a field.
    fn write(&self, _: u8, to: Writer) -> Writer {
        to.u16(self.spec.code()).u64(self.created_ms)
    }
    fn read((key, version): &Self::Name, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        Ok(Self::read_split(*key, *version, from)?.0)
    }
}
