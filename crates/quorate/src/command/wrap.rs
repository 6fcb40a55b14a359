//! `quorate wrap`, `unwrap`, `reencrypt` and `data-key-pair`.

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use quorate_client::v1::{GenerateDataKeyPairRequest, ReEncryptRequest, UnwrapRequest, WrapRequest};
use quorate_core::request::{PLAINTEXT_LEN_MAX, WRAPPED_LEN_MAX};
use serde_json::json;

use super::crypt::{Aad, InOut, raw_or_json, read_ciphertext, refuse_terminal};
use super::failure::{CommandResult, Doing};
use super::sign::By;
use super::{Shared, completions, files, output, words};

/// Wrap the bytes of a key that you hold (AES key wrap, RSA-OAEP).
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate wrap --key kek --in session.key --out session.key.wrapped
  quorate wrap --key kek --algorithm aes-kw --in session.key --out session.key.wrapped")]
pub struct Wrap {
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    files: InOut,
}

const LONGER: &str = "what is so long is no key; encrypt it under a data key";

impl Wrap {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        refuse_terminal(shared, self.files.out.path(), "")?;
        files::say_what_is_awaited(self.files.input.as_deref(), "the key");
        let mut key = files::read_input(self.files.input.as_deref(), PLAINTEXT_LEN_MAX, LONGER)?;
        let request = WrapRequest {
            key: self.by.key,
            version: self.by.version.unwrap_or(0),
            algorithm: self.by.algorithm.unwrap_or_default(),
            plaintext: std::mem::take(&mut *key).into(),
        };
        let answer = shared.client().await?.wrap(request).await.doing("wrap the key")?;
        let meta = json!({ "key_id": answer.key_id, "key_version": answer.key_version, "algorithm": answer.algorithm });
        raw_or_json(shared, &self.files.out, 0o666, "wrapped", &answer.wrapped, meta)
    }
}

/// Unwrap what `wrap` made.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate unwrap --key kek --in session.key.wrapped --out session.key")]
pub struct Unwrap {
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    files: InOut,
}

impl Unwrap {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        refuse_terminal(shared, self.files.out.path(), "")?;
        files::say_what_is_awaited(self.files.input.as_deref(), "the wrapped key");
        let mut wrapped = files::read_input(self.files.input.as_deref(), WRAPPED_LEN_MAX, LONGER)?;
        let request = UnwrapRequest {
            key: self.by.key,
            version: self.by.version.unwrap_or(0),
            algorithm: self.by.algorithm.unwrap_or_default(),
            wrapped: std::mem::take(&mut *wrapped).into(),
        };
        let answer = shared.client().await?.unwrap(request).await.doing("unwrap the key")?;
        let meta = json!({ "key_id": answer.key_id, "key_version": answer.key_version, "algorithm": answer.algorithm });
        raw_or_json(shared, &self.files.out, 0o600, "plaintext", &answer.plaintext, meta)
    }
}

/// Encrypt anew what is in a ciphertext, under another key or the same one's current version; its plaintext stays in the cluster.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate reencrypt --to payments --in password.q --out password.q2  after a rotation, under the new version
  quorate reencrypt --key payments --to cards --aad a=b --to-aad a=b --in a.q --out b.q")]
pub struct ReEncrypt {
    /// Refuse a ciphertext of any key but this one; may be given several times
    #[arg(long, value_name = "KEY", add = ArgValueCompleter::new(completions::keys))]
    key: Vec<String>,
    /// The key that encrypts anew: its id, NAME, alias/NAME or key/NAME
    #[arg(long, value_name = "KEY", add = ArgValueCompleter::new(completions::keys))]
    to: String,
    #[command(flatten)]
    aad: Aad,
    /// Associated data of the new ciphertext [default: none]; may be given several times
    #[arg(long = "to-aad", value_name = "NAME=VALUE", value_parser = super::crypt::pair)]
    to_aad: Vec<(String, String)>,
    #[command(flatten)]
    files: InOut,
}

impl ReEncrypt {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        refuse_terminal(shared, self.files.out.path(), "")?;
        let request = ReEncryptRequest {
            ciphertext: read_ciphertext(self.files.input.as_deref())?,
            aad: self.aad.to_proto(),
            key: self.key,
            to: self.to,
            to_aad: super::crypt::pairs_to_proto(&self.to_aad),
        };
        let answer = shared.client().await?.re_encrypt(request).await.doing("encrypt anew")?;
        let meta = json!({
            "key_id": answer.key_id,
            "key_version": answer.key_version,
            "from_key_id": answer.from_key_id,
            "from_key_version": answer.from_key_version,
        });
        raw_or_json(shared, &self.files.out, 0o666, "ciphertext", &answer.ciphertext, meta)
    }
}

/// Make a key pair, its private key encrypted under a key.
///
/// Nothing of it is kept in the cluster. Get the private key (PKCS#8) back with `quorate decrypt`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate data-key-pair --key payments --spec p-256 --output json
  quorate data-key-pair --key payments --spec ed25519 --no-plaintext")]
pub struct DataKeyPair {
    /// The key: its id, NAME, alias/NAME or key/NAME
    #[arg(long, value_name = "KEY", add = ArgValueCompleter::new(completions::keys))]
    key: String,
    /// The pair's kind
    #[arg(long, value_name = "SPEC", value_parser = words::specs(), hide_possible_values = true)]
    spec: String,
    /// Only the encrypted private key
    #[arg(long)]
    no_plaintext: bool,
    #[command(flatten)]
    aad: Aad,
}

impl DataKeyPair {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let request = GenerateDataKeyPairRequest {
            key: self.key,
            spec: self.spec,
            aad: self.aad.to_proto(),
            without_plaintext: self.no_plaintext,
        };
        let answer = shared.client().await?.generate_data_key_pair(request).await.doing("make a data key pair")?;
        let plaintext = (!self.no_plaintext).then(|| output::base64(&answer.plaintext));
        let json = json!({
            "key_id": answer.key_id,
            "key_version": answer.key_version,
            "public_key": output::base64(&answer.public_key),
            "ciphertext": output::base64(&answer.ciphertext),
            "plaintext": plaintext,
        });
        shared.format().print(&json, || {
            output::fields([
                ("key", answer.key_id.clone()),
                ("version", answer.key_version.to_string()),
                ("public key", output::base64(&answer.public_key)),
                ("ciphertext", output::base64(&answer.ciphertext)),
                ("plaintext", plaintext.clone().unwrap_or_default()),
            ])
        })
    }
}
