//! The writer actor (key-log §4.2): one loop over a bounded queue takes all waiting commands as one group.

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::reader::{Shared, Staged};
use super::writer::MAINTENANCE_INTERVAL;
use super::{Command, Journal, JournalReader};

/// Calls of `append` that may wait. A proposer is slowed beyond it: the disk cannot keep up.
const QUEUE_MAX: usize = 4096;
/// Bytes taken into one group's worth of work before callbacks run.
const TAKE_BYTES_MAX: usize = 4 << 20;

/// Called on the actor's driver once the commands of one `append` are durable (or the disk failed), in order.
pub type OnSynced = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Called when the disk failed; [`abort_process`] in production. If it returns, the actor answers everybody with the
/// error and ends.
pub type OnFatal = Box<dyn FnOnce(&io::Error) + Send>;

enum Message {
    Append { staged: Vec<Staged>, bytes: usize, on_synced: OnSynced },
    Stop(oneshot::Sender<()>),
}

/// The door to the journal for everything that writes. Cheap to clone.
#[derive(Clone)]
pub struct JournalWriter {
    queue: mpsc::Sender<Message>,
    shared: Arc<Shared>,
}

impl JournalWriter {
    /// The door and the loop behind it; the caller drives the loop (a simulation: as a task).
    pub fn new(journal: Journal, on_fatal: OnFatal) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        let shared = Arc::clone(&journal.shared);
        (Self { queue, shared }, run(journal, receiver, on_fatal))
    }

    /// The door, with the loop on a thread of its own: it blocks in `fdatasync`.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn spawn(journal: Journal, on_fatal: OnFatal) -> io::Result<Self> {
        let (writer, run) = Self::new(journal, on_fatal);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || runtime.block_on(run))?;
        Ok(writer)
    }

    /// For readers.
    pub fn reader(&self) -> JournalReader {
        JournalReader(Arc::clone(&self.shared))
    }

    /// Makes the commands visible to readers, enqueues them and returns; waits only while the queue is full.
    /// `on_synced` is called once they are durable. Must not be cancelled by an owner who needs to know whether they
    /// were taken.
    ///
    /// # Errors
    /// `InvalidInput`: a command cannot follow, nothing was taken. `BrokenPipe`: the journal has stopped. In both
    /// cases `on_synced` is dropped uncalled.
    pub async fn append(&self, commands: Vec<Command>, on_synced: OnSynced) -> io::Result<()> {
        let permit = self.queue.reserve().await.map_err(|_| stopped())?;
        let bytes = commands.iter().map(super::record::Record::body_len).sum();
        // Under one lock, so that the order in memory is the order in the queue.
        let mut inner = self.shared.lock();
        let staged = self.shared.stage(&mut inner, commands)?;
        permit.send(Message::Append { staged, bytes, on_synced });
        Ok(())
    }

    /// Enqueues and waits until the commands are durable (a vote).
    ///
    /// # Errors
    /// As [`JournalWriter::append`], or the disk failed.
    pub async fn append_synced(&self, commands: Vec<Command>) -> io::Result<()> {
        let (done, synced) = oneshot::channel();
        // A waiter that has gone does not need the answer.
        self.append(commands, Box::new(move |result| _ = done.send(result))).await?;
        synced.await.map_err(|_| stopped())?
    }

    /// Writes what waits, writes the mark, closes the files and releases the lock.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.queue.send(Message::Stop(done)).await.is_ok() {
            // An error means the actor ended before: that is what was asked for.
            _ = stopped.await;
        }
        self.queue.closed().await;
    }
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the journal has stopped")
}

/// Ends the process: after a failed write or sync nobody can know what is durable, and trying again may lie
/// (key-log §4.6). The next start recovers.
pub fn abort_process(error: &io::Error) {
    tracing::error!(%error, "the journal's disk failed: this process ends now and acknowledges nothing more");
    // The subscriber may be buffered; the operator must see why.
    eprintln!(
        "quorate: the journal's disk failed: {error}. This process ends now. Check the disk, then start it again"
    );
    std::process::abort();
}

async fn run(mut journal: Journal, mut queue: mpsc::Receiver<Message>, on_fatal: OnFatal) {
    let mut on_synced = VecDeque::new();
    let stop = match write_all(&mut journal, &mut queue, &mut on_synced).await {
        Ok(stop) => stop,
        Err(error) => {
            on_fatal(&error);
            for call in on_synced {
                call(Err(again(&error)));
            }
            None
        }
    };
    // Nobody may open the folder again before the lock is released.
    drop(journal);
    queue.close();
    while let Some(message) = queue.recv().await {
        match message {
            Message::Append { on_synced, .. } => on_synced(Err(stopped())),
            Message::Stop(done) => _ = done.send(()),
        }
    }
    if let Some(done) = stop {
        // Whoever asked may have gone.
        _ = done.send(());
    }
}

/// Until told to stop; on an error, `waiting` has the callbacks of what was not synced.
async fn write_all(
    journal: &mut Journal,
    queue: &mut mpsc::Receiver<Message>,
    waiting: &mut VecDeque<OnSynced>,
) -> io::Result<Option<oneshot::Sender<()>>> {
    // `Committed` and `Seen` are worth no sync of their own: they wait here for company, at most until the next maintenance.
    let mut held = Vec::new();
    loop {
        let message = next(journal, queue).await?;
        let (ended, idle) = (matches!(message, Next::Ended), matches!(message, Next::Idle));
        let (mut message, mut bytes, mut stop) = (message.message(), 0, None);
        while let Some(taken) = message.take() {
            match taken {
                Message::Append { staged, bytes: more, on_synced } => {
                    bytes += more;
                    held.extend(staged);
                    waiting.push_back(on_synced);
                }
                Message::Stop(done) => {
                    stop = Some(done);
                    break;
                }
            }
            if bytes < TAKE_BYTES_MAX {
                message = queue.try_recv().ok();
            }
        }
        let last = ended || stop.is_some();
        let can_wait = held.len() < QUEUE_MAX
            && held.iter().all(|s| matches!(s.command, Command::Committed(_) | Command::Seen(_)));
        if last || idle || !can_wait {
            let voted = held.iter().any(|s| matches!(s.command, Command::Vote(_)));
            journal.write_staged(std::mem::take(&mut held))?;
            for call in waiting.drain(..) {
                call(Ok(()));
            }
            if voted || last {
                journal.write_mark()?;
            }
        }
        if last {
            return Ok(stop);
        }
        journal.maintain(Instant::now())?;
    }
}

enum Next {
    Message(Message),
    /// Nothing for a second.
    Idle,
    /// Nobody can send any more.
    Ended,
}

impl Next {
    fn message(self) -> Option<Message> {
        match self {
            Self::Message(message) => Some(message),
            Self::Idle | Self::Ended => None,
        }
    }
}

/// The next message; prepares the next segment while there is none.
async fn next(journal: &mut Journal, queue: &mut mpsc::Receiver<Message>) -> io::Result<Next> {
    loop {
        match queue.try_recv() {
            Ok(message) => return Ok(Next::Message(message)),
            Err(mpsc::error::TryRecvError::Disconnected) => return Ok(Next::Ended),
            Err(mpsc::error::TryRecvError::Empty) => {}
        }
        if journal.idle()? {
            continue;
        }
        return Ok(tokio::select! {
            biased;
            message = queue.recv() => message.map_or(Next::Ended, Next::Message),
            () = tokio::time::sleep(MAINTENANCE_INTERVAL) => Next::Idle,
        });
    }
}

/// The same error for another waiter.
fn again(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
