//! The read gate (key-log §3): many waiters share one read-index round, and none shares a round that began before it.
//!
//! Waiters join the *next* round. At most two rounds fly; a new one starts when a waiter exists and fewer fly. After
//! 250 ms a round is given up and its waiters join a new one. An index once had is waited for on our own applied watch.
//! Where it comes from is the [`Source`]'s ([`crate::confirm`]).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_core::seeded::{self, Bug};
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio::time::Instant;

use crate::error::ReadError;
use crate::quorum::Quorum;
use crate::shared::Shared;

/// How long a round may take.
pub(crate) const ROUND_LIMIT: Duration = Duration::from_millis(250);
/// Rounds in flight.
const ROUNDS_MAX: usize = 2;
/// How often the first waiter of a round lets everything else on its runtime run before the round may start: whatever has
/// arrived by then shares it. Costs an idle node some microseconds, no timer, and a busy one nothing.
const GATHERINGS: usize = 2;
/// Pause after a round that failed at once, so that a cluster without a leader is not asked in a hot loop.
const PAUSE: Duration = Duration::from_millis(20);

type Waiter = oneshot::Sender<Delivery>;
type Answer = Result<u64, ReadError>;

/// A round's answer for one waiter, which hands it on to the others when it drops this: they then wake up on the runtime
/// they wait on, at one go, instead of one by one from another.
struct Delivery {
    answer: Answer,
    others: Vec<Waiter>,
}

impl Drop for Delivery {
    fn drop(&mut self) {
        for waiter in self.others.drain(..) {
            let _ = waiter.send(Delivery { answer: self.answer.clone(), others: Vec::new() });
        }
    }
}

/// To all of them.
fn hand_out(answer: Answer, mut waiters: Vec<Waiter>) {
    if let Some(first) = waiters.pop() {
        // Nobody there any more: then it is dropped here, with the same effect.
        let _ = first.send(Delivery { answer, others: waiters });
    }
}

/// Who shares the next round.
#[derive(Default)]
struct Waiting {
    waiters: Vec<Waiter>,
    /// Whether it may start.
    gathered: bool,
}

/// Where reads wait for their round.
#[derive(Default)]
pub(crate) struct ReadGate {
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// Rounds begun.
    rounds: AtomicU64,
    /// Waiters that shared them.
    shared: AtomicU64,
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
        let first = {
            let mut waiting = self.waiting();
            waiting.waiters.push(tx);
            waiting.waiters.len() == 1
        };
        if first {
            let _start = Start(self);
            for _ in 0..GATHERINGS {
                tokio::task::yield_now().await;
            }
        }
        match tokio::time::timeout_at(deadline, rx).await {
            Ok(Ok(delivery)) => delivery.answer.clone(),
            Ok(Err(_)) => Err(ReadError::Unavailable("this node is stopping".into())),
            Err(_) => {
                let why = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
                Err(ReadError::Unavailable(if why.is_empty() { "the deadline passed".into() } else { why }))
            }
        }
    }

    /// Rounds begun, and waiters that shared them, since the start.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.rounds.load(Ordering::Relaxed), self.shared.load(Ordering::Relaxed))
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those who share the round that starts now; nobody while they are still gathering.
    fn take(&self) -> Vec<Waiter> {
        let mut waiting = self.waiting();
        if !waiting.gathered {
            return Vec::new();
        }
        let mut taken = std::mem::take(&mut *waiting).waiters;
        taken.retain(|w| !w.is_closed());
        taken
    }

    /// The next round may start.
    fn start(&self) {
        self.waiting().gathered = true;
        self.wake.notify_one();
    }

    /// Waiters of a failed round: they arrived before any round that has yet to start.
    fn give_back(&self, waiters: Vec<Waiter>) {
        self.waiting().waiters.extend(waiters);
        self.start();
    }
}

/// Has a round started when dropped, for whoever waits then.
struct Start<'a>(&'a ReadGate);

impl Drop for Start<'_> {
    fn drop(&mut self) {
        self.0.start();
    }
}

/// Where a round gets its index.
pub(crate) trait Source: Send + Sync + 'static {
    /// An index that was committed when this call began, or why there is none. It is given up after [`ROUND_LIMIT`].
    fn ask(&self) -> impl Future<Output = Result<u64, String>> + Send;
    /// Returns when another leader is known than now, who may do better than the one just asked, and at `until` at the latest.
    fn another_leader(&self, until: Instant) -> impl Future<Output = ()> + Send;
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
            let mut waiters = gate.take();
            if waiters.is_empty() {
                break;
            }
            gate.rounds.fetch_add(1, Ordering::Relaxed);
            gate.shared.fetch_add(waiters.len() as u64, Ordering::Relaxed);
            let (gate, source) = (gate.clone(), source.clone());
            tokio::spawn(async move {
                let started = Instant::now();
                match round(&*source).await {
                    Ok(index) => {
                        // Seeded bug: whoever came while the round flew gets its answer, which may be older than they are.
                        if seeded::is(Bug::JoinSentRound) {
                            waiters.append(&mut gate.waiting().waiters);
                        }
                        drop(flight);
                        deliver(&*source, index, waiters).await;
                    }
                    Err(_) if source.shared().problem().is_some() => deliver(&*source, u64::MAX, waiters).await,
                    Err(why) => {
                        *gate.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = why;
                        source.another_leader(started + PAUSE).await;
                        drop(flight);
                        match source.shared().quorum() {
                            Quorum::Present => gate.give_back(waiters),
                            // Gone for longer than elections take: nobody waits for that.
                            lost => hand_out(Err(ReadError::NoMajority(lost)), waiters),
                        }
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
            return hand_out(Err(ReadError::Stopped(problem)), waiters);
        }
        let now = *applied.borrow_and_update();
        if now >= index {
            return hand_out(Ok(now), waiters);
        }
        if let Some(why) = source.left_behind(index) {
            return hand_out(Err(ReadError::Unavailable(why)), waiters);
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
async fn round(source: &impl Source) -> Result<u64, String> {
    if let Some(problem) = source.shared().problem() {
        return Err(problem.to_string());
    }
    match tokio::time::timeout(ROUND_LIMIT, source.ask()).await {
        Ok(result) => result,
        Err(_) => Err("the leader confirmed nothing in time".into()),
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::id::NodeId;
    use tokio::sync::mpsc;

    use super::*;
    use crate::error::Problem;
    use crate::handler::NoService;
    use crate::peer::members::Members;
    use crate::sequences::Sequences;

    type Answer = oneshot::Sender<Result<u64, String>>;

    /// Hands each round to the test, which answers when it likes.
    struct Scripted {
        rounds: mpsc::UnboundedSender<Answer>,
        leader: Notify,
        shared: Shared,
    }

    impl Source for Scripted {
        async fn ask(&self) -> Result<u64, String> {
            let (tx, rx) = oneshot::channel();
            self.rounds.send(tx).map_err(|e| e.to_string())?;
            rx.await.map_err(|e| e.to_string())?
        }
        async fn another_leader(&self, until: Instant) {
            let _ = tokio::time::timeout_at(until, self.leader.notified()).await;
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
        rounds: mpsc::UnboundedReceiver<Answer>,
    }

    fn rig() -> Rig {
        let (tx, rounds) = mpsc::unbounded_channel();
        let gate = Arc::new(ReadGate::default());
        let shared = Shared::new(Arc::new(NoService), Members::new(None), Sequences::new(NodeId(1), 1, &NoService));
        let source = Arc::new(Scripted { rounds: tx, leader: Notify::new(), shared });
        tokio::spawn(drive(gate.clone(), source.clone()));
        Rig { gate, source, rounds }
    }

    impl Rig {
        fn read(&self) -> tokio::task::JoinHandle<Result<u64, ReadError>> {
            let gate = self.gate.clone();
            tokio::spawn(async move { gate.read_index(Instant::now() + Duration::from_secs(5)).await })
        }

        async fn round(&mut self) -> Answer {
            self.rounds.recv().await.expect("a round")
        }

        /// Lets everything that can run do so.
        async fn run_ready(&self) {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiter_never_joins_a_round_that_began_before_it() {
        let mut rig = rig();
        let first = rig.read();
        let answer = rig.round().await;
        // Arrives while that round is on its way: needs another one.
        let second = rig.read();
        let later = rig.round().await;
        answer.send(Ok(0)).expect("awaited");
        assert_eq!(first.await.expect("ran"), Ok(0));
        rig.run_ready().await;
        assert!(!second.is_finished(), "it was given the answer of a round that began before it");
        later.send(Ok(0)).expect("awaited");
        assert_eq!(second.await.expect("ran"), Ok(0));
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_two_rounds_fly_and_all_who_wait_share_the_next() {
        let mut rig = rig();
        let mut readers = vec![rig.read()];
        let one = rig.round().await;
        readers.push(rig.read());
        let two = rig.round().await;
        readers.extend((0..100).map(|_| rig.read()));
        rig.run_ready().await;
        assert!(rig.rounds.try_recv().is_err(), "a third round started while two fly");
        one.send(Ok(0)).expect("awaited");
        let three = rig.round().await;
        two.send(Ok(0)).expect("awaited");
        three.send(Ok(0)).expect("awaited");
        for reader in readers {
            assert_eq!(reader.await.expect("ran"), Ok(0));
        }
        assert!(rig.rounds.try_recv().is_err(), "a hundred readers needed one round");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_while_the_first_gathers_shares_its_round() {
        let mut rig = rig();
        let readers: Vec<_> = (0..3).map(|_| rig.read()).collect();
        rig.round().await.send(Ok(4)).expect("awaited");
        rig.source.shared.publish_applied(4, 0);
        for reader in readers {
            assert_eq!(reader.await.expect("ran"), Ok(4));
        }
        assert_eq!(rig.gate.counts(), (1, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_first_waiter_that_leaves_holds_up_nobody() {
        let mut rig = rig();
        let mut first = Box::pin(rig.gate.read_index(Instant::now() + Duration::from_secs(5)));
        assert!(futures::poll!(&mut first).is_pending());
        let second = rig.read();
        rig.run_ready().await;
        assert!(rig.rounds.try_recv().is_err(), "it is still gathering");
        drop(first);
        rig.round().await.send(Ok(0)).expect("awaited");
        assert_eq!(second.await.expect("ran"), Ok(0));
    }

    #[tokio::test]
    async fn an_answer_reaches_all_whoever_of_them_has_left_before_or_after_it() {
        for gone_before in [false, true] {
            let (waiters, mut receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| oneshot::channel()).unzip();
            let mut first = receivers.pop();
            if gone_before {
                first = None;
            }
            hand_out(Ok(7), waiters);
            drop(first);
            for receiver in receivers {
                assert_eq!(receiver.await.expect("handed on").answer, Ok(7));
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_without_an_answer_is_replaced_by_a_new_one() {
        let mut rig = rig();
        let reader = rig.read();
        let began = Instant::now();
        let unanswered = rig.round().await;
        let answer = rig.round().await;
        assert!(began.elapsed() >= ROUND_LIMIT);
        assert!(unanswered.send(Ok(7)).is_err(), "a late answer to the old round goes nowhere");
        answer.send(Ok(0)).expect("awaited");
        assert_eq!(reader.await.expect("ran"), Ok(0));
    }

    #[tokio::test(start_paused = true)]
    async fn an_index_is_answered_only_once_it_is_applied_here() {
        let mut rig = rig();
        let reader = rig.read();
        let answer = rig.round().await;
        answer.send(Ok(8)).expect("awaited");
        rig.source.shared.publish_applied(7, 0);
        rig.run_ready().await;
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
                let answer = rig.round().await;
                answer.send(Err("no leader is known".into())).expect("awaited");
                rounds += 1;
            }
        };
        let result = tokio::select! { biased; result = reader => result.expect("ran"), () = failing => unreachable!() };
        assert_eq!(result, Err(ReadError::Unavailable("no leader is known".into())));
        assert!((100..=260).contains(&rounds), "5 s at one round in 20 ms: {rounds}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_majority_a_failed_round_is_the_answer() {
        let mut rig = rig();
        let lost = Quorum::Missing { reachable: 1, voters: 3, missing: vec!["n2".into(), "n3".into()] };
        rig.source.shared.set_quorum(lost.clone());
        let began = Instant::now();
        let reader = rig.read();
        rig.round().await.send(Err("no leader is known".into())).expect("awaited");
        assert_eq!(reader.await.expect("ran"), Err(ReadError::NoMajority(lost)));
        assert!(began.elapsed() <= PAUSE, "{:?}", began.elapsed());
        // A majority that is back answers, whatever was known of it a moment ago.
        let reader = rig.read();
        rig.round().await.send(Ok(0)).expect("awaited");
        assert_eq!(reader.await.expect("ran"), Ok(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_leader_is_asked_at_once() {
        let mut rig = rig();
        let reader = rig.read();
        let answer = rig.round().await;
        answer.send(Err("the leader is gone".into())).expect("awaited");
        rig.run_ready().await;
        assert!(rig.rounds.try_recv().is_err(), "asked in a hot loop");
        let elected = Instant::now();
        rig.source.leader.notify_one();
        let answer = rig.round().await;
        assert_eq!(elected.elapsed(), Duration::ZERO, "the pause was waited out");
        answer.send(Ok(0)).expect("awaited");
        assert_eq!(reader.await.expect("ran"), Ok(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_stops_serving_answers_no_waiter() {
        let mut rig = rig();
        let reader = rig.read();
        let answer = rig.round().await;
        answer.send(Ok(5)).expect("awaited");
        rig.run_ready().await;
        rig.source.shared.set_problem(Problem::BadMac { index: 5 });
        rig.source.shared.publish_applied(5, 0);
        assert_eq!(reader.await.expect("ran"), Err(ReadError::Stopped(Problem::BadMac { index: 5 })));
    }
}
