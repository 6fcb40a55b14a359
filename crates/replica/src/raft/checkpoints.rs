//! The state is made durable (key-log §5.2) beside the thread that applies: by whoever asks, one at a time, in the order
//! that a crash at any moment needs. First the journal holds what was applied and knows where the state is about to stand,
//! then the state stands there.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use quorate_journal::disk::is_full;
use tokio::sync::Notify;

use crate::error::Problem;
use crate::log::{Checkpoint, Command, LogWriter};
use crate::shared::Shared;
use crate::state::{Incoming, StateFiles, View, stands_at};

/// A state that is durable, and the journal knows of it.
pub(crate) struct Durable {
    pub(crate) checkpoint: Checkpoint,
    /// Exactly that state.
    pub(crate) view: Arc<dyn View>,
}

/// Makes the state in force durable.
pub(crate) struct Checkpoints {
    files: Arc<StateFiles>,
    journal: LogWriter,
    shared: Arc<Shared>,
    place: Mutex<Place>,
    /// Index after that of the newest state that is durable; 0 = none.
    next: AtomicU64,
    due: Notify,
}

/// Where the state is durable; whoever moves it holds it.
struct Place {
    at: Option<Checkpoint>,
    closed: bool,
}

/// Why this node stops serving when its state can't be written.
pub(super) fn halted(files: &StateFiles, what: &str, error: &io::Error) -> Problem {
    match files.damage() {
        Some(damage) => Problem::State(damage),
        None if is_full(error) => Problem::DiskFull(format!("{what}: {error}")),
        None => Problem::Stopped(format!("{what}: {error}")),
    }
}

impl Checkpoints {
    /// For a state that was opened from what is durable: it is at `at`.
    pub(super) fn new(
        files: Arc<StateFiles>,
        journal: LogWriter,
        shared: Arc<Shared>,
        at: Option<Checkpoint>,
    ) -> Arc<Self> {
        let next = AtomicU64::new(at.map_or(0, |c| c.index + 1));
        let place = Mutex::new(Place { at, closed: false });
        Arc::new(Self { files, journal, shared, place, next, due: Notify::new() })
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Index of the newest state that is durable: the log may be let go of up to there.
    pub(crate) fn durable(&self) -> Option<u64> {
        self.next.load(Ordering::Acquire).checked_sub(1)
    }

    /// Returns when so much was applied that the next checkpoint should not wait for its time.
    pub(crate) async fn due(&self) {
        self.due.notified().await;
    }

    /// Makes what is applied durable and tells the journal; `None` when nothing has been applied yet. Waits for the disk:
    /// not to be called on the runtime. A failure is told as a problem.
    pub(crate) fn checkpoint(&self) -> io::Result<Option<Durable>> {
        self.checkpoint_at(&mut self.place())
    }

    fn checkpoint_at(&self, place: &mut Place) -> io::Result<Option<Durable>> {
        if place.closed {
            return Err(io::Error::other("the state was closed"));
        }
        self.make_durable(place).inspect_err(|error| {
            // What is applied is in the journal, so nothing is lost; but a state that can't be written is no state.
            self.shared.set_problem(halted(&self.files, "making the state durable", error));
        })
    }

    fn make_durable(&self, place: &mut Place) -> io::Result<Option<Durable>> {
        let (store, before, mut stand) = (self.files.store()?, place.at, None);
        store.flush(|state| {
            stand = stands_at(state)?;
            stand.map_or(Ok(()), |stand| self.note(before, stand))
        })?;
        if stand.is_some() {
            self.stands(place, stand);
        }
        Ok(place.at.map(|checkpoint| Durable { checkpoint, view: store.durable_view() }))
    }

    /// Before a state becomes durable anywhere, the journal knows of it, and holds all that was enqueued before: so a state
    /// that the journal does not know is one whose journal was lost. Entries are applied once a quorum has them, and this
    /// node's own journal may be the one that has not synced them yet; a state ahead of its log is one that Raft can't take
    /// up. However often what follows fails, where the state is durable now stays known.
    fn note(&self, now: Option<Checkpoint>, next: Checkpoint) -> io::Result<()> {
        let stands = now.into_iter().chain([next]).map(Command::Checkpoint).collect();
        futures::executor::block_on(self.journal.append_synced(stands))
    }

    /// The state is durable there.
    fn stands(&self, place: &mut Place, at: Option<Checkpoint>) {
        place.at = at;
        self.next.store(at.map_or(0, |c| c.index + 1), Ordering::Release);
    }

    /// After entries were applied. While there is no room for more, whoever applies waits here for the disk.
    pub(super) fn follow(&self) {
        let Ok(store) = self.files.store() else { return };
        if store.is_full() {
            let mut place = self.place();
            // The checkpoint that was under way may have made room.
            if store.is_full() {
                // The failure is told as a problem; and the store takes no more.
                drop(self.checkpoint_at(&mut place));
            }
        } else if store.flush_is_due() {
            self.due.notify_one();
        }
    }

    /// Puts another state in force. What Raft did to the log before (it cuts off what contradicts a snapshot) is durable
    /// before the state that stands for it is in force; and the journal learns of that state before Raft purges up to it.
    pub(super) fn install(&self, incoming: Incoming) -> io::Result<()> {
        let mut place = self.place();
        let stand = incoming.stands_at()?;
        stand.map_or(Ok(()), |stand| self.note(place.at, stand))?;
        incoming.install(&self.files)?;
        self.stands(&mut place, stand);
        Ok(())
    }

    /// The last checkpoint: a start has nothing to apply again then. If it fails, it does.
    pub(super) fn close(&self) {
        let mut place = self.place();
        drop(self.checkpoint_at(&mut place));
        place.closed = true;
    }
}
