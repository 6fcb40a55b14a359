//! The path of every use: a read-index round of its own, all facts at one index, judged there, then the work, and the answer
//! only while the round is fresh (key-log §1.8, §1.9). Nothing is written.

use std::sync::Arc;
use std::time::Duration;

use quorate_core::access::Access;
use quorate_core::action::Action;
use quorate_core::facts::Materials;
use quorate_core::id::Lineage;
use quorate_core::seam::Entropy;
use quorate_core::seeded::{self, Bug};
use quorate_crypto::material::Material;
use tokio::time::Instant;

use super::{Gathered, Kms};
use crate::call::Call;
use crate::error::Error;
use crate::records::barrier::Barrier;
use crate::view::{Gap, HotFacts};

/// How old a round may be when the answer goes out. After work that took longer, or where a machine slept, or a process was
/// stopped, a new round is taken and it is looked again; what happens after that last look can't be bounded by anybody.
const ROUND_AGE_MAX: Duration = Duration::from_secs(1);

/// Facts that uses gather from.
pub trait UseFacts: Materials<Material = Arc<Material>, Error: Told + From<Error>> {}
impl<F: Materials<Material = Arc<Material>, Error: Told + From<Error>>> UseFacts for F {}

/// Why facts could not be had, or a request is refused: which of both.
pub trait Told: Sized {
    /// The refusal of the request.
    ///
    /// # Errors
    /// Itself, when it says nothing about the request.
    fn refusal(self) -> Result<Error, Self>;
}

impl Told for Error {
    fn refusal(self) -> Result<Error, Self> {
        match self {
            Self::Unauthenticated(_) | Self::Denied(_) | Self::Refused(_) | Self::Invalid(_) => Ok(self),
            other => Err(other),
        }
    }
}

impl Told for Gap {
    fn refusal(self) -> Result<Error, Self> {
        match self {
            Self::Missing => Err(self),
            Self::Error(e) => e.refusal().map_err(Self::Error),
        }
    }
}

/// A request that uses what is there and changes nothing.
pub trait Use: Send + Sync + 'static {
    /// What it needs to know.
    type Facts: Gathered;
    /// What it answers.
    type Answer: Send + 'static;

    /// What the caller has to be allowed.
    fn action(&self) -> Action;
    /// Whether it could be meant at all, by itself.
    ///
    /// # Errors
    /// What is wrong with it.
    fn check(&self, _: &Tools) -> Result<(), Error> {
        Ok(())
    }
    /// Collects what it needs, at one index. It has to ask for something: an answer that nobody was asked for is none.
    ///
    /// # Errors
    /// The refusals of the verb; whatever keeps facts from being read.
    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error>;
    /// Whether the work takes so long that others must not wait behind it: a tenth of a millisecond, or more.
    fn is_slow(&self, _: &Self::Facts) -> bool {
        false
    }
    /// Whether slow work takes so long that other slow work must not wait behind it either: a tenth of a second, or more.
    fn takes_seconds(&self, _: &Self::Facts) -> bool {
        false
    }
    /// Does the work.
    ///
    /// # Errors
    /// What only the work shows to be wrong.
    fn act(&self, facts: Self::Facts, tools: &Tools) -> Result<Self::Answer, Error>;
    /// What may still be given out of an answer, by facts that were collected anew since.
    fn still(&self, _: Self::Facts, answer: Self::Answer) -> Self::Answer {
        answer
    }
}

/// What uses work with, besides facts.
pub struct Tools {
    /// Identity of the data.
    pub lineage: Lineage,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// Opens what the cluster has sealed for itself.
    pub(crate) barrier: Arc<Barrier>,
}

impl Kms {
    /// Answers a request that changes nothing.
    ///
    /// # Errors
    /// [`Error::Denied`] and those of the verb; [`Error::Sealed`], [`Error::Unavailable`] and [`Error::Damaged`].
    pub async fn perform<U: Use>(&self, call: &Call, request: U) -> Result<U::Answer, Error> {
        self.metered(call, request.action(), self.use_facts(call, request)).await
    }

    /// What uses work with.
    pub(super) fn tools(&self) -> Tools {
        let (barrier, entropy) = (self.records.barrier.clone(), self.records.world.entropy.clone());
        Tools { lineage: barrier.lineage(), entropy, barrier }
    }

    pub(super) async fn use_facts<U: Use>(&self, call: &Call, mut request: U) -> Result<U::Answer, Error> {
        let tools = self.tools();
        request.check(&tools)?;
        let mut began = self.records.world.boot_clock.now();
        // Seeded bug: the key is judged by the view at the request's arrival, the cluster's seal by that after the round.
        let early = if seeded::is(Bug::TwoViews) { self.collect(0, call, &request).ok() } else { None };
        let index = self.records.read_index(call.deadline).await?;
        let facts = self.collect(index, call, &request);
        let facts = match early {
            Some(early) if !matches!(facts, Err(Error::Sealed)) => early,
            _ => facts?,
        };
        let facts = self.counted(call, facts).await?;
        let mut answer = if request.is_slow(&facts) {
            let workers = self.records.workers.of(request.takes_seconds(&facts));
            let work = move || {
                let answer = request.act(facts, &tools);
                (request, answer)
            };
            let (back, answer) = workers.run(call.deadline, work).await?;
            request = back;
            answer?
        } else {
            request.act(facts, &tools)?
        };
        loop {
            self.records.check_open()?;
            let now = self.records.world.boot_clock.now();
            if now.saturating_sub(began) <= ROUND_AGE_MAX {
                return Ok(answer);
            }
            if Instant::now() >= call.deadline {
                return Err(Error::Unavailable("no fresh confirmation of the state was had in time".into()));
            }
            // What was worked out meanwhile is given out if it still may be.
            began = now;
            let index = self.records.read_index(call.deadline).await?;
            answer = request.still(self.collect(index, call, &request)?, answer);
        }
    }

    /// All facts at one index, which is at or past `index`. Nothing in here awaits.
    fn collect<U: Use>(&self, index: u64, call: &Call, request: &U) -> Result<U::Facts, Error> {
        let keyring = self.records.barrier.keyring()?;
        let guard = self.hot.read();
        if guard.index() >= index {
            let facts = HotFacts::new(&guard, &keyring, self.records.now(), self.records.dev);
            match self.hot_facts(call, request, facts) {
                Ok(facts) => return Ok(facts),
                Err(Gap::Error(e)) => return Err(e),
                Err(Gap::Missing) => {}
            }
        }
        drop(guard);

        let view = self.records.view()?;
        if view.applied() < index {
            return Err(Error::Internal("the state is behind the read index"));
        }
        let mut engine = self.records.facts(&view)?;
        let facts = self.judged(call, request, &mut engine);
        // Who may do nothing fills no memory; who was shut out is refused from there the next time.
        if !matches!(facts, Err(Error::Denied(_))) {
            self.hot.offer(view.applied(), engine.into_read());
        }
        facts
    }

    fn hot_facts<U: Use>(&self, call: &Call, request: &U, mut hot: HotFacts<'_>) -> Result<U::Facts, Gap> {
        if hot.revision(&self.records.seal_key)? != self.records.seal_epoch {
            return Err(Error::Sealed.into());
        }
        self.judged(call, request, &mut hot)
    }

    /// What the request needs of these facts, as far as the caller may.
    fn judged<U: Use, F: UseFacts>(&self, call: &Call, request: &U, facts: &mut F) -> Result<U::Facts, F::Error> {
        let mut at = Access::admit(facts, &*self.policies, &call.caller, request.action())?;
        let gathered = request.gather(&mut at)?;
        if at.covers(&[]) { Ok(gathered) } else { Err(Error::Internal("a use asked for nothing").into()) }
    }
}
