//! The one thread that talks to the token. PKCS#11 calls block, for seconds on a network HSM, so that nobody makes
//! them on an async thread.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use tokio::time::Instant;

use crate::HsmError;
use crate::token::Connection;

/// Calls that may wait. More than the handshakes that may be under way (64) and every other caller together; a longer
/// queue would only grow answers that come too late.
const QUEUE_LEN: usize = 128;

struct Job {
    deadline: Instant,
    run: Box<dyn FnOnce(&mut Connection) + Send>,
}

/// The way to the thread. It ends when the last of these is dropped.
#[derive(Clone)]
pub(crate) struct Worker {
    queue: SyncSender<Job>,
}

impl Worker {
    /// Opens the token on the new thread, which owns it from then on.
    pub(crate) fn start(
        open: impl FnOnce() -> Result<Connection, HsmError> + Send + 'static,
    ) -> Result<Self, HsmError> {
        let (queue, jobs) = sync_channel(QUEUE_LEN);
        let (opened, wait) = sync_channel(1);
        std::thread::Builder::new()
            .name("hsm".into())
            .spawn(move || match open() {
                Ok(connection) => {
                    if opened.send(Ok(())).is_ok() {
                        serve(connection, &jobs);
                    }
                }
                Err(e) => {
                    let _ = opened.send(Err(e));
                }
            })
            .map_err(|_| HsmError::Stopped)?;
        without_stalling(|| wait.recv()).map_err(|_| HsmError::Stopped)??;
        Ok(Self { queue })
    }

    fn submit(&self, job: Job) -> Result<(), HsmError> {
        self.queue.try_send(job).map_err(|e| match e {
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
        let (answer, wait) = tokio::sync::oneshot::channel();
        let run = Box::new(move |connection: &mut Connection| {
            if !answer.is_closed() {
                let _ = answer.send(op(connection));
            }
        });
        self.submit(Job { deadline, run })?;
        match tokio::time::timeout_at(deadline, wait).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(HsmError::TimedOut),
        }
    }

    /// [`Worker::call`] for callers that are not async (rustls signs in a callback). On a multi-thread runtime the
    /// worker's other tasks move to another thread meanwhile.
    pub(crate) fn call_blocking<T: Send + 'static>(
        &self,
        deadline: Instant,
        op: impl FnOnce(&mut Connection) -> Result<T, HsmError> + Send + 'static,
    ) -> Result<T, HsmError> {
        let (answer, wait) = sync_channel(1);
        let run = Box::new(move |connection: &mut Connection| {
            let _ = answer.send(op(connection));
        });
        self.submit(Job { deadline, run })?;
        without_stalling(|| wait.recv_timeout(deadline.saturating_duration_since(Instant::now())))
            .map_err(|_| HsmError::TimedOut)?
    }
}

fn serve(mut connection: Connection, jobs: &Receiver<Job>) {
    while let Ok(job) = jobs.recv() {
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
