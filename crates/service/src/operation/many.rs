//! Many uses with one request: one round and one view, for callers with thousands of small values. Each part is judged, and
//! succeeds or fails, by itself; only where none can be done the request as a whole is refused.

use std::sync::OnceLock;

use quorate_core::access::Access;
use quorate_core::action::Action;
use quorate_core::request::{InvalidRequest, MANY_MAX, Part};

use crate::desk::{Told, Tools, Use, UseFacts};
use crate::error::Error;

/// Several requests of one kind.
pub struct Many<U> {
    parts: Vec<U>,
    /// What is wrong with each by itself, once that was looked at; such a part is judged by nothing else, as it would be alone.
    wrong: OnceLock<Vec<Option<Error>>>,
}

impl<U> Many<U> {
    /// Of these.
    ///
    /// # Errors
    /// When there are none, or more than [`MANY_MAX`].
    pub fn new(parts: Vec<U>) -> Result<Self, InvalidRequest> {
        if (1..=MANY_MAX).contains(&parts.len()) {
            return Ok(Self { parts, wrong: OnceLock::new() });
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

    fn check(&self, tools: &Tools) -> Result<(), Error> {
        self.wrong.get_or_init(|| self.parts.iter().map(|part| part.check(tools).err()).collect());
        Ok(())
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        let mut all = Vec::with_capacity(self.parts.len());
        let wrong = self.wrong.get().map_or(&[][..], Vec::as_slice);
        for (n, part) in self.parts.iter().enumerate() {
            all.push(match wrong.get(n) {
                Some(Some(wrong)) => Err(wrong.clone()),
                // What keeps facts from being read concerns all parts.
                _ => match part.gather(at) {
                    Ok(facts) => Ok(facts),
                    Err(e) => Err(e.refusal()?),
                },
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

    /// Some milliseconds for each of hundreds, or one of them that takes so long by itself.
    fn takes_seconds(&self, facts: &Self::Facts) -> bool {
        let slow = |(part, facts): &(&U, &Result<U::Facts, Error>)| facts.as_ref().is_ok_and(|f| part.is_slow(f));
        let parts = || self.parts.iter().zip(facts);
        parts().filter(slow).count() > 64
            || parts().any(|(part, facts)| facts.as_ref().is_ok_and(|f| part.takes_seconds(f)))
    }

    fn act(&self, facts: Self::Facts, tools: &Tools) -> Result<Self::Answer, Error> {
        let one = |(part, facts): (&U, Result<U::Facts, Error>)| part.act(facts?, tools);
        Ok(self.parts.iter().zip(facts).map(one).collect())
    }

    /// Each part by itself.
    fn still(&self, facts: Self::Facts, answer: Self::Answer) -> Self::Answer {
        answer.into_iter().zip(facts).map(|(done, facts)| facts.and(done)).collect()
    }
}
