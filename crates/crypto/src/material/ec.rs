//! The curves P-256, P-384, P-521 and secp256k1: ECDSA (FIPS 186-5), and ECDH (SP 800-56A §5.7.1.2) on the first three.
//! Signatures are DER; [`raw_signature`] and [`der_signature`] turn them into `r ‖ s` and back.

use aws_lc_rs::agreement::{self, ECDH_P256, ECDH_P384, ECDH_P521};
use aws_lc_rs::encoding::{AsBigEndian, AsDer, EcPrivateKeyBin, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, KeyPair as _};
use quorate_core::key_spec::{Algorithm, KeySpec, Usage};
use quorate_core::request::{InvalidRequest, Part};
use zeroize::Zeroizing;

use super::der::{self, Der, NotDer};
use super::error::{UseError, no_context};
use super::rsa::imported;
use super::{SignInput, encode};
use crate::secret::SecretBytes;

/// The tag of a point beside its private number (RFC 5915).
const POINT: u8 = 0xa1;

/// What the library calls a curve.
struct Curve {
    signing: &'static EcdsaSigningAlgorithm,
    verifying: &'static EcdsaVerificationAlgorithm,
    agreeing: Option<&'static agreement::Algorithm>,
    /// Length of a coordinate, and of a private number, in bytes.
    len: usize,
}

/// `None` = no curve.
fn curve(spec: KeySpec) -> Option<Curve> {
    use signature as s;
    let (signing, verifying, agreeing, len) = match spec {
        KeySpec::P256 => (&s::ECDSA_P256_SHA256_ASN1_SIGNING, &s::ECDSA_P256_SHA256_ASN1, Some(&ECDH_P256), 32),
        KeySpec::P384 => (&s::ECDSA_P384_SHA384_ASN1_SIGNING, &s::ECDSA_P384_SHA384_ASN1, Some(&ECDH_P384), 48),
        KeySpec::P521 => (&s::ECDSA_P521_SHA512_ASN1_SIGNING, &s::ECDSA_P521_SHA512_ASN1, Some(&ECDH_P521), 66),
        KeySpec::Secp256k1 => (&s::ECDSA_P256K1_SHA256_ASN1_SIGNING, &s::ECDSA_P256K1_SHA256_ASN1, None, 32),
        _ => return None,
    };
    Some(Curve { signing, verifying, agreeing, len })
}

/// Length of a coordinate on that curve, in bytes.
pub(super) fn coordinate_len(spec: KeySpec) -> Option<usize> {
    curve(spec).map(|curve| curve.len)
}

pub(super) struct PrivateKey {
    spec: KeySpec,
    signing: EcdsaKeyPair,
    agreeing: Option<agreement::PrivateKey>,
}

impl PrivateKey {
    pub(super) fn generate(spec: KeySpec) -> SecretBytes {
        let curve = curve(spec).expect("a curve");
        encoded(spec, &EcdsaKeyPair::generate(curve.signing).expect("aws-lc has memory and randomness"))
    }

    /// Reads a key of that curve.
    pub(super) fn parse(spec: KeySpec, pkcs8: &[u8]) -> Result<Self, InvalidRequest> {
        let wrong = |why: &str| InvalidRequest::wrong(Part::Material, why);
        let curve = curve(spec).ok_or_else(|| wrong("this is no key of a curve"))?;
        let read = |key| {
            let mut parts = Der::only(der::SEQUENCE, key)?;
            let (version, number) = (parts.unsigned()?, parts.take(der::OCTET_STRING)?);
            if version == [1] && number.len() == curve.len { Ok(()) } else { Err(NotDer) }
        };
        read(encode::read_pkcs8(spec, pkcs8)?).map_err(|NotDer| {
            wrong(&format!("the PKCS#8 holds no ECPrivateKey (RFC 5915) with a number of {} bytes", curve.len))
        })?;
        let refused =
            || wrong("the private number is 0 or too large for the curve, or what stands beside it is of another");
        let signing = EcdsaKeyPair::from_pkcs8(curve.signing, pkcs8).map_err(|_| refused())?;
        let agreeing = curve.agreeing.map(|by| agreement::PrivateKey::from_private_key_der(by, pkcs8));
        let agreeing = agreeing.transpose().map_err(|_| refused())?;
        Ok(Self { spec, signing, agreeing })
    }

    pub(super) fn pkcs8(&self) -> SecretBytes {
        encoded(self.spec, &self.signing)
    }

    pub(super) fn spki(&self) -> Vec<u8> {
        let spki: PublicKeyX509Der<'_> = self.signing.public_key().as_der().expect("a parsed key encodes");
        spki.as_ref().to_vec()
    }

    pub(super) fn sign(&self, by: Algorithm, input: SignInput<'_>, context: &[u8]) -> Result<Vec<u8>, UseError> {
        fits(self.spec, by)?;
        no_context(by, context)?;
        let signature = match input {
            SignInput::Message(message) => self.signing.sign(&SystemRandom::new(), message)?,
            SignInput::Digest(bytes) => self.signing.sign_digest(&imported(by, bytes)?)?,
        };
        Ok(signature.as_ref().to_vec())
    }

    /// The raw x coordinate that both sides come to.
    pub(super) fn agree(&self, peer: &PublicKey) -> Result<SecretBytes, UseError> {
        let key = self.agreeing.as_ref().ok_or(UseError::NotFitting)?;
        let peer = agreement::UnparsedPublicKey::new(key.algorithm(), &peer.spki);
        agreement::agree(key, peer, UseError::Failed, |shared| Ok(Zeroizing::new(shared.to_vec())))
    }
}

/// As the library would not always: it leaves out the point where it was left out when it read the key.
fn encoded(spec: KeySpec, pair: &EcdsaKeyPair) -> SecretBytes {
    let number: EcPrivateKeyBin<'_> = pair.private_key().as_be_bytes().expect("a key of a curve encodes");
    encode::pkcs8(spec, &private_key(number.as_ref(), pair.public_key().as_ref()))
}

/// An ECPrivateKey (RFC 5915), with its point, and without its curve, which stands outside.
pub(super) fn private_key(number: &[u8], point: &[u8]) -> SecretBytes {
    let point = der::element(der::BIT_STRING, &[&[0], point]);
    let number = der::element(der::OCTET_STRING, &[number]);
    der::element(der::SEQUENCE, &[&der::unsigned(&[1]), &number, &der::element(POINT, &[&point])])
}

fn fits(spec: KeySpec, by: Algorithm) -> Result<(), UseError> {
    if spec.fits(Usage::Sign, by) { Ok(()) } else { Err(UseError::NotFitting) }
}

pub(super) struct PublicKey {
    spec: KeySpec,
    spki: Vec<u8>,
    verifying: signature::ParsedPublicKey,
}

impl PublicKey {
    /// Reads a point of that curve, `key` being the content of `spki`. Compressed points are read, and kept uncompressed.
    pub(super) fn parse(spec: KeySpec, spki: &[u8], key: &[u8]) -> Result<Self, InvalidRequest> {
        let wrong = |why: &str| InvalidRequest::wrong(Part::PublicKey, why);
        let curve = curve(spec).ok_or_else(|| wrong("this is no key of a curve"))?;
        match (key.first(), key.len()) {
            (Some(4), len) if len == 1 + 2 * curve.len => {}
            (Some(2 | 3), len) if len == 1 + curve.len => {}
            _ => return Err(wrong(&format!("the public key holds no point of {} (SEC 1)", spec.as_str()))),
        }
        let refused = || wrong(&format!("the point is not on the curve {}", spec.as_str()));
        let verifying = signature::ParsedPublicKey::new(curve.verifying, spki).map_err(|_| refused())?;
        let spki: PublicKeyX509Der<'_> = verifying.as_der().map_err(|_| refused())?;
        Ok(Self { spec, spki: spki.as_ref().to_vec(), verifying })
    }

    /// As SubjectPublicKeyInfo, with the point uncompressed.
    pub(super) fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub(super) fn verify(
        &self,
        by: Algorithm,
        input: SignInput<'_>,
        signature: &[u8],
        context: &[u8],
    ) -> Result<bool, UseError> {
        fits(self.spec, by)?;
        no_context(by, context)?;
        Ok(match input {
            SignInput::Message(message) => self.verifying.verify_sig(message, signature).is_ok(),
            SignInput::Digest(bytes) => self.verifying.verify_digest_sig(&imported(by, bytes)?, signature).is_ok(),
        })
    }
}

/// Turns `r ‖ s`, as JWS and Azure have it, into DER; `None` = not of the length that a signature on that curve has.
pub fn der_signature(spec: KeySpec, raw: &[u8]) -> Option<Vec<u8>> {
    let len = coordinate_len(spec)?;
    if raw.len() != 2 * len {
        return None;
    }
    let (r, s) = raw.split_at(len);
    Some(std::mem::take(&mut *der::element(der::SEQUENCE, &[&der::unsigned(r), &der::unsigned(s)])))
}

/// Turns a DER signature of a key of that curve into `r ‖ s`, each as long as a coordinate; `None` = it is none.
pub fn raw_signature(spec: KeySpec, signature: &[u8]) -> Option<Vec<u8>> {
    let len = coordinate_len(spec)?;
    let mut parts = Der::only(der::SEQUENCE, signature).ok()?;
    let (r, s) = (parts.unsigned().ok()?, parts.unsigned().ok()?);
    parts.finish().ok()?;
    let (r_at, s_at) = (len.checked_sub(r.len())?, len.checked_sub(s.len())?);
    let mut raw = vec![0; 2 * len];
    raw[r_at..len].copy_from_slice(r);
    raw[len + s_at..].copy_from_slice(s);
    Some(raw)
}
