//! `quorate keys import-parameters`, `import`, `delete-material`, `export`: material that comes from elsewhere, or leaves.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use clap_complete::engine::ArgValueCompleter;
use quorate_client::v1::{
    ExportKeyRequest, GetImportParametersRequest, GetImportParametersResponse, ImportMaterialRequest, VersionRequest,
};
use quorate_core::key_spec::{Algorithm, KeySpec};
use quorate_core::record::MATERIAL_LEN_MAX;
use quorate_crypto::material::{Material, PublicKey, private_der};
use quorate_crypto::{IMPORT_TOKEN_LEN_MAX, SecretBytes};
use serde_json::{Value, json};

use super::Which;
use super::versions::show;
use crate::command::crypt::{Out, raw_or_json, refuse_terminal};
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::files::{self, Existing, Sink};
use crate::command::{Shared, completions, output, words};
use crate::wiring::OsEntropy;

/// How material is wrapped, if nobody says: whatever its length.
const WRAPPING: Algorithm = Algorithm::RsaAesKwpSha256;
/// Kinds of wrapping keys, the default first.
const WRAPPING_SPECS: [&str; 3] = [KeySpec::Rsa3072.as_str(), KeySpec::Rsa4096.as_str(), KeySpec::Rsa2048.as_str()];
const TOO_LONG: &str = "no key is so long";

#[derive(Subcommand, Debug)]
pub(super) enum OfMaterial {
    /// Get the public key that wraps material to be imported, and the token to import it with
    ///
    /// Both are good for a day. The key must have been created with --origin external.
    #[command(after_help = "Examples:
  quorate keys create --alias mine --origin external
  quorate keys import-parameters mine --public-key wrap.pem --token token
  openssl pkeyutl -encrypt -pubin -inkey wrap.pem -in key.bin -out wrapped -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256
  quorate keys import mine --token token --wrapped wrapped --algorithm rsa-oaep-sha256")]
    ImportParameters {
        #[command(flatten)]
        which: Which,
        /// Of which kind the wrapping key is
        #[arg(long, value_name = "SPEC", value_parser = WRAPPING_SPECS, default_value = WRAPPING_SPECS[0])]
        wrapping_spec: String,
        /// Write the wrapping key there, as PEM
        #[arg(long, value_name = "FILE")]
        public_key: Option<PathBuf>,
        /// Write the token there
        #[arg(long, value_name = "FILE")]
        token: Option<PathBuf>,
    },
    /// Import a key's material: from a file, wrapped here, or as you have wrapped it
    ///
    /// A version takes the same material again, after it was deleted or its time was over, and no other.
    #[command(after_help = "Examples:
  openssl rand -out key.bin 32
  quorate keys create --alias mine --origin external
  quorate keys import mine --in key.bin
  quorate keys create --alias release --spec p-256 --origin external
  quorate keys import release --in private.pem --expires 2027-12-31
  quorate keys import mine --in next.bin --new-version  and `quorate keys rotate mine` on the day
  quorate keys import mine --token token --wrapped wrapped --algorithm rsa-aes-kwp-sha256")]
    Import {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        from: From,
        /// By which algorithm it is wrapped [default: rsa-aes-kwp-sha256]
        #[arg(long, value_name = "ALGORITHM", value_parser = ["rsa-aes-kwp-sha256", "rsa-aes-kwp-sha1", "rsa-oaep-sha256", "rsa-oaep-sha1"])]
        algorithm: Option<String>,
        /// Into which version, which takes only what it had before [default: the current one]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        version: Option<u32>,
        /// Into a new version, which waits until the key is rotated
        #[arg(long, conflicts_with = "version")]
        new_version: bool,
        /// When it is erased; none = never [default: as the material that is there, else never]
        #[arg(long, value_name = "DATE", value_parser = words::date)]
        expires: Option<u64>,
    },
    /// Erase imported material; until the same is imported again, the key is not used
    #[command(after_help = "Examples:
  quorate keys delete-material mine
  quorate keys import mine --in key.bin  the same again")]
    DeleteMaterial {
        #[command(flatten)]
        which: Which,
        /// Which version [default: the current one]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        version: Option<u32>,
    },
    /// Get a key's material, if it was created for that with --exportable
    ///
    /// Raw bytes of a symmetric or MAC key, PKCS#8 (DER) of a pair; or the same, wrapped under another key.
    #[command(after_help = "Examples:
  quorate keys create --alias travels --exportable wrapped
  quorate keys create --alias kek --usage wrap
  quorate keys export travels --wrap-with kek --out travels.wrapped
  quorate keys export plain --out key.bin")]
    Export {
        #[command(flatten)]
        which: Which,
        /// Which version [default: the current one]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        version: Option<u32>,
        /// The key that wraps it: its id, NAME, alias/NAME or key/NAME
        #[arg(long, value_name = "KEY", add = ArgValueCompleter::new(completions::keys))]
        wrap_with: Option<String>,
        /// By which algorithm it is wrapped [default: the wrapping key's own]
        #[arg(long, value_name = "ALGORITHM", requires = "wrap_with", value_parser = words::algorithms(), hide_possible_values = true)]
        algorithm: Option<String>,
        #[command(flatten)]
        out: Out,
    },
}

/// Where material comes from.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("from").required(true).args(["input", "wrapped"]))]
pub(super) struct From {
    /// The key: raw bytes, a private key as PKCS#8 (PEM or DER, not encrypted), or a JSON Web Key; it is wrapped on this machine
    #[arg(long = "in", value_name = "FILE", conflicts_with = "token")]
    input: Option<PathBuf>,
    /// The wrapped key
    #[arg(long, value_name = "FILE", requires = "token")]
    wrapped: Option<PathBuf>,
    /// The token that came with the wrapping key
    #[arg(long, value_name = "FILE", requires = "wrapped")]
    token: Option<PathBuf>,
}

impl OfMaterial {
    /// Does it.
    pub(super) async fn run(self, shared: &Shared) -> CommandResult {
        let client = shared.client().await?;
        // Who says nothing of its end hears that there is none.
        let unsaid = matches!(self, Self::Import { expires: None, .. });
        let answer = match self {
            Self::ImportParameters { which, wrapping_spec, public_key, token } => {
                let request = GetImportParametersRequest { key: which.key, wrapping_spec };
                let made = client.get_import_parameters(request).await.doing("make import parameters")?;
                return parameters(shared, &made, public_key.as_deref(), token.as_deref());
            }
            Self::Import { which, from, algorithm, version, new_version, expires } => {
                let by = algorithm.unwrap_or_else(|| WRAPPING.as_str().to_owned());
                let (token, wrapped) = match from {
                    From { wrapped: Some(wrapped), token: Some(token), .. } => {
                        let read = |path: &Path, max| files::read_input(Some(path), max, TOO_LONG);
                        let (mut token, mut wrapped) =
                            (read(&token, IMPORT_TOKEN_LEN_MAX)?, read(&wrapped, 2 * MATERIAL_LEN_MAX)?);
                        (std::mem::take(&mut *token).into(), std::mem::take(&mut *wrapped).into())
                    }
                    From { input, .. } => {
                        // Read before anything is asked: a file that is none costs nobody a wrapping key.
                        let key = read_key(input.as_deref())?;
                        let wrapping_spec = WRAPPING_SPECS[0].to_owned();
                        let request = GetImportParametersRequest { key: which.key.clone(), wrapping_spec };
                        let made = client.get_import_parameters(request).await.doing("make import parameters")?;
                        (made.token.clone(), wrap(&made, &by, &key)?.into())
                    }
                };
                let request = ImportMaterialRequest {
                    key: which.key,
                    token,
                    wrapped,
                    algorithm: by,
                    expires_ms: expires,
                    version: version.unwrap_or(0),
                    new_version,
                };
                client.import_material(request).await.doing("import the key's material")?
            }
            Self::DeleteMaterial { which, version } => {
                let request = VersionRequest { key: which.key, version: version.unwrap_or(0) };
                client.delete_material(request).await.doing("delete the key's material")?
            }
            Self::Export { which, version, wrap_with, algorithm, out } => {
                refuse_terminal(shared, out.path(), "")?;
                let request = ExportKeyRequest {
                    key: which.key,
                    version: version.unwrap_or(0),
                    wrap_with: wrap_with.unwrap_or_default(),
                    algorithm: algorithm.unwrap_or_default(),
                };
                let made = client.export_key(request).await.doing("export the key")?;
                let meta = json!({
                    "key_id": made.key_id,
                    "key_version": made.key_version,
                    "spec": made.spec,
                    "wrapped_with": output::text(&made.wrapped_with),
                    "algorithm": output::text(&made.algorithm),
                });
                return raw_or_json(shared, &out, 0o600, "material", &made.material, meta);
            }
        };
        if unsaid && answer.version.as_ref().is_some_and(|version| version.material_expires_ms == 0) {
            eprintln!("The material stays until it is deleted; --expires has it erased on a day.");
        }
        show(shared, answer)
    }
}

/// Reads a key as people have it.
fn read_key(path: Option<&Path>) -> CommandResult<SecretBytes> {
    let given = files::read_input(path, 2 * MATERIAL_LEN_MAX, TOO_LONG)?;
    let cant = |why: String| {
        let todo = "`openssl pkcs8 -topk8 -nocrypt -in FILE` writes private keys so, whatever they are written as now";
        Failure::failed("can't read the key", why, todo)
    };
    if let Ok(Value::Object(jwk)) = serde_json::from_slice(&given) {
        let read = Material::import_jwk(|name| jwk.get(name).and_then(Value::as_str));
        return read.map(|(_, key)| key.material).map_err(|e| cant(e.to_string()));
    }
    private_der(&given).map_err(|e| cant(e.to_string()))
}

/// Wraps it on this machine.
fn wrap(with: &GetImportParametersResponse, by: &str, key: &[u8]) -> CommandResult<Vec<u8>> {
    let cant = |why: String| {
        Failure::failed("can't wrap the key", why, "leave --algorithm out: rsa-aes-kwp-sha256 wraps keys of any length")
    };
    let by: Algorithm = by.parse().map_err(|e| cant(format!("{e}")))?;
    let public = PublicKey::parse(&with.wrapping_key).map_err(|e| cant(e.to_string()))?;
    public.wrap(by, key, &OsEntropy).map_err(|e| cant(e.to_string()))
}

/// To files, and what did not go there to standard output.
fn parameters(
    shared: &Shared,
    made: &GetImportParametersResponse,
    public_key: Option<&Path>,
    token: Option<&Path>,
) -> CommandResult {
    let write = |path: &Path, bytes: &[u8]| {
        let mut sink = Sink::open(Some(path), 0o666, Existing::Refuse)?;
        let written = sink.write_all(bytes).and_then(|()| sink.finish());
        written.map_err(|e| Failure::failed("can't write the output", format!("{}: {e}", path.display()), ""))
    };
    let pem = output::pem("PUBLIC KEY", &made.wrapping_key);
    if let Some(path) = public_key {
        write(path, pem.as_bytes())?;
    }
    if let Some(path) = token {
        write(path, &made.token)?;
    }
    let shown = |path: Option<&Path>, bytes: &[u8]| match path {
        Some(path) => path.display().to_string(),
        None => output::base64(bytes),
    };
    let json = json!({
        "key_id": made.key_id,
        "wrapping_spec": made.wrapping_spec,
        "wrapping_key": output::base64(&made.wrapping_key),
        "token": output::base64(&made.token),
        "expires_at": output::moment(made.expires_ms),
    });
    shared.format().print(&json, || {
        output::fields([
            ("key", made.key_id.clone()),
            ("wrapping spec", made.wrapping_spec.clone()),
            ("wrapping key", shown(public_key, &made.wrapping_key)),
            ("token", shown(token, &made.token)),
            ("expires", output::date(made.expires_ms)),
        ])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_people_have_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let read = |bytes: &[u8]| {
            let path = dir.path().join("key");
            files::replace(&path, 0o600, bytes).expect("written");
            read_key(Some(&path))
        };
        let made = Material::fresh(KeySpec::Ed25519, &OsEntropy).material;
        let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", made.to_vec()));
        assert_eq!(*read(&[7; 32]).unwrap(), [7; 32]);
        assert_eq!(*read(&made).unwrap(), *made);
        assert_eq!(*read(pem.as_bytes()).unwrap(), *made);
        assert_eq!(read(br#"{"kty":"oct","k":"GawgguFyGrWKav7AX4VKUg"}"#).unwrap().len(), 16);
        for bad in [&br#"{"kty":"oct"}"#[..], b"-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"] {
            assert!(read(bad).is_err());
        }
        assert!(read(&[7; 3 * MATERIAL_LEN_MAX]).is_err());
    }
}
