//! What a replica is told, and the seams it works through.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use quorate_core::id::{ClusterId, GroupId, NodeId};
use quorate_core::level::Levels;
use quorate_core::seam::{BootClock, Entropy, WallClock};
use quorate_journal::disk::Disk;
use quorate_journal::{Driver, JournalConfig};

use crate::compact::CompactionConfig;
use crate::handler::SealCheck;
use crate::identity::NodeIdentity;
use crate::mark::Marks;
use crate::net::Net;
use crate::node_file::Introduction;
use crate::word::OwnKeys;

/// Timing of elections (key-log §6).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Profile {
    /// One site: heartbeats every 40 ms, a dead leader is replaced after 0.3–0.4 s.
    #[default]
    Lan,
    /// Several sites: heartbeats every 100 ms, a dead leader is replaced after 1.5–2 s.
    Wan,
}

/// The seams, made in one place in the binary (key-log §7).
#[derive(Clone)]
pub struct World {
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// Connections to other nodes.
    pub net: Arc<dyn Net>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// The machine's idea of the time.
    pub wall: Arc<dyn WallClock>,
    /// Checks what the anchor key signed.
    pub seals: Arc<dyn SealCheck>,
    /// The node's own secret, boxed to its HSM.
    pub own_keys: Arc<dyn OwnKeys>,
    /// What the node's HSM keeps for it.
    pub marks: Arc<dyn Marks>,
    /// The node's identity key, in its HSM.
    pub identity: Arc<dyn NodeIdentity>,
    /// The clock that nobody sets.
    pub boot_clock: Arc<dyn BootClock>,
    /// Threads, and the end of the process.
    pub driver: Driver,
}

/// What one replica is told.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// This node's id. [`crate::Replica::open`] takes it from the data directory instead.
    pub node: NodeId,
    /// This node's name, as in its certificate.
    pub name: String,
    /// The cluster, as in its certificate.
    pub cluster: ClusterId,
    /// The group, 0 today.
    pub group: GroupId,
    /// Where journal and state are.
    pub data_dir: PathBuf,
    /// Where to listen for other nodes, `host:port`.
    pub listen: String,
    /// Timing.
    pub profile: Profile,
    /// Sizes and limits of the journal.
    pub journal: JournalConfig,
    /// When the log is compacted.
    pub compaction: CompactionConfig,
    /// For so long a node that could take part by its own word alone listens at its start, lest others know better of it
    /// (trust.md §2.7).
    pub listening: Duration,
    /// How often cluster time moves on while this node leads; not more often than it compares the clocks, once a second.
    pub tick_interval: Duration,
    /// How long a running node waits before it checks the whole state again.
    pub scrub_interval: Duration,
    /// Memory for cached pages of the state, in bytes; at most as much again is taken by what is on its way to the disk, and
    /// by a snapshot that is received.
    pub cache_bytes: usize,
    /// The feature levels that this node works at: those of this build.
    pub levels: Levels,
    /// A joining node's; an existing one has its own.
    pub introduction: Option<Introduction>,
    /// The seal configurations that a new node was introduced to; [`NodeFile::pins`](crate::NodeFile::pins). An existing one
    /// has its own.
    pub pins: Vec<[u8; 32]>,
}

impl ReplicaConfig {
    /// Settings with the usual sizes.
    pub fn new(node: NodeId, name: String, cluster: ClusterId, data_dir: PathBuf, listen: String) -> Self {
        Self {
            node,
            name,
            cluster,
            group: GroupId(0),
            data_dir,
            listen,
            profile: Profile::default(),
            journal: JournalConfig::default(),
            compaction: CompactionConfig::default(),
            listening: Duration::from_secs(1),
            tick_interval: Duration::from_secs(5),
            scrub_interval: Duration::from_secs(24 * 3600),
            cache_bytes: 64 << 20,
            levels: Levels::default(),
            introduction: None,
            pins: Vec::new(),
        }
    }
}
