//! What is done with keys and changes nothing, a file for each verb. Changes are `core::decide`'s.

mod data_key;
mod decrypt;
mod describe;
pub mod echo;
mod encrypt;
mod list_aliases;
mod list_keys;
mod random;

pub use self::data_key::{DataKey, GenerateDataKey};
pub use self::decrypt::{Decrypt, Plaintext};
pub use self::describe::Describe;
pub use self::encrypt::{Ciphertext, Encrypt};
pub use self::list_aliases::ListAliases;
pub use self::list_keys::ListKeys;
pub use self::random::GenerateRandom;

use crate::error::Error;

/// What is used was said to fit; `core`'s table and `crypto`'s families disagree.
const NOT_FITTING: Error = Error::Internal("material is not of the kind that its key's record says");
