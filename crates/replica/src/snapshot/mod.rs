//! Snapshots between nodes (key-log §5.3): a member that needs entries which are no longer in the log gets a view of
//! the state instead, at exactly one index, on a connection of its own.
//!
//! ```text
//! sender    header{meta, digest} ‖ frames of sorted records, each chained to what came before ‖ trailer{count, chain}
//! receiver  writes a file beside the state in force, recomputes the digest, makes it durable, then lets Raft install it
//! ```
//!
//! A stream that breaks off, or whose view can't be kept any longer, is gone on with from a newer view, and by another leader
//! too: the receiver tells the hashes of the ranges of keys that it has, and what is the same there is not sent again.
//!
//! Neither side holds more than a few frames in memory: the sender reads on only as the connection takes frames, the
//! receiver takes frames only as its disk does. The view costs the sender no copy and blocks no writer. What is received
//! is checked against its own digest, and against the cluster, group and lineage of the receiver; its batches' MACs are
//! not in it. So the sender, whose grants show that it was elected, is trusted to hold the state that the log made, as every
//! sealed node is; signed anchors of digests (a later stage) will let an unsealed receiver check that too.

pub(crate) mod receive;
#[cfg(test)]
mod resume_tests;
pub(crate) mod send;
pub(crate) mod streams;
pub(crate) mod wire;

use std::time::Duration;

/// A stream on which nothing moves for so long has failed.
pub(crate) const STALL_LIMIT: Duration = Duration::from_secs(10);
/// How long the receiver may take to say what it holds of an earlier one.
pub(crate) const ASK_LIMIT: Duration = Duration::from_secs(5);
/// How long what was received of one that broke off is kept: it is begun again within a second, if at all.
pub(crate) const KEEP_LIMIT: Duration = Duration::from_secs(60);
/// How long the receiver may take from the last frame to its answer: the last sync, and entries applied before.
pub(crate) const INSTALL_LIMIT: Duration = Duration::from_secs(60);
/// Frames waiting between a stream and the disk, on either side.
const QUEUE_LEN: usize = 2;
