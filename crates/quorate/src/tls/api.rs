//! Port 7600: TLS for clients.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::poll;
use quorate_core::id::ClusterId;
use quorate_core::seam::WallClock;
use quorate_replica::Seldom;
use rustls::server::{Acceptor, NoServerSessionStorage};
use rustls::{ServerConfig, version};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;

use super::certificate::TlsIdentity;
use super::connection::{Admitted, Places};
use super::doorstep::{Doorstep, source_of};
use super::seats::{Room, WhenFull};
use super::trust::Trust;
use super::verifier::ApiClientVerifier;
use super::{HANDSHAKE_DEADLINE, HANDSHAKES_MAX, SeamTime, api_provider};

/// Handshaken connections that may wait for the server: it takes them at once, so that few are enough.
const READY_LEN: usize = 16;
/// Connections that have not finished their handshake. More than may sign at once: a silent one costs little. Whoever
/// comes is let in, and the oldest of the greediest source has to go: those who mean it are done in a moment.
const DOORSTEP: Room = Room { max: 128, of_one_max: 32, when_full: WhenFull::Replace };
/// Pause after the system refuses a connection (no file descriptors, say): long enough not to spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Of one source and one fault is told once in so long.
const TOLD_EVERY: Duration = Duration::from_secs(10 * 60);

/// A listening API port.
pub struct ApiListener {
    tcp: TcpListener,
    local_addr: SocketAddr,
    config: Arc<ServerConfig>,
    cluster: ClusterId,
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
        let cluster = trust.cluster();
        let config = server_config(identity, trust, clock).map_err(io::Error::other)?;
        #[expect(clippy::disallowed_methods, reason = "the real listener; simulation has no API port")]
        let tcp = TcpListener::bind(addr).await?;
        let local_addr = tcp.local_addr()?;
        Ok(Self { tcp, local_addr, config: Arc::new(config), cluster })
    }

    /// The address it really listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Connections whose handshake is done, each in its place. The port closes when the stream is dropped.
    pub fn incoming(self) -> ReceiverStream<Admitted> {
        let (ready, connections) = mpsc::channel(READY_LEN);
        tokio::spawn(self.accept_loop(ready));
        ReceiverStream::new(connections)
    }

    async fn accept_loop(self, ready: mpsc::Sender<Admitted>) {
        let doorstep = Doorstep::new(DOORSTEP);
        let signing = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        let places = Places::new(self.cluster);
        let foreign = Arc::new(Seldom::every(TOLD_EVERY));
        loop {
            let next = tokio::select! {
                () = ready.closed() => return,
                next = self.tcp.accept() => next,
            };
            let (tcp, from) = match next {
                Ok(next) => next,
                Err(e) => {
                    tracing::warn!(error = %e, "the system refuses connections on the API port");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(mut guest) = doorstep.enter(source_of(from.ip())) else { continue };
            let (config, signing, ready, places) =
                (self.config.clone(), signing.clone(), ready.clone(), places.clone());
            let foreign = foreign.clone();
            tokio::spawn(async move {
                let done = tokio::select! {
                    done = timeout(HANDSHAKE_DEADLINE, handshake(config, &signing, tcp)) => done,
                    () = guest.sent_away() => {
                        tracing::debug!(%from, "a TLS handshake was given up for a newcomer's");
                        return;
                    }
                };
                drop(guest);
                match done {
                    Ok(Ok(tls)) => match places.admit(tls, from.ip()) {
                        Some(admitted) => drop(ready.send(admitted).await),
                        None => tracing::debug!(%from, "all places for such connections are taken"),
                    },
                    // One client's trouble, which that client is told: never the server's.
                    Ok(Err(e)) => match Some(&e)
                        .filter(|e| is_foreign(e))
                        .and_then(|e| foreign.due(&format!("{} {e}", from.ip())))
                    {
                        Some(times) => {
                            tracing::warn!(from = %from.ip(), times, error = %e, "a client's certificate was refused")
                        }
                        None => tracing::debug!(%from, error = %e, "a TLS handshake failed"),
                    },
                    Err(_) => tracing::debug!(%from, "a TLS handshake took too long"),
                }
            });
        }
    }
}

/// Whether it is the client's certificate that the handshake failed for: of another root, expired, for something else.
fn is_foreign(e: &io::Error) -> bool {
    let tls = e.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}

/// A client that says nothing, or does not answer, keeps a place on the doorstep, and none of the few that may keep the
/// HSM busy: our one signature falls to the first step after the client's first message.
async fn handshake(config: Arc<ServerConfig>, signing: &Semaphore, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    tcp.set_nodelay(true)?;
    let hello = LazyConfigAcceptor::new(Acceptor::default(), tcp).await?;
    let mut rest = hello.into_stream(config);
    let slot = signing.acquire().await.map_err(io::Error::other)?;
    let first = poll!(&mut rest);
    drop(slot);
    match first {
        Poll::Ready(done) => done,
        Poll::Pending => rest.await,
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
