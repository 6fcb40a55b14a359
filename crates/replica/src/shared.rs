//! What the parts of one replica share: hooks of the service, and the watches that tell what has happened.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use quorate_core::id::NodeId;
use quorate_core::level::Level;
use quorate_core::session::Session;
use tokio::sync::{Notify, watch};

use crate::error::{Problem, Rollback};
use crate::handler::{ApplyObserver, KeyHolder, PeerHandler};
use crate::peer::members::Members;
use crate::quorum::Quorum;
use crate::raft::LogId;
use crate::sequences::Sequences;

/// The open session of each origin.
pub(crate) type Sessions = BTreeMap<NodeId, Session>;

/// Hooks and watches of one replica.
pub(crate) struct Shared {
    pub(crate) handler: Arc<dyn PeerHandler>,
    keys: RwLock<Option<Arc<dyn KeyHolder>>>,
    observer: RwLock<Option<Arc<dyn ApplyObserver>>>,
    /// Who the members are.
    pub(crate) members: Members,
    /// Fed by apply alone, after the engine's commit and the observer: the only applied index to trust (key-log §3).
    applied: watch::Sender<u64>,
    /// The last applied entry.
    applied_id: RwLock<Option<LogId>>,
    cluster_time_ms: AtomicU64,
    /// The feature level in force, as applied here.
    level: AtomicU32,
    /// As applied here.
    sessions: watch::Sender<Sessions>,
    /// The batch ids of this start.
    pub(crate) sequences: Sequences,
    problem: watch::Sender<Option<Problem>>,
    quorum: RwLock<Quorum>,
    changed: watch::Sender<u64>,
    stopping: AtomicBool,
    /// A member's control connection to this node has ended.
    pub(crate) departed: Notify,
}

impl Shared {
    pub(crate) fn new(handler: Arc<dyn PeerHandler>, members: Members, sequences: Sequences) -> Self {
        Self {
            handler,
            keys: RwLock::new(None),
            observer: RwLock::new(None),
            members,
            applied: watch::Sender::new(0),
            applied_id: RwLock::new(None),
            cluster_time_ms: AtomicU64::new(0),
            level: AtomicU32::new(Level::FIRST.0),
            sessions: watch::Sender::new(Sessions::new()),
            sequences,
            problem: watch::Sender::new(None),
            quorum: RwLock::default(),
            changed: watch::Sender::new(0),
            stopping: AtomicBool::new(false),
            departed: Notify::new(),
        }
    }

    /// The keyring's use, while this node is unsealed.
    pub(crate) fn keys(&self) -> Option<Arc<dyn KeyHolder>> {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_keys(&self, keys: Option<Arc<dyn KeyHolder>>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    pub(crate) fn observer(&self) -> Option<Arc<dyn ApplyObserver>> {
        self.observer.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_observer(&self, observer: Arc<dyn ApplyObserver>) {
        *self.observer.write().unwrap_or_else(PoisonError::into_inner) = Some(observer);
    }

    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    pub(crate) fn applied_now(&self) -> u64 {
        *self.applied.borrow()
    }

    pub(crate) fn set_applied_id(&self, id: Option<LogId>) {
        *self.applied_id.write().unwrap_or_else(PoisonError::into_inner) = id;
    }

    /// The last applied entry: at least as new as what was published.
    pub(crate) fn applied_id(&self) -> Option<LogId> {
        *self.applied_id.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn publish_applied(&self, index: u64, cluster_time_ms: u64) {
        self.cluster_time_ms.store(cluster_time_ms, Ordering::Release);
        self.applied.send_replace(index);
    }

    pub(crate) fn cluster_time_ms(&self) -> u64 {
        self.cluster_time_ms.load(Ordering::Acquire)
    }

    pub(crate) fn level(&self) -> Level {
        Level(self.level.load(Ordering::Acquire))
    }

    /// Apply has met that level.
    pub(crate) fn set_level(&self, level: Level) {
        if self.level.swap(level.0, Ordering::AcqRel) != level.0 {
            tracing::info!(%level, "the feature level in force");
        }
    }

    pub(crate) fn sessions(&self) -> watch::Receiver<Sessions> {
        self.sessions.subscribe()
    }

    /// The session of an origin.
    pub(crate) fn session_of(&self, origin: NodeId) -> Option<Session> {
        self.sessions.borrow().get(&origin).copied()
    }

    /// Apply has changed sessions.
    pub(crate) fn set_sessions(&self, change: impl FnOnce(&mut Sessions)) {
        self.sessions.send_modify(change);
        let mine = self.sequences.session();
        if let Some(now) = self.session_of(mine.origin).filter(|now| now.boot >= mine.boot && *now != mine) {
            self.set_problem(Problem::Lost(Rollback::Superseded { mine: mine.boot, known: now.boot }));
        }
    }

    /// The first problem stays, it is the one to look into, until a graver one comes.
    pub(crate) fn set_problem(&self, problem: Problem) {
        let first = self.problem.send_if_modified(|now| {
            let first = now.as_ref().is_none_or(|now| problem.gravity() > now.gravity());
            if first {
                *now = Some(problem.clone());
            }
            first
        });
        if first {
            tracing::error!(%problem, "this node stops serving");
            self.handler.on_problem(&problem);
            self.note_change();
        }
    }

    pub(crate) fn problem(&self) -> Option<Problem> {
        self.problem.borrow().clone()
    }

    pub(crate) fn watch_problem(&self) -> watch::Receiver<Option<Problem>> {
        self.problem.subscribe()
    }

    /// What it has of the voters to work with.
    pub(crate) fn quorum(&self) -> Quorum {
        self.quorum.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The same, as seen last; returns what it was before.
    pub(crate) fn set_quorum(&self, quorum: Quorum) -> Quorum {
        let mut now = self.quorum.write().unwrap_or_else(PoisonError::into_inner);
        let changed = *now != quorum;
        let before = std::mem::replace(&mut *now, quorum);
        drop(now);
        if changed {
            self.note_change();
        }
        before
    }

    /// This node was told to stop: nothing new is begun.
    pub(crate) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn note_change(&self) {
        self.changed.send_modify(|n| *n = n.wrapping_add(1));
    }

    pub(crate) fn watch_changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
