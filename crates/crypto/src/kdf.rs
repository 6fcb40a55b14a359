//! Key derivation: SP 800-108r1 in counter mode with HMAC-SHA-256, one label for each purpose (key-hierarchy §1).

use aws_lc_rs::digest;
use aws_lc_rs::kdf::{KbkdfCtrHmacAlgorithmId, get_kbkdf_ctr_hmac_algorithm, kbkdf_ctr_hmac};
use zeroize::Zeroizing;

use crate::secret::Secret;

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident = $text:literal),+ $(,)?) => {
        /// What a derived key or a signature is for. Each label is used in exactly one place, so that no two purposes
        /// can ever share a key.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Label { $($(#[$doc])* $name),+ }

        impl Label {
            /// Every label.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];
            /// The label as it enters a derivation: ASCII `quorate/v1/<purpose>`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => concat!("quorate/v1/", $text)),+ }
            }
        }
    };
}

labels! {
    /// UK, RK, epoch keys, K_name and seeds from operating system and HSM randomness.
    RootGen = "root-gen",
    /// Key of box_Q, from UK.
    QuorumKey = "quorum-key",
    /// box_Q itself.
    QuorumKeyBox = "quorum-key-box",
    /// Key of an envelope, from both halves.
    Envelope = "envelope",
    /// An envelope's box.
    EnvelopeBox = "envelope-box",
    /// ss_h, from what the token returned.
    HsmKem = "hsm-kem",
    /// The 16 bytes that prove that a token still opens an envelope.
    HsmCheck = "hsm-check",
    /// Key of the keyring's box, from RK.
    Keyring = "keyring",
    /// The keyring's box.
    KeyringBox = "keyring-box",
    /// K_rec(e), from E_e.
    RecordKey = "record-key",
    /// A record's box0.
    Record = "record",
    /// K_mac(e), from E_e.
    BatchMac = "batch-mac",
    /// A customer ciphertext's box.
    Ciphertext = "ciphertext",
    /// A custodian's Ed25519 seed, from y.
    CustodianSign = "custodian-sign",
    /// The message of a share proof.
    ShareProof = "share-proof",
    /// The message by which custodians end a ceremony that another began.
    CeremonyAbort = "ceremony-abort",
    /// The message that signers of a seal configuration sign.
    SealConfig = "seal-config",
    /// The message by which whoever holds the keyring vouches for a hand-over.
    Handover = "handover",
    /// What a recipient answers to a hand-over, from RK.
    HandoverAck = "handover-ack",
    /// An entry that begins a session.
    Open = "open",
    /// What an origin claims to a sealed leader.
    Origin = "origin",
    /// The roster of all members.
    Roster = "roster",
    /// The feature level in force.
    Level = "level",
    /// Key of the box of a node's own key, from ss_h.
    OwnKey = "own-key",
    /// That box.
    OwnKeyBox = "own-key-box",
    /// The tag of a node's word about itself.
    OwnWord = "own-word",
    /// Key of a backup's box, from K_backup.
    Backup = "backup",
    /// That box.
    BackupBox = "backup-box",
    /// What a joining node answers to show that it holds its KEM key, from ss_h.
    JoinProof = "join-proof",
    /// Key of import tokens' boxes, from E_e.
    Import = "import",
    /// An import token's box.
    ImportToken = "import-token",
    /// Key of page tokens' boxes, from E_e.
    Page = "page",
    /// A page token's box.
    PageToken = "page-token",
}

/// `kdf(K, label, fields, N)`: fixed input `label ‖ 0x00 ‖ fields ‖ u32be(8 N)`.
pub fn derive<const N: usize>(key: &[u8], label: Label, fields: &[u8]) -> Secret<N> {
    let mut out = Zeroizing::new([0; N]);
    derive_into(key, label, fields, &mut *out);
    Secret::copy_of(&out)
}

/// As [`derive()`], into a buffer that the caller wipes.
pub(crate) fn derive_into(key: &[u8], label: Label, fields: &[u8], out: &mut [u8]) {
    let label = label.as_str().as_bytes();
    let bits = u32::try_from(out.len() * 8).expect("keys are at most 64 bytes");
    let mut info = Vec::with_capacity(label.len() + 1 + fields.len() + 4);
    info.extend_from_slice(label);
    info.push(0);
    info.extend_from_slice(fields);
    info.extend_from_slice(&bits.to_be_bytes());
    let algorithm = get_kbkdf_ctr_hmac_algorithm(KbkdfCtrHmacAlgorithmId::Sha256).expect("aws-lc has HMAC-SHA-256");
    // Fails only for an empty key or output, and every key and output here has a fixed, positive length.
    kbkdf_ctr_hmac(algorithm, key, &info, out).expect("key and output are not empty");
}

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().expect("SHA-256 returns 32 bytes")
}

/// A message to be signed: `label ‖ 0x00 ‖ fields`, so that a signature for one purpose is none for another.
pub(crate) fn message(label: Label, fields: &[u8]) -> Vec<u8> {
    [label.as_str().as_bytes(), &[0], fields].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_labels_are_equal() {
        // Those of other crates are compared in tests/labels.rs.
        let all: Vec<&str> = Label::ALL.iter().map(|l| l.as_str()).collect();
        for (i, a) in all.iter().enumerate() {
            assert!(a.is_ascii() && a.starts_with("quorate/v1/") && !a.contains('\0'));
            assert!(!all[..i].contains(a), "{a} twice");
        }
    }

    #[test]
    fn key_label_fields_and_length_all_matter() {
        let base = derive::<32>(&[1; 32], Label::Keyring, b"f");
        assert!(base.ct_eq(&derive(&[1; 32], Label::Keyring, b"f")));
        assert!(!base.ct_eq(&derive(&[2; 32], Label::Keyring, b"f")));
        assert!(!base.ct_eq(&derive(&[1; 32], Label::Record, b"f")));
        assert!(!base.ct_eq(&derive(&[1; 32], Label::Keyring, b"g")));
        assert_ne!(base.expose()[..16], derive::<16>(&[1; 32], Label::Keyring, b"f").expose()[..]);
    }
}
