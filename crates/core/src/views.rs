//! What doors show of keys and their names: never the records themselves, which hold more and change with the format.

use crate::id::{KeyId, KeyVersion};
use crate::key_spec::{Algorithm, KeySpec, Kind, Mode, Usages};
use crate::lifecycle::{Dates, KeyState, VersionState};
use crate::name::Named;
use crate::record::{
    Exportable, KeyRecord, KeyVersionRecord, MaterialId, NameRecord, NamespaceRecord, NamespaceSettings,
    NamespaceState, Origin, Rotation,
};
use crate::request::{AliasName, ContentType, Description, NamespaceName, ObjectName, Tags};
use crate::time::Time;

/// A key, its material apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyView {
    /// Its id.
    pub id: KeyId,
    /// Whether it may be used. Nobody is shown a key that is being destroyed.
    pub state: KeyState,
    /// What its material is.
    pub kind: Kind,
    /// The kind of its current version's material.
    pub spec: KeySpec,
    /// What its current version is for.
    pub usage: Usages,
    /// The version that protects, unless another is asked for.
    pub current: KeyVersion,
    /// The last version there is; above the current one, it waits for a rotation.
    pub newest: KeyVersion,
    /// Versions before this one protect nothing any more.
    pub protect_floor: KeyVersion,
    /// Versions before this one process nothing any more.
    pub process_floor: KeyVersion,
    /// When it was made (display time, ms since 1970).
    pub created_ms: u64,
    /// When it was last changed (display time, ms since 1970).
    pub updated_ms: u64,
    /// When the current version was made, or 0 while it is the first.
    pub rotated_ms: u64,
    /// Whether something is told about it.
    pub has_details: bool,
    /// Free text: empty, too, while nobody has looked.
    pub description: Description,
    /// The name that it has for life.
    pub name: Option<ObjectName>,
    /// Its aliases, in their order.
    pub aliases: Vec<AliasName>,
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
    /// What is known of its current version, once [`Self::seen`].
    pub now: Option<Standing>,
    /// Whether it is written down when it was used last.
    pub tracked: bool,
    /// How often its current version may have encrypted by GCM, at most; none = it does not, or nobody has looked.
    pub gcm_uses: Option<u64>,
    /// Whether it is put away, and not used until somebody gets it back.
    pub archived: bool,
    /// When a backup of it was made last (display time, ms since 1970); 0 = never.
    pub backed_up_ms: u64,
    /// What its id was when it was first made, if it was restored under another.
    pub born_as: Option<KeyId>,
    /// The key whose place it took.
    pub replaces: Option<KeyId>,
    /// The key that took its place.
    pub replaced_by: Option<KeyId>,
}

/// What a key's current version is in, and by what it is used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Standing {
    /// Its state.
    pub state: VersionState,
    /// By which algorithms it is used, each once, the default first.
    pub algorithms: Vec<Algorithm>,
}

/// Answers that show keys: their current versions, which are records of their own, are put in where all answers pass.
pub trait ShowsKeys {
    /// Those.
    fn keys(&mut self) -> &mut [KeyView] {
        &mut []
    }
}
impl ShowsKeys for KeyView {
    fn keys(&mut self) -> &mut [KeyView] {
        std::slice::from_mut(self)
    }
}
impl ShowsKeys for Vec<KeyView> {
    fn keys(&mut self) -> &mut [KeyView] {
        self
    }
}
impl ShowsKeys for VersionView {}
impl ShowsKeys for SecretView {}
impl ShowsKeys for AliasView {}
impl ShowsKeys for Vec<AliasView> {}
impl ShowsKeys for NamespaceView {}
impl ShowsKeys for Vec<NamespaceView> {}
impl ShowsKeys for KeyId {}
impl ShowsKeys for () {}
impl ShowsKeys for bool {}

impl From<&KeyRecord> for KeyView {
    fn from(key: &KeyRecord) -> Self {
        Self {
            id: key.id,
            state: key.state,
            kind: key.kind(),
            spec: key.spec,
            usage: key.usage,
            current: key.current,
            newest: key.newest,
            protect_floor: key.protect_floor,
            process_floor: key.process_floor,
            created_ms: key.created_ms,
            updated_ms: key.updated_ms,
            rotated_ms: key.rotated_ms,
            has_details: key.has_details,
            description: Description::default(),
            name: key.name.clone(),
            aliases: key.aliases.iter().cloned().collect(),
            tags: key.tags.clone(),
            rotation: key.rotation,
            purge_protected: key.purge_protected,
            origin: key.origin,
            exportable: key.exportable,
            now: None,
            tracked: key.tracked,
            gcm_uses: None,
            archived: key.archived,
            backed_up_ms: key.backed_up_ms,
            born_as: key.born_as,
            replaces: key.replaces,
            replaced_by: key.replaced_by,
        }
    }
}

impl KeyView {
    /// Which version is its current one, by name.
    pub fn current(&self) -> (KeyId, KeyVersion) {
        (self.id, self.current)
    }

    /// As it is seen at that time, with its current version: material whose time is over counts as missing although it has not
    /// been erased yet. Without that version, which only damage explains, nothing is said of it.
    pub fn seen(&mut self, head: Option<&KeyVersionRecord>, now: Time) {
        if let Origin::Imported(imported) = &mut self.origin
            && imported.lacks(now)
        {
            imported.missing = imported.missing.max(1);
        }
        self.now = head.map(|head| Standing {
            // No floor is above it.
            state: head.life.state(false, now),
            algorithms: algorithms(head.spec, head.mode, head.ops),
        });
    }
}

/// A version of a key, its material apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VersionView {
    /// Of which key.
    pub key: KeyId,
    /// Its number.
    pub version: KeyVersion,
    /// Its state now.
    pub state: VersionState,
    /// Whether it may be used.
    pub enabled: bool,
    /// The kind of its material.
    pub spec: KeySpec,
    /// How it may encrypt.
    pub mode: Mode,
    /// What it may be used for.
    pub ops: Usages,
    /// Its dates.
    pub dates: Dates,
    /// When it was made (display time, ms since 1970).
    pub created_ms: u64,
    /// When it was last changed (display time, ms since 1970).
    pub updated_ms: u64,
    /// Of its material; zeros while it never had any.
    pub material_id: MaterialId,
    /// Whether its material is there; of a public key alone: the key.
    pub has_material: bool,
    /// When its material left for the first time (display time, ms since 1970); 0 = it never did.
    pub first_exported_ms: u64,
    /// How often it may have encrypted by GCM, at most; likewise.
    pub gcm_uses: Option<u64>,
    /// What kind of content it is; of secrets.
    pub content_type: ContentType,
    /// What people or programs have put on it.
    pub tags: Tags,
}

impl VersionView {
    /// Of that version of that key, as it is at that time.
    pub fn new(key: &KeyRecord, head: &KeyVersionRecord, now: Time) -> Self {
        Self {
            key: key.id,
            version: head.version,
            state: head.life.state(key.has_retired(head.version), now),
            enabled: head.life.enabled,
            spec: head.spec,
            mode: head.mode,
            ops: head.ops,
            dates: head.life.dates,
            created_ms: head.created_ms,
            updated_ms: head.life.updated_ms,
            material_id: head.material_id,
            has_material: head.has_material || key.origin == Origin::Public && head.life.dates.destroyed == 0,
            first_exported_ms: head.first_exported_ms,
            gcm_uses: None,
            content_type: head.content_type.clone(),
            tags: head.tags.clone(),
        }
    }

    /// By which algorithms it is used, each once, the defaults first.
    pub fn algorithms(&self) -> Vec<Algorithm> {
        algorithms(self.spec, self.mode, self.ops)
    }
}

fn algorithms(spec: KeySpec, mode: Mode, ops: Usages) -> Vec<Algorithm> {
    let mut there = Vec::new();
    for algorithm in ops.iter().flat_map(|usage| mode.algorithms(spec, usage)) {
        if !there.contains(&algorithm) {
            there.push(algorithm);
        }
    }
    there
}

/// A secret, and a version of it; their values apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretView {
    /// The secret.
    pub secret: KeyView,
    /// The version that was asked for.
    pub version: VersionView,
}

/// An alias of a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AliasView {
    /// The name.
    pub name: AliasName,
    /// The key it stands for.
    pub key: KeyId,
    /// When it was made (display time, ms since 1970).
    pub created_ms: u64,
}

impl AliasView {
    /// Of that record; none when it is a name of another space.
    pub fn of(record: &NameRecord) -> Option<Self> {
        match &record.named {
            Named::Alias(name) => Some(Self { name: name.clone(), key: record.key, created_ms: record.created_ms }),
            Named::Object(..) => None,
        }
    }
}

/// A namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamespaceView {
    /// What it is called.
    pub name: NamespaceName,
    /// Whether things are made there.
    pub state: NamespaceState,
    /// When it was made (display time, ms since 1970); 0 = with the cluster.
    pub created_ms: u64,
    /// When it was last changed (display time, ms since 1970); likewise.
    pub updated_ms: u64,
    /// What may be made there.
    pub settings: NamespaceSettings,
}

impl NamespaceView {
    /// The first, of which there is no record.
    pub fn first() -> Self {
        let (state, settings) = (NamespaceState::Live, NamespaceSettings::default());
        Self { name: NamespaceName::first(), state, created_ms: 0, updated_ms: 0, settings }
    }
}

impl From<&NamespaceRecord> for NamespaceView {
    fn from(of: &NamespaceRecord) -> Self {
        let NamespaceRecord { name, state, created_ms, updated_ms, settings, .. } = of.clone();
        Self { name, state, created_ms, updated_ms, settings }
    }
}
