//! Describe a key.

use std::sync::Arc;

use quorate_core::authorize::{ReadKeys, authorize};
use quorate_core::principal::Principal;
use quorate_core::record::KeyRecord;
use quorate_core::request::KeyHandle;
use tokio::time::Instant;

use super::Kms;
use super::usage::named_key;
use crate::error::Error;

impl Kms {
    /// What is known of `key`, its material apart.
    ///
    /// # Errors
    /// [`Error::Denied`]; the key is not found.
    pub async fn describe_key(
        &self,
        caller: &Principal,
        key: &KeyHandle,
        deadline: Instant,
    ) -> Result<Arc<KeyRecord>, Error> {
        authorize::<ReadKeys>(caller)?;
        self.with_facts(deadline, |source| named_key(source, key), Ok).await
    }
}
