//! The path of every change: read index (but for some creates), one view, decide, encrypt, propose; after a conflict again
//! (key-log §1.7).

use std::time::Duration;

use quorate_core::batch::{Expect, Outcome};
use quorate_core::decide::{Change, Write};
use quorate_core::facts::Basis;
use quorate_core::record_key::RecordKey;
use quorate_crypto::SecretBytes;
use quorate_replica::ProposeError;
use tokio::time::Instant;

use super::barrier::Barrier;
use super::facts::EngineFacts;
use super::locks::Held;
use super::{Records, Secrets};
use crate::error::Error;

/// How often a change is proposed before the caller is told that others keep interfering.
const ATTEMPTS_MAX: u32 = 8;

/// Cluster time moves every few seconds; a view that is further behind is not of now.
const LAG_MS_MAX: u64 = 30_000;

/// What a decision begins with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// A read-index round: its view has everything that was acknowledged before.
    Round,
    /// What is applied here.
    View,
}

/// A decision, ready to be made into a batch.
struct Decided<A> {
    /// Of the view.
    index: u64,
    answer: A,
    writes: Vec<Write>,
    expects: Vec<Expect>,
    /// The secrets of records that keep theirs, in the order of the writes.
    kept: Vec<SecretBytes>,
    /// The records it changes, which others may want to change too.
    contended: Vec<RecordKey>,
    stamp_ms: u64,
}

/// A change that is applied, or an answer that needed none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Done<A> {
    /// The index of its batch; of the view, when nothing had to be written.
    pub index: u64,
    /// What the decision answered.
    pub answer: A,
}

impl Records {
    /// Decides by `decide` and gets the change applied. A decision without writes is answered from its view. `secrets` are
    /// those that it comes with; what its slots ask for besides is made once, before anybody is kept waiting.
    ///
    /// # Errors
    /// What `decide` refuses; [`Error::Contended`] after 8 conflicts; [`Error::UnknownOutcome`] when the deadline
    /// passes after the change was sent; [`Error::Unavailable`] and [`Error::Sealed`], with nothing changed.
    pub async fn change<A>(
        &self,
        deadline: Instant,
        secrets: Secrets<'_>,
        decide: impl Fn(&mut EngineFacts<'_>) -> Result<Change<A>, Error>,
    ) -> Result<Done<A>, Error> {
        self.change_from(Start::Round, deadline, secrets, decide).await
    }

    /// The same for what makes things whose ids follow from a token: no round before the first decision, since what it has read
    /// is checked where it is applied. A refusal, or an answer without writes, takes a round and is decided again. (Without a
    /// token there has to be a round: a node that is cut off would learn too late that it is, when nobody can tell any more
    /// whether its change was taken.)
    ///
    /// # Errors
    /// As [`Self::change`].
    pub async fn create<A>(
        &self,
        deadline: Instant,
        decide: impl Fn(&mut EngineFacts<'_>) -> Result<Change<A>, Error>,
    ) -> Result<Done<A>, Error> {
        // Without a majority the round tells so, and soon; a batch that is under way would wait for its deadline.
        let start = if self.replica.quorum().is_present() { Start::View } else { Start::Round };
        self.change_from(start, deadline, Secrets::default(), decide).await
    }

    async fn change_from<A>(
        &self,
        mut start: Start,
        deadline: Instant,
        mut secrets: Secrets<'_>,
        decide: impl Fn(&mut EngineFacts<'_>) -> Result<Change<A>, Error>,
    ) -> Result<Done<A>, Error> {
        let mut held: Option<Held> = None;
        let mut conflicts = 0;
        loop {
            if start == Start::Round {
                self.read_index(deadline).await?;
            }
            let decided = match self.decide(start, &decide) {
                Ok(Some(decided)) if start == Start::Round || !decided.writes.is_empty() => decided,
                Err(e) if start == Start::Round => return Err(e),
                _ => {
                    start = Start::Round;
                    continue;
                }
            };
            if decided.writes.is_empty() {
                return Ok(Done { index: decided.index, answer: decided.answer });
            }
            secrets.prepare(&decided.writes, deadline, &self.workers, &self.world.entropy).await?;
            if !held.as_ref().is_some_and(|held| held.covers(&decided.contended)) {
                drop(held.take());
                let lock = self.locks.lock(decided.contended.clone(), deadline).await;
                let lock = lock.ok_or_else(|| Error::Unavailable("many changes of the same are under way".into()))?;
                let waited = lock.waited();
                held = Some(lock);
                if waited {
                    // Whoever had it may have changed what was read.
                    continue;
                }
            }
            if let Some(answer) = self.propose(decided, &secrets, deadline).await? {
                return Ok(answer);
            }
            start = Start::Round;
            conflicts += 1;
            if conflicts == ATTEMPTS_MAX {
                return Err(Error::Contended { attempts: ATTEMPTS_MAX });
            }
            self.pause(conflicts, deadline).await;
        }
    }

    /// One decision on one view; nothing in here awaits. `None`: only a view of a round will do, since the time of what is
    /// applied here is not about that of the clock, and tokens and dates are judged by it.
    fn decide<A>(
        &self,
        start: Start,
        decide: impl Fn(&mut EngineFacts<'_>) -> Result<Change<A>, Error>,
    ) -> Result<Option<Decided<A>>, Error> {
        let view = self.view()?;
        let mut facts = self.facts(&view)?;
        let time = facts.time();
        if start == Start::View && time.local_ms.abs_diff(time.cluster_ms) > LAG_MS_MAX {
            return Ok(None);
        }
        let Change { writes, answer } = decide(&mut facts)?;
        let (mut contended, mut kept) = (Vec::new(), Vec::new());
        for write in &writes {
            let key = Barrier::key_of(facts.keyring(), &write.name());
            match write {
                Write::Create(_) | Write::CreateWith(..) => facts.expect_absence(key)?,
                Write::Update(_) | Write::UpdateWith(..) | Write::Delete(_) => contended.push(key),
                Write::UpdateKeeping(record) => {
                    kept.push(facts.secret(&record.name())?);
                    contended.push(key);
                }
            }
        }
        let (index, expects, stamp_ms) = (view.applied(), facts.into_expects(), time.stamp_ms());
        Ok(Some(Decided { index, answer, writes, expects, kept, contended, stamp_ms }))
    }

    /// Proposes the batch; `None` after a conflict, once this node has applied as far as where it was found.
    async fn propose<A>(
        &self,
        decided: Decided<A>,
        secrets: &Secrets<'_>,
        deadline: Instant,
    ) -> Result<Option<Done<A>>, Error> {
        let seq = self.replica.open_seq(deadline).await.map_err(not_proposed)?;
        let Decided { answer, writes, expects, kept, stamp_ms, .. } = decided;
        let secrets = secrets.of(&writes, &kept)?;
        let batch = self.barrier.batch(self.replica.level(), seq.id(), stamp_ms, expects, &writes, &secrets)?;
        match self.replica.propose(batch.into(), deadline).await.map_err(not_proposed)? {
            Outcome::Applied(index) => Ok(Some(Done { index, answer })),
            Outcome::Conflict { .. } => Ok(None),
            Outcome::Fenced => {
                Err(Error::Unavailable("this node was removed, or a newer start of it exists; ask another".into()))
            }
            Outcome::TooOld => Err(Error::UnknownOutcome),
            Outcome::Malformed => Err(Error::Internal("a batch was refused as malformed")),
        }
    }

    /// A random part of 2^n milliseconds, within the deadline.
    async fn pause(&self, conflicts: u32, deadline: Instant) {
        let mut random = [0; 8];
        self.world.entropy.fill(&mut random);
        let span_us = 1000u64 << conflicts.min(8);
        let until = Instant::now() + Duration::from_micros(u64::from_be_bytes(random) % span_us);
        tokio::time::sleep_until(until.min(deadline)).await;
    }
}

fn not_proposed(e: ProposeError) -> Error {
    match e {
        ProposeError::Unknown(_) => Error::UnknownOutcome,
        ProposeError::NotAccepted(why) => Error::Unavailable(why),
        ProposeError::NoSpace(why) => Error::NoSpace(why),
    }
}
