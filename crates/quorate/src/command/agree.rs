//! `quorate agree`, `encapsulate` and `decapsulate`: secrets shared with somebody else.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use quorate_client::v1::{AgreeRequest, DecapsulateRequest, EncapsulateRequest};
use quorate_core::record::PUBLIC_LEN_MAX;
use serde_json::json;

use super::crypt::{InOut, Out, raw_or_json};
use super::failure::{CommandResult, Doing};
use super::{Shared, completions, files, output, public};

/// By which key and version: there is but one algorithm.
#[derive(Args, Debug)]
struct Of {
    /// The key: its id, NAME, alias/NAME or key/NAME
    #[arg(long, value_name = "KEY", add = ArgValueCompleter::new(completions::keys))]
    key: String,
    /// Which version [default: the current one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    version: Option<u32>,
}

/// Agree on a secret with the holder of another private key.
///
/// Writes the raw shared secret: derive keys from it, never use it as one.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate agree --key meeting --peer theirs.pem --out secret.bin")]
pub struct Agree {
    #[command(flatten)]
    by: Of,
    /// The peer's public key, PEM, DER or a JSON Web Key
    #[arg(long, value_name = "FILE")]
    peer: PathBuf,
    #[command(flatten)]
    out: Out,
}

impl Agree {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        super::crypt::refuse_terminal(shared, self.out.path(), "")?;
        let peer = public::read(&self.peer)?;
        let request = AgreeRequest { key: self.by.key, version: self.by.version.unwrap_or(0), peer };
        let answer = shared.client().await?.agree(request).await.doing("agree on a secret")?;
        let meta = json!({ "key_id": answer.key_id, "key_version": answer.key_version });
        raw_or_json(shared, &self.out, 0o600, "secret", &answer.secret, meta)
    }
}

/// Make a shared secret, and its encapsulation, which only the holder of the private key opens.
///
/// With --out the encapsulation goes to that file, and the secret, raw, to standard output.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate encapsulate --key inbox --out ciphertext.bin > secret.bin
  quorate encapsulate --key inbox --output json")]
pub struct Encapsulate {
    #[command(flatten)]
    by: Of,
    #[command(flatten)]
    out: Out,
}

impl Encapsulate {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        if self.out.path().is_some() {
            super::crypt::refuse_terminal(shared, None, "")?;
        }
        let request = EncapsulateRequest { key: self.by.key, version: self.by.version.unwrap_or(0) };
        let answer = shared.client().await?.encapsulate(request).await.doing("encapsulate")?;
        let mut json = json!({
            "key_id": answer.key_id,
            "key_version": answer.key_version,
            "secret": output::base64(&answer.secret),
        });
        match (self.out.path(), shared.asked_for_programs()) {
            (Some(_), None) => {
                raw_or_json(shared, &self.out, 0o666, "ciphertext", &answer.ciphertext, json!({}))?;
                output::bytes(&answer.secret)
            }
            (Some(_), Some(_)) => raw_or_json(shared, &self.out, 0o666, "ciphertext", &answer.ciphertext, json),
            (None, _) => {
                json["ciphertext"] = output::base64(&answer.ciphertext).into();
                shared.format().print(&json, || {
                    output::fields([
                        ("key", answer.key_id.clone()),
                        ("version", answer.key_version.to_string()),
                        ("ciphertext", output::base64(&answer.ciphertext)),
                        ("secret", output::base64(&answer.secret)),
                    ])
                })
            }
        }
    }
}

/// Open an encapsulation: writes the shared secret.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate decapsulate --key inbox --in ciphertext.bin --out secret.bin")]
pub struct Decapsulate {
    #[command(flatten)]
    by: Of,
    #[command(flatten)]
    files: InOut,
}

impl Decapsulate {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        super::crypt::refuse_terminal(shared, self.files.out.path(), "")?;
        files::say_what_is_awaited(self.files.input.as_deref(), "the encapsulation");
        let longer = "it is no encapsulation of ML-KEM";
        let mut ciphertext = files::read_input(self.files.input.as_deref(), PUBLIC_LEN_MAX, longer)?;
        let ciphertext = std::mem::take(&mut *ciphertext).into();
        let request = DecapsulateRequest { key: self.by.key, version: self.by.version.unwrap_or(0), ciphertext };
        let answer = shared.client().await?.decapsulate(request).await.doing("decapsulate")?;
        let meta = json!({ "key_id": answer.key_id, "key_version": answer.key_version });
        raw_or_json(shared, &self.files.out, 0o600, "secret", &answer.secret, meta)
    }
}
