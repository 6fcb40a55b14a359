//! What doors show of keys and their names: never the records themselves, which hold more and change with the format.

use crate::id::{KeyId, KeyVersion};
use crate::key_spec::KeySpec;
use crate::lifecycle::KeyState;
use crate::record::{AliasRecord, KeyRecord};
use crate::request::{AliasName, Description};

/// A key, its material apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyView {
    /// Its id.
    pub id: KeyId,
    /// Whether it may be used. Nobody is shown a key that is being destroyed.
    pub state: KeyState,
    /// The kind of its material.
    pub spec: KeySpec,
    /// The version that encrypts; all before it decrypt.
    pub current: KeyVersion,
    /// When it was made (display time, ms since 1970).
    pub created_ms: u64,
    /// When the current version was made, or 0 while it is the first.
    pub rotated_ms: u64,
    /// Free text.
    pub description: Description,
    /// Its names, in their order.
    pub aliases: Vec<AliasName>,
}

impl From<&KeyRecord> for KeyView {
    fn from(key: &KeyRecord) -> Self {
        Self {
            id: key.id,
            state: key.state,
            spec: key.spec,
            current: key.current,
            created_ms: key.created_ms,
            rotated_ms: key.rotated_ms,
            description: key.description.clone(),
            aliases: key.aliases.iter().cloned().collect(),
        }
    }
}

/// A name for a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AliasView {
    /// The name.
    pub name: AliasName,
    /// The key it stands for.
    pub key: KeyId,
    /// When it was made (display time, ms since 1970).
    pub created_ms: u64,
}

impl From<&AliasRecord> for AliasView {
    fn from(alias: &AliasRecord) -> Self {
        Self { name: alias.name.clone(), key: alias.key, created_ms: alias.created_ms }
    }
}
