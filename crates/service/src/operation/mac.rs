//! Make and verify message authentication codes.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::access::{Access, Usable};
use quorate_core::action::Action;
use quorate_core::key_spec::Usage;
use quorate_core::request::{INPUT_LEN_MAX, InvalidRequest, Part};
use quorate_crypto::material::Material;

use super::sign::Verified;
use super::{By, Used, failed};
use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

fn check(message: &Bytes) -> Result<(), Error> {
    let (part, len, max) = (Part::Input, message.len(), INPUT_LEN_MAX);
    if len > max { Err(InvalidRequest::TooLarge { part, len, max }.into()) } else { Ok(()) }
}

/// Makes the authentication code of `message` by a version of a key.
///
/// Refused: the message is longer than [`INPUT_LEN_MAX`]; the key is not found, is not for that, or not by that algorithm, or is
/// in a state in which it protects nothing.
pub struct MakeMac {
    /// By which key.
    pub by: By,
    /// Of what.
    pub message: Bytes,
}

/// A message authentication code.
pub struct Mac {
    /// Its bytes.
    pub mac: Vec<u8>,
    /// What made it.
    pub used: Used,
}

impl Use for MakeMac {
    type Facts = Usable<Arc<Material>>;
    type Answer = Mac;

    fn action(&self) -> Action {
        Action::Mac
    }

    fn check(&self, _: &Tools) -> Result<(), Error> {
        check(&self.message)
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.usable(&self.by.key, self.by.want(Usage::Mac))
    }

    fn act(&self, usable: Self::Facts, _: &Tools) -> Result<Mac, Error> {
        let mac = usable.material.mac(usable.algorithm, &self.message).map_err(failed)?;
        Ok(Mac { mac, used: Used::of(&usable) })
    }
}

/// Verifies the authentication code of `message` by a version of a key, in constant time. One that is not right is an answer, not
/// an error.
///
/// Refused: as [`MakeMac`].
pub struct VerifyMac {
    /// By which key.
    pub by: By,
    /// Of what.
    pub message: Bytes,
    /// The code.
    pub mac: Bytes,
}

impl Use for VerifyMac {
    type Facts = Usable<Arc<Material>>;
    type Answer = Verified;

    fn action(&self) -> Action {
        Action::VerifyMac
    }

    fn check(&self, _: &Tools) -> Result<(), Error> {
        check(&self.message)
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.usable(&self.by.key, self.by.want(Usage::VerifyMac))
    }

    fn act(&self, usable: Self::Facts, _: &Tools) -> Result<Verified, Error> {
        let valid = usable.material.verify_mac(usable.algorithm, &self.message, &self.mac).map_err(failed)?;
        Ok(Verified { valid, state: usable.state, used: Used::of(&usable) })
    }
}
