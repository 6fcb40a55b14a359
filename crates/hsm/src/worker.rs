//! The one thread that talks to the token. PKCS#11 calls block, for seconds on a network HSM, so that nobody makes
//! them on an async thread.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

use crate::HsmError;
use crate::token::Connection;

/// Calls that may wait. More than the handshakes that may be under way (64) and every other caller together; a longer
/// queue would only grow answers that come too late.
const QUEUE_LEN: usize = 128;

/// How long a thread that is to end may take: it may be within a call, and a hung token must not keep the process.
const END_TIME_MAX: Duration = Duration::from_secs(2);

struct Call {
    deadline: Instant,
    run: Box<dyn FnOnce(&mut Connection) + Send>,
}

enum Job {
    Call(Call),
    /// Let go of the token; nothing after this is done.
    End,
}

/// The way to the thread. It ends when the last of these is dropped, or when told to.
#[derive(Clone)]
pub(crate) struct Worker {
    thread: Arc<Thread>,
}

/// Hears of each call to a token, once, when it has ended or was given up.
pub trait HsmMeter: Send + Sync {
    /// How long it took, the wait for its turn included, and the word for what went wrong ([`HsmError::word`]).
    fn called(&self, took: Duration, ended: Result<(), &'static str>);
}

struct Thread {
    queue: SyncSender<Job>,
    /// Yields nothing; closed when the thread has let go of the token.
    ended: Mutex<Receiver<()>>,
    handle: Mutex<Option<JoinHandle<()>>>,
    meter: OnceLock<Arc<dyn HsmMeter>>,
}

impl Thread {
    /// Ends the thread and waits for it. A process that exits while it is still closing its session runs the module's
    /// exit handlers under it, which ended in a segmentation fault in SoftHSM.
    fn end(&self) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(handle) = self.handle.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        // A full queue means that it is busy, or hangs: then it is not waited for either.
        if self.queue.try_send(Job::End).is_ok()
            && ended.recv_timeout(END_TIME_MAX) == Err(RecvTimeoutError::Disconnected)
        {
            let _ = handle.join();
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.end();
    }
}

impl Worker {
    /// Opens the token on the new thread, which owns it from then on.
    pub(crate) fn start(
        open: impl FnOnce() -> Result<Connection, HsmError> + Send + 'static,
    ) -> Result<Self, HsmError> {
        let (queue, jobs) = sync_channel(QUEUE_LEN);
        let (opened, wait) = sync_channel(1);
        let (alive, ended) = sync_channel::<()>(0);
        let handle = std::thread::Builder::new()
            .name("hsm".into())
            .spawn(move || {
                // Dropped last, when the session is closed.
                let _alive = alive;
                match open() {
                    Ok(connection) => {
                        if opened.send(Ok(())).is_ok() {
                            serve(connection, &jobs);
                        }
                    }
                    Err(e) => {
                        let _ = opened.send(Err(e));
                    }
                }
            })
            .map_err(|_| HsmError::Stopped)?;
        let thread =
            Thread { queue, ended: Mutex::new(ended), handle: Mutex::new(Some(handle)), meter: OnceLock::new() };
        let worker = Self { thread: Arc::new(thread) };
        without_stalling(|| wait.recv()).map_err(|_| HsmError::Stopped)??;
        Ok(worker)
    }

    /// Has every call told from now on.
    pub(crate) fn set_meter(&self, meter: Arc<dyn HsmMeter>) {
        let _ = self.thread.meter.set(meter);
    }

    fn told<T>(&self, began: Instant, ended: Result<T, HsmError>) -> Result<T, HsmError> {
        if let Some(meter) = self.thread.meter.get() {
            meter.called(began.elapsed(), ended.as_ref().map(drop).map_err(HsmError::word));
        }
        ended
    }

    /// Lets go of the token; every later call fails. Blocks until it is done, 2 s at most.
    pub(crate) fn end(&self) {
        self.thread.end();
    }

    fn submit(&self, job: Call) -> Result<(), HsmError> {
        self.thread.queue.try_send(Job::Call(job)).map_err(|e| match e {
            TrySendError::Full(_) => HsmError::Busy,
            TrySendError::Disconnected(_) => HsmError::Stopped,
        })
    }

    /// Asks the thread and waits, at most until `deadline`. A call given up before its turn is not made.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        deadline: Instant,
        op: impl FnOnce(&mut Connection) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        let began = Instant::now();
        let (answer, wait) = tokio::sync::oneshot::channel();
        let run = Box::new(move |connection: &mut Connection| {
            if !answer.is_closed() {
                let _ = answer.send(op(connection));
            }
        });
        let ended = match self.submit(Call { deadline, run }) {
            Ok(()) => match tokio::time::timeout_at(deadline, wait).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) | Err(_) => Err(HsmError::TimedOut),
            },
            Err(e) => Err(e),
        };
        self.told(began, ended)
    }

    /// [`Worker::call`] for callers that are not async (rustls signs in a callback). On a multi-thread runtime the
    /// worker's other tasks move to another thread meanwhile.
    pub(crate) fn call_blocking<T: Send + 'static>(
        &self,
        deadline: Instant,
        op: impl FnOnce(&mut Connection) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        let began = Instant::now();
        let (answer, wait) = sync_channel(1);
        let run = Box::new(move |connection: &mut Connection| {
            let _ = answer.send(op(connection));
        });
        let ended = self.submit(Call { deadline, run }).and_then(|()| {
            without_stalling(|| wait.recv_timeout(deadline.saturating_duration_since(Instant::now())))
                .unwrap_or(Err(HsmError::TimedOut))
        });
        self.told(began, ended)
    }
}

fn serve(mut connection: Connection, jobs: &Receiver<Job>) {
    while let Ok(Job::Call(job)) = jobs.recv() {
        // Whoever waited has been told that it took too long: doing it now would only delay the next.
        if Instant::now() < job.deadline {
            (job.run)(&mut connection);
        }
    }
}

fn without_stalling<T>(wait: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}
