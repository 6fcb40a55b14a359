//! The network seam: streams between nodes that are already mutually authenticated (key-log §7).
//!
//! The real one is TLS 1.3 with identity keys in the HSM; tests and simulation bring their own. What a certificate
//! says is only *input* here: whether its bearer may speak for a node id is decided against committed membership.

use std::io;

use futures::future::BoxFuture;
use quorate_core::id::ClusterId;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connected, authenticated byte stream.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// Any [`Stream`], boxed.
pub type BoxStream = Box<dyn Stream>;

/// Whom a connecting node wants to find at the other end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerExpectation {
    /// The node's name, as in its certificate `quorate://C/node/NAME`.
    pub name: String,
    /// The cluster it must belong to.
    pub cluster: ClusterId,
    /// Its identity key (SubjectPublicKeyInfo, DER) where it is pinned; `None`: any certificate with that name.
    pub identity_spki: Option<Vec<u8>>,
}

/// Who an authenticated peer is, by its certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerIdentity {
    /// The node's name.
    pub name: String,
    /// The cluster its certificate was issued for.
    pub cluster: ClusterId,
    /// Its identity key (SubjectPublicKeyInfo, DER).
    pub identity_spki: Vec<u8>,
}

/// An accepted connection whose handshake still has to be driven. The caller does that in a task of its own and
/// under a deadline, so a peer that connects and then says nothing holds up nobody.
pub type Handshake = BoxFuture<'static, io::Result<(BoxStream, PeerIdentity)>>;

/// Where streams to and from other nodes come from.
pub trait Net: Send + Sync + 'static {
    /// Connects to `addr` (`host:port`) and authenticates both sides.
    ///
    /// # Errors
    /// `PermissionDenied` when the other end is not the expected node; else why it could not be reached.
    fn connect<'a>(&'a self, addr: &'a str, expect: &'a PeerExpectation) -> BoxFuture<'a, io::Result<BoxStream>>;

    /// Listens on `addr` (`host:port`, port 0 = any free one).
    ///
    /// # Errors
    /// When the address is taken or not ours.
    fn listen<'a>(&'a self, addr: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;
}

/// A listening socket.
pub trait Listener: Send + 'static {
    /// The address it really listens on.
    fn local_addr(&self) -> String;

    /// Waits for the next connection; returns before its handshake.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Handshake>>;
}
