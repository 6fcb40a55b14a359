//! Where a key's material comes from, and whether it may leave.

use std::str::FromStr;

use super::{KeyRecord, KeyVersionRecord, Kind};
use crate::codec::{Malformed, Reader, Writer};
use crate::id::quoted;
use crate::request::{InvalidRequest, Part};
use crate::time::Time;

/// What is known of a key whose material is imported: `missing u32 ‖ expires_ms u64`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Imported {
    /// How many of its versions up to the current one lack their material, those that are destroyed not counted. With any the key
    /// is not used.
    pub missing: u32,
    /// When the first of the material that is there goes; cluster time, ms since 1970; 0 = all of it stays.
    pub expires_ms: u64,
}

impl Imported {
    /// Of a new key: its one version waits for material.
    pub const NEW: Self = Self { missing: 1, expires_ms: 0 };

    /// Whether material is missing, or its time is over, although it has not been erased yet.
    pub fn lacks(self, now: Time) -> bool {
        self.missing > 0 || now.ended(self.expires_ms)
    }

    /// Of a key with these versions, up to the current one.
    pub(crate) fn of<'a>(versions: impl IntoIterator<Item = &'a KeyVersionRecord>) -> Self {
        let mut of = Self { missing: 0, expires_ms: 0 };
        for head in versions.into_iter().filter(|head| head.life.dates.destroyed == 0) {
            let end = head.life.dates.material_expires;
            match (head.has_material, of.expires_ms) {
                (false, _) => of.missing += 1,
                (true, 0) => of.expires_ms = end,
                (true, _) if end != 0 => of.expires_ms = of.expires_ms.min(end),
                (true, _) => {}
            }
        }
        of
    }

    fn encode(self) -> Vec<u8> {
        Writer::new().u32(self.missing).u64(self.expires_ms).finish()
    }
    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(KeyRecord::WHAT, bytes);
        let imported = Self { missing: r.u32()?, expires_ms: r.u64()? };
        r.finish()?;
        Ok(imported)
    }
}

/// Where an object's material comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// It is made here; a secret's, brought with each version.
    Here,
    /// It is imported.
    Imported(Imported),
    /// There is none, and none is missing: this is somebody else's public key, which its versions hold.
    Public,
}

impl Origin {
    /// What is known of imported material, if it is that.
    pub const fn imported(self) -> Option<Imported> {
        match self {
            Self::Imported(imported) => Some(imported),
            Self::Here | Self::Public => None,
        }
    }

    /// Nothing for what is made here, as nearly all is; what is known of imported material; one byte, 1, for a public key.
    pub(super) fn encode(self) -> Vec<u8> {
        match self {
            Self::Here => Vec::new(),
            Self::Imported(imported) => imported.encode(),
            Self::Public => vec![1],
        }
    }
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match bytes {
            [] => Ok(Self::Here),
            [1] => Ok(Self::Public),
            bytes => Imported::decode(bytes).map(Self::Imported),
        }
    }
}

/// Whether a key's material may leave the cluster: said when the key is made, and only ever lowered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub enum Exportable {
    /// Never.
    #[default]
    No,
    /// Wrapped under another key.
    Wrapped,
    /// As it is, too.
    Plain,
}

impl Exportable {
    /// Each of them.
    pub const ALL: [Self; 3] = [Self::No, Self::Wrapped, Self::Plain];

    /// As shown to people and clients.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::Wrapped => "wrapped",
            Self::Plain => "plain",
        }
    }

    /// One byte; nothing for what nearly all keys are.
    pub(super) fn encode(self) -> Vec<u8> {
        match self {
            Self::No => Vec::new(),
            Self::Wrapped => vec![1],
            Self::Plain => vec![2],
        }
    }
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        Self::ALL.into_iter().find(|one| one.encode() == bytes).ok_or(Malformed(KeyRecord::WHAT))
    }
}

impl FromStr for Exportable {
    type Err = InvalidRequest;
    fn from_str(text: &str) -> Result<Self, InvalidRequest> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or_else(|| {
            let why = format!("{} does not say whether a key may be exported; say no, wrapped or plain", quoted(text));
            InvalidRequest::wrong(Part::Exportable, why)
        })
    }
}
