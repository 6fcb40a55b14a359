//! Associated data: pairs that are bound to a ciphertext and not stored in it.

use quorate_crypto::material::{ContextHash, context_hash};

use crate::error::Error;

/// Most pairs.
pub const PAIRS_MAX: usize = 64;
/// Longest associated data, keys and values together, in bytes.
pub const LEN_MAX: usize = 8 * 1024;

/// Checked associated data, as its canonical hash: order does not matter, duplicates are refused.
pub struct AssociatedData(pub(super) ContextHash);

impl AssociatedData {
    /// Checks and hashes the pairs.
    ///
    /// # Errors
    /// Too many, too long, an empty or duplicate key.
    pub fn new<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, Error> {
        let mut checked = Vec::new();
        let mut len = 0usize;
        for (key, value) in pairs {
            if key.is_empty() {
                return Err(Error::InvalidArgument(
                    "associated data has a pair without a key; give each as key=value".into(),
                ));
            }
            len += key.len() + value.len();
            checked.push((key, value));
            if checked.len() > PAIRS_MAX {
                return Err(Error::InvalidArgument(format!(
                    "associated data has more than {PAIRS_MAX} pairs, which is the limit"
                )));
            }
            if len > LEN_MAX {
                return Err(Error::TooLarge { what: "the associated data", len, max: LEN_MAX, hint: "" });
            }
        }
        context_hash(checked).map(Self).map_err(|e| Error::InvalidArgument(e.to_string()))
    }
}
