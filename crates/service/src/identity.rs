//! The identity key in the token, as the replica uses it.

use std::io;

use quorate_hsm::{Hsm, HsmError};
use quorate_replica::NodeIdentity;

/// Signs with the identity key of a token.
pub struct HsmIdentity {
    hsm: Hsm,
    public_key: Vec<u8>,
}

impl HsmIdentity {
    /// The key that `hsm` has loaded.
    ///
    /// # Errors
    /// [`HsmError::KeysNotLoaded`].
    pub fn new(hsm: Hsm) -> Result<Self, HsmError> {
        let public_key = hsm.node_keys()?.identity.clone();
        Ok(Self { hsm, public_key })
    }
}

impl NodeIdentity for HsmIdentity {
    fn public_key(&self) -> Vec<u8> {
        self.public_key.clone()
    }

    fn sign(&self, message: &[u8]) -> io::Result<Vec<u8>> {
        self.hsm.sign_identity_blocking(message, self.hsm.soon()).map_err(io::Error::other)
    }
}
