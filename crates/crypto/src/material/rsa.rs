//! RSA (RFC 8017): OAEP, PSS and PKCS#1 v1.5 signatures. A private key is parsed and checked once, not at each use.

use aws_lc_rs::digest::Digest as Digested;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{
    KeyPair, KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
    OaepAlgorithm, OaepPrivateDecryptingKey, OaepPublicEncryptingKey, PrivateDecryptingKey, PublicEncryptingKey,
};
use aws_lc_rs::signature::{self, KeyPair as _, RsaEncoding, RsaParameters, UnparsedPublicKey};
use quorate_core::key_spec::{Algorithm, KeySpec};
use quorate_core::request::{InvalidRequest, Part};
use quorate_core::seam::Entropy;
use zeroize::Zeroizing;

use super::der::{self, Der, NotDer};
use super::error::{UseError, check_digest, no_context, wrong};
use super::lc::{self, KeyWrap};
use super::{SignInput, digest, encode};
use crate::secret::{Secret, SecretBytes};

/// The largest public exponent, in bytes: far more than anybody uses.
const EXPONENT_LEN_MAX: usize = 4;

pub(super) struct PrivateKey {
    signing: KeyPair,
    decrypting: OaepPrivateDecryptingKey,
}

impl PrivateKey {
    /// A fresh pair: takes from 50 ms (2048 bits) to seconds (4096).
    pub(super) fn generate(spec: KeySpec) -> SecretBytes {
        let size = match spec {
            KeySpec::Rsa4096 => KeySize::Rsa4096,
            KeySpec::Rsa3072 => KeySize::Rsa3072,
            _ => KeySize::Rsa2048,
        };
        let pair = KeyPair::generate(size).expect("aws-lc has memory and randomness");
        encoded(&pair)
    }

    /// Reads a key of exactly that kind.
    pub(super) fn parse(spec: KeySpec, pkcs8: &[u8]) -> Result<Self, InvalidRequest> {
        let wrong = |why: &str| InvalidRequest::wrong(Part::Material, why);
        let read = |key| {
            let mut parts = Der::only(der::SEQUENCE, key)?;
            // Version 0: two primes.
            parts.unsigned()?.is_empty().then_some(()).ok_or(NotDer)?;
            Ok((parts.unsigned()?, parts.unsigned()?))
        };
        let (n, e) = read(encode::read_pkcs8(spec, pkcs8)?)
            .map_err(|NotDer| wrong("the PKCS#8 holds no RSA private key of two primes in canonical DER"))?;
        let found = check(Part::Material, n, e)?;
        if found != spec {
            let why = format!("this is a key of kind {}; {} was expected", found.as_str(), spec.as_str());
            return Err(wrong(&why));
        }
        let inconsistent = || wrong("the numbers of this RSA key do not belong together");
        let signing = KeyPair::from_pkcs8(pkcs8).map_err(|_| inconsistent())?;
        let decrypting = PrivateDecryptingKey::from_pkcs8(pkcs8).map_err(|_| inconsistent())?;
        let decrypting = OaepPrivateDecryptingKey::new(decrypting).map_err(|_| inconsistent())?;
        Ok(Self { signing, decrypting })
    }

    pub(super) fn pkcs8(&self) -> SecretBytes {
        encoded(&self.signing)
    }

    pub(super) fn spki(&self) -> Vec<u8> {
        let spki: PublicKeyX509Der<'_> = self.signing.public_key().as_der().expect("a parsed key encodes");
        spki.as_ref().to_vec()
    }

    pub(super) fn sign(&self, by: Algorithm, input: SignInput<'_>, context: &[u8]) -> Result<Vec<u8>, UseError> {
        let Scheme { signing, .. } = scheme(by)?;
        no_context(by, context)?;
        let mut signature = vec![0; self.signing.public_modulus_len()];
        match input {
            SignInput::Message(message) => self.signing.sign(signing, &SystemRandom::new(), message, &mut signature)?,
            SignInput::Digest(bytes) => self.signing.sign_digest(signing, &imported(by, bytes)?, &mut signature)?,
        }
        Ok(signature)
    }

    pub(super) fn decrypt(&self, by: Algorithm, ciphertext: &[u8]) -> Result<SecretBytes, UseError> {
        let by = oaep(by)?;
        let mut out = Zeroizing::new(vec![0; self.decrypting.min_output_size()]);
        let len = self.decrypting.decrypt(by, ciphertext, &mut out, None).map_err(|_| UseError::Tampered)?.len();
        out.truncate(len);
        Ok(out)
    }

    pub(super) fn unwrap(&self, by: Algorithm, wrapped: &[u8]) -> Result<SecretBytes, UseError> {
        let Some(oaep) = beneath(by) else { return self.decrypt(by, wrapped) };
        let (kek, wrapped) = wrapped.split_at_checked(self.signing.public_modulus_len()).ok_or(UseError::Tampered)?;
        let kek = self.decrypt(oaep, kek)?;
        lc::unwrap_key(KeyWrap::Padded, &kek, wrapped).ok_or(UseError::Tampered)
    }

    /// Bytes that it takes in memory, about: two copies of its numbers, and what multiplying by them needs.
    pub(super) fn size(&self) -> usize {
        2048 + 24 * self.signing.public_modulus_len()
    }
}

fn encoded(pair: &KeyPair) -> SecretBytes {
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().expect("an RSA key encodes");
    Zeroizing::new(pkcs8.as_ref().to_vec())
}

/// A digest that the caller made, of the hash function that `by` names.
pub(super) fn imported(by: Algorithm, bytes: &[u8]) -> Result<Digested, UseError> {
    let of = by.digest().ok_or(UseError::NotFitting)?;
    check_digest(of, bytes)?;
    Ok(Digested::import_less_safe(bytes, digest::algorithm(of))?)
}

/// The kind of a key with that modulus and exponent.
fn check(part: Part, n: &[u8], e: &[u8]) -> Result<KeySpec, InvalidRequest> {
    let wrong = |why: String| Err(InvalidRequest::wrong(part, why));
    let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
    let spec = match bits {
        2048 => KeySpec::Rsa2048,
        3072 => KeySpec::Rsa3072,
        4096 => KeySpec::Rsa4096,
        _ => return wrong(format!("RSA with {bits} bits is not supported; there are 2048, 3072 and 4096")),
    };
    let is_odd = |number: &[u8]| number.last().is_some_and(|last| last & 1 == 1);
    if !is_odd(n) {
        return wrong("the modulus is even: this is no RSA key".into());
    }
    if e.len() > EXPONENT_LEN_MAX || e == [1] || !is_odd(e) {
        return wrong("the public exponent must be odd, at least 3 and below 2^32; 65537 is usual".into());
    }
    Ok(spec)
}

pub(super) struct PublicKey {
    spki: Vec<u8>,
    encrypting: OaepPublicEncryptingKey,
}

impl PublicKey {
    /// Reads a key, `key` being the content of `spki`; also says how long it is.
    pub(super) fn parse(spki: &[u8], key: &[u8]) -> Result<(Self, KeySpec), InvalidRequest> {
        let wrong = || InvalidRequest::wrong(Part::PublicKey, "this holds no RSA public key in canonical DER");
        let read = || {
            let mut parts = Der::only(der::SEQUENCE, key)?;
            let numbers = (parts.unsigned()?, parts.unsigned()?);
            parts.finish().map(|()| numbers)
        };
        let (n, e) = read().map_err(|NotDer| wrong())?;
        let spec = check(Part::PublicKey, n, e)?;
        let encrypting = PublicEncryptingKey::from_der(spki).map_err(|_| wrong())?;
        let encrypting = OaepPublicEncryptingKey::new(encrypting).map_err(|_| wrong())?;
        Ok((Self { spki: spki.to_vec(), encrypting }, spec))
    }

    pub(super) fn verify(
        &self,
        by: Algorithm,
        input: SignInput<'_>,
        signature: &[u8],
        context: &[u8],
    ) -> Result<bool, UseError> {
        let Scheme { verifying, .. } = scheme(by)?;
        no_context(by, context)?;
        let key = UnparsedPublicKey::new(verifying, &self.spki);
        Ok(match input {
            SignInput::Message(message) => key.verify(message, signature).is_ok(),
            SignInput::Digest(bytes) => key.verify_digest(&imported(by, bytes)?, signature).is_ok(),
        })
    }

    /// Encrypts what is that part of the request.
    pub(super) fn encrypt(&self, by: Algorithm, part: Part, plaintext: &[u8]) -> Result<Vec<u8>, UseError> {
        let by = oaep(by)?;
        let (len, max) = (plaintext.len(), self.encrypting.max_plaintext_size(by));
        if len > max {
            return Err(InvalidRequest::TooLarge { part, len, max }.into());
        }
        let mut ciphertext = vec![0; self.encrypting.ciphertext_size()];
        let len = self.encrypting.encrypt(by, plaintext, &mut ciphertext, None)?.len();
        ciphertext.truncate(len);
        Ok(ciphertext)
    }

    pub(super) fn wrap(&self, by: Algorithm, key: &[u8], entropy: &dyn Entropy) -> Result<Vec<u8>, UseError> {
        let Some(oaep) = beneath(by) else { return self.encrypt(by, Part::Material, key) };
        let kek = Secret::<32>::generate(entropy);
        let wrapped = lc::wrap_key(KeyWrap::Padded, kek.expose(), key);
        let wrapped = wrapped.ok_or_else(|| wrong(Part::Material, "there is nothing to wrap"))?;
        Ok([self.encrypt(oaep, Part::Material, kek.expose())?, wrapped].concat())
    }
}

/// What wraps the AES key that wraps; `None` = nothing is between.
fn beneath(by: Algorithm) -> Option<Algorithm> {
    match by {
        Algorithm::RsaAesKwpSha1 => Some(Algorithm::RsaOaepSha1),
        Algorithm::RsaAesKwpSha256 => Some(Algorithm::RsaOaepSha256),
        _ => None,
    }
}

fn oaep(by: Algorithm) -> Result<&'static OaepAlgorithm, UseError> {
    match by {
        Algorithm::RsaOaepSha1 => Ok(&OAEP_SHA1_MGF1SHA1),
        Algorithm::RsaOaepSha256 => Ok(&OAEP_SHA256_MGF1SHA256),
        Algorithm::RsaOaepSha384 => Ok(&OAEP_SHA384_MGF1SHA384),
        Algorithm::RsaOaepSha512 => Ok(&OAEP_SHA512_MGF1SHA512),
        _ => Err(UseError::NotFitting),
    }
}

struct Scheme {
    signing: &'static dyn RsaEncoding,
    verifying: &'static RsaParameters,
}

fn scheme(by: Algorithm) -> Result<Scheme, UseError> {
    let (signing, verifying): (&'static dyn RsaEncoding, _) = match by {
        Algorithm::RsaPssSha256 => (&signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::RsaPssSha384 => (&signature::RSA_PSS_SHA384, &signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::RsaPssSha512 => (&signature::RSA_PSS_SHA512, &signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::RsaPkcs1Sha256 => (&signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RsaPkcs1Sha384 => (&signature::RSA_PKCS1_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RsaPkcs1Sha512 => (&signature::RSA_PKCS1_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512),
        _ => return Err(UseError::NotFitting),
    };
    Ok(Scheme { signing, verifying })
}
