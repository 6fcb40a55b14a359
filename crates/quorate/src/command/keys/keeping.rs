//! `quorate keys archive`, `recover`, `rekey`, `backup`, `restore`: keys that are put away, replaced, kept outside.

use std::path::PathBuf;

use clap::Subcommand;
use quorate_client::v1::{RekeyKeyRequest, RestoreKeyRequest};
use quorate_crypto::BACKUP_LEN_MAX;
use serde_json::json;

use super::{Which, show, token};
use crate::command::crypt::{Out, raw_or_json, refuse_terminal};
use crate::command::failure::{CommandResult, Doing};
use crate::command::{Shared, files};

#[derive(Subcommand, Debug)]
pub(super) enum OfKeeping {
    /// Put a key away: it is found and described, and not used until it is recovered
    #[command(after_help = "Examples:
  quorate keys archive payments
  quorate keys recover payments")]
    Archive(Which),
    /// Get a key back that was archived, as it was then
    #[command(after_help = "Examples:
  quorate keys recover payments")]
    Recover(Which),
    /// Replace a key by a new one of the same kind, which takes over its aliases; the old one stays as it is
    ///
    /// For who knows no versions: `quorate keys rotate` keeps the id, and the name that a key has for life, which stays with the old key
    /// here.
    #[command(after_help = "Examples:
  quorate keys rekey payments")]
    Rekey {
        #[command(flatten)]
        which: Which,
        /// A UUIDv7 of yours, of now: a repetition with the same one, for an hour, answers the same new key
        #[arg(long, value_name = "UUID")]
        token: Option<uuid::Uuid>,
    },
    /// Write a backup of a key, which this cluster alone can read; rights and aliases are not in it
    ///
    /// It outlives the key: whoever has it, and administers this cluster, can bring back what it holds, also after the key was
    /// destroyed. `quorate keys describe` shows when the last one was made.
    #[command(after_help = "Examples:
  quorate keys backup payments --out payments.backup
  quorate keys restore --in payments.backup")]
    Backup {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        out: Out,
    },
    /// Bring a key back from its backup: disabled, with its own name and without aliases
    ///
    /// It gets the id that it had if that is free, else a new one, which is no more exportable than the key that is there. A key whose ciphertexts name it (aes-256 unless you chose a mode)
    /// is restored only under its own id.
    #[command(after_help = "Examples:
  quorate keys restore --in payments.backup
  quorate keys enable KEY
  quorate alias create payments --key KEY")]
    Restore {
        /// The backup [default: standard input]
        #[arg(long = "in", value_name = "FILE")]
        input: Option<PathBuf>,
        /// Leave out the name that it had for life: another key has it now, or the key itself, which is still there
        #[arg(long)]
        without_name: bool,
        /// A UUIDv7 of yours, of now: a repetition with the same one, for an hour, restores only once
        #[arg(long, value_name = "UUID")]
        token: Option<uuid::Uuid>,
    },
}

impl OfKeeping {
    /// Does it.
    pub(super) async fn run(self, shared: &Shared) -> CommandResult {
        let client = shared.client().await?;
        let answer = match self {
            Self::Archive(which) => client.archive_key(which.request()).await.doing("archive the key")?,
            Self::Recover(which) => client.recover_key(which.request()).await.doing("recover the key")?,
            Self::Rekey { which, token: t } => {
                let request = RekeyKeyRequest { key: which.key, token: token(t) };
                client.rekey_key(request).await.doing("replace the key")?
            }
            Self::Backup { which, out } => {
                refuse_terminal(shared, out.path(), "")?;
                let made = client.backup_key(which.request()).await.doing("back the key up")?;
                let meta = json!({ "key_id": made.key_id, "versions": made.versions });
                return raw_or_json(shared, &out, 0o600, "backup", &made.backup, meta);
            }
            Self::Restore { input, without_name, token: t } => {
                let mut backup = files::read_input(input.as_deref(), BACKUP_LEN_MAX, "no backup is so long")?;
                let backup = std::mem::take(&mut *backup).into();
                let request = RestoreKeyRequest { backup, without_name, token: token(t) };
                client.restore_key(request).await.doing("restore the key")?
            }
        };
        show(shared, answer)
    }
}
