//! Import material: what it is wrapped with, and unwrapping it.

use bytes::Bytes;
use quorate_core::access::Access;
use quorate_core::action::Action;
use quorate_core::decide::{ImportInto, Refusal, TokenFor, may_import};
use quorate_core::facts::Of;
use quorate_core::id::KeyId;
use quorate_core::key_spec::{Algorithm, KeySpec, Usage};
use quorate_core::record::{KeyRecord, KeyVersionRecord, MATERIAL_LEN_MAX, MaterialId};
use quorate_core::request::{InvalidRequest, KeyHandle, Part};
use quorate_core::time::DAY_MS;
use quorate_crypto::ImportToken;
use quorate_crypto::material::{Encoded, Material, UseError};

use super::failed;
use crate::desk::{Tools, Use, UseFacts};
use crate::error::Error;

/// How long an import token can be used, in milliseconds.
const TOKEN_MS: u64 = DAY_MS;
/// Longest wrapped material, in bytes: an encrypted AES key stands before it.
const WRAPPED_LEN_MAX: usize = MATERIAL_LEN_MAX + 1024;

/// Asks for a key that wraps the material of `key`, and for the token to import it with.
pub struct ImportParameters {
    /// The key, created without material.
    pub key: KeyHandle,
    /// Of which kind the wrapping key is: RSA.
    pub wrapping: KeySpec,
}

impl ImportParameters {
    /// The wrapping key when nobody says anything else.
    pub const WRAPPING_DEFAULT: KeySpec = KeySpec::Rsa3072;

    /// Whether it could be meant.
    pub(crate) fn check(&self) -> Result<(), InvalidRequest> {
        if self.wrapping.fits(Usage::Wrap, Algorithm::RsaAesKwpSha256) {
            return Ok(());
        }
        let why = format!("{} wraps no material; take rsa-3072, rsa-4096 or rsa-2048", self.wrapping.as_str());
        Err(InvalidRequest::wrong(Part::Spec, why))
    }
}

/// What material is to be wrapped with.
pub struct Parameters {
    /// The key it is for.
    pub key: KeyId,
    /// Of which kind the wrapping key is.
    pub wrapping: KeySpec,
    /// The wrapping key: SubjectPublicKeyInfo, DER.
    pub public: Vec<u8>,
    /// What has to come with the wrapped material.
    pub token: Vec<u8>,
    /// Until when it is taken, ms since 1970.
    pub expires_ms: u64,
}

/// Whether a key takes material; the answer is what a token of now says of itself.
#[derive(Clone)]
pub(crate) struct TakesMaterial {
    pub key: KeyHandle,
}

impl Use for TakesMaterial {
    type Facts = TokenFor;
    type Answer = TokenFor;

    fn action(&self) -> Action {
        Action::ImportParameters
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<TokenFor, F::Error> {
        let key = at.external(&self.key, |_, _| Ok(()))?;
        Ok(TokenFor { key: key.id, expires_ms: at.time().stamp_ms().saturating_add(TOKEN_MS) })
    }

    fn act(&self, of: TokenFor, _: &Tools) -> Result<TokenFor, Error> {
        Ok(of)
    }
}

/// Imports the material of `key`.
pub struct Import {
    /// The key.
    pub key: KeyHandle,
    /// Which version.
    pub into: ImportInto,
    /// The token that came with the wrapping key.
    pub token: Bytes,
    /// The material, wrapped: a symmetric or MAC key's bytes, or PKCS#8.
    pub wrapped: Bytes,
    /// How it was wrapped.
    pub algorithm: Algorithm,
    /// When it is erased, ms since 1970; 0 = never; none = as the material that is there, else never.
    pub expires_ms: Option<u64>,
}

impl Import {
    /// How material is wrapped when nobody says anything else: whatever its length.
    pub const ALGORITHM_DEFAULT: Algorithm = Algorithm::RsaAesKwpSha256;
}

/// Unwraps and reads the material of an [`Import`].
pub(crate) struct UnwrapMaterial {
    asked: Import,
    /// None = it is no token at all.
    token: Option<ImportToken>,
}

/// Material, unwrapped and checked; wiped when dropped.
pub(crate) struct UnwrappedMaterial {
    pub into: ImportInto,
    pub token: TokenFor,
    pub material: Encoded,
    pub material_id: MaterialId,
}

impl UnwrapMaterial {
    pub fn new(asked: Import) -> Self {
        let token = ImportToken::parse(&asked.token).ok();
        Self { asked, token }
    }
}

impl Use for UnwrapMaterial {
    type Facts = (Of<KeyRecord>, Of<KeyVersionRecord>);
    type Answer = UnwrappedMaterial;

    fn action(&self) -> Action {
        Action::ImportMaterial
    }

    fn check(&self, _: &Tools) -> Result<(), Error> {
        let (len, max) = (self.asked.wrapped.len(), WRAPPED_LEN_MAX);
        if len > max { Err(InvalidRequest::TooLarge { part: Part::WrappedKey, len, max }.into()) } else { Ok(()) }
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<Self::Facts, F::Error> {
        at.imports(&self.asked.key, self.asked.into, |key, now| match &self.token {
            Some(token) => may_import(key, token.of(), now),
            None => Err(Refusal::TokenForeign(key.id)),
        })
    }

    fn is_slow(&self, _: &Self::Facts) -> bool {
        true
    }

    fn act(&self, (key, head): Self::Facts, tools: &Tools) -> Result<UnwrappedMaterial, Error> {
        let foreign = || Error::from(Refusal::TokenForeign(head.key));
        let token = self.token.as_ref().ok_or_else(foreign)?;
        let opened = tools.barrier.keyring()?.open_import_token(tools.lineage, token).map_err(|_| foreign())?;
        let (wrapping, by) = (token.wrapping(), self.asked.algorithm);
        if !wrapping.fits(Usage::Unwrap, by) {
            let why = format!("material is not wrapped by {}; take RSA-OAEP, or RSA and AES key wrap", by.as_str());
            return Err(InvalidRequest::wrong(Part::Algorithm, why).into());
        }
        let wrapping = Material::read(wrapping, &opened).ok_or_else(foreign)?;
        let material = match wrapping.unwrap(by, &self.asked.wrapped) {
            Ok(clear) => Material::import(head.spec, &clear)?,
            Err(UseError::Tampered) => {
                let why = format!("it does not unwrap by {}, with the key that this token came with", by.as_str());
                return Err(InvalidRequest::wrong(Part::WrappedKey, why).into());
            }
            Err(other) => return Err(failed(other)),
        };
        let material_id = tools.barrier.keyring()?.material_id(key.birth_id(), &material.material);
        // What was read for a version goes into that one.
        let into = match self.asked.into {
            ImportInto::Version(_) => ImportInto::Version(Some(head.version)),
            ImportInto::New => ImportInto::New,
        };
        Ok(UnwrappedMaterial { into, token: token.of(), material, material_id })
    }
}
