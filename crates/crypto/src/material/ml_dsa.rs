//! ML-DSA (FIPS 204), hedged: of a message, under a context if wanted, or of the mu that the caller made of both. Keys are kept
//! as their seed, and expanded when they are read.

use quorate_core::key_spec::{Algorithm, KeySpec};
use quorate_core::request::{InvalidRequest, Part};
use quorate_core::seam::Entropy;

use super::error::{UseError, wrong};
use super::lc::{MU_LEN, MlDsa, MlDsaSet};
use super::{SignInput, encode, seed};
use crate::secret::{Secret, SecretBytes, ct_eq};

/// Longest context, in bytes (FIPS 204 §5.2).
const CONTEXT_LEN_MAX: usize = 255;

fn set(spec: KeySpec) -> MlDsaSet {
    match spec {
        KeySpec::MlDsa44 => MlDsaSet::MlDsa44,
        KeySpec::MlDsa65 => MlDsaSet::MlDsa65,
        _ => MlDsaSet::MlDsa87,
    }
}

pub(super) struct PrivateKey {
    spec: KeySpec,
    seed: Secret<32>,
    key: MlDsa,
    public: Vec<u8>,
}

impl PrivateKey {
    pub(super) fn generate(spec: KeySpec, entropy: &dyn Entropy) -> SecretBytes {
        seed::encode(spec, Secret::<32>::generate(entropy).expose())
    }

    pub(super) fn parse(spec: KeySpec, pkcs8: &[u8]) -> Result<Self, InvalidRequest> {
        let (seed, expanded) = seed::read(spec, pkcs8)?;
        let key = MlDsa::from_seed(set(spec), seed.expose()).expect("every 32 bytes are a seed");
        let public = key.public().expect("a pair has a public key");
        let own = key.expanded().expect("a pair has a private key");
        if expanded.is_some_and(|given| !ct_eq(given, &own)) {
            return Err(seed::differs());
        }
        Ok(Self { spec, seed, key, public })
    }

    pub(super) fn pkcs8(&self) -> SecretBytes {
        seed::encode(self.spec, self.seed.expose())
    }

    pub(super) fn spki(&self) -> Vec<u8> {
        encode::spki(self.spec, &self.public)
    }

    pub(super) fn sign(&self, by: Algorithm, input: SignInput<'_>, context: &[u8]) -> Result<Vec<u8>, UseError> {
        check(by, context)?;
        let signature = match input {
            SignInput::Message(message) => self.key.sign(message, context),
            SignInput::Digest(mu) => self.key.sign_mu(check_mu(mu, context)?),
        };
        signature.ok_or(UseError::Failed)
    }

    /// Bytes that it takes in memory, about.
    pub(super) fn size(&self) -> usize {
        // The private key's length is less than three times the public key's.
        1024 + 5 * self.public.len()
    }
}

fn check(by: Algorithm, context: &[u8]) -> Result<(), UseError> {
    if by != Algorithm::MlDsa {
        return Err(UseError::NotFitting);
    }
    let (len, max) = (context.len(), CONTEXT_LEN_MAX);
    if len > max { Err(InvalidRequest::TooLarge { part: Part::Context, len, max }.into()) } else { Ok(()) }
}

fn check_mu<'a>(mu: &'a [u8], context: &[u8]) -> Result<&'a [u8; MU_LEN], UseError> {
    if !context.is_empty() {
        return Err(wrong(Part::Context, "mu has the context in it already: give none beside it"));
    }
    mu.try_into().map_err(|_| {
        wrong(Part::Digest, format!("ml-dsa signs a message or its mu, which has {MU_LEN} bytes, not {}", mu.len()))
    })
}

pub(super) struct PublicKey(MlDsa);

impl PublicKey {
    pub(super) fn parse(spec: KeySpec, key: &[u8]) -> Result<Self, InvalidRequest> {
        let wrong = || InvalidRequest::wrong(Part::PublicKey, format!("this is no public key of {}", spec.as_str()));
        MlDsa::from_public(set(spec), key).map(Self).ok_or_else(wrong)
    }

    pub(super) fn verify(
        &self,
        by: Algorithm,
        input: SignInput<'_>,
        signature: &[u8],
        context: &[u8],
    ) -> Result<bool, UseError> {
        check(by, context)?;
        Ok(match input {
            SignInput::Message(message) => self.0.verify(message, context, signature),
            SignInput::Digest(mu) => self.0.verify_mu(check_mu(mu, context)?, signature),
        })
    }
}
