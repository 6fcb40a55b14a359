//! `quorate keys …`: the life of keys.

use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use futures::StreamExt;
use quorate_client::v1::{
    CreateKeyRequest, CreateKeysRequest, Key, KeyRequest, KeyResponse, KeyState, ListKeysRequest, RotateKeyRequest,
    ScheduleKeyDeletionRequest,
};
use quorate_core::request::{
    AliasName, DELETION_DAYS_MAX, DELETION_DAYS_MIN, DESCRIPTION_LEN_MAX, KEYS_PER_REQUEST_MAX, PAGE_LEN_MAX,
};
use serde_json::{Value, json};

use super::failure::{CommandResult, Doing, Failure};
use super::output::{self, Column, List, Shown};
use super::{Shared, completions};

/// Requests for new keys under way at a time.
const AT_ONCE: usize = 4;

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
    /// Create an AES-256 key
    #[command(after_help = "Examples:
  quorate keys create
  quorate keys create --alias payments --description cards --output json
  quorate keys create --count 100000 --description tenant > keys.json")]
    Create {
        /// A name for it
        #[arg(long, value_name = "NAME")]
        alias: Option<AliasName>,
        #[arg(long, value_name = "TEXT", default_value = "", help = format!("What it is for, at most {DESCRIPTION_LEN_MAX} bytes"))]
        description: String,
        /// A UUIDv7 of yours, of now: a repetition with the same one, for an hour, answers the same key
        #[arg(long, value_name = "UUID")]
        token: Option<uuid::Uuid>,
        /// Create so many, and print each as it is there
        #[arg(long, value_name = "N", conflicts_with_all = ["alias", "token"], value_parser = clap::value_parser!(u64).range(1..))]
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
  quorate keys list --limit 10 --output json")]
    List {
        /// Only keys in that state; may be given several times
        #[arg(long, value_name = "STATE", value_enum)]
        state: Vec<State>,
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
    /// Make a new version, which encrypts from now on; old versions still decrypt
    #[command(after_help = "Examples:
  quorate keys rotate payments")]
    Rotate {
        #[command(flatten)]
        which: Which,
        /// A UUIDv7 of yours, of now: a repetition with the same one, for an hour, rotates only once
        #[arg(long, value_name = "UUID")]
        token: Option<uuid::Uuid>,
    },
    /// Forbid every use now, and destroy the key on a day to come
    #[command(after_help = "Examples:
  quorate keys schedule-deletion payments --days 7
  quorate keys cancel-deletion payments")]
    ScheduleDeletion {
        #[command(flatten)]
        which: Which,
        #[arg(long, default_value_t = DELETION_DAYS_MAX, help = format!("Days until then, {DELETION_DAYS_MIN} to {DELETION_DAYS_MAX}"),
            value_parser = clap::value_parser!(u32).range(DELETION_DAYS_MIN as i64..=DELETION_DAYS_MAX as i64))]
        days: u32,
    },
    /// Keep a key that waits for its destruction; it is disabled then
    #[command(after_help = "Examples:
  quorate keys cancel-deletion payments
  quorate keys enable payments")]
    CancelDeletion(Which),
}

/// The states of keys.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// May be used
    Enabled,
    /// May not be used
    Disabled,
    /// May not be used, and is destroyed on a day to come
    PendingDeletion,
}

impl State {
    fn in_proto(self) -> KeyState {
        match self {
            Self::Enabled => KeyState::Enabled,
            Self::Disabled => KeyState::Disabled,
            Self::PendingDeletion => KeyState::PendingDeletion,
        }
    }
}

#[derive(Args, Debug)]
struct Which {
    /// The key: its id, NAME or alias/NAME
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
        let token = |t: Option<uuid::Uuid>| t.map(|t| t.into_bytes().to_vec()).unwrap_or_default().into();
        let answer = match self.action {
            Action::List { state, limit } => return list(shared, &state, limit).await,
            Action::Create { count: Some(count), description, .. } => {
                return create_many(shared, count, description).await;
            }
            Action::Create { alias, description, token: t, count: None } => {
                let alias = alias.map(|name| name.to_string()).unwrap_or_default();
                let request = CreateKeyRequest { alias, description, token: token(t) };
                client.create_key(request).await.doing("create the key")?
            }
            Action::Describe(which) => client.describe_key(which.request()).await.doing("describe the key")?,
            Action::Enable(which) => client.enable_key(which.request()).await.doing("enable the key")?,
            Action::Disable(which) => client.disable_key(which.request()).await.doing("disable the key")?,
            Action::Rotate { which, token: t } => {
                let request = RotateKeyRequest { key: which.key, token: token(t) };
                client.rotate_key(request).await.doing("rotate the key")?
            }
            Action::ScheduleDeletion { which, days } => {
                let request = ScheduleKeyDeletionRequest { key: which.key, days, ..Default::default() };
                client.schedule_key_deletion(request).await.doing("schedule the key's deletion")?
            }
            Action::CancelDeletion(which) => {
                client.cancel_key_deletion(which.request()).await.doing("cancel the key's deletion")?
            }
        };
        show(shared, answer)
    }
}

const COLUMNS: [Column; 9] = [
    ("KEY", 36, Shown::Always),
    ("STATE", 8, Shown::Always),
    ("ALIASES", 16, Shown::Always),
    ("ALGORITHM", 9, Shown::Wide),
    ("VERSION", 7, Shown::Wide),
    ("CREATED", 20, Shown::Wide),
    ("ROTATED", 20, Shown::Wide),
    ("DESTROYED ON", 20, Shown::Wide),
    ("DESCRIPTION", 0, Shown::Wide),
];

fn row(k: &Key) -> [String; 9] {
    [
        k.key_id.clone(),
        state(k).into(),
        k.aliases.join(","),
        k.algorithm.clone(),
        k.current_version.to_string(),
        output::date(k.created_ms),
        output::date(k.rotated_ms),
        output::date(k.deletion_ms),
        k.description.clone(),
    ]
}

async fn list(shared: &Shared, states: &[State], limit: Option<u64>) -> CommandResult {
    let states: Vec<i32> = states.iter().map(|s| s.in_proto().into()).collect();
    let client = shared.client().await?;
    let mut left = limit.unwrap_or(u64::MAX);
    let page = async |page_token| {
        let request =
            ListKeysRequest { limit: left.min(PAGE_LEN_MAX.into()) as u32, page_token, states: states.clone() };
        let page = client.list_keys(request).await.doing("list keys")?;
        left = left.saturating_sub(page.keys.len() as u64);
        Ok((page.keys, if left == 0 { Default::default() } else { page.next_page_token }))
    };
    List::begin(shared.format(), "keys", COLUMNS).pages(page, to_json, row).await
}

/// Some requests at a time, and what they answer at once: memory does not grow with the number of keys.
async fn create_many(shared: &Shared, count: u64, description: String) -> CommandResult {
    let client = shared.client().await?;
    let mut list = List::begin(shared.format(), "keys", COLUMNS);
    let bar = output::progress(count);
    let requests = (0..count.div_ceil(KEYS_PER_REQUEST_MAX.into())).map(|n| {
        let client = client.starting_at(n as usize);
        let count = (count - n * u64::from(KEYS_PER_REQUEST_MAX)).min(KEYS_PER_REQUEST_MAX.into()) as u32;
        let request = CreateKeysRequest { count, description: description.clone(), token: Default::default() };
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

fn show(shared: &Shared, answer: KeyResponse) -> CommandResult {
    let key = answer.key.ok_or_else(|| Failure::failed("can't show the key", "the answer holds none", ""))?;
    shared.format().print(&to_json(&key), || {
        output::fields([
            ("key", key.key_id.clone()),
            ("aliases", key.aliases.join(", ")),
            ("state", state(&key).to_owned()),
            ("algorithm", key.algorithm.clone()),
            ("version", key.current_version.to_string()),
            ("description", key.description.clone()),
            ("created", output::date(key.created_ms)),
            ("rotated", output::date(key.rotated_ms)),
            ("destroyed on", output::date(key.deletion_ms)),
        ])
    })
}

/// A key in JSON, the same in every answer.
fn to_json(key: &Key) -> Value {
    json!({
        "key_id": key.key_id,
        "state": state(key),
        "algorithm": key.algorithm,
        "current_version": key.current_version,
        "aliases": key.aliases,
        "created_at": output::moment(key.created_ms),
        "rotated_at": output::moment(key.rotated_ms),
        "deletion_at": output::moment(key.deletion_ms),
        "description": output::text(&key.description),
    })
}

fn state(key: &Key) -> &'static str {
    match key.state() {
        KeyState::Enabled => "enabled",
        KeyState::Disabled => "disabled",
        KeyState::PendingDeletion => "pending-deletion",
        KeyState::Unspecified => "unknown",
    }
}
