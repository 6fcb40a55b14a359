//! Namespaces: each by its number, and by what it is called; and how many numbers were given out. All in one table, where the first
//! byte of a true name tells them apart.

use super::optional::{Fields, Present};
use super::{BAD_NAME, Exportable, Formats, Kind, Place, Unreadable};
use crate::codec::{Malformed, Reader, Writer};
use crate::id::Namespace;
use crate::name::NamespaceName;
use crate::record_key::Table;

const BY_NUMBER: u8 = 1;
const BY_NAME: u8 = 2;
const COUNT: u8 = 3;

/// Whether things are made in a namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NamespaceState {
    /// They are.
    Live,
    /// Nothing is made any more: it is being looked whether it is empty, and goes then.
    Deleting,
}

/// What may be made in a namespace, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NamespaceSettings {
    /// How far the material of keys that are made there may leave, at most.
    pub exportable: Exportable,
    /// Whether it is written down when keys that are made there were used last.
    pub tracked: bool,
}

impl Default for NamespaceSettings {
    /// Those of the first: they forbid nothing.
    fn default() -> Self {
        Self { exportable: Exportable::Plain, tracked: true }
    }
}

/// A namespace; the first has no record. `format u8 ‖ state u8 ‖ marks u32 ‖ created_ms u64 ‖ updated_ms u64 ‖ name field ‖ optional
/// fields`: 1 = one byte that says less than "plain" of exports, 2 = uses are not noted. True name: `1 ‖ number u32`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceRecord {
    /// Its number.
    pub number: Namespace,
    /// What it is called.
    pub name: NamespaceName,
    /// Whether things are made there.
    pub state: NamespaceState,
    /// How often it was to be deleted: who looked whether it is empty knows by this whether anything was made since.
    pub marks: u32,
    /// When it was made (display time, ms since 1970).
    pub created_ms: u64,
    /// When it was last changed (display time, ms since 1970).
    pub updated_ms: u64,
    /// What may be made there.
    pub settings: NamespaceSettings,
}

const EXPORTABLE: u8 = 1;
const UNTRACKED: u8 = 2;

impl Kind for NamespaceRecord {
    type Name = Namespace;
    const TABLE: Table = Table::Namespace;
    const WHAT: &'static str = "namespace record";
    const FORMATS: Formats = Formats::only(1);

    fn name(&self) -> Namespace {
        self.number
    }
    fn place(number: &Namespace) -> Place {
        Place::named(Writer::new().u8(BY_NUMBER).u32(number.0).finish())
    }
    fn find(place: &Place) -> Result<Namespace, Unreadable> {
        match place.true_name[..] {
            [BY_NUMBER, a, b, c, d] => Ok(Namespace(u32::from_be_bytes([a, b, c, d]))),
            _ => Err(BAD_NAME),
        }
    }
    fn write(&self, _: u8, to: Writer) -> Writer {
        let state = match self.state {
            NamespaceState::Live => 1,
            NamespaceState::Deleting => 2,
        };
        let NamespaceSettings { exportable, tracked } = self.settings;
        let most = match exportable {
            Exportable::Plain => Vec::new(),
            Exportable::Wrapped => vec![1],
            Exportable::No => vec![0],
        };
        let fixed = to.u8(state).u32(self.marks).u64(self.created_ms).u64(self.updated_ms);
        Present::default()
            .field(EXPORTABLE, most)
            .field(UNTRACKED, if tracked { Vec::new() } else { vec![1] })
            .write(fixed.field(self.name.as_str().as_bytes()))
    }
    fn read(number: &Namespace, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        const BAD: Malformed = Malformed(NamespaceRecord::WHAT);
        let state = match from.u8()? {
            1 => NamespaceState::Live,
            2 => NamespaceState::Deleting,
            _ => return Err(BAD.into()),
        };
        let (marks, created_ms, updated_ms) = (from.u32()?, from.u64()?, from.u64()?);
        let name = read_name(from.text(NamespaceName::LEN_MAX)?).ok_or(BAD)?;
        let mut fields = Fields::read(from, 1, Self::WHAT)?;
        let exportable = match fields.take(EXPORTABLE) {
            [] => Exportable::Plain,
            [0] => Exportable::No,
            [1] => Exportable::Wrapped,
            _ => return Err(BAD.into()),
        };
        let tracked = match fields.take(UNTRACKED) {
            [] => true,
            [1] => false,
            _ => return Err(BAD.into()),
        };
        fields.finish(Self::WHAT)?;
        let settings = NamespaceSettings { exportable, tracked };
        Ok(Self { number: *number, name, state, marks, created_ms, updated_ms, settings })
    }
}

/// As it is kept: one name has one spelling.
fn read_name(text: &str) -> Option<NamespaceName> {
    text.parse().ok().filter(|name: &NamespaceName| name.as_str() == text)
}

/// Which namespace is called so: `format u8 ‖ number u32`. True name: `2 ‖ name`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceNameRecord {
    /// The name.
    pub name: NamespaceName,
    /// The namespace.
    pub number: Namespace,
}

impl Kind for NamespaceNameRecord {
    type Name = NamespaceName;
    const TABLE: Table = Table::Namespace;
    const WHAT: &'static str = "namespace name record";
    const FORMATS: Formats = Formats::only(1);

    fn name(&self) -> NamespaceName {
        self.name.clone()
    }
    fn place(name: &NamespaceName) -> Place {
        Place::named(Writer::new().u8(BY_NAME).raw(name.as_str().as_bytes()).finish())
    }
    fn find(place: &Place) -> Result<NamespaceName, Unreadable> {
        let text = place.true_name.strip_prefix(&[BY_NAME]).and_then(|text| std::str::from_utf8(text).ok());
        text.and_then(read_name).ok_or(BAD_NAME)
    }
    fn write(&self, _: u8, to: Writer) -> Writer {
        to.u32(self.number.0)
    }
    fn read(name: &NamespaceName, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        Ok(Self { name: name.clone(), number: Namespace(from.u32()?) })
    }
}

/// The last number that was given out, whatever became of that namespace: `format u8 ‖ number u32`. True name: `3`. Absent: none was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceCountRecord {
    /// The number.
    pub last: Namespace,
}

impl Kind for NamespaceCountRecord {
    type Name = ();
    const TABLE: Table = Table::Namespace;
    const WHAT: &'static str = "namespace count record";
    const FORMATS: Formats = Formats::only(1);

    fn name(&self) {}
    fn place((): &()) -> Place {
        Place::named([COUNT])
    }
    fn find(place: &Place) -> Result<(), Unreadable> {
        if place.true_name[..] == [COUNT] { Ok(()) } else { Err(BAD_NAME) }
    }
    fn write(&self, _: u8, to: Writer) -> Writer {
        to.u32(self.last.0)
    }
    fn read((): &(), _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        Ok(Self { last: Namespace(from.u32()?) })
    }
}
