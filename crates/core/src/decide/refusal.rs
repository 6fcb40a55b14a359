//! Why a decision says no, in words for whoever asked.

use thiserror::Error;

use super::namespace::Left;
use super::{BACKUP_VERSIONS_MAX, secret};
use crate::access::NotAdmitted;
use crate::authorize::Denied;
use crate::id::{KeyId, KeyVersion};
use crate::key_spec::{Algorithm, KeySpec, Mode, Usage, Usages};
use crate::lifecycle::{NoWay, Row, VersionState};
use crate::name::Class;
use crate::record::Exportable;
use crate::request::{
    ALIASES_PER_KEY_MAX, AliasName, DELETION_DAYS_MAX, DELETION_DAYS_MIN, InvalidRequest, KeyHandle, NamespaceName,
    ObjectName, Part,
};

/// Why a request is refused. Nothing has changed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Refusal {
    /// The caller may not do that.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The caller is nobody.
    #[error("not authenticated: {0}")]
    NotAdmitted(#[from] NotAdmitted),
    /// It would shut out who asks.
    #[error("this is what you come with yourself, and would shut you out; have another administrator do it")]
    Yourself,
    /// No such key, or no such alias to find it by.
    #[error("there is no {0} here: it was never made, or is gone")]
    KeyNotFound(KeyHandle),
    /// No such alias.
    #[error("there is no alias {0} here")]
    AliasNotFound(AliasName),
    /// The alias stands for a key already.
    #[error("the alias {name} is taken: it stands for key {key}; delete it first, or choose another name")]
    AliasTaken {
        /// The alias.
        name: AliasName,
        /// What it stands for.
        key: KeyId,
    },
    /// A key is called so already.
    #[error("the key name {name} is taken: key {key} has it until it is destroyed; choose another name")]
    NameTaken {
        /// The name.
        name: ObjectName,
        /// Whose it is.
        key: KeyId,
    },
    /// No such namespace.
    #[error("there is no namespace {0} here: it was never made, or is gone")]
    NamespaceNotFound(NamespaceName),
    /// The first namespace is made with the cluster, and stays as it is.
    #[error("the namespace {} is always there: it has no settings, and is not deleted", NamespaceName::FIRST)]
    NamespaceFirst,
    /// There is a namespace of that name.
    #[error("there is a namespace {0} already; choose another name")]
    NamespaceTaken(NamespaceName),
    /// Nothing is made, nor changed, in a namespace that is being deleted.
    #[error("namespace {0} is being deleted; delete it again to see whether it is empty, which ends that either way")]
    NamespaceDeleting(NamespaceName),
    /// Only an empty namespace is deleted.
    #[error("namespace {name} is not empty: it has {left}; delete and purge what is there first")]
    NamespaceNotEmpty {
        /// The namespace.
        name: NamespaceName,
        /// What is in it.
        left: Left,
    },
    /// All numbers were given out.
    #[error("there have been as many namespaces as there can be; use one that there is")]
    NamespacesMax,
    /// An alias is of the same namespace as its key.
    #[error("key {0} is of another namespace, and is called by names of that one alone; name it with the request")]
    OtherNamespace(KeyId),
    /// The namespace forbids that material leaves so.
    #[error("a key of this namespace is made with \"exportable\" {} at most", most.as_str())]
    ExportableCapped {
        /// The most that it may be.
        most: Exportable,
    },
    /// What the key made names its id, and that is of its namespace.
    #[error(
        "what key {key} made names its id, so it is restored only where it was: {}",
        of.as_ref().map_or("its namespace is gone".to_owned(), |of| format!("in the namespace {of}; name that with the request"))
    )]
    RestoreElsewhere {
        /// The key.
        key: KeyId,
        /// Where it was; none = that is gone.
        of: Option<NamespaceName>,
    },
    /// The key is disabled.
    #[error("key {0} is disabled; enable it first")]
    Disabled(KeyId),
    /// The key is archived.
    #[error("key {0} is archived; recover it first")]
    Archived(KeyId),
    /// It is of another class than the verb is for.
    #[error(
        "{id} is a {}, not a {}; give a {}, or use the commands for {}s",
        is.as_str(), wanted.as_str(), wanted.as_str(), is.as_str()
    )]
    WrongKind {
        /// The object.
        id: KeyId,
        /// What it is.
        is: Class,
        /// What the verb is for.
        wanted: Class,
    },
    /// Why something can't be done with a secret, in the words that secrets have.
    #[error("{}", secret::words(name, why))]
    OfSecret {
        /// The secret, as it was called.
        name: ObjectName,
        /// Why.
        why: Box<Refusal>,
    },
    /// The key waits for its destruction.
    #[error("key {key} is to be destroyed on {}; cancel its deletion first", crate::time::utc(*at_ms))]
    PendingDeletion {
        /// The key.
        key: KeyId,
        /// When, cluster time, ms since 1970.
        at_ms: u64,
    },
    /// Only a key that waits for its destruction can be spared it.
    #[error("key {0} is not scheduled for deletion")]
    NotPendingDeletion(KeyId),
    /// The key is not due yet by duty time.
    #[error("key {key} is not due before {}, by cluster time and by the nodes' clocks", crate::time::utc(*at_ms))]
    NotDue {
        /// The key.
        key: KeyId,
        /// When it is, cluster time, ms since 1970.
        at_ms: u64,
    },
    /// No more aliases fit.
    #[error("key {0} has {ALIASES_PER_KEY_MAX} aliases, which is the limit; delete one first")]
    AliasesMax(KeyId),
    /// No more versions fit.
    #[error("key {0} has as many versions as a key can have; create a new key")]
    VersionsMax(KeyId),
    /// The key is not for that.
    #[error("key {key} is not to {}: it may only {}", usage.as_str(), words(may.iter().map(Usage::as_str)))]
    WrongUsage {
        /// The key.
        key: KeyId,
        /// What was wanted.
        usage: Usage,
        /// What it is for.
        may: Usages,
    },
    /// The key does not do it in that way.
    #[error(
        "key {key}, of the kind {}, does not {} by {}; it does by {}",
        spec.as_str(), usage.as_str(), by.as_str(), words(Mode::algorithms(*mode, *spec, *usage).map(Algorithm::as_str))
    )]
    WrongAlgorithm {
        /// The key.
        key: KeyId,
        /// Of what kind it is.
        spec: KeySpec,
        /// How it may encrypt.
        mode: Mode,
        /// What was wanted.
        usage: Usage,
        /// In which way.
        by: Algorithm,
    },
    /// The key is not of the kind that has this.
    #[error("key {0}, of the kind {spec}, has no public key", spec = .1.as_str())]
    NoPublicKey(KeyId, KeySpec),
    /// The key has no such version.
    #[error("key {0} has no version {1}")]
    NoVersion(KeyId, KeyVersion),
    /// It was not destroyed, as far as is known.
    #[error("nothing is known of a destruction of {}: it was not destroyed, or was never here", of_key(*.0, *.1))]
    NotDestroyed(KeyId, Option<KeyVersion>),
    /// The version is disabled.
    #[error("version {1} of key {0} is disabled; enable it first")]
    VersionDisabled(KeyId, KeyVersion),
    /// The version is in a state in which verbs of that row can't be done.
    #[error("version {1} of key {0} is {state}{then}", state = .3.as_str(), then = then(*.2, *.3))]
    VersionState(KeyId, KeyVersion, Row, VersionState),
    /// The version is not for that yet.
    #[error("version {version} of key {key} is not for that before {}", crate::time::utc(*at_ms))]
    NotYet {
        /// The key.
        key: KeyId,
        /// The version.
        version: KeyVersion,
        /// From when it is, ms since 1970.
        at_ms: u64,
    },
    /// The version is below the key's floor: it processes nothing any more.
    #[error(
        "version {version} of key {key} processes nothing any more: only versions from {floor} on do; what it protected is opened \
         again once that floor is lowered"
    )]
    Retired {
        /// The key.
        key: KeyId,
        /// The version.
        version: KeyVersion,
        /// The first version that still does.
        floor: KeyVersion,
    },
    /// Whether material may leave is only ever narrowed.
    #[error("key {key} was made with \"exportable\" {is}; that can be lowered, never raised", is = is.as_str())]
    ExportableRaised {
        /// The key.
        key: KeyId,
        /// What it is.
        is: Exportable,
    },
    /// The version is not for that any more.
    #[error("version {version} of key {key} has not been for that since {}; rotate the key", crate::time::utc(*at_ms))]
    Ended {
        /// The key.
        key: KeyId,
        /// The version.
        version: KeyVersion,
        /// Since when not, ms since 1970.
        at_ms: u64,
    },
    /// The version has no more uses.
    #[error(
        "version {1} of key {0} has encrypted by aes-gcm as often as one version may, 2^32 times: more would risk that an IV comes \
         twice, which gives plaintexts away; rotate the key, and encrypt with its new version"
    )]
    Exhausted(KeyId, KeyVersion),
    /// The key's material was not imported, was deleted, or its time is over.
    #[error("key {0} has no material; import it first")]
    MaterialMissing(KeyId),
    /// A rotation would leave the key with a version that lacks its material.
    #[error(
        "key {0} has a version that waited for a rotation and has lost its material: rotated past it, the key could not be used; \
         import what that version had, or destroy it, first (its versions are listed with their material)"
    )]
    RotationLacksMaterial(KeyId),
    /// The key had other material before, and takes only that again.
    #[error(
        "this is not the material that version {1} of key {0} had before, and no other will do: what it protected would be lost; \
         import the same, or create another key"
    )]
    WrongMaterial(KeyId, KeyVersion),
    /// The key's material is made here.
    #[error(
        "the material of key {0} was made here; only a key that was created with the origin \"external\" takes yours"
    )]
    NotExternal(KeyId),
    /// Imported material is not rotated unasked.
    #[error(
        "key {0} has imported material: it is rotated when you ask for it, to a version that you have imported before"
    )]
    NotRotated(KeyId),
    /// A key whose material is imported is not replaced by one that is made here.
    #[error(
        "key {0} has imported material: create another key with the origin \"external\", import into that, and give it the names"
    )]
    NotRekeyed(KeyId),
    /// A public key has no material that could be made, brought or taken.
    #[error(
        "key {0} is somebody else's public key, without its private half: nothing is made for it here, imported or exported; when its \
         owner has another, rotate it to that"
    )]
    PublicAlone(KeyId),
    /// What is wanted takes the private half, and that is elsewhere.
    #[error(
        "key {key} is somebody else's public key: it may only {}; to {} is for who holds its private half",
        words(may.iter().map(Usage::as_str)), usage.as_str()
    )]
    PrivateElsewhere {
        /// The key.
        key: KeyId,
        /// What was wanted.
        usage: Usage,
        /// What it is for.
        may: Usages,
    },
    /// Another key has taken its place already.
    #[error("key {key} was replaced by key {by} already; replace that one")]
    AlreadyReplaced {
        /// The key.
        key: KeyId,
        /// What took its place.
        by: KeyId,
    },
    /// There is no imported version to rotate to.
    #[error(
        "key {0} has imported material, and no version that waits for a rotation; import one as a new version first"
    )]
    NothingToRotateTo(KeyId),
    /// The version waits for a rotation.
    #[error("version {1} of key {0} waits for a rotation; rotate the key, which makes it the current one")]
    PendingRotation(KeyId, KeyVersion),
    /// The key has too many versions for a backup.
    #[error("key {0} has {1} versions; a backup holds {BACKUP_VERSIONS_MAX} at most; make a new key, and protect anew")]
    BackupVersions(KeyId, KeyVersion),
    /// What the key made names its id, and that is taken.
    #[error(
        "key {0} is here, and what it made names its id, or it is being destroyed: it is restored once its id is free"
    )]
    RestoreTaken(KeyId),
    /// Another key has the name of one that is to be restored.
    #[error("the key that is in the backup is called {name}, as key {key} is now; restore it without its name")]
    RestoreNamed {
        /// The name.
        name: ObjectName,
        /// Whose it is.
        key: KeyId,
    },
    /// The backup is of another cluster.
    #[error("the backup comes from another quorate (its lineage differs); restore it where it was made")]
    BackupForeign,
    /// The backup does not open.
    #[error(
        "the backup does not open: give it whole and unchanged; or the key that backups are made with was rolled since"
    )]
    BackupNotOpened,
    /// The import token is too old.
    #[error("the import token expired on {}; get new parameters, and wrap the key anew", crate::time::utc(*at_ms))]
    TokenExpired {
        /// When, ms since 1970.
        at_ms: u64,
    },
    /// The import token is not one for this key.
    #[error(
        "this is no import token for key {0}: give the one that came with the public key that wrapped, whole and unchanged"
    )]
    TokenForeign(KeyId),
    /// The key's material never leaves.
    #[error("key {0} can't be exported: it was not created for that")]
    NotExportable(KeyId),
    /// The key's material leaves only wrapped.
    #[error("key {0} is exported only wrapped; name a key that wraps it")]
    WrappedOnly(KeyId),
    /// What the change would make of the record is none.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// Nobody can have the key destroyed before its day.
    #[error("key {0} was made so that nothing of it is destroyed before the day that a deletion sets")]
    PurgeProtected(KeyId),
    /// A key whose outputs do not name their version is not rotated unasked.
    #[error(
        "what key {0} makes does not say which version made it, so a rotation that nobody notices would break who opens or verifies \
         it; rotate it yourself, and tell them the version"
    )]
    NotRotatedUnasked(KeyId),
    /// Only a cluster marked for development does that.
    #[error(
        "a deletion waits for {DELETION_DAYS_MIN} to {DELETION_DAYS_MAX} days, and a key is rotated after days; only a cluster \
         marked for development takes seconds"
    )]
    BriefWindow,
    /// The named key is not the ciphertext's.
    #[error("the ciphertext was made with key {actual}, which is not {}; find out where it came from", named(expected))]
    WrongKey {
        /// The keys the caller named.
        expected: Vec<KeyHandle>,
        /// The key in the ciphertext's header.
        actual: KeyId,
    },
    /// The ciphertext's key is not here.
    #[error("the ciphertext names key {0}, which does not exist here: it was destroyed, or never made here")]
    UnknownKey(KeyId),
    /// The key is here, but not that version.
    #[error("the ciphertext names version {1} of key {0}, and the key has no such version")]
    UnknownVersion(KeyId, KeyVersion),
    /// The token stands for another request.
    #[error("this token was used before with other parameters; use a fresh token for a new request")]
    TokenReused,
    /// The token's time is too far off: a retry could be one of a request that is forgotten.
    #[error(
        "the token's time is more than an hour behind, or ten minutes ahead: it is {} here; make the token, a UUIDv7, right \
         before the request, and look whether an earlier request with it was carried out",
        crate::time::utc(*now_ms)
    )]
    TokenTime {
        /// The time here, ms since 1970.
        now_ms: u64,
    },
}

impl Refusal {
    /// The part of the request that it is about, where it is about one.
    pub fn part(&self) -> Option<Part> {
        match self {
            Self::OfSecret { why, .. } => why.part().map(|part| if part == Part::Key { Part::Name } else { part }),
            Self::WrongKind { .. } => Some(Part::Key),
            Self::KeyNotFound(_)
            | Self::Disabled(_)
            | Self::Archived(_)
            | Self::PendingDeletion { .. }
            | Self::NotPendingDeletion(_)
            | Self::NotDue { .. }
            | Self::AliasesMax(_)
            | Self::VersionsMax(_)
            | Self::WrongUsage { .. }
            | Self::NoPublicKey(..)
            | Self::MaterialMissing(_)
            | Self::RotationLacksMaterial(_)
            | Self::NotExternal(_)
            | Self::NotRotated(_)
            | Self::NothingToRotateTo(_)
            | Self::NotRekeyed(_)
            | Self::PublicAlone(_)
            | Self::PrivateElsewhere { .. }
            | Self::AlreadyReplaced { .. }
            | Self::NotExportable(_)
            | Self::WrappedOnly(_)
            | Self::NotDestroyed(_, None)
            | Self::WrongKey { .. } => Some(Part::Key),
            Self::AliasNotFound(_) | Self::AliasTaken { .. } => Some(Part::Alias),
            Self::NameTaken { .. } | Self::RestoreNamed { .. } => Some(Part::Name),
            Self::PurgeProtected(_) | Self::NotRotatedUnasked(_) => Some(Part::Key),
            Self::ExportableRaised { .. } | Self::ExportableCapped { .. } => Some(Part::Exportable),
            Self::NamespaceNotFound(_)
            | Self::NamespaceFirst
            | Self::NamespaceTaken(_)
            | Self::NamespaceDeleting(_)
            | Self::NamespaceNotEmpty { .. }
            | Self::OtherNamespace(_)
            | Self::RestoreElsewhere { .. } => Some(Part::Namespace),
            Self::WrongMaterial(..) => Some(Part::Material),
            Self::BackupVersions(..) | Self::RestoreTaken(_) => Some(Part::Key),
            Self::BackupForeign | Self::BackupNotOpened => Some(Part::Backup),
            Self::TokenExpired { .. } | Self::TokenForeign(_) => Some(Part::ImportToken),
            Self::BriefWindow => Some(Part::Window),
            Self::UnknownKey(_) | Self::UnknownVersion(..) => Some(Part::Ciphertext),
            Self::TokenReused | Self::TokenTime { .. } => Some(Part::Token),
            Self::WrongAlgorithm { .. } => Some(Part::Algorithm),
            Self::NoVersion(..)
            | Self::NotDestroyed(_, Some(_))
            | Self::Exhausted(..)
            | Self::VersionDisabled(..)
            | Self::VersionState(..)
            | Self::NotYet { .. }
            | Self::Retired { .. }
            | Self::PendingRotation(..)
            | Self::Ended { .. } => Some(Part::Version),
            Self::Invalid(invalid) => Some(invalid.part()),
            Self::Denied(_) | Self::NotAdmitted(_) | Self::Yourself | Self::NamespacesMax => None,
        }
    }
}

fn of_key(key: KeyId, version: Option<KeyVersion>) -> String {
    version.map_or_else(|| format!("key {key}"), |version| format!("version {version} of key {key}"))
}

fn named(keys: &[KeyHandle]) -> String {
    match keys {
        [one] => format!("the key named, {one}"),
        many => format!("one of the {} keys named", many.len()),
    }
}

/// Words of a list, for people.
fn words(words: impl Iterator<Item = &'static str>) -> String {
    words.collect::<Vec<_>>().join(", ")
}

/// What to do about a version in that state with which verbs of that row don't go, in words that follow the state's.
fn then(row: Row, state: VersionState) -> &'static str {
    use VersionState::{Active, Compromised, Deactivated, Destroyed, DestroyedCompromised, PreActive};
    match (row, state) {
        (Row::Activate, Active) => " already; there is nothing to activate",
        (Row::Activate, Deactivated | Compromised) => ", and does not become active again; rotate the key",
        (Row::DestroyVersion, Active) => "; only what is out of use is destroyed, so it has to be deactivated first",
        (Row::DestroyVersion | Row::DeleteMaterial, Destroyed | DestroyedCompromised) => " already",
        (Row::Import, Compromised) => ", and takes no material any more; create another key",
        (Row::Update, _) => ": the date from which it is active has passed, and is not moved any more",
        (_, PreActive) => "; activate it first",
        (_, Active) => "",
        (_, Deactivated) => ": it only processes what it protected; use another version, or rotate the key",
        (_, Compromised) => {
            ": only who manages keys still processes with it; rotate the key, and protect anew what it protected"
        }
        (Row::Process, Destroyed | DestroyedCompromised) => {
            ": its material is gone for ever, and what it alone could open or verify with it; look whether another version did it"
        }
        (Row::Rotate, Destroyed | DestroyedCompromised) => {
            ": a key whose current version is gone has no next one; create another key"
        }
        (_, Destroyed | DestroyedCompromised) => ": its material is gone for ever; use another version, or another key",
    }
}

/// Why the key, by that version of it, can't do that, in the words of a refusal.
pub fn refusal(key: KeyId, version: KeyVersion, why: NoWay) -> Refusal {
    match why {
        NoWay::Disabled => Refusal::Disabled(key),
        NoWay::Archived => Refusal::Archived(key),
        NoWay::PendingDeletion { at_ms } => Refusal::PendingDeletion { key, at_ms },
        NoWay::MaterialMissing => Refusal::MaterialMissing(key),
        NoWay::Destroyed => Refusal::KeyNotFound(KeyHandle::Id(key)),
        NoWay::VersionDisabled => Refusal::VersionDisabled(key, version),
        NoWay::Version(row, state) => Refusal::VersionState(key, version, row, state),
        NoWay::NotYet { at_ms } => Refusal::NotYet { key, version, at_ms },
        NoWay::Ended { at_ms } => Refusal::Ended { key, version, at_ms },
    }
}
