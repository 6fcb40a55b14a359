//! What a node learns of newer seals before it opens, as far as that can be had: it may have been down when they were made.

use std::time::Duration;

use quorate_replica::{ReadError, Replica};
use tokio::sync::watch;
use tokio::time::Instant;

use super::open::SealState;
use crate::error::Error;
use crate::node::Node;

/// How long the node tries to learn of newer seals before it goes on with what it knows. Each use checks again.
const CATCH_UP: Duration = Duration::from_secs(3);

impl Node {
    /// The state after a read index if one can be had soon: a node that was down may not know of a newer seal yet.
    pub(crate) async fn caught_up(&self, replica: &Replica) -> Result<SealState, Error> {
        let until = Instant::now() + CATCH_UP;
        if let Err(e) = await_majority(|| replica.read_index(until), replica.watch(), until).await {
            tracing::info!(%e, "no majority answers: going on with what this node knows");
        }
        self.seal_state(replica)
    }
}

/// Reads again as often as something has changed while there was no majority: right after a restart one is about to be elected.
async fn await_majority<F: Future<Output = Result<u64, ReadError>>>(
    read: impl Fn() -> F,
    mut changes: watch::Receiver<u64>,
    until: Instant,
) -> Result<u64, ReadError> {
    loop {
        changes.mark_unchanged();
        match read().await {
            Err(missing @ ReadError::NoMajority(_)) => match tokio::time::timeout_at(until, changes.changed()).await {
                Ok(Ok(())) => {}
                _ => return Err(missing),
            },
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use quorate_replica::Quorum;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_that_has_no_majority_yet_waits_for_one_and_no_longer_than_it_may() {
        let missing = || Err(ReadError::NoMajority(Quorum::Leaderless));
        let (news, changes) = watch::channel(0);
        let (begun, elected) = (Instant::now(), std::cell::Cell::new(false));
        let until = begun + CATCH_UP;
        let read = || std::future::ready(if elected.get() { Ok(7) } else { missing() });
        let election = async {
            // Something else first.
            for (after_ms, ends) in [(300, false), (400, true)] {
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                elected.set(ends);
                news.send_modify(|n| *n += 1);
            }
        };
        let (index, ()) = tokio::join!(await_majority(read, changes.clone(), until), election);
        assert_eq!((index, begun.elapsed()), (Ok(7), Duration::from_millis(700)));

        elected.set(false);
        assert_eq!(await_majority(read, changes.clone(), until).await, missing());
        assert_eq!(begun.elapsed(), CATCH_UP, "then it goes on with what it knows");
        let other = || std::future::ready(Err(ReadError::Unavailable("stopping".into())));
        assert!(await_majority(other, changes, until + CATCH_UP).await.is_err());
        assert_eq!(begun.elapsed(), CATCH_UP, "for nothing else");
    }
}
