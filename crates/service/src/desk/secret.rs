//! Set a secret: a change that comes with the secret's value.

use quorate_core::action::Action;
use quorate_core::decide::SetSecret;
use quorate_core::id::KeyId;
use quorate_core::views::KeyView;
use quorate_crypto::SecretBytes;

use super::Kms;
use crate::call::Call;
use crate::error::Error;
use crate::records::Secrets;

impl Kms {
    /// Makes the secret that is wanted, or gives it another version, of that value.
    ///
    /// # Errors
    /// [`Error::Denied`]; [`Error::Invalid`] for a value that is none; those of [`SetSecret`], and of every change.
    pub async fn set_secret(&self, call: &Call, wanted: SetSecret, value: SecretBytes) -> Result<KeyView, Error> {
        self.metered(call, Action::AddVersion, self.put_secret(call, wanted, value)).await
    }

    async fn put_secret(&self, call: &Call, mut wanted: SetSecret, value: SecretBytes) -> Result<KeyView, Error> {
        SetSecret::check(value.len())?;
        if let Some(token) = wanted.token {
            // Of a value without a token nothing is kept but the value. (A token's bytes are those of an id that no key has.)
            wanted.value_tag = self.records.barrier.keyring()?.material_id(KeyId(token.0), &value);
        }
        self.change(call, &wanted, Secrets::given(&[value])).await
    }
}
