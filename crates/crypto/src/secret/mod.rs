//! Memory for secrets (key-hierarchy §8): [`Secret`] lives in pages that no core dump, swap or (where the kernel
//! offers `memfd_secret`) system call can reach, and is wiped when dropped.

mod arena;

use quorate_core::seam::Entropy;
use zeroize::{Zeroize, Zeroizing};

pub use arena::{Protection, protection};

/// Secret bytes of variable length: on the heap, wiped when dropped. Never print or log it.
pub type SecretBytes = Zeroizing<Vec<u8>>;

/// `N` secret bytes (at most 256).
///
/// Deliberately without `Clone`, `Debug`, `Display`, `PartialEq` and any serialisation: a copy, a print or a
/// variable-time comparison has to be written out where a reviewer sees it.
pub struct Secret<const N: usize>(arena::Slot);

impl<const N: usize> Secret<N> {
    const FITS: () = assert!(N > 0 && N <= arena::SLOT_LEN_MAX, "a Secret holds 1 to 256 bytes");

    /// Moves bytes into secret memory and wipes the array it was given (not copies the caller kept).
    pub fn from_array(mut bytes: [u8; N]) -> Self {
        let secret = Self::copy_of(&bytes);
        bytes.zeroize();
        secret
    }

    /// A copy of `bytes`, or `None` when there are not exactly `N` of them. The caller wipes its own.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        <&[u8; N]>::try_from(bytes).ok().map(Self::copy_of)
    }

    /// A copy of `bytes`; the caller wipes its own.
    pub(crate) fn copy_of(bytes: &[u8; N]) -> Self {
        let () = Self::FITS;
        let mut slot = arena::Slot::take(N);
        slot.bytes_mut()[..N].copy_from_slice(bytes);
        Self(slot)
    }

    /// `N` fresh random bytes.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        // Through the stack, since no system call can write into memfd_secret pages.
        let mut bytes = Zeroizing::new([0; N]);
        entropy.fill(&mut *bytes);
        Self::copy_of(&bytes)
    }

    /// The bytes. Copy them only into something that is wiped.
    pub fn expose(&self) -> &[u8; N] {
        self.0.bytes()[..N].try_into().expect("a slot holds at least N bytes")
    }

    /// Whether both are the same bytes, in constant time.
    pub fn ct_eq(&self, other: &Self) -> bool {
        ct_eq(self.expose(), other.expose())
    }
}

/// Whether both are the same bytes, in time that depends on their lengths alone.
pub(crate) fn ct_eq(a: &[u8], b: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_its_bytes_and_compares() {
        let a = Secret::from_array([7; 32]);
        let b = Secret::<32>::from_slice(&[7; 32]).unwrap();
        let c = Secret::from_array([8; 32]);
        assert_eq!(a.expose(), &[7; 32]);
        assert!(a.ct_eq(&b));
        assert!(!a.ct_eq(&c));
        assert!(Secret::<32>::from_slice(&[7; 31]).is_none());
        assert_eq!(Secret::from_array([9; 64]).expose(), &[9; 64]);
        assert_eq!(Secret::from_array([5]).expose(), &[5]);
    }

    #[test]
    fn many_live_secrets_never_overlap() {
        let all: Vec<Secret<32>> = (0..5000u32)
            .map(|i| {
                let mut bytes = [0; 32];
                bytes[..4].copy_from_slice(&i.to_be_bytes());
                bytes[28..].copy_from_slice(&i.to_be_bytes());
                Secret::from_array(bytes)
            })
            .collect();
        for (i, secret) in all.iter().enumerate() {
            assert_eq!(secret.expose()[..4], (i as u32).to_be_bytes());
            assert_eq!(secret.expose()[28..], (i as u32).to_be_bytes());
        }
    }

    #[test]
    fn secrets_cross_threads() {
        let secret = Secret::from_array([3; 32]);
        std::thread::scope(|s| {
            s.spawn(|| assert_eq!(secret.expose(), &[3; 32]));
        });
    }
}
