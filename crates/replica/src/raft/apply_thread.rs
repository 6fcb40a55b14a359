//! The one thread that writes the state (key-log §1.3): log entries in, one engine transaction per group, then
//! observer, applied index and answers, in that order.
//!
//! A thread of its own because a commit of hundreds of entries takes milliseconds, which the runtime that sends
//! heartbeats can't spare.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::EntryPayload;
use quorate_core::batch::Outcome;
use tokio::sync::{mpsc, oneshot};

use super::codec::{decode_membership, encode_log_id, encode_membership, invalid, node_ids};
use super::{RaftEntry, membership_view};
use crate::error::Problem;
use crate::journal::{Checkpoint, JournalWriter};
use crate::shared::Shared;
use crate::state::{Applied, ApplyError, Engine, State, ToApply, View, What, WriteSet};

/// Groups waiting for the thread: apply is sequential, so one is in work and one waits.
const QUEUE_LEN: usize = 2;
/// Records copied at a time when a state is replaced.
const COPY_STEP: usize = 1000;

enum Task {
    Apply { entries: Vec<RaftEntry>, done: oneshot::Sender<io::Result<Vec<Outcome>>> },
    Checkpoint { done: oneshot::Sender<io::Result<Option<Checkpoint>>> },
    Replace { with: Arc<dyn View>, done: oneshot::Sender<io::Result<()>> },
}

/// The thread's door.
pub(crate) struct ApplyThread {
    tx: Mutex<Option<mpsc::Sender<Task>>>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

fn gone() -> io::Error {
    io::Error::other("the state's writer has stopped")
}

impl ApplyThread {
    /// Starts the thread, and publishes what the state has already applied.
    pub(crate) fn spawn(
        state: State,
        engine: Arc<dyn Engine>,
        journal: JournalWriter,
        shared: Arc<Shared>,
        reopen: impl Fn(Arc<dyn Engine>) -> io::Result<State> + Send + 'static,
    ) -> io::Result<Self> {
        publish(&state, &shared)?;
        let (tx, rx) = mpsc::channel(QUEUE_LEN);
        let mut worker = Worker { state, engine, journal, shared, reopen: Box::new(reopen) };
        // The actor's one thread; it ends when its door is closed.
        let thread = std::thread::Builder::new().name("apply".into()).spawn(move || worker.run(rx))?;
        Ok(Self { tx: Mutex::new(Some(tx)), thread: Mutex::new(Some(thread)) })
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

    /// Makes what is applied durable; `None` when nothing has been applied yet.
    pub(crate) async fn checkpoint(&self) -> io::Result<Option<Checkpoint>> {
        self.ask(|done| Task::Checkpoint { done }).await
    }

    /// Replaces the whole state.
    pub(crate) async fn replace(&self, with: Arc<dyn View>) -> io::Result<()> {
        self.ask(|done| Task::Replace { with, done }).await
    }

    /// Closes the door; the thread ends after what is queued. The handle is to be joined off the async runtime.
    pub(crate) fn close(&self) -> Option<std::thread::JoinHandle<()>> {
        self.tx.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.thread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Tells everyone what the state now is.
fn publish(state: &State, shared: &Shared) -> io::Result<()> {
    let meta = state.meta();
    let membership = decode_membership(&meta.membership).map_err(invalid)?;
    shared.roster.set_applied(membership_view(&membership));
    shared.publish_applied(meta.applied.as_ref().map_or(0, |(index, _)| *index), meta.cluster_time_ms);
    shared.note_change();
    Ok(())
}

type Reopen = Box<dyn Fn(Arc<dyn Engine>) -> io::Result<State> + Send>;

struct Worker {
    state: State,
    engine: Arc<dyn Engine>,
    journal: JournalWriter,
    shared: Arc<Shared>,
    reopen: Reopen,
}

impl Worker {
    fn run(&mut self, mut rx: mpsc::Receiver<Task>) {
        while let Some(task) = rx.blocking_recv() {
            match task {
                Task::Apply { entries, done } => {
                    drop(done.send(self.apply(&entries)));
                    if self.state.checkpoint_is_due() {
                        // The failure is told as a problem.
                        drop(self.checkpoint());
                    }
                }
                Task::Checkpoint { done } => drop(done.send(self.checkpoint())),
                Task::Replace { with, done } => drop(done.send(self.replace(&*with))),
            }
        }
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

        let verifier = self.shared.verifier().filter(|_| self.shared.problem().is_none());
        let (mut applied, mut result) = self.state.apply(&to_apply, verifier.as_deref().map(|v| v as _));
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
            Err(e) => {
                self.shared.set_problem(Problem::Stopped(e.to_string()));
                Err(io::Error::other(e))
            }
        }
    }

    /// Entries are applied once a quorum has them, and this node's own journal may be the one that has not synced them
    /// yet. A crash would then leave a state ahead of its log, which Raft can't take up; so the log goes first.
    fn checkpoint(&mut self) -> io::Result<Option<Checkpoint>> {
        let durable = futures::executor::block_on(self.journal.barrier()).and_then(|()| self.state.checkpoint());
        durable.inspect_err(|error| {
            // What is applied is in the journal, so nothing is lost; but a state that can't be written is no state.
            self.shared.set_problem(Problem::Stopped(format!("the state can't be made durable: {error}")));
        })
    }

    fn tell(&self, applied: &[Applied]) -> io::Result<()> {
        if let Some(observer) = self.shared.observer() {
            for entry in applied {
                observer.applied(entry.index, &entry.touched);
            }
        }
        publish(&self.state, &self.shared)
    }

    /// One transaction: every record of ours goes, every record of theirs comes.
    fn replace(&mut self, with: &dyn View) -> io::Result<()> {
        let mut set = WriteSet::new();
        let mine = self.engine.view()?;
        for_each(&*mine, |key, _| drop(set.insert(key, None)))?;
        for_each(with, |key, value| drop(set.insert(key, Some(value))))?;
        drop(mine);
        self.engine.write(&set, true)?;
        self.state = (self.reopen)(self.engine.clone())?;
        publish(&self.state, &self.shared)
    }
}

fn for_each(view: &dyn View, mut each: impl FnMut(Vec<u8>, Vec<u8>)) -> io::Result<()> {
    use std::ops::Bound::{Excluded, Unbounded};
    let mut last: Option<Vec<u8>> = None;
    loop {
        let from = last.as_deref().map_or(Unbounded, Excluded);
        let page = view.scan((from, Unbounded), COPY_STEP)?;
        let Some((key, _)) = page.last() else { return Ok(()) };
        last = Some(key.clone());
        page.into_iter().for_each(|(key, value)| each(key, value));
    }
}
