//! The real world behind the seams.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quorate_core::seam::{BootClock, Entropy, WallClock};

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

/// The kernel's `CLOCK_BOOTTIME`.
pub struct SystemBootClock;

impl BootClock for SystemBootClock {
    fn now(&self) -> Duration {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
    }
}
