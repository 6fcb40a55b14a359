//! How keys are shown: one, many as they come, and when one was used last.

use futures::StreamExt;
use quorate_client::v1::{
    CreateKeysRequest, Key, KeyResponse, KeyState, LastUseResponse, ListKeysRequest, VersionState,
};
use quorate_core::record::GCM_USES_MAX;
use quorate_core::request::{KEYS_PER_REQUEST_MAX, PAGE_LEN_MAX};
use quorate_core::time::DAY_MS;
use serde_json::{Value, json};

use super::versions;
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::output::{self, Column, List, Shown};
use crate::command::states::{state_word, version_state_word};
use crate::command::{Shared, words};

/// Requests for new keys under way at a time.
const AT_ONCE: usize = 4;

const COLUMNS: [Column; 10] = [
    ("KEY", 36, Shown::Always),
    ("STATE", 16, Shown::Always),
    ("SPEC", 11, Shown::Always),
    ("NAMES", 16, Shown::Always),
    ("KIND", 9, Shown::Wide),
    ("VERSION", 24, Shown::Wide),
    ("CREATED", 20, Shown::Wide),
    ("ROTATED", 20, Shown::Wide),
    ("DESTROYED ON", 20, Shown::Wide),
    ("TAGS", 0, Shown::Wide),
];

fn row(k: &Key) -> [String; 10] {
    [
        k.key_id.clone(),
        standing(k).into(),
        k.spec.clone(),
        names(k),
        k.kind.clone(),
        format!("{} {}", k.current_version, version_state_word(k.current_version_state())),
        output::date(k.created_ms),
        output::date(k.rotated_ms),
        output::date(k.deletion_ms),
        words::tags(&k.tags, ","),
    ]
}

/// As commands know it: by the name that it has for life, and by its aliases.
fn names(key: &Key) -> String {
    let own = Some(&key.name).filter(|name| !name.is_empty()).map(|name| format!("key/{name}"));
    own.into_iter().chain(key.aliases.iter().cloned()).collect::<Vec<_>>().join(",")
}

pub(super) async fn list(shared: &Shared, wanted: ListKeysRequest, limit: Option<u64>) -> CommandResult {
    let client = shared.client().await?;
    let mut left = limit.unwrap_or(u64::MAX);
    let page = async |page_token| {
        let request = ListKeysRequest { limit: left.min(PAGE_LEN_MAX.into()) as u32, page_token, ..wanted.clone() };
        let page = client.list_keys(request).await.doing("list keys")?;
        left = left.saturating_sub(page.keys.len() as u64);
        let more = left != 0 && !page.next_page_token.is_empty();
        Ok((page.keys, more.then_some(page.next_page_token)))
    };
    List::begin(shared.format(), "keys", COLUMNS).pages(page, to_json, row).await
}

/// Some requests at a time, and what they answer at once: memory does not grow with the number of keys.
pub(super) async fn create_many(shared: &Shared, count: u64, wanted: CreateKeysRequest) -> CommandResult {
    let client = shared.client().await?;
    let mut list = List::begin(shared.format(), "keys", COLUMNS);
    let bar = output::progress(count);
    let requests = (0..count.div_ceil(KEYS_PER_REQUEST_MAX.into())).map(|n| {
        let client = client.starting_at(n as usize);
        let count = (count - n * u64::from(KEYS_PER_REQUEST_MAX)).min(KEYS_PER_REQUEST_MAX.into()) as u32;
        let request = CreateKeysRequest { count, ..wanted.clone() };
        async move { client.create_keys(request).await }
    });
    let mut answers = futures::stream::iter(requests).buffered(AT_ONCE);
    while let Some(answer) = answers.next().await {
        let keys = match answer.doing("create keys; those printed so far are there") {
            Ok(answer) => answer.keys,
            Err(failure) => {
                bar.finish_and_clear();
                return list.cut(failure);
            }
        };
        bar.inc(keys.len() as u64);
        list.add(&keys, to_json, row)?;
    }
    bar.finish_and_clear();
    list.end()
}

pub(super) fn show(shared: &Shared, answer: KeyResponse) -> CommandResult {
    let key = answer.key.ok_or_else(|| Failure::failed("can't show the key", "the answer holds none", ""))?;
    let mut json = to_json(&key);
    json["description"] = output::text(&key.description);
    shared.format().print(&json, || {
        output::fields([
            ("key", key.key_id.clone()),
            ("name", key.name.clone()),
            ("aliases", key.aliases.join(", ")),
            ("state", state_word(key.state()).to_owned()),
            ("archived", if key.archived { "yes" } else { "" }.to_owned()),
            ("kind", key.kind.clone()),
            ("spec", key.spec.clone()),
            ("usage", key.usage.join(", ")),
            ("version", format!("{}, {}", key.current_version, version_state_word(key.current_version_state()))),
            (
                "version to rotate to",
                if key.newest_version > key.current_version { key.newest_version.to_string() } else { String::new() },
            ),
            ("algorithms", versions::algorithms(&key.algorithms)),
            ("encrypts from version", floor(key.min_encryption_version)),
            ("decrypts from version", floor(key.min_decryption_version)),
            ("tags", words::tags(&key.tags, "\n")),
            ("description", key.description.clone()),
            ("created", output::date(key.created_ms)),
            ("rotated", output::date(key.rotated_ms)),
            ("rotated next", output::date(key.next_rotation_ms)),
            ("purge protection", if key.purge_protected { "yes" } else { "" }.to_owned()),
            ("origin", key.origin.clone()),
            ("material", material(&key).to_owned()),
            ("material until", output::date(key.material_expires_ms)),
            ("exportable", key.exportable.clone()),
            ("aes-gcm uses", words::gcm_uses(key.gcm_uses)),
            ("usage tracking", if key.untracked { "off" } else { "" }.to_owned()),
            ("replaces", key.replaces.clone()),
            ("replaced by", key.replaced_by.clone()),
            ("backed up", output::date(key.backed_up_ms)),
            ("restored from", key.restored_from.clone()),
            ("destroyed on", output::date(key.deletion_ms)),
        ])
    })
}

pub(super) fn last_use(shared: &Shared, told: &LastUseResponse) -> CommandResult {
    let is_known = told.uses != 0;
    let json = json!({
        "key_id": told.key_id,
        "usage_tracking": told.tracked,
        "last_used_at": output::moment(told.last_ms),
        "last_action": is_known.then_some(&told.last_action),
        "uses": told.uses,
        "first_used_at": output::moment(told.first_ms),
    });
    let last = if is_known { output::date(told.last_ms) } else { "never, as far as is written down".to_owned() };
    shared.format().print(&json, || {
        output::fields([
            ("key", told.key_id.clone()),
            ("last used", last),
            ("to", told.last_action.clone()),
            ("uses", if is_known { told.uses.to_string() } else { String::new() }),
            ("since", output::date(told.first_ms)),
            ("usage tracking", if told.tracked { "on" } else { "off" }.to_owned()),
        ])
    })
}

/// A key in JSON, the same in every answer, but for its description: lists leave that out.
fn to_json(key: &Key) -> Value {
    json!({
        "key_id": key.key_id,
        "state": state_word(key.state()),
        "archived": key.archived,
        "kind": key.kind,
        "spec": key.spec,
        "usage": key.usage,
        "current_version": key.current_version,
        "current_version_state": version_state_word(key.current_version_state()),
        "algorithms": key.algorithms,
        "default_algorithm": key.algorithms.first(),
        "newest_version": key.newest_version,
        "min_encryption_version": key.min_encryption_version,
        "min_decryption_version": key.min_decryption_version,
        "name": output::text(&key.name),
        "aliases": key.aliases,
        "tags": words::tags_to_json(&key.tags),
        "created_at": output::moment(key.created_ms),
        "updated_at": output::moment(key.updated_ms),
        "rotated_at": output::moment(key.rotated_ms),
        "rotation_days": (key.rotation_period_ms != 0).then_some(key.rotation_period_ms / DAY_MS),
        "next_rotation_at": output::moment(key.next_rotation_ms),
        "purge_protected": key.purge_protected,
        "origin": key.origin,
        "material_missing": key.material_missing,
        "material_expires_at": output::moment(key.material_expires_ms),
        "exportable": key.exportable,
        "gcm_uses": key.gcm_uses,
        "gcm_uses_max": key.gcm_uses.map(|_| GCM_USES_MAX),
        "usage_tracking": !key.untracked,
        "replaces": output::text(&key.replaces),
        "replaced_by": output::text(&key.replaced_by),
        "backed_up_at": output::moment(key.backed_up_ms),
        "restored_from": output::text(&key.restored_from),
        "deletion_at": output::moment(key.deletion_ms),
    })
}

/// Whether its material is there; a public key has none.
fn material(key: &Key) -> &'static str {
    match &key.kind[..] {
        "public" => "",
        _ if key.material_missing => "missing",
        _ => "there",
    }
}

/// A floor, if any version is below it.
fn floor(version: u32) -> String {
    if version > 1 { version.to_string() } else { String::new() }
}

/// What keeps it from being used, in the fewest words: the key's own state, its material that is not there, that it is archived, its
/// current version's state; else that it is enabled.
fn standing(key: &Key) -> &'static str {
    match (key.state(), key.current_version_state()) {
        (KeyState::Enabled | KeyState::Disabled, _) if key.material_missing => "no material",
        (KeyState::Enabled | KeyState::Disabled, _) if key.archived => "archived",
        (KeyState::Enabled, VersionState::DestroyedCompromised) => "destroyed",
        (KeyState::Enabled, of_version) if of_version != VersionState::Active => version_state_word(of_version),
        _ => state_word(key.state()),
    }
}
