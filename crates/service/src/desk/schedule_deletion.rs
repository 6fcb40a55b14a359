//! Schedule the destruction of a key.

use quorate_core::authorize::{ManageKeys, authorize};
use quorate_core::decide::schedule_deletion::decide;
use quorate_core::principal::Principal;
use quorate_core::record::KeyRecord;
use quorate_core::request::{DELETION_DAYS_MAX, DELETION_DAYS_MIN, DeletionWindow, KeyHandle};
use tokio::time::Instant;

use super::Kms;
use crate::error::Error;

impl Kms {
    /// Has `key` destroyed when `window` is over, by cluster time; from now on nobody uses it.
    ///
    /// # Errors
    /// [`Error::Denied`]; [`Error::InvalidArgument`] for a window that only a cluster marked for development takes; the key is
    /// not found, or scheduled already; those of every change.
    pub async fn schedule_key_deletion(
        &self,
        caller: &Principal,
        key: &KeyHandle,
        window: DeletionWindow,
        deadline: Instant,
    ) -> Result<KeyRecord, Error> {
        let by = authorize::<ManageKeys>(caller)?;
        if window.is_brief() && !self.dev {
            return Err(Error::InvalidArgument(format!(
                "a deletion waits for {DELETION_DAYS_MIN} to {DELETION_DAYS_MAX} days; only a cluster marked for development \
                 takes one that waits for seconds"
            )));
        }
        self.change(deadline, |facts, time| decide(facts, &by, key, window, time)).await
    }
}
