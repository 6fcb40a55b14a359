//! `quorate secret versions`, and how a version of a secret is shown.

use quorate_client::v1::{ListSecretVersionsRequest, SecretVersion};
use quorate_core::request::PAGE_LEN_MAX;
use serde_json::{Value, json};

use crate::command::Shared;
use crate::command::failure::{CommandResult, Doing};
use crate::command::output::{self, Column, List, Shown};
use crate::command::states::version_state_word;

const COLUMNS: [Column; 7] = [
    ("VERSION", 7, Shown::Always),
    ("STATE", 11, Shown::Always),
    ("ENABLED", 7, Shown::Always),
    ("SET", 20, Shown::Always),
    ("EXPIRES", 20, Shown::Always),
    ("GOOD FROM", 20, Shown::Wide),
    ("CONTENT TYPE", 0, Shown::Wide),
];

pub(super) async fn list(shared: &Shared, name: String) -> CommandResult {
    let client = shared.client().await?;
    let page = async |before| {
        let request = ListSecretVersionsRequest { name: name.clone(), limit: PAGE_LEN_MAX, before };
        let page = client.list_secret_versions(request).await.doing("list versions")?;
        Ok((page.versions, (page.next_before != 0).then_some(page.next_before)))
    };
    let row = |v: &SecretVersion| {
        [
            v.version.to_string(),
            version_state_word(v.state()).into(),
            yes(v.enabled).into(),
            output::date(v.created_ms),
            output::date(v.expires_ms),
            output::date(v.not_before_ms),
            v.content_type.clone(),
        ]
    };
    List::begin(shared.format(), "versions", COLUMNS).pages(page, version_to_json, row).await
}

/// A version in JSON, the same in every answer.
pub(super) fn version_to_json(version: &SecretVersion) -> Value {
    json!({
        "version": version.version,
        "state": version_state_word(version.state()),
        "enabled": version.enabled,
        "content_type": output::text(&version.content_type),
        "not_before_at": output::moment(version.not_before_ms),
        "expires_at": output::moment(version.expires_ms),
        "created_at": output::moment(version.created_ms),
        "updated_at": output::moment(version.updated_ms),
    })
}

/// What people are shown of a version, below what they are shown of its secret.
pub(super) fn row_of_version(version: &SecretVersion) -> Vec<(&'static str, String)> {
    vec![
        ("version", format!("{} ({})", version.version, version_state_word(version.state()))),
        ("enabled", yes(version.enabled).to_owned()),
        ("content type", version.content_type.clone()),
        ("good from", output::date(version.not_before_ms)),
        ("expires", output::date(version.expires_ms)),
    ]
}

fn yes(it_is: bool) -> &'static str {
    if it_is { "yes" } else { "no" }
}
