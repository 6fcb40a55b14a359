//! Give a key another name.

use quorate_core::authorize::{ManageKeys, authorize};
use quorate_core::decide::alias_create::decide;
use quorate_core::principal::Principal;
use quorate_core::record::AliasRecord;
use quorate_core::request::{AliasName, KeyHandle};
use tokio::time::Instant;

use super::Kms;
use crate::error::Error;

impl Kms {
    /// Makes `name` stand for `key`.
    ///
    /// # Errors
    /// [`Error::Denied`]; the name is taken; the key is not found, waits for its destruction, or has too many aliases;
    /// those of every change.
    pub async fn create_alias(
        &self,
        caller: &Principal,
        name: &AliasName,
        key: &KeyHandle,
        deadline: Instant,
    ) -> Result<AliasRecord, Error> {
        let by = authorize::<ManageKeys>(caller)?;
        self.change(deadline, |facts, time| decide(facts, &by, name, key, time)).await
    }
}
