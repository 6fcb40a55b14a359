//! The writer actor (key-log §4.2): one loop over a bounded queue takes all waiting commands as one group.

use std::collections::VecDeque;
use std::future::Future;
use std::io;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::writer::{MAINTENANCE_INTERVAL, written_len};
use crate::{Contents, Driver, Haste, Journal, Record};

/// Appends that may wait. Who appends is slowed beyond it: the disk cannot keep up.
const QUEUE_MAX: usize = 4096;
/// Bytes taken into one group's worth of work before callbacks run.
const TAKE_BYTES_MAX: usize = 4 << 20;

/// Called on the actor's driver once the records of one append are durable (or the disk failed), in order.
pub type OnSynced = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Called when the disk failed; [`Driver::end`] but in tests. If it returns, the actor answers everybody with the error
/// and ends.
pub type OnFatal = Box<dyn FnOnce(&io::Error) + Send>;

enum Message {
    Append { records: Vec<Record>, on_synced: OnSynced },
    Stop(oneshot::Sender<()>),
}

/// The door to the journal for everything that writes. Cheap to clone.
#[derive(Clone)]
pub struct JournalWriter {
    queue: mpsc::Sender<Message>,
}

/// A place in the queue of what is to be written.
pub struct Place<'a>(mpsc::Permit<'a, Message>);

impl Place<'_> {
    /// Enqueues records, behind all that was enqueued before, and returns; `on_synced` is called once they are durable.
    /// They are such as [`Journal::write`] takes: others end the journal.
    pub fn append(self, records: Vec<Record>, on_synced: OnSynced) {
        self.0.send(Message::Append { records, on_synced });
    }
}

impl JournalWriter {
    /// The door and the loop behind it; the caller drives the loop.
    pub fn new<C: Contents>(journal: Journal<C>, on_fatal: OnFatal) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, receiver) = mpsc::channel(QUEUE_MAX);
        (Self { queue }, run(journal, receiver, on_fatal))
    }

    /// The door, with the loop on its driver, since it blocks in `fdatasync`; a failed disk ends the process.
    ///
    /// # Errors
    /// When the loop cannot be started.
    pub fn spawn<C: Contents>(journal: Journal<C>, driver: &Driver) -> io::Result<Self> {
        let on_fatal = driver.clone();
        let (writer, run) = Self::new(journal, Box::new(move |error| on_fatal.end(error)));
        // It ends once it is told to, or nobody is left who could.
        drop(driver.start("journal", run)?);
        Ok(writer)
    }

    /// Waits for a place in the queue. Whoever makes records visible to others does so while they hold their lock and the
    /// place: then the order there is the order in the journal.
    ///
    /// # Errors
    /// `BrokenPipe`: the journal has stopped.
    pub async fn place(&self) -> io::Result<Place<'_>> {
        self.queue.reserve().await.map(Place).map_err(|_| stopped())
    }

    /// Enqueues records and waits until they are durable.
    ///
    /// # Errors
    /// As [`JournalWriter::place`], or the disk failed.
    pub async fn append_synced(&self, records: Vec<Record>) -> io::Result<()> {
        let (on_synced, synced) = when_synced();
        self.place().await?.append(records, on_synced);
        synced.await
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

/// A callback, and what waits until it is called.
pub fn when_synced() -> (OnSynced, impl Future<Output = io::Result<()>> + Send) {
    let (done, synced) = oneshot::channel();
    // A waiter that has gone does not need the answer.
    let on_synced: OnSynced = Box::new(move |result| _ = done.send(result));
    (on_synced, async { synced.await.map_err(|_| stopped())? })
}

fn stopped() -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, "the journal has stopped")
}

async fn run<C: Contents>(mut journal: Journal<C>, mut queue: mpsc::Receiver<Message>, on_fatal: OnFatal) {
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
async fn write_all<C: Contents>(
    journal: &mut Journal<C>,
    queue: &mut mpsc::Receiver<Message>,
    waiting: &mut VecDeque<OnSynced>,
) -> io::Result<Option<oneshot::Sender<()>>> {
    // What is worth no sync of its own waits here for company, at most until the next maintenance.
    let mut held = Vec::new();
    loop {
        let message = next(journal, queue).await?;
        let (ended, idle) = (matches!(message, Next::Ended), matches!(message, Next::Idle));
        let (mut message, mut bytes, mut stop) = (message.message(), 0, None);
        while let Some(taken) = message.take() {
            match taken {
                Message::Append { records, on_synced } => {
                    bytes += records.iter().map(written_len).sum::<usize>();
                    held.extend(records);
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
        let haste = held.iter().map(|record: &Record| record.haste).max().unwrap_or(Haste::Rides);
        if last || idle || haste > Haste::Rides || held.len() >= QUEUE_MAX {
            journal.write(std::mem::take(&mut held))?;
            for call in waiting.drain(..) {
                call(Ok(()));
            }
            if haste == Haste::Marks || last {
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
async fn next<C: Contents>(journal: &mut Journal<C>, queue: &mut mpsc::Receiver<Message>) -> io::Result<Next> {
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
