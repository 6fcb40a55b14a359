//! Clients that work on and on while something happens to the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use quorate_client::{Client, ClientError};
use tokio::task::JoinHandle;

use super::PATIENCE;

/// Several tasks, each of which does one round after the other.
pub struct Load<T> {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    tasks: Vec<JoinHandle<Result<Vec<T>, ClientError>>>,
}

impl<T: Send + 'static> Load<T> {
    /// Every round has to end well: the first error ends its task, and is the test's failure.
    pub fn start<F, R>(client: &Client, tasks: usize, round: F) -> Self
    where
        F: Fn(Client) -> R + Clone + Send + 'static,
        R: Future<Output = Result<T, ClientError>> + Send,
    {
        Self::spawn(client, tasks, round, Err)
    }

    /// Rounds that end in an error count for nothing.
    pub fn through_errors<F, R>(client: &Client, tasks: usize, round: F) -> Self
    where
        F: Fn(Client) -> R + Clone + Send + 'static,
        R: Future<Output = Result<T, ClientError>> + Send,
    {
        Self::spawn(client, tasks, round, |_| Ok(()))
    }

    fn spawn<F, R>(client: &Client, tasks: usize, round: F, error: fn(ClientError) -> Result<(), ClientError>) -> Self
    where
        F: Fn(Client) -> R + Clone + Send + 'static,
        R: Future<Output = Result<T, ClientError>> + Send,
    {
        let (stop, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let tasks = (0..tasks).map(|place| {
            let (client, round) = (client.starting_at(place), round.clone());
            let (stop, done) = (stop.clone(), done.clone());
            tokio::spawn(async move {
                let mut results = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    match round(client.clone()).await {
                        Ok(result) => {
                            results.push(result);
                            done.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(e) => error(e)?,
                    }
                }
                Ok(results)
            })
        });
        let tasks = tasks.collect();
        Self { stop, done, tasks }
    }

    /// Waits until so many more rounds are done.
    pub async fn go_on(&self, rounds: usize) {
        let goal = self.done.load(Ordering::Relaxed) + rounds;
        let reached = async {
            while self.done.load(Ordering::Relaxed) < goal && !self.tasks.iter().any(JoinHandle::is_finished) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(2 * PATIENCE, reached).await.expect("the load makes progress");
    }

    /// Ends it; what all rounds came to.
    pub async fn finish(self) -> Vec<T> {
        self.stop.store(true, Ordering::Relaxed);
        let mut results = Vec::new();
        for task in self.tasks {
            let ended = task.await.expect("no panic");
            results.extend(ended.unwrap_or_else(|e| panic!("a client saw an error: {e:?}")));
        }
        results
    }
}
