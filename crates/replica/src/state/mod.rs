//! The replicated state (key-log §5): records in an ordered engine, their digest, the sessions, and `apply`, the
//! deterministic function from log entries to writes. Everything here is ciphertext and public bytes.
//!
//! ```text
//! engine = record key → rev u64 ‖ value      tables 0 to 9; sessions are table 1
//!          0xFF 'm'   → Meta                 applied id, membership, cluster time, chain, lineage
//!          0xFF 'd'   → LtHash               over all records
//! ```
//!
//! What was applied lately is in memory, and goes into the engine with each checkpoint: see [`Store`].
//!
//! It leaves to others: consensus and what a membership means (`raft`), the MAC's key (`crypto`, by way of
//! [`BatchVerifier`]), when to checkpoint and purge (the compactor).

mod apply;
mod blocks;
mod digest;
mod engine;
mod files;
mod incoming;
mod memtable;
mod meta;
mod ranges;
mod reserve;
mod session;
mod store;
mod verify;
mod writer;

pub use apply::{Applied, ApplyError, BatchVerifier, ReadRecord, SealCheck, ToApply, Touched, What, Whose};
pub(crate) use apply::{damaged, recorded_roster, seal_config};
pub use digest::LtHash;
pub use engine::{Engine, RedbEngine, View, WriteSet, Writes, get_record, get_value, scan_prefix_back, scan_table};
pub use files::{StateFiles, is_state_file};
pub use incoming::{Identity, Incoming, IncomingError, Records};
pub use meta::{Meta, stands_at};
pub use ranges::{KeyRange, RangeHash};
pub use session::{outcome_of, session_of};
pub use store::Store;
pub use verify::verify_state;
pub(crate) use verify::{scrub_state, verify_on};
pub use writer::{State, StateError};
