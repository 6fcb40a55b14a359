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
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::error::ReadError;
use crate::node::Node;
use crate::peer::bounded;
use crate::peer::pb;

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

/// Starts rounds for as long as the replica runs.
pub(crate) async fn drive(node: Arc<Node>) {
    let flights = Arc::new(tokio::sync::Semaphore::new(ROUNDS_MAX));
    loop {
        node.gate.wake.notified().await;
        loop {
            // The flight first, the waiters then: whoever arrives while both rounds fly joins the one that follows.
            let Ok(flight) = flights.clone().acquire_owned().await else { return };
            let waiters = node.gate.take();
            if waiters.is_empty() {
                break;
            }
            let node = node.clone();
            tokio::spawn(async move {
                let started = Instant::now();
                let result = round(&node).await;
                match result {
                    Ok(index) => {
                        drop(flight);
                        deliver(&node, index, waiters).await;
                    }
                    Err(_) if node.shared.problem().is_some() => deliver(&node, u64::MAX, waiters).await,
                    Err(why) => {
                        *node.gate.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = why;
                        tokio::time::sleep_until(started + PAUSE).await;
                        drop(flight);
                        node.gate.give_back(waiters);
                    }
                }
            });
        }
    }
}

/// Waits for our own apply, then lets all waiters of the round go.
async fn deliver(node: &Node, index: u64, mut waiters: Vec<Waiter>) {
    let mut applied = node.shared.applied();
    let mut problem = node.shared.watch_problem();
    loop {
        if let Some(problem) = node.shared.problem() {
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

/// One round: an index the leader confirmed with a quorum after this began, or why there is none.
async fn round(node: &Node) -> Result<u64, String> {
    if let Some(problem) = node.shared.problem() {
        return Err(problem.to_string());
    }
    let id = node.gate.round.fetch_add(1, Ordering::Relaxed) + 1;
    match tokio::time::timeout(ROUND_LIMIT, ask(node, id)).await {
        Ok(result) => result,
        Err(_) => Err("the leader confirmed nothing in time".into()),
    }
}

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
