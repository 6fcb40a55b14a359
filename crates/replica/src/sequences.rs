//! Batch ids of this start (key-log §1.4), and what became of them: told by this node's own apply, and by nobody else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use quorate_core::batch::Outcome;
use quorate_core::id::{BatchId, NodeId};
use quorate_core::seam::Entropy;
use quorate_core::session::Session;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::error::ProposeError;

/// Slots of a session. No two numbers in use share one, so that a live origin never finds its slot taken.
const SLOTS: u64 = 4096;
/// Numbers begin below it, so that none is ever the last.
const FIRST_MAX: u64 = 1 << 62;

/// The sequence numbers of one start.
#[derive(Clone)]
pub(crate) struct Sequences(Arc<Inner>);

struct Inner {
    session: Session,
    state: Mutex<State>,
    closed: Notify,
}

struct State {
    next: u64,
    /// By slot: the number in use, and what became of it.
    open: BTreeMap<u64, (u64, watch::Sender<Option<Outcome>>)>,
}

impl Sequences {
    /// Numbers begin at random: those of a start whose number was given twice never meet.
    pub(crate) fn new(origin: NodeId, boot: u32, entropy: &dyn Entropy) -> Self {
        let (mut process, mut first) = ([0; 16], [0; 8]);
        entropy.fill(&mut process);
        entropy.fill(&mut first);
        Self(Arc::new(Inner {
            session: Session { origin, boot, process },
            state: Mutex::new(State { next: u64::from_be_bytes(first) % FIRST_MAX, open: BTreeMap::new() }),
            closed: Notify::new(),
        }))
    }

    /// The session they count in.
    pub(crate) fn session(&self) -> Session {
        self.0.session
    }

    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The next number whose slot is free: one that is in use for long holds up no others.
    fn try_open(&self) -> Option<OpenSeq> {
        self.with(|state| {
            if state.open.len() as u64 >= SLOTS {
                return None;
            }
            while state.open.contains_key(&(state.next % SLOTS)) {
                state.next += 1;
            }
            let seq = state.next;
            state.next += 1;
            state.open.insert(seq % SLOTS, (seq, watch::Sender::new(None)));
            Some(OpenSeq { sequences: self.clone(), seq })
        })
    }

    /// The next number; waits while all slots are in use.
    pub(crate) async fn open(&self, deadline: Instant) -> Result<OpenSeq, ProposeError> {
        loop {
            let closed = self.0.closed.notified();
            if let Some(open) = self.try_open() {
                return Ok(open);
            }
            if tokio::time::timeout_at(deadline, closed).await.is_err() {
                return Err(ProposeError::NotAccepted("this node has too many changes under way; try again".into()));
            }
        }
    }

    /// Where the outcome of a batch will be told; `None` when its number is not in use.
    pub(crate) fn outcome(&self, id: &BatchId) -> Option<watch::Receiver<Option<Outcome>>> {
        self.with(|state| {
            let (_, outcome) = state.open.get(&(id.seq % SLOTS)).filter(|(seq, _)| self.is_ours(id, *seq))?;
            Some(outcome.subscribe())
        })
    }

    /// Apply has met a batch. Only the first meeting counts: a later one is the same batch again.
    pub(crate) fn note_outcome(&self, id: &BatchId, outcome: &Outcome) {
        if id.origin != self.0.session.origin {
            return;
        }
        self.with(|state| {
            if let Some((_, told)) = state.open.get(&(id.seq % SLOTS)).filter(|(seq, _)| self.is_ours(id, *seq)) {
                told.send_if_modified(|now| {
                    let first = now.is_none();
                    if first {
                        *now = Some(outcome.clone());
                    }
                    first
                });
            }
        });
    }

    /// The batches whose outcome is still to come.
    pub(crate) fn awaiting_outcome(&self) -> Vec<BatchId> {
        let Session { origin, boot, .. } = self.0.session;
        let waiting = |(seq, told): &(u64, watch::Sender<Option<Outcome>>)| {
            told.borrow().is_none().then_some(BatchId { origin, boot, seq: *seq })
        };
        self.with(|state| state.open.values().filter_map(waiting).collect())
    }

    fn is_ours(&self, id: &BatchId, seq: u64) -> bool {
        let Session { origin, boot, .. } = self.0.session;
        *id == BatchId { origin, boot, seq }
    }
}

/// A batch id in use. Keep it until the proposal has its outcome; dropping it closes it.
pub struct OpenSeq {
    sequences: Sequences,
    seq: u64,
}

impl OpenSeq {
    /// The id to put into the batch.
    pub fn id(&self) -> BatchId {
        let Session { origin, boot, .. } = self.sequences.0.session;
        BatchId { origin, boot, seq: self.seq }
    }
}

impl Drop for OpenSeq {
    fn drop(&mut self) {
        self.sequences.with(|state| state.open.remove(&(self.seq % SLOTS)));
        self.sequences.0.closed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Numbers that begin where the test says.
    struct First(u64);
    impl Entropy for First {
        fn fill(&self, out: &mut [u8]) {
            match out.len() {
                8 => out.copy_from_slice(&self.0.to_be_bytes()),
                _ => out.fill(9),
            }
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_begin_at_random_and_a_long_one_holds_up_no_other() {
        let sequences = Sequences::new(NodeId(3), 7, &First(u64::MAX));
        let oldest = sequences.open(soon()).await.expect("room");
        assert_eq!(oldest.id(), BatchId { origin: NodeId(3), boot: 7, seq: FIRST_MAX - 1 });
        let mut slots = std::collections::BTreeSet::new();
        // Far beyond one round of slots: none of them is that of the oldest.
        for _ in 0..3 * SLOTS {
            let next = sequences.open(soon()).await.expect("room");
            assert_ne!(next.id().seq % SLOTS, oldest.id().seq % SLOTS);
            slots.insert(next.id().seq % SLOTS);
        }
        assert_eq!(slots.len() as u64, SLOTS - 1);
    }

    #[tokio::test(start_paused = true)]
    async fn all_slots_in_use_are_waited_for() {
        let sequences = Sequences::new(NodeId(3), 7, &First(5));
        let mut open = Vec::new();
        for _ in 0..SLOTS {
            open.push(sequences.open(soon()).await.expect("room"));
        }
        assert!(matches!(sequences.open(soon()).await, Err(ProposeError::NotAccepted(_))));
        let freed = open.swap_remove(17).id().seq;
        assert_eq!(sequences.open(soon()).await.expect("room").id().seq % SLOTS, freed % SLOTS);
    }

    #[tokio::test]
    async fn an_outcome_is_what_apply_met_first_under_exactly_that_id() {
        let sequences = Sequences::new(NodeId(3), 7, &First(5));
        let open = sequences.open(soon()).await.expect("room");
        let id = open.id();
        let told = sequences.outcome(&id).expect("in use");
        for other in
            [BatchId { origin: NodeId(4), ..id }, BatchId { boot: 8, ..id }, BatchId { seq: id.seq + SLOTS, ..id }]
        {
            sequences.note_outcome(&other, &Outcome::Fenced);
            assert!(sequences.outcome(&other).is_none());
        }
        assert_eq!((told.borrow().clone(), sequences.awaiting_outcome()), (None, vec![id]));
        sequences.note_outcome(&id, &Outcome::Applied(9));
        sequences.note_outcome(&id, &Outcome::TooOld);
        assert_eq!((told.borrow().clone(), sequences.awaiting_outcome()), (Some(Outcome::Applied(9)), vec![]));
        drop(open);
        assert!(sequences.outcome(&id).is_none(), "not in use any more");
    }
}
