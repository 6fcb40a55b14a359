//! What every node checks of the seals without any key.

use quorate_core::session::{Claim, Open};
use quorate_crypto::SealConfig;
use quorate_replica::SealCheck;

/// Reads seal configurations, and what their anchor keys signed.
pub struct PublicSeals;

impl SealCheck for PublicSeals {
    fn opens(&self, seal_config: &[u8], open: &Open) -> bool {
        SealConfig::decode(seal_config).is_ok_and(|config| config.opens(open))
    }

    fn claims(&self, seal_config: &[u8], claim: &Claim, signature: &[u8; 64]) -> bool {
        SealConfig::decode(seal_config).is_ok_and(|config| config.claims(claim, signature))
    }

    fn lists(&self, seal_config: &[u8], list: &[u8], signature: &[u8; 64]) -> bool {
        SealConfig::decode(seal_config).is_ok_and(|config| config.lists(list, signature))
    }

    fn levels(&self, seal_config: &[u8], said: &[u8], signature: &[u8; 64]) -> bool {
        SealConfig::decode(seal_config).is_ok_and(|config| config.levels(said, signature))
    }

    fn succeeds(&self, seal_config: &[u8], next: &[u8]) -> bool {
        let decoded = (SealConfig::decode(seal_config), SealConfig::decode(next));
        matches!(decoded, (Ok(now), Ok(next)) if now.is_succeeded_by(&next))
    }
}
