//! A secret of the cluster's own, such as the key that opens audit segments.

use super::{BAD_NAME, Formats, Kind, Place, Unreadable};
use crate::codec::{Reader, Writer};
use crate::record_key::Table;

/// Longest secret, in bytes: private keys of hybrid schemes have a few thousand.
const SECRET_LEN_MAX: usize = 8 * 1024;

/// One of them: `format u8 ‖ secret field`, the secret only in the boxed body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InternalRecord {
    /// Its name.
    pub name: String,
}

impl Kind for InternalRecord {
    type Name = String;
    const TABLE: Table = Table::Internal;
    const WHAT: &'static str = "internal record";
    const FORMATS: Formats = Formats::only(1);

    fn name(&self) -> String {
        self.name.clone()
    }
    fn place(name: &String) -> Place {
        Place::named(name.as_str())
    }
    fn find(place: &Place) -> Result<String, Unreadable> {
        String::from_utf8(place.true_name.clone()).map_err(|_| BAD_NAME)
    }
    /// The secret has to follow, as a field.
    fn write(&self, _: u8, to: Writer) -> Writer {
        to
    }
    fn read(name: &String, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        from.field(SECRET_LEN_MAX)?;
        Ok(Self { name: name.clone() })
    }
}
