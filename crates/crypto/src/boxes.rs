//! `box` and `box0`: authenticated encryption under a key that is derived for each message (key-hierarchy §1).
//!
//! ```text
//! Ke 32 ‖ Kc 32 = kdf(K, label, [R, SHA-256([hdr, aad])], 64)
//! box  = R 16 ‖ IV 12 ‖ Kc 32 ‖ AES-256-GCM(Ke, IV, AAD = [hdr, aad], pt) ‖ tag 16      76 B longer than pt
//! box0 = R 16 ‖ IV 12 ‖ AES-256-GCM(Ke, …) ‖ tag 16, with Ke 32 = kdf(K, label, …, 32)   44 B longer than pt
//! ```
//!
//! `box` commits to key, header and associated data: one ciphertext never opens under two keys. `box0`, for records,
//! derives the 32 bytes it uses and no commitment. 224 random bits for each message stand in for nonce counters: no
//! nonce depends on state that a disk could give back.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use quorate_core::codec::Writer;
use quorate_core::seam::Entropy;
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use crate::kdf::{Label, derive_into, sha256};
use crate::secret::{Secret, SecretBytes, ct_eq};

/// How much longer a `box` is than its plaintext, in bytes.
pub const BOX_OVERHEAD: usize = SALT_LEN + IV_LEN + COMMITMENT_LEN + TAG_LEN;
/// How much longer a `box0` is than its plaintext, in bytes.
pub const BOX0_OVERHEAD: usize = SALT_LEN + IV_LEN + TAG_LEN;

const SALT_LEN: usize = 16;
const IV_LEN: usize = 12;
const COMMITMENT_LEN: usize = 32;
const TAG_LEN: usize = 16;

/// The box does not open: wrong key, wrong header, wrong associated data, or changed bytes. Which of them it is, is
/// deliberately not told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the ciphertext does not open: it was changed, or this is not its key or context")]
pub struct NotOpened;

/// `box(K, label, hdr, aad, pt)`.
pub fn seal(key: &Secret<32>, label: Label, hdr: &[u8], aad: &[u8], pt: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
    seal_onto(Vec::new(), key, label, hdr, aad, pt, entropy)
}

/// As [`seal`], appended to bytes that come before it in a format.
pub(crate) fn seal_onto(
    before: Vec<u8>,
    key: &Secret<32>,
    label: Label,
    hdr: &[u8],
    aad: &[u8],
    pt: &[u8],
    entropy: &dyn Entropy,
) -> Vec<u8> {
    encrypt::<64>(before, key, label, hdr, aad, pt, entropy)
}

/// Opens a `box`.
///
/// # Errors
/// [`NotOpened`], one for all causes.
pub fn open(key: &Secret<32>, label: Label, hdr: &[u8], aad: &[u8], boxed: &[u8]) -> Result<SecretBytes, NotOpened> {
    decrypt::<64>(key, label, hdr, aad, boxed)
}

/// `box0(K, label, hdr, aad, pt)`.
pub fn seal0(key: &Secret<32>, label: Label, hdr: &[u8], aad: &[u8], pt: &[u8], entropy: &dyn Entropy) -> Vec<u8> {
    seal0_onto(Vec::new(), key, label, hdr, aad, pt, entropy)
}

/// As [`seal0`], appended to bytes that come before it in a format.
pub(crate) fn seal0_onto(
    before: Vec<u8>,
    key: &Secret<32>,
    label: Label,
    hdr: &[u8],
    aad: &[u8],
    pt: &[u8],
    entropy: &dyn Entropy,
) -> Vec<u8> {
    encrypt::<32>(before, key, label, hdr, aad, pt, entropy)
}

/// Opens a `box0`.
///
/// # Errors
/// [`NotOpened`], one for all causes.
pub fn open0(key: &Secret<32>, label: Label, hdr: &[u8], aad: &[u8], boxed: &[u8]) -> Result<SecretBytes, NotOpened> {
    decrypt::<32>(key, label, hdr, aad, boxed)
}

/// The keys of one message: Ke, and Kc where `N` is 64.
fn message_keys<const N: usize>(key: &Secret<32>, label: Label, salt: &[u8], bound: &[u8]) -> Zeroizing<[u8; N]> {
    let fields = Writer::new().field(salt).field(&sha256(bound)).finish();
    let mut keys = Zeroizing::new([0; N]);
    derive_into(key.expose(), label, &fields, &mut *keys);
    keys
}

fn encrypt<const N: usize>(
    before: Vec<u8>,
    key: &Secret<32>,
    label: Label,
    hdr: &[u8],
    aad: &[u8],
    pt: &[u8],
    entropy: &dyn Entropy,
) -> Vec<u8> {
    let bound = Writer::new().field(hdr).field(aad).finish();
    let mut salt = [0; SALT_LEN];
    let mut iv = [0; IV_LEN];
    entropy.fill(&mut salt);
    entropy.fill(&mut iv);
    let keys = message_keys::<N>(key, label, &salt, &bound);

    // Reserved at once: growing later would leave plaintext behind in the old allocation.
    let mut out = before;
    out.reserve_exact(BOX_OVERHEAD + pt.len());
    out.extend_from_slice(&salt);
    out.extend_from_slice(&iv);
    out.extend_from_slice(&keys[32..]);
    let pt_at = out.len();
    out.extend_from_slice(pt);
    // GCM encrypts up to 64 GiB; nothing here comes near.
    let tag = gcm(&keys[..32])
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(iv), Aad::from(&bound), &mut out[pt_at..])
        .expect("the plaintext is shorter than 64 GiB");
    out.extend_from_slice(tag.as_ref());
    out
}

fn decrypt<const N: usize>(
    key: &Secret<32>,
    label: Label,
    hdr: &[u8],
    aad: &[u8],
    boxed: &[u8],
) -> Result<SecretBytes, NotOpened> {
    let ct_at = SALT_LEN + IV_LEN + (N - 32);
    if boxed.len() < ct_at + TAG_LEN {
        return Err(NotOpened);
    }
    let (salt, rest) = boxed.split_at(SALT_LEN);
    let (iv, rest) = rest.split_at(IV_LEN);
    let (commitment, ct) = rest.split_at(N - 32);
    let bound = Writer::new().field(hdr).field(aad).finish();
    let keys = message_keys::<N>(key, label, salt, &bound);
    if !ct_eq(&keys[32..], commitment) {
        return Err(NotOpened);
    }
    let mut pt = Zeroizing::new(ct.to_vec());
    let nonce = Nonce::try_assume_unique_for_key(iv).map_err(|_| NotOpened)?;
    let pt_len = gcm(&keys[..32]).open_in_place(nonce, Aad::from(&bound), &mut pt).map_err(|_| NotOpened)?.len();
    pt[pt_len..].zeroize();
    pt.truncate(pt_len);
    Ok(pt)
}

fn gcm(key: &[u8]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::TestEntropy;

    type Seal = fn(&Secret<32>, Label, &[u8], &[u8], &[u8], &dyn Entropy) -> Vec<u8>;
    type Open = fn(&Secret<32>, Label, &[u8], &[u8], &[u8]) -> Result<SecretBytes, NotOpened>;
    const KINDS: [(Seal, Open, usize); 2] = [(seal, open, BOX_OVERHEAD), (seal0, open0, BOX0_OVERHEAD)];

    #[test]
    fn overheads_are_what_the_formats_say() {
        assert_eq!((BOX_OVERHEAD, BOX0_OVERHEAD), (76, 44));
    }

    #[test]
    fn opens_only_with_everything_unchanged() {
        let key = Secret::from_array([1; 32]);
        for (seal, open, overhead) in KINDS {
            let boxed = seal(&key, Label::Record, b"hdr", b"aad", b"plaintext", &TestEntropy::new(1));
            assert_eq!(boxed.len(), 9 + overhead);
            assert_eq!(open(&key, Label::Record, b"hdr", b"aad", &boxed).unwrap()[..], b"plaintext"[..]);
            assert!(open(&Secret::from_array([2; 32]), Label::Record, b"hdr", b"aad", &boxed).is_err());
            assert!(open(&key, Label::Ciphertext, b"hdr", b"aad", &boxed).is_err());
            assert!(open(&key, Label::Record, b"hdR", b"aad", &boxed).is_err());
            assert!(open(&key, Label::Record, b"hdr", b"aaD", &boxed).is_err());
            // The same bytes, cut between header and associated data at another place.
            assert!(open(&key, Label::Record, b"hdra", b"ad", &boxed).is_err());
            for i in 0..boxed.len() {
                let mut bad = boxed.clone();
                bad[i] ^= 0x40;
                assert!(open(&key, Label::Record, b"hdr", b"aad", &bad).is_err(), "byte {i}");
                assert!(open(&key, Label::Record, b"hdr", b"aad", &boxed[..i]).is_err(), "first {i}");
            }
        }
    }

    #[test]
    fn a_box_is_no_box0() {
        let key = Secret::from_array([1; 32]);
        let boxed = seal(&key, Label::Record, b"", b"", b"x", &TestEntropy::new(1));
        assert!(open0(&key, Label::Record, b"", b"", &boxed).is_err());
    }

    proptest! {
        #[test]
        fn round_trip(key: [u8; 32], hdr: Vec<u8>, aad: Vec<u8>, pt: Vec<u8>, seed: u64) {
            let key = Secret::from_array(key);
            for (seal, open, overhead) in KINDS {
                let boxed = seal(&key, Label::Record, &hdr, &aad, &pt, &TestEntropy::new(seed));
                prop_assert_eq!(boxed.len(), pt.len() + overhead);
                prop_assert_eq!(&open(&key, Label::Record, &hdr, &aad, &boxed).unwrap()[..], &pt[..]);
            }
        }

        #[test]
        fn random_bytes_never_open_and_never_panic(bytes: Vec<u8>) {
            let key = Secret::from_array([1; 32]);
            for (_, open, _) in KINDS {
                prop_assert!(open(&key, Label::Record, b"", b"", &bytes).is_err());
            }
        }
    }
}
