//! Spare a key its scheduled destruction.

use quorate_core::authorize::{ManageKeys, authorize};
use quorate_core::decide::cancel_deletion::decide;
use quorate_core::principal::Principal;
use quorate_core::record::KeyRecord;
use quorate_core::request::KeyHandle;
use tokio::time::Instant;

use super::Kms;
use crate::error::Error;

impl Kms {
    /// Cancels the destruction of `key`, which comes back disabled.
    ///
    /// # Errors
    /// [`Error::Denied`]; the key is not found, or not scheduled for deletion; those of every change.
    pub async fn cancel_key_deletion(
        &self,
        caller: &Principal,
        key: &KeyHandle,
        deadline: Instant,
    ) -> Result<KeyRecord, Error> {
        let by = authorize::<ManageKeys>(caller)?;
        self.change(deadline, |facts, _| decide(facts, &by, key)).await
    }
}
