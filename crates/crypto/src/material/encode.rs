//! How keys are written (key-model §3.4): SubjectPublicKeyInfo (RFC 5280), PKCS#8 (RFC 5208), PEM (RFC 7468).

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use quorate_core::key_spec::{KeySpec, Kind};
use quorate_core::request::{InvalidRequest, Part};
use zeroize::Zeroizing;

use super::der::{self, Der, NotDer};
use crate::secret::SecretBytes;

/// The tag of PKCS#8's attributes.
const ATTRIBUTES: u8 = 0xa0;

/// The content of an AlgorithmIdentifier: what names a pair's kind. RSA keys of all lengths share one.
pub(super) const fn algorithm_id(spec: KeySpec) -> &'static [u8] {
    macro_rules! oid {
        ($($byte:literal)+ $(; $($parameters:literal)+)?) => {
            const { &[0x06, [$($byte),+].len() as u8, $($byte),+ $(, $($parameters),+)?] }
        };
    }
    match spec {
        KeySpec::Rsa2048 | KeySpec::Rsa3072 | KeySpec::Rsa4096 => {
            oid!(0x2a 0x86 0x48 0x86 0xf7 0x0d 0x01 0x01 0x01; 0x05 0x00)
        }
        KeySpec::P256 => {
            oid!(0x2a 0x86 0x48 0xce 0x3d 0x02 0x01; 0x06 0x08 0x2a 0x86 0x48 0xce 0x3d 0x03 0x01 0x07)
        }
        KeySpec::P384 => oid!(0x2a 0x86 0x48 0xce 0x3d 0x02 0x01; 0x06 0x05 0x2b 0x81 0x04 0x00 0x22),
        KeySpec::P521 => oid!(0x2a 0x86 0x48 0xce 0x3d 0x02 0x01; 0x06 0x05 0x2b 0x81 0x04 0x00 0x23),
        KeySpec::Secp256k1 => oid!(0x2a 0x86 0x48 0xce 0x3d 0x02 0x01; 0x06 0x05 0x2b 0x81 0x04 0x00 0x0a),
        KeySpec::X25519 => oid!(0x2b 0x65 0x6e),
        KeySpec::Ed25519 => oid!(0x2b 0x65 0x70),
        KeySpec::MlDsa44 => oid!(0x60 0x86 0x48 0x01 0x65 0x03 0x04 0x03 0x11),
        KeySpec::MlDsa65 => oid!(0x60 0x86 0x48 0x01 0x65 0x03 0x04 0x03 0x12),
        KeySpec::MlDsa87 => oid!(0x60 0x86 0x48 0x01 0x65 0x03 0x04 0x03 0x13),
        KeySpec::MlKem512 => oid!(0x60 0x86 0x48 0x01 0x65 0x03 0x04 0x04 0x01),
        KeySpec::MlKem768 => oid!(0x60 0x86 0x48 0x01 0x65 0x03 0x04 0x04 0x02),
        KeySpec::MlKem1024 => oid!(0x60 0x86 0x48 0x01 0x65 0x03 0x04 0x04 0x03),
        // No pairs: no key is written so.
        KeySpec::Aes128
        | KeySpec::Aes192
        | KeySpec::Aes256
        | KeySpec::HmacSha1
        | KeySpec::HmacSha224
        | KeySpec::HmacSha256
        | KeySpec::HmacSha384
        | KeySpec::HmacSha512
        | KeySpec::Secret => &[],
    }
}

/// The kind that an AlgorithmIdentifier names; of RSA's, the first.
fn named(id: &[u8]) -> Option<KeySpec> {
    KeySpec::ALL.iter().copied().find(|spec| spec.kind() == Kind::Pair && algorithm_id(*spec) == id)
}

/// A public key as SubjectPublicKeyInfo.
pub(super) fn spki(spec: KeySpec, key: &[u8]) -> Vec<u8> {
    let id = der::element(der::SEQUENCE, &[algorithm_id(spec)]);
    // All bits of the last byte count.
    let bits = der::element(der::BIT_STRING, &[&[0], key]);
    std::mem::take(&mut *der::element(der::SEQUENCE, &[&id, &bits]))
}

/// A SubjectPublicKeyInfo's kind (of RSA's, the first) and key.
pub(super) fn read_spki(bytes: &[u8]) -> Result<(KeySpec, &[u8]), InvalidRequest> {
    let wrong = |why: &str| InvalidRequest::wrong(Part::PublicKey, why);
    if is_private_key(bytes) {
        return Err(wrong(
            "this is a private key, where a public key was expected: whoever has seen it on its way here can use it; take it for exposed, and replace it",
        ));
    }
    let read = || {
        Der::new(bytes).check()?;
        let mut parts = Der::only(der::SEQUENCE, bytes)?;
        let (id, bits) = (parts.take(der::SEQUENCE)?, parts.take(der::BIT_STRING)?);
        parts.finish()?;
        Ok((id, bits.strip_prefix(&[0]).ok_or(NotDer)?))
    };
    let (id, key) = read().map_err(|NotDer| {
        wrong("this is no public key: expected a SubjectPublicKeyInfo (BEGIN PUBLIC KEY) in canonical DER")
    })?;
    let spec = named(id).ok_or_else(|| {
        wrong("this public key is of a kind that is not supported here, or its curve is, or its parameters are odd")
    })?;
    Ok((spec, key))
}

/// A private key as PKCS#8, version 1.
pub(super) fn pkcs8(spec: KeySpec, key: &[u8]) -> SecretBytes {
    let id = der::element(der::SEQUENCE, &[algorithm_id(spec)]);
    der::element(der::SEQUENCE, &[&[der::INTEGER, 1, 0], &id, &der::element(der::OCTET_STRING, &[key])])
}

/// The private key in a PKCS#8 of that kind. Attributes are allowed, and not looked at.
pub(super) fn read_pkcs8(spec: KeySpec, bytes: &[u8]) -> Result<&[u8], InvalidRequest> {
    let wrong = |why: String| InvalidRequest::wrong(Part::Material, why);
    let read = || {
        Der::new(bytes).check()?;
        let mut parts = Der::only(der::SEQUENCE, bytes)?;
        if !parts.unsigned()?.is_empty() {
            return Err(NotDer);
        }
        let (id, key) = (parts.take(der::SEQUENCE)?, parts.take(der::OCTET_STRING)?);
        if parts.peek() == Some(ATTRIBUTES) {
            parts.take(ATTRIBUTES)?;
        }
        parts.finish()?;
        Ok((id, key))
    };
    let (id, key) = read().map_err(|NotDer| {
        wrong(
            "this is no private key: expected PKCS#8 version 1 (BEGIN PRIVATE KEY), unencrypted, in canonical DER"
                .into(),
        )
    })?;
    if id == algorithm_id(spec) {
        return Ok(key);
    }
    Err(wrong(match named(id) {
        Some(KeySpec::Rsa2048) => format!("this is an RSA key; {} was expected", spec.as_str()),
        Some(other) => format!("this is a key of kind {}; {} was expected", other.as_str(), spec.as_str()),
        None => format!("this private key is of a kind that is not supported here; {} was expected", spec.as_str()),
    }))
}

/// Whether that is a private key, in DER (PKCS#8, PKCS#1, SEC 1, encrypted or not) or as PEM: what nobody means to give as a public one.
pub fn is_private_key(given: &[u8]) -> bool {
    let first_line = given.trim_ascii_start().split(|byte| *byte == b'\n').next().unwrap_or_default();
    if first_line.starts_with(b"-----") {
        return first_line.windows(PRIVATE.len()).any(|part| part == PRIVATE.as_bytes());
    }
    let read = || {
        let mut parts = Der::only(der::SEQUENCE, given)?;
        match parts.peek() {
            // A version, where RSA's public keys have the modulus.
            Some(der::INTEGER) => Ok(parts.unsigned()?.len() <= 1),
            // Encrypted: where a public key has its bits, this has bytes.
            _ => parts.take(der::SEQUENCE).map(|_| parts.peek() == Some(der::OCTET_STRING)),
        }
    };
    read().unwrap_or(false)
}

const PUBLIC: &str = "PUBLIC KEY";
const PRIVATE: &str = "PRIVATE KEY";
/// Columns of PEM's lines (RFC 7468 §2).
const COLUMNS: usize = 64;

/// A SubjectPublicKeyInfo as PEM.
pub(super) fn public_pem(spki: &[u8]) -> String {
    let text = BASE64.encode(spki);
    let mut pem = format!("-----BEGIN {PUBLIC}-----\n");
    for line in text.as_bytes().chunks(COLUMNS) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem + &format!("-----END {PUBLIC}-----\n")
}

/// The DER in a public key that is given as DER or PEM.
pub(super) fn public_der(given: &[u8]) -> Result<SecretBytes, InvalidRequest> {
    der_of(given, PUBLIC, Part::PublicKey)
}

/// The DER in a private key that is given as DER or PEM: PKCS#8.
///
/// # Errors
/// When it is PEM of something else.
pub fn private_der(given: &[u8]) -> Result<SecretBytes, InvalidRequest> {
    der_of(given, PRIVATE, Part::Material)
}

fn der_of(given: &[u8], label: &str, part: Part) -> Result<SecretBytes, InvalidRequest> {
    if !given.trim_ascii_start().starts_with(b"-----") {
        return Ok(Zeroizing::new(given.to_vec()));
    }
    let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
    let body = given.trim_ascii().strip_prefix(begin.as_bytes()).and_then(|rest| rest.strip_suffix(end.as_bytes()));
    let body = body.map(|body| body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()));
    let body = body.map(|body| Zeroizing::new(body.collect::<Vec<u8>>()));
    let der = body.and_then(|body| BASE64.decode(&*body).ok());
    der.map(Zeroizing::new).ok_or_else(|| {
        InvalidRequest::wrong(part, format!("this is not the one PEM block that was expected, {begin}…{end}"))
    })
}
