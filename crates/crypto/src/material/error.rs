//! Why a key could not be used as was asked.

use quorate_core::key_spec::{Algorithm, Digest};
use quorate_core::request::{InvalidRequest, Part};
use thiserror::Error;

/// A use of a key failed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum UseError {
    /// A part of the request can't be what was meant.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// It does not open. One error for a wrong key, changed bytes, bad padding, wrong associated data.
    #[error("it does not open: it was changed, or it was made with another key, IV or associated data")]
    Tampered,
    /// The material is not for that. What fits was asked of `core`'s table before: to find another here is a fault.
    #[error("the key is not for that algorithm")]
    NotFitting,
    /// The cryptographic library failed: for want of memory or randomness.
    #[error("the cryptographic library failed")]
    Failed,
}

impl From<aws_lc_rs::error::Unspecified> for UseError {
    fn from(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Failed
    }
}

/// That part can't be what was meant.
pub(super) fn wrong(part: Part, why: impl Into<String>) -> UseError {
    InvalidRequest::wrong(part, why).into()
}

/// A digest that is given must be one.
pub(super) fn check_digest(digest: Digest, bytes: &[u8]) -> Result<(), UseError> {
    let (len, expected) = (bytes.len(), digest.output_len());
    if len == expected {
        return Ok(());
    }
    Err(wrong(Part::Digest, format!("a digest of {} has {expected} bytes, not {len}", digest.as_str())))
}

/// Only some signatures have a context.
pub(super) fn no_context(algorithm: Algorithm, context: &[u8]) -> Result<(), UseError> {
    if context.is_empty() {
        return Ok(());
    }
    Err(wrong(Part::Context, format!("{} takes no context", algorithm.as_str())))
}
