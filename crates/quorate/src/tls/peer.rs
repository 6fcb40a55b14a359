//! Port 7601: authenticated streams between nodes.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;
use quorate_core::seam::WallClock;
use quorate_replica::net::{BoxStream, Handshake, Listener, Net, PeerExpectation, PeerIdentity};
use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig, version};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::certificate::TlsIdentity;
use super::doorstep::{Doorstep, source_of};
use super::pins::Pins;
use super::seats::{Room, WhenFull};
use super::trust::{Trust, identity_of, spki_of};
use super::verifier::{PeerClientVerifier, PeerServerVerifier};
use super::{HANDSHAKE_DEADLINE, HANDSHAKES_MAX, SeamTime, peer_provider};

/// The peer protocol's name in the handshake, so that no other protocol's bytes are ever taken for it.
const ALPN: &[u8] = b"quorate-peer/1";
/// Connections that have not finished their handshake. Nodes have addresses of their own, and few connections each: a
/// crowd of strangers gives way to them.
const DOORSTEP: Room = Room { max: HANDSHAKES_MAX, of_one_max: HANDSHAKES_MAX / 4, when_full: WhenFull::Replace };

/// The network between nodes, by TLS. Clones share everything.
#[derive(Clone)]
pub struct TlsNet {
    identity: TlsIdentity,
    trust: Arc<Trust>,
    clock: Arc<dyn WallClock>,
    server: Arc<ServerConfig>,
}

impl TlsNet {
    /// A network in which this node is `identity` and believes `trust`. Keep a clone of `pins` and renew them as
    /// membership changes.
    ///
    /// # Errors
    /// rustls refuses the configuration.
    pub fn new(
        identity: TlsIdentity,
        trust: Arc<Trust>,
        pins: Pins,
        clock: Arc<dyn WallClock>,
    ) -> Result<Self, rustls::Error> {
        let verifier = Arc::new(PeerClientVerifier::new(trust.clone(), pins));
        let time = Arc::new(SeamTime(clock.clone()));
        let mut server = ServerConfig::builder_with_details(peer_provider(), time)
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(identity.clone()));
        server.alpn_protocols = vec![ALPN.to_vec()];
        // Each connection proves both keys anew: nothing is resumed, nothing is sent before the proof.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.max_early_data_size = 0;
        Ok(Self { identity, trust, clock, server: Arc::new(server) })
    }

    fn client(&self, expect: &PeerExpectation) -> Result<ClientConfig, rustls::Error> {
        let verifier = Arc::new(PeerServerVerifier { trust: self.trust.clone(), expect: expect.clone() });
        let time = Arc::new(SeamTime(self.clock.clone()));
        let mut client = ClientConfig::builder_with_details(peer_provider(), time)
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(self.identity.clone()));
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_early_data = false;
        Ok(client)
    }

    async fn connect_now(&self, addr: &str, expect: &PeerExpectation) -> io::Result<BoxStream> {
        let config = self.client(expect).map_err(io::Error::other)?;
        let server_name = server_name(addr)?;
        #[expect(clippy::disallowed_methods, reason = "this is the Net seam's real implementation")]
        let tcp = TcpStream::connect(addr).await?;
        tcp.set_nodelay(true)?;
        let tls = TlsConnector::from(Arc::new(config)).connect(server_name, tcp).await.map_err(refused)?;
        if tls.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(io::Error::new(ErrorKind::PermissionDenied, "the other end is not a quorate peer port"));
        }
        Ok(Box::new(tls))
    }
}

impl Net for TlsNet {
    fn connect<'a>(&'a self, addr: &'a str, expect: &'a PeerExpectation) -> BoxFuture<'a, io::Result<BoxStream>> {
        Box::pin(async move {
            timeout(HANDSHAKE_DEADLINE, self.connect_now(addr, expect)).await.unwrap_or_else(|_| too_slow())
        })
    }

    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            #[expect(clippy::disallowed_methods, reason = "this is the Net seam's real implementation")]
            let tcp = TcpListener::bind(addr).await?;
            let local_addr = tcp.local_addr()?;
            let acceptor = TlsAcceptor::from(self.server.clone());
            let doorstep = Doorstep::new(DOORSTEP);
            Ok(Box::new(PeerListener { tcp, local_addr, acceptor, doorstep }) as Box<dyn Listener>)
        })
    }
}

struct PeerListener {
    tcp: TcpListener,
    local_addr: SocketAddr,
    acceptor: TlsAcceptor,
    doorstep: Doorstep<IpAddr>,
}

impl Listener for PeerListener {
    fn local_addr(&self) -> String {
        self.local_addr.to_string()
    }

    fn accept(&mut self) -> BoxFuture<'_, io::Result<Handshake>> {
        Box::pin(async move {
            let (tcp, from, mut guest) = loop {
                let (tcp, from) = self.tcp.accept().await?;
                if let Some(guest) = self.doorstep.enter(source_of(from.ip())) {
                    break (tcp, from.ip(), guest);
                }
            };
            let acceptor = self.acceptor.clone();
            let handshake: Handshake = Box::pin(async move {
                let accepted = timeout(HANDSHAKE_DEADLINE, accept_now(acceptor, tcp));
                let accepted = tokio::select! {
                    accepted = accepted => accepted.unwrap_or_else(|_| too_slow()),
                    () = guest.sent_away() => too_slow(),
                };
                // For the log: who it was is not known otherwise.
                accepted.map_err(|e| io::Error::new(e.kind(), format!("from {from}: {e}")))
            });
            Ok(handshake)
        })
    }
}

async fn accept_now(acceptor: TlsAcceptor, tcp: TcpStream) -> io::Result<(BoxStream, PeerIdentity)> {
    tcp.set_nodelay(true)?;
    let tls = acceptor.accept(tcp).await.map_err(refused)?;
    let session = tls.get_ref().1;
    let denied = |e: String| io::Error::new(ErrorKind::PermissionDenied, e);
    if session.alpn_protocol() != Some(ALPN) {
        return Err(denied("the other end does not speak the peer protocol".into()));
    }
    let leaf = session.peer_certificates().and_then(|chain| chain.first());
    let leaf = leaf.ok_or_else(|| denied("the other end showed no certificate".into()))?;
    let (cluster, principal) = identity_of(leaf).map_err(|e| denied(e.to_string()))?;
    let identity_spki = spki_of(leaf).map_err(|e| denied(e.to_string()))?;
    let peer = PeerIdentity { name: principal.name.to_string(), cluster, identity_spki };
    Ok((Box::new(tls), peer))
}

/// What the TLS library refuses is a matter of who the other end is; the rest is a matter of reaching it.
fn refused(e: io::Error) -> io::Error {
    if e.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        return io::Error::new(ErrorKind::PermissionDenied, e);
    }
    e
}

fn too_slow<T>() -> io::Result<T> {
    Err(io::Error::new(ErrorKind::TimedOut, "the TLS handshake took too long"))
}

/// The host of `host:port`, for SNI only; what counts is the name in the certificate's URI.
fn server_name(addr: &str) -> io::Result<ServerName<'static>> {
    let invalid = || io::Error::new(ErrorKind::InvalidInput, format!("{addr:?} is not host:port"));
    let (host, _port) = addr.rsplit_once(':').ok_or_else(invalid)?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|_| invalid())
}
