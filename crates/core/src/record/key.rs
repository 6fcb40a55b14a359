//! One key, all but its material.

use std::collections::BTreeSet;

use super::material::{Exportable, Origin};
use super::optional::{Fields, Present, moment, other, read_moment, read_other, read_principal};
use super::{BAD_NAME, Formats, Kind, Place, Unreadable};
use crate::codec::{Malformed, Reader, Writer};
use crate::id::{KeyId, KeyVersion, Name, Namespace};
use crate::key_spec::{KeySpec, Kind as SpecKind, Usages};
use crate::lifecycle::{KeyState, Standing};
use crate::name::{Class, FoldedName};
use crate::principal::Principal;
use crate::record_key::Table;
use crate::request::{ALIASES_PER_KEY_MAX, AliasName, ObjectName, Tags};
use crate::time::Time;

/// One key, all but its material.
///
/// ```text
/// format u8 ‖ namespace u32 ‖ state u8 ‖ at_ms u64 ‖ since_ms u64 ‖ spec u16 ‖ usage u32 ‖ birth 16 ‖ current u32
///   ‖ protect floor u32 ‖ destroyed through u32 ‖ created_ms u64 ‖ updated_ms u64 ‖ rotated_ms u64
///   ‖ optional: 1 has details (1 byte, 1), 2 aliases (field × n), 3 tags ((field, field) × n), 4 rotation (period_ms u64 ‖ next_ms u64),
///     5 purge protection (1 byte, 1), 6 origin (imported: missing u32 ‖ expires_ms u64; a public key: 1 byte, 1), 7 exportable (1 byte: 1 wrapped, 2 plain),
///     8 archived (1 byte, 1), 9 process floor (u32, above 1), 10 newest (u32, above current), 11 backed up (u64),
///     12 born as (16), 13 replaces (16), 14 replaced by (16), 15 name as written, 16 untracked (1 byte, 1),
///     17 deletion by (principal)
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRecord {
    /// Its id; the record's true name.
    pub id: KeyId,
    /// Whose it is.
    pub namespace: Namespace,
    /// Whether it may be used.
    pub state: KeyState,
    /// The kind of its current version's material.
    pub spec: KeySpec,
    /// What its current version is for.
    pub usage: Usages,
    /// Of the hash of the request that made it: a retry is told by it from another request with the same token.
    pub birth: [u8; 16],
    /// The version that protects, unless another is asked for.
    pub current: KeyVersion,
    /// The last version there is. One above the current is of an imported key, and waits for the rotation that makes it current.
    pub newest: KeyVersion,
    /// Versions before this one protect nothing any more: a newer one took their place.
    pub protect_floor: KeyVersion,
    /// Versions before this one process nothing any more, either. Not above the one before.
    pub process_floor: KeyVersion,
    /// While it is destroyed: versions up to this number are gone already. 0 before.
    pub destroyed_through: u32,
    /// When it was made (display time, ms since 1970).
    pub created_ms: u64,
    /// When it was last changed (display time, ms since 1970).
    pub updated_ms: u64,
    /// When the current version was made, or 0 while it is the first.
    pub rotated_ms: u64,
    /// Whether more is told about it: in its details.
    pub has_details: bool,
    /// Its aliases, so that they go with it.
    pub aliases: BTreeSet<AliasName>,
    /// What people or programs have put on it.
    pub tags: Tags,
    /// Whether it is rotated without being asked.
    pub rotation: Option<Rotation>,
    /// Whether nobody can have it destroyed before its day.
    pub purge_protected: bool,
    /// Where its material comes from.
    pub origin: Origin,
    /// Whether its material may leave.
    pub exportable: Exportable,
    /// Whether it is put away: found and described, and used again once somebody gets it back.
    pub archived: bool,
    /// When a backup of it was made last (display time, ms since 1970); 0 = never. Whoever has that can bring back what it held.
    pub backed_up_ms: u64,
    /// What its id was when it was first made, if it was restored under another: material ids are made with it.
    pub born_as: Option<KeyId>,
    /// The name that it has for life, as it was written: in the space of its class.
    pub name: Option<ObjectName>,
    /// Whether it is written down when it was used last.
    pub tracked: bool,
    /// The key whose place it took.
    pub replaces: Option<KeyId>,
    /// The key that took its place.
    pub replaced_by: Option<KeyId>,
    /// Who asked for its destruction, while it waits for that.
    pub deletion_by: Option<Principal>,
}

/// That a key is rotated without being asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// How often, in milliseconds.
    pub period_ms: u64,
    /// When next, cluster time, ms since 1970.
    pub next_ms: u64,
}

impl KeyRecord {
    /// Whether it is destroyed with all its versions: what is left only keeps its id from being made anew.
    pub fn is_emptied(&self) -> bool {
        self.state == KeyState::Destroyed && self.destroyed_through >= self.newest.get()
    }
    /// Whether that version protects nothing any more, whatever its dates say.
    pub fn has_retired(&self, version: KeyVersion) -> bool {
        version < self.protect_floor
    }
    /// Whether there is, or was, such a version.
    pub fn has(&self, version: KeyVersion) -> bool {
        version <= self.newest
    }
    /// The id that the ids of its material are made with.
    pub fn birth_id(&self) -> KeyId {
        self.born_as.unwrap_or(self.id)
    }
    /// The version that waits for the next rotation, if one does.
    pub fn pending(&self) -> Option<KeyVersion> {
        (self.newest > self.current).then_some(self.newest)
    }
    /// What its material is.
    pub const fn kind(&self) -> SpecKind {
        match self.origin {
            Origin::Public => SpecKind::Public,
            Origin::Here | Origin::Imported(_) => self.spec.kind(),
        }
    }
    /// What it is.
    pub const fn class(&self) -> Class {
        match self.kind() {
            SpecKind::Symmetric | SpecKind::Pair | SpecKind::Mac | SpecKind::Public => Class::Key,
            SpecKind::Secret => Class::Secret,
        }
    }
    /// All its names.
    pub fn names(&self) -> impl Iterator<Item = FoldedName> {
        let own = self.name.iter().map(|name| FoldedName::object(self.namespace, self.class(), name));
        own.chain(self.aliases.iter().map(|alias| FoldedName::alias(self.namespace, alias)))
    }
    /// Whether it is not used for want of material.
    pub fn lacks_material(&self, now: Time) -> bool {
        self.origin.imported().is_some_and(|imported| imported.lacks(now))
    }
    /// What of it decides which verbs go.
    pub fn standing(&self, now: Time) -> Standing {
        Standing { state: self.state, missing: self.lacks_material(now), archived: self.archived }
    }
}

const HAS_DETAILS: u8 = 1;
const ALIASES: u8 = 2;
const TAGS: u8 = 3;
const ROTATION: u8 = 4;
const PURGE_PROTECTED: u8 = 5;
const ORIGIN: u8 = 6;
const EXPORTABLE: u8 = 7;
const ARCHIVED: u8 = 8;
const PROCESS_FLOOR: u8 = 9;
const NEWEST: u8 = 10;
const BACKED_UP: u8 = 11;
const BORN_AS: u8 = 12;
const REPLACES: u8 = 13;
const REPLACED_BY: u8 = 14;
const NAME: u8 = 15;
const UNTRACKED: u8 = 16;
const DELETION_BY: u8 = 17;
/// Longest encoding of a key's aliases, in bytes.
pub(super) const ALIASES_LEN_MAX: usize = ALIASES_PER_KEY_MAX * (4 + Name::LEN_MAX);

impl Kind for KeyRecord {
    type Name = KeyId;
    const TABLE: Table = Table::Key;
    const WHAT: &'static str = "key record";
    const FORMATS: Formats = Formats::only(4);

    fn name(&self) -> KeyId {
        self.id
    }
    fn place(id: &KeyId) -> Place {
        Place { prefix: [id.list_tag(), id.time()].concat(), ..Place::named(id.0) }
    }
    fn find(place: &Place) -> Result<KeyId, Unreadable> {
        place.true_name[..].try_into().map(KeyId).map_err(|_| BAD_NAME)
    }

    fn write(&self, _: u8, to: Writer) -> Writer {
        let (state, at_ms, since_ms) = match self.state {
            KeyState::Enabled => (1, 0, 0),
            KeyState::Disabled => (2, 0, 0),
            KeyState::PendingDeletion { at_ms, since_ms, was_enabled: true } => (3, at_ms, since_ms),
            KeyState::PendingDeletion { at_ms, since_ms, was_enabled: false } => (4, at_ms, since_ms),
            KeyState::Destroyed => (5, 0, 0),
        };
        let fixed = to
            .u32(self.namespace.0)
            .u8(state)
            .u64(at_ms)
            .u64(since_ms)
            .u16(self.spec.code())
            .u32(self.usage.bits())
            .raw(&self.birth)
            .u32(self.current.get())
            .u32(self.protect_floor.get())
            .u32(self.destroyed_through)
            .u64(self.created_ms)
            .u64(self.updated_ms)
            .u64(self.rotated_ms);
        Present::default()
            .field(HAS_DETAILS, flag(self.has_details))
            .field(ALIASES, alias_fields(&self.aliases))
            .field(TAGS, self.tags.write(Writer::new()).finish())
            .field(ROTATION, self.rotation.map_or(Vec::new(), Rotation::encode))
            .field(PURGE_PROTECTED, flag(self.purge_protected))
            .field(ORIGIN, self.origin.encode())
            .field(EXPORTABLE, self.exportable.encode())
            .field(ARCHIVED, flag(self.archived))
            .field(PROCESS_FLOOR, above(self.process_floor, KeyVersion::FIRST))
            .field(NEWEST, above(self.newest, self.current))
            .field(BACKED_UP, moment(self.backed_up_ms))
            .field(BORN_AS, other(self.born_as))
            .field(REPLACES, other(self.replaces))
            .field(REPLACED_BY, other(self.replaced_by))
            .field(NAME, self.name.as_ref().map_or("", ObjectName::as_str).into())
            .field(UNTRACKED, flag(!self.tracked))
            .field(DELETION_BY, self.deletion_by.as_ref().map_or(Vec::new(), Principal::encode))
            .write(fixed)
    }

    fn read(id: &KeyId, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        const BAD: Malformed = Malformed(KeyRecord::WHAT);
        let namespace = Namespace(from.u32()?);
        let state = match (from.u8()?, from.u64()?, from.u64()?) {
            (1, 0, 0) => KeyState::Enabled,
            (2, 0, 0) => KeyState::Disabled,
            (state @ (3 | 4), at_ms, since_ms) => {
                KeyState::PendingDeletion { at_ms, since_ms, was_enabled: state == 3 }
            }
            (5, 0, 0) => KeyState::Destroyed,
            _ => return Err(BAD.into()),
        };
        let newer = || Unreadable::Newer(Self::WHAT);
        let spec = KeySpec::from_code(from.u16()?).ok_or_else(newer)?;
        let usage = Usages::from_bits(from.u32()?).ok_or_else(newer)?;
        let birth = from.array()?;
        let (current, protect_floor) = (version(from)?, version(from)?);
        let destroyed_through = from.u32()?;
        let (created_ms, updated_ms, rotated_ms) = (from.u64()?, from.u64()?, from.u64()?);
        let len_max = ALIASES_LEN_MAX.max(Tags::ENCODED_LEN_MAX);
        let mut fields = Fields::read(from, len_max, Self::WHAT)?;
        let has_details = is_set(fields.take(HAS_DETAILS))?;
        let aliases = read_aliases(fields.take(ALIASES), Self::WHAT)?;
        let tags = Tags::read(Reader::new(Self::WHAT, fields.take(TAGS)))?;
        let rotation = Rotation::decode(fields.take(ROTATION))?;
        let purge_protected = is_set(fields.take(PURGE_PROTECTED))?;
        let origin = Origin::decode(fields.take(ORIGIN))?;
        if origin == Origin::Public && spec.kind() != SpecKind::Pair {
            return Err(BAD.into());
        }
        let exportable = Exportable::decode(fields.take(EXPORTABLE))?;
        let archived = is_set(fields.take(ARCHIVED))?;
        let process_floor = read_above(fields.take(PROCESS_FLOOR), KeyVersion::FIRST)?;
        let newest = read_above(fields.take(NEWEST), current)?;
        let backed_up_ms = read_moment(fields.take(BACKED_UP), Self::WHAT)?;
        let born_as = read_other(fields.take(BORN_AS), Self::WHAT)?;
        let replaces = read_other(fields.take(REPLACES), Self::WHAT)?;
        let replaced_by = read_other(fields.take(REPLACED_BY), Self::WHAT)?;
        let name = match std::str::from_utf8(fields.take(NAME)).map_err(|_| BAD)? {
            "" => None,
            name => Some(name.parse().map_err(|_| BAD)?),
        };
        let tracked = !is_set(fields.take(UNTRACKED))?;
        let deletion_by = read_principal(fields.take(DELETION_BY), Self::WHAT)?;
        fields.finish(Self::WHAT)?;
        Ok(Self {
            id: *id,
            namespace,
            state,
            spec,
            usage,
            birth,
            current,
            newest,
            protect_floor,
            process_floor,
            destroyed_through,
            created_ms,
            updated_ms,
            rotated_ms,
            has_details,
            aliases,
            tags,
            rotation,
            purge_protected,
            origin,
            exportable,
            archived,
            name,
            tracked,
            backed_up_ms,
            born_as,
            replaces,
            replaced_by,
            deletion_by,
        })
    }
}

impl Rotation {
    fn encode(self) -> Vec<u8> {
        Writer::new().u64(self.period_ms).u64(self.next_ms).finish()
    }
    fn decode(bytes: &[u8]) -> Result<Option<Self>, Malformed> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let mut r = Reader::new(KeyRecord::WHAT, bytes);
        let rotation = Self { period_ms: r.u64()?, next_ms: r.u64()? };
        r.finish()?;
        Ok(Some(rotation))
    }
}

/// An optional field that says yes by being there.
fn flag(is: bool) -> Vec<u8> {
    if is { vec![1] } else { Vec::new() }
}

fn is_set(field: &[u8]) -> Result<bool, Malformed> {
    match field {
        [] => Ok(false),
        [1] => Ok(true),
        _ => Err(Malformed(KeyRecord::WHAT)),
    }
}

/// A version, unless it is the one that most keys have there.
fn above(version: KeyVersion, most: KeyVersion) -> Vec<u8> {
    if version == most { Vec::new() } else { version.get().to_be_bytes().into() }
}

fn read_above(field: &[u8], most: KeyVersion) -> Result<KeyVersion, Malformed> {
    if field.is_empty() {
        return Ok(most);
    }
    let number = field.try_into().ok().map(u32::from_be_bytes).and_then(KeyVersion::new);
    number.filter(|version| *version > most).ok_or(Malformed(KeyRecord::WHAT))
}

fn version(from: &mut Reader<'_>) -> Result<KeyVersion, Malformed> {
    KeyVersion::new(from.u32()?).ok_or(Malformed(KeyRecord::WHAT))
}

pub(super) fn alias_fields(aliases: &BTreeSet<AliasName>) -> Vec<u8> {
    aliases.iter().fold(Writer::new(), |w, alias| w.field(alias.as_str().as_bytes())).finish()
}

/// Ascending and none twice: one record has one encoding.
pub(super) fn read_aliases(bytes: &[u8], what: &'static str) -> Result<BTreeSet<AliasName>, Malformed> {
    let bad = Malformed(what);
    let mut r = Reader::new(what, bytes);
    let mut aliases = BTreeSet::new();
    while !r.rest().is_empty() {
        let text = r.text(Name::LEN_MAX)?;
        let alias: AliasName = text.parse().map_err(|_| bad)?;
        if alias.as_str() != text || aliases.last().is_some_and(|last| *last >= alias) {
            return Err(bad);
        }
        aliases.insert(alias);
    }
    if aliases.len() > ALIASES_PER_KEY_MAX { Err(bad) } else { Ok(aliases) }
}
