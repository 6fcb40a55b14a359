//! `quorate secret …`: values that are kept in versions, and read by who may.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use quorate_client::v1::{
    DeleteSecretRequest, GetSecretRequest, ListSecretsRequest, Secret, SecretRequest, SecretResponse, SetSecretRequest,
    UpdateSecretRequest,
};
use quorate_core::request::{
    CONTENT_TYPE_LEN_MAX, DELETION_DAYS_DEFAULT, DELETION_DAYS_MAX, DELETION_DAYS_MIN, PAGE_LEN_MAX, SECRET_LEN_MAX,
};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use self::version::{row_of_version, version_to_json};
use super::crypt::{Out, raw_or_json};
use super::failure::{CommandResult, Doing, Failure};
use super::output::{self, Column, List, Shown};
use super::states::{State, state_word};
use super::{Shared, completions, files, words};

mod version;

/// Keep secrets: passwords, tokens, certificates, whatever a program must be told and nobody else.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate secret set db-password
  quorate secret get db-password
  quorate secret list")]
pub struct SecretCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Set a secret's value: makes the secret, or a new version of it
    ///
    /// The value is typed without being shown, or comes from standard input or a file, whole, with its line ends if it has some. It is
    /// no argument: everybody on this machine can read those.
    #[command(after_help = "Examples:
  quorate secret set db-password
  quorate random --bytes 32 | quorate secret set api-key
  quorate secret set tls-key --in key.pem --content-type application/x-pem-file --expires 2027-12-31
  quorate secret set db-password --tag team=shop --output json < password")]
    Set {
        #[command(flatten)]
        which: Which,
        /// Read this file [default: standard input, or the terminal]
        #[arg(long = "in", value_name = "FILE")]
        input: Option<PathBuf>,
        #[arg(long, value_name = "TYPE", default_value = "", help = format!("What kind of content it is, in your own words: at most {CONTENT_TYPE_LEN_MAX} characters"))]
        content_type: String,
        /// From when it is good; whoever reads it is told, and nothing is forbidden
        #[arg(long, value_name = "DATE", default_value = "none", value_parser = words::date)]
        not_before: u64,
        /// Until when, likewise
        #[arg(long, value_name = "DATE", default_value = "none", value_parser = words::date)]
        expires: u64,
        /// Nobody reads the new version before `update --enabled true`
        #[arg(long)]
        disabled: bool,
        /// A tag of the secret, over one of the same name; may be given several times
        #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = words::tag)]
        tags: Vec<(String, String)>,
        /// For ever: nothing of the secret is destroyed before the day that a deletion sets
        #[arg(long)]
        purge_protection: bool,
        /// A UUIDv7 of yours, of now: a repetition with the same one, for an hour, makes no second version
        #[arg(long, value_name = "UUID")]
        token: Option<uuid::Uuid>,
    },
    /// Read a secret: its value, as it was set, to standard output or a file
    #[command(after_help = "Examples:
  quorate secret get db-password
  quorate secret get tls-key --version 1 --out key.pem
  quorate secret get db-password --output json  with the value in base64")]
    Get {
        #[command(flatten)]
        which: Which,
        /// Which version [default: the current one]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        version: Option<u32>,
        #[command(flatten)]
        out: Out,
    },
    /// Show what is known of a secret, without its value
    #[command(after_help = "Examples:
  quorate secret describe db-password
  quorate secret describe db-password --output json")]
    Describe(Which),
    /// List secrets, newest first, without their values
    #[command(after_help = "Examples:
  quorate secret list
  quorate secret list --state pending-deletion
  quorate secret list --tag team=shop --output json")]
    List {
        /// Only secrets in that state; may be given several times
        #[arg(long, value_name = "STATE", value_parser = State::of_secrets())]
        state: Vec<State>,
        /// Only secrets with that tag; may be given several times, and then all are asked for
        #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = words::tag)]
        tags: Vec<(String, String)>,
        /// At most this many; all without it
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        limit: Option<u64>,
    },
    /// List a secret's versions, newest first, without their values
    #[command(after_help = "Examples:
  quorate secret versions db-password
  quorate secret versions db-password --output json")]
    Versions(Which),
    /// Change what is said of a version, whether it may be read, and the secret's tags
    #[command(after_help = "Examples:
  quorate secret update db-password --enabled false
  quorate secret update tls-key --version 2 --expires 2028-12-31
  quorate secret update db-password --tag team=shop --untag stage")]
    Update {
        #[command(flatten)]
        which: Which,
        /// Which version [default: the current one]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        version: Option<u32>,
        /// Whether the version may be read
        #[arg(long, value_name = "BOOL")]
        enabled: Option<bool>,
        /// What kind of content the version is
        #[arg(long, value_name = "TYPE")]
        content_type: Option<String>,
        /// From when the version is good
        #[arg(long, value_name = "DATE", value_parser = words::date)]
        not_before: Option<u64>,
        /// Until when
        #[arg(long, value_name = "DATE", value_parser = words::date)]
        expires: Option<u64>,
        /// A tag of the secret, over one of the same name; may be given several times
        #[arg(long = "tag", value_name = "NAME=VALUE", value_parser = words::tag)]
        tags: Vec<(String, String)>,
        /// Name of a tag to take off the secret; may be given several times
        #[arg(long, value_name = "NAME")]
        untag: Vec<String>,
    },
    /// Let nobody read a secret any more, and destroy it on a day to come; until then its name is taken
    #[command(after_help = "Examples:
  quorate secret delete db-password --days 7
  quorate secret recover db-password")]
    Delete {
        #[command(flatten)]
        which: Which,
        #[arg(long, default_value_t = DELETION_DAYS_DEFAULT, help = format!("Days until then, {DELETION_DAYS_MIN} to {DELETION_DAYS_MAX}"),
            value_parser = clap::value_parser!(u32).range(DELETION_DAYS_MIN as i64..=DELETION_DAYS_MAX as i64))]
        days: u32,
    },
    /// Take a secret's deletion back: it is as it was
    #[command(after_help = "Examples:
  quorate secret recover db-password")]
    Recover(Which),
    /// Destroy a deleted secret now, before its day; there is no way back
    #[command(after_help = "Examples:
  quorate secret delete db-password
  quorate secret purge db-password")]
    Purge(Which),
}

#[derive(Args, Debug)]
struct Which {
    /// The secret's name: 1 to 127 of A-Z a-z 0-9 -, in any case
    #[arg(value_name = "NAME", add = ArgValueCompleter::new(completions::secrets))]
    name: String,
}

impl Which {
    fn request(self) -> SecretRequest {
        SecretRequest { name: self.name }
    }
}

impl SecretCommand {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let answer = match self.action {
            Action::Set {
                which,
                input,
                content_type,
                not_before,
                expires,
                disabled,
                tags,
                purge_protection,
                token,
            } => {
                let mut value = value(input)?;
                let request = SetSecretRequest {
                    name: which.name,
                    value: std::mem::take(&mut *value).into(),
                    content_type,
                    not_before_ms: not_before,
                    expires_ms: expires,
                    disabled,
                    tags: words::to_proto(tags),
                    purge_protected: purge_protection,
                    token: token.map(|token| token.into_bytes().to_vec()).unwrap_or_default().into(),
                };
                shared.client().await?.set_secret(request).await.doing("set the secret")?
            }
            Action::Get { which, version, out } => return get(shared, which.name, version, &out).await,
            Action::List { state, tags, limit } => return list(shared, &state, tags, limit).await,
            Action::Versions(which) => return version::list(shared, which.name).await,
            Action::Describe(which) => {
                shared.client().await?.describe_secret(which.request()).await.doing("describe the secret")?
            }
            Action::Update { which, version, enabled, content_type, not_before, expires, tags, untag } => {
                let request = UpdateSecretRequest {
                    name: which.name,
                    version: version.unwrap_or(0),
                    enabled,
                    content_type,
                    not_before_ms: not_before,
                    expires_ms: expires,
                    tags: words::to_proto(tags),
                    untag,
                };
                shared.client().await?.update_secret(request).await.doing("update the secret")?
            }
            Action::Delete { which, days } => {
                let request = DeleteSecretRequest { name: which.name, days, ..Default::default() };
                shared.client().await?.delete_secret(request).await.doing("delete the secret")?
            }
            Action::Recover(which) => {
                shared.client().await?.recover_secret(which.request()).await.doing("recover the secret")?
            }
            Action::Purge(which) => {
                let client = shared.client().await?;
                let id = client.purge_secret(which.request()).await.doing("purge the secret")?.secret_id;
                return shared.format().print(&json!({ "secret_id": id, "state": "destroyed" }), || {
                    output::fields([("secret", id.as_str()), ("state", "destroyed")])
                });
            }
        };
        show(shared, answer)
    }
}

/// The value to be set: from the file or standard input, or typed twice, and not seen.
fn value(input: Option<PathBuf>) -> CommandResult<Zeroizing<Vec<u8>>> {
    use std::io::IsTerminal;
    if input.is_some() || !std::io::stdin().is_terminal() {
        let longer = "a secret is no longer than that; encrypt more with `quorate file encrypt`";
        return files::read_input(input.as_deref(), SECRET_LEN_MAX, longer);
    }
    let typed = |prompt| files::read_secret(prompt, SECRET_LEN_MAX);
    let mut first = typed("Value of the secret, on one line: ")?;
    if *first != *typed("Once more: ")? {
        return Err(Failure::failed("can't set the secret", "the two were not the same; nothing was sent", ""));
    }
    Ok(Zeroizing::new(std::mem::take(&mut *first).into_bytes()))
}

async fn get(shared: &Shared, name: String, version: Option<u32>, out: &Out) -> CommandResult {
    let request = GetSecretRequest { name, version: version.unwrap_or(0) };
    let read = shared.client().await?.get_secret(request).await.doing("read the secret")?;
    let version = read.version.unwrap_or_default();
    let meta = json!({
        "secret_id": read.secret_id,
        "name": read.name,
        "version": version.version,
        "content_type": output::text(&version.content_type),
        "not_before_at": output::moment(version.not_before_ms),
        "expires_at": output::moment(version.expires_ms),
    });
    raw_or_json(shared, out, 0o600, "value", &read.value, meta)
}

const COLUMNS: [Column; 7] = [
    ("NAME", 24, Shown::Always),
    ("STATE", 8, Shown::Always),
    ("VERSION", 7, Shown::Always),
    ("SET", 20, Shown::Always),
    ("SECRET", 36, Shown::Wide),
    ("DESTROYED ON", 20, Shown::Wide),
    ("TAGS", 0, Shown::Wide),
];

async fn list(shared: &Shared, state: &[State], of: Vec<(String, String)>, limit: Option<u64>) -> CommandResult {
    let client = shared.client().await?;
    let (states, _) = State::asked(state);
    let wanted = ListSecretsRequest { states, tags: words::to_proto(of), ..Default::default() };
    let mut left = limit.unwrap_or(u64::MAX);
    let page = async |page_token| {
        let request = ListSecretsRequest { limit: left.min(PAGE_LEN_MAX.into()) as u32, page_token, ..wanted.clone() };
        let page = client.list_secrets(request).await.doing("list secrets")?;
        left = left.saturating_sub(page.secrets.len() as u64);
        let more = left != 0 && !page.next_page_token.is_empty();
        Ok((page.secrets, more.then_some(page.next_page_token)))
    };
    let row = |s: &Secret| {
        [
            s.name.clone(),
            state_word(s.state()).to_owned(),
            s.current_version.to_string(),
            output::date(s.set_ms),
            s.secret_id.clone(),
            output::date(s.deletion_ms),
            words::tags(&s.tags, ","),
        ]
    };
    List::begin(shared.format(), "secrets", COLUMNS).pages(page, to_json, row).await
}

fn show(shared: &Shared, answer: SecretResponse) -> CommandResult {
    let missing = || Failure::failed("can't show the secret", "the answer holds none", "");
    let secret = answer.secret.ok_or_else(missing)?;
    let mut json = to_json(&secret);
    if let Some(version) = &answer.version {
        json["version"] = version_to_json(version);
    }
    shared.format().print(&json, || {
        let of_version = answer.version.as_ref().map(row_of_version).unwrap_or_default();
        let fields = [
            ("secret", secret.name.clone()),
            ("id", secret.secret_id.clone()),
            ("state", state_word(secret.state()).to_owned()),
            ("current version", secret.current_version.to_string()),
            ("tags", words::tags(&secret.tags, "\n")),
            ("created", output::date(secret.created_ms)),
            ("set", output::date(secret.set_ms)),
            ("purge protection", if secret.purge_protected { "yes" } else { "" }.to_owned()),
            ("destroyed on", output::date(secret.deletion_ms)),
        ];
        output::fields(fields.into_iter().chain(of_version))
    })
}

/// A secret in JSON, the same in every answer.
fn to_json(secret: &Secret) -> Value {
    json!({
        "secret_id": secret.secret_id,
        "name": secret.name,
        "state": state_word(secret.state()),
        "current_version": secret.current_version,
        "tags": words::tags_to_json(&secret.tags),
        "created_at": output::moment(secret.created_ms),
        "updated_at": output::moment(secret.updated_ms),
        "set_at": output::moment(secret.set_ms),
        "purge_protected": secret.purge_protected,
        "deletion_at": output::moment(secret.deletion_ms),
    })
}
