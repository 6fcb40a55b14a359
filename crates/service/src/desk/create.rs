//! Create a key.

use quorate_core::authorize::{ManageKeys, authorize};
use quorate_core::decide::create::{Request, decide};
use quorate_core::principal::Principal;
use quorate_core::record::KeyRecord;
use tokio::time::Instant;

use super::Kms;
use crate::error::Error;
use crate::records::EngineFacts;

impl Kms {
    /// Creates a key, with an alias if wanted; with a token, a retry through any node answers the same key.
    ///
    /// # Errors
    /// [`Error::Denied`]; the alias is taken; the token was used for another request, or is too old; those of every change.
    pub async fn create_key(
        &self,
        caller: &Principal,
        request: &Request,
        deadline: Instant,
    ) -> Result<KeyRecord, Error> {
        let by = authorize::<ManageKeys>(caller)?;
        let decide = |facts: &mut EngineFacts<'_>, time| decide(facts, &by, request, time, &self.records.new_ids()?);
        Ok(self.records.create(request.token.is_some(), deadline, &self.materials(1), decide).await?.answer)
    }
}
