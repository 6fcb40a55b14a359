//! What an operator sees at a glance: what state the cluster is in, who leads, who is sealed, who lags, how far a ceremony is.

use quorate_core::id::{ClusterId, Lineage, NodeId};
use quorate_core::level::Level;
use quorate_crypto::{SealConfig, SealFingerprint};
use quorate_replica::{OFFSET_ALARM_MS, Quorum};

use super::verdict::Verdict;

/// What a node can do for a client right now; also the answer of `/health`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// Unsealed: it serves.
    Ok,
    /// A member that votes and stores, but refuses to use keys until a ceremony or a hand-over.
    Sealed,
    /// Belongs to no cluster yet.
    Uninitialized,
    /// Something is wrong that it can't mend by itself; the status says what.
    Damaged,
    /// It is whole, and must be upgraded before it can go on; the status says to what.
    UpgradeNeeded,
}

impl Health {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Ok, Self::Sealed, Self::Uninitialized, Self::Damaged, Self::UpgradeNeeded];

    /// The word used in status, `/health` and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Sealed => "sealed",
            Self::Uninitialized => "uninitialized",
            Self::Damaged => "damaged",
            Self::UpgradeNeeded => "upgrade-needed",
        }
    }
}

/// The whole cluster as the answering node sees it.
#[derive(Clone, Debug)]
pub struct Status {
    /// C; from the node's certificate, so known before genesis too.
    pub cluster: ClusterId,
    /// L; none before genesis has arrived here.
    pub lineage: Option<Lineage>,
    /// The seal configuration in force: its generation and what people compare; none before genesis, or unpinned.
    pub seal: Option<(u32, SealFingerprint)>,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// Every member, by id.
    pub nodes: Vec<NodeStatus>,
    /// The ceremony open at this node; else the furthest one that another member tells of.
    pub ceremony: Option<CeremonyStatus>,
    /// Cluster time, milliseconds since 1970.
    pub cluster_time_ms: u64,
    /// Raft's term, as the answering node knows it; 0 before it has a log.
    pub term: u64,
    /// The feature level in force, as applied at the answering node; none before it belongs to a cluster.
    pub level: Option<Level>,
    /// Name of the answering node.
    pub answered_by: String,
    /// Whether the cluster is marked for development.
    pub dev: bool,
    /// State of the answering node.
    pub health: Health,
    /// What state that is, the gravest first; never nothing.
    pub verdicts: Vec<Verdict>,
    /// Which voters the answering node has to work with.
    pub quorum: Quorum,
    /// The answering node's last applied index and the hash of its state's digest there: equal on all nodes at one index.
    pub digest: Option<(u64, [u8; 32])>,
}

/// One member.
#[derive(Clone, Debug, Default)]
pub struct NodeStatus {
    /// Raft id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// `leader`, `follower`, `learner` or `candidate`.
    pub role: String,
    /// Whether it votes.
    pub voter: bool,
    /// Whether it was heard of within the last seconds.
    pub reachable: bool,
    /// What it can do for a client, as it said last; none when it was never heard of.
    pub health: Option<Health>,
    /// Whether it refuses to use keys. An unreachable node is shown as it was heard of last, sealed if never.
    pub sealed: bool,
    /// The last entry it has applied.
    pub applied_index: u64,
    /// How many entries it is behind the last one this node knows of.
    pub lag: u64,
    /// `host:port` for clients.
    pub api: String,
    /// `host:port` for the other nodes.
    pub peer: String,
    /// `software`, `asserted` or `attested`: how much its HSM is known to be one.
    pub assurance: String,
    /// Mechanism of its KEM key.
    pub hsm_algorithm: String,
    /// Version of its software.
    pub version: String,
    /// The highest feature level that it speaks; none when that is not known.
    pub level: Option<Level>,
    /// Empty, or what is wrong with it by its own word; of an unreachable one, why it is not heard of.
    pub problem: String,
    /// It answers that it can't open what it holds, and takes no part; `health` says why.
    pub closed: bool,
    /// What the answering node holds against it.
    pub doubt: Option<String>,
    /// How far its clock is ahead of the majority's, in milliseconds, if both are known.
    pub clock_offset_ms: Option<i64>,
    /// Free bytes of its disk.
    pub free_bytes: u64,
    /// Its disk is nearly full: it takes no changes.
    pub low_space: bool,
    /// When its certificate, which serves both ports, expires, milliseconds since 1970; 0 when that is not known.
    pub certificate_ends_ms: u64,
}

impl NodeStatus {
    /// Everything that is wrong with it, in words; nothing when nothing is.
    pub fn problems(&self) -> String {
        let space = self.low_space.then(|| format!("short of disk space: {} MiB free", self.free_bytes >> 20));
        // Of damage there is no more to say.
        let doubt = self.doubt.clone().filter(|_| self.health != Some(Health::Damaged));
        let clock = self.clock_offset_ms.filter(|ms| ms.saturating_abs() > OFFSET_ALARM_MS).map(|ms| {
            let side = if ms > 0 { "ahead of" } else { "behind" };
            format!("its clock is {} s {side} the majority's", ms.unsigned_abs() / 1000)
        });
        let own = Some(self.problem.clone()).filter(|problem| !problem.is_empty());
        [own, space, doubt, clock].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// A ceremony that is open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CeremonyStatus {
    /// Names it; 16 random bytes.
    pub id: [u8; 16],
    /// Where shares are to be entered.
    pub node: String,
    /// How many different shares it needs.
    pub threshold: u8,
    /// The numbers of the shares entered so far.
    pub entered: Vec<u8>,
    /// Their custodians' labels, in that order, where they are known.
    pub labels: Vec<String>,
    /// When the entered shares are forgotten, milliseconds since 1970 by the answering node's clock.
    pub expires_ms: u64,
}

impl CeremonyStatus {
    /// With the custodians' labels.
    pub(crate) fn labelled(mut self, config: &SealConfig) -> Self {
        let label = |x: &u8| config.custodian(*x).map(|c| c.label.clone()).unwrap_or_default();
        self.labels = self.entered.iter().map(label).collect();
        self
    }

    /// The id as people see it, in hex.
    pub fn id_text(&self) -> String {
        self.id.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// Reads that text.
    pub fn parse_id(text: &str) -> Option<[u8; 16]> {
        let hex = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let id = u128::from_str_radix(text, 16).ok().filter(|_| hex)?;
        Some(id.to_be_bytes())
    }
}

/// Members and those who would become one.
#[derive(Clone, Debug)]
pub struct Members {
    /// Committed members.
    pub members: Vec<NodeStatus>,
    /// Invited, or waiting for approval; empty while sealed, since invitations are ciphertext then.
    pub pending: Vec<Pending>,
}

/// Somebody invited who is no member yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pending {
    /// The invited name.
    pub name: String,
    /// SHA-256 over its three public keys, hex, once it has introduced itself.
    pub fingerprint: Option<String>,
    /// When the invitation ends, milliseconds since 1970.
    pub expires_ms: u64,
}
