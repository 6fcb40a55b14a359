//! What the service plugs into a replica: it decides what peers hear and what is done with what they say.

use bytes::Bytes;
use futures::future::BoxFuture;
use quorate_core::id::NodeId;
use quorate_core::session::{Claim, Open, Session};

use crate::error::Problem;
use crate::net::PeerIdentity;
pub use crate::state::{BatchVerifier, ReadRecord, SealCheck, Touched};

/// What an unsealed node lends its replica, and takes back when it is sealed: the use of its keyring.
pub trait KeyHolder: BatchVerifier + 'static {
    /// The entry that begins a session, signed and with its MAC.
    fn open(&self, session: Session) -> Open;

    /// The anchor key's signature of a claim.
    fn claim(&self, claim: &Claim) -> [u8; 64];
}

/// The service's side of the peer protocol. Called on the replica's own runtime: nothing here may block.
pub trait PeerHandler: Send + Sync + 'static {
    /// The application's part of this node's Hello (sealed or not, ceremony progress, version); at most 16 KiB.
    fn hello(&self) -> Bytes;

    /// A member said Hello.
    fn on_hello(&self, from: NodeId, app: Bytes);

    /// Answers an application message of a member. The `kind` is the service's own numbering.
    fn handle(&self, from: NodeId, kind: u8, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;

    /// Answers a node that is no member yet: any node certificate of this cluster may ask.
    fn join(&self, from: PeerIdentity, body: Bytes) -> BoxFuture<'static, Result<Bytes, String>>;

    /// Whether a member is known to serve clients: among equals, it is the better leader.
    fn serves(&self, _id: NodeId) -> bool {
        true
    }

    /// This replica has stopped serving, and why: raise the alarm.
    fn on_problem(&self, _problem: &Problem) {}
}

/// Told about each applied entry: after the engine has it, before the applied index is published (key-log §1.9).
pub trait ApplyObserver: Send + Sync + 'static {
    /// The entry at `index` was applied and touched these records.
    fn applied(&self, index: u64, touched: &[Touched]);

    /// The whole state was replaced by one at `index`, whose records `record` reads: nothing known of it before holds
    /// any more. Told before the index is published.
    fn replaced(&self, index: u64, record: ReadRecord<'_>);
}

/// A service that says nothing, for unit tests.
#[cfg(test)]
pub(crate) struct NoService;

#[cfg(test)]
impl PeerHandler for NoService {
    fn hello(&self) -> Bytes {
        Bytes::new()
    }
    fn on_hello(&self, _: NodeId, _: Bytes) {}
    fn handle(&self, _: NodeId, _: u8, _: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(async { Err("no service".into()) })
    }
    fn join(&self, _: PeerIdentity, _: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(async { Err("no service".into()) })
    }
}

#[cfg(test)]
impl quorate_core::seam::Entropy for NoService {
    fn fill(&self, out: &mut [u8]) {
        out.fill(0x5a);
    }
}

#[cfg(test)]
impl SealCheck for NoService {
    fn opens(&self, _: &[u8], _: &Open) -> bool {
        false
    }
    fn claims(&self, _: &[u8], _: &Claim, _: &[u8; 64]) -> bool {
        false
    }
    fn lists(&self, _: &[u8], _: &[u8], _: &[u8; 64]) -> bool {
        false
    }
    fn levels(&self, _: &[u8], _: &[u8], _: &[u8; 64]) -> bool {
        false
    }
    fn succeeds(&self, _: &[u8], _: &[u8]) -> bool {
        false
    }
}
