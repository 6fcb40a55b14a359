//! Where slow work with keys is done: an RSA-4096 key takes a second to make and milliseconds to sign with, and no other request
//! waits for that.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::error::Error;

/// The workers of a node. What takes seconds has workers of its own: what takes milliseconds does not wait behind it.
pub struct Workers {
    short: Crew,
    long: Crew,
}

impl Workers {
    /// For this machine: at most half of its cores for short work, a quarter for long work, and one for each at least.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let crew = |size: usize| Crew(Arc::new(Semaphore::new(size.max(1))));
        Self { short: crew(cores / 2), long: crew(cores / 4) }
    }

    /// Those for work that takes up to seconds, or milliseconds at most.
    pub fn of(&self, takes_seconds: bool) -> &Crew {
        if takes_seconds { &self.long } else { &self.short }
    }
}

/// Workers that do one kind of work; what finds none free waits in order of arrival.
pub struct Crew(Arc<Semaphore>);

impl Crew {
    /// Does `work`; whoever stops waiting does not stop it once it has begun.
    ///
    /// # Errors
    /// [`Error::Busy`] when its turn has not come by the deadline; [`Error::Internal`] when it panics.
    pub async fn run<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let turn = tokio::time::timeout_at(deadline, self.0.clone().acquire_owned()).await;
        let busy =
            || Error::Busy("too much slow work is under way at this node; try again, or ask another node".into());
        let permit = turn.map_err(|_| busy())?.expect("nobody closes it");
        #[expect(clippy::disallowed_methods, reason = "bounded by the semaphore")]
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        task.await.map_err(|_| Error::Internal("slow work with a key failed"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn short_work_does_not_wait_behind_long_work() {
        let workers = Workers::new();
        for (full, other) in [(true, false), (false, true)] {
            let crew = workers.of(full);
            let (ends, at_work): (Vec<mpsc::Sender<()>>, Vec<_>) = (0..crew.0.available_permits())
                .map(|_| {
                    let (end, told) = mpsc::channel();
                    (end, crew.run(Instant::now() + Duration::from_secs(60), move || told.recv().is_err()))
                })
                .unzip();
            let mut at_work = Box::pin(futures::future::join_all(at_work));
            assert!(futures::poll!(&mut at_work).is_pending(), "every one of them is busy");
            assert_eq!(crew.0.available_permits(), 0);
            let busy = crew.run(Instant::now(), || ()).await;
            assert!(matches!(busy, Err(Error::Busy(_))), "{busy:?}");
            let soon = Instant::now() + Duration::from_secs(60);
            assert_eq!(workers.of(other).run(soon, || 7).await, Ok(7));
            drop(ends);
            assert!(at_work.await.into_iter().all(|done| done == Ok(true)));
        }
    }
}
