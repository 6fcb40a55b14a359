//! Replicates the encrypted key log: the log, state, Raft, peers and the read gate. It knows only ciphertext.
//! It leaves to others: disks and chained segments (`journal`).

pub mod log;
pub mod state;

mod change;
mod clock;
mod compact;
mod config;
mod confirm;
mod error;
mod gate;
mod grants;
pub mod handler;
mod identity;
mod leader;
mod leader_log;
mod level;
mod listed;
mod mark;
#[cfg(test)]
mod mark_tests;
pub mod member;
pub mod net;
mod node;
mod node_file;
mod origins;
mod participation;
mod peer;
mod propose;
mod quorum;
mod raft;
mod replica;
mod roster;
mod seldom;
mod sequences;
mod shared;
mod snapshot;
mod space;
mod start;
mod state_reader;
pub mod status;
mod succession;
mod verify;
mod witness;
mod word;

pub use clock::{DUTY_WAIT, NoDuty, OFFSET_ALARM_MS, OUTRUN_MAX_MS};
pub use compact::CompactionConfig;
pub use config::{Profile, ReplicaConfig, World};
pub use error::{
    CallError, FoundError, MembershipError, OpenError, Problem, ProposeError, ReadError, Rollback, StateMismatch,
};
pub use handler::{ApplyObserver, BatchVerifier, KeyHolder, PeerHandler, ReadRecord, SealCheck, Touched};
pub use identity::{NodeIdentity, signed_by};
pub use level::SignedLevel;
pub use mark::Marks;
pub use member::{Member, MembershipView};
pub use net::{BoxStream, Handshake, Listener, Net, PeerExpectation, PeerIdentity};
pub use node_file::{Introduction, NodeFile};
pub use peer::closed::{Closed, refuse_peers};
pub use quorum::Quorum;
pub use replica::{Replica, View};
pub use roster::{Roster, SignedRoster};
pub use seldom::Seldom;
pub use sequences::OpenSeq;
pub use status::{PeerStatus, ReadRounds, ReplicaStatus, Retained, Role};
pub use word::{MadeOwnKey, OwnKey, OwnKeys};

// The replicas of the integration tests, for tests that need to see inside.
#[cfg(test)]
extern crate self as quorate_replica;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod testing;
