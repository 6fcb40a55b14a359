//! A name for a key.

use super::{BAD_NAME, Formats, Kind, Place, Unreadable};
use crate::codec::{Reader, Writer};
use crate::id::KeyId;
use crate::record_key::Table;
use crate::request::AliasName;

/// An alias: `format u8 ‖ key id 16 ‖ created_ms u64`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AliasRecord {
    /// Its name; the record's true name.
    pub name: AliasName,
    /// The key it stands for.
    pub key: KeyId,
    /// When it was made (display time, ms since 1970).
    pub created_ms: u64,
}

impl Kind for AliasRecord {
    type Name = AliasName;
    const TABLE: Table = Table::Alias;
    const WHAT: &'static str = "alias record";
    const FORMATS: Formats = Formats::only(1);

    fn name(&self) -> AliasName {
        self.name.clone()
    }
    fn place(name: &AliasName) -> Place {
        Place::named(name.as_str())
    }
    fn find(place: &Place) -> Result<AliasName, Unreadable> {
        let text = std::str::from_utf8(&place.true_name).map_err(|_| BAD_NAME)?;
        text.parse().map_err(|_| BAD_NAME)
    }
    fn write(&self, _: u8, to: Writer) -> Writer {
        to.raw(&self.key.0).u64(self.created_ms)
    }
    fn read(name: &AliasName, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        Ok(Self { name: name.clone(), key: KeyId(from.array()?), created_ms: from.u64()? })
    }
}
