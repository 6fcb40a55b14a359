//! The node's identity key, as a seam: what its peers know it by (key-hierarchy §5), and what certifies what it makes anew.

use std::io;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};

/// The identity key of this node. Its private half stays in the HSM.
pub trait NodeIdentity: Send + Sync {
    /// Its public half (SubjectPublicKeyInfo, DER): the one that membership pins for this node.
    fn public_key(&self) -> Vec<u8>;

    /// An ECDSA P-256 signature with SHA-256 over `message`, in DER. Blocks for as long as the token takes, so it is for
    /// the start alone.
    ///
    /// # Errors
    /// The token fails, or does not answer in time.
    fn sign(&self, message: &[u8]) -> io::Result<Vec<u8>>;
}

/// Whether the holder of an identity key has signed `message`. Takes about 60 us.
pub fn signed_by(public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public_key).verify(message, signature).is_ok()
}
