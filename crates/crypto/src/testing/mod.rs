//! Test support: a fixed stream of "random" bytes, a token made of software, and small foundings.

mod known_answers;

use std::sync::Mutex;

use aws_lc_rs::agreement::{self, ECDH_P256, PrivateKey, UnparsedPublicKey};
use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use quorate_core::id::{ClusterId, Lineage};
use quorate_core::seam::Entropy;

use crate::kdf::sha256;
use crate::{Envelope, Founding, FoundingParams, Secret, found, kem_secret};

/// Root CA key of test clusters.
pub(crate) const TEST_ROOT_SPKI: &[u8] = b"the root's SPKI";

/// SHA-256(seed ‖ counter) for counter 0, 1, …: the same bytes in every run.
pub(crate) struct TestEntropy(Mutex<(u64, u64, Vec<u8>)>);

impl TestEntropy {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new((seed, 0, Vec::new())))
    }
}

impl Entropy for TestEntropy {
    fn fill(&self, out: &mut [u8]) {
        let (seed, counter, ready) = &mut *self.0.lock().unwrap();
        while ready.len() < out.len() {
            ready.extend(sha256(&[seed.to_be_bytes(), counter.to_be_bytes()].concat()));
            *counter += 1;
        }
        let rest = ready.split_off(out.len());
        out.copy_from_slice(&std::mem::replace(ready, rest));
    }
}

/// What a token does for `p256-ecdh`.
pub(crate) struct TestToken {
    key: PrivateKey,
    pub(crate) spki: Vec<u8>,
}

impl TestToken {
    pub(crate) fn new() -> Self {
        let key = PrivateKey::generate(&ECDH_P256).unwrap();
        let spki: PublicKeyX509Der<'_> = key.compute_public_key().unwrap().as_der().unwrap();
        Self { spki: spki.as_ref().to_vec(), key }
    }
    pub(crate) fn decapsulate(&self, envelope: &Envelope) -> Secret<32> {
        let point = UnparsedPublicKey::new(&ECDH_P256, envelope.ct_h());
        let z = agreement::agree(&self.key, point, (), |z| Ok(Secret::from_slice(z).unwrap())).ok().unwrap();
        kem_secret(envelope.alg(), z, envelope.ct_h(), &self.spki)
    }
}

pub(crate) fn founding_params(threshold: u8, shares: u8, hsm_random: &Secret<32>) -> FoundingParams<'_> {
    FoundingParams {
        shares,
        threshold,
        labels: vec![],
        lineage: Lineage([1; 16]),
        cluster: ClusterId([2; 16]),
        root_spki: TEST_ROOT_SPKI,
        hsm_random,
        single_share: false,
        dev: false,
    }
}

/// A founding with its own set id.
pub(crate) fn founding(threshold: u8, shares: u8) -> Founding {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
    static SEED: AtomicU64 = AtomicU64::new(1000);
    let hsm = Secret::from_array([3; 32]);
    found(founding_params(threshold, shares, &hsm), &TestEntropy::new(SEED.fetch_add(1, Relaxed))).ok().unwrap()
}
