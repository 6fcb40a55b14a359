//! The one actor that writes the state (key-log §1.3): log entries in, one write per group, then observer, applied index
//! and answers, in that order.
//!
//! Not on the runtime that sends heartbeats, which can't spare the milliseconds that applying hundreds of entries takes. It waits for the disk to read, when memory is full, to install and to close: see [`Checkpoints`].

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::EntryPayload;
use quorate_core::batch::Outcome;
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::seeded::{self, Bug};
use quorate_journal::{Driver, Started};
use tokio::sync::{mpsc, oneshot};

use super::checkpoints::{Checkpoints, Durable, halted};
use super::codec::{decode_log_id, decode_membership, encode_log_id, encode_membership, invalid, node_ids};
use super::machine::StateSnapshot;
use super::{RaftEntry, membership_view};
use crate::error::Problem;
use crate::level::level_in;
use crate::log::LogWriter;
use crate::shared::{Sessions, Shared};
use crate::state::{
    Applied, ApplyError, BatchVerifier, Incoming, IncomingError, State, StateFiles, ToApply, View, What, Whose,
    get_value, outcome_of, recorded_roster, session_of,
};

/// Groups waiting for the actor: apply is sequential, so one is in work and one waits.
const QUEUE_LEN: usize = 2;

enum Task {
    Apply { entries: Vec<RaftEntry>, done: oneshot::Sender<io::Result<Vec<Outcome>>> },
    Replace { with: StateSnapshot, done: oneshot::Sender<io::Result<()>> },
}

/// The actor's door.
pub(crate) struct Applier {
    tx: Mutex<Option<mpsc::Sender<Task>>>,
    running: Mutex<Option<Started<()>>>,
    checkpoints: Arc<Checkpoints>,
    driver: Driver,
}

fn gone() -> io::Error {
    io::Error::other("the state's writer has stopped")
}

impl Applier {
    /// Starts the actor, and publishes what the state has already applied.
    pub(crate) fn spawn(
        state: State,
        files: Arc<StateFiles>,
        journal: LogWriter,
        shared: Arc<Shared>,
        driver: &Driver,
        reopen: impl Fn(Arc<StateFiles>) -> io::Result<State> + Send + 'static,
    ) -> io::Result<Self> {
        take_up(&state, &shared)?;
        publish(&state, &shared)?;
        let (tx, rx) = mpsc::channel(QUEUE_LEN);
        // It was opened from what is durable.
        let checkpoints = Checkpoints::new(files.clone(), journal, shared.clone(), state.stands_at());
        let worker = Worker { state, files, shared, reopen: Box::new(reopen), checkpoints: checkpoints.clone() };
        // It ends when its door is closed.
        let running = driver.start("apply", worker.run(rx))?;
        let driver = driver.clone();
        Ok(Self { tx: Mutex::new(Some(tx)), running: Mutex::new(Some(running)), checkpoints, driver })
    }

    fn door(&self) -> io::Result<mpsc::Sender<Task>> {
        self.tx.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(gone)
    }

    async fn ask<T>(&self, task: impl FnOnce(oneshot::Sender<io::Result<T>>) -> Task) -> io::Result<T> {
        let (done, answer) = oneshot::channel();
        self.door()?.send(task(done)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Applies entries in order; one outcome each.
    pub(crate) async fn apply(&self, entries: Vec<RaftEntry>) -> io::Result<Vec<Outcome>> {
        self.ask(|done| Task::Apply { entries, done }).await
    }

    /// [`Checkpoints::checkpoint`], off the runtime.
    pub(crate) async fn checkpoint(&self) -> io::Result<Option<Durable>> {
        let checkpoints = self.checkpoints.clone();
        self.driver.start("checkpoint", async move { checkpoints.checkpoint().await })?.await?
    }

    /// What makes the state durable.
    pub(crate) fn checkpoints(&self) -> &Checkpoints {
        &self.checkpoints
    }

    /// Replaces the whole state.
    pub(crate) async fn replace(&self, with: StateSnapshot) -> io::Result<()> {
        self.ask(|done| Task::Replace { with, done }).await
    }

    /// Closes the door; the actor ends after what is queued, and this returns.
    pub(crate) async fn close(&self) {
        self.tx.lock().unwrap_or_else(PoisonError::into_inner).take();
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(running) = running {
            // If it panicked, it has ended.
            drop(running.await);
        }
    }
}

/// Tells everyone what the state now is.
fn publish(state: &State, shared: &Shared) -> io::Result<()> {
    let meta = state.meta();
    let membership = decode_membership(&meta.membership).map_err(invalid)?;
    shared.members.set_applied(membership_view(&membership));
    let applied = meta.applied.as_ref().map(|(_, id)| decode_log_id(id)).transpose().map_err(invalid)?;
    shared.set_applied_id(applied);
    shared.publish_applied(meta.applied.as_ref().map_or(0, |(index, _)| *index), meta.cluster_time_ms);
    shared.note_change();
    Ok(())
}

/// The sessions, the roster and the level of a whole state.
fn take_up(state: &State, shared: &Shared) -> io::Result<()> {
    let view = state.view();
    take_up_public(&*view, shared)?;
    let mut sessions = Sessions::new();
    for member in &state.meta().members {
        if let Some(session) = session_of(&*view, *member)? {
            sessions.insert(*member, session);
        }
    }
    shared.set_sessions(|now| *now = sessions);
    Ok(())
}

/// The roster and the feature level of a state.
fn take_up_public(view: &dyn View, shared: &Shared) -> io::Result<()> {
    shared.set_level(level_in(&|key| get_value(view, key))?);
    if let Some(roster) = recorded_roster(&|key| get_value(view, key))? {
        shared.members.set_roster(roster);
    }
    Ok(())
}

type Reopen = Box<dyn Fn(Arc<StateFiles>) -> io::Result<State> + Send>;

struct Worker {
    state: State,
    files: Arc<StateFiles>,
    shared: Arc<Shared>,
    reopen: Reopen,
    checkpoints: Arc<Checkpoints>,
}

impl Worker {
    async fn run(mut self, mut rx: mpsc::Receiver<Task>) {
        while let Some(task) = rx.recv().await {
            match task {
                Task::Apply { entries, done } => {
                    // Seeded bug: readers are told of entries that are not in the state yet, for as long as a busy disk takes.
                    if seeded::is(Bug::PublishBeforeApply)
                        && let Some(last) = entries.last()
                    {
                        self.shared.publish_applied(last.log_id.index, self.shared.cluster_time_ms());
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    drop(done.send(self.apply(&entries)));
                    self.checkpoints.follow().await;
                }
                Task::Replace { with, done } => drop(done.send(self.replace(with).await)),
            }
        }
        self.checkpoints.close().await;
    }

    fn apply(&mut self, entries: &[RaftEntry]) -> io::Result<Vec<Outcome>> {
        let ids: Vec<_> = entries.iter().map(|e| encode_log_id(&e.log_id)).collect();
        let memberships: Vec<_> = entries
            .iter()
            .map(|e| match &e.payload {
                EntryPayload::Membership(m) => Some((encode_membership(Some(&e.log_id), m), node_ids(m))),
                _ => None,
            })
            .collect();
        let to_apply: Vec<_> = (entries.iter().zip(&ids).zip(&memberships))
            .map(|((entry, id), membership)| ToApply {
                index: entry.log_id.index,
                log_id: id,
                what: match (&entry.payload, membership) {
                    (EntryPayload::Normal(payload), _) => What::Entry(&payload.0),
                    (EntryPayload::Membership(_), Some((bytes, ids))) => What::Membership(bytes, ids.clone()),
                    _ => What::Blank,
                },
            })
            .collect();

        let keys = self.shared.keys().filter(|_| self.shared.problem().is_none());
        let verifier = keys.as_deref().map(|keys| keys as &dyn BatchVerifier);
        let (mut applied, mut result) = self.state.apply(&to_apply, verifier);
        if let Err(ApplyError::Forged { index }) = result {
            // Said before anything at or past that index is published, so nobody reads it as served. The entry is
            // applied all the same, as on the sealed nodes: skipping it would make this state diverge.
            self.shared.set_problem(Problem::BadMac { index });
            let rest = &to_apply[applied.len()..];
            let (more, end) = self.state.apply(rest, None);
            applied.extend(more);
            result = end;
        }
        if !applied.is_empty() {
            self.tell(&applied)?;
        }
        match result {
            Ok(()) => Ok(applied.into_iter().map(|a| a.outcome).collect()),
            Err(ApplyError::Io(e)) => {
                self.shared.set_problem(halted(&self.files, "applying the log", &e));
                Err(e)
            }
            Err(e @ ApplyError::Raised { .. }) => {
                self.shared.set_problem(Problem::UpgradeNeeded(e.to_string()));
                Err(io::Error::other(e))
            }
            Err(e) => {
                self.shared.set_problem(Problem::Stopped(e.to_string()));
                Err(io::Error::other(e))
            }
        }
    }

    fn tell(&self, applied: &[Applied]) -> io::Result<()> {
        if let Some(observer) = self.shared.observer() {
            for entry in applied {
                observer.applied(entry.index, &entry.touched);
            }
        }
        // Few batches touch table 0, whose keys are hashes.
        let mut of_seal =
            applied.iter().flat_map(|entry| &entry.touched).filter(|(key, ..)| key.table() == Table::Seal);
        if of_seal.any(|(key, ..)| [RecordKey::roster(), RecordKey::level()].contains(key)) {
            take_up_public(&*self.state.view(), &self.shared)?;
        }
        self.follow_sessions(applied);
        publish(&self.state, &self.shared)?;
        // A node that has stopped serving may have met a forged batch under an id of its own.
        if self.shared.problem().is_none() {
            for entry in applied {
                if let Whose::Batch(id) = &entry.whose {
                    self.shared.sequences.note_outcome(id, &entry.outcome);
                }
            }
        }
        Ok(())
    }

    fn follow_sessions(&self, applied: &[Applied]) {
        let begun = applied.iter().filter_map(|entry| match (&entry.whose, &entry.outcome) {
            (Whose::Open(session), Outcome::Applied(_)) => Some(*session),
            _ => None,
        });
        let members = &self.state.meta().members;
        let begun: Vec<_> = begun.filter(|session| members.contains(&session.origin)).collect();
        let gone = self.shared.sessions().borrow().keys().any(|origin| !members.contains(origin));
        if gone || !begun.is_empty() {
            self.shared.set_sessions(|now| {
                now.retain(|origin, _| members.contains(origin));
                now.extend(begun.into_iter().map(|session| (session.origin, session)));
            });
        }
    }

    async fn replace(&mut self, with: StateSnapshot) -> io::Result<()> {
        self.install(with).await.inspect_err(|error| {
            self.shared.set_problem(halted(&self.files, "installing a snapshot", error));
        })
    }

    async fn install(&mut self, with: StateSnapshot) -> io::Result<()> {
        let incoming = match with {
            StateSnapshot::Incoming(incoming) => *incoming,
            StateSnapshot::View(view) => Incoming::copy(&*view, &self.files).map_err(|e| match e {
                IncomingError::Io(e) => e,
                e @ IncomingError::Refused(_) => io::Error::new(io::ErrorKind::InvalidData, e),
            })?,
        };
        self.checkpoints.install(incoming).await?;
        self.state = (self.reopen)(self.files.clone())?;
        let index = self.state.stands_at().map_or(0, |c| c.index);
        if let Some(observer) = self.shared.observer() {
            let view = self.state.view();
            observer.replaced(index, &|key| get_value(&*view, key));
        }
        take_up(&self.state, &self.shared)?;
        publish(&self.state, &self.shared)?;
        // What was met between the old state and this one, was not met here.
        let view = self.state.view();
        for id in self.shared.sequences.awaiting_outcome() {
            if let Some(outcome) = outcome_of(&*view, &id)?.filter(|outcome| *outcome != Outcome::Fenced) {
                self.shared.sequences.note_outcome(&id, &outcome);
            }
        }
        tracing::info!(index, "a snapshot was installed");
        Ok(())
    }
}
