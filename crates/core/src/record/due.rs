//! That something falls due: found by the hour, which stands first in the record's key.

use super::{BAD_NAME, Formats, Kind, Place, Unreadable};
use crate::codec::{Malformed, Reader, Writer};
use crate::id::{KeyId, KeyVersion};
use crate::record_key::Table;
use crate::time::HOUR_MS;

/// What falls due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Due {
    /// The destruction of a key.
    Deletion(KeyId),
    /// The rotation of a key.
    Rotation(KeyId),
    /// The end of a version's imported material.
    Material(KeyId, KeyVersion),
}

/// Something falls due: `format u8 ‖ at_ms u64`. True name: `kind u8 ‖ key id 16 ‖ version u32`, 0 = the key as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DueRecord {
    /// What.
    pub what: Due,
    /// When exactly, cluster time, ms since 1970.
    pub at_ms: u64,
}

impl DueRecord {
    /// The hour in which `at_ms` lies, as in the record's key.
    pub fn hour(at_ms: u64) -> u32 {
        u32::try_from(at_ms / HOUR_MS).unwrap_or(u32::MAX)
    }
    /// The hour of a record's clear prefix.
    pub fn hour_of(prefix: &[u8]) -> Option<u32> {
        prefix.try_into().ok().map(u32::from_be_bytes)
    }
}

impl Kind for DueRecord {
    type Name = (u32, Due);
    const TABLE: Table = Table::Due;
    const WHAT: &'static str = "due record";
    const FORMATS: Formats = Formats::only(1);

    fn name(&self) -> Self::Name {
        (Self::hour(self.at_ms), self.what)
    }
    fn place((hour, what): &Self::Name) -> Place {
        let (kind, id, version) = match what {
            Due::Deletion(id) => (1, id, 0),
            Due::Rotation(id) => (2, id, 0),
            Due::Material(id, version) => (3, id, version.get()),
        };
        let name = Writer::new().u8(kind).raw(&id.0).u32(version).finish();
        Place { prefix: hour.to_be_bytes().into(), ..Place::named(name) }
    }
    fn find(place: &Place) -> Result<Self::Name, Unreadable> {
        let mut r = Reader::new(Self::WHAT, &place.true_name);
        let (kind, id, version) = (r.u8()?, KeyId(r.array()?), r.u32()?);
        let what = match (kind, KeyVersion::new(version)) {
            (1, None) => Due::Deletion(id),
            (2, None) => Due::Rotation(id),
            (3, Some(version)) => Due::Material(id, version),
            _ => return Err(Unreadable::Newer(Self::WHAT)),
        };
        Ok((Self::hour_of(&place.prefix).ok_or(BAD_NAME)?, what))
    }
    fn write(&self, _: u8, to: Writer) -> Writer {
        to.u64(self.at_ms)
    }
    fn read((hour, what): &Self::Name, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let record = Self { what: *what, at_ms: from.u64()? };
        if Self::hour(record.at_ms) == *hour { Ok(record) } else { Err(Malformed(Self::WHAT).into()) }
    }
}
