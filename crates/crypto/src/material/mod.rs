//! Material of key versions: its bytes are looked at in this room only, a file for each family. To everybody else it is opaque.

pub mod symmetric;

use quorate_core::key_spec::KeySpec;
use quorate_core::seam::Entropy;

use self::symmetric::SymmetricKey;
use crate::secret::SecretBytes;

/// The material of one key version, ready for use; wiped when dropped.
pub enum Material {
    /// Of a symmetric key.
    Symmetric(SymmetricKey),
}

/// Fresh.
pub struct Fresh {
    /// Secret.
    pub secret: SecretBytes,
    /// Public.
    pub public: Vec<u8>,
}

impl Material {
    /// Bytes that it takes in memory, about.
    pub fn size(&self) -> usize {
        match self {
            Self::Symmetric(_) => std::mem::size_of::<Self>(),
        }
    }

    /// The key, if it is a symmetric one. What fits was asked of `core`'s table before: to find another here is a fault.
    pub fn symmetric(&self) -> Option<&SymmetricKey> {
        match self {
            Self::Symmetric(key) => Some(key),
        }
    }

    /// Whether it takes more than a moment to make.
    pub fn is_slow_to_make(_: KeySpec) -> bool {
        false
    }

    /// Fresh material of that kind, as records hold it.
    pub fn fresh(spec: KeySpec, entropy: &dyn Entropy) -> Fresh {
        match spec {
            KeySpec::Aes256 => Fresh { secret: SymmetricKey::fresh(entropy), public: Vec::new() },
            other => unreachable!("nothing makes {} yet", other.as_str()),
        }
    }

    /// Reads material as a record holds it; `None` = it is none of that kind.
    pub fn read(spec: KeySpec, bytes: &[u8]) -> Option<Self> {
        match spec {
            KeySpec::Aes256 => SymmetricKey::from_slice(bytes).map(Self::Symmetric),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::TestEntropy;

    #[test]
    fn fresh_material_reads_back_and_nothing_else_does() {
        for spec in &[KeySpec::Aes256] {
            let fresh = Material::fresh(*spec, &TestEntropy::new(1)).secret;
            assert!(Material::read(*spec, &fresh).is_some());
            assert!(Material::read(*spec, &fresh[1..]).is_none() && Material::read(*spec, &[]).is_none());
            assert_ne!(Material::fresh(*spec, &TestEntropy::new(2)).secret, fresh);
        }
    }
}
