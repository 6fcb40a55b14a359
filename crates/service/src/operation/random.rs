//! Random bytes.

use quorate_core::access::Access;
use quorate_core::action::Action;
use quorate_core::request::{InvalidRequest, Part, RANDOM_LEN_MAX};
use quorate_crypto::SecretBytes;

use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// Makes `len` random bytes, 1 to [`RANDOM_LEN_MAX`].
pub struct GenerateRandom {
    /// How many.
    pub len: u32,
}

impl Use for GenerateRandom {
    type Facts = ();
    type Answer = SecretBytes;

    fn action(&self) -> Action {
        Action::Random
    }

    fn check(&self, _: &Tools) -> Result<(), Error> {
        let len = self.len as usize;
        if (1..=RANDOM_LEN_MAX).contains(&len) {
            return Ok(());
        }
        let why = format!("1 to {RANDOM_LEN_MAX} random bytes can be had at once, not {len}");
        Err(InvalidRequest::wrong(Part::Len, why).into())
    }

    /// It needs no facts but one: that the cluster is not sealed.
    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<(), F::Error> {
        at.namespace().map(drop)
    }

    fn act(&self, (): (), tools: &Tools) -> Result<SecretBytes, Error> {
        let mut random = SecretBytes::new(vec![0; self.len as usize]);
        tools.entropy.fill(&mut random);
        Ok(random)
    }
}
