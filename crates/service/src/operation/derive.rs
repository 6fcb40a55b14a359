//! Derive other keys from a key, and make digests.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::access::{Access, Usable};
use quorate_core::action::Action;
use quorate_core::key_spec::{Algorithm, Digest, Usage};
use quorate_core::request::{INPUT_LEN_MAX, InvalidRequest, Part};
use quorate_crypto::SecretBytes;
use quorate_crypto::material::digest::digest;
use quorate_crypto::material::{Derivation, Material};

use super::{By, NOT_FITTING, Used, failed};
use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// So many rounds of PBKDF2, for one block, take some hundredths of a second.
const ROUNDS_QUICK: u32 = 50_000;

fn check(part: Part, bytes: &Bytes) -> Result<(), Error> {
    let (len, max) = (bytes.len(), INPUT_LEN_MAX);
    if len > max { Err(InvalidRequest::TooLarge { part, len, max }.into()) } else { Ok(()) }
}

/// Derives bytes of another key from a version of a key. The same request derives the same bytes.
///
/// Refused: more bytes than the method yields; what the method does not take; the key is not found, is not for that, or not by that
/// method, or is in a state in which it protects nothing.
pub struct DeriveKey {
    /// From which key, by which method.
    pub by: By,
    /// The method's hash function.
    pub digest: Digest,
    /// What the key is derived for: KBKDF's fixed input, HMAC's data, PBKDF2's salt.
    pub info: Bytes,
    /// PBKDF2's iterations; 0 elsewhere.
    pub iterations: u32,
    /// How many bytes.
    pub len: u32,
}

/// A derived key, wiped when dropped.
pub struct Derived {
    /// Its bytes.
    pub key: SecretBytes,
    /// What it was derived from.
    pub used: Used,
}

impl DeriveKey {
    fn derivation(&self, by: Algorithm) -> Result<Derivation<'_>, Error> {
        let (digest, info) = (self.digest, &self.info[..]);
        let none = |part, taken: bool| {
            let why = format!("{} takes none", by.as_str());
            if taken { Err(Error::from(InvalidRequest::wrong(part, why))) } else { Ok(()) }
        };
        if by != Algorithm::Pbkdf2 {
            none(Part::Iterations, self.iterations != 0)?;
        }
        match by {
            Algorithm::Kbkdf => Ok(Derivation::Kbkdf { digest, info }),
            Algorithm::DeriveHmac => Ok(Derivation::Hmac { digest, data: info }),
            Algorithm::DeriveHash => none(Part::Input, !info.is_empty()).map(|()| Derivation::Hash { digest }),
            Algorithm::Pbkdf2 => Ok(Derivation::Pbkdf2 { digest, salt: info, iterations: self.iterations }),
            _ => Err(NOT_FITTING),
        }
    }
}

impl Use for DeriveKey {
    type Facts = Usable<Arc<Material>>;
    type Answer = Derived;

    fn action(&self) -> Action {
        Action::DeriveKey
    }

    fn check(&self, _: &Tools) -> Result<(), Error> {
        check(Part::Input, &self.info)
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.usable(&self.by.key, self.by.want(Usage::Derive))
    }

    fn is_slow(&self, usable: &Self::Facts) -> bool {
        usable.algorithm == Algorithm::Pbkdf2
    }

    fn takes_seconds(&self, usable: &Self::Facts) -> bool {
        self.is_slow(usable) && self.iterations > ROUNDS_QUICK
    }

    fn act(&self, usable: Self::Facts, _: &Tools) -> Result<Derived, Error> {
        let derivation = self.derivation(usable.algorithm)?;
        let key = usable.material.derive(&derivation, self.len as usize).map_err(failed)?;
        Ok(Derived { key, used: Used::of(&usable) })
    }
}

/// Makes the digest of a message; no key is used.
///
/// Refused: the message is longer than [`INPUT_LEN_MAX`].
pub struct MakeDigest {
    /// By which hash function.
    pub by: Digest,
    /// Of what.
    pub message: Bytes,
}

impl Use for MakeDigest {
    type Facts = ();
    type Answer = Vec<u8>;

    fn action(&self) -> Action {
        Action::Digest
    }

    fn check(&self, _: &Tools) -> Result<(), Error> {
        check(Part::Input, &self.message)
    }

    /// It needs no facts but one: that the cluster is not sealed.
    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<(), F::Error> {
        at.namespace().map(drop)
    }

    fn act(&self, (): (), _: &Tools) -> Result<Vec<u8>, Error> {
        Ok(digest(self.by, &self.message))
    }
}
