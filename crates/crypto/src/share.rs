//! A custodian's share, its proof key, and the checks that name a bad one (key-hierarchy §5).
//!
//! ```text
//! share       = ver u8 ‖ cluster fingerprint 8 ‖ S 4 ‖ t u8 ‖ x u8 ‖ y 32          47 B
//! fingerprint = SHA-256([C, root CA SPKI at genesis])[..8]
//! seed        = kdf(y, "custodian-sign", [C, S, t u8, x u8], 32) → Ed25519; its public half is pk_x
//! proof       = Ed25519(seed, "quorate/v1/share-proof" ‖ 0x00 ‖ [C, node name, nonce])
//! abort       = Ed25519(seed, "quorate/v1/ceremony-abort" ‖ 0x00 ‖ [C, node name, ceremony id])
//! ```
//!
//! pk_x is the commitment to the share: a forged one is named, and a share is shown to be alive without showing it.

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::ClusterId;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::ceremony::CeremonyId;
use crate::kdf::{Label, derive, message, sha256};
use crate::seal_chain::in_groups;
use crate::seal_config::{SealConfig, SetId};
use crate::secret::{Secret, ct_eq};
use crate::share_text::{self, SHARE_TEXT_LEN, TextError, TypoHint};

const VERSION: u8 = 1;
/// Length of a share, in bytes.
pub(crate) const SHARE_LEN: usize = 47;

/// Names a cluster by its id and its root certificate: a share is only sent to a server that chains to that root, so
/// that it is not typed into a fake cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClusterFingerprint(pub [u8; 8]);

impl ClusterFingerprint {
    /// From the cluster's id and the SPKI (DER) of its root CA at genesis.
    pub fn new(cluster: ClusterId, root_ca_spki: &[u8]) -> Self {
        let hash = sha256(&Writer::new().field(&cluster.0).field(root_ca_spki).finish());
        Self(hash[..8].try_into().expect("8 of 32 bytes"))
    }
}

impl fmt::Display for ClusterFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_groups(&self.0, f)
    }
}

/// What is wrong with a share. Precise, and independent of y but for equality.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ShareError {
    /// Mistyped.
    #[error("the share was mistyped: {0}; compare it with the original and enter it again")]
    Typo(TypoHint),
    /// Some other text.
    #[error("this is not a share: a share begins with qs1 and has {SHARE_TEXT_LEN} characters")]
    NotAShare,
    /// Of a version this build does not know.
    #[error("share version {0} is unknown: it was made by a newer version; use that one")]
    UnknownVersion(u8),
    /// It belongs to another cluster, or this server chains to another root.
    #[error("the share belongs to another cluster: check the address and the root certificate; do not enter it here")]
    OtherCluster,
    /// It belongs to another share set.
    #[error(
        "the share belongs to set {share}, the cluster uses set {cluster}: it was replaced by a re-share (use the \
         newer share), or this cluster was restored from an older backup"
    )]
    OtherSet {
        /// The share's set.
        share: SetId,
        /// The set in force.
        cluster: SetId,
    },
    /// No custodian has this number.
    #[error("there is no custodian {x} in this set: the share is forged; tell the other custodians")]
    UnknownCustodian {
        /// The share's x.
        x: u8,
    },
    /// The checksum is right, but it is not the share that was dealt.
    #[error("share {x} ({label}) is not the one that was dealt: it is forged; tell the other custodians")]
    Forged {
        /// The share's x.
        x: u8,
        /// The custodian it claims to be.
        label: String,
    },
    /// Entered before, in this ceremony.
    #[error("share {x} ({label}) was already entered in this ceremony: ask another custodian")]
    Duplicate {
        /// The share's x.
        x: u8,
        /// Whose it is.
        label: String,
    },
}

/// One share of UK. Entered for unseal only; in memory only while a ceremony is open.
pub struct Share {
    fingerprint: ClusterFingerprint,
    set_id: SetId,
    threshold: u8,
    x: u8,
    y: Secret<32>,
}

impl Share {
    pub(crate) fn new(fingerprint: ClusterFingerprint, set_id: SetId, threshold: u8, x: u8, y: Secret<32>) -> Self {
        Self { fingerprint, set_id, threshold, x, y }
    }

    /// Reads a share's text; spaces, dashes, line ends and capitals do not matter.
    ///
    /// # Errors
    /// [`ShareError::Typo`], [`ShareError::NotAShare`], [`ShareError::UnknownVersion`].
    pub fn parse(text: &str) -> Result<Self, ShareError> {
        let bytes = share_text::decode(text).map_err(|e| match e {
            TextError::NotAShare => ShareError::NotAShare,
            TextError::Typo(hint) => ShareError::Typo(hint),
        })?;
        Self::decode(&bytes)
    }

    /// The text: 85 characters, no spaces. Wiped when dropped; show it once, to its custodian alone.
    pub fn to_text(&self) -> Zeroizing<String> {
        share_text::encode(&self.encode())
    }

    pub(crate) fn encode(&self) -> Zeroizing<[u8; SHARE_LEN]> {
        let mut bytes = Zeroizing::new([0; SHARE_LEN]);
        bytes[0] = VERSION;
        bytes[1..9].copy_from_slice(&self.fingerprint.0);
        bytes[9..13].copy_from_slice(&self.set_id.0);
        bytes[13] = self.threshold;
        bytes[14] = self.x;
        bytes[15..].copy_from_slice(self.y.expose());
        bytes
    }

    fn decode(bytes: &[u8; SHARE_LEN]) -> Result<Self, ShareError> {
        if bytes[0] != VERSION {
            return Err(ShareError::UnknownVersion(bytes[0]));
        }
        let mut r = Reader::new("share", &bytes[1..]);
        let mut read = || {
            Ok::<_, Malformed>(Self {
                fingerprint: ClusterFingerprint(r.array()?),
                set_id: SetId(r.array()?),
                threshold: r.u8()?,
                x: r.u8()?,
                // Straight from the buffer: an array that is moved leaves copies on the stack.
                y: Secret::from_slice(r.raw(32)?).ok_or(Malformed("share: y"))?,
            })
        };
        read().map_err(|_| ShareError::NotAShare)
    }

    /// Its number, x.
    pub fn x(&self) -> u8 {
        self.x
    }
    /// Its set, S.
    pub fn set_id(&self) -> SetId {
        self.set_id
    }
    /// How many shares of the set open it, t.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }
    /// The cluster it belongs to.
    pub fn cluster_fp(&self) -> ClusterFingerprint {
        self.fingerprint
    }
    pub(crate) fn y(&self) -> &Secret<32> {
        &self.y
    }

    /// Checks it against the public seal configuration and the root that the server chains to. The custodian's own
    /// program does so first: a bad share never leaves the terminal. The node does so again.
    ///
    /// # Errors
    /// [`ShareError::OtherCluster`], [`ShareError::OtherSet`], [`ShareError::UnknownCustodian`],
    /// [`ShareError::Forged`].
    pub fn check(&self, config: &SealConfig, fingerprint: &ClusterFingerprint) -> Result<(), ShareError> {
        if self.fingerprint != *fingerprint {
            return Err(ShareError::OtherCluster);
        }
        if self.set_id != config.set_id {
            return Err(ShareError::OtherSet { share: self.set_id, cluster: config.set_id });
        }
        let custodian = config.custodian(self.x).ok_or(ShareError::UnknownCustodian { x: self.x })?;
        // t is in the proof key's derivation; compared too, so that a forged one never reaches a message.
        let dealt =
            self.threshold == config.threshold && ct_eq(&self.proof_public_key(config.cluster), &custodian.proof_key);
        if dealt { Ok(()) } else { Err(ShareError::Forged { x: self.x, label: custodian.label.clone() }) }
    }

    /// The public half of its proof key, pk_x.
    pub(crate) fn proof_public_key(&self, cluster: ClusterId) -> [u8; 32] {
        self.proof_key(cluster).public_key().as_ref().try_into().expect("an Ed25519 public key has 32 bytes")
    }

    /// Proves to one node that this share is at hand, without showing it; `nonce` is the node's, fresh.
    pub fn prove(&self, cluster: ClusterId, node_name: &str, nonce: &[u8; 32]) -> [u8; 64] {
        let proof = self.proof_key(cluster).sign(&proof_message(cluster, node_name, nonce));
        proof.as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }

    /// Signs that one ceremony is to end and its shares be forgotten; this share is not shown.
    pub fn sign_abort(&self, cluster: ClusterId, node_name: &str, ceremony: CeremonyId) -> [u8; 64] {
        let signature = self.proof_key(cluster).sign(&abort_message(cluster, node_name, ceremony));
        signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }

    pub(crate) fn proof_key(&self, cluster: ClusterId) -> Ed25519KeyPair {
        let fields = Writer::new().field(&cluster.0).field(&self.set_id.0).u8(self.threshold).u8(self.x).finish();
        let seed: Secret<32> = derive(self.y.expose(), Label::CustodianSign, &fields);
        Ed25519KeyPair::from_seed_unchecked(seed.expose()).expect("an Ed25519 seed has 32 bytes")
    }
}

/// Whether `proof` was made by the share of custodian `x`, for this node and nonce. Verified before anything else is
/// done with a submitted share: strangers create no state.
pub fn verify_proof(
    config: &SealConfig,
    x: u8,
    cluster: ClusterId,
    node_name: &str,
    nonce: &[u8; 32],
    proof: &[u8],
) -> bool {
    cluster == config.cluster
        && config.custodian(x).is_some_and(|c| {
            let key = UnparsedPublicKey::new(&ED25519, &c.proof_key);
            key.verify(&proof_message(cluster, node_name, nonce), proof).is_ok()
        })
}

/// Whether `signature` was made by the share of custodian `x`, to end this ceremony of this node.
pub fn verify_abort(config: &SealConfig, x: u8, node_name: &str, ceremony: CeremonyId, signature: &[u8]) -> bool {
    config.custodian(x).is_some_and(|c| {
        let key = UnparsedPublicKey::new(&ED25519, &c.proof_key);
        key.verify(&abort_message(config.cluster, node_name, ceremony), signature).is_ok()
    })
}

fn abort_message(cluster: ClusterId, node_name: &str, ceremony: CeremonyId) -> Vec<u8> {
    let fields = Writer::new().field(&cluster.0).field(node_name.as_bytes()).field(&ceremony.0).finish();
    message(Label::CeremonyAbort, &fields)
}

fn proof_message(cluster: ClusterId, node_name: &str, nonce: &[u8; 32]) -> Vec<u8> {
    message(Label::ShareProof, &Writer::new().field(&cluster.0).field(node_name.as_bytes()).field(nonce).finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TEST_ROOT_SPKI, founding};

    fn fingerprint(config: &SealConfig) -> ClusterFingerprint {
        ClusterFingerprint::new(config.cluster, TEST_ROOT_SPKI)
    }

    #[test]
    fn dealt_shares_pass_and_survive_text() {
        let f = founding(3, 5);
        for share in &f.shares {
            let again = Share::parse(&share.to_text()).ok().unwrap();
            assert_eq!((again.x(), again.set_id(), again.threshold()), (share.x(), f.seal_config.set_id, 3));
            assert_eq!(again.cluster_fp(), fingerprint(&f.seal_config));
            again.check(&f.seal_config, &fingerprint(&f.seal_config)).unwrap();
        }
    }

    #[test]
    fn each_kind_of_bad_share_is_named() {
        let f = founding(3, 5);
        let (config, fp) = (&f.seal_config, fingerprint(&f.seal_config));
        let good = &f.shares[1];
        let share =
            |fp, set, t, x, y| Share::new(fp, set, t, x, Secret::from_array(y)).check(config, &fingerprint(config));
        let y = *good.y().expose();
        assert_eq!(share(fp, config.set_id, 3, 2, y), Ok(()));

        assert_eq!(
            good.check(config, &ClusterFingerprint::new(config.cluster, b"other root")),
            Err(ShareError::OtherCluster)
        );
        let other_cluster = ClusterFingerprint::new(ClusterId([0; 16]), TEST_ROOT_SPKI);
        assert_eq!(share(other_cluster, config.set_id, 3, 2, y), Err(ShareError::OtherCluster));
        let old = SetId([1, 2, 3, 4]);
        assert_eq!(share(fp, old, 3, 2, y), Err(ShareError::OtherSet { share: old, cluster: config.set_id }));
        for x in [0, 6, 255] {
            assert_eq!(share(fp, config.set_id, 3, x, y), Err(ShareError::UnknownCustodian { x }));
        }
        let forged = |x, label: &str| Err(ShareError::Forged { x, label: label.into() });
        let mut wrong = y;
        wrong[31] ^= 1;
        assert_eq!(share(fp, config.set_id, 3, 2, wrong), forged(2, "custodian-2"));
        assert_eq!(share(fp, config.set_id, 3, 3, y), forged(3, "custodian-3"), "another's number");
        assert_eq!(share(fp, config.set_id, 2, 2, y), forged(2, "custodian-2"), "a lower threshold");
        let mut newer = good.encode();
        newer[0] = 2;
        assert_eq!(Share::parse(&share_text::encode(&newer)).err(), Some(ShareError::UnknownVersion(2)));
        let text = good.to_text().replace("qs1", "qs2");
        assert_eq!(Share::parse(&text).err(), Some(ShareError::Typo(TypoHint::At { group: 1, place: 3 })));
        assert_eq!(Share::parse("correct horse").err(), Some(ShareError::NotAShare));
    }

    #[test]
    fn errors_never_show_the_share() {
        let f = founding(2, 2);
        let text = f.shares[0].to_text();
        let mut bad: Vec<char> = text.chars().collect();
        bad[20] = if bad[20] == 'q' { 'p' } else { 'q' };
        let bad: String = bad.into_iter().collect();
        let shown = format!("{0} {0:?}", Share::parse(&bad).err().unwrap());
        assert!(!shown.contains(&bad[10..20]) && !shown.contains(&text[30..40]), "{shown}");
    }

    #[test]
    fn a_signature_to_abort_is_for_one_share_node_and_ceremony_and_is_no_proof() {
        let f = founding(3, 5);
        let (config, id) = (&f.seal_config, CeremonyId([5; 16]));
        let signature = f.shares[2].sign_abort(config.cluster, "n1", id);
        assert!(verify_abort(config, 3, "n1", id, &signature));
        for (x, node, ceremony) in [(2, "n1", id), (0, "n1", id), (3, "n2", id), (3, "n1", CeremonyId([6; 16]))] {
            assert!(!verify_abort(config, x, node, ceremony, &signature), "{x} {node} {ceremony:?}");
        }
        let elsewhere = f.shares[2].sign_abort(ClusterId([0; 16]), "n1", id);
        assert!(!verify_abort(config, 3, "n1", id, &elsewhere));
        let proof = f.shares[2].prove(config.cluster, "n1", &[5; 32]);
        assert!(!verify_abort(config, 3, "n1", id, &proof));
    }

    #[test]
    fn a_proof_is_for_one_share_node_nonce_and_cluster() {
        let f = founding(3, 5);
        let (config, nonce) = (&f.seal_config, [5; 32]);
        let proof = f.shares[2].prove(config.cluster, "n1", &nonce);
        let verify =
            |x, cluster, node, nonce: &[u8; 32], proof: &[u8]| verify_proof(config, x, cluster, node, nonce, proof);
        assert!(verify(3, config.cluster, "n1", &nonce, &proof));
        assert!(!verify(2, config.cluster, "n1", &nonce, &proof));
        assert!(!verify(0, config.cluster, "n1", &nonce, &proof));
        assert!(!verify(3, ClusterId([0; 16]), "n1", &nonce, &proof));
        assert!(!verify(3, config.cluster, "n2", &nonce, &proof));
        assert!(!verify(3, config.cluster, "n1", &[6; 32], &proof));
        assert!(!verify(3, config.cluster, "n1", &nonce, &proof[..63]));
        for i in 0..64 {
            let mut bad = proof;
            bad[i] ^= 1;
            assert!(!verify(3, config.cluster, "n1", &nonce, &bad));
        }
    }
}
