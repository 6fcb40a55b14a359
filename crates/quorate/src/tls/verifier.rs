//! The three questions rustls asks about the other end's certificate.

use std::sync::Arc;

use quorate_core::principal::Role;
use quorate_replica::net::PeerExpectation;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use webpki::KeyUsage;

use super::pins::Pins;
use super::trust::{CaKind, ChainError, Holder, Trust};

/// Signatures of the handshake are checked by rustls's own functions, with this trust's algorithms.
macro_rules! handshake_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls12_signature(message, cert, dss, self.trust.algorithms())
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            verify_tls13_signature(message, cert, dss, self.trust.algorithms())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.trust.algorithms().supported_schemes()
        }
    };
}

fn hints(trust: &Trust) -> Vec<DistinguishedName> {
    vec![DistinguishedName::in_sequence(trust.subject())]
}

/// Port 7600: a client may show a certificate; if it does, it is one of the client CA.
#[derive(Debug)]
pub(super) struct ApiClientVerifier {
    trust: Arc<Trust>,
    hints: Vec<DistinguishedName>,
}

impl ApiClientVerifier {
    pub(super) fn new(trust: Arc<Trust>) -> Self {
        Self { hints: hints(&trust), trust }
    }
}

impl ClientCertVerifier for ApiClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        // Doors with other credentials, and /health, need none; gRPC refuses calls without.
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.trust
            .verify(end_entity, intermediates, CaKind::Client, KeyUsage::client_auth(), now, false)
            .map_err(ChainError::into_rustls)?;
        Ok(ClientCertVerified::assertion())
    }

    handshake_signatures!();
}

/// Port 7601, seen by the node that listens: any node of this cluster. Which of them may do what is decided against
/// membership, by its key, after the handshake.
#[derive(Debug)]
pub(super) struct PeerClientVerifier {
    trust: Arc<Trust>,
    pins: Pins,
    hints: Vec<DistinguishedName>,
}

impl PeerClientVerifier {
    pub(super) fn new(trust: Arc<Trust>, pins: Pins) -> Self {
        Self { hints: hints(&trust), trust, pins }
    }
}

impl ClientCertVerifier for PeerClientVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let check = || {
            let holder =
                self.trust.verify(end_entity, intermediates, CaKind::Node, KeyUsage::client_auth(), now, true)?;
            let pinned = self.pins.contains(holder.principal.name.as_str(), &holder.spki);
            let_pass_if_pinned(&holder, pinned)
        };
        check().map_err(ChainError::into_rustls)?;
        Ok(ClientCertVerified::assertion())
    }

    handshake_signatures!();
}

/// Port 7601, seen by the node that connects: the one node that it wants.
#[derive(Debug)]
pub(super) struct PeerServerVerifier {
    pub(super) trust: Arc<Trust>,
    pub(super) expect: PeerExpectation,
}

impl ServerCertVerifier for PeerServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        // Names identify nodes, not addresses: a node may move.
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let check = || {
            let holder =
                self.trust.verify(end_entity, intermediates, CaKind::Node, KeyUsage::server_auth(), now, true)?;
            if self.expect.cluster != self.trust.cluster() {
                return Err(ChainError::ForeignCluster(self.expect.cluster));
            }
            if holder.principal.role() != Role::Node || holder.principal.name.as_str() != self.expect.name {
                return Err(ChainError::OtherNode { expected: self.expect.name.clone(), found: holder.principal });
            }
            match &self.expect.identity_spki {
                Some(pinned) if *pinned != holder.spki => Err(ChainError::OtherKey(self.expect.name.clone())),
                pinned => let_pass_if_pinned(&holder, pinned.is_some()),
            }
        };
        check().map_err(ChainError::into_rustls)?;
        Ok(ServerCertVerified::assertion())
    }

    handshake_signatures!();
}

/// notAfter only warns for a pinned key: the pin, in committed membership, is the stronger statement.
fn let_pass_if_pinned(holder: &Holder, pinned: bool) -> Result<(), ChainError> {
    let name = holder.principal.name.to_string();
    match (holder.expired, pinned) {
        (false, _) => Ok(()),
        (true, true) => {
            tracing::warn!(
                node = name,
                "its certificate has expired; it is let pass as its key is pinned; renew it with `quorate pki sign`"
            );
            Ok(())
        }
        (true, false) => Err(ChainError::Expired(name)),
    }
}
