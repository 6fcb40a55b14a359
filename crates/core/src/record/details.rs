//! What is told about an object, and no use of it needs: apart from its record, which every use reads.

use super::optional::{Fields, Present};
use super::{BAD_NAME, Formats, Kind, Place, Unreadable};
use crate::codec::{Malformed, Reader, Writer};
use crate::id::KeyId;
use crate::record_key::Table;
use crate::request::{DESCRIPTION_LEN_MAX, Description};

/// What is told about an object; there is one while there is something to tell, which the object's record says.
///
/// ```text
/// format u8 ‖ optional: 1 description
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DetailsRecord {
    /// About which object.
    pub key: KeyId,
    /// Free text.
    pub description: Description,
}

const DESCRIPTION: u8 = 1;
/// Longest description, in bytes.
const LEN_MAX: usize = 4 * DESCRIPTION_LEN_MAX;

impl Kind for DetailsRecord {
    type Name = KeyId;
    const TABLE: Table = Table::Details;
    const WHAT: &'static str = "details record";
    const FORMATS: Formats = Formats::only(1);

    fn name(&self) -> KeyId {
        self.key
    }
    fn place(id: &KeyId) -> Place {
        Place { prefix: id.time().into(), ..Place::named(id.0) }
    }
    fn find(place: &Place) -> Result<KeyId, Unreadable> {
        place.true_name[..].try_into().map(KeyId).map_err(|_| BAD_NAME)
    }
    fn write(&self, _: u8, to: Writer) -> Writer {
        Present::default().field(DESCRIPTION, self.description.as_str().into()).write(to)
    }
    fn read(key: &KeyId, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        const BAD: Malformed = Malformed(DetailsRecord::WHAT);
        let mut fields = Fields::read(from, LEN_MAX, Self::WHAT)?;
        let description = std::str::from_utf8(fields.take(DESCRIPTION)).map_err(|_| BAD)?;
        let description = description.parse().map_err(|_| BAD)?;
        fields.finish(Self::WHAT)?;
        Ok(Self { key: *key, description })
    }
}
