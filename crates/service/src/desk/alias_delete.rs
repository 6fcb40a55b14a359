//! Take a name off a key.

use quorate_core::authorize::{ManageKeys, authorize};
use quorate_core::decide::alias_delete::decide;
use quorate_core::principal::Principal;
use quorate_core::request::AliasName;
use tokio::time::Instant;

use super::Kms;
use crate::error::Error;

impl Kms {
    /// Makes `name` stand for nothing; the key stays.
    ///
    /// # Errors
    /// [`Error::Denied`]; there is no such alias; those of every change.
    pub async fn delete_alias(&self, caller: &Principal, name: &AliasName, deadline: Instant) -> Result<(), Error> {
        let by = authorize::<ManageKeys>(caller)?;
        self.change(deadline, |facts, _| decide(facts, &by, name)).await
    }
}
