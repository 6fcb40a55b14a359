//! Wrap and unwrap keys that somebody else holds.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::access::{Access, Usable};
use quorate_core::action::Action;
use quorate_core::key_spec::{Algorithm, Usage};
use quorate_core::request::{InvalidRequest, PLAINTEXT_LEN_MAX, Part, WRAPPED_LEN_MAX};
use quorate_crypto::SecretBytes;
use quorate_crypto::material::Material;

use super::{By, Used, failed};
use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

fn check(part: Part, bytes: &Bytes, max: usize) -> Result<(), Error> {
    let len = bytes.len();
    if len > max { Err(InvalidRequest::TooLarge { part, len, max }.into()) } else { Ok(()) }
}

/// Wraps a key's bytes under a version of a key.
///
/// Refused: bytes that can't be wrapped so; the key is not found, is not for that, or not by that algorithm, or is in a state in
/// which it protects nothing.
pub struct Wrap {
    /// By which key.
    pub by: By,
    /// The bytes of the other key.
    pub key: Bytes,
}

/// A wrapped key.
pub struct Wrapped {
    /// Its bytes.
    pub wrapped: Vec<u8>,
    /// What wrapped it.
    pub used: Used,
}

impl Use for Wrap {
    type Facts = Usable<Arc<Material>>;
    type Answer = Wrapped;

    fn action(&self) -> Action {
        Action::Wrap
    }

    fn check(&self, _: &Tools) -> Result<(), Error> {
        check(Part::Plaintext, &self.key, PLAINTEXT_LEN_MAX)
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.usable(&self.by.key, self.by.want(Usage::Wrap))
    }

    fn act(&self, usable: Self::Facts, tools: &Tools) -> Result<Wrapped, Error> {
        only_key_wrap(usable.algorithm)?;
        let wrapped = usable.material.wrap(usable.algorithm, &self.key, &*tools.entropy).map_err(failed)?;
        Ok(Wrapped { wrapped, used: Used::of(&usable) })
    }
}

/// Unwraps what [`Wrap`] made.
///
/// Refused: as [`Wrap`]; after that only [`Error::Tampered`].
pub struct Unwrap {
    /// By which key.
    pub by: By,
    /// The wrapped key.
    pub wrapped: Bytes,
}

/// A key that was wrapped; wiped when dropped.
pub struct Unwrapped {
    /// Its bytes.
    pub key: SecretBytes,
    /// What had wrapped it.
    pub used: Used,
}

impl Use for Unwrap {
    type Facts = Usable<Arc<Material>>;
    type Answer = Unwrapped;

    fn action(&self) -> Action {
        Action::Unwrap
    }

    fn check(&self, _: &Tools) -> Result<(), Error> {
        check(Part::WrappedKey, &self.wrapped, WRAPPED_LEN_MAX)
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.usable(&self.by.key, self.by.want(Usage::Unwrap))
    }

    fn is_slow(&self, usable: &Self::Facts) -> bool {
        usable.material.is_slow()
    }

    fn act(&self, usable: Self::Facts, _: &Tools) -> Result<Unwrapped, Error> {
        only_key_wrap(usable.algorithm)?;
        let key = usable.material.unwrap(usable.algorithm, &self.wrapped).map_err(failed)?;
        Ok(Unwrapped { key, used: Used::of(&usable) })
    }
}

/// Modes of encryption wrap keys for doors that say so; here one encrypts with them.
pub(super) fn only_key_wrap(by: Algorithm) -> Result<(), InvalidRequest> {
    match by {
        Algorithm::Blob | Algorithm::AesGcm | Algorithm::AesCbc | Algorithm::AesCbcPad => {
            let why = format!("{} encrypts; keys are wrapped by aes-kwp, aes-kw or RSA-OAEP", by.as_str());
            Err(InvalidRequest::wrong(Part::Algorithm, why))
        }
        _ => Ok(()),
    }
}
