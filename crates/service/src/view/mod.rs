//! What an unsealed node keeps decrypted in memory, and how that follows the log.

mod facts;
mod hot;
mod keyring_watch;

pub use self::facts::{Gap, HotFacts};
pub use self::hot::HotView;
pub use self::keyring_watch::{KeyringWatch, Stands};
