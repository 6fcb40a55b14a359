//! Shared secrets: Diffie-Hellman with another's public key, and encapsulation.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::access::{Access, Usable};
use quorate_core::action::Action;
use quorate_core::key_spec::Usage;
use quorate_crypto::SecretBytes;
use quorate_crypto::material::{Material, PublicKey};

use super::{By, NOT_FITTING, Used, failed};
use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// Agrees on a secret with the holder of another private key: the raw x coordinate, from which the caller derives keys.
///
/// Refused: the peer's public key is none, or of another curve; the key is not found, is not for that, or is in a state in which
/// it protects nothing.
pub struct Agree {
    /// By which key.
    pub by: By,
    /// The peer's public key.
    pub peer: PublicKey,
}

/// A shared secret, wiped when dropped.
pub struct Shared {
    /// Its bytes.
    pub secret: SecretBytes,
    /// What made it.
    pub used: Used,
}

impl Use for Agree {
    type Facts = Usable<Arc<Material>>;
    type Answer = Shared;

    fn action(&self) -> Action {
        Action::Agree
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.usable(&self.by.key, self.by.want(Usage::Agree))
    }

    fn is_slow(&self, usable: &Self::Facts) -> bool {
        usable.material.is_slow()
    }

    fn act(&self, usable: Self::Facts, _: &Tools) -> Result<Shared, Error> {
        let secret = usable.material.agree(&self.peer).map_err(failed)?;
        Ok(Shared { secret, used: Used::of(&usable) })
    }
}

/// Makes a shared secret, and its encapsulation under a version of a key, by its public half.
///
/// Refused: the key is not found, is not for that, or is in a state in which it protects nothing.
pub struct Encapsulate {
    /// By which key.
    pub by: By,
}

/// A shared secret and its encapsulation.
pub struct Encapsulated {
    /// The encapsulation: what the holder of the private key opens.
    pub ciphertext: Vec<u8>,
    /// The secret.
    pub secret: SecretBytes,
    /// What made them.
    pub used: Used,
}

impl Use for Encapsulate {
    type Facts = Usable<Arc<Material>>;
    type Answer = Encapsulated;

    fn action(&self) -> Action {
        Action::Encapsulate
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.usable(&self.by.key, self.by.want(Usage::Encapsulate))
    }

    fn act(&self, usable: Self::Facts, _: &Tools) -> Result<Encapsulated, Error> {
        let public = usable.material.public().ok_or(NOT_FITTING)?;
        let (ciphertext, secret) = public.encapsulate().map_err(failed)?;
        Ok(Encapsulated { ciphertext, secret, used: Used::of(&usable) })
    }
}

/// Opens an encapsulation by a version of a key. One that was changed gives another secret, and no error (FIPS 203 §6.3).
///
/// Refused: an encapsulation of another length; the key is not found, is not for that, or is in a state in which it processes
/// nothing.
pub struct Decapsulate {
    /// By which key.
    pub by: By,
    /// The encapsulation.
    pub ciphertext: Bytes,
}

impl Use for Decapsulate {
    type Facts = Usable<Arc<Material>>;
    type Answer = Shared;

    fn action(&self) -> Action {
        Action::Decapsulate
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.usable(&self.by.key, self.by.want(Usage::Decapsulate))
    }

    fn act(&self, usable: Self::Facts, _: &Tools) -> Result<Shared, Error> {
        let secret = usable.material.decapsulate(&self.ciphertext).map_err(failed)?;
        Ok(Shared { secret, used: Used::of(&usable) })
    }
}
