//! Encrypt a few kilobytes directly under a key. Longer data goes under a data key.

use std::sync::Arc;

use bytes::Bytes;
use quorate_core::access::{Access, Usable};
use quorate_core::action::Action;
use quorate_core::key_spec::{Algorithm, Usage};
use quorate_core::request::{CONTEXT_LEN_MAX, EncryptionContext, InvalidRequest, PLAINTEXT_LEN_MAX, Part};
use quorate_crypto::material::Material;
use quorate_crypto::material::symmetric::{BlobKind, ContextHash, KeyRef, encrypt};

use super::{By, NOT_FITTING, Used, failed};
use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// Encrypts `plaintext` under a version of a key.
///
/// Refused: [`InvalidRequest::TooLarge`]; the key is not found, is not for that, or not by that algorithm, or is in a state in
/// which it protects nothing; what is to be bound to the ciphertext can't be bound by that algorithm.
pub struct Encrypt {
    /// By which key.
    pub by: By,
    /// What to encrypt, at most [`PLAINTEXT_LEN_MAX`] bytes.
    pub plaintext: Bytes,
    /// What is bound to it, and has to be given again to decrypt it.
    pub bound: Binding,
}

/// What is bound to a ciphertext and not in it.
#[derive(Default)]
pub struct Binding {
    /// Of blobs.
    pub context: EncryptionContext,
    /// Of standard modes: associated data.
    pub aad: Bytes,
}

impl Binding {
    /// Whether that algorithm binds it.
    pub(super) fn check(&self, by: Algorithm) -> Result<(), InvalidRequest> {
        let wrong = |why: String| Err(InvalidRequest::wrong(Part::Context, why));
        match by {
            Algorithm::Blob if !self.aad.is_empty() => {
                wrong("blob binds pairs of names and values, not raw bytes".into())
            }
            Algorithm::Blob => Ok(()),
            _ if self.aad.len() > CONTEXT_LEN_MAX => {
                Err(InvalidRequest::TooLarge { part: Part::Context, len: self.aad.len(), max: CONTEXT_LEN_MAX })
            }
            _ if self.context.pairs().next().is_some() => {
                wrong(format!("{} binds no pairs of names and values; give associated data as raw bytes", by.as_str()))
            }
            _ => Ok(()),
        }
    }
}

/// A ciphertext and what made it.
pub struct Ciphertext {
    /// The blob of key-hierarchy §3, which names its key; else what the algorithm makes.
    pub ciphertext: Vec<u8>,
    /// The IV; empty in a blob, and where there is none.
    pub iv: Vec<u8>,
    /// The authentication tag; likewise.
    pub tag: Vec<u8>,
    /// What made it.
    pub used: Used,
}

impl Use for Encrypt {
    type Facts = Usable<Arc<Material>>;
    type Answer = Ciphertext;

    fn action(&self) -> Action {
        Action::Encrypt
    }

    fn check(&self, _: &Tools) -> Result<(), Error> {
        let (part, len, max) = (Part::Plaintext, self.plaintext.len(), PLAINTEXT_LEN_MAX);
        if len > max { Err(InvalidRequest::TooLarge { part, len, max }.into()) } else { Ok(()) }
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.usable(&self.by.key, self.by.want(Usage::Encrypt))
    }

    fn act(&self, usable: Self::Facts, tools: &Tools) -> Result<Ciphertext, Error> {
        let used = Used::of(&usable);
        self.bound.check(used.algorithm)?;
        if used.algorithm == Algorithm::Blob {
            let ciphertext = blob(&usable, BlobKind::Direct, &self.bound.context, &self.plaintext, tools)?;
            return Ok(Ciphertext { ciphertext, iv: Vec::new(), tag: Vec::new(), used });
        }
        let (by, entropy) = (used.algorithm, &*tools.entropy);
        let made = usable.material.encrypt(by, &self.plaintext, None, &self.bound.aad, entropy).map_err(failed)?;
        Ok(Ciphertext { ciphertext: made.ciphertext, iv: made.iv, tag: made.tag, used })
    }
}

/// A blob under that version.
pub(super) fn blob(
    usable: &Usable<Arc<Material>>,
    kind: BlobKind,
    context: &EncryptionContext,
    plaintext: &[u8],
    tools: &Tools,
) -> Result<Vec<u8>, Error> {
    let material = usable.material.symmetric().ok_or(NOT_FITTING)?;
    let key = KeyRef { lineage: tools.lineage, key_id: usable.key, version: usable.version.version };
    Ok(encrypt(material, key, kind, &ContextHash::of(context), plaintext, &*tools.entropy))
}
