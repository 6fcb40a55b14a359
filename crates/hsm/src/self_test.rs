//! Proof, without custodians, that the token does what it did (key-hierarchy §4.1).

use std::sync::{Mutex, PoisonError};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use quorate_core::seam::Entropy;
use quorate_crypto::{SecretBytes, encapsulate, kem_secret};

use crate::{Hsm, HsmError};

/// An encapsulation takes 32 bytes, or a few times as many once in 2^32.
const DRAWN_LEN: usize = 512;

/// Bytes the token's generator gave, for a secret that lives as long as the test.
struct Drawn(Mutex<SecretBytes>);

impl Entropy for Drawn {
    fn fill(&self, out: &mut [u8]) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = left.len().saturating_sub(out.len());
        // Were they ever used up, the last ones would come again: the test would still compare both sides.
        for (byte, drawn) in out.iter_mut().zip(left[rest..].iter().cycle()) {
            *byte = *drawn;
        }
        left.truncate(rest.max(1));
    }
}

impl Hsm {
    /// Checks the keys and their attributes, the generator, a signature by each signing key, and that the kem key opens
    /// what is sealed to it. Whether it opens *this node's envelope* is `quorate_crypto::Envelope::check_hsm`'s question.
    ///
    /// # Errors
    /// What failed; [`HsmError::SelfTest`] if the token answers, but wrongly.
    pub async fn self_test(&self) -> Result<(), HsmError> {
        let keys = self.node_keys()?;
        self.check_keys().await?;

        let (a, b) = (self.random(32).await?, self.random(32).await?);
        if *a == *b || a.iter().all(|&byte| byte == a[0]) {
            return Err(HsmError::SelfTest("its random generator repeats itself"));
        }

        let message: &[u8] = &[b"quorate/v1/self-test".as_slice(), &a].concat();
        let verifies = |spki: &[u8], sig: &[u8]| {
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, spki).verify(message, sig).is_ok()
        };
        if !verifies(&keys.identity, &self.sign_identity(message).await?) {
            return Err(HsmError::SelfTest("a signature by the identity key does not verify"));
        }
        if !verifies(&keys.audit, &self.sign_audit(message).await?) {
            return Err(HsmError::SelfTest("a signature by the audit key does not verify"));
        }

        let drawn = Drawn(Mutex::new(self.random(DRAWN_LEN).await?));
        let (ct_h, expected) = encapsulate(keys.kem.alg, &keys.kem.spki_der, &drawn)
            .map_err(|_| HsmError::SelfTest("its kem public key is not usable"))?;
        let raw = self.decapsulate(&ct_h).await?;
        if !kem_secret(keys.kem.alg, raw, &ct_h, &keys.kem.spki_der).ct_eq(&expected) {
            return Err(HsmError::SelfTest("the kem key does not open what is sealed to it"));
        }
        Ok(())
    }
}
