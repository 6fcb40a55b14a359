//! Schedule the destruction of a key.

use quorate_core::authorize::{ManageKeys, authorize};
use quorate_core::decide::schedule_deletion::decide;
use quorate_core::principal::Principal;
use quorate_core::record::KeyRecord;
use quorate_core::request::{DeletionWindow, KeyHandle};
use tokio::time::Instant;

use super::Kms;
use crate::error::Error;

impl Kms {
    /// Has `key` destroyed when `window` is over, by cluster time; from now on nobody uses it.
    ///
    /// # Errors
    /// [`Error::Denied`]; the key is not found, or scheduled already; those of every change.
    pub async fn schedule_key_deletion(
        &self,
        caller: &Principal,
        key: &KeyHandle,
        window: DeletionWindow,
        deadline: Instant,
    ) -> Result<KeyRecord, Error> {
        let by = authorize::<ManageKeys>(caller)?;
        self.change(deadline, |facts, time| decide(facts, &by, key, window, time)).await
    }
}
