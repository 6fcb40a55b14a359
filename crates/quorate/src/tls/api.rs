//! Port 7600: TLS for clients.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quorate_core::seam::WallClock;
use rustls::server::NoServerSessionStorage;
use rustls::{ServerConfig, version};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;

use super::certificate::TlsIdentity;
use super::connection::{ApiConnection, Places};
use super::trust::Trust;
use super::verifier::ApiClientVerifier;
use super::{HANDSHAKE_DEADLINE, HANDSHAKES_MAX, SeamTime, api_provider};

/// Handshaken connections that may wait for the server: it takes them at once, so that few are enough.
const READY_LEN: usize = 16;
/// Pause after the system refuses a connection (no file descriptors, say): long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listening API port.
pub struct ApiListener {
    tcp: TcpListener,
    local_addr: SocketAddr,
    acceptor: TlsAcceptor,
}

impl ApiListener {
    /// Listens on `addr`. The certificate is the node's; a client's certificate is optional, and of the client CA.
    ///
    /// # Errors
    /// The address is taken or not ours, or rustls refuses the configuration.
    pub async fn bind(
        addr: SocketAddr,
        identity: TlsIdentity,
        trust: Arc<Trust>,
        clock: Arc<dyn WallClock>,
    ) -> io::Result<Self> {
        let config = server_config(identity, trust, clock).map_err(io::Error::other)?;
        #[expect(clippy::disallowed_methods, reason = "the real listener; simulation has no API port")]
        let tcp = TcpListener::bind(addr).await?;
        let local_addr = tcp.local_addr()?;
        Ok(Self { tcp, local_addr, acceptor: TlsAcceptor::from(Arc::new(config)) })
    }

    /// The address it really listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Connections whose handshake is done, for `serve_with_incoming`. The port closes when the stream is dropped.
    pub fn incoming(self) -> ReceiverStream<io::Result<ApiConnection>> {
        let (ready, connections) = mpsc::channel(READY_LEN);
        tokio::spawn(self.accept_loop(ready));
        ReceiverStream::new(connections)
    }

    async fn accept_loop(self, ready: mpsc::Sender<io::Result<ApiConnection>>) {
        let slots = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let places = Places::new();
        loop {
            let next = async {
                // A slot first: while all are taken, connections wait in the kernel's backlog, not in our memory.
                let slot = slots.clone().acquire_owned().await.map_err(io::Error::other)?;
                Ok::<_, io::Error>((slot, self.tcp.accept().await?))
            };
            let (slot, (tcp, from)) = tokio::select! {
                () = ready.closed() => return,
                next = next => match next {
                    Ok(next) => next,
                    Err(e) => {
                        tracing::warn!(error = %e, "the system refuses connections on the API port");
                        sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            let (acceptor, ready, places) = (self.acceptor.clone(), ready.clone(), places.clone());
            tokio::spawn(async move {
                let handshake = async {
                    tcp.set_nodelay(true)?;
                    acceptor.accept(tcp).await
                };
                let done = timeout(HANDSHAKE_DEADLINE, handshake).await;
                drop(slot);
                match done {
                    Ok(Ok(tls)) => match places.admit(tls) {
                        Some(connection) => drop(ready.send(Ok(connection)).await),
                        None => tracing::debug!(%from, "all places for connections are taken"),
                    },
                    // One client's trouble, which that client is told: never the server's.
                    Ok(Err(e)) => tracing::debug!(%from, error = %e, "a TLS handshake failed"),
                    Err(_) => tracing::debug!(%from, "a TLS handshake took too long"),
                }
            });
        }
    }
}

fn server_config(
    identity: TlsIdentity,
    trust: Arc<Trust>,
    clock: Arc<dyn WallClock>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_details(api_provider(), Arc::new(SeamTime(clock)))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])?
        .with_client_cert_verifier(Arc::new(ApiClientVerifier::new(trust)))
        .with_cert_resolver(Arc::new(identity));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session would bring back a client certificate that was verified long ago, and may have expired since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
