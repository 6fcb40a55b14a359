//! `quorate keys …`: the life of keys.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use quorate_client::v1::{
    CancelKeyDeletionRequest, CreateKeyRequest, CreateKeysRequest, KeyRequest, ListKeysRequest, RotateKeyRequest,
    ScheduleKeyDeletionRequest, SetKeyRotationRequest, TagKeyRequest, UntagKeyRequest, UpdateKeyRequest,
};
use quorate_core::request::{
    AliasName, DELETION_DAYS_DEFAULT, DELETION_DAYS_MAX, DELETION_DAYS_MIN, DESCRIPTION_LEN_MAX, ObjectName,
    ROTATION_DAYS_MAX,
};
use serde_json::json;

use self::destruction::Destruction;
use self::keeping::OfKeeping;
use self::material::OfMaterial;
use self::show::{create_many, last_use, list, show};
use self::versions::OfVersions;
use super::failure::{CommandResult, Doing};
use super::states::State;
use super::{Shared, completions, output, public, words};

mod destruction;
mod keeping;
mod material;
mod show;
pub(super) mod versions;

/// Create, describe, list, rotate, disable and destroy keys.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate keys create --alias payments
  quorate keys list
  quorate keys disable payments")]
pub struct Keys {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Create a key: AES-256 for encryption, or what --spec says
    #[command(after_help = "Examples:
  quorate keys create
  quorate keys create --alias payments --description cards --output json
  quorate keys create --alias release --spec ed25519 --tag team=build  to sign with
  quorate keys create --name db-backup  then `quorate encrypt --key key/db-backup`
  quorate keys create --spec rsa-3072 --usage encrypt
  quorate keys create --spec aes-256 --algorithm aes-gcm
  quorate keys create --alias mine --origin external  then `quorate keys import mine`
  quorate keys create --alias partner --public-key theirs.pem  to verify what they sign
  quorate keys create --count 100000 --description tenant > keys.json")]
    Create {
        /// A name for it, which can be moved to another key
        #[arg(long, value_name = "NAME")]
        alias: Option<AliasName>,
        /// The name that it has for life: 1 to 127 of A-Z a-z 0-9 -; commands know it as key/NAME, in any case
        #[arg(long, value_name = "NAME")]
        name: Option<ObjectName>,
        #[arg(long, value_name = "TEXT", default_value = "", help = format!("What it is for, at most {DESCRIPTION_LEN_MAX} characters"))]
        description: String,
        #[command(flatten)]
        kind: Kind,
        /// A tag; may be given several times
        #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = words::tag)]
        tags: Vec<(String, String)>,
        /// From when it may be used; none = not before it is activated [default: now]
        #[arg(long, value_name = "DATE", value_parser = words::date)]
        activation: Option<u64>,
        /// For ever: nothing of it is destroyed before the day that a deletion sets
        #[arg(long)]
        purge_protection: bool,
        /// Where its material comes from; external = it is imported, and until then the key is not used [default: quorate]
        #[arg(long, value_name = "ORIGIN", value_parser = ["quorate", "external"])]
        origin: Option<String>,
        /// Instead of making one: somebody else's public key (PEM, DER or a JSON Web Key), to verify, encrypt, wrap or encapsulate with
        #[arg(long, value_name = "FILE", conflicts_with_all = ["origin", "exportable"])]
        public_key: Option<PathBuf>,
        /// Whether its material may leave, wrapped under another key, or as it is; can be lowered, never raised [default: no]
        #[arg(long, value_name = "HOW", value_parser = ["no", "wrapped", "plain"])]
        exportable: Option<String>,
        /// Nobody writes down when it was used last
        #[arg(long)]
        no_usage_tracking: bool,
        /// A UUIDv7 of yours, of now: a repetition with the same one, for an hour, answers the same key
        #[arg(long, value_name = "UUID")]
        token: Option<uuid::Uuid>,
        /// Create so many, and print each as it is there
        #[arg(long, value_name = "N", conflicts_with_all = ["alias", "name", "tags", "activation", "purge_protection", "origin", "public_key", "exportable", "no_usage_tracking", "token"], value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
    /// Show a key's metadata
    #[command(after_help = "Examples:
  quorate keys describe payments
  quorate keys describe alias/payments --output json")]
    Describe(Which),
    /// List keys, newest first
    #[command(after_help = "Examples:
  quorate keys list
  quorate keys list --state disabled --state pending-deletion
  quorate keys list --state archived
  quorate keys list --spec ed25519 --tag team=build
  quorate keys list --limit 10 --output json")]
    List {
        /// Only keys in that state; may be given several times
        #[arg(long, value_name = "STATE", value_enum)]
        state: Vec<State>,
        /// Only keys of that kind; may be given several times
        #[arg(long, value_name = "SPEC", value_parser = words::specs())]
        spec: Vec<String>,
        /// Only keys with that tag; may be given several times, and then all are asked for
        #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = words::tag)]
        tags: Vec<(String, String)>,
        /// At most this many; all without it
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// Allow uses of a disabled key again
    #[command(after_help = "Examples:
  quorate keys enable payments")]
    Enable(Which),
    /// Forbid every use; once this returns, no node uses the key
    #[command(after_help = "Examples:
  quorate keys disable payments")]
    Disable(Which),
    /// Make a new version, which is used from now on; old versions still decrypt and verify
    ///
    /// Of a key whose material is imported it is the one that `quorate keys import --new-version` brought; of somebody else's public
    /// key, the one that took its place there.
    #[command(after_help = "Examples:
  quorate keys rotate payments
  quorate keys rotate partner --public-key theirs-next.pem")]
    Rotate {
        #[command(flatten)]
        which: Which,
        /// The next public key (PEM, DER or a JSON Web Key), of a key that is one
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
        /// A UUIDv7 of yours, of now: a repetition with the same one, for an hour, rotates only once
        #[arg(long, value_name = "UUID")]
        token: Option<uuid::Uuid>,
    },
    /// Change a key's description, which of its versions are used, whether its uses are noted, or lower whether its material may
    /// leave
    #[command(after_help = "Examples:
  quorate keys update payments --description cards
  quorate keys update payments --min-decryption-version 3 --min-encryption-version 3
  quorate keys update payments --min-decryption-version 1  what older versions made is opened again
  quorate keys update payments --usage-tracking off
  quorate keys update travels --exportable no")]
    Update {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        changes: Changes,
    },
    /// Show when a key was used last, and how often; late by up to an hour
    #[command(after_help = "Each node writes down what it has done with a key: the first use after an hour of rest
within a minute, then once an hour. What it has not written when it stops, or is sealed,
is lost: the total may be less than the truth. To look at metadata, lists and public keys
is no use.

Examples:
  quorate keys last-use payments
  quorate keys last-use payments --output json")]
    LastUse(Which),
    /// Put tags on a key, over those of the same names
    #[command(after_help = "Examples:
  quorate keys tag payments team=shop cost-centre=17")]
    Tag {
        #[command(flatten)]
        which: Which,
        /// The tags
        #[arg(value_name = "NAME=VALUE", required = true, value_parser = words::tag)]
        tags: Vec<(String, String)>,
    },
    /// Take tags off a key
    #[command(after_help = "Examples:
  quorate keys untag payments cost-centre")]
    Untag {
        #[command(flatten)]
        which: Which,
        /// Names of tags
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    #[command(flatten)]
    Versions(OfVersions),
    #[command(flatten)]
    Material(OfMaterial),
    #[command(flatten)]
    Keeping(OfKeeping),
    /// Forbid every use now, and destroy the key on a day to come
    #[command(after_help = "Examples:
  quorate keys schedule-deletion payments --days 7
  quorate keys cancel-deletion payments")]
    ScheduleDeletion {
        #[command(flatten)]
        which: Which,
        #[arg(long, default_value_t = DELETION_DAYS_DEFAULT, help = format!("Days until then, {DELETION_DAYS_MIN} to {DELETION_DAYS_MAX}"),
            value_parser = clap::value_parser!(u32).range(DELETION_DAYS_MIN as i64..=DELETION_DAYS_MAX as i64))]
        days: u32,
    },
    /// Keep a key that waits for its destruction; it is disabled then
    #[command(after_help = "Examples:
  quorate keys cancel-deletion payments
  quorate keys enable payments")]
    CancelDeletion {
        #[command(flatten)]
        which: Which,
        /// Enable it again, if it was
        #[arg(long)]
        as_before: bool,
    },
    /// Destroy a key that waits for it, before its day; there is no way back
    #[command(after_help = "Examples:
  quorate keys schedule-deletion payments
  quorate keys purge payments")]
    Purge(Which),
    /// Get what each node states of a destruction, signed by its HSM: a proof to keep
    ///
    /// Asks every address: a node speaks for its own log and disk alone. On a terminal it shows what they say; in a pipe, and with
    /// --out, it writes what they signed, for `quorate evidence verify`. It takes the role admin or auditor.
    #[command(after_help = "Examples:
  quorate keys destruction 0199f2c4-6f1c-7c9e-8d2c-0123456789ab --out gone.json
  quorate keys destruction 0199f2c4-6f1c-7c9e-8d2c-0123456789ab --version 1 > gone.json
  quorate evidence verify gone.json --ca ca.pem")]
    Destruction(Destruction),
    /// Rotate a key every so often, without being asked; only of a key whose ciphertexts name their version
    #[command(after_help = "Examples:
  quorate keys set-rotation payments --days 365
  quorate keys set-rotation payments --never")]
    #[command(group = ArgGroup::new("period").required(true).args(["days", "never"]))]
    SetRotation {
        #[command(flatten)]
        which: Which,
        #[arg(long, value_name = "N", help = format!("Days between rotations, 1 to {ROTATION_DAYS_MAX}"),
            value_parser = clap::value_parser!(u32).range(1..=ROTATION_DAYS_MAX as i64))]
        days: Option<u32>,
        /// Only when somebody asks
        #[arg(long)]
        never: bool,
    },
}

/// What is to change of a key.
#[derive(Args, Debug)]
#[group(required = true, multiple = true)]
struct Changes {
    /// The new description; empty takes it away
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// The first version that may encrypt, sign, wrap
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    min_encryption_version: Option<u32>,
    /// The first version that may decrypt, verify, unwrap
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    min_decryption_version: Option<u32>,
    /// Whether its material may leave; less than it could until now, for ever
    #[arg(long, value_name = "HOW", value_parser = ["no", "wrapped"])]
    exportable: Option<String>,
    /// Whether it is written down from now on when the key was used last; what is written already stays
    #[arg(long, value_name = "ON", value_parser = ["on", "off"])]
    usage_tracking: Option<String>,
}

/// What kind of key.
#[derive(Args, Debug)]
struct Kind {
    /// Of what kind [default: aes-256]
    #[arg(long, value_name = "SPEC", value_parser = words::specs(), hide_possible_values = false)]
    spec: Option<String>,
    /// What it is for [default: what its kind is mostly for]
    #[arg(long, value_name = "USAGE", value_parser = words::purposes())]
    usage: Option<String>,
    /// By which algorithm, where one key does not do several [default: its kind's own]
    #[arg(long, value_name = "ALGORITHM", value_parser = words::algorithms(), hide_possible_values = true)]
    algorithm: Option<String>,
}

#[derive(Args, Debug)]
struct Which {
    /// The key: its id, NAME, alias/NAME or key/NAME
    #[arg(value_name = "KEY", add = ArgValueCompleter::new(completions::keys))]
    key: String,
}

impl Which {
    fn request(&self) -> KeyRequest {
        KeyRequest { key: self.key.clone() }
    }
}

impl Keys {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let client = shared.client().await?;
        let answer = match self.action {
            Action::List { state, spec, tags, limit } => {
                let ((states, archived), tags) = (State::asked(&state), words::to_proto(tags));
                let request = ListKeysRequest { states, archived, specs: spec, tags, ..Default::default() };
                return list(shared, request, limit).await;
            }
            Action::Versions(versions) => return versions.run(shared).await,
            Action::Material(material) => return material.run(shared).await,
            Action::Keeping(keeping) => return keeping.run(shared).await,
            Action::Destruction(destruction) => return destruction.run(shared).await,
            Action::Create { count: Some(count), description, kind, .. } => {
                let Kind { spec, usage, algorithm } = kind;
                let request = CreateKeysRequest {
                    description,
                    spec: spec.unwrap_or_default(),
                    usage: usage.unwrap_or_default(),
                    algorithm: algorithm.unwrap_or_default(),
                    ..Default::default()
                };
                return create_many(shared, count, request).await;
            }
            Action::Create {
                alias,
                name,
                description,
                kind,
                tags,
                activation,
                purge_protection,
                origin,
                public_key,
                exportable,
                no_usage_tracking,
                token: t,
                count: None,
            } => {
                let public_key = public_key.as_deref().map(public::read).transpose()?.unwrap_or_default();
                let request = CreateKeyRequest {
                    alias: alias.map(|name| name.to_string()).unwrap_or_default(),
                    name: name.map(|name| name.to_string()).unwrap_or_default(),
                    description,
                    token: token(t),
                    spec: kind.spec.unwrap_or_default(),
                    usage: kind.usage.unwrap_or_default(),
                    algorithm: kind.algorithm.unwrap_or_default(),
                    tags: words::to_proto(tags),
                    activation_ms: activation,
                    purge_protected: purge_protection,
                    origin: origin.unwrap_or_default(),
                    public_key,
                    exportable: exportable.unwrap_or_default(),
                    untracked: no_usage_tracking,
                };
                client.create_key(request).await.doing("create the key")?
            }
            Action::LastUse(which) => {
                return last_use(shared, &client.get_last_use(which.request()).await.doing("look at the key's uses")?);
            }
            Action::Update { which, changes } => {
                let request = UpdateKeyRequest {
                    key: which.key,
                    description: changes.description,
                    min_encryption_version: changes.min_encryption_version.unwrap_or(0),
                    min_decryption_version: changes.min_decryption_version.unwrap_or(0),
                    exportable: changes.exportable.unwrap_or_default(),
                    tracked: changes.usage_tracking.map(|word| word == "on"),
                };
                client.update_key(request).await.doing("update the key")?
            }
            Action::Tag { which, tags } => {
                let request = TagKeyRequest { key: which.key, tags: words::to_proto(tags) };
                client.tag_key(request).await.doing("tag the key")?
            }
            Action::Untag { which, names } => {
                let request = UntagKeyRequest { key: which.key, names };
                client.untag_key(request).await.doing("untag the key")?
            }
            Action::Describe(which) => client.describe_key(which.request()).await.doing("describe the key")?,
            Action::Enable(which) => client.enable_key(which.request()).await.doing("enable the key")?,
            Action::Disable(which) => client.disable_key(which.request()).await.doing("disable the key")?,
            Action::Rotate { which, public_key, token: t } => {
                let public_key = public_key.as_deref().map(public::read).transpose()?.unwrap_or_default();
                let request = RotateKeyRequest { key: which.key, token: token(t), public_key };
                client.rotate_key(request).await.doing("rotate the key")?
            }
            Action::ScheduleDeletion { which, days } => {
                let request = ScheduleKeyDeletionRequest { key: which.key, days, ..Default::default() };
                client.schedule_key_deletion(request).await.doing("schedule the key's deletion")?
            }
            Action::CancelDeletion { which, as_before } => {
                let request = CancelKeyDeletionRequest { key: which.key, as_before };
                client.cancel_key_deletion(request).await.doing("cancel the key's deletion")?
            }
            Action::Purge(which) => {
                let purged = client.purge_key(which.request()).await.doing("purge the key")?.key_id;
                return shared.format().print(&json!({ "key_id": purged, "state": "destroyed" }), || {
                    output::fields([("key", purged.as_str()), ("state", "destroyed")])
                });
            }
            Action::SetRotation { which, days, .. } => {
                let request = SetKeyRotationRequest { key: which.key, days: days.unwrap_or(0), dev_seconds: 0 };
                client.set_key_rotation(request).await.doing("set the key's rotation")?
            }
        };
        show(shared, answer)
    }
}

/// A token as requests have it.
fn token(uuid: Option<uuid::Uuid>) -> bytes::Bytes {
    uuid.map(|uuid| uuid.into_bytes().to_vec()).unwrap_or_default().into()
}
