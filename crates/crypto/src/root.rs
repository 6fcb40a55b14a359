//! The root key RK_r, and how every long-lived secret is made (key-hierarchy §2).

use quorate_core::codec::Writer;
use quorate_core::seam::Entropy;
use zeroize::Zeroizing;

use crate::kdf::{Label, derive};
use crate::secret::Secret;

/// What a fresh secret will be: the field that keeps two of them apart that share the HSM's bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    UnsealKey,
    RootKey,
    EpochKey,
    NameKey,
    IdKey,
    AnchorSeed,
    BackupKey,
    QuorumX25519,
    AuditX25519,
}

impl Purpose {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::UnsealKey => "unseal-key",
            Self::RootKey => "root-key",
            Self::EpochKey => "epoch-key",
            Self::NameKey => "name-key",
            Self::IdKey => "id-key",
            Self::AnchorSeed => "anchor-seed",
            Self::BackupKey => "backup-key",
            Self::QuorumX25519 => "quorum-x25519",
            Self::AuditX25519 => "audit-x25519",
        }
    }
}

/// `kdf(operating system 32 ‖ HSM 32, "root-gen", [purpose], 32)`: good as long as either source is. The first half is
/// fresh for each secret; `hsm_random` may serve for several of different purpose.
pub(crate) fn fresh(purpose: Purpose, hsm_random: &Secret<32>, entropy: &dyn Entropy) -> Secret<32> {
    let mut sources = Zeroizing::new([0; 64]);
    entropy.fill(&mut sources[..32]);
    sources[32..].copy_from_slice(hsm_random.expose());
    derive(&*sources, Label::RootGen, &Writer::new().field(purpose.as_str().as_bytes()).finish())
}

/// RK of one generation r: opens the keyring. In no envelope but boxed; in memory only while unsealed.
pub struct RootKey {
    generation: u32,
    key: Secret<32>,
}

impl RootKey {
    /// A new root key of generation `generation`, from both sources of randomness.
    pub fn generate(generation: u32, hsm_random: &Secret<32>, entropy: &dyn Entropy) -> Self {
        Self { generation, key: fresh(Purpose::RootKey, hsm_random, entropy) }
    }
    pub(crate) fn from_parts(generation: u32, key: Secret<32>) -> Self {
        Self { generation, key }
    }
    /// Its generation r: moves at every member removal, HSM change and re-share.
    pub fn generation(&self) -> u32 {
        self.generation
    }
    pub(crate) fn key(&self) -> &Secret<32> {
        &self.key
    }
    /// Whether both are the same key of the same generation, in constant time.
    pub fn ct_eq(&self, other: &Self) -> bool {
        self.generation == other.generation && self.key.ct_eq(&other.key)
    }
}
