//! Where slow work with keys is done: an RSA-4096 key takes a second to make and milliseconds to sign with, and no other request
//! waits for that.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::error::Error;

/// At most half of the cores are busy with such work at a time; the rest waits in order of arrival.
pub struct Workers(Arc<Semaphore>);

impl Workers {
    /// For this machine.
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new((cores / 2).max(1))))
    }

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
