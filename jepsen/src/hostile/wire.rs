//! How nodes reach each other, spoken by somebody who follows no rule: TLS with a member's own certificate and key, which is in its
//! token; then the preface (crates/replica, `peer`). Whom it talks to, it does not check.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use quorate_core::codec::Writer;
use quorate_core::id::{ClusterId, GroupId, NodeId};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SigningKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

const ALPN: &[u8] = b"quorate-peer/1";
const MAGIC: &[u8; 6] = b"QRPEER";
const FORMAT: u8 = 1;
/// What was last heard from the one that is called: zeros, for nothing.
const WORD_LEN: usize = 85;
/// Of magic, stamp, purpose and word.
const PREFACE_LEN: usize = 6 + 37 + 1 + WORD_LEN;
const WELCOME: u8 = 0;
const WRONG_PURPOSE: u8 = 6;

/// What a connection is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Purpose {
    /// Heartbeats, votes, Hello.
    Control = 1,
    /// Entries.
    Log = 2,
    /// A state.
    Snapshot = 3,
}

/// Who speaks to whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stamp {
    /// The cluster of both.
    pub cluster: ClusterId,
    /// Who it claims to be.
    pub from: NodeId,
    /// Who is meant.
    pub to: NodeId,
}

impl Stamp {
    /// As each call repeats it.
    pub fn encode(&self) -> Vec<u8> {
        let group = GroupId(0).0;
        Writer::new().u8(FORMAT).raw(&self.cluster.0).u32(group).u64(self.from.0).u64(self.to.0).finish()
    }
}

/// A member's certificate and key, for both ends of connections.
#[derive(Clone)]
pub struct Wire {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Wire {
    /// With a certificate chain in PEM, and its key.
    ///
    /// # Errors
    /// They can't be used.
    pub fn new(pem: &[u8], key: Arc<dyn SigningKey>) -> anyhow::Result<Self> {
        let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().context("the certificate")?;
        let identity = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
        let mut provider = default_provider();
        provider.kx_groups = vec![kx_group::X25519MLKEM768];
        let provider = Arc::new(provider);
        let anybody = Arc::new(Anybody(provider.clone()));
        let mut client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(anybody.clone())
            .with_client_cert_resolver(identity.clone());
        client.alpn_protocols = vec![ALPN.to_vec()];
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(anybody)
            .with_cert_resolver(identity);
        server.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self { client: Arc::new(client), server: Arc::new(server) })
    }

    /// A connection, once the other end has welcomed it.
    ///
    /// # Errors
    /// `PermissionDenied` when it is refused; else why nobody was reached.
    pub async fn connect(
        &self,
        addr: SocketAddr,
        stamp: Stamp,
        purpose: Purpose,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let tcp = TcpStream::connect(addr).await?;
        tcp.set_nodelay(true)?;
        let mut tls = TlsConnector::from(self.client.clone()).connect(ServerName::from(addr.ip()), tcp).await?;
        tls.write_all(&[&MAGIC[..], &stamp.encode(), &[purpose as u8], &[0; WORD_LEN]].concat()).await?;
        tls.flush().await?;
        match tls.read_u8().await? {
            WELCOME => Ok(tls),
            why => Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("refused, for reason {why}"))),
        }
    }

    /// A connection that somebody made, if calls are to come over it.
    ///
    /// # Errors
    /// It broke, or is for something else.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<server::TlsStream<TcpStream>> {
        tcp.set_nodelay(true)?;
        let mut tls = TlsAcceptor::from(self.server.clone()).accept(tcp).await?;
        let mut preface = [0; PREFACE_LEN];
        tls.read_exact(&mut preface).await?;
        let is_for_calls =
            (Purpose::Control as u8..=Purpose::Snapshot as u8).contains(&preface[PREFACE_LEN - WORD_LEN - 1]);
        tls.write_u8(if is_for_calls { WELCOME } else { WRONG_PURPOSE }).await?;
        tls.flush().await?;
        if is_for_calls { Ok(tls) } else { Err(io::Error::other("for something else")) }
    }
}

/// Listens where the member listens.
///
/// # Errors
/// The address is taken.
pub async fn listen(addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.with_context(|| format!("can't listen on {addr}"))
}

/// Takes everybody for whom they say they are. The signatures of the handshake stand for nothing then.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

type Checked<T> = Result<T, rustls::Error>;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Checked<ServerCertVerified> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Checked<HandshakeSignatureValid> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Checked<HandshakeSignatureValid> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Anybody {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Checked<ClientCertVerified> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Checked<HandshakeSignatureValid> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Checked<HandshakeSignatureValid> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
