//! Random bytes.

use quorate_core::authorize::{UseKeys, authorize};
use quorate_core::principal::Principal;
use quorate_crypto::SecretBytes;
use tokio::time::Instant;

use super::Kms;
use crate::error::Error;

/// Most random bytes at once; also the longest data key.
pub const LEN_MAX: usize = 1024;

impl Kms {
    /// `len` random bytes.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::InvalidArgument`] unless `len` is 1 to [`LEN_MAX`].
    pub async fn generate_random(&self, caller: &Principal, len: u32, deadline: Instant) -> Result<SecretBytes, Error> {
        authorize::<UseKeys>(caller)?;
        let len = random_len("a random string", len)?;
        // It needs no facts but one: that the cluster is not sealed.
        self.with_facts(
            deadline,
            |_| Ok(()),
            |()| {
                let mut random = SecretBytes::new(vec![0; len]);
                self.world.entropy.fill(&mut random);
                Ok(random)
            },
        )
        .await
    }
}

/// Checks a wanted length.
pub(super) fn random_len(what: &str, len: u32) -> Result<usize, Error> {
    match len as usize {
        len @ 1..=LEN_MAX => Ok(len),
        len => Err(Error::InvalidArgument(format!("{what} has 1 to {LEN_MAX} bytes, not {len}"))),
    }
}
