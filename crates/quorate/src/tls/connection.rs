//! A connection to the API port: who may have how many, and for how long one that says nothing is kept.
//!
//! Strangers reach this port too (`/health` needs no certificate), and each connection costs a file descriptor that the
//! journal and the other nodes need as well. So those without a certificate share a small number of places, those with
//! one a large number, and nobody keeps a place in silence. A live gRPC client is never silent: it answers the server's
//! keep-alive pings.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

use super::doorstep::{Doorstep, Guest};

/// Connections without a client certificate at once, half of them from one source at most.
pub const STRANGERS_MAX: usize = 256;
/// Connections with one at once.
pub const CLIENTS_MAX: usize = 4096;
/// File descriptors left to strangers, to unfinished handshakes and to everything else, when the process may not have
/// enough for [`CLIENTS_MAX`].
const DESCRIPTORS_KEPT: usize = STRANGERS_MAX + 256 + 256;
/// A connection on which nothing arrives for this long is closed; above the interval of the server's pings.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The places for connections of one port.
#[derive(Clone)]
pub(super) struct Places {
    strangers: Doorstep,
    clients: Arc<Semaphore>,
}

impl Places {
    /// As many as this process can have files open for.
    pub(super) fn new() -> Self {
        let open_max = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let open_max = open_max.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let clients = open_max.saturating_sub(DESCRIPTORS_KEPT).clamp(64, CLIENTS_MAX);
        Self { strangers: Doorstep::new(STRANGERS_MAX), clients: Arc::new(Semaphore::new(clients)) }
    }

    /// Takes in a connection whose handshake is done; none when all places of its kind are taken.
    pub(super) fn admit(&self, tls: TlsStream<TcpStream>, from: IpAddr) -> Option<ApiConnection> {
        let known = tls.get_ref().1.peer_certificates().is_some_and(|chain| !chain.is_empty());
        let place = match known {
            true => Seat::Client(self.clients.clone().try_acquire_owned().ok()?),
            false => Seat::Stranger(self.strangers.try_enter(from)?),
        };
        Some(ApiConnection { tls, silence: Box::pin(sleep(SILENCE_MAX)), _place: place })
    }
}

/// Given back when dropped.
#[expect(dead_code, reason = "held for as long as the connection lives")]
enum Seat {
    Client(OwnedSemaphorePermit),
    Stranger(Guest),
}

/// A client's connection, in its place.
pub struct ApiConnection {
    tls: TlsStream<TcpStream>,
    silence: Pin<Box<Sleep>>,
    _place: Seat,
}

impl ApiConnection {
    /// The stream below, for whoever looks at the session.
    #[cfg(test)]
    pub fn get_ref(&self) -> &TlsStream<TcpStream> {
        &self.tls
    }
}

impl Connected for ApiConnection {
    type ConnectInfo = TlsConnectInfo<TcpConnectInfo>;
    fn connect_info(&self) -> Self::ConnectInfo {
        self.tls.connect_info()
    }
}

impl AsyncRead for ApiConnection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.tls).poll_read(cx, buf);
        if read.is_ready() {
            self.silence.as_mut().reset(Instant::now() + SILENCE_MAX);
            return read;
        }
        self.silence.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for ApiConnection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bytes)
    }
    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }
}
