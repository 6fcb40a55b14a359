//! Whether a certificate chain is one of this cluster, and whose it is.

use std::time::Duration;

use quorate_core::credential::Presented;
use quorate_core::id::ClusterId;
use quorate_core::principal::{InvalidPrincipal, Principal, Role};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use thiserror::Error;
use webpki::{Cert, EndEntityCert, KeyUsage, VerifiedPath, anchor_from_trusted_cert};

use super::CertificateFacts;

/// Which of the two CAs below the root issued a certificate. The CA's own certificate says which it is, in a URI SAN
/// signed by the root, so that a node needs no more than the root certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaKind {
    /// Issues node certificates: ports 7600 (as server) and 7601.
    Node,
    /// Issues client certificates: port 7600.
    Client,
}

impl CaKind {
    /// The word in the URI.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Client => "client",
        }
    }
}

/// The URI SAN of a CA's certificate: `quorate://C/ca/node` or `quorate://C/ca/client`.
pub fn ca_uri(cluster: ClusterId, kind: CaKind) -> String {
    format!("{}{cluster}/ca/{}", Principal::SCHEME, kind.as_str())
}

/// Why a certificate is not accepted.
#[derive(Debug, Error)]
pub enum ChainError {
    /// The chain does not lead to the root, is expired, or is not made for this use.
    #[error("the certificate is not accepted: {}", in_words(.0))]
    Chain(webpki::Error),
    /// The right root, the wrong CA.
    #[error("the certificate was not issued by the cluster's {} CA, which this port requires", .0.as_str())]
    WrongCa(CaKind),
    /// No identity, several, or a malformed one.
    #[error("the certificate has no usable identity: {0}")]
    Identity(String),
    /// Another cluster's certificate.
    #[error("the certificate belongs to cluster {0}, not to this one")]
    ForeignCluster(ClusterId),
    /// Not the node that was to be reached.
    #[error("the certificate is that of {found}, not of node {expected}")]
    OtherNode {
        /// The node that was to be reached.
        expected: String,
        /// Who answered.
        found: Principal,
    },
    /// The right name with another key.
    #[error("the certificate of node {0} has another key than the one pinned in the cluster's membership")]
    OtherKey(String),
    /// Expired, and not a pinned member, for whom that is only a warning.
    #[error("the certificate of node {0} has expired; renew it with `quorate pki sign`")]
    Expired(String),
}

fn in_words(e: &webpki::Error) -> String {
    match e {
        webpki::Error::UnknownIssuer => "it does not lead to this cluster's root certificate".into(),
        webpki::Error::CertExpired { .. } => "it has expired; get a new one (`quorate pki`)".into(),
        webpki::Error::CertNotValidYet { .. } => "it is not valid yet; check this machine's clock".into(),
        webpki::Error::RequiredEkuNotFoundContext(_) => "it is not made for this use".into(),
        other => format!("{other:?}"),
    }
}

impl ChainError {
    /// The error rustls tells its peer about, as an alert.
    pub(super) fn into_rustls(self) -> rustls::Error {
        use rustls::CertificateError as E;
        let error = match &self {
            Self::Chain(webpki::Error::UnknownIssuer) => E::UnknownIssuer,
            Self::Chain(webpki::Error::CertExpired { .. }) | Self::Expired(_) => E::Expired,
            Self::Chain(webpki::Error::CertNotValidYet { .. }) => E::NotValidYet,
            Self::Chain(webpki::Error::BadDer) => E::BadEncoding,
            Self::Chain(_) | Self::Identity(_) => E::Other(rustls::OtherError(std::sync::Arc::new(self))),
            Self::WrongCa(_) | Self::ForeignCluster(_) | Self::OtherNode { .. } | Self::OtherKey(_) => {
                tracing::warn!(reason = %self, "a TLS peer was refused");
                E::ApplicationVerificationFailure
            }
        };
        rustls::Error::InvalidCertificate(error)
    }
}

/// Whose a verified certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Role and name from its URI SAN.
    pub principal: Principal,
    /// Its public key, SPKI in DER.
    pub spki: Vec<u8>,
    /// It, or its CA, has expired; only if that was let pass.
    pub expired: bool,
}

/// The root this node trusts, and the cluster it belongs to.
#[derive(Debug)]
pub struct Trust {
    anchor: TrustAnchor<'static>,
    subject: Vec<u8>,
    root_spki: Vec<u8>,
    cluster: ClusterId,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Trust {
    /// Trust in `ca.pem`, the cluster's self-signed root.
    ///
    /// # Errors
    /// The file is no certificate.
    pub fn new(root_pem: &[u8], cluster: ClusterId) -> Result<Self, ChainError> {
        let der = CertificateDer::from_pem_slice(root_pem)
            .map_err(|e| ChainError::Identity(format!("the root certificate is not PEM: {e}")))?;
        let anchor = anchor_from_trusted_cert(&der).map_err(ChainError::Chain)?.to_owned();
        let subject = anchor.subject.as_ref().to_vec();
        let root_spki = spki_of(&der)?;
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
        Ok(Self { anchor, subject, root_spki, cluster, algorithms })
    }

    /// The cluster whose certificates are accepted.
    pub fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The root's public key (SPKI, DER): shares and invitations are bound to it.
    pub fn root_spki(&self) -> &[u8] {
        &self.root_spki
    }

    /// Distinguished name of the root, for the server's certificate request.
    pub(super) fn subject(&self) -> &[u8] {
        &self.subject
    }

    pub(super) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.algorithms
    }

    /// Verifies a chain: root → CA of `kind` → `leaf`, for `usage` at `now`, one identity of this cluster and of a role
    /// that this CA may vouch for. With `may_be_expired`, a notAfter that has passed is reported, not refused.
    ///
    /// # Errors
    /// See [`ChainError`].
    pub fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        kind: CaKind,
        usage: KeyUsage,
        now: UnixTime,
        may_be_expired: bool,
    ) -> Result<Holder, ChainError> {
        /// Leaf and CA, each once: no chain needs more steps back in time.
        const STEPS_BACK_MAX: usize = 2;
        let certificate = EndEntityCert::try_from(leaf).map_err(ChainError::Chain)?;
        let (mut time, mut expired) = (now, false);
        for _ in 0..=STEPS_BACK_MAX {
            match self.verify_at(&certificate, intermediates, kind, usage, time) {
                Err(ChainError::Chain(webpki::Error::CertExpired { not_after, .. })) if may_be_expired => {
                    // As it was at the last second it was valid: everything but the date is still checked.
                    time = not_after;
                    expired = true;
                }
                Err(e) => return Err(e),
                Ok(()) => {
                    let (cluster, principal) = read_identity(&certificate).map_err(ChainError::Identity)?;
                    if cluster != self.cluster {
                        return Err(ChainError::ForeignCluster(cluster));
                    }
                    if (principal.role() == Role::Node) != (kind == CaKind::Node) {
                        return Err(ChainError::WrongCa(kind));
                    }
                    let spki = certificate.subject_public_key_info().as_ref().to_vec();
                    return Ok(Holder { principal, spki, expired });
                }
            }
        }
        Err(ChainError::Chain(webpki::Error::CertExpired { time: now, not_after: time }))
    }

    fn verify_at(
        &self,
        certificate: &EndEntityCert<'_>,
        intermediates: &[CertificateDer<'_>],
        kind: CaKind,
        usage: KeyUsage,
        time: UnixTime,
    ) -> Result<(), ChainError> {
        let anchors = std::slice::from_ref(&self.anchor);
        let path = certificate
            .verify_for_usage(self.algorithms.all, anchors, intermediates, time, usage, None, None)
            .map_err(ChainError::Chain)?;
        if !issued_by(&path, &ca_uri(self.cluster, kind)) {
            // The CA of a foreign cluster under the same root, or the other CA: the leaf's own URI tells which.
            return match read_identity(certificate) {
                Ok((cluster, _)) if cluster != self.cluster => Err(ChainError::ForeignCluster(cluster)),
                _ => Err(ChainError::WrongCa(kind)),
            };
        }
        Ok(())
    }
}

fn issued_by(path: &VerifiedPath<'_>, uri: &str) -> bool {
    let mut cas = path.intermediate_certificates();
    // Exactly one CA between root and leaf, and it names itself exactly once.
    cas.next().is_some_and(|ca| ca.valid_uri_names().eq([uri])) && cas.next().is_none()
}

fn read_identity(certificate: &Cert<'_>) -> Result<(ClusterId, Principal), String> {
    let mut uris = certificate.valid_uri_names();
    match (uris.next(), uris.next()) {
        (Some(uri), None) => Principal::parse_uri(uri).map_err(|e: InvalidPrincipal| e.to_string()),
        (None, _) => Err("no URI in its subject alternative names".into()),
        (Some(_), Some(_)) => Err("several URIs in its subject alternative names".into()),
    }
}

/// Cluster and principal that a certificate names, without verifying it: for a certificate that a TLS handshake has
/// verified already, or one's own.
///
/// # Errors
/// The certificate is malformed or names no identity, or several.
pub fn identity_of(leaf: &CertificateDer<'_>) -> Result<(ClusterId, Principal), ChainError> {
    let certificate = EndEntityCert::try_from(leaf).map_err(ChainError::Chain)?;
    read_identity(&certificate).map_err(ChainError::Identity)
}

/// A certificate as a credential: SHA-256 of its SPKI (RFC 7469 §2.4), and when it ends.
///
/// # Errors
/// The certificate is malformed.
pub fn credential_of(leaf: &CertificateDer<'_>) -> Result<Presented, String> {
    let facts = CertificateFacts::of(leaf)?;
    Ok(Presented { id: facts.credential(), ends_ms: facts.ends_ms() })
}

/// SPKI (DER) of a certificate.
pub(super) fn spki_of(leaf: &CertificateDer<'_>) -> Result<Vec<u8>, ChainError> {
    let certificate = EndEntityCert::try_from(leaf).map_err(ChainError::Chain)?;
    Ok(certificate.subject_public_key_info().as_ref().to_vec())
}

/// Milliseconds since 1970 as TLS libraries take them.
pub fn unix_time(ms: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(ms))
}
