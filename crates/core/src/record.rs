//! The records of keys: what they say, what they are called, and their bytes.
//!
//! These are the bytes *inside* the box of key-hierarchy §1a, after the true name. The first byte is the version of
//! that record's format. Material never appears here: a version record's body ends with it, and only the service,
//! with `crypto`, adds and takes it off ([`KeyVersionRecord::split`]).

use std::collections::BTreeSet;

use crate::codec::{Malformed, Reader, Writer};
use crate::id::{KeyId, KeyVersion, NodeId};
use crate::lifecycle::{KeyState, NoWay, VersionState};
use crate::principal::Principal;
use crate::record_key::{RecordKey, Table};
use crate::request::{ALIASES_PER_KEY_MAX, AliasName, DESCRIPTION_LEN_MAX, Description, KeyHandle, Token};

/// Version of the record formats this build writes.
pub const FORMAT: u8 = 1;
/// Length of the material of an AES-256 key, in bytes.
pub const MATERIAL_LEN: usize = 32;

/// Work that one unsealed node at a time does for the cluster (key-log §2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Duty {
    /// Destroys keys that are due.
    Destroy,
    /// Removes answers to client tokens after a day.
    Sweep,
}

impl Duty {
    /// Its name in the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Destroy => "destroy",
            Self::Sweep => "sweep",
        }
    }
}

/// The true name of a record, before blinding.
#[derive(Clone, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub enum RecordName {
    /// A key's record.
    Key(KeyId),
    /// One version of a key.
    KeyVersion(KeyId, KeyVersion),
    /// An alias.
    Alias(AliasName),
    /// That a key falls due in that hour since 1970.
    Due(u32, KeyId),
    /// The answer to a principal's token.
    Idempotency(Principal, Token),
    /// The lease of a duty.
    Duty(Duty),
}

impl RecordName {
    /// Its table.
    pub fn table(&self) -> Table {
        match self {
            Self::Key(_) => Table::Key,
            Self::KeyVersion(..) => Table::KeyVersion,
            Self::Alias(_) => Table::Alias,
            Self::Due(..) => Table::Due,
            Self::Idempotency(..) => Table::Idempotency,
            Self::Duty(_) => Table::Duty,
        }
    }
    /// The bytes that are blinded into the key and stand, in clear, at the head of the boxed value.
    pub fn true_name(&self) -> Vec<u8> {
        match self {
            Self::Key(id) | Self::KeyVersion(id, _) | Self::Due(_, id) => id.0.to_vec(),
            Self::Alias(name) => name.as_str().as_bytes().to_vec(),
            Self::Idempotency(who, token) => Writer::new().field(who.to_string().as_bytes()).raw(&token.0).finish(),
            Self::Duty(duty) => duty.as_str().as_bytes().to_vec(),
        }
    }
    /// The clear suffix, in the tables that have one.
    pub fn number(&self) -> Option<u32> {
        match self {
            Self::KeyVersion(_, version) => Some(version.get()),
            Self::Due(hour, _) => Some(*hour),
            _ => None,
        }
    }
    /// The key of the record, given its blinded name.
    pub fn key(&self, blind: [u8; 32]) -> RecordKey {
        match self.number() {
            Some(number) => RecordKey::with_number(self.table(), blind, number),
            None => RecordKey::new(self.table(), blind),
        }
    }
    /// The name of a record found by scanning, from its key and the true name in its box.
    pub fn parse(key: &RecordKey, true_name: &[u8]) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed("true name of a record");
        let id = || true_name.try_into().map(KeyId).map_err(|_| BAD);
        let text = |bytes| std::str::from_utf8(bytes).map_err(|_| BAD);
        match key.table() {
            Table::Key => Ok(Self::Key(id()?)),
            Table::KeyVersion => {
                let version = key.number().and_then(KeyVersion::new).ok_or(BAD)?;
                Ok(Self::KeyVersion(id()?, version))
            }
            Table::Alias => Ok(Self::Alias(text(true_name)?.parse().map_err(|_| BAD)?)),
            Table::Due => Ok(Self::Due(key.number().ok_or(BAD)?, id()?)),
            Table::Idempotency => {
                let mut r = Reader::new("true name of a record", true_name);
                let (role, name) = r.text(128)?.split_once('/').ok_or(BAD)?;
                let token = Token(r.array()?);
                r.finish()?;
                let role = role.parse().map_err(|_| BAD)?;
                Ok(Self::Idempotency(Principal { role, name: name.parse().map_err(|_| BAD)? }, token))
            }
            Table::Duty => [Duty::Destroy, Duty::Sweep]
                .into_iter()
                .find(|duty| duty.as_str().as_bytes() == true_name)
                .map(Self::Duty)
                .ok_or(BAD),
            _ => Err(BAD),
        }
    }
}

/// What a key's material is for. AES-256-GCM in the committing form of key-hierarchy §3.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// 256-bit symmetric key.
    Aes256,
}

impl Algorithm {
    /// As shown to people and clients.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aes256 => "AES_256",
        }
    }
}

/// One key, all but its material.
///
/// ```text
/// format u8 ‖ state u8 ‖ at_ms u64 ‖ algorithm u8 ‖ current u32 ‖ destroyed through u32 ‖ created_ms u64 ‖ rotated_ms u64
///   ‖ description field ‖ n u16 × alias field
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRecord {
    /// Its id; the record's true name.
    pub id: KeyId,
    /// Whether it may be used.
    pub state: KeyState,
    /// What it is for.
    pub algorithm: Algorithm,
    /// The version that encrypts; all before it decrypt.
    pub current: KeyVersion,
    /// While it is destroyed: versions up to this number are gone already. 0 before.
    pub destroyed_through: u32,
    /// When it was made (display time, ms since 1970).
    pub created_ms: u64,
    /// When the current version was made, or 0 while it is the first.
    pub rotated_ms: u64,
    /// Free text.
    pub description: Description,
    /// Its aliases, so that they go with it.
    pub aliases: BTreeSet<AliasName>,
}

impl KeyRecord {
    /// The version that may protect (encrypt) now.
    ///
    /// # Errors
    /// [`NoWay`] unless the key is enabled.
    pub fn protect(&self) -> Result<KeyVersion, NoWay> {
        self.state.usable().map(|()| self.current)
    }
    /// Whether `version` may process (decrypt) now; `None` = there is no such version.
    ///
    /// # Errors
    /// [`NoWay`] unless the key is enabled.
    pub fn process(&self, version: KeyVersion) -> Result<Option<VersionState>, NoWay> {
        self.state.usable().map(|()| VersionState::of(version, self.current))
    }

    fn encode(&self) -> Vec<u8> {
        let (state, at_ms) = match self.state {
            KeyState::Enabled => (1, 0),
            KeyState::Disabled => (2, 0),
            KeyState::PendingDeletion { at_ms } => (3, at_ms),
            KeyState::Destroyed => (4, 0),
        };
        let Algorithm::Aes256 = self.algorithm;
        let mut w = Writer::new()
            .u8(FORMAT)
            .u8(state)
            .u64(at_ms)
            .u8(1)
            .u32(self.current.get())
            .u32(self.destroyed_through)
            .u64(self.created_ms)
            .u64(self.rotated_ms)
            .field(self.description.as_str().as_bytes())
            .u16(self.aliases.len() as u16);
        for alias in &self.aliases {
            w = w.field(alias.as_str().as_bytes());
        }
        w.finish()
    }

    fn decode(id: KeyId, bytes: &[u8]) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed("key record");
        let mut r = open("key record", bytes)?;
        let state = match (r.u8()?, r.u64()?) {
            (1, 0) => KeyState::Enabled,
            (2, 0) => KeyState::Disabled,
            (3, at_ms) => KeyState::PendingDeletion { at_ms },
            (4, 0) => KeyState::Destroyed,
            _ => return Err(BAD),
        };
        if r.u8()? != 1 {
            return Err(BAD);
        }
        let mut record = Self {
            id,
            state,
            algorithm: Algorithm::Aes256,
            current: KeyVersion::new(r.u32()?).ok_or(BAD)?,
            destroyed_through: r.u32()?,
            created_ms: r.u64()?,
            rotated_ms: r.u64()?,
            description: r.text(DESCRIPTION_LEN_MAX)?.parse().map_err(|_| BAD)?,
            aliases: BTreeSet::new(),
        };
        let n = usize::from(r.u16()?);
        for _ in 0..n {
            let alias: AliasName = r.text(crate::id::Name::LEN_MAX)?.parse().map_err(|_| BAD)?;
            // Ascending order and no duplicates: one record has one encoding.
            if record.aliases.last().is_some_and(|last| *last >= alias) {
                return Err(BAD);
            }
            record.aliases.insert(alias);
        }
        r.finish()?;
        if n > ALIASES_PER_KEY_MAX { Err(BAD) } else { Ok(record) }
    }
}

/// One version of a key: `format u8 ‖ created_ms u64 ‖ material 32`, the material only in the boxed body.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyVersionRecord {
    /// Which key.
    pub key: KeyId,
    /// Which version.
    pub version: KeyVersion,
    /// When it was made (display time, ms since 1970).
    pub created_ms: u64,
}

impl KeyVersionRecord {
    /// Length of the body before the material, in bytes.
    pub const HEAD_LEN: usize = 9;

    fn encode(&self) -> Vec<u8> {
        Writer::new().u8(FORMAT).u64(self.created_ms).finish()
    }

    /// Divides an opened body into what is known about the version and its material (borrowed: nothing is copied).
    ///
    /// # Errors
    /// When it has not exactly that form.
    pub fn split(key: KeyId, version: KeyVersion, body: &[u8]) -> Result<(Self, &[u8; MATERIAL_LEN]), Malformed> {
        const BAD: Malformed = Malformed("key version record");
        let mut r = open("key version record", body)?;
        let created_ms = r.u64()?;
        let material = r.rest().try_into().map_err(|_| BAD)?;
        Ok((Self { key, version, created_ms }, material))
    }
}

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

/// That a key falls due: `format u8 ‖ at_ms u64`. The hour stands in the record's key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DueRecord {
    /// Which key.
    pub key: KeyId,
    /// When exactly, cluster time, ms since 1970.
    pub at_ms: u64,
}

impl DueRecord {
    /// The hour in which `at_ms` lies, as in the record's key.
    pub fn hour(at_ms: u64) -> u32 {
        u32::try_from(at_ms / crate::time::HOUR_MS).unwrap_or(u32::MAX)
    }
}

/// What was answered to a token: `format u8 ‖ request hash 32 ‖ created_ms u64 ‖ key id 16 ‖ key record field`; with
/// several keys in the answer `format 2 ‖ request hash ‖ created_ms ‖ n u16 ‖ n × {key id ‖ key record field}`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdempotencyRecord {
    /// Whose token.
    pub principal: Principal,
    /// The token.
    pub token: Token,
    /// Hash of the request's parameters: the same token with others is refused.
    pub request_hash: [u8; 32],
    /// Cluster time when it was written, ms since 1970; swept a day later.
    pub created_ms: u64,
    /// What was answered.
    pub answer: Answer,
}

impl IdempotencyRecord {
    const SEVERAL: u8 = 2;
    const KEY_LEN_MAX: usize = 64 * 1024;

    fn encode(&self) -> Vec<u8> {
        let head = |format| Writer::new().u8(format).raw(&self.request_hash).u64(self.created_ms);
        let Answer { first, more } = &self.answer;
        match more.len() {
            0 => head(FORMAT).raw(&first.id.0).field(&first.encode()),
            n => {
                let w = head(Self::SEVERAL).u16(n as u16 + 1);
                self.answer.iter().fold(w, |w, key| w.raw(&key.id.0).field(&key.encode()))
            }
        }
        .finish()
    }

    fn decode(principal: Principal, token: Token, body: &[u8]) -> Result<Self, Malformed> {
        const BAD: Malformed = Malformed("idempotency record");
        let mut r = Reader::new("idempotency record", body);
        let format = r.u8()?;
        let (request_hash, created_ms) = (r.array()?, r.u64()?);
        let n = match format {
            FORMAT => 1,
            Self::SEVERAL => Some(r.u16()?).filter(|n| *n > 1).ok_or(BAD)?,
            _ => return Err(BAD),
        };
        let mut key = || KeyRecord::decode(KeyId(r.array()?), r.field(Self::KEY_LEN_MAX)?);
        let answer = Answer { first: key()?, more: (1..n).map(|_| key()).collect::<Result<_, _>>()? };
        r.finish()?;
        Ok(Self { principal, token, request_hash, created_ms, answer })
    }
}

/// Keys as they were answered: at least one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The first, of most requests the only one.
    pub first: KeyRecord,
    /// The others of a request for several.
    pub more: Vec<KeyRecord>,
}

impl Answer {
    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &KeyRecord> {
        std::iter::once(&self.first).chain(&self.more)
    }
}

impl From<KeyRecord> for Answer {
    fn from(key: KeyRecord) -> Self {
        Self { first: key, more: Vec::new() }
    }
}

/// The lease of a duty: `format u8 ‖ holder u64 ‖ boot u32 ‖ until_ms u64`. Correctness never rests on it (key-log §2).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DutyRecord {
    /// Which duty.
    pub duty: Duty,
    /// The node that does it.
    pub holder: NodeId,
    /// That node's boot: after a restart it has to claim again.
    pub boot: u32,
    /// Until when, cluster time, ms since 1970.
    pub until_ms: u64,
}

/// Any record of the tables that decisions write.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// A key.
    Key(KeyRecord),
    /// A version of a key.
    KeyVersion(KeyVersionRecord),
    /// An alias.
    Alias(AliasRecord),
    /// A due key.
    Due(DueRecord),
    /// An answer to a token.
    Idempotency(Box<IdempotencyRecord>),
    /// A duty's lease.
    Duty(DutyRecord),
}

impl Record {
    /// Its name.
    pub fn name(&self) -> RecordName {
        match self {
            Self::Key(r) => RecordName::Key(r.id),
            Self::KeyVersion(r) => RecordName::KeyVersion(r.key, r.version),
            Self::Alias(r) => RecordName::Alias(r.name.clone()),
            Self::Due(r) => RecordName::Due(DueRecord::hour(r.at_ms), r.key),
            Self::Idempotency(r) => RecordName::Idempotency(r.principal.clone(), r.token),
            Self::Duty(r) => RecordName::Duty(r.duty),
        }
    }

    /// Its body; a version's without the material that has to follow.
    pub fn encode(&self) -> Vec<u8> {
        let w = Writer::new().u8(FORMAT);
        match self {
            Self::Key(r) => r.encode(),
            Self::KeyVersion(r) => r.encode(),
            Self::Alias(r) => w.raw(&r.key.0).u64(r.created_ms).finish(),
            Self::Due(r) => w.u64(r.at_ms).finish(),
            Self::Idempotency(r) => r.encode(),
            Self::Duty(r) => w.u64(r.holder.0).u32(r.boot).u64(r.until_ms).finish(),
        }
    }

    /// Reads the body of the record called `name`; a version's material is skipped.
    ///
    /// # Errors
    /// When the body is not canonical, or of a format a newer version wrote.
    pub fn decode(name: &RecordName, body: &[u8]) -> Result<Self, Malformed> {
        let record = match name {
            RecordName::Key(id) => Self::Key(KeyRecord::decode(*id, body)?),
            RecordName::KeyVersion(id, version) => Self::KeyVersion(KeyVersionRecord::split(*id, *version, body)?.0),
            RecordName::Alias(name) => {
                let mut r = open("alias record", body)?;
                let record = AliasRecord { name: name.clone(), key: KeyId(r.array()?), created_ms: r.u64()? };
                r.finish()?;
                Self::Alias(record)
            }
            RecordName::Due(hour, key) => {
                let mut r = open("due record", body)?;
                let record = DueRecord { key: *key, at_ms: r.u64()? };
                r.finish()?;
                if DueRecord::hour(record.at_ms) != *hour {
                    return Err(Malformed("due record"));
                }
                Self::Due(record)
            }
            RecordName::Idempotency(principal, token) => {
                Self::Idempotency(Box::new(IdempotencyRecord::decode(principal.clone(), *token, body)?))
            }
            RecordName::Duty(duty) => {
                let mut r = open("duty record", body)?;
                let record = DutyRecord { duty: *duty, holder: NodeId(r.u64()?), boot: r.u32()?, until_ms: r.u64()? };
                r.finish()?;
                Self::Duty(record)
            }
        };
        Ok(record)
    }
}

/// Hash of a request's parameters, for [`IdempotencyRecord`]: verb and fields, canonically encoded.
pub fn request_hash(verb: &str, fields: &[&[u8]]) -> [u8; 32] {
    let mut w = Writer::new().field(verb.as_bytes());
    for field in fields {
        w = w.field(field);
    }
    blake3::derive_key("quorate/v1/request-hash", &w.finish())
}

/// The canonical bytes of a handle, for [`request_hash`].
pub fn handle_bytes(handle: &KeyHandle) -> Vec<u8> {
    match handle {
        KeyHandle::Id(id) => Writer::new().u8(1).raw(&id.0).finish(),
        KeyHandle::Alias(name) => Writer::new().u8(2).raw(name.as_str().as_bytes()).finish(),
    }
}

fn open<'a>(what: &'static str, body: &'a [u8]) -> Result<Reader<'a>, Malformed> {
    let mut r = Reader::new(what, body);
    if r.u8()? == FORMAT { Ok(r) } else { Err(Malformed(what)) }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
