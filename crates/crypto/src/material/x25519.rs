//! X25519 (RFC 7748).

use aws_lc_rs::agreement::{self, UnparsedPublicKey, X25519};
use quorate_core::key_spec::KeySpec;
use quorate_core::request::{InvalidRequest, Part};
use quorate_core::seam::Entropy;
use zeroize::Zeroizing;

use super::error::{UseError, wrong};
use super::{ed25519, encode};
use crate::secret::{Secret, SecretBytes};

pub(super) struct PrivateKey {
    key: agreement::PrivateKey,
    seed: Secret<32>,
}

impl PrivateKey {
    pub(super) fn generate(entropy: &dyn Entropy) -> SecretBytes {
        ed25519::encoded(KeySpec::X25519, Secret::<32>::generate(entropy).expose())
    }

    pub(super) fn parse(pkcs8: &[u8]) -> Result<Self, InvalidRequest> {
        let seed = ed25519::seed(KeySpec::X25519, pkcs8)?;
        let key = agreement::PrivateKey::from_private_key(&X25519, seed.expose()).expect("every 32 bytes are a key");
        Ok(Self { key, seed })
    }

    pub(super) fn pkcs8(&self) -> SecretBytes {
        ed25519::encoded(KeySpec::X25519, self.seed.expose())
    }

    pub(super) fn spki(&self) -> Vec<u8> {
        let public = self.key.compute_public_key().expect("a parsed key has a public key");
        encode::spki(KeySpec::X25519, public.as_ref())
    }

    /// The secret that both sides come to.
    pub(super) fn agree(&self, peer: &PublicKey) -> Result<SecretBytes, UseError> {
        let small = wrong(Part::PublicKey, "the public key is a point of small order: no secret comes of it");
        let peer = UnparsedPublicKey::new(&X25519, peer.0);
        agreement::agree(&self.key, peer, small, |shared| Ok(Zeroizing::new(shared.to_vec())))
    }
}

pub(super) struct PublicKey([u8; 32]);

impl PublicKey {
    pub(super) fn parse(key: &[u8]) -> Result<Self, InvalidRequest> {
        let wrong = |_| InvalidRequest::wrong(Part::PublicKey, "an x25519 public key has 32 bytes (RFC 7748)");
        key.try_into().map(Self).map_err(wrong)
    }
}
