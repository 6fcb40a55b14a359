//! What tests of storage share: a disk that loses power, one that fills up, seeded random numbers.

mod quota_disk;
mod sim_disk;

use quorate_core::seam::Entropy;

pub use quota_disk::QuotaDisk;
pub use sim_disk::SimDisk;

/// SplitMix64: small, seeded, the same everywhere.
pub struct Rng(pub u64);

impl Rng {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// In `0..n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next_u64() % n
    }
    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
    /// So many bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next_u64() as u8).collect()
    }
}

/// Predictable bytes, different at each call.
#[derive(Default)]
pub struct TestEntropy(std::sync::atomic::AtomicU64);

impl Entropy for TestEntropy {
    fn fill(&self, out: &mut [u8]) {
        let seed = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        out.copy_from_slice(&Rng(seed ^ 0xABCD).bytes(out.len()));
    }
}

/// The seed of a random test: `QUORATE_TEST_SEED`, else the given one. Printed, so that a failure can be run again.
pub fn seed(default: u64) -> u64 {
    let seed = std::env::var("QUORATE_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(default);
    println!("QUORATE_TEST_SEED={seed}");
    seed
}
