//! Many uses with one request: one round and one view, for callers with thousands of small values. Each part is judged, and
//! succeeds or fails, by itself; only where none can be done the request as a whole is refused.

use quorate_core::access::Access;
use quorate_core::action::Action;
use quorate_core::request::{InvalidRequest, MANY_MAX, Part};

use crate::desk::{Told, Tools, Use, UseFacts};
use crate::error::Error;

/// Several requests of one kind.
pub struct Many<U> {
    parts: Vec<U>,
}

impl<U> Many<U> {
    /// Of these.
    ///
    /// # Errors
    /// When there are none, or more than [`MANY_MAX`].
    pub fn new(parts: Vec<U>) -> Result<Self, InvalidRequest> {
        if (1..=MANY_MAX).contains(&parts.len()) {
            return Ok(Self { parts });
        }
        let why = format!("one request does this 1 to {MANY_MAX} times, not {}", parts.len());
        Err(InvalidRequest::wrong(Part::Count, why))
    }
}

impl<U: Use> Use for Many<U> {
    type Facts = Vec<Result<U::Facts, Error>>;
    type Answer = Vec<Result<U::Answer, Error>>;

    fn action(&self) -> Action {
        // There is at least one, and all are of one kind.
        self.parts[0].action()
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        let mut all = Vec::with_capacity(self.parts.len());
        for part in &self.parts {
            all.push(match part.gather(at) {
                Ok(facts) => Ok(facts),
                // What keeps facts from being read concerns all parts.
                Err(e) => Err(e.refusal()?),
            });
        }
        match all.iter().all(Result::is_err).then(|| all.remove(0)) {
            Some(Err(first)) => Err(first.into()),
            _ => Ok(all),
        }
    }

    fn is_slow(&self, facts: &Self::Facts) -> bool {
        self.parts.len() > 8
            || self.parts.iter().zip(facts).any(|(part, facts)| facts.as_ref().is_ok_and(|f| part.is_slow(f)))
    }

    fn act(&self, facts: Self::Facts, tools: &Tools) -> Result<Self::Answer, Error> {
        let one = |(part, facts): (&U, Result<U::Facts, Error>)| {
            part.check(tools)?;
            part.act(facts?, tools)
        };
        Ok(self.parts.iter().zip(facts).map(one).collect())
    }
}
