//! Rotate a key.

use quorate_core::authorize::{ManageKeys, authorize};
use quorate_core::decide::rotate::{Request, decide};
use quorate_core::principal::Principal;
use quorate_core::record::KeyRecord;
use tokio::time::Instant;

use super::Kms;
use crate::error::Error;
use crate::records::EngineFacts;

impl Kms {
    /// Gives the key a fresh version, which encrypts from now on; with a token, a retry does not rotate twice.
    ///
    /// # Errors
    /// [`Error::Denied`]; the key is not found, disabled, or waits for its destruction; the token was used for another
    /// request; those of every change.
    pub async fn rotate_key(
        &self,
        caller: &Principal,
        request: &Request,
        deadline: Instant,
    ) -> Result<KeyRecord, Error> {
        let by = authorize::<ManageKeys>(caller)?;
        let decide = |facts: &mut EngineFacts<'_>, time| decide(facts, &by, request, time);
        Ok(self.records.change(deadline, &self.materials(1), decide).await?.answer)
    }
}
