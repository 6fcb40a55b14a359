//! One key, all but its material.

use std::collections::BTreeSet;

use super::optional::{Fields, Present};
use super::{BAD_NAME, Formats, Kind, Place, Unreadable};
use crate::codec::{Malformed, Reader, Writer};
use crate::id::{KeyId, KeyVersion, Name, Namespace};
use crate::key_spec::KeySpec;
use crate::lifecycle::{KeyState, NoWay, VersionState};
use crate::record_key::Table;
use crate::request::{ALIASES_PER_KEY_MAX, AliasName, DESCRIPTION_LEN_MAX, Description};

/// One key, all but its material.
///
/// ```text
/// format u8 ‖ namespace u32 ‖ state u8 ‖ at_ms u64 ‖ spec u16 ‖ birth 16 ‖ current u32 ‖ destroyed through u32
///   ‖ created_ms u64 ‖ rotated_ms u64 ‖ optional: 1 description, 2 aliases (field × n)
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRecord {
    /// Its id; the record's true name.
    pub id: KeyId,
    /// Whose it is.
    pub namespace: Namespace,
    /// Whether it may be used.
    pub state: KeyState,
    /// The kind of its material.
    pub spec: KeySpec,
    /// Of the hash of the request that made it: a retry is told by it from another request with the same token.
    pub birth: [u8; 16],
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
}

const DESCRIPTION: u8 = 1;
const ALIASES: u8 = 2;
const ALIASES_LEN_MAX: usize = ALIASES_PER_KEY_MAX * (4 + Name::LEN_MAX);

impl Kind for KeyRecord {
    type Name = KeyId;
    const TABLE: Table = Table::Key;
    const WHAT: &'static str = "key record";
    const FORMATS: Formats = Formats::only(2);

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
        let (state, at_ms) = match self.state {
            KeyState::Enabled => (1, 0),
            KeyState::Disabled => (2, 0),
            KeyState::PendingDeletion { at_ms } => (3, at_ms),
            KeyState::Destroyed => (4, 0),
        };
        let aliases = self.aliases.iter().fold(Writer::new(), |w, alias| w.field(alias.as_str().as_bytes()));
        let fixed = to
            .u32(self.namespace.0)
            .u8(state)
            .u64(at_ms)
            .u16(self.spec.code())
            .raw(&self.birth)
            .u32(self.current.get())
            .u32(self.destroyed_through)
            .u64(self.created_ms)
            .u64(self.rotated_ms);
        Present::default()
            .field(DESCRIPTION, self.description.as_str().into())
            .field(ALIASES, aliases.finish())
            .write(fixed)
    }

    fn read(id: &KeyId, _: u8, from: &mut Reader<'_>) -> Result<Self, Unreadable> {
        const BAD: Malformed = Malformed(KeyRecord::WHAT);
        let namespace = Namespace(from.u32()?);
        let state = match (from.u8()?, from.u64()?) {
            (1, 0) => KeyState::Enabled,
            (2, 0) => KeyState::Disabled,
            (3, at_ms) => KeyState::PendingDeletion { at_ms },
            (4, 0) => KeyState::Destroyed,
            _ => return Err(BAD.into()),
        };
        let spec = KeySpec::from_code(from.u16()?).ok_or(Unreadable::Newer(Self::WHAT))?;
        let (birth, current, destroyed_through) =
            (from.array()?, KeyVersion::new(from.u32()?).ok_or(BAD)?, from.u32()?);
        let (created_ms, rotated_ms) = (from.u64()?, from.u64()?);
        let mut fields = Fields::read(from, ALIASES_LEN_MAX.max(DESCRIPTION_LEN_MAX), Self::WHAT)?;
        let description = std::str::from_utf8(fields.take(DESCRIPTION)).map_err(|_| BAD)?;
        let description = description.parse().map_err(|_| BAD)?;
        let aliases = read_aliases(fields.take(ALIASES))?;
        fields.finish(Self::WHAT)?;
        Ok(Self {
            id: *id,
            namespace,
            state,
            spec,
            birth,
            current,
            destroyed_through,
            created_ms,
            rotated_ms,
            description,
            aliases,
        })
    }
}

/// Ascending and none twice: one record has one encoding.
fn read_aliases(bytes: &[u8]) -> Result<BTreeSet<AliasName>, Malformed> {
    const BAD: Malformed = Malformed(KeyRecord::WHAT);
    let mut r = Reader::new(KeyRecord::WHAT, bytes);
    let mut aliases = BTreeSet::new();
    while !r.rest().is_empty() {
        let text = r.text(Name::LEN_MAX)?;
        let alias: AliasName = text.parse().map_err(|_| BAD)?;
        if alias.as_str() != text || aliases.last().is_some_and(|last| *last >= alias) {
            return Err(BAD);
        }
        aliases.insert(alias);
    }
    if aliases.len() > ALIASES_PER_KEY_MAX { Err(BAD) } else { Ok(aliases) }
}
