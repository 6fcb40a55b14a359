//! `quorate encrypt`, `decrypt`, `data-key` and `random`: uses of keys.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::Args;
use clap_complete::engine::ArgValueCompleter;
use quorate_client::v1::{
    AssociatedData, DecryptRequest, EncryptRequest, GenerateDataKeyRequest, GenerateRandomRequest,
};
use quorate_core::request::{DATA_KEY_LEN_DEFAULT, DATA_KEY_LEN_MAX, PLAINTEXT_LEN_MAX, RANDOM_LEN_MAX};
use quorate_crypto::material::symmetric::BlobHeader;
use serde_json::{Value, json};

use super::failure::{CommandResult, Doing, Failure};
use super::files::{self, Existing, Sink};
use super::output;
use super::sign::By;
use super::{Shared, completions, words};

/// More than any ciphertext of `encrypt` or `data-key` has, in bytes.
const CIPHERTEXT_LEN_MAX: usize = PLAINTEXT_LEN_MAX + 4096;
/// The same as text, with its line ends and what people put around it.
const ARMORED_LEN_MAX: usize = CIPHERTEXT_LEN_MAX * 2;
/// Label of a ciphertext as text (RFC 7468).
const ARMOR: &str = "QUORATE CIPHERTEXT";

/// Associated data of a use.
#[derive(Args, Debug, Default)]
pub struct Aad {
    /// Associated data, bound to the ciphertext and not stored in it; may be given several times
    #[arg(long = "aad", value_name = "NAME=VALUE", value_parser = pair)]
    pairs: Vec<(String, String)>,
}

/// Associated data of a standard's mode.
#[derive(Args, Debug, Default)]
struct RawAad {
    /// Associated data of aes-gcm, which binds raw bytes and no pairs
    #[arg(long, value_name = "TEXT", default_value = "")]
    associated_data: String,
}

impl RawAad {
    fn bytes(self) -> bytes::Bytes {
        self.associated_data.into_bytes().into()
    }
}

impl Aad {
    /// As the protocol has it.
    pub fn to_proto(&self) -> Vec<AssociatedData> {
        pairs_to_proto(&self.pairs)
    }
}

/// Pairs as the protocol has them.
pub fn pairs_to_proto(pairs: &[(String, String)]) -> Vec<AssociatedData> {
    let pair = |(key, value): &(String, String)| AssociatedData { key: key.clone(), value: value.clone() };
    pairs.iter().map(pair).collect()
}

/// A pair of associated data.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, as in tenant=blue".into()),
    }
}

/// Encrypt up to 4096 bytes.
///
/// Reads raw bytes and writes raw ciphertext, or text with --armor; either names its key, and `quorate decrypt` takes both. Of
/// keys for a standard's mode the ciphertext names no key, and stands between its IV and its tag.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  echo 'attack at dawn' | quorate encrypt --key payments --aad tenant=blue > secret
  quorate encrypt --key alias/payments --in password.txt --out password.q
  quorate encrypt --key payments --armor < password.txt  as text, for a configuration file or a mail
  quorate encrypt --key payments --in password.txt --output json  with the ciphertext in base64
  quorate encrypt --key rsa --algorithm rsa-oaep-sha256 --in session.key --out session.key.enc")]
pub struct Encrypt {
    #[command(flatten)]
    by: By,
    /// Write the ciphertext as text between BEGIN and END lines
    #[arg(long)]
    armor: bool,
    #[command(flatten)]
    aad: Aad,
    #[command(flatten)]
    raw_aad: RawAad,
    #[command(flatten)]
    files: InOut,
}

/// Where bytes come from and go to.
#[derive(Args, Debug)]
pub struct InOut {
    /// Read this file [default: standard input]
    #[arg(long = "in", value_name = "FILE")]
    pub input: Option<PathBuf>,
    #[command(flatten)]
    pub out: Out,
}

/// Where bytes go to.
#[derive(Args, Debug, Default)]
pub struct Out {
    /// Write this file, which appears when it is complete [default: standard output]
    #[arg(long = "out", value_name = "FILE")]
    path: Option<PathBuf>,
    /// Replace the file of --out if it is there already
    #[arg(long)]
    force: bool,
}

impl Out {
    /// The file, unless it is standard output.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Opens it; a new file has that mode.
    pub fn open(&self, mode: u32) -> CommandResult<Sink> {
        let existing = if self.force { Existing::Replace } else { Existing::Refuse };
        Sink::open(self.path(), mode, existing)
    }
}

impl Encrypt {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        if !self.armor {
            refuse_terminal(shared, self.files.out.path(), ", or --armor")?;
        }
        files::say_what_is_awaited(self.files.input.as_deref(), "the plaintext");
        let longer = "use `quorate file encrypt` for files and streams of any size";
        let mut plaintext = files::read_input(self.files.input.as_deref(), PLAINTEXT_LEN_MAX, longer)?;
        let plaintext = std::mem::take(&mut *plaintext).into();
        let request = EncryptRequest {
            key: self.by.key,
            version: self.by.version.unwrap_or(0),
            algorithm: self.by.algorithm.unwrap_or_default(),
            plaintext,
            aad: self.aad.to_proto(),
            associated_data: self.raw_aad.bytes(),
        };
        let answer = shared.client().await?.encrypt(request).await.doing("encrypt")?;
        let meta = json!({ "key_id": answer.key_id, "key_version": answer.key_version, "algorithm": answer.algorithm });
        let whole = [&answer.iv[..], &answer.ciphertext, &answer.tag].concat();
        if self.armor && shared.asked_for_programs().is_none() {
            let text = output::pem(ARMOR, &whole);
            return raw_or_json(shared, &self.files.out, 0o666, "ciphertext", text.as_bytes(), meta);
        }
        raw_or_json(shared, &self.files.out, 0o666, "ciphertext", &whole, meta)
    }
}

/// Decrypt what `encrypt` or `data-key` made.
///
/// The ciphertext names its key, unless it was made in a standard's mode: then --key does. Associated data must be the same as when
/// it was encrypted.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate decrypt --aad tenant=blue < secret
  quorate decrypt --in password.q --out password.txt
  quorate decrypt --key payments --key cards --in password.q  refuses a ciphertext of any other key
  quorate decrypt --key rsa --algorithm rsa-oaep-sha256 --in session.key.enc --out session.key")]
pub struct Decrypt {
    /// Refuse a ciphertext of any key but this one; may be given several times
    #[arg(long, value_name = "KEY", add = ArgValueCompleter::new(completions::keys))]
    key: Vec<String>,
    /// Which version made it, where the ciphertext does not say so [default: the current one]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    version: Option<u32>,
    /// By which algorithm, where the ciphertext does not say so [default: the key's own]
    #[arg(long, value_name = "ALGORITHM", value_parser = words::algorithms(), hide_possible_values = true)]
    algorithm: Option<String>,
    #[command(flatten)]
    aad: Aad,
    #[command(flatten)]
    raw_aad: RawAad,
    #[command(flatten)]
    files: InOut,
}

impl Decrypt {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let ciphertext = read_ciphertext(self.files.input.as_deref())?;
        let request = DecryptRequest {
            ciphertext,
            aad: self.aad.to_proto(),
            associated_data: self.raw_aad.bytes(),
            key: self.key,
            version: self.version.unwrap_or(0),
            algorithm: self.algorithm.unwrap_or_default(),
            ..Default::default()
        };
        let answer = shared.client().await?.decrypt(request).await.doing("decrypt")?;
        let meta = json!({ "key_id": answer.key_id, "key_version": answer.key_version, "algorithm": answer.algorithm });
        raw_or_json(shared, &self.files.out, 0o600, "plaintext", &answer.plaintext, meta)
    }
}

/// Reads a ciphertext of `encrypt`, raw or as text.
pub fn read_ciphertext(input: Option<&Path>) -> CommandResult<bytes::Bytes> {
    files::say_what_is_awaited(input, "the ciphertext");
    let longer = "it is no ciphertext of `quorate encrypt`; files are decrypted with `quorate file decrypt`";
    let mut ciphertext = files::read_input(input, ARMORED_LEN_MAX, longer)?;
    if ciphertext.starts_with(super::file::MAGIC) {
        let why = "it is a file of `quorate file encrypt`";
        return Err(Failure::failed("can't decrypt", why, "use `quorate file decrypt`"));
    }
    Ok(match unarmored(&ciphertext)?.or_else(|| from_base64(&ciphertext)) {
        Some(bytes) => bytes.into(),
        None => std::mem::take(&mut *ciphertext).into(),
    })
}

/// A ciphertext of ours in base64, as `data-key` prints it.
fn from_base64(input: &[u8]) -> Option<Vec<u8>> {
    use base64::Engine;
    let bytes = base64::engine::general_purpose::STANDARD.decode(input.trim_ascii()).ok()?;
    BlobHeader::parse(&bytes).is_ok().then_some(bytes)
}

/// The ciphertext in a text of `encrypt --armor`; none when it is no such text.
fn unarmored(input: &[u8]) -> CommandResult<Option<Vec<u8>>> {
    let text = input.trim_ascii_start();
    if !text.starts_with(b"-----BEGIN ") {
        return Ok(None);
    }
    let cant = |why: String| Failure::failed("can't decrypt", why, "give the whole text, from BEGIN to END");
    let block = pem::parse(text).map_err(|e| cant(format!("its text is damaged: {e}")))?;
    match block.tag() {
        ARMOR => Ok(Some(block.into_contents())),
        other => Err(cant(format!("it is a {other}, not a {ARMOR}"))),
    }
}

/// Make a data key, encrypted under a key.
///
/// Keep the ciphertext beside what you encrypt with the plaintext; get the plaintext back with `quorate decrypt`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate data-key --key payments --output json
  quorate data-key --key payments --bytes 64 --no-plaintext")]
pub struct DataKey {
    /// The key: its id, NAME, alias/NAME or key/NAME
    #[arg(long, value_name = "KEY", add = ArgValueCompleter::new(completions::keys))]
    key: String,
    #[arg(long, value_name = "N", default_value_t = DATA_KEY_LEN_DEFAULT as u32, help = format!("Length of the data key, 1 to {DATA_KEY_LEN_MAX} bytes"),
        value_parser = clap::value_parser!(u32).range(1..=DATA_KEY_LEN_MAX as i64))]
    bytes: u32,
    /// Only the encrypted form
    #[arg(long)]
    no_plaintext: bool,
    #[command(flatten)]
    aad: Aad,
}

impl DataKey {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let request = GenerateDataKeyRequest {
            key: self.key,
            bytes: self.bytes,
            aad: self.aad.to_proto(),
            without_plaintext: self.no_plaintext,
        };
        let answer = shared.client().await?.generate_data_key(request).await.doing("make a data key")?;
        let mut json = json!({
            "key_id": answer.key_id,
            "key_version": answer.key_version,
            "ciphertext": output::base64(&answer.ciphertext),
            "plaintext": null,
        });
        if !self.no_plaintext {
            json["plaintext"] = output::base64(&answer.plaintext).into();
        }
        shared.format().print(&json, || {
            output::fields(["key_id", "key_version", "ciphertext", "plaintext"].map(|name| {
                let value = &json[name];
                (
                    name,
                    value
                        .as_str()
                        .map_or_else(|| value.as_u64().map(|n| n.to_string()).unwrap_or_default(), str::to_owned),
                )
            }))
        })
    }
}

/// Random bytes from the cluster.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate random --bytes 32 > seed
  quorate random --bytes 16 --output json")]
pub struct Random {
    #[arg(long, value_name = "N", help = format!("How many, 1 to {RANDOM_LEN_MAX}"),
        value_parser = clap::value_parser!(u32).range(1..=RANDOM_LEN_MAX as i64))]
    bytes: u32,
}

impl Random {
    /// Does it.
    pub async fn run(self, shared: &Shared) -> CommandResult {
        let request = GenerateRandomRequest { bytes: self.bytes };
        let random = shared.client().await?.generate_random(request).await.doing("get random bytes")?.random;
        if shared.asked_for_programs().is_none() && std::io::stdout().is_terminal() {
            return output::line(&output::base64(&random));
        }
        raw_or_json(shared, &Out::default(), 0o600, "random", &random, json!({}))
    }
}

/// Raw bytes to the file or standard output; with `--output json` or `yaml`, the metadata on standard output, and the bytes in
/// it unless they went to a file.
pub fn raw_or_json(shared: &Shared, out: &Out, mode: u32, name: &str, bytes: &[u8], mut meta: Value) -> CommandResult {
    if let Some(path) = out.path() {
        let mut sink = out.open(mode)?;
        let written = std::io::Write::write_all(&mut sink, bytes).and_then(|()| sink.finish());
        written.map_err(|e| Failure::failed("can't write the output", format!("{}: {e}", path.display()), ""))?;
    }
    match (shared.asked_for_programs(), out.path()) {
        (None, Some(_)) => Ok(()),
        (None, None) => output::bytes(bytes),
        (Some(format), _) => {
            if out.path().is_none() {
                meta[name] = output::base64(bytes).into();
            }
            format.print(&meta, comfy_table::Table::new)
        }
    }
}

/// Ciphertext is not for terminals.
pub fn refuse_terminal(shared: &Shared, out: Option<&Path>, or: &str) -> CommandResult {
    if out.is_none() && shared.asked_for_programs().is_none() && std::io::stdout().is_terminal() {
        let why = format!("the output is binary: name a file with --out, use a pipe, or --output json{or}");
        return Err(Failure::usage(why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ciphertext_as_text_is_read_whole_or_refused() {
        let text = pem::encode(&pem::Pem::new(ARMOR, [7; 100]));
        assert_eq!(unarmored(format!("\n{text}\n").as_bytes()).unwrap(), Some(vec![7; 100]));
        assert_eq!(unarmored(&[0, 1, 2]).unwrap(), None, "raw bytes");
        let why = |text: &str| unarmored(text.as_bytes()).unwrap_err().to_string();
        assert!(why(&text[..60]).contains("damaged"));
        assert!(why(&text.replace(ARMOR, "CERTIFICATE")).contains("it is a CERTIFICATE"));
    }

    #[test]
    fn associated_data_is_split_at_the_first_equals_sign() {
        assert_eq!(pair("a=b=c").unwrap(), ("a".into(), "b=c".into()));
        assert_eq!(pair("a=").unwrap(), ("a".into(), String::new()));
        assert!(pair("=b").is_err() && pair("ab").is_err());
    }
}
