//! `quorate keys versions`, `update-version`, `activate`, `revoke`, `destroy-version`: the life of a key's versions.

use std::io::IsTerminal;

use clap::{ArgGroup, Subcommand};
use quorate_client::v1::{
    KeyRequest, ListVersionsRequest, RevokeVersionRequest, UpdateVersionRequest, Version, VersionRequest,
    VersionResponse,
};
use quorate_core::record::GCM_USES_MAX;
use quorate_core::request::PAGE_LEN_MAX;
use serde_json::{Value, json};

use super::Which;
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::output::{self, Column, List, Shown};
use crate::command::states::version_state_word;
use crate::command::{Shared, files, words};

#[derive(Subcommand, Debug)]
pub(super) enum OfVersions {
    /// List a key's versions, newest first
    #[command(after_help = "Examples:
  quorate keys versions payments
  quorate keys versions payments --output json  with their dates and algorithms")]
    #[command(name = "versions")]
    List(Which),
    /// Change a version's dates, its tags, or whether it may be used
    #[command(after_help = "Examples:
  quorate keys update-version payments --protect-stop 2027-12-31
  quorate keys update-version payments --version 3 --enabled false
  quorate keys update-version payments --deactivation none
  quorate keys update-version payments --version 3 --tag reviewed=2026 --untag draft")]
    #[command(group = ArgGroup::new("change").required(true).multiple(true)
        .args(["enabled", "activation", "protect_start", "process_start", "protect_stop", "deactivation", "tags", "untag"]))]
    UpdateVersion {
        #[command(flatten)]
        which: Which,
        /// Which version [default: the current one]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        version: Option<u32>,
        /// Whether it may be used
        #[arg(long, value_name = "BOOL")]
        enabled: Option<bool>,
        /// From when it may be used at all; only while it is pre-active
        #[arg(long, value_name = "DATE", value_parser = words::date)]
        activation: Option<u64>,
        /// From when it may protect: encrypt, sign
        #[arg(long, value_name = "DATE", value_parser = words::date)]
        protect_start: Option<u64>,
        /// From when it may process: decrypt, verify
        #[arg(long, value_name = "DATE", value_parser = words::date)]
        process_start: Option<u64>,
        /// Until when it may protect
        #[arg(long, value_name = "DATE", value_parser = words::date)]
        protect_stop: Option<u64>,
        /// From when it is deactivated, and processes only
        #[arg(long, value_name = "DATE", value_parser = words::date)]
        deactivation: Option<u64>,
        /// A tag of this version, over one of the same name; may be given several times
        #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = words::tag)]
        tags: Vec<(String, String)>,
        /// Name of a tag to take off this version; may be given several times
        #[arg(long, value_name = "NAME")]
        untag: Vec<String>,
    },
    /// Let a version that is not active yet be used from now on
    #[command(after_help = "Examples:
  quorate keys activate payments")]
    Activate {
        #[command(flatten)]
        which: Which,
        /// Which version [default: the current one]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        version: Option<u32>,
    },
    /// Take a version out of use, for ever: it protects nothing more, and processes what it protected
    ///
    /// Without --version it is the current one that is meant: on a terminal you are asked, elsewhere --yes says that you mean it.
    #[command(after_help = "Examples:
  quorate keys revoke payments --version 2
  quorate keys revoke payments --version 2 --compromised --since 2026-11-01  only administrators decrypt with it then")]
    Revoke {
        #[command(flatten)]
        which: Which,
        /// Which version
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        version: Option<u32>,
        /// The current version, without being asked
        #[arg(long, conflicts_with = "version")]
        yes: bool,
        /// Somebody else may know its material
        #[arg(long)]
        compromised: bool,
        /// Since when that is so [default: now]
        #[arg(long, value_name = "DATE", requires = "compromised", value_parser = words::date)]
        since: Option<u64>,
    },
    /// Destroy a version's material, at once and for ever; it must not be active
    #[command(after_help = "Examples:
  quorate keys revoke payments --version 2
  quorate keys destroy-version payments --version 2")]
    DestroyVersion {
        #[command(flatten)]
        which: Which,
        /// Which version
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        version: u32,
    },
}

impl OfVersions {
    /// Does it.
    pub(super) async fn run(self, shared: &Shared) -> CommandResult {
        let client = shared.client().await?;
        let answer = match self {
            Self::List(which) => return list(shared, which).await,
            Self::UpdateVersion {
                which,
                version,
                enabled,
                activation,
                protect_start,
                process_start,
                protect_stop,
                deactivation,
                tags,
                untag,
            } => {
                let request = UpdateVersionRequest {
                    key: which.key,
                    version: version.unwrap_or(0),
                    enabled,
                    activation_ms: activation,
                    protect_start_ms: protect_start,
                    process_start_ms: process_start,
                    protect_stop_ms: protect_stop,
                    deactivation_ms: deactivation,
                    tags: words::to_proto(tags),
                    untag,
                };
                client.update_version(request).await.doing("update the version")?
            }
            Self::Activate { which, version } => {
                let request = VersionRequest { key: which.key, version: version.unwrap_or(0) };
                client.activate_version(request).await.doing("activate the version")?
            }
            Self::Revoke { which, version, yes, compromised, since } => {
                let version = match version {
                    Some(version) => version,
                    None => current(shared, &which.key, compromised, yes).await?,
                };
                let since_ms = since.unwrap_or(0);
                let request = RevokeVersionRequest { key: which.key, version, compromised, since_ms };
                client.revoke_version(request).await.doing("revoke the version")?
            }
            Self::DestroyVersion { which, version } => {
                let request = VersionRequest { key: which.key, version };
                client.destroy_version(request).await.doing("destroy the version")?
            }
        };
        show(shared, answer)
    }
}

/// The current version of the key, once whoever named none has heard what is about to happen, and means it.
async fn current(shared: &Shared, key: &str, compromised: bool, yes: bool) -> CommandResult<u32> {
    let request = KeyRequest { key: key.to_owned() };
    let found = shared.client().await?.describe_key(request).await.doing("look for the current version")?;
    let key =
        found.key.ok_or_else(|| Failure::failed("can't tell the current version", "the answer holds none", ""))?;
    let (version, names) = (key.current_version, key.aliases.join(", "));
    let names = if names.is_empty() { names } else { format!(" ({names})") };
    let what = if compromised { "compromised" } else { "deactivated" };
    let about = format!("version {version} of key {}{names}, its current one", key.key_id);
    let after = "protects with the key until it is rotated, and there is no way back";
    if !yes && !std::io::stdin().is_terminal() {
        let why = format!("would make {about}, {what}: nothing {after}");
        return Err(Failure::usage(format!("this {why}. Say which is meant: --version {version}, or --yes")));
    }
    eprintln!("This makes {about}, {what}: nothing {after}.");
    if !yes && !matches!(files::ask("Go on? [y/N] ")?.trim(), "y" | "Y" | "yes") {
        return Err(Failure::failed("can't revoke the version", "you chose not to; nothing was changed", ""));
    }
    Ok(version)
}

const COLUMNS: [Column; 9] = [
    ("VERSION", 7, Shown::Always),
    ("STATE", 21, Shown::Always),
    ("ENABLED", 7, Shown::Always),
    ("SPEC", 11, Shown::Always),
    ("CREATED", 20, Shown::Always),
    ("PROTECTS UNTIL", 20, Shown::Wide),
    ("DEACTIVATED", 20, Shown::Wide),
    ("TAGS", 16, Shown::Wide),
    ("ALGORITHMS", 0, Shown::Wide),
];

fn row(v: &Version) -> [String; 9] {
    [
        v.version.to_string(),
        version_state_word(v.state()).into(),
        if v.enabled { "yes" } else { "no" }.into(),
        v.spec.clone(),
        output::date(v.created_ms),
        output::date(v.protect_stop_ms),
        output::date(v.deactivation_ms),
        words::tags(&v.tags, ","),
        v.algorithms.join(","),
    ]
}

async fn list(shared: &Shared, which: Which) -> CommandResult {
    let client = shared.client().await?;
    let page = async |before| {
        let request = ListVersionsRequest { key: which.key.clone(), limit: PAGE_LEN_MAX, before };
        let page = client.list_versions(request).await.doing("list versions")?;
        Ok((page.versions, (page.next_before != 0).then_some(page.next_before)))
    };
    List::begin(shared.format(), "versions", COLUMNS).pages(page, to_json, row).await
}

pub(super) fn show(shared: &Shared, answer: VersionResponse) -> CommandResult {
    let missing = || Failure::failed("can't show the version", "the answer holds none", "");
    let version = answer.version.ok_or_else(missing)?;
    let mut json = to_json(&version);
    json["key_id"] = answer.key_id.clone().into();
    shared.format().print(&json, || {
        output::fields([
            ("key", answer.key_id),
            ("version", version.version.to_string()),
            ("state", version_state_word(version.state()).to_owned()),
            ("enabled", if version.enabled { "yes" } else { "no" }.into()),
            ("spec", version.spec.clone()),
            ("usage", version.usage.join(", ")),
            ("algorithms", algorithms(&version.algorithms)),
            ("created", output::date(version.created_ms)),
            ("active from", output::date(version.activation_ms)),
            ("protects from", output::date(version.protect_start_ms)),
            ("processes from", output::date(version.process_start_ms)),
            ("protects until", output::date(version.protect_stop_ms)),
            ("deactivated from", output::date(version.deactivation_ms)),
            ("compromised since", output::date(version.compromise_ms)),
            ("destroyed", output::date(version.destroyed_ms)),
            ("material", if version.has_material { "there" } else { "missing" }.into()),
            ("material until", output::date(version.material_expires_ms)),
            ("first exported", output::date(version.first_exported_ms)),
            ("aes-gcm uses", words::gcm_uses(version.gcm_uses)),
            ("tags", words::tags(&version.tags, "\n")),
        ])
    })
}

/// A version in JSON, the same in every answer.
fn to_json(version: &Version) -> Value {
    json!({
        "version": version.version,
        "state": version_state_word(version.state()),
        "enabled": version.enabled,
        "spec": version.spec,
        "usage": version.usage,
        "algorithms": version.algorithms,
        "tags": words::tags_to_json(&version.tags),
        "created_at": output::moment(version.created_ms),
        "updated_at": output::moment(version.updated_ms),
        "activation_at": output::moment(version.activation_ms),
        "protect_start_at": output::moment(version.protect_start_ms),
        "process_start_at": output::moment(version.process_start_ms),
        "protect_stop_at": output::moment(version.protect_stop_ms),
        "deactivation_at": output::moment(version.deactivation_ms),
        "compromise_at": output::moment(version.compromise_ms),
        "destroyed_at": output::moment(version.destroyed_ms),
        "material_id": output::hex(&version.material_id),
        "has_material": version.has_material,
        "material_expires_at": output::moment(version.material_expires_ms),
        "first_exported_at": output::moment(version.first_exported_ms),
        "gcm_uses": version.gcm_uses,
        "gcm_uses_max": version.gcm_uses.map(|_| GCM_USES_MAX),
    })
}

/// For people: the default says so, where there are others.
pub(super) fn algorithms(names: &[String]) -> String {
    match names {
        [default, _, ..] => format!("{default} (default), {}", names[1..].join(", ")),
        few => few.concat(),
    }
}
