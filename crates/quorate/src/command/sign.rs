//! `quorate sign`, `verify`, `mac`, `verify-mac` and `public-key`: who made it, and that it is whole.

use std::io::Read;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{self, Context};
use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCompleter;
use quorate_client::v1::{
    GetPublicKeyRequest, ListVersionsRequest, MacRequest, SignRequest, VerifyMacRequest, VerifyRequest, VerifyResponse,
    VersionState, sign_request, verify_request,
};
use quorate_core::key_spec::{Algorithm, Digest};
use quorate_core::request::INPUT_LEN_MAX;
use quorate_crypto::material::PublicKey as Key;
use serde_json::json;

use super::crypt::{InOut, Out, raw_or_json};
use super::failure::{CommandResult, Doing, Failure};
use super::states::version_state_word;
use super::{Shared, completions, files, words};

/// By which key, version and algorithm.
#[derive(Args, Debug)]
pub struct By {
    /// The key: its id, NAME, alias/NAME or key/NAME
    #[arg(long, value_name = "KEY", add = ArgValueCompleter::new(completions::keys))]
    pub key: String,
    /// Which version [default: the current one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub version: Option<u32>,
    /// By which algorithm [default: the key's own]
    #[arg(long, value_name = "ALGORITHM", value_parser = words::algorithms(), hide_possible_values = true)]
    pub algorithm: Option<String>,
}

/// What is signed.
#[derive(Args, Debug)]
pub struct Signed {
    /// The input is the digest, not the message
    #[arg(long)]
    digest: bool,
    /// What ML-DSA and Ed25519ph call the context, at most 255 bytes
    #[arg(long, value_name = "TEXT", default_value = "")]
    context_string: String,
}

/// A message, or its digest.
enum Input {
    Message(Vec<u8>),
    Digest(Vec<u8>),
}

impl Signed {
    /// Reads what is signed. A long message is hashed here: only its digest goes to the cluster, for the key, version and algorithm
    /// that were looked at for this.
    async fn read(&self, by: &mut By, input: Option<&Path>, shared: &Shared) -> CommandResult<Input> {
        files::say_what_is_awaited(input, if self.digest { "the digest" } else { "the message" });
        let (name, mut reader) = files::open_input(input)?;
        let mut read = |buffer: &mut Vec<u8>, max: usize| {
            Read::take(&mut reader, max as u64)
                .read_to_end(buffer)
                .map_err(|e| Failure::failed(format!("can't read {name}"), e, ""))
        };
        let mut bytes = Vec::new();
        read(&mut bytes, INPUT_LEN_MAX + 1)?;
        if self.digest {
            return Ok(Input::Digest(bytes));
        }
        if bytes.len() <= INPUT_LEN_MAX {
            return Ok(Input::Message(bytes));
        }
        let algorithm = by.pin(shared).await?;
        let hash = match algorithm.digest() {
            Some(Digest::Sha256) => &digest::SHA256,
            Some(Digest::Sha384) => &digest::SHA384,
            Some(Digest::Sha512) => &digest::SHA512,
            _ => {
                let why = format!("{} signs whole messages, of at most {INPUT_LEN_MAX} bytes", algorithm.as_str());
                let todo = match algorithm {
                    Algorithm::Ed25519 => "sign by --algorithm ed25519ph, which signs a digest",
                    _ => "sign its digest, as a message of its own",
                };
                return Err(Failure::failed(format!("can't take {name}"), why, todo));
            }
        };
        let mut context = Context::new(hash);
        while !bytes.is_empty() {
            context.update(&bytes);
            bytes.clear();
            read(&mut bytes, INPUT_LEN_MAX)?;
        }
        Ok(Input::Digest(context.finish().as_ref().to_vec()))
    }
}

impl By {
    /// Looks which key, version and algorithm these are, and names them from here on.
    async fn pin(&mut self, shared: &Shared) -> CommandResult<Algorithm> {
        let before = self.version.map_or(0, |version| version.saturating_add(1));
        let request = ListVersionsRequest { key: self.key.clone(), limit: 1, before };
        let page = shared.client().await?.list_versions(request).await.doing("look at the key")?;
        let version = page.versions.into_iter().next();
        let missing = || Failure::failed("can't tell how the key signs", "it has no such version", "");
        let version = version.filter(|v| self.version.is_none_or(|wanted| wanted == v.version)).ok_or_else(missing)?;
        if !version.usage.iter().any(|usage| usage == "sign" || usage == "verify") {
            let why = format!("key {} is to {}", page.key_id, version.usage.join(", "));
            return Err(Failure::failed(
                "can't sign or verify",
                why,
                "create a key to sign: --spec ed25519, for example",
            ));
        }
        let named = self.algorithm.take().or_else(|| version.algorithms.into_iter().next()).unwrap_or_default();
        let algorithm = named.parse();
        (self.key, self.version, self.algorithm) = (page.key_id, Some(version.version), Some(named));
        algorithm.map_err(|e| Failure::failed("can't tell how the key signs", e, "say so with --algorithm"))
    }
}

/// Sign a message or its digest.
///
/// The signature goes to standard output as raw bytes: of ECDSA as DER, so that openssl takes it. A message of any length is
/// taken where the algorithm signs digests; a long one is hashed here.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate sign --key release --in quorate.tar.gz --out quorate.tar.gz.sig
  quorate sign --key release --algorithm rsa-pss-sha256 --in quorate.tar.gz --out quorate.tar.gz.sig
  sha256sum --binary f | xxd -r -p | quorate sign --key release --digest --out f.sig")]
pub struct Sign {
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    signed: Signed,
    #[command(flatten)]
    files: InOut,
}

impl Sign {
    /// Does it.
    pub async fn run(mut self, shared: &Shared) -> CommandResult {
        super::crypt::refuse_terminal(shared, self.files.out.path(), "")?;
        let input = match self.signed.read(&mut self.by, self.files.input.as_deref(), shared).await? {
            Input::Message(bytes) => sign_request::Input::Message(bytes.into()),
            Input::Digest(bytes) => sign_request::Input::Digest(bytes.into()),
        };
        let request = SignRequest {
            key: self.by.key,
            version: self.by.version.unwrap_or(0),
            algorithm: self.by.algorithm.unwrap_or_default(),
            context: self.signed.context_string.into_bytes().into(),
            input: Some(input),
        };
        let answer = shared.client().await?.sign(request).await.doing("sign")?;
        let meta = json!({ "key_id": answer.key_id, "key_version": answer.key_version, "algorithm": answer.algorithm });
        raw_or_json(shared, &self.files.out, 0o666, "signature", &answer.signature, meta)
    }
}

/// Verify a signature: exit code 0 if it is right, 1 if it is not.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate verify --key release --in quorate.tar.gz --signature quorate.tar.gz.sig
  quorate verify --key release --version 1 --in quorate.tar.gz --signature quorate.tar.gz.sig  one that version 1 made")]
pub struct Verify {
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    signed: Signed,
    /// Read the message from this file [default: standard input]
    #[arg(long = "in", value_name = "FILE")]
    input: Option<PathBuf>,
    /// The file that holds the signature
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
}

impl Verify {
    /// Does it.
    pub async fn run(mut self, shared: &Shared) -> CommandResult {
        let signature = files::read(&self.signature, "the signature")?;
        let input = match self.signed.read(&mut self.by, self.input.as_deref(), shared).await? {
            Input::Message(bytes) => verify_request::Input::Message(bytes.into()),
            Input::Digest(bytes) => verify_request::Input::Digest(bytes.into()),
        };
        let request = VerifyRequest {
            key: self.by.key,
            version: self.by.version.unwrap_or(0),
            algorithm: self.by.algorithm.unwrap_or_default(),
            context: self.signed.context_string.into_bytes().into(),
            signature: signature.into(),
            input: Some(input),
        };
        let answer = shared.client().await?.verify(request).await.doing("verify")?;
        tell(shared, &answer, "signature")
    }
}

/// Says whether it is right; what is not ends with exit code 1.
fn tell(shared: &Shared, answer: &VerifyResponse, what: &str) -> CommandResult {
    let state = version_state_word(answer.version_state());
    let json = json!({
        "valid": answer.valid,
        "key_id": answer.key_id,
        "key_version": answer.key_version,
        "algorithm": answer.algorithm,
        "version_state": state,
    });
    if answer.valid && answer.version_state() == VersionState::Compromised {
        eprintln!(
            "warning: version {} of key {} is compromised: others may have its key, and have made this {what}",
            answer.key_version, answer.key_id
        );
    }
    if let Some(format) = shared.asked_for_programs() {
        format.print(&json, comfy_table::Table::new)?;
    }
    let by = format!("version {} ({state}) of key {}, {}", answer.key_version, answer.key_id, answer.algorithm);
    match (answer.valid, shared.asked_for_programs()) {
        (true, None) => super::output::line(&format!("the {what} is right: {by}")),
        (true, Some(_)) => Ok(()),
        (false, _) => {
            let todo = "make sure that message, key, version and algorithm are those that it was made with";
            Err(Failure::not_valid(format!("the {what} is not right"), by, todo))
        }
    }
}

/// Make a message authentication code.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate mac --key webhooks --in request.json --out request.mac
  echo hello | quorate mac --key webhooks --output json")]
pub struct Mac {
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    files: InOut,
}

const LONGER: &str = "make the code of its digest";

impl Mac {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        super::crypt::refuse_terminal(shared, self.files.out.path(), "")?;
        files::say_what_is_awaited(self.files.input.as_deref(), "the message");
        let mut message = files::read_input(self.files.input.as_deref(), INPUT_LEN_MAX, LONGER)?;
        let request = MacRequest {
            key: self.by.key,
            version: self.by.version.unwrap_or(0),
            algorithm: self.by.algorithm.unwrap_or_default(),
            message: std::mem::take(&mut *message).into(),
        };
        let answer = shared.client().await?.mac(request).await.doing("make the code")?;
        let meta = json!({ "key_id": answer.key_id, "key_version": answer.key_version, "algorithm": answer.algorithm });
        raw_or_json(shared, &self.files.out, 0o666, "mac", &answer.mac, meta)
    }
}

/// Verify a message authentication code: exit code 0 if it is right, 1 if it is not.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate verify-mac --key webhooks --in request.json --mac request.mac")]
pub struct VerifyMac {
    #[command(flatten)]
    by: By,
    /// Read the message from this file [default: standard input]
    #[arg(long = "in", value_name = "FILE")]
    input: Option<PathBuf>,
    /// The file that holds the code
    #[arg(long, value_name = "FILE")]
    mac: PathBuf,
}

impl VerifyMac {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let mac = files::read(&self.mac, "the code")?;
        files::say_what_is_awaited(self.input.as_deref(), "the message");
        let mut message = files::read_input(self.input.as_deref(), INPUT_LEN_MAX, LONGER)?;
        let request = VerifyMacRequest {
            key: self.by.key,
            version: self.by.version.unwrap_or(0),
            algorithm: self.by.algorithm.unwrap_or_default(),
            message: std::mem::take(&mut *message).into(),
            mac: mac.into(),
        };
        let answer = shared.client().await?.verify_mac(request).await.doing("verify the code")?;
        tell(shared, &answer, "code")
    }
}

/// How a public key is written.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum Encoding {
    /// Text between BEGIN PUBLIC KEY and END PUBLIC KEY (RFC 7468)
    Pem,
    /// SubjectPublicKeyInfo (RFC 5280)
    Der,
    /// JSON Web Key (RFC 7517)
    Jwk,
}

/// Get the public key of a pair, for others to verify, encrypt or agree with.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate public-key release > release.pem
  quorate public-key release --format der --out release.der
  quorate public-key release --format jwk
  openssl dgst -sha256 -verify release.pem -signature f.sig f  # what ecdsa-sha256 made of f")]
pub struct PublicKey {
    /// The key: its id, NAME, alias/NAME or key/NAME
    #[arg(value_name = "KEY", add = ArgValueCompleter::new(completions::keys))]
    key: String,
    /// Which version [default: the current one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    version: Option<u32>,
    /// How it is written
    #[arg(long, value_enum, value_name = "FORMAT", default_value = "pem")]
    format: Encoding,
    #[command(flatten)]
    out: Out,
}

impl PublicKey {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        if self.format == Encoding::Der {
            super::crypt::refuse_terminal(shared, self.out.path(), ", or --format pem")?;
        }
        let request = GetPublicKeyRequest { key: self.key, version: self.version.unwrap_or(0) };
        let answer = shared.client().await?.get_public_key(request).await.doing("get the public key")?;
        let spki = &answer.public_key[..];
        let bytes = match self.format {
            Encoding::Der => spki.to_vec(),
            Encoding::Pem => super::output::pem("PUBLIC KEY", spki).into_bytes(),
            Encoding::Jwk => {
                let cant = |why| Failure::failed("can't write it as JSON Web Key", why, "take --format pem, or der");
                let key = Key::parse(spki).map_err(|e| cant(e.to_string()))?;
                let members = key.jwk().ok_or_else(|| cant(format!("there is none for {}", answer.spec)))?;
                let members = members.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
                format!("{}\n", serde_json::Value::Object(members.collect())).into_bytes()
            }
        };
        let meta = json!({
            "key_id": answer.key_id,
            "key_version": answer.key_version,
            "spec": answer.spec,
            "usage": answer.usage,
        });
        raw_or_json(shared, &self.out, 0o666, "public_key", &bytes, meta)
    }
}
