//! The domain's terms in the words of `quorate.v1`, and back.

use bytes::Bytes;
use quorate_proto::v1;
use quorate_service::core::decide::{NewKind, PublicPart, Source};
use quorate_service::core::id::{InvalidId, KeyId, KeyVersion, quoted};
use quorate_service::core::key_spec::{Algorithm, KeySpec, Usages};
use quorate_service::core::lifecycle::{KeyState, VersionState};
use quorate_service::core::record::Origin;
use quorate_service::core::request::{
    EncryptionContext, InvalidRequest, KeyFilter, KeyHandle, KeyStates, Part, Tags, Token,
};
use quorate_service::core::views::{AliasView, KeyView, VersionView};
use quorate_service::desk::{LastUse, PageToken};
use quorate_service::operation::{By, Exported, Parameters, Used, Versions};
use quorate_service::{PublicKey, SecretBytes};
use tonic::{Response, Status};

use crate::keys::refused;

pub(crate) fn parse<T: std::str::FromStr<Err = InvalidRequest>>(text: &str) -> Result<T, Status> {
    text.parse().map_err(refused)
}

pub(crate) fn optional<T: std::str::FromStr<Err = InvalidRequest>>(text: &str) -> Result<Option<T>, Status> {
    if text.is_empty() { Ok(None) } else { parse(text).map(Some) }
}

/// The id of what may be gone: nothing else names it then.
pub(crate) fn object_id(text: &str) -> Result<KeyId, Status> {
    let why = |e: InvalidId| format!("{}; what is destroyed has no name any more, so give its id", e.0);
    text.parse().map_err(|e| refused(InvalidRequest::wrong(Part::Key, why(e))))
}

pub(crate) fn token(bytes: &[u8]) -> Result<Option<Token>, Status> {
    Token::parse(bytes).map_err(refused)
}

pub(crate) fn context(pairs: Vec<v1::AssociatedData>) -> Result<EncryptionContext, Status> {
    EncryptionContext::new(pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()).map_err(refused)
}

/// The state of an object, and the day it is destroyed.
pub(crate) fn state(state: KeyState) -> (v1::KeyState, u64) {
    match state {
        KeyState::Enabled => (v1::KeyState::Enabled, 0),
        KeyState::Disabled => (v1::KeyState::Disabled, 0),
        KeyState::PendingDeletion { at_ms, .. } => (v1::KeyState::PendingDeletion, at_ms),
        // The desk does not find destroyed keys; the protocol has no word for them.
        KeyState::Destroyed => (v1::KeyState::Unspecified, 0),
    }
}

pub(crate) fn key(view: KeyView) -> v1::Key {
    let (standing, algorithms) = match view.now {
        Some(now) => (version_state(now.state), names(now.algorithms)),
        None => (v1::VersionState::Unspecified, Vec::new()),
    };
    let (state, deletion_ms) = state(view.state);
    v1::Key {
        key_id: view.id.to_string(),
        state: state.into(),
        spec: view.spec.as_str().to_owned(),
        current_version: view.current.get(),
        created_ms: view.created_ms,
        deletion_ms,
        description: view.description.as_str().to_owned(),
        rotated_ms: view.rotated_ms,
        aliases: view.aliases.iter().map(ToString::to_string).collect(),
        name: view.name.map(|name| name.to_string()).unwrap_or_default(),
        usage: usage(view.usage),
        updated_ms: view.updated_ms,
        rotation_period_ms: view.rotation.map_or(0, |rotation| rotation.period_ms),
        next_rotation_ms: view.rotation.map_or(0, |rotation| rotation.next_ms),
        purge_protected: view.purge_protected,
        origin: if view.origin == Origin::Here { OURS } else { EXTERNAL }.to_owned(),
        kind: view.kind.as_str().to_owned(),
        material_missing: view.origin.imported().is_some_and(|imported| imported.missing > 0),
        material_expires_ms: view.origin.imported().map_or(0, |imported| imported.expires_ms),
        exportable: view.exportable.as_str().to_owned(),
        gcm_uses: view.gcm_uses,
        archived: view.archived,
        newest_version: view.newest.get(),
        backed_up_ms: view.backed_up_ms,
        replaces: view.replaces.map_or(String::new(), |id| id.to_string()),
        replaced_by: view.replaced_by.map_or(String::new(), |id| id.to_string()),
        restored_from: view.born_as.map_or(String::new(), |id| id.to_string()),
        min_encryption_version: view.protect_floor.get(),
        min_decryption_version: view.process_floor.get(),
        untracked: !view.tracked,
        tags: tags_of(&view.tags),
        current_version_state: standing.into(),
        algorithms,
    }
}

pub(crate) fn last_use(told: LastUse) -> Response<v1::LastUseResponse> {
    let (key_id, tracked) = (told.key.to_string(), told.tracked);
    let nothing = v1::LastUseResponse { key_id, tracked, ..Default::default() };
    Response::new(told.tally.map_or(nothing.clone(), |tally| v1::LastUseResponse {
        uses: tally.uses,
        first_ms: tally.first_ms,
        last_ms: tally.last_ms,
        last_action: tally.last.as_str().to_owned(),
        ..nothing
    }))
}

pub(crate) fn tags_of(tags: &Tags) -> Vec<v1::Tag> {
    tags.iter().map(|(name, value)| v1::Tag { name: name.into(), value: value.into() }).collect()
}

/// Where material comes from.
const OURS: &str = "quorate";
const EXTERNAL: &str = "external";

/// Where a new key's material comes from, which a public key does not have.
pub(crate) fn source(origin: &str, public_key: &[u8]) -> Result<Source, Status> {
    match (origin, public_key) {
        ("" | OURS, []) => Ok(Source::Fresh),
        (EXTERNAL, []) => Ok(Source::Import),
        ("", spki) => public(spki).map(Source::Public),
        (OURS | EXTERNAL, _) => {
            let why = "a public key has no material, and so no origin of it";
            Err(refused(InvalidRequest::wrong(Part::Origin, why)))
        }
        (other, _) => {
            let why = format!("{} is no origin of material; there are: {OURS}, {EXTERNAL}", quoted(other));
            Err(refused(InvalidRequest::wrong(Part::Origin, why)))
        }
    }
}

/// Somebody else's public key.
pub(crate) fn public(spki: &[u8]) -> Result<PublicPart, Status> {
    PublicKey::parse(spki).map(|key| key.part()).map_err(refused)
}

pub(crate) fn parameters(made: Parameters) -> v1::GetImportParametersResponse {
    v1::GetImportParametersResponse {
        key_id: made.key.to_string(),
        wrapping_spec: made.wrapping.as_str().to_owned(),
        wrapping_key: made.public.into(),
        token: made.token.into(),
        expires_ms: made.expires_ms,
    }
}

pub(crate) fn exported(made: Exported) -> v1::ExportKeyResponse {
    let (wrapped_with, wrapped_with_version, algorithm) = made.wrapped_by.map(used).unwrap_or_default();
    v1::ExportKeyResponse {
        material: released(made.material),
        key_id: made.key.to_string(),
        key_version: made.version.get(),
        spec: made.spec.as_str().to_owned(),
        wrapped_with,
        wrapped_with_version,
        algorithm,
    }
}

pub(crate) fn usage(usages: Usages) -> Vec<String> {
    usages.iter().map(|usage| usage.as_str().to_owned()).collect()
}

fn names(algorithms: Vec<Algorithm>) -> Vec<String> {
    algorithms.into_iter().map(|one| one.as_str().to_owned()).collect()
}

pub(crate) fn version_state(state: VersionState) -> v1::VersionState {
    match state {
        VersionState::PreActive => v1::VersionState::PreActive,
        VersionState::Active => v1::VersionState::Active,
        VersionState::Deactivated => v1::VersionState::Deactivated,
        VersionState::Compromised => v1::VersionState::Compromised,
        VersionState::Destroyed => v1::VersionState::Destroyed,
        VersionState::DestroyedCompromised => v1::VersionState::DestroyedCompromised,
    }
}

fn version(view: VersionView) -> v1::Version {
    let algorithms = view.algorithms();
    let dates = view.dates;
    v1::Version {
        version: view.version.get(),
        state: version_state(view.state).into(),
        enabled: view.enabled,
        spec: view.spec.as_str().to_owned(),
        usage: usage(view.ops),
        algorithms: names(algorithms),
        created_ms: view.created_ms,
        updated_ms: view.updated_ms,
        activation_ms: dates.activation,
        protect_start_ms: dates.protect_start,
        process_start_ms: dates.process_start,
        protect_stop_ms: dates.protect_stop,
        deactivation_ms: dates.deactivation,
        compromise_ms: dates.compromise,
        destroyed_ms: dates.destroyed,
        material_id: Bytes::copy_from_slice(&view.material_id),
        has_material: view.has_material,
        material_expires_ms: dates.material_expires,
        first_exported_ms: view.first_exported_ms,
        gcm_uses: view.gcm_uses,
        tags: tags_of(&view.tags),
    }
}

pub(crate) fn version_response(view: VersionView) -> Response<v1::VersionResponse> {
    Response::new(v1::VersionResponse { key_id: view.key.to_string(), version: Some(version(view)) })
}

pub(crate) fn versions_response(page: Versions) -> Response<v1::ListVersionsResponse> {
    let last = page.versions.last().map(|last| last.version.get());
    Response::new(v1::ListVersionsResponse {
        key_id: page.key.to_string(),
        next_before: last.filter(|_| page.more).unwrap_or(0),
        versions: page.versions.into_iter().map(version).collect(),
    })
}

/// A version by its number; 0 = the current one.
pub(crate) fn number(version: u32) -> Option<KeyVersion> {
    KeyVersion::new(version)
}

/// By what something is to be done.
pub(crate) fn by(key: &str, version: u32, algorithm: &str) -> Result<By, Status> {
    Ok(By { key: parse(key)?, version: number(version), algorithm: optional(algorithm)? })
}

/// By what something was done: key, version, algorithm.
pub(crate) fn used(used: Used) -> (String, u32, String) {
    (used.key.to_string(), used.version.get(), used.algorithm.as_str().to_owned())
}

/// The keys that are expected.
pub(crate) fn keys(named: &[String]) -> Result<Vec<KeyHandle>, Status> {
    named.iter().map(|key| parse(key)).collect()
}

/// What kind of key is to be made; `of` that spec, if nothing else is said.
pub(crate) fn kind(of: KeySpec, spec: &str, usage: &str, algorithm: &str) -> Result<NewKind, Status> {
    let spec = optional(spec)?.unwrap_or(of);
    NewKind::new(spec, optional(usage)?, optional(algorithm)?).map_err(refused)
}

pub(crate) fn tags(tags: Vec<v1::Tag>) -> Result<Tags, Status> {
    Tags::new(tags.into_iter().map(|tag| (tag.name, tag.value))).map_err(refused)
}

/// The states that a list is of; none named = any.
pub(crate) fn states(asked: &[i32], archived: bool) -> Result<KeyStates, Status> {
    let mut states = KeyStates { archived, ..KeyStates::default() };
    for state in asked {
        match v1::KeyState::try_from(*state) {
            Ok(v1::KeyState::Enabled) => states.enabled = true,
            Ok(v1::KeyState::Disabled) => states.disabled = true,
            Ok(v1::KeyState::PendingDeletion) => states.pending_deletion = true,
            Ok(v1::KeyState::Unspecified) | Err(_) => {
                let why = "a key is in none of the states asked for: enabled, disabled, pending deletion";
                return Err(refused(InvalidRequest::wrong(Part::State, why)));
            }
        }
    }
    Ok(if states == KeyStates::default() { KeyStates::ANY } else { states })
}

/// Which keys a list is of.
pub(crate) fn filter(asked: &mut v1::ListKeysRequest) -> Result<KeyFilter, Status> {
    let specs = asked.specs.iter().map(|spec| parse(spec)).collect::<Result<_, _>>()?;
    Ok(KeyFilter {
        states: states(&asked.states, asked.archived)?,
        specs,
        tags: tags(std::mem::take(&mut asked.tags))?,
    })
}

pub(crate) fn key_response(view: KeyView) -> Response<v1::KeyResponse> {
    Response::new(v1::KeyResponse { key: Some(key(view)) })
}

pub(crate) fn alias(view: AliasView) -> v1::Alias {
    v1::Alias { name: view.name.to_string(), key_id: view.key.to_string(), created_ms: view.created_ms }
}

pub(crate) fn next_page(token: Option<PageToken>) -> Bytes {
    token.map(|token| Bytes::copy_from_slice(token.as_bytes())).unwrap_or_default()
}

/// Plaintext on its way out to the caller who asked for it: moved, not copied. What the message holds is wiped when the
/// process's allocator gets it back.
pub(crate) fn released(mut secret: SecretBytes) -> Bytes {
    std::mem::take(&mut *secret).into()
}
