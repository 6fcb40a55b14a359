//! The protocol between nodes (port 7601): gRPC over streams of the [`Net`](crate::Net) seam.
//!
//! Each connection begins with a preface, and each call repeats it as metadata, so that a foreign cluster is refused
//! before anything of it is parsed:
//!
//! ```text
//! stamp   = format u8 ‖ C 16 ‖ group u32 ‖ from u64 ‖ to u64                       37 bytes
//! preface = "QRPEER" ‖ stamp ‖ purpose u8 ‖ word 85                              →
//!           answer u8: 0 = welcome, else why not                                  ←
//! ```
//!
//! Who `from` is follows from the certificate alone; it may speak for a node id when committed membership pins that
//! name and identity key for it. `from` and `to` are 0 in the one call open to nodes that are no members, `Join`.

pub(crate) mod closed;
pub(crate) mod convert;
pub(crate) mod forward;
pub(crate) mod hello;
pub(crate) mod link;
pub(crate) mod members;
pub(crate) mod network;
pub(crate) mod preface;
pub(crate) mod rounds;
pub(crate) mod server;
pub(crate) mod services;

/// Generated from `proto/quorate/peer/v1/peer.proto`.
#[allow(missing_docs, clippy::all)]
pub(crate) mod pb {
    tonic::include_proto!("quorate.peer.v1");
}

use std::io;
use std::time::Duration;

use closed::Closed;
use preface::Refusal;
use quorate_core::id::peer_text;
use tonic::{Code, Status};

/// Longest message, in bytes.
pub(crate) const MESSAGE_LEN_MAX: usize = 4 * 1024 * 1024;
/// Proposals of one peer in flight here; more are told RESOURCE_EXHAUSTED.
pub(crate) const FORWARDS_MAX: usize = 1024;
/// Questions about members and leadership of one peer at once; operators ask one after the other.
pub(crate) const CHANGES_MAX: usize = 2;
/// Application calls of one peer in flight here.
pub(crate) const CALLS_MAX: usize = 64;
/// Join calls in flight here, from anyone.
pub(crate) const JOINS_MAX: usize = 8;
/// How long connecting may take: TCP, TLS with a signature from the HSM, preface.
pub(crate) const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How long one append with entries may take: the follower syncs its disk in it.
pub(crate) const APPEND_LIMIT: Duration = Duration::from_secs(2);
/// The longest any call is worked on here, whatever its caller wants.
pub(crate) const SERVE_LIMIT: Duration = Duration::from_secs(60);
/// A connection on which nothing comes is asked for a sign of life this often …
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// … and given up when none comes within this.
pub(crate) const KEEPALIVE_LIMIT: Duration = Duration::from_secs(2);
/// Flow-control window of a stream, and twice that of a connection: one message fits.
pub(crate) const WINDOW_BYTES: u32 = MESSAGE_LEN_MAX as u32;

/// How a call to a peer failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum RpcFailure {
    /// No answer in time; whether it was acted on is unknown.
    Deadline(Duration),
    /// Not connected, or the connection broke; whether it was acted on is unknown.
    Unreachable(String),
    /// The peer does not talk to us; nothing was done.
    Refused(String),
    /// The same, because its committed membership does not pin this node: it was removed, or the peer is behind.
    NotPinned,
    /// The peer can't open what it holds, and takes no part; nothing was done.
    Closed(Closed),
    /// The peer has too much to do; nothing was done.
    Busy,
}

impl std::fmt::Display for RpcFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deadline(limit) => write!(f, "no answer within {limit:?}"),
            Self::Unreachable(why) => write!(f, "not reachable: {why}"),
            Self::Refused(why) => write!(f, "refused: {why}"),
            Self::NotPinned => write!(f, "refused: {}", Refusal::NotPinned),
            Self::Closed(why) => why.fmt(f),
            Self::Busy => f.write_str("overloaded, or short of disk space"),
        }
    }
}

impl From<Refusal> for RpcFailure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotPinned => Self::NotPinned,
            Refusal::Closed(why) => Self::Closed(why),
            other => Self::Refused(other.to_string()),
        }
    }
}

/// The refusal that kept a connection from being made, somewhere in the chain of causes.
fn refusal_in(status: &Status) -> Option<Refusal> {
    let causes = std::iter::successors(std::error::Error::source(status), |e| e.source());
    causes.filter_map(|e| e.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<Refusal>().copied()).next()
}

impl From<Status> for RpcFailure {
    fn from(status: Status) -> Self {
        if let Some(refusal) = refusal_in(&status) {
            return refusal.into();
        }
        match status.code() {
            Code::PermissionDenied | Code::FailedPrecondition | Code::InvalidArgument => {
                Self::Refused(peer_text(status.message()))
            }
            // With a cause it is not the peer's word: the connection was given up (GOAWAY "enhance your calm"), and
            // what was under way on it may have been done.
            Code::ResourceExhausted if std::error::Error::source(&status).is_none() => Self::Busy,
            _ => {
                // The cause (a refused connection, a failed handshake) is at the end of the chain.
                let mut text = status.message().to_owned();
                let mut source = std::error::Error::source(&status);
                while let Some(e) = source {
                    text = e.to_string();
                    source = e.source();
                }
                Self::Unreachable(peer_text(&text))
            }
        }
    }
}

/// Runs a call under a limit: a peer that hangs hangs nobody.
pub(crate) async fn bounded<T>(
    limit: Duration,
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, RpcFailure> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(status.into()),
        Err(_) => Err(RpcFailure::Deadline(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_says_forges_no_line_and_fills_no_log() {
        for status in [Status::permission_denied, Status::internal].map(|f| f("no\nERROR all is lost".repeat(1000))) {
            let said = RpcFailure::from(status).to_string();
            assert!(!said.contains('\n') && said.len() < 600, "{} bytes", said.len());
        }
    }

    #[test]
    fn only_the_peer_s_own_word_means_that_nothing_was_done() {
        assert_eq!(RpcFailure::from(Status::resource_exhausted("too many")), RpcFailure::Busy);
        let mut broken = Status::resource_exhausted("h2 protocol error");
        broken.set_source(std::sync::Arc::new(std::io::Error::other("GOAWAY")));
        assert_eq!(RpcFailure::from(broken), RpcFailure::Unreachable("GOAWAY".into()));
    }
}
