//! `quorate derive` and `digest`.

use clap::Args;
use clap::builder::PossibleValuesParser;
use quorate_client::v1::{DeriveKeyRequest, MakeDigestRequest};
use quorate_core::key_spec::Digest as Hash;
use quorate_core::request::INPUT_LEN_MAX;
use serde_json::json;

use super::crypt::{InOut, Out, raw_or_json, refuse_terminal};
use super::failure::{CommandResult, Doing};
use super::sign::By;
use super::{Shared, files, output};

fn hashes() -> PossibleValuesParser {
    PossibleValuesParser::new(Hash::ALL.iter().map(|hash| hash.as_str()))
}

/// Derive another key from a key: the same request gives the same bytes.
///
/// Writes the raw bytes. The methods are kbkdf (SP 800-108, the default), derive-hmac, derive-hash and pbkdf2.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate keys create --alias root --spec aes-256 --usage derive
  quorate derive --key root --info tenant-blue --bytes 32 --out tenant.key
  quorate derive --key root --algorithm pbkdf2 --info salt --iterations 100000 --bytes 32 --out k")]
pub struct Derive {
    #[command(flatten)]
    by: By,
    /// What it is for: kbkdf's fixed input, derive-hmac's data, pbkdf2's salt
    #[arg(long, value_name = "TEXT", default_value = "")]
    info: String,
    /// The method's hash function
    #[arg(long, value_name = "HASH", default_value = "sha256", value_parser = hashes())]
    digest: String,
    /// pbkdf2's iterations
    #[arg(long, value_name = "N", default_value_t = 0, required_if_eq("algorithm", "pbkdf2"))]
    iterations: u32,
    /// How many bytes
    #[arg(long, value_name = "N")]
    bytes: u32,
    #[command(flatten)]
    out: Out,
}

impl Derive {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        refuse_terminal(shared, self.out.path(), "")?;
        let request = DeriveKeyRequest {
            key: self.by.key,
            version: self.by.version.unwrap_or(0),
            algorithm: self.by.algorithm.unwrap_or_default(),
            digest: self.digest,
            info: self.info.into_bytes().into(),
            iterations: self.iterations,
            bytes: self.bytes,
        };
        let answer = shared.client().await?.derive_key(request).await.doing("derive a key")?;
        let meta = json!({ "key_id": answer.key_id, "key_version": answer.key_version, "algorithm": answer.algorithm });
        raw_or_json(shared, &self.out, 0o600, "derived", &answer.derived, meta)
    }
}

/// Make the digest of a message, by the cluster; no key is used.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate digest --in app.tar
  quorate digest --digest sha512 --output json < message")]
pub struct Digest {
    /// The hash function
    #[arg(long, value_name = "HASH", default_value = "sha256", value_parser = hashes())]
    digest: String,
    #[command(flatten)]
    files: InOut,
}

impl Digest {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        files::say_what_is_awaited(self.files.input.as_deref(), "the message");
        let longer = "hash it where it is, with sha256sum for example";
        let mut message = files::read_input(self.files.input.as_deref(), INPUT_LEN_MAX, longer)?;
        let request = MakeDigestRequest { digest: self.digest.clone(), message: std::mem::take(&mut *message).into() };
        let digest = shared.client().await?.make_digest(request).await.doing("make the digest")?.digest;
        if shared.asked_for_programs().is_none() && self.files.out.path().is_none() {
            return output::line(&output::hex(&digest));
        }
        raw_or_json(shared, &self.files.out, 0o666, "digest", &digest, json!({ "algorithm": self.digest }))
    }
}
