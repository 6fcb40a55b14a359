//! A node's request for its certificate: what `pki request` prints and `pki sign` reads.

use std::cell::Cell;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use quorate_core::id::Name;
use quorate_hsm::{Hsm, HsmError, NodeKeys};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DnType, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
    SignatureAlgorithm, SigningKey, SubjectPublicKeyInfo,
};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::FromDer;

use super::PkiError;
use super::issue::{host_names, is_host_name};

const FORMAT: u32 = 1;
/// A longer file is no request.
const LEN_MAX: usize = 64 * 1024;

/// The file, JSON. The certificate needs only the CSR; the other two keys are in it so that both sides show the same
/// fingerprint as at the join.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    name: String,
    /// PKCS#10, PEM, signed by the identity key inside the HSM.
    csr: String,
    kem_alg: String,
    /// SPKI, DER, base64.
    kem: String,
    audit: String,
}

/// A request, checked: signed by the key it asks a certificate for.
#[derive(Debug)]
pub struct NodeRequest {
    name: Name,
    host_names: Vec<SanType>,
    identity: SubjectPublicKeyInfo,
    kem_alg: String,
    kem_spki: Vec<u8>,
    audit_spki: Vec<u8>,
    csr_pem: String,
}

impl NodeRequest {
    /// Makes the request of the node called `name`, whose keys are loaded in `hsm`, for its advertised addresses
    /// (`host:port`). Blocks while the token signs.
    ///
    /// # Errors
    /// A name no certificate can hold, or the token fails.
    pub fn make(hsm: &Hsm, name: &Name, addresses: &[String]) -> Result<Self, PkiError> {
        if name.as_str().contains('/') {
            return Err(PkiError::NodeName(name.to_string()));
        }
        let keys = hsm.node_keys()?;
        let key = TokenKey::new(hsm, keys)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name.as_str());
        params.subject_alt_names = host_names(addresses)?;
        let csr = params.serialize_request(&key).map_err(|e| match key.failed.take() {
            Some(token) => PkiError::Hsm(token),
            None => PkiError::Make { what: "request", reason: e.to_string() },
        })?;
        let csr_pem = csr.pem().map_err(PkiError::make("request"))?;
        Ok(Self {
            name: name.clone(),
            host_names: params.subject_alt_names,
            identity: key.public,
            kem_alg: keys.kem.alg.as_str().to_owned(),
            kem_spki: keys.kem.spki_der.clone(),
            audit_spki: keys.audit.clone(),
            csr_pem,
        })
    }

    /// Reads a request and checks it: form, signature, names, kinds of key.
    ///
    /// # Errors
    /// [`PkiError::Request`], saying what does not fit.
    pub fn parse(text: &[u8]) -> Result<Self, PkiError> {
        let bad = |reason: &str| PkiError::Request(reason.to_owned());
        if text.len() > LEN_MAX {
            return Err(bad("it is too long"));
        }
        let file: File = serde_json::from_slice(text).map_err(|e| PkiError::Request(e.to_string()))?;
        if file.format != FORMAT {
            return Err(PkiError::Request(format!("its format is {}, this version reads {FORMAT}", file.format)));
        }
        let name: Name = file.name.parse().map_err(|e| PkiError::Request(format!("{e}")))?;
        if name.as_str().contains('/') {
            return Err(PkiError::NodeName(file.name));
        }
        let csr = CertificateSigningRequestParams::from_pem(&file.csr).map_err(|e| match e {
            rcgen::Error::InvalidCertificationRequestSignature => bad("its signature does not verify"),
            other => PkiError::Request(other.to_string()),
        })?;
        if PublicKeyData::algorithm(&csr.public_key) != &PKCS_ECDSA_P256_SHA256 {
            return Err(bad("its key is not P-256"));
        }
        let common_name = csr.params.distinguished_name.get(&DnType::CommonName);
        if !common_name.is_some_and(|cn| is_text(cn, name.as_str())) {
            return Err(bad("it was signed for another node name"));
        }
        if let Some(odd) = csr.params.subject_alt_names.iter().find(|n| !is_host_name(n)) {
            return Err(PkiError::Request(format!("it asks for the name {odd:?}, which nodes do not get")));
        }
        let identity = SubjectPublicKeyInfo::from_der(&csr.public_key.subject_public_key_info())
            .map_err(|e| PkiError::Request(e.to_string()))?;
        Ok(Self {
            host_names: csr.params.subject_alt_names,
            identity,
            kem_spki: spki(&file.kem)?,
            audit_spki: spki(&file.audit)?,
            kem_alg: file.kem_alg,
            csr_pem: file.csr,
            name,
        })
    }

    /// The file's text.
    ///
    /// # Errors
    /// None that a valid request can cause.
    pub fn to_text(&self) -> Result<String, PkiError> {
        let file = File {
            format: FORMAT,
            name: self.name.to_string(),
            csr: self.csr_pem.clone(),
            kem_alg: self.kem_alg.clone(),
            kem: STANDARD.encode(&self.kem_spki),
            audit: STANDARD.encode(&self.audit_spki),
        };
        let text = serde_json::to_string_pretty(&file).map_err(|e| PkiError::Request(e.to_string()))?;
        Ok(text + "\n")
    }

    /// The node's name.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What its kem key can do.
    pub fn kem_alg(&self) -> &str {
        &self.kem_alg
    }

    /// What the operator compares with what the node shows.
    pub fn fingerprint(&self) -> String {
        quorate_hsm::fingerprint(&self.identity.subject_public_key_info(), &self.kem_spki, &self.audit_spki)
    }

    /// Refuses a request with another fingerprint than the one read on the node; case and separators do not count.
    ///
    /// # Errors
    /// [`PkiError::Fingerprint`].
    pub fn expect_fingerprint(&self, expected: &str) -> Result<(), PkiError> {
        let digits = |s: &str| -> String {
            s.chars().filter(|c| !matches!(c, '-' | ':' | ' ')).map(|c| c.to_ascii_uppercase()).collect()
        };
        let found = self.fingerprint();
        if digits(expected) != digits(&found) {
            return Err(PkiError::Fingerprint { expected: expected.to_owned(), found });
        }
        Ok(())
    }

    pub(super) fn host_names(&self) -> &[SanType] {
        &self.host_names
    }

    pub(super) fn identity_key(&self) -> &SubjectPublicKeyInfo {
        &self.identity
    }
}

fn is_text(value: &rcgen::DnValue, text: &str) -> bool {
    match value {
        rcgen::DnValue::Utf8String(s) => s == text,
        rcgen::DnValue::PrintableString(s) => s.as_str() == text,
        rcgen::DnValue::Ia5String(s) => s.as_str() == text,
        _ => false,
    }
}

fn spki(base64: &str) -> Result<Vec<u8>, PkiError> {
    let der = STANDARD.decode(base64).map_err(|_| PkiError::Request("a public key is not base64".into()))?;
    match x509_parser::x509::SubjectPublicKeyInfo::from_der(&der) {
        Ok(([], _)) => Ok(der),
        _ => Err(PkiError::Request("a public key is malformed".into())),
    }
}

/// The identity key as rcgen signs with it: inside the token.
struct TokenKey<'a> {
    hsm: &'a Hsm,
    public: SubjectPublicKeyInfo,
    /// Why the token did not sign: rcgen's error can't carry it.
    failed: Cell<Option<HsmError>>,
}

impl<'a> TokenKey<'a> {
    fn new(hsm: &'a Hsm, keys: &NodeKeys) -> Result<Self, PkiError> {
        let public = SubjectPublicKeyInfo::from_der(&keys.identity).map_err(PkiError::make("request"))?;
        Ok(Self { hsm, public, failed: Cell::new(None) })
    }
}

impl PublicKeyData for TokenKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.public.der_bytes()
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.public.algorithm()
    }
}

impl SigningKey for TokenKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.hsm.sign_identity_blocking(message, self.hsm.soon());
        signature.map_err(|e| {
            self.failed.set(Some(e));
            rcgen::Error::RemoteKeyError
        })
    }
}
