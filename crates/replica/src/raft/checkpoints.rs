//! The state is made durable (key-log §5.2) beside the thread that applies: by whoever asks, one at a time, in the order
//! that a crash at any moment needs. First the journal holds what was applied and knows where the state is about to stand,
//! then the state stands there.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quorate_journal::disk::is_full;
use tokio::sync::{Mutex, Notify};

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
    pub(super) async fn checkpoint(&self) -> io::Result<Option<Durable>> {
        self.checkpoint_at(&mut *self.place.lock().await).await
    }

    async fn checkpoint_at(&self, place: &mut Place) -> io::Result<Option<Durable>> {
        if place.closed {
            return Err(io::Error::other("the state was closed"));
        }
        self.make_durable(place).await.inspect_err(|error| {
            // What is applied is in the journal, so nothing is lost; but a state that can't be written is no state.
            self.shared.set_problem(halted(&self.files, "making the state durable", error));
        })
    }

    async fn make_durable(&self, place: &mut Place) -> io::Result<Option<Durable>> {
        let store = self.files.store()?;
        if let Some(flush) = store.begin_flush()? {
            let stand = stands_at(flush.view())?;
            if let Some(stand) = stand
                && let Err(error) = self.note(place.at, stand).await
            {
                return Err(flush.give_up(error));
            }
            flush.finish()?;
            if stand.is_some() {
                self.stands(place, stand);
            }
        }
        Ok(place.at.map(|checkpoint| Durable { checkpoint, view: store.durable_view() }))
    }

    /// Before a state becomes durable anywhere, the journal knows of it, and holds all that was enqueued before: so a state
    /// that the journal does not know is one whose journal was lost. Entries are applied once a quorum has them, and this
    /// node's own journal may be the one that has not synced them yet; a state ahead of its log is one that Raft can't take
    /// up. However often what follows fails, where the state is durable now stays known.
    async fn note(&self, now: Option<Checkpoint>, next: Checkpoint) -> io::Result<()> {
        let stands = now.into_iter().chain([next]).map(Command::Checkpoint).collect();
        self.journal.append_synced(stands).await
    }

    /// The state is durable there.
    fn stands(&self, place: &mut Place, at: Option<Checkpoint>) {
        place.at = at;
        self.next.store(at.map_or(0, |c| c.index + 1), Ordering::Release);
    }

    /// After entries were applied. While there is no room for more, whoever applies waits here for the disk.
    pub(super) async fn follow(&self) {
        let Ok(store) = self.files.store() else { return };
        if store.is_full() {
            let mut place = self.place.lock().await;
            // The checkpoint that was under way may have made room.
            if store.is_full() {
                // The failure is told as a problem; and the store takes no more.
                drop(self.checkpoint_at(&mut place).await);
            }
        } else if store.flush_is_due() {
            self.due.notify_one();
        }
    }

    /// Puts another state in force. What Raft did to the log before (it cuts off what contradicts a snapshot) is durable
    /// before the state that stands for it is in force; and the journal learns of that state before Raft purges up to it.
    pub(super) async fn install(&self, incoming: Incoming) -> io::Result<()> {
        let mut place = self.place.lock().await;
        let stand = incoming.stands_at()?;
        if let Some(stand) = stand {
            self.note(place.at, stand).await?;
        }
        incoming.install(&self.files)?;
        self.stands(&mut place, stand);
        Ok(())
    }

    /// The last checkpoint: a start has nothing to apply again then. If it fails, it does.
    pub(super) async fn close(&self) {
        let mut place = self.place.lock().await;
        drop(self.checkpoint_at(&mut place).await);
        place.closed = true;
    }
}
