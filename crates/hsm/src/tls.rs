//! The identity key as rustls sees it. The private half stays in the token: each handshake costs one call.

use std::sync::Arc;

use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{Error, SignatureAlgorithm, SignatureScheme};

use crate::{Hsm, HsmError};

impl Hsm {
    /// The identity key for TLS: ECDSA_NISTP256_SHA256, on both ports, as server and as client. It signs under
    /// `block_in_place` with the configured deadline, so that a slow token never stops heartbeats: use a multi-thread
    /// runtime.
    ///
    /// # Errors
    /// [`HsmError::KeysNotLoaded`].
    pub fn rustls_signing_key(&self) -> Result<Arc<dyn SigningKey>, HsmError> {
        let spki = self.node_keys()?.identity.clone();
        Ok(Arc::new(IdentityKey { hsm: self.clone(), spki }))
    }
}

#[derive(Debug)]
struct IdentityKey {
    hsm: Hsm,
    spki: Vec<u8>,
}

impl SigningKey for IdentityKey {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&SignatureScheme::ECDSA_NISTP256_SHA256)
            .then(|| Box::new(IdentitySigner(self.hsm.clone())) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.spki.as_slice()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

#[derive(Debug)]
struct IdentitySigner(Hsm);

impl Signer for IdentitySigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        self.0.sign_identity_blocking(message, self.0.soon()).map_err(|e| Error::General(e.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
