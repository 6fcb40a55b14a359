//! Random bytes.

use quorate_core::authorize::{UseKeys, authorize};
use quorate_core::principal::Principal;
use quorate_crypto::SecretBytes;
use tokio::time::Instant;

use super::Kms;
use crate::error::Error;

pub use quorate_core::request::RANDOM_LEN_MAX as LEN_MAX;

impl Kms {
    /// `len` random bytes.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::InvalidArgument`] unless `len` is 1 to [`LEN_MAX`].
    pub async fn generate_random(&self, caller: &Principal, len: u32, deadline: Instant) -> Result<SecretBytes, Error> {
        authorize::<UseKeys>(caller)?;
        let len = len as usize;
        if len == 0 || len > LEN_MAX {
            return Err(Error::InvalidArgument(format!("1 to {LEN_MAX} random bytes can be had at once, not {len}")));
        }
        // It needs no facts but one: that the cluster is not sealed.
        self.with_facts(
            deadline,
            |_| Ok(()),
            |()| {
                let mut random = SecretBytes::new(vec![0; len]);
                self.records.world.entropy.fill(&mut random);
                Ok(random)
            },
        )
        .await
    }
}
