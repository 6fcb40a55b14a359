//! Ed25519 and Ed25519ph (RFC 8032).

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, ParsedPublicKey};
use curve25519_dalek::edwards::CompressedEdwardsY;
use quorate_core::key_spec::{Algorithm, Digest, KeySpec};
use quorate_core::request::{InvalidRequest, Part};
use quorate_core::seam::Entropy;
use zeroize::Zeroizing;

use super::der::{self, Der};
use super::error::{UseError, check_digest, no_context, wrong};
use super::{SignInput, digest, encode, lc};
use crate::secret::{Secret, SecretBytes};

/// Length of a seed, and of a public key, in bytes.
const LEN: usize = 32;
/// Longest context, in bytes (RFC 8032 §5.1).
const CONTEXT_LEN_MAX: usize = 255;

pub(super) struct PrivateKey {
    pair: Ed25519KeyPair,
    /// Seed ‖ public key.
    whole: Secret<64>,
}

impl PrivateKey {
    pub(super) fn generate(entropy: &dyn Entropy) -> SecretBytes {
        encoded(KeySpec::Ed25519, Secret::<LEN>::generate(entropy).expose())
    }

    pub(super) fn parse(pkcs8: &[u8]) -> Result<Self, InvalidRequest> {
        let seed = seed(KeySpec::Ed25519, pkcs8)?;
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).expect("every 32 bytes are a seed");
        let mut whole = Zeroizing::new([0; 64]);
        whole[..LEN].copy_from_slice(seed.expose());
        whole[LEN..].copy_from_slice(pair.public_key().as_ref());
        Ok(Self { pair, whole: Secret::copy_of(&whole) })
    }

    pub(super) fn pkcs8(&self) -> SecretBytes {
        encoded(KeySpec::Ed25519, &self.whole.expose()[..LEN])
    }

    pub(super) fn spki(&self) -> Vec<u8> {
        encode::spki(KeySpec::Ed25519, self.pair.public_key().as_ref())
    }

    pub(super) fn sign(&self, by: Algorithm, input: SignInput<'_>, context: &[u8]) -> Result<Vec<u8>, UseError> {
        match by {
            Algorithm::Ed25519 => Ok(self.pair.try_sign(message(input, context)?)?.as_ref().to_vec()),
            Algorithm::Ed25519ph => {
                let digest = prehash(input, context)?;
                let signature = lc::ed25519ph_sign(self.whole.expose(), &digest, context).ok_or(UseError::Failed)?;
                Ok(signature.to_vec())
            }
            _ => Err(UseError::NotFitting),
        }
    }
}

/// The seed in a PKCS#8 of an Edwards or Montgomery curve (RFC 8410).
pub(super) fn seed(spec: KeySpec, pkcs8: &[u8]) -> Result<Secret<LEN>, InvalidRequest> {
    let mut key = Der::new(encode::read_pkcs8(spec, pkcs8)?);
    let read = || {
        let seed = key.take(der::OCTET_STRING)?;
        key.finish().map(|()| seed)
    };
    read().ok().and_then(Secret::from_slice).ok_or_else(|| {
        InvalidRequest::wrong(
            Part::Material,
            format!("the PKCS#8 holds no {} key of 32 bytes (RFC 8410)", spec.as_str()),
        )
    })
}

/// A seed as PKCS#8.
pub(super) fn encoded(spec: KeySpec, seed: &[u8]) -> SecretBytes {
    encode::pkcs8(spec, &der::element(der::OCTET_STRING, &[seed]))
}

fn message<'a>(input: SignInput<'a>, context: &[u8]) -> Result<&'a [u8], UseError> {
    no_context(Algorithm::Ed25519, context)?;
    match input {
        SignInput::Message(message) => Ok(message),
        SignInput::Digest(_) => {
            Err(wrong(Part::Digest, "ed25519 signs messages; ed25519ph signs their SHA-512 digests"))
        }
    }
}

fn prehash(input: SignInput<'_>, context: &[u8]) -> Result<[u8; 64], UseError> {
    if context.len() > CONTEXT_LEN_MAX {
        let (len, max) = (context.len(), CONTEXT_LEN_MAX);
        return Err(InvalidRequest::TooLarge { part: Part::Context, len, max }.into());
    }
    let digest = match input {
        SignInput::Message(message) => digest::digest(Digest::Sha512, message),
        SignInput::Digest(digest) => {
            check_digest(Digest::Sha512, digest)?;
            digest.to_vec()
        }
    };
    digest.try_into().map_err(|_| UseError::Failed)
}

pub(super) struct PublicKey {
    bytes: [u8; LEN],
    verifying: ParsedPublicKey,
}

impl PublicKey {
    pub(super) fn parse(key: &[u8]) -> Result<Self, InvalidRequest> {
        let no = |why: &str| InvalidRequest::wrong(Part::PublicKey, why);
        let wrong = || no("an ed25519 public key is a point of the curve, 32 bytes (RFC 8032)");
        let bytes = key.try_into().map_err(|_| wrong())?;
        let encoded = CompressedEdwardsY(bytes);
        let point = encoded.decompress().filter(|point| point.compress() == encoded).ok_or_else(wrong)?;
        if point.is_small_order() {
            return Err(no("this point is of small order: anybody could make signatures that it verifies"));
        }
        Ok(Self { bytes, verifying: ParsedPublicKey::new(&ED25519, key).map_err(|_| wrong())? })
    }

    pub(super) fn verify(
        &self,
        by: Algorithm,
        input: SignInput<'_>,
        signature: &[u8],
        context: &[u8],
    ) -> Result<bool, UseError> {
        match by {
            Algorithm::Ed25519 => Ok(self.verifying.verify_sig(message(input, context)?, signature).is_ok()),
            Algorithm::Ed25519ph => {
                let digest = prehash(input, context)?;
                let signature = signature.try_into().ok();
                Ok(signature.is_some_and(|signature| lc::ed25519ph_verify(&self.bytes, &digest, signature, context)))
            }
            _ => Err(UseError::NotFitting),
        }
    }
}
