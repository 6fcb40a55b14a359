//! Create many keys with one request.

use futures::stream::{StreamExt, TryStreamExt};
use quorate_core::authorize::{ManageKeys, authorize};
use quorate_core::decide::create_many::{Part, Request, decide};
use quorate_core::principal::Principal;
use quorate_core::record::KeyRecord;
use tokio::time::Instant;

use super::Kms;
use crate::error::Error;
use crate::records::EngineFacts;

/// Batches of one request that are under way at the same time.
const AT_ONCE: usize = 4;

impl Kms {
    /// Creates as many keys as wanted, in as many batches as that takes; each batch happens wholly or not at all. After
    /// [`Error::UnknownOutcome`] some may have happened: with a token, a retry through any node does only what is missing, and
    /// answers all keys.
    ///
    /// # Errors
    /// [`Error::Denied`]; the token was used for another request; those of every change.
    pub async fn create_keys(
        &self,
        caller: &Principal,
        request: &Request,
        deadline: Instant,
    ) -> Result<Vec<KeyRecord>, Error> {
        let by = &authorize::<ManageKeys>(caller)?;
        let token = request.token.is_some();
        let do_part = |part: Part| async move {
            let decide = |facts: &mut EngineFacts<'_>, time| decide(facts, by, &part, time, &self.records.new_ids()?);
            Ok::<_, Error>(self.records.create(token, deadline, &self.materials(part.len()), decide).await?.answer)
        };
        let mut parts = request.parts();
        // The first tells whether the token stands for another request: then nothing of this one happens.
        let mut keys = match parts.next() {
            Some(first) => do_part(first).await?,
            None => Vec::new(),
        };
        let others = futures::stream::iter(parts.map(do_part)).buffered(AT_ONCE);
        // Some have been made by now, whatever became of the others; a retry with the token tells.
        keys.extend(others.try_concat().await.map_err(|_| Error::UnknownOutcome)?);
        Ok(keys)
    }
}
