//! Public keys of others, read as people have them. A private key in its place does not leave this machine.

use std::path::Path;

use bytes::Bytes;
use quorate_core::request::InvalidRequest;
use quorate_crypto::material::{PublicKey, is_private_key};
use serde_json::Value;

use super::failure::{CommandResult, Failure};
use super::files;

/// Longest file that holds one, in bytes: the longest key, as PEM.
const FILE_LEN_MAX: usize = 16 * 1024;

/// The public key in that file, SubjectPublicKeyInfo as PEM or DER, or a JSON Web Key; as DER.
///
/// # Errors
/// What it is instead, and what to do.
pub(super) fn read(path: &Path) -> CommandResult<Bytes> {
    let given = files::read_input(Some(path), FILE_LEN_MAX, "no public key is so long")?;
    let cant = |why: String, todo: &str| Err(Failure::failed("can't read the public key", why, todo));
    let jwk = match serde_json::from_slice(&given) {
        Ok(Value::Object(jwk)) => Some(jwk),
        _ => None,
    };
    let is_private =
        jwk.as_ref().map_or_else(|| is_private_key(&given), |jwk| PRIVATE.iter().any(|it| jwk.contains_key(*it)));
    if is_private {
        let todo = "give the public key: `openssl pkey -in KEY -pubout` writes it";
        return cant(format!("{} holds a private key; it was not sent", path.display()), todo);
    }
    let key = match jwk {
        Some(jwk) => PublicKey::from_jwk(|name| jwk.get(name).and_then(Value::as_str)),
        None => PublicKey::read(&given),
    };
    match key {
        Ok(key) => Ok(key.spki().to_vec().into()),
        Err(InvalidRequest::Wrong { why, .. }) => cant(why, todo(&given)),
        Err(other) => cant(other.to_string(), ""),
    }
}

/// Members of JSON Web Keys that are not for others.
const PRIVATE: [&str; 3] = ["d", "k", "priv"];

/// How to get the public key out of what else is PEM.
fn todo(given: &[u8]) -> &'static str {
    let is = |label: &str| given.trim_ascii_start().starts_with(format!("-----BEGIN {label}-----").as_bytes());
    if is("CERTIFICATE") {
        "`openssl x509 -in FILE -noout -pubkey` writes a certificate's public key; whether to believe the certificate is yours to find out"
    } else if is("RSA PUBLIC KEY") {
        "`openssl rsa -RSAPublicKey_in -in FILE -pubout` writes it so"
    } else {
        "give SubjectPublicKeyInfo as PEM (BEGIN PUBLIC KEY) or DER, or a JSON Web Key"
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::key_spec::KeySpec;
    use quorate_crypto::material::Material;
    use serde_json::json;

    use super::*;
    use crate::wiring::OsEntropy;

    #[test]
    fn a_public_key_is_read_as_people_have_it_and_a_private_one_stays_here() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("key");
        let read = |bytes: &[u8]| {
            files::replace(&path, 0o600, bytes).expect("written");
            read(&path)
        };
        let said = |bytes: &[u8]| format!("{:?}", read(bytes).unwrap_err());
        let made = Material::fresh(KeySpec::Ed25519, &OsEntropy);
        let spki = made.public.expect("a pair");
        let key = PublicKey::parse(&spki).unwrap();
        let mut jwk: serde_json::Map<_, _> =
            key.jwk().unwrap().into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
        for given in [&spki[..], key.pem().as_bytes(), Value::from(jwk.clone()).to_string().as_bytes()] {
            assert_eq!(read(given).unwrap(), spki);
        }
        jwk.insert("d".into(), "AAAA".into());
        let pem = pem::encode(&pem::Pem::new("PRIVATE KEY", made.material.to_vec()));
        for private in [&made.material[..], pem.as_bytes(), Value::from(jwk).to_string().as_bytes()] {
            let said = said(private);
            assert!(said.contains("not sent") && said.contains("-pubout"), "{said}");
        }
        let block = |label: &str| pem::encode(&pem::Pem::new(label, spki.clone()));
        assert!(said(block("CERTIFICATE").as_bytes()).contains("openssl x509"));
        assert!(said(block("RSA PUBLIC KEY").as_bytes()).contains("openssl rsa"));
        assert!(said(json!({ "kty": "EC" }).to_string().as_bytes()).contains("no member"));
        assert!(said(&[7; FILE_LEN_MAX + 1]).contains("longer than"));
    }
}
