//! The node's one certificate: read from its file, checked against the token, swapped while the node runs.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use quorate_core::id::{ClusterId, Name};
use quorate_core::principal::Role;
use quorate_service::node::RENEWAL_DAYS;
use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SigningKey};
use thiserror::Error;

use super::facts::{CertificateFacts, days_left, ends_ms};
use super::trust::{CaKind, ChainError, Trust, identity_of, spki_of, unix_time};

/// Why a certificate file can't serve this node.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// Not PEM certificates.
    #[error("tls.cert is not a PEM certificate chain: {0}; put the file there that `quorate pki sign` made")]
    Malformed(String),
    /// No certificate in the file.
    #[error("tls.cert holds no certificate; put the file there that `quorate pki sign` made")]
    Empty,
    /// It can't be verified.
    #[error("tls.cert does not fit tls.root_ca: {0}")]
    Chain(#[from] ChainError),
    /// A client's certificate, or another node's.
    #[error(
        "tls.cert is the certificate of {found}, but this node is called {expected}; sign a request of this node with `quorate pki sign`"
    )]
    OtherName {
        /// Who it is for.
        found: String,
        /// This node.
        expected: String,
    },
    /// Its key is not the token's.
    #[error(
        "tls.cert is for another identity key than the one in the HSM; make a new request with `quorate pki request` and sign it"
    )]
    OtherKey,
}

/// A node's certificate chain, parsed.
#[derive(Debug, Clone)]
pub struct NodeCertificate {
    /// Leaf first, then the node CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// C, from the certificate: a node learns its cluster here.
    pub cluster: ClusterId,
    /// The identity key, SPKI in DER.
    pub spki: Vec<u8>,
    /// When it expires, in seconds since 1970.
    pub not_after_s: i64,
}

impl NodeCertificate {
    /// Reads the chain (leaf first) of the node called `name`.
    ///
    /// # Errors
    /// It is no certificate of that node.
    pub fn from_pem(pem: &[u8], name: &Name) -> Result<Self, CertificateError> {
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|e| CertificateError::Malformed(e.to_string()))?;
        let leaf = chain.first().ok_or(CertificateError::Empty)?;
        let (cluster, principal) = identity_of(leaf)?;
        if principal.role() != Role::Node || principal.name != *name {
            return Err(CertificateError::OtherName { found: principal.to_string(), expected: name.to_string() });
        }
        let spki = spki_of(leaf)?;
        let not_after_s = CertificateFacts::of(leaf).map_err(CertificateError::Malformed)?.ends_s;
        Ok(Self { cluster, spki, not_after_s, chain })
    }

    /// The chain's bytes (DER), leaf first.
    pub fn der(&self) -> Vec<Bytes> {
        self.chain.iter().map(|certificate| Bytes::copy_from_slice(certificate)).collect()
    }

    /// When it expires, in milliseconds since 1970.
    pub fn ends_ms(&self) -> u64 {
        ends_ms(self.not_after_s)
    }

    /// Checks that it leads to the root. An expired one passes, as the other nodes have this node's key pinned; its
    /// end is announced in the log from 30 days before on.
    ///
    /// # Errors
    /// It does not, or was issued by the wrong CA.
    pub fn check(&self, trust: &Trust, now_ms: u64) -> Result<(), CertificateError> {
        let [leaf, intermediates @ ..] = &self.chain[..] else { return Err(CertificateError::Empty) };
        let usage = webpki::KeyUsage::server_auth();
        trust.verify(leaf, intermediates, CaKind::Node, usage, unix_time(now_ms), true)?;
        let days_left = days_left(self.ends_ms(), now_ms);
        if days_left < i64::try_from(RENEWAL_DAYS).unwrap_or(i64::MAX) {
            tracing::warn!(
                days_left,
                "this node's certificate expires soon or has expired; sign its request again with `quorate pki sign`"
            );
        }
        Ok(())
    }
}

/// The node's certificate with the key that signs for it, on both ports and in both directions. Clones share it, so
/// that a renewed certificate is put in one place; connections that are open stay.
#[derive(Debug, Clone)]
pub struct TlsIdentity(Arc<ArcSwap<CertifiedKey>>);

impl TlsIdentity {
    /// Binds a certificate to its key (`Hsm::rustls_signing_key`).
    ///
    /// # Errors
    /// They do not belong together.
    pub fn new(certificate: &NodeCertificate, key: Arc<dyn SigningKey>) -> Result<Self, CertificateError> {
        Ok(Self(Arc::new(ArcSwap::new(certified(certificate, key)?))))
    }

    /// Puts a renewed certificate in place: the next handshake shows it.
    ///
    /// # Errors
    /// It is for another key.
    pub fn replace(&self, certificate: &NodeCertificate) -> Result<(), CertificateError> {
        let key = self.0.load().key.clone();
        self.0.store(certified(certificate, key)?);
        Ok(())
    }
}

fn certified(certificate: &NodeCertificate, key: Arc<dyn SigningKey>) -> Result<Arc<CertifiedKey>, CertificateError> {
    if key.public_key().is_some_and(|spki| spki.as_ref() != certificate.spki) {
        return Err(CertificateError::OtherKey);
    }
    Ok(Arc::new(CertifiedKey::new(certificate.chain.clone(), key)))
}

impl ResolvesServerCert for TlsIdentity {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ResolvesClientCert for TlsIdentity {
    fn resolve(&self, _root_hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
    fn has_certs(&self) -> bool {
        true
    }
}
