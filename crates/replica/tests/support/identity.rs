//! An identity key in memory, where a real node has one in its HSM.

use std::io;

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
use quorate_replica::NodeIdentity;

pub struct SoftIdentity(pub EcdsaKeyPair);

impl Default for SoftIdentity {
    fn default() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key"))
    }
}

impl NodeIdentity for SoftIdentity {
    fn public_key(&self) -> Vec<u8> {
        let der: PublicKeyX509Der<'_> = self.0.public_key().as_der().expect("encoded");
        der.as_ref().to_vec()
    }
    fn sign(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        let signature = self.0.sign(&SystemRandom::new(), message).map_err(io::Error::other)?;
        Ok(signature.as_ref().to_vec())
    }
}
