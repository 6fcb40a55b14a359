//! The records that decisions read and write: what they say, what they are called, and their bytes. A file for each kind.
//!
//! These are the bytes *inside* the box of key-hierarchy §1a, after the true name. The first byte is the version of that
//! kind's format. Material never appears here: a version's body ends with it, and only the service, with `crypto`, adds and
//! takes it off ([`KeyVersionRecord::split`]).

mod allowance;
mod credential;
mod destruction;
mod details;
mod due;
mod duty;
mod idempotency;
mod internal;
mod invitation;
mod key;
mod key_version;
mod last_use;
mod material;
mod member;
mod name;
mod namespace;
mod optional;
mod seal;

use thiserror::Error;

use crate::codec::{Malformed, Reader, Writer};
use crate::level::Level;
use crate::record_key::{RecordKey, Table};
use crate::request::KeyHandle;
use crate::stack::{HASH_LEN, scrubbed};

pub use allowance::{AllowanceRecord, GCM_USES_DUE, GCM_USES_MAX};
pub use credential::{CredentialRecord, PrincipalRecord, Revoked};
pub use destruction::{Cause, DestructionRecord, Gone, LISTED_MAX, More, Scheduled};
pub use details::DetailsRecord;
pub use due::{Due, DueRecord};
pub use duty::{Duty, DutyRecord};
pub use idempotency::IdempotencyRecord;
pub use internal::InternalRecord;
pub use invitation::{Applicant, Invitation, TokenHash};
pub use key::{KeyRecord, Rotation};
pub use key_version::{KeyVersionRecord, MATERIAL_LEN_MAX, MaterialId, PUBLIC_LEN_MAX};
pub use last_use::{Tally, UseRecord};
pub use material::{Exportable, Imported, Origin};
pub use member::{MemberRecord, Statement};
pub use name::NameRecord;
pub use namespace::{NamespaceCountRecord, NamespaceNameRecord, NamespaceRecord, NamespaceSettings, NamespaceState};
pub use seal::SealRecord;

/// A kind of record: where it is kept, and its bytes.
pub trait Kind: Sized {
    /// What tells it from others of its kind.
    type Name;
    /// Where it is kept.
    const TABLE: Table;
    /// What it is called in errors.
    const WHAT: &'static str;
    /// Its formats.
    const FORMATS: Formats;

    /// Its name.
    fn name(&self) -> Self::Name;
    /// Where a record of that name is.
    fn place(name: &Self::Name) -> Place;
    /// The name of the record in a place. Whoever calls this compares the name's own place with it.
    ///
    /// # Errors
    /// When there is none, or one that this version does not know.
    fn find(place: &Place) -> Result<Self::Name, Unreadable>;
    /// Appends what follows the format, in that one.
    fn write(&self, format: u8, to: Writer) -> Writer;
    /// Reads what follows the format, in that one, of the record of that name.
    ///
    /// # Errors
    /// When it is not canonical, or has what this version does not know.
    fn read(name: &Self::Name, format: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable>;
}

/// The formats of one kind of record, each one more than the one before. All are read always; the newest is written that the
/// cluster's level allows: then every member reads it, whatever it runs.
#[derive(Clone, Copy, Debug)]
pub struct Formats {
    /// The oldest that this build reads; written before any later one is.
    oldest: u8,
    /// The level from which on each later one is written, ascending.
    later: &'static [Level],
}

impl Formats {
    /// A kind that has had no other.
    pub const fn only(format: u8) -> Self {
        Self { oldest: format, later: &[] }
    }

    /// The one that is written while that level is in force.
    fn at(self, level: Level) -> u8 {
        self.oldest + self.later.iter().take_while(|from| **from <= level).count() as u8
    }

    /// The newest that this build knows.
    fn newest(self) -> u8 {
        self.oldest + self.later.len() as u8
    }
}

/// A kind among all: [`Record`] and [`RecordName`] are sums over these.
pub trait Stored {
    /// What tells it from others of its kind.
    type Name;
    /// What the record of that name is called among all.
    fn named(name: Self::Name) -> RecordName;
    /// The record, if it is of this kind.
    fn of(record: &Record) -> Option<&Self>;
}

impl Stored for SealRecord {
    type Name = RecordKey;
    fn named(key: RecordKey) -> RecordName {
        RecordName::Seal(key)
    }
    fn of(record: &Record) -> Option<&Self> {
        if let Record::Seal(record) = record { Some(record) } else { None }
    }
}

impl From<SealRecord> for Record {
    fn from(record: SealRecord) -> Self {
        Self::Seal(record)
    }
}

/// What a record's key is made of, but for the table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// Stands in clear before the name.
    pub prefix: Vec<u8>,
    /// Is blinded into the key, and stands in clear at the head of the boxed value.
    pub true_name: Vec<u8>,
    /// Stands in clear after the name.
    pub suffix: Vec<u8>,
}

impl Place {
    /// In a table that has neither prefix nor suffix.
    fn named(true_name: impl Into<Vec<u8>>) -> Self {
        Self { true_name: true_name.into(), ..Self::default() }
    }
}

/// Why a record can't be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum Unreadable {
    /// It is not what was written.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// A newer version wrote it.
    #[error("{0} of a format that this version does not know")]
    Newer(&'static str),
}

/// What no record is called.
const BAD_NAME: Unreadable = Unreadable::Malformed(Malformed("true name of a record"));

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident($record:ident)),+ $(,)?) => {
        /// Any record of the tables that decisions write.
        #[derive(Clone, PartialEq, Eq, Debug)]
        pub enum Record {
            $($(#[$doc])* $kind($record),)+
            /// One of table 0, which is not boxed.
            Seal(SealRecord),
        }

        /// The name of any record, before blinding.
        #[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
        pub enum RecordName {
            $($(#[$doc])* $kind(<$record as Kind>::Name),)+
            /// One of table 0, where nothing is blinded.
            Seal(RecordKey),
        }

        $(impl Stored for $record {
            type Name = <Self as Kind>::Name;
            fn named(name: Self::Name) -> RecordName {
                RecordName::$kind(name)
            }
            fn of(record: &Record) -> Option<&Self> {
                if let Record::$kind(record) = record { Some(record) } else { None }
            }
        }

        impl From<$record> for Record {
            fn from(record: $record) -> Self {
                Self::$kind(record)
            }
        })+

        impl Record {
            /// Its name.
            pub fn name(&self) -> RecordName {
                match self {
                    $(Self::$kind(record) => RecordName::$kind(record.name()),)+
                    Self::Seal(record) => RecordName::Seal(record.key.clone()),
                }
            }
            /// Its body, but for the secret that may have to follow, in a cluster that works at that level.
            pub fn encode(&self, level: Level) -> Vec<u8> {
                match self {
                    $(Self::$kind(record) => encode(record, level),)+
                    Self::Seal(record) => record.value.clone(),
                }
            }
            /// Reads the body of the record called `name`; a secret in it is skipped.
            ///
            /// # Errors
            /// When the body is not canonical, or of a format a newer version wrote.
            pub fn decode(name: &RecordName, body: &[u8]) -> Result<Self, Unreadable> {
                match name {
                    $(RecordName::$kind(name) => decode(name, body).map(Self::$kind),)+
                    RecordName::Seal(key) => Ok(Self::Seal(SealRecord { key: key.clone(), value: body.to_vec() })),
                }
            }
        }

        impl RecordName {
            /// Its table.
            pub fn table(&self) -> Table {
                match self { $(Self::$kind(_) => $record::TABLE,)+ Self::Seal(_) => Table::Seal }
            }
            /// Where it is in the table; nothing of table 0 is blinded.
            fn place(&self) -> Place {
                match self { $(Self::$kind(name) => $record::place(name),)+ Self::Seal(_) => Place::default() }
            }
            fn find(table: Table, place: &Place) -> Result<Self, Unreadable> {
                // Of kinds that share a table, each knows its own names.
                let mut found = Err(BAD_NAME);
                $(if table == $record::TABLE && found == Err(BAD_NAME) {
                    found = $record::find(place).map(Self::$kind);
                })+
                found
            }
        }
    };
}

kinds! {
    /// A key.
    Key(KeyRecord),
    /// A version of a key.
    KeyVersion(KeyVersionRecord),
    /// A name.
    Name(NameRecord),
    /// That something falls due in an hour since 1970.
    Due(DueRecord),
    /// The answer to a principal's token.
    Idempotency(IdempotencyRecord),
    /// A duty's lease.
    Duty(DutyRecord),
    /// An approved member.
    Member(MemberRecord),
    /// An invitation.
    Invitation(Invitation),
    /// A secret of the cluster's own.
    Internal(InternalRecord),
    /// What is told about a key.
    Details(DetailsRecord),
    /// Uses of a version that nodes were given.
    Allowance(AllowanceRecord),
    /// What a node has done with a key.
    Use(UseRecord),
    /// A namespace.
    Namespace(NamespaceRecord),
    /// What a namespace is called.
    NamespaceName(NamespaceNameRecord),
    /// How many namespaces there have been.
    NamespaceCount(NamespaceCountRecord),
    /// Somebody of whom more is known than a credential says.
    Principal(PrincipalRecord),
    /// A credential of which more is known than it says itself.
    Credential(CredentialRecord),
    /// That a version, or a whole key, was destroyed.
    Destruction(DestructionRecord),
}

fn encode<K: Kind>(record: &K, level: Level) -> Vec<u8> {
    let format = K::FORMATS.at(level);
    record.write(format, Writer::new().u8(format)).finish()
}

fn decode<K: Kind>(name: &K::Name, body: &[u8]) -> Result<K, Unreadable> {
    let (format, mut r) = begin::<K>(body)?;
    let record = K::read(name, format, &mut r)?;
    r.finish()?;
    Ok(record)
}

/// The format of a body, and what follows it.
fn begin<K: Kind>(body: &[u8]) -> Result<(u8, Reader<'_>), Unreadable> {
    let mut r = Reader::new(K::WHAT, body);
    match r.u8()? {
        format if format > K::FORMATS.newest() => Err(Unreadable::Newer(K::WHAT)),
        format if format < K::FORMATS.oldest => Err(Malformed(K::WHAT).into()),
        format => Ok((format, r)),
    }
}

impl RecordName {
    /// The bytes that are blinded into the key and stand, in clear, at the head of the boxed value.
    pub fn true_name(&self) -> Vec<u8> {
        self.place().true_name
    }
    /// The key of the record; `blind` makes the blinded name of a true one.
    pub fn key(&self, blind: impl FnOnce(Table, &[u8]) -> [u8; 32]) -> RecordKey {
        if let Self::Seal(key) = self {
            return key.clone();
        }
        let Place { prefix, true_name, suffix } = self.place();
        RecordKey::with(self.table(), &prefix, blind(self.table(), &true_name), &suffix)
    }
    /// The name of a record found by scanning, from its key and the true name in its box.
    ///
    /// # Errors
    /// When that is no name of its table, or what stands in clear in the key is not the name's.
    pub fn parse(key: &RecordKey, true_name: &[u8]) -> Result<Self, Unreadable> {
        if key.table() == Table::Seal {
            return Ok(Self::Seal(key.clone()));
        }
        let (prefix, suffix) = (key.prefix().to_vec(), key.suffix().to_vec());
        let place = Place { prefix, true_name: true_name.to_vec(), suffix };
        let name = Self::find(key.table(), &place)?;
        if name.place() == place { Ok(name) } else { Err(BAD_NAME) }
    }
}

/// Hash of a request's parameters: verb and fields, canonically encoded. The same token for others is refused.
pub fn request_hash(verb: &str, fields: &[&[u8]]) -> [u8; 32] {
    let mut w = Writer::new().field(verb.as_bytes());
    for field in fields {
        w = w.field(field);
    }
    let fields = w.finish();
    scrubbed::<HASH_LEN, _>(|| blake3::derive_key("quorate/v1/request-hash", &fields))
}

/// The canonical bytes of a handle, for [`request_hash`].
pub fn handle_bytes(handle: &KeyHandle) -> Vec<u8> {
    match handle {
        KeyHandle::Id(id) => Writer::new().u8(1).raw(&id.0).finish(),
        KeyHandle::Alias(name) => Writer::new().u8(2).raw(name.as_str().as_bytes()).finish(),
        KeyHandle::Key(name) => Writer::new().u8(3).raw(name.folded().as_bytes()).finish(),
        KeyHandle::Secret(name) => Writer::new().u8(4).raw(name.folded().as_bytes()).finish(),
    }
}

#[cfg(test)]
pub(crate) mod destruction_tests;
#[cfg(test)]
mod tests;
