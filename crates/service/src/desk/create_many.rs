//! Create many keys with one request.

use futures::stream::{StreamExt, TryStreamExt};
use quorate_core::authorize::{ManageKeys, authorize};
use quorate_core::decide::create_many::{Request, decide};
use quorate_core::principal::Principal;
use quorate_core::record::KeyRecord;
use tokio::time::Instant;

use super::Kms;
use crate::error::Error;

/// Batches of one request that are under way at the same time.
const AT_ONCE: usize = 4;

impl Kms {
    /// Creates as many keys as wanted, in as many batches as that takes; each batch happens wholly or not at all. After
    /// an error some may have happened: with a token, a retry through any node does only what is missing, and answers
    /// all keys.
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
        let parts = request.parts().map(|part| async move {
            self.change(deadline, |facts, time| decide(facts, by, &part, time, &*self.world.entropy)).await
        });
        futures::stream::iter(parts).buffered(AT_ONCE).try_concat().await
    }
}
