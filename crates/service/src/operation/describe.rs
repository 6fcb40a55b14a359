//! Describe a key.

use quorate_core::access::Access;
use quorate_core::action::Action;
use quorate_core::facts::Of;
use quorate_core::record::KeyRecord;
use quorate_core::request::KeyHandle;
use quorate_core::views::KeyView;

use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// Tells what is known of `key`, its material apart.
///
/// Refused: the key is not found.
pub struct Describe {
    /// The key.
    pub key: KeyHandle,
}

impl Use for Describe {
    type Facts = Of<KeyRecord>;
    type Answer = KeyView;

    fn action(&self) -> Action {
        Action::Describe
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Of<KeyRecord>, F::Error> {
        at.key(&self.key)
    }

    fn act(&self, key: Of<KeyRecord>, _: &Tools<'_>) -> Result<KeyView, Error> {
        Ok(KeyView::from(&*key))
    }
}
