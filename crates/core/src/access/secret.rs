//! Secrets, which are read, and used for nothing else.

use super::{Access, Resource};
use crate::action::Action;
use crate::decide::{Refusal, refusal};
use crate::facts::{Facts, Materials, Of, Version};
use crate::id::KeyVersion;
use crate::lifecycle::{Cell, NoWay, Row, VersionState};
use crate::name::Class;
use crate::record::{KeyRecord, KeyVersionRecord};
use crate::request::KeyHandle;

/// A version of a secret, with its value, that may be read now.
pub struct Readable<M> {
    /// The secret.
    pub secret: Of<KeyRecord>,
    /// The version, and what is known of it.
    pub version: Of<KeyVersionRecord>,
    /// Its value.
    pub value: M,
}

impl<F: Facts> Access<'_, F> {
    /// The secret that `handle` names, if the caller may do it to that secret.
    ///
    /// # Errors
    /// [`Refusal::Denied`], [`Refusal::KeyNotFound`]; [`Refusal::WrongKind`], if it is a key.
    pub fn secret(&mut self, handle: &KeyHandle) -> Result<Of<KeyRecord>, F::Error> {
        self.of_class(Class::Secret, handle)
    }
}

impl<F: Materials> Access<'_, F> {
    /// A version of the secret that `handle` names, with its value; none named = the current one.
    ///
    /// # Errors
    /// Those of [`Self::secret`]; [`Refusal::NoVersion`]; it, or the version, is in a state in which it can't be read.
    pub fn reads(
        &mut self,
        handle: &KeyHandle,
        version: Option<KeyVersion>,
    ) -> Result<Readable<F::Material>, F::Error> {
        let secret = self.secret(handle)?;
        let (number, now) = (version.unwrap_or(secret.current), self.facts.time());
        let refused = |why| refusal(secret.id, number, why);
        Row::ReadSecret.goes(secret.standing(now)).map_err(refused)?;
        let Some(Version { head, material }) = self.facts.version(secret.id, number)? else {
            return Err(Refusal::NoVersion(secret.id, number).into());
        };
        let cell = Row::ReadSecret.goes_with(&head.life, secret.has_retired(number), now).map_err(refused)?;
        if cell == Cell::IfTrusted && !self.may(Action::ProcessCompromised, Resource::Key(&secret)) {
            return Err(refused(NoWay::Version(Row::ReadSecret, VersionState::Compromised)).into());
        }
        let value = material.ok_or_else(|| refused(NoWay::MaterialMissing))?;
        Ok(Readable { secret, version: head, value })
    }
}
