//! A connection to the API port: whose it is, who may have how many, and for how long one that says nothing is kept.
//!
//! Strangers reach this port too (`/health` needs no certificate), and each connection costs memory and a file descriptor
//! that the journal and the other nodes need as well. So those without a certificate share a few places, in which the
//! latest sit; those with one have many, each principal its share; operators have places of their own, so that no crowd of
//! users keeps out whoever could help. Nobody keeps a place in silence. A live gRPC client is never silent: it answers the
//! server's keep-alive pings.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use quorate_core::id::ClusterId;
use quorate_core::principal::{Principal, Role};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

use super::doorstep::{Doorstep, Guest, source_of};
use super::seats::{Room, WhenFull};
use super::trust::identity_of;

/// Connections without a certificate of this cluster at once, by source. The latest stay: who looks at `/health` is always
/// let in.
pub(super) const STRANGERS: Room = Room { max: 64, of_one_max: 16, when_full: WhenFull::Replace };
/// Connections of users at once, by principal; in all as many as the process may have files open for.
const USERS: Room = Room { max: 4096, of_one_max: 128, when_full: WhenFull::Refuse };
/// Connections of administrators, custodians and auditors at once, by principal: reserved for them.
const OPERATORS: Room = Room { max: 256, of_one_max: 128, when_full: WhenFull::Refuse };
/// File descriptors left to strangers, operators, unfinished handshakes and everything else, when the process may not have
/// enough for all [`USERS`].
const DESCRIPTORS_KEPT: usize = STRANGERS.max + OPERATORS.max + 128 + 256;
/// A connection on which nothing arrives for this long is closed; above the interval of the server's pings.
pub const SILENCE_MAX: Duration = Duration::from_secs(60);

/// What kind of caller a connection belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// No certificate, or one that names nobody of this cluster.
    Stranger,
    /// Somebody who uses keys.
    User,
    /// Somebody who runs the cluster, or opens it.
    Operator,
}

/// The places for connections of one port.
#[derive(Clone)]
pub(super) struct Places {
    cluster: ClusterId,
    strangers: Doorstep<IpAddr>,
    users: Doorstep<Principal>,
    operators: Doorstep<Principal>,
}

impl Places {
    /// As many as this process can have files open for.
    pub(super) fn new(cluster: ClusterId) -> Self {
        let open_max = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let open_max = open_max.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        let users = open_max.saturating_sub(DESCRIPTORS_KEPT).clamp(64, USERS.max);
        Self {
            cluster,
            strangers: Doorstep::new(STRANGERS),
            users: Doorstep::new(Room { max: users, ..USERS }),
            operators: Doorstep::new(OPERATORS),
        }
    }

    /// Takes in a connection whose handshake is done; none when all places of its kind are taken.
    pub(super) fn admit(&self, tls: TlsStream<TcpStream>, from: IpAddr) -> Option<Admitted> {
        let leaf = tls.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let principal = leaf.and_then(|leaf| identity_of(leaf).ok());
        let principal = principal.filter(|(cluster, _)| *cluster == self.cluster).map(|(_, principal)| principal);
        let class = match principal.as_ref().map(|principal| principal.role()) {
            None | Some(Role::Node) => Class::Stranger,
            Some(Role::User) => Class::User,
            Some(Role::Admin | Role::Custodian | Role::Auditor) => Class::Operator,
        };
        let place = match (class, principal) {
            (Class::User, Some(principal)) => Place::Known(self.users.enter(principal)?),
            (Class::Operator, Some(principal)) => Place::Known(self.operators.enter(principal)?),
            _ => Place::Stranger(self.strangers.enter(source_of(from))?),
        };
        let connection = ApiConnection { tls, silence: Box::pin(sleep(SILENCE_MAX)) };
        Some(Admitted { connection, class, place })
    }
}

/// A connection that has been taken in.
pub struct Admitted {
    /// Its two streams of bytes.
    pub connection: ApiConnection,
    /// Whose it is.
    pub class: Class,
    /// To be kept for as long as the connection is.
    pub place: Place,
}

/// A place of a connection; given back when dropped.
pub enum Place {
    #[doc(hidden)]
    Stranger(Guest<IpAddr>),
    #[doc(hidden)]
    Known(Guest<Principal>),
}

impl Place {
    /// Waits until somebody else has been given the place: then the connection is to be closed.
    pub async fn sent_away(&mut self) {
        match self {
            Self::Stranger(guest) => guest.sent_away().await,
            Self::Known(guest) => guest.sent_away().await,
        }
    }
}

/// A client's connection.
pub struct ApiConnection {
    tls: TlsStream<TcpStream>,
    silence: Pin<Box<Sleep>>,
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
