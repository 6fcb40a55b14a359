//! The real world behind the seams.

use std::time::{SystemTime, UNIX_EPOCH};

use quorate_core::seam::{Entropy, WallClock};

/// aws-lc's DRBG, seeded by the operating system.
pub struct OsEntropy;

impl Entropy for OsEntropy {
    fn fill(&self, out: &mut [u8]) {
        // Going on without randomness would hand out guessable keys.
        aws_lc_rs::rand::fill(out).expect("the operating system gives random bytes");
    }
}

/// The machine's clock.
pub struct SystemClock;

impl WallClock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam's real implementation")]
    fn now_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
    }
}
