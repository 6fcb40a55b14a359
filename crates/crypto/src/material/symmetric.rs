//! Symmetric keys: the ciphertexts that name their key, and data keys (key-hierarchy §3).
//!
//! ```text
//! blob   = header 28 ‖ box(K_version, "ciphertext", hdr = header, aad = SHA-256(context), pt)     104 B longer than pt
//! header = 0x51 ‖ 0x01 ‖ alg u8 ‖ kind u8 ‖ L[..4] ‖ key id 16 ‖ key version u32
//! context = every pair, sorted by the UTF-8 bytes of its key: len u32, key ‖ len u32, value
//! ```
//!
//! The box commits to key, header and context: since materials can be imported, exported or shared, one blob must never
//! open under two keys.

use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{KeyId, KeyVersion, Lineage};
use quorate_core::request::{DATA_KEY_LEN_MAX, EncryptionContext};
use quorate_core::seam::Entropy;
use thiserror::Error;

use crate::boxes::{self, BOX_OVERHEAD};
use crate::kdf::{Label, sha256};
use crate::secret::{Secret, SecretBytes};

/// A key of 256 bits: each message is encrypted under a key of its own, derived from this one.
pub struct SymmetricKey(Secret<32>);

impl SymmetricKey {
    /// The key with those bytes; `None` if they are not 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Secret::from_slice(bytes).map(Self)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.0.expose()
    }
}

/// How much longer a blob is than its plaintext, in bytes.
pub const BLOB_OVERHEAD: usize = BlobHeader::LEN + BOX_OVERHEAD;

const MAGIC: u8 = 0x51;
const VERSION: u8 = 0x01;

/// The blob does not open. One error for wrong material, wrong context and changed bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("the ciphertext does not open: it was changed, or the encryption context is not the one it was made with")]
pub struct Tampered;

/// A data key of impossible length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
#[error("a data key has 1 to {DATA_KEY_LEN_MAX} bytes, not {0}")]
pub struct DataKeyLength(pub usize);

impl DataKeyLength {
    /// Whether a data key may be so long, in bytes.
    ///
    /// # Errors
    /// When it may not.
    pub fn check(len: usize) -> Result<(), Self> {
        if (1..=DATA_KEY_LEN_MAX).contains(&len) { Ok(()) } else { Err(Self(len)) }
    }
}

/// Which version of which key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyRef {
    /// L of the cluster's data.
    pub lineage: Lineage,
    /// The key.
    pub key_id: KeyId,
    /// Its version.
    pub version: KeyVersion,
}

/// How a blob is encrypted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum BlobAlg {
    /// `box`: KBKDF-HMAC-SHA-256 for each message, AES-256-GCM, committing.
    Box = 1,
}

/// What is inside a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum BlobKind {
    /// A caller's plaintext.
    Direct = 1,
    /// A data key made here.
    DataKey = 2,
    /// The private half of a key pair made here.
    KeyPairPrivate = 3,
}

/// SHA-256 of a canonical encryption context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContextHash(pub [u8; 32]);

impl ContextHash {
    /// The hash of a context; the order in which its pairs were given does not matter.
    pub fn of(context: &EncryptionContext) -> Self {
        let pair = |w: Writer, (k, v): (&str, &str)| w.field(k.as_bytes()).field(v.as_bytes());
        Self(sha256(&context.pairs().fold(Writer::new(), pair).finish()))
    }
}

/// The clear beginning of a blob: which key opens it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobHeader {
    /// How it is encrypted.
    pub alg: BlobAlg,
    /// What is inside.
    pub kind: BlobKind,
    /// The first 4 bytes of L.
    pub lineage_prefix: [u8; 4],
    /// The key.
    pub key_id: KeyId,
    /// Its version.
    pub version: KeyVersion,
}

impl BlobHeader {
    /// Encoded length, in bytes.
    pub const LEN: usize = 28;

    /// The header of a blob, which may be longer. Nothing is authenticated yet.
    ///
    /// # Errors
    /// When the bytes are no ciphertext of this service, or of a form that this build does not know.
    pub fn parse(blob: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("ciphertext: not made by this service", blob);
        if r.u8()? != MAGIC {
            return Err(Malformed("ciphertext: not made by this service"));
        }
        if r.u8()? != VERSION {
            return Err(Malformed("ciphertext: unknown version, a newer service is needed"));
        }
        let alg = match r.u8()? {
            1 => BlobAlg::Box,
            _ => return Err(Malformed("ciphertext: unknown algorithm, a newer service is needed")),
        };
        let kind = match r.u8()? {
            1 => BlobKind::Direct,
            2 => BlobKind::DataKey,
            3 => BlobKind::KeyPairPrivate,
            _ => return Err(Malformed("ciphertext: unknown kind, a newer service is needed")),
        };
        let (lineage_prefix, key_id) = (r.array()?, KeyId(r.array()?));
        let version = KeyVersion::new(r.u32()?).ok_or(Malformed("ciphertext: key version"))?;
        if r.rest().len() < BOX_OVERHEAD {
            return Err(Malformed("ciphertext: too short"));
        }
        Ok(Self { alg, kind, lineage_prefix, key_id, version })
    }

    /// Whether it was made with keys of this lineage.
    pub fn is_of(&self, lineage: &Lineage) -> bool {
        lineage.0[..4] == self.lineage_prefix
    }

    fn encode(&self) -> [u8; Self::LEN] {
        let w = Writer::new().u8(MAGIC).u8(VERSION).u8(self.alg as u8).u8(self.kind as u8).raw(&self.lineage_prefix);
        w.raw(&self.key_id.0).u32(self.version.get()).finish().try_into().expect("28 bytes")
    }
}

/// Encrypts under a key version; returns the blob.
pub fn encrypt(
    material: &SymmetricKey,
    key: KeyRef,
    kind: BlobKind,
    context: &ContextHash,
    pt: &[u8],
    entropy: &dyn Entropy,
) -> Vec<u8> {
    let KeyRef { lineage, key_id, version } = key;
    let lineage_prefix = lineage.0[..4].try_into().expect("4 of 16 bytes");
    let header = BlobHeader { alg: BlobAlg::Box, kind, lineage_prefix, key_id, version }.encode();
    boxes::seal_onto(header.to_vec(), &material.0, Label::Ciphertext, &header, &context.0, pt, entropy)
}

/// Opens a blob with the material of the version that its header names ([`BlobHeader::parse`]); whether the caller may
/// use that key, and meant it, was decided before.
///
/// # Errors
/// [`Tampered`], one error for all causes.
pub fn decrypt(material: &SymmetricKey, context: &ContextHash, blob: &[u8]) -> Result<SecretBytes, Tampered> {
    BlobHeader::parse(blob).map_err(|_| Tampered)?;
    let (header, boxed) = blob.split_at(BlobHeader::LEN);
    boxes::open(&material.0, Label::Ciphertext, header, &context.0, boxed).map_err(|_| Tampered)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::testing::TestEntropy;

    fn key() -> KeyRef {
        KeyRef { lineage: Lineage([1; 16]), key_id: KeyId([2; 16]), version: KeyVersion::FIRST }
    }
    fn context(pairs: &[(&str, &str)]) -> ContextHash {
        let pairs = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        ContextHash::of(&EncryptionContext::new(pairs).unwrap())
    }
    fn secret(bytes: [u8; 32]) -> SymmetricKey {
        SymmetricKey(Secret::from_array(bytes))
    }

    #[test]
    fn opens_only_under_its_key_and_context() {
        let (k, other) = (secret([3; 32]), secret([4; 32]));
        let c = context(&[("app", "shop")]);
        let blob = encrypt(&k, key(), BlobKind::Direct, &c, b"card", &TestEntropy::new(1));
        assert_eq!((blob.len(), BLOB_OVERHEAD), (4 + 104, 104));
        let header = BlobHeader::parse(&blob).unwrap();
        assert_eq!((header.key_id, header.version, header.kind), (KeyId([2; 16]), KeyVersion::FIRST, BlobKind::Direct));
        assert!(header.is_of(&Lineage([1; 16])) && !header.is_of(&Lineage([2; 16])));
        assert_eq!(decrypt(&k, &c, &blob).unwrap()[..], b"card"[..]);
        assert_eq!(decrypt(&other, &c, &blob), Err(Tampered));
        for other in [context(&[]), context(&[("app", "shop2")]), context(&[("app", "shop"), ("x", "")])] {
            assert_eq!(decrypt(&k, &other, &blob), Err(Tampered));
        }
        for i in 0..blob.len() {
            for bit in 0..8 {
                let mut bad = blob.clone();
                bad[i] ^= 1 << bit;
                assert_eq!(decrypt(&k, &c, &bad), Err(Tampered), "byte {i}");
            }
            assert_eq!(decrypt(&k, &c, &blob[..i]), Err(Tampered), "first {i}");
        }
        assert_eq!(decrypt(&k, &c, &[&blob[..], &[0]].concat()), Err(Tampered));
    }

    #[test]
    fn foreign_bytes_are_told_apart_before_any_cryptography() {
        let k = secret([3; 32]);
        let blob = encrypt(&k, key(), BlobKind::DataKey, &context(&[]), b"", &TestEntropy::new(1));
        let with = |at: usize, b: u8| {
            let mut bad = blob.clone();
            bad[at] = b;
            BlobHeader::parse(&bad).err()
        };
        assert_eq!(with(0, 0), Some(Malformed("ciphertext: not made by this service")));
        assert!(with(1, 2).unwrap().0.contains("version"));
        assert!(with(2, 2).unwrap().0.contains("algorithm"));
        assert!(with(3, 4).unwrap().0.contains("kind") && with(3, 0).is_some());
        let mut zero = blob.clone();
        zero[24..28].fill(0);
        assert_eq!(BlobHeader::parse(&zero), Err(Malformed("ciphertext: key version")));
        assert_eq!(BlobHeader::parse(&blob[..103]), Err(Malformed("ciphertext: too short")));
    }

    #[test]
    fn contexts_are_canonical() {
        assert_eq!(context(&[("a", "1"), ("b", "2")]), context(&[("b", "2"), ("a", "1")]));
        assert_ne!(context(&[("a", "1b")]), context(&[("a1", "b")]));
        assert_ne!(context(&[("a", "")]), context(&[]));
    }

    #[test]
    fn data_keys_open_to_themselves() {
        let k = secret([3; 32]);
        let c = context(&[("a", "b")]);
        for len in [1, 32, DATA_KEY_LEN_MAX] {
            assert_eq!(DataKeyLength::check(len), Ok(()));
            let entropy = TestEntropy::new(1);
            let mut plain = SecretBytes::new(vec![0; len]);
            entropy.fill(&mut plain);
            let blob = encrypt(&k, key(), BlobKind::DataKey, &c, &plain, &entropy);
            assert_eq!((plain.len(), BlobHeader::parse(&blob).unwrap().kind), (len, BlobKind::DataKey));
            assert_eq!(decrypt(&k, &c, &blob).unwrap(), plain);
        }
        for len in [0, DATA_KEY_LEN_MAX + 1] {
            assert_eq!(DataKeyLength::check(len), Err(DataKeyLength(len)));
        }
    }

    proptest! {
        #[test]
        fn round_trip(material: [u8; 32], pt: Vec<u8>, seed: u64) {
            let k = secret(material);
            let c = context(&[("a", "b")]);
            let blob = encrypt(&k, key(), BlobKind::Direct, &c, &pt, &TestEntropy::new(seed));
            prop_assert_eq!(&decrypt(&k, &c, &blob).unwrap()[..], &pt[..]);
        }

        #[test]
        fn parsing_never_panics(bytes: Vec<u8>, head in prop::bool::ANY) {
            let bytes = if head { [&[0x51, 1, 1, 1], &bytes[..]].concat() } else { bytes };
            let _ = BlobHeader::parse(&bytes);
            prop_assert!(decrypt(&secret([3; 32]), &context(&[]), &bytes).is_err());
        }
    }
}
