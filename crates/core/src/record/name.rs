//! A name of an object.

use super::{BAD_NAME, Formats, KeyRecord, Kind, Place, Unreadable};
use crate::codec::{Malformed, Reader, Writer};
use crate::id::{KeyId, Namespace};
use crate::name::{FoldedName, Named, ObjectName, Space};
use crate::record_key::Table;

/// A name: `format u8 ‖ object id 16 ‖ created_ms u64 ‖ updated_ms u64 ‖ name as written`. True name: `namespace u32 ‖ space u8 ‖
/// name as it is found`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NameRecord {
    /// The namespace that it is unique in.
    pub namespace: Namespace,
    /// The name, as it was written.
    pub named: Named,
    /// The object it stands for.
    pub key: KeyId,
    /// When it was made (display time, ms since 1970).
    pub created_ms: u64,
    /// When it was last moved (display time, ms since 1970).
    pub updated_ms: u64,
}

impl NameRecord {
    /// A new name of that object, in whose namespace it is.
    pub fn new(named: Named, of: &KeyRecord, created_ms: u64) -> Self {
        Self { namespace: of.namespace, named, key: of.id, created_ms, updated_ms: created_ms }
    }
}

impl Kind for NameRecord {
    type Name = FoldedName;
    const TABLE: Table = Table::Name;
    const WHAT: &'static str = "name record";
    const FORMATS: Formats = Formats::only(2);

    fn name(&self) -> FoldedName {
        self.named.folded(self.namespace)
    }
    fn place(name: &FoldedName) -> Place {
        let head = Writer::new().u32(name.namespace.0).u8(name.space.code());
        Place::named(head.raw(name.text.as_bytes()).finish())
    }
    fn find(place: &Place) -> Result<FoldedName, Unreadable> {
        let mut r = Reader::new(Self::WHAT, &place.true_name);
        let namespace = Namespace(r.u32()?);
        let space = Space::from_code(r.u8()?).ok_or(Unreadable::Newer(Self::WHAT))?;
        let text = std::str::from_utf8(r.rest()).map_err(|_| BAD_NAME)?;
        let folded = FoldedName { namespace, space, text: text.to_owned() };
        let named = Named::parse(space, text).ok().filter(|named| named.folded(namespace) == folded);
        named.map(|_| folded).ok_or(BAD_NAME)
    }
    fn write(&self, _: u8, to: Writer) -> Writer {
        to.raw(&self.key.0).u64(self.created_ms).u64(self.updated_ms).field(self.named.as_str().as_bytes())
    }
    fn read(name: &FoldedName, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        let (key, created_ms, updated_ms) = (KeyId(from.array()?), from.u64()?, from.u64()?);
        let written = from.text(ObjectName::LEN_MAX)?;
        let named = Named::parse(name.space, written).ok().filter(|named| named.folded(name.namespace) == *name);
        Ok(Self { namespace: name.namespace, named: named.ok_or(Malformed(Self::WHAT))?, key, created_ms, updated_ms })
    }
}
