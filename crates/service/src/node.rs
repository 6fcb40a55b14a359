//! The one desk behind all doors, and what it can do right now: [`Node`] is uninitialized, sealed, unsealed or stopped,
//! and each state holds exactly what it may use: a sealed node has no keyring to use by mistake.
//!
//! It owns the node's HSM and its replica. Using keys is [`Kms`]'s, reached through [`Node::kms`] while unsealed; how
//! a node gets from one state to another is in [`crate::seal`].

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use quorate_core::id::{ClusterId, GroupId, Name, NodeId};
use quorate_core::level::Levels;
use quorate_hsm::{Hsm, NodeKeys};
use quorate_replica::{Profile, ReadRounds, Replica, World};
use thiserror::Error as ThisError;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::call::Metered;
use crate::desk::Kms;
use crate::error::{Error, Fault};
use crate::evidence::Pace;
use crate::seal::ceremony::Ceremonies;
use crate::seal::handover::Handovers;
use crate::seal::join::JoinChallenges;
use crate::seal::open::Opened;
use crate::seal::operator_seal::OperatorSeal;
use crate::seal::peers::Peers;
use crate::seal::pins::Pins;
use crate::seal::status::Health;
use crate::seal::token::JoinToken;

/// The Raft id of the node that founds a cluster. Every other id is the index of a log entry, hence larger.
pub const FOUNDER: NodeId = NodeId(1);
/// The only Raft group there is today (design §8).
pub const GROUP: GroupId = GroupId(0);

/// What a node is told about itself.
pub struct NodeConfig {
    /// Its name; the one in its certificate.
    pub name: Name,
    /// Where journal and state are kept.
    pub data_dir: PathBuf,
    /// `host:port` that clients are told.
    pub api_addr: String,
    /// `host:port` that other nodes are told.
    pub peer_addr: String,
    /// `host:port` on which it listens for other nodes.
    pub peer_listen: String,
    /// The cluster its certificate was issued for.
    pub cluster: ClusterId,
    /// Public key of the cluster's root certificate (SPKI, DER): shares and invitations are bound to it.
    pub root_spki: Vec<u8>,
    /// Whether it may run a cluster marked `dev`, and marks one it founds.
    pub dev: bool,
    /// Timing of elections.
    pub profile: Profile,
    /// Length of a segment of the journal, in bytes.
    pub segment_bytes: u64,
    /// Free disk space below which it takes no more changes, in bytes.
    pub low_space_bytes: u64,
    /// When the log is compacted.
    pub compaction: quorate_replica::CompactionConfig,
    /// Memory for cached pages of the state, in bytes.
    pub state_cache_bytes: usize,
    /// Memory for the records of keys in use, in bytes.
    pub hot_bytes: usize,
    /// The feature levels that it works at.
    pub levels: Levels,
    /// How to join a cluster; ignored once it belongs to one.
    pub join: Option<JoinConfig>,
    /// Version of the software, for the status.
    pub version: String,
    /// Hears of each call to use or manage keys.
    pub meter: Metered,
}

/// How a new node joins.
pub struct JoinConfig {
    /// Where else the inviting node may be reached (`host:port`, peer port), tried after the token's own address.
    pub addresses: Vec<String>,
    /// The one-use token.
    pub token: JoinToken,
}

/// Why a node can't start; the process should say it and end.
#[derive(Debug, ThisError)]
pub enum StartError {
    /// The data directory belongs to something else.
    #[error("{0}")]
    Foreign(String),
    /// The configuration contradicts itself or the cluster.
    #[error("{0}")]
    Config(String),
    /// The invitation that it names is for something else: another has to be made.
    #[error("{0}")]
    Token(String),
}

/// One node of the cluster: the desk behind all doors.
pub struct Node {
    pub(crate) this: Weak<Self>,
    /// Where the service's work runs; the replica has a runtime of its own.
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) config: NodeConfig,
    pub(crate) world: World,
    pub(crate) hsm: Hsm,
    pub(crate) keys: NodeKeys,
    pub(crate) state: watch::Sender<Arc<State>>,
    /// Held while the node moves from one state to another.
    pub(crate) transition: tokio::sync::Mutex<()>,
    pub(crate) ceremony: Ceremonies,
    pub(crate) handover: Handovers,
    pub(crate) join_challenges: JoinChallenges,
    pub(crate) peers: Peers,
    pub(crate) pins: Pins,
    /// Empty, or what keeps it from doing its part; for the status.
    pub(crate) problem: Mutex<String>,
    /// It has asked to join, and waits for an operator.
    pub(crate) awaits_approval: AtomicBool,
    /// The certificate in use and its CA's (DER); none until told.
    pub(crate) certificate: ArcSwap<Vec<Bytes>>,
    /// When it expires, ms since 1970; 0 until told.
    pub(crate) certificate_ends_ms: AtomicU64,
    /// Of the statements that it signs.
    pub(crate) statements: Pace,
    /// What answers its peers while it can't open what it holds.
    pub(crate) closed_door: Mutex<Option<JoinHandle<()>>>,
    /// Set by [`Node::shutdown`]: a replica that stops then is no damage.
    pub(crate) stopping: AtomicBool,
}

/// What the node can do.
pub(crate) enum State {
    /// Belongs to no cluster. A replica is there when the process died during genesis, before anything was committed.
    Uninitialized(Option<Replica>),
    /// A full citizen that can't use keys.
    Sealed(Sealed),
    /// Serves.
    Unsealed(Unsealed),
    /// Can't be mended by itself.
    Stopped {
        /// What is wrong and what to do.
        why: Fault,
        /// There, and voting, where the fault leaves the log alone.
        replica: Option<Replica>,
    },
}

/// A sealed member.
pub(crate) struct Sealed {
    pub(crate) replica: Replica,
    /// The operator's seal that keeps it so; a ceremony completed earlier must not open it again.
    pub(crate) operator_seal: Option<OperatorSeal>,
}

/// An unsealed member.
pub(crate) struct Unsealed {
    pub(crate) replica: Replica,
    pub(crate) opened: Arc<Opened>,
}

impl State {
    pub(crate) fn health(&self) -> Health {
        match self {
            Self::Uninitialized(_) => Health::Uninitialized,
            Self::Sealed(_) => Health::Sealed,
            Self::Unsealed(_) => Health::Ok,
            Self::Stopped { why: Fault::Damaged(_), .. } => Health::Damaged,
            Self::Stopped { why: Fault::UpgradeNeeded(_), .. } => Health::UpgradeNeeded,
        }
    }

    pub(crate) fn replica(&self) -> Option<&Replica> {
        match self {
            Self::Uninitialized(_) => None,
            Self::Sealed(s) => Some(&s.replica),
            Self::Unsealed(u) => Some(&u.replica),
            Self::Stopped { replica, .. } => replica.as_ref(),
        }
    }
}

impl Node {
    /// The service for keys, while this node is unsealed.
    ///
    /// # Errors
    /// [`Error::Uninitialized`], [`Error::Sealed`], [`Error::Damaged`] or [`Error::UpgradeNeeded`].
    pub fn kms(&self) -> Result<Arc<Kms>, Error> {
        match &**self.state.borrow() {
            State::Unsealed(u) => Ok(u.opened.kms.clone()),
            State::Sealed(_) => Err(Error::Sealed),
            State::Uninitialized(_) => Err(Error::Uninitialized),
            State::Stopped { why, .. } => Err(why.clone().into()),
        }
    }

    /// What it can do for a client: the answer of `/health`.
    pub fn health(&self) -> Health {
        self.state.borrow().health()
    }

    /// Whether keys can be used here right now: it is unsealed, still a member, and has the voters to work with.
    pub fn serves(&self) -> bool {
        let state = self.current();
        let is_member = |replica: &Replica| !replica.is_disowned() && replica.quorum().is_present();
        state.health() == Health::Ok && state.replica().is_none_or(is_member)
    }

    /// Waits until that is no longer so, or so again.
    pub async fn serves_otherwise_than(&self, now: bool) {
        let mut states = self.state.subscribe();
        while self.serves() == now {
            let replica = states.borrow_and_update().replica().map(Replica::watch);
            let noted = async {
                match replica {
                    Some(mut changes) => drop(changes.changed().await),
                    None => std::future::pending().await,
                }
            };
            if self.serves() != now {
                return;
            }
            tokio::select! {
                _ = states.changed() => {}
                () = noted => {}
            }
        }
    }

    /// Waits until the node's health is `wanted`.
    pub async fn wait_for(&self, wanted: Health) {
        // The sender lives in `self`, so waiting can't fail.
        let _ = self.state.subscribe().wait_for(|state| state.health() == wanted).await;
    }

    /// How many read-index rounds its reads have taken; zeros before it is a member.
    pub fn read_rounds(&self) -> ReadRounds {
        self.state.borrow().replica().map(Replica::read_rounds).unwrap_or_default()
    }

    /// When its whole state was last found to be good, as [`Replica::verified_ms`].
    pub fn state_verified_ms(&self) -> u64 {
        self.state.borrow().replica().map(Replica::verified_ms).unwrap_or_default()
    }

    /// Waits until the node was sealed, or unsealed, since `now` was looked at.
    pub async fn sealed_or_unsealed_since(&self, now: Health) {
        let unsealed = |health| health == Health::Ok;
        let changed = |state: &Arc<State>| unsealed(state.health()) != unsealed(now);
        let _ = self.state.subscribe().wait_for(changed).await;
    }

    /// The node's name.
    pub fn name(&self) -> &Name {
        &self.config.name
    }

    /// The cluster its certificate was issued for; doors compare the callers' certificates with it.
    pub fn cluster(&self) -> ClusterId {
        self.config.cluster
    }

    /// Stops the replica, leaving its files in order. Key material is dropped.
    pub async fn shutdown(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let _moving = self.transition.lock().await;
        self.ceremony.forget(None);
        self.become_sealed(None);
        let replica = match &*self.current() {
            State::Uninitialized(replica) => replica.clone(),
            state => state.replica().cloned(),
        };
        if let Some(replica) = replica {
            replica.shutdown().await;
        }
        let door = self.closed_door.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(door) = door {
            door.abort();
            let _ = door.await;
        }
        // Tasks that end a little later still hold on to the token.
        let hsm = self.hsm.clone();
        tokio::task::block_in_place(|| hsm.close());
    }

    /// Tells which certificate is in use (DER, its CA's after it), and when it expires, in milliseconds since 1970; said again when
    /// it is renewed.
    pub fn set_certificate(&self, chain: Vec<Bytes>, ends_ms: u64) {
        self.certificate.store(Arc::new(chain));
        self.certificate_ends_ms.store(ends_ms, Ordering::Relaxed);
    }

    /// What keeps it from doing its part, or will before long.
    pub(crate) fn problem(&self) -> String {
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(unmarked) = self.current().replica().and_then(Replica::unmarked) {
            problem = if problem.is_empty() { unmarked } else { format!("{problem}; {unmarked}") };
        }
        let ends = self.certificate_ends_ms.load(Ordering::Relaxed);
        let warning = if ends == 0 { None } else { certificate_warning(ends, self.world.wall.now_ms()) };
        match warning {
            None => problem,
            Some(warning) if problem.is_empty() => warning,
            Some(warning) => format!("{problem}; {warning}"),
        }
    }

    pub(crate) fn set_problem(&self, what: String) {
        if self.note_problem(&what) && !what.is_empty() {
            tracing::warn!(node = %self.config.name, "{what}");
        }
    }

    /// What it waits for, which nothing is wrong with.
    pub(crate) fn set_waiting(&self, what: String) {
        if self.note_problem(&what) {
            tracing::info!(node = %self.config.name, "{what}");
        }
    }

    /// Whether that is news.
    fn note_problem(&self, what: &str) -> bool {
        let mut problem = self.problem.lock().unwrap_or_else(PoisonError::into_inner);
        let news = *problem != what;
        what.clone_into(&mut problem);
        news
    }

    pub(crate) fn current(&self) -> Arc<State> {
        self.state.borrow().clone()
    }
}

/// A certificate lives 90 days; a third of that is left when its renewal is asked for (key-hierarchy §6).
pub const RENEWAL_DAYS: u64 = 30;
const DAY_MS: u64 = 24 * 60 * 60 * 1000;
/// The same in milliseconds.
pub(crate) const RENEWAL_MS: u64 = RENEWAL_DAYS * DAY_MS;

/// What an operator should know of a certificate that ends at `ends_ms`.
fn certificate_warning(ends_ms: u64, now_ms: u64) -> Option<String> {
    match ends_ms.checked_sub(now_ms) {
        None => Some("its certificate has expired, so no client connects".into()),
        Some(left) if left < RENEWAL_MS => Some(format!("its certificate expires in {} days", left / DAY_MS)),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_spoken_of_when_a_third_of_its_life_is_left() {
        let now = 1_000 * DAY_MS;
        let warning = |ends_ms| certificate_warning(ends_ms, now);
        assert_eq!(warning(now + 30 * DAY_MS), None);
        let soon = warning(now + 30 * DAY_MS - 1).expect("a warning");
        assert!(soon.contains("expires in 29 days"), "{soon}");
        assert!(warning(now).expect("a warning").contains("in 0 days"));
        assert!(warning(now - 1).expect("a warning").contains("has expired"));
    }
}
