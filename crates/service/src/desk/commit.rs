//! The path of every change that a caller asks for: decided by `core`, which judges what it reads; takes effect by being applied.

use futures::stream::{StreamExt, TryStreamExt};
use quorate_core::access::Access;
use quorate_core::action::Action;
use quorate_core::decide::{CreateMany, CreatePart, Decide, Retry, decide};
use quorate_core::views::KeyView;

use super::Kms;
use crate::call::Call;
use crate::error::Error;
use crate::records::{EngineFacts, Secrets};

/// Batches of one request that are under way at the same time.
const AT_ONCE: usize = 4;

impl Kms {
    /// Does what `request` asks for, wholly or not at all. After [`Error::UnknownOutcome`] it may have happened: with a token, a
    /// retry through any node finds out.
    ///
    /// # Errors
    /// [`Error::Denied`] and those of the verb; those of every change (`crate::records`).
    pub async fn commit<D: Decide>(&self, call: &Call, request: &D) -> Result<D::Answer, Error> {
        self.metered(call, request.action(), self.change(call, request, Secrets::default())).await
    }

    /// Creates as many keys as wanted, in as many batches as that takes; each batch happens wholly or not at all. After
    /// [`Error::UnknownOutcome`] some may have happened: with a token, a retry through any node does only what is missing, and
    /// answers all keys.
    ///
    /// # Errors
    /// [`Error::Denied`]; the token was used for another request; those of every change.
    pub async fn create_many(&self, call: &Call, request: &CreateMany) -> Result<Vec<KeyView>, Error> {
        self.metered(call, Action::CreateMany, self.parts(call, request)).await
    }

    async fn parts(&self, call: &Call, request: &CreateMany) -> Result<Vec<KeyView>, Error> {
        let part = |part: CreatePart| async move { self.change(call, &part, Secrets::default()).await };
        let mut parts = request.parts();
        // The first tells whether the token stands for another request: then nothing of this one happens.
        let mut keys = match parts.next() {
            Some(first) => part(first).await?,
            None => Vec::new(),
        };
        let others = futures::stream::iter(parts.map(part)).buffered(AT_ONCE);
        // Some have been made by now, whatever became of the others; a retry with the token tells.
        keys.extend(others.try_concat().await.map_err(|_| Error::UnknownOutcome)?);
        Ok(keys)
    }

    /// As [`Self::commit`], with secrets that the request comes with, and within a call that is metered already.
    pub(super) async fn change<D: Decide>(
        &self,
        call: &Call,
        request: &D,
        secrets: Secrets<'_>,
    ) -> Result<D::Answer, Error> {
        let retry = request.retry();
        let decide = |facts: &mut EngineFacts<'_>| {
            let ids = self.records.new_ids()?;
            let mut at = Access::admit(facts, &*self.policies, &call.caller, request.action())?;
            let change = decide(request, &retry, &mut at, &ids)?;
            if at.covers(&change.writes) {
                Ok(change)
            } else {
                Err(Error::Internal("a decision writes what was not granted"))
            }
        };
        let done = match retry {
            Retry::Id(_) => self.records.create(call.deadline, decide).await?,
            Retry::Again | Retry::Filed(_) => self.records.change(call.deadline, secrets, decide).await?,
        };
        Ok(done.answer)
    }
}
