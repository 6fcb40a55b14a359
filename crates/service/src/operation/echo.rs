//! The authenticated no-op: what a call costs before anything is done for it.

use quorate_core::authorize::{Echo, authorize};
use quorate_core::principal::Principal;

use crate::error::Error;

/// Checks that the caller may call it; goes through nothing else, sealed or not.
///
/// # Errors
/// [`Error::Denied`].
pub fn echo(caller: &Principal) -> Result<(), Error> {
    authorize::<Echo>(caller)?;
    Ok(())
}
