//! What the parts of one replica share: hooks of the service, and the watches that tell what has happened.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{Notify, watch};

use crate::error::Problem;
use crate::handler::{ApplyObserver, BatchVerifier, PeerHandler};
use crate::peer::roster::Roster;

/// Hooks and watches of one replica.
pub(crate) struct Shared {
    pub(crate) handler: Arc<dyn PeerHandler>,
    verifier: RwLock<Option<Arc<dyn BatchVerifier>>>,
    observer: RwLock<Option<Arc<dyn ApplyObserver>>>,
    /// Who the members are.
    pub(crate) roster: Roster,
    /// Fed by apply alone, after the engine's commit and the observer: the only applied index to trust (key-log §3).
    applied: watch::Sender<u64>,
    cluster_time_ms: AtomicU64,
    problem: watch::Sender<Option<Problem>>,
    changed: watch::Sender<u64>,
    stopping: AtomicBool,
    /// A member's control connection to this node has ended.
    pub(crate) departed: Notify,
}

impl Shared {
    pub(crate) fn new(handler: Arc<dyn PeerHandler>, roster: Roster) -> Self {
        Self {
            handler,
            verifier: RwLock::new(None),
            observer: RwLock::new(None),
            roster,
            applied: watch::Sender::new(0),
            cluster_time_ms: AtomicU64::new(0),
            problem: watch::Sender::new(None),
            changed: watch::Sender::new(0),
            stopping: AtomicBool::new(false),
            departed: Notify::new(),
        }
    }

    pub(crate) fn verifier(&self) -> Option<Arc<dyn BatchVerifier>> {
        self.verifier.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_verifier(&self, verifier: Option<Arc<dyn BatchVerifier>>) {
        *self.verifier.write().unwrap_or_else(PoisonError::into_inner) = verifier;
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

    pub(crate) fn publish_applied(&self, index: u64, cluster_time_ms: u64) {
        self.cluster_time_ms.store(cluster_time_ms, Ordering::Release);
        self.applied.send_replace(index);
    }

    pub(crate) fn cluster_time_ms(&self) -> u64 {
        self.cluster_time_ms.load(Ordering::Acquire)
    }

    /// The first problem stays: it is the one to look into.
    pub(crate) fn set_problem(&self, problem: Problem) {
        let first = self.problem.send_if_modified(|now| {
            let first = now.is_none();
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
