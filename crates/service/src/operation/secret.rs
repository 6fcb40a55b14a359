//! Read secrets, and tell of them.

use std::sync::Arc;

use quorate_core::access::{Access, Readable};
use quorate_core::action::Action;
use quorate_core::id::KeyVersion;
use quorate_core::request::KeyHandle;
use quorate_core::views::{KeyView, SecretView, VersionView};
use quorate_crypto::SecretBytes;
use quorate_crypto::material::Material;

use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// Gives out the value of a version of `secret`.
///
/// Refused: the secret or the version is not found, or in a state in which it can't be read; it is a key.
pub struct ReadSecret {
    /// The secret.
    pub secret: KeyHandle,
    /// The version; none = the current one.
    pub version: Option<KeyVersion>,
}

/// A value that was read; wiped when dropped.
pub struct SecretValue {
    /// What it is the value of.
    pub of: SecretView,
    /// The value.
    pub value: SecretBytes,
}

impl Use for ReadSecret {
    type Facts = (SecretView, Arc<Material>);
    type Answer = SecretValue;

    fn action(&self) -> Action {
        Action::ReadSecret
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        let Readable { secret, version, value } = at.reads(&self.secret, self.version)?;
        let version = VersionView::new(&secret, &version, at.time());
        Ok((SecretView { secret: KeyView::from(&*secret), version }, value))
    }

    fn act(&self, (of, value): Self::Facts, _: &Tools) -> Result<SecretValue, Error> {
        Ok(SecretValue { of, value: value.export() })
    }
}

/// Tells what is known of `secret` and its current version, the value apart.
///
/// Refused: the secret is not found; it is a key.
pub struct DescribeSecret {
    /// The secret.
    pub secret: KeyHandle,
}

impl Use for DescribeSecret {
    type Facts = SecretView;
    type Answer = SecretView;

    fn action(&self) -> Action {
        Action::Describe
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<SecretView, F::Error> {
        let secret = at.secret(&self.secret)?;
        let head = at.head(&secret, secret.current)?;
        let head = head.ok_or(Error::Internal("a secret's current version is not there"))?;
        let version = VersionView::new(&secret, &head, at.time());
        Ok(SecretView { secret: KeyView::from(&*secret), version })
    }

    fn act(&self, secret: SecretView, _: &Tools) -> Result<SecretView, Error> {
        Ok(secret)
    }
}
