//! Challenges over which a share's proof key signs. They are recognised by a tag, not remembered: a stranger who asks
//! for a million of them has created no state.

use std::time::Duration;

use aws_lc_rs::{constant_time, hmac};
use quorate_core::seam::Entropy;
use tokio::time::Instant;

/// How long a challenge can be answered.
pub const VALID: Duration = Duration::from_secs(120);
/// Length of a challenge, in bytes: `expiry ms u64 ‖ random 8 ‖ tag 16`.
pub const LEN: usize = 32;

/// Makes and recognises challenges; its key lives as long as the process.
pub struct Challenges {
    key: hmac::Key,
    since: Instant,
}

impl Challenges {
    /// With a fresh key.
    pub fn new(entropy: &dyn Entropy) -> Self {
        let mut key = zeroize::Zeroizing::new([0; 32]);
        entropy.fill(&mut key[..]);
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, &key[..]), since: Instant::now() }
    }

    /// A fresh challenge.
    pub fn make(&self, entropy: &dyn Entropy) -> [u8; LEN] {
        let mut nonce = [0; LEN];
        let expiry = u64::try_from((self.since.elapsed() + VALID).as_millis()).unwrap_or(u64::MAX);
        nonce[..8].copy_from_slice(&expiry.to_be_bytes());
        entropy.fill(&mut nonce[8..16]);
        let tag = hmac::sign(&self.key, &nonce[..16]);
        nonce[16..].copy_from_slice(&tag.as_ref()[..16]);
        nonce
    }

    /// Whether this process made it, less than [`VALID`] ago.
    pub fn is_current(&self, nonce: &[u8]) -> bool {
        let Some((head, tag)) = nonce.split_at_checked(16).filter(|_| nonce.len() == LEN) else { return false };
        let expected = hmac::sign(&self.key, head);
        let ours = constant_time::verify_slices_are_equal(&expected.as_ref()[..16], tag).is_ok();
        let expiry = head.first_chunk::<8>().map_or(0, |b| u64::from_be_bytes(*b));
        ours && u128::from(expiry) > self.since.elapsed().as_millis()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counting(std::sync::atomic::AtomicU8);
    impl Entropy for Counting {
        fn fill(&self, out: &mut [u8]) {
            out.fill_with(|| self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_ours_only_whole_and_only_for_two_minutes() {
        let entropy = Counting(0.into());
        let (ours, theirs) = (Challenges::new(&entropy), Challenges::new(&entropy));
        let nonce = ours.make(&entropy);
        assert!(ours.is_current(&nonce) && !theirs.is_current(&nonce));
        assert_ne!(nonce, ours.make(&entropy));
        for n in 0..LEN {
            let mut altered = nonce;
            altered[n] ^= 1;
            assert!(!ours.is_current(&altered), "byte {n}");
            assert!(!ours.is_current(&nonce[..n]));
        }
        tokio::time::advance(VALID - Duration::from_millis(1)).await;
        assert!(ours.is_current(&nonce));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!ours.is_current(&nonce));
    }
}
