//! What drives those that wait for the disk, and what becomes of the process when the disk fails: the seam to threads.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::thread;

use tokio::sync::oneshot;

/// Told that the disk failed, in the place of a process's end.
pub type OnEnd = Arc<dyn Fn(&io::Error) + Send + Sync>;

/// What a node runs on; chosen once, with the other seams.
#[derive(Clone)]
pub enum Driver {
    /// A process: each actor, and each long piece of work, has a thread of its own, and a failed disk ends all of it.
    Process,
    /// A simulation: all are tasks of the runtime that they are started on. If that has one thread and paused time, and the other
    /// seams are as repeatable, a run is. A failed disk ends what depends on it; the rest is for who is told to end.
    Simulation(OnEnd),
}

impl Driver {
    /// Starts an actor, or work that waits for others and for the disk. It goes on whether or not anybody waits for it.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn start<T: Send + 'static>(
        &self,
        name: &str,
        work: impl Future<Output = T> + Send + 'static,
    ) -> io::Result<Started<T>> {
        let (done, ended) = oneshot::channel();
        // Whoever started it may have gone.
        let work = async move { drop(done.send(work.await)) };
        match self {
            Self::Process => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
                on_thread(name, move || runtime.block_on(work))?;
            }
            Self::Simulation(_) => drop(tokio::spawn(work)),
        }
        Ok(Started { name: name.to_owned(), ended })
    }

    /// Does work that blocks; returns what comes of it. It is done whether or not anybody waits for it.
    ///
    /// # Errors
    /// When there is no thread for it, or it panics.
    pub async fn run<T: Send + 'static>(&self, name: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
        let (done, ended) = oneshot::channel();
        let work = move || drop(done.send(work()));
        match self {
            Self::Process => on_thread(name, work)?,
            Self::Simulation(_) => work(),
        }
        Started { name: name.to_owned(), ended }.await
    }

    /// Over how many threads a scan is best spread, at most `most`.
    pub fn parallelism(&self, most: usize) -> usize {
        match self {
            Self::Process => thread::available_parallelism().map_or(1, usize::from).min(most),
            Self::Simulation(_) => 1,
        }
    }

    /// The disk has failed, so nobody can know what is durable, and trying again may lie (key-log §4.6): nothing more is to
    /// be acknowledged. The next start recovers. Returns in a simulation alone.
    pub fn end(&self, error: &io::Error) {
        match self {
            Self::Process => {
                tracing::error!(%error, "the journal's disk failed: this process ends now and acknowledges nothing more");
                // The subscriber may be buffered; the operator must see why.
                eprintln!(
                    "quorate: the journal's disk failed: {error}. This process ends now. Check the disk, then start it again"
                );
                std::process::abort();
            }
            Self::Simulation(on_end) => on_end(error),
        }
    }
}

/// The one place where a node's threads are made, but for those of its runtimes.
fn on_thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// What was started; waits for its end and returns what came of it, or an error if it panicked.
#[must_use]
pub struct Started<T> {
    name: String,
    ended: oneshot::Receiver<T>,
}

impl<T> Future for Started<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let ended = ready!(Pin::new(&mut self.ended).poll(cx));
        Poll::Ready(ended.map_err(|_| io::Error::other(format!("{} ended early", self.name))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    fn drivers() -> [Driver; 2] {
        [Driver::Process, Driver::Simulation(Arc::new(|_| ()))]
    }

    #[tokio::test]
    async fn work_goes_on_unawaited_and_what_panics_is_an_error() {
        for driver in drivers() {
            let (told, heard) = oneshot::channel();
            drop(driver.start("unawaited", async move { told.send(7) }).expect("starts"));
            assert_eq!(heard.await, Ok(7));
            assert_eq!(driver.run("sum", || 1 + 1).await.expect("done"), 2);
            let slept = driver.start("sleeps", tokio::time::sleep(Duration::from_millis(1))).expect("starts");
            slept.await.expect("there is time everywhere");
            let ended = driver.start("fails", async { panic!("as a test wants it") }).expect("starts");
            let ended: io::Result<()> = ended.await;
            assert_eq!(ended.expect_err("it panicked").to_string(), "fails ended early");
        }
    }

    #[tokio::test]
    async fn a_simulation_stays_on_one_thread_and_outlives_its_disk() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = heard.clone();
        let driver = Driver::Simulation(Arc::new(move |e: &io::Error| told.lock().expect("lock").push(e.to_string())));
        let here = thread::current().id();
        let there = driver.start("task", async { thread::current().id() }).expect("starts").await;
        assert_eq!(there.expect("ran"), here);
        assert_eq!(driver.run("work", || thread::current().id()).await.expect("ran"), here);
        assert_eq!(driver.parallelism(4), 1);
        driver.end(&io::Error::other("the disk is gone"));
        assert_eq!(*heard.lock().expect("lock"), ["the disk is gone"]);
        let process = Driver::Process.run("work", || thread::current().id()).await;
        assert_ne!(process.expect("ran"), here);
    }
}
