//! The only room with plaintext key bytes: key derivation, boxes, shares, envelopes, the keyring, records and
//! customer ciphertexts, each to the byte of `key-hierarchy.md`.
//!
//! Pure and synchronous: no files, sockets or clocks; random bytes come through [`quorate_core::seam::Entropy`].
//! (Where aws-lc takes no other generator, its own serves: making RSA keys and keys of curves, ML-KEM encapsulation and the
//! quorum's ML-KEM key, the padding of OAEP and PSS, ECDSA and ML-DSA signatures; and the splitter has its own, on a thread of
//! its own.)
//! It leaves to others: who may ask for a secret (`service`), the token's half of an envelope (`hsm`), where
//! ciphertext goes (`replica`).
//!
//! Notation used by every comment here (key-hierarchy §1): `[a, b, …]` is the canonical encoding of fields: a byte
//! string is `u32be length ‖ bytes` (ids and hashes too), an integer is big-endian of its fixed width. Inside
//! *formats* that are parsed, bytes whose length the format fixes stand without a length.

mod anchor;
mod backup;
mod ceremony;
mod envelope;
mod founding;
mod hsm_kem;
mod hybrid;
mod import_token;
mod keyring;
mod own_key;
mod page_token;
mod record;
mod root;
mod seal_chain;
mod seal_config;
mod share;
mod share_text;
mod split;
mod suite;

pub mod boxes;
pub mod kdf;
pub mod material;
pub mod secret;

#[cfg(test)]
mod testing;

pub use backup::{BACKUP_LEN_MAX, Backup};
pub use ceremony::{Ceremony, CeremonyError, CeremonyId, Progress};
pub use envelope::{Envelope, EnvelopeContext, EnvelopeError, EnvelopeKind, HandoverContext};
pub use founding::{Founding, FoundingError, FoundingParams, found};
pub use hsm_kem::{CT_H_LEN_MAX, HsmAlg, KemError, check_ciphertext, encapsulate, kem_secret};
pub use hybrid::{AuditSecretKey, HybridKeyError, HybridPublicKey, HybridSecretKey, QuorumSecretKey};
pub use import_token::{IMPORT_TOKEN_LEN_MAX, ImportToken};
pub use keyring::{EpochState, Keyring, KeyringContext, KeyringError, KeyringHeader};
pub use own_key::{BoxedOwnKey, OWN_TAG_LEN, OwnKey, OwnKeyError};
pub use page_token::PageOf;
pub use record::{OpenedRecord, RecordError, WriterId};
pub use root::RootKey;
pub use seal_chain::{SealFingerprint, descends};
pub use seal_config::{
    Custodian, SealConfig, SealConfigError, SealConfigHash, SealFlags, SealSignature, SetId, SignerKind, UnsealModes,
};
pub use secret::{Secret, SecretBytes};
pub use share::{ClusterFingerprint, Share, ShareError, verify_abort, verify_proof};
pub use share_text::{SHARE_TEXT_LEN, TypoHint};
pub use suite::{HashSuite, UnknownSuite};
