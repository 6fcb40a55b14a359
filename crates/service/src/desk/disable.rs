//! Disable a key: once acknowledged, no use that begins later succeeds on any node (promise P2).

use quorate_core::authorize::{ManageKeys, authorize};
use quorate_core::decide::disable::decide;
use quorate_core::principal::Principal;
use quorate_core::record::KeyRecord;
use quorate_core::request::KeyHandle;
use tokio::time::Instant;

use super::Kms;
use crate::error::Error;

impl Kms {
    /// Disables `key`; the answer is the key as it is then.
    ///
    /// # Errors
    /// [`Error::Denied`]; the key is not found, or waits for its destruction; those of every change.
    pub async fn disable_key(
        &self,
        caller: &Principal,
        key: &KeyHandle,
        deadline: Instant,
    ) -> Result<KeyRecord, Error> {
        let by = authorize::<ManageKeys>(caller)?;
        self.change(deadline, |facts, _| decide(facts, &by, key)).await
    }
}
