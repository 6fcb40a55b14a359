//! The read gate (key-log §3): many waiters share one read-index round, and none shares a round that began before it.
//!
//! Waiters join the *next* round. At most two rounds fly; a new one starts when a waiter exists and fewer fly. A round
//! has an id of its own, never used again; after 250 ms it is given up and its waiters join a new one. An index once
//! had is waited for on our own applied watch. Leader and follower run the same code.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::{LinearizerOption, LogIdOptionExt};
use quorate_core::id::NodeId;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;

use crate::error::ReadError;
use crate::node::Node;
use crate::peer::bounded;
use crate::peer::pb;
use crate::shared::Shared;

/// How long a round may take.
pub(crate) const ROUND_LIMIT: Duration = Duration::from_millis(250);
/// Rounds in flight.
const ROUNDS_MAX: usize = 2;
/// Leaders a round follows before it is given up.
const REDIRECTS_MAX: usize = 3;
/// Pause after a round that failed at once, so that a cluster without a leader is not asked in a hot loop.
const PAUSE: Duration = Duration::from_millis(20);

type Waiter = oneshot::Sender<Result<u64, ReadError>>;

/// Where reads wait for their round.
#[derive(Default)]
pub(crate) struct ReadGate {
    waiting: Mutex<Vec<Waiter>>,
    wake: Notify,
    round: AtomicU64,
    /// Why the newest failed round failed.
    last_failure: Mutex<String>,
}

impl ReadGate {
    /// An index this node has applied, at or past everything acknowledged before this call began.
    pub(crate) async fn read_index(&self, deadline: Instant) -> Result<u64, ReadError> {
        if Instant::now() >= deadline {
            return Err(ReadError::Unavailable("the deadline passed".into()));
        }
        let (tx, rx) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(tx);
        self.wake.notify_one();
        match tokio::time::timeout_at(deadline, rx).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ReadError::Unavailable("this node is stopping".into())),
            Err(_) => {
                let why = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Err(ReadError::Unavailable(if why.is_empty() { "the deadline passed".into() } else { why }))
            }
        }
    }

    fn take(&self) -> Vec<Waiter> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken = std::mem::take(&mut *waiting);
        taken.retain(|w| !w.is_closed());
        taken
    }

    /// Waiters of a failed round: they arrived before any round that has yet to start.
    fn give_back(&self, waiters: Vec<Waiter>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).extend(waiters);
        self.wake.notify_one();
    }
}

/// Where a round gets its index.
pub(crate) trait Source: Send + Sync + 'static {
    /// An index that was committed when this call began, or why there is none. It is given up after [`ROUND_LIMIT`].
    fn ask(&self, round: u64) -> impl Future<Output = Result<u64, String>> + Send;
    /// Where apply tells how far it is.
    fn shared(&self) -> &Shared;
    /// Why that will not come to an index, if so.
    fn left_behind(&self, index: u64) -> Option<String>;
}

/// Starts rounds for as long as the replica runs.
pub(crate) async fn drive<S: Source>(gate: Arc<ReadGate>, source: Arc<S>) {
    let flights = Arc::new(Semaphore::new(ROUNDS_MAX));
    loop {
        gate.wake.notified().await;
        loop {
            // The flight first, the waiters then: whoever arrives while both rounds fly joins the one that follows.
            let Ok(flight) = flights.clone().acquire_owned().await else { return };
            let waiters = gate.take();
            if waiters.is_empty() {
                break;
            }
            let id = gate.round.fetch_add(1, Ordering::Relaxed) + 1;
            let (gate, source) = (gate.clone(), source.clone());
            tokio::spawn(async move {
                let started = Instant::now();
                match round(&*source, id).await {
                    Ok(index) => {
                        drop(flight);
                        deliver(&*source, index, waiters).await;
                    }
                    Err(_) if source.shared().problem().is_some() => deliver(&*source, u64::MAX, waiters).await,
                    Err(why) => {
                        *gate.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = why;
                        tokio::time::sleep_until(started + PAUSE).await;
                        drop(flight);
                        gate.give_back(waiters);
                    }
                }
            });
        }
    }
}

/// Waits for our own apply, then lets all waiters of the round go.
async fn deliver(source: &impl Source, index: u64, mut waiters: Vec<Waiter>) {
    let shared = source.shared();
    let mut applied = shared.applied();
    let mut problem = shared.watch_problem();
    loop {
        if let Some(problem) = shared.problem() {
            for waiter in waiters {
                let _ = waiter.send(Err(ReadError::Stopped(problem.clone())));
            }
            return;
        }
        let now = *applied.borrow_and_update();
        if now >= index {
            for waiter in waiters {
                let _ = waiter.send(Ok(now));
            }
            return;
        }
        if let Some(why) = source.left_behind(index) {
            for waiter in waiters {
                let _ = waiter.send(Err(ReadError::Unavailable(why.clone())));
            }
            return;
        }
        waiters.retain(|w| !w.is_closed());
        if waiters.is_empty() {
            return;
        }
        // A node that lags keeps its waiters until their own deadlines; the pause only finds those that have left.
        let step = async {
            tokio::select! {
                biased;
                changed = applied.changed() => changed.is_ok(),
                changed = problem.changed() => changed.is_ok(),
            }
        };
        match tokio::time::timeout(Duration::from_secs(1), step).await {
            Ok(true) | Err(_) => {}
            Ok(false) => return,
        }
    }
}

/// One round: an index that was committed when it began, or why there is none.
async fn round(source: &impl Source, id: u64) -> Result<u64, String> {
    if let Some(problem) = source.shared().problem() {
        return Err(problem.to_string());
    }
    match tokio::time::timeout(ROUND_LIMIT, source.ask(id)).await {
        Ok(result) => result,
        Err(_) => Err("the leader confirmed nothing in time".into()),
    }
}

impl Source for Node {
    async fn ask(&self, round: u64) -> Result<u64, String> {
        ask(self, round).await
    }
    fn shared(&self) -> &Shared {
        &self.shared
    }
    fn left_behind(&self, index: u64) -> Option<String> {
        Self::left_behind(self, index)
    }
}

/// By this node itself if it leads, else by a call to the leader.
async fn ask(node: &Node, id: u64) -> Result<u64, String> {
    let mut tried: Option<NodeId> = None;
    for _ in 0..REDIRECTS_MAX {
        if node.leader_now() == tried {
            // Wait on the watch instead of following what a deposed leader believes.
            node.other_leader(tried, ROUND_LIMIT).await;
        }
        let Some(leader) = node.leader_now() else { return Err("no leader is known".into()) };
        tried = Some(leader);
        if leader == node.me {
            match confirm(node).await {
                Some((index, _)) => return Ok(index),
                None => continue,
            }
        }
        let link = node.link(leader).ok_or_else(|| format!("the leader, node {leader}, is no known member"))?;
        let mut client = link.control();
        let request = pb::ReadIndexRequest { round: id, known_term: node.role().1 };
        let response = bounded(ROUND_LIMIT, client.read_index(request))
            .await
            .map_err(|e| format!("the leader, node {leader}: {e}"))?;
        if response.round != id {
            return Err(format!("node {leader} answered another round"));
        }
        if let Some(log_id) = response.log_id {
            return Ok(log_id.index);
        }
    }
    Err("the leader could not confirm that it leads".into())
}

/// The leader's side: index and term, confirmed by a quorum after this call began. `None`: not the leader, or no
/// quorum answered in time.
pub(crate) async fn confirm(node: &Node) -> Option<(u64, u64)> {
    // Age zero: only acknowledgements of heartbeats sent from now on count. Never a lease.
    let option = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(ROUND_LIMIT);
    match node.raft.get_read_linearizer(option).await {
        Ok(linearizer) => {
            let read = linearizer.read_log_id();
            // What this node has applied itself was committed: never hand out less.
            let index = read.index().max(linearizer.applied().index().unwrap_or(0));
            Some((index, read.committed_leader_id().term))
        }
        Err(error) => {
            tracing::debug!(%error, "no read index");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::error::Problem;
    use crate::handler::NoService;
    use crate::peer::roster::Roster;

    type Answer = oneshot::Sender<Result<u64, String>>;

    /// Hands each round to the test, which answers when it likes.
    struct Scripted {
        rounds: mpsc::UnboundedSender<(u64, Answer)>,
        shared: Shared,
    }

    impl Source for Scripted {
        async fn ask(&self, round: u64) -> Result<u64, String> {
            let (tx, rx) = oneshot::channel();
            self.rounds.send((round, tx)).map_err(|e| e.to_string())?;
            rx.await.map_err(|e| e.to_string())?
        }
        fn shared(&self) -> &Shared {
            &self.shared
        }
        fn left_behind(&self, _: u64) -> Option<String> {
            None
        }
    }

    struct Rig {
        gate: Arc<ReadGate>,
        source: Arc<Scripted>,
        rounds: mpsc::UnboundedReceiver<(u64, Answer)>,
    }

    fn rig() -> Rig {
        let (tx, rounds) = mpsc::unbounded_channel();
        let gate = Arc::new(ReadGate::default());
        let shared = Shared::new(Arc::new(NoService), Roster::new(None));
        let source = Arc::new(Scripted { rounds: tx, shared });
        tokio::spawn(drive(gate.clone(), source.clone()));
        Rig { gate, source, rounds }
    }

    impl Rig {
        fn read(&self) -> tokio::task::JoinHandle<Result<u64, ReadError>> {
            let gate = self.gate.clone();
            tokio::spawn(async move { gate.read_index(Instant::now() + Duration::from_secs(5)).await })
        }

        async fn round(&mut self) -> (u64, Answer) {
            self.rounds.recv().await.expect("a round")
        }

        /// Lets everything that can run do so.
        async fn settle(&self) {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_never_joins_a_round_that_began_before_it() {
        let mut rig = rig();
        let first = rig.read();
        let (_, answer) = rig.round().await;
        // Arrives while that round is on its way: needs another one.
        let second = rig.read();
        let (_, later) = rig.round().await;
        answer.send(Ok(0)).expect("awaited");
        assert_eq!(first.await.expect("ran"), Ok(0));
        rig.settle().await;
        assert!(!second.is_finished(), "it was given the answer of a round that began before it");
        later.send(Ok(0)).expect("awaited");
        assert_eq!(second.await.expect("ran"), Ok(0));
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_two_rounds_fly_and_all_who_wait_share_the_next() {
        let mut rig = rig();
        let mut readers = vec![rig.read()];
        let (_, one) = rig.round().await;
        readers.push(rig.read());
        let (_, two) = rig.round().await;
        readers.extend((0..100).map(|_| rig.read()));
        rig.settle().await;
        assert!(rig.rounds.try_recv().is_err(), "a third round started while two fly");
        one.send(Ok(0)).expect("awaited");
        let (_, three) = rig.round().await;
        two.send(Ok(0)).expect("awaited");
        three.send(Ok(0)).expect("awaited");
        for reader in readers {
            assert_eq!(reader.await.expect("ran"), Ok(0));
        }
        assert!(rig.rounds.try_recv().is_err(), "a hundred readers needed one round");
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_without_an_answer_is_replaced_by_one_with_a_new_id() {
        let mut rig = rig();
        let reader = rig.read();
        let began = Instant::now();
        let (first, unanswered) = rig.round().await;
        let (second, answer) = rig.round().await;
        assert!(second > first, "an id was used again");
        assert!(began.elapsed() >= ROUND_LIMIT);
        assert!(unanswered.send(Ok(7)).is_err(), "a late answer to the old round goes nowhere");
        answer.send(Ok(0)).expect("awaited");
        assert_eq!(reader.await.expect("ran"), Ok(0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_index_is_answered_only_once_it_is_applied_here() {
        let mut rig = rig();
        let reader = rig.read();
        let (_, answer) = rig.round().await;
        answer.send(Ok(8)).expect("awaited");
        rig.source.shared.publish_applied(7, 0);
        rig.settle().await;
        assert!(!reader.is_finished());
        rig.source.shared.publish_applied(9, 0);
        assert_eq!(reader.await.expect("ran"), Ok(9));
    }

    #[tokio::test(start_paused = true)]
    async fn failing_rounds_neither_spin_nor_outlive_the_deadline() {
        let mut rig = rig();
        let reader = rig.read();
        let mut rounds = 0;
        let failing = async {
            loop {
                let (_, answer) = rig.round().await;
                answer.send(Err("no leader is known".into())).expect("awaited");
                rounds += 1;
            }
        };
        let result = tokio::select! { biased; result = reader => result.expect("ran"), () = failing => unreachable!() };
        assert_eq!(result, Err(ReadError::Unavailable("no leader is known".into())));
        assert!((100..=260).contains(&rounds), "5 s at one round in 20 ms: {rounds}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_stops_serving_answers_no_waiter() {
        let mut rig = rig();
        let reader = rig.read();
        let (_, answer) = rig.round().await;
        answer.send(Ok(5)).expect("awaited");
        rig.settle().await;
        rig.source.shared.set_problem(Problem::BadMac { index: 5 });
        rig.source.shared.publish_applied(5, 0);
        assert_eq!(reader.await.expect("ran"), Err(ReadError::Stopped(Problem::BadMac { index: 5 })));
    }
}
