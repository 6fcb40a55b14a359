//! Sign, and verify signatures.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::access::{Access, Usable};
use quorate_core::action::Action;
use quorate_core::key_spec::Usage;
use quorate_core::lifecycle::VersionState;
use quorate_core::request::{INPUT_LEN_MAX, InvalidRequest, Part};
use quorate_crypto::material::{Material, SignInput};

use super::{By, NOT_FITTING, Used, failed};
use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// What is signed.
pub enum Input {
    /// The message itself, at most [`INPUT_LEN_MAX`] bytes.
    Message(Bytes),
    /// Its digest, of the algorithm's own hash function; of ML-DSA: mu (FIPS 204 §6.2).
    Digest(Bytes),
}

impl Input {
    fn check(&self) -> Result<(), InvalidRequest> {
        let (Self::Message(bytes) | Self::Digest(bytes)) = self;
        let (part, len, max) = (Part::Input, bytes.len(), INPUT_LEN_MAX);
        if len > max { Err(InvalidRequest::TooLarge { part, len, max }) } else { Ok(()) }
    }
    fn to_crypto(&self) -> SignInput<'_> {
        match self {
            Self::Message(message) => SignInput::Message(message),
            Self::Digest(digest) => SignInput::Digest(digest),
        }
    }
}

/// Signs `input` by a version of a key.
///
/// Refused: the key is not found, is not for signing, or not by that algorithm, or is in a state in which it does not sign; a
/// digest of another length than the algorithm's; a context where there is none.
pub struct Sign {
    /// By which key.
    pub by: By,
    /// What.
    pub input: Input,
    /// ML-DSA's context, or Ed25519ph's; empty elsewhere.
    pub context: Bytes,
}

/// A signature.
pub struct Signature {
    /// Its bytes; of ECDSA: DER.
    pub signature: Vec<u8>,
    /// What made it.
    pub used: Used,
}

impl Use for Sign {
    type Facts = Usable<Arc<Material>>;
    type Answer = Signature;

    fn action(&self) -> Action {
        Action::Sign
    }

    fn check(&self, _: &Tools) -> Result<(), Error> {
        Ok(self.input.check()?)
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.usable(&self.by.key, self.by.want(Usage::Sign))
    }

    fn is_slow(&self, usable: &Self::Facts) -> bool {
        usable.material.is_slow()
    }

    fn act(&self, usable: Self::Facts, _: &Tools) -> Result<Signature, Error> {
        let signature =
            usable.material.sign(usable.algorithm, self.input.to_crypto(), &self.context).map_err(failed)?;
        Ok(Signature { signature, used: Used::of(&usable) })
    }
}

/// Verifies a signature of `input` by a version of a key. One that is not right is an answer, not an error.
///
/// Refused: as [`Sign`].
pub struct Verify {
    /// By which key.
    pub by: By,
    /// Of what.
    pub input: Input,
    /// As when it was signed.
    pub context: Bytes,
    /// The signature.
    pub signature: Bytes,
}

/// Whether it is right.
pub struct Verified {
    /// Whether it is.
    pub valid: bool,
    /// The state of the version: what a compromised one seems to have made, anybody may have made.
    pub state: VersionState,
    /// By what it was verified.
    pub used: Used,
}

impl Use for Verify {
    type Facts = Usable<Arc<Material>>;
    type Answer = Verified;

    fn action(&self) -> Action {
        Action::Verify
    }

    fn check(&self, _: &Tools) -> Result<(), Error> {
        Ok(self.input.check()?)
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.usable(&self.by.key, self.by.want(Usage::Verify))
    }

    /// RSA's public key works fast; the larger curves verify about as slowly as they sign.
    fn is_slow(&self, usable: &Self::Facts) -> bool {
        usable.material.verifies_slowly()
    }

    fn act(&self, usable: Self::Facts, _: &Tools) -> Result<Verified, Error> {
        let (by, input) = (usable.algorithm, self.input.to_crypto());
        let public = usable.material.public().ok_or(NOT_FITTING)?;
        let valid = public.verify(by, input, &self.signature, &self.context).map_err(failed)?;
        Ok(Verified { valid, state: usable.state, used: Used::of(&usable) })
    }
}
