//! What a grant is, to the byte (trust.md §3.1). Whatever arrives may be anything.
//!
//! ```text
//! BootCert = N u64 ‖ boot u32 ‖ process 16 ‖ pk 32 ‖ len u32 ‖ ECDSA P-256 in DER
//!            by N's identity key over "quorate/v1/boot" ‖ 0 ‖ [C, g, all before len]
//! Grant    = BootCert ‖ Ed25519 64
//!            by pk over "quorate/v1/grant" ‖ 0 ‖ [C, g, N, term u64, node u64]
//! ```
//!
//! The key that signs grants is made anew in memory at each start: an election then costs no call to the HSM, and what is
//! left on a disk can sign nothing.

use std::io;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use bytes::Bytes;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, GroupId, NodeId};
use quorate_core::seam::Entropy;
use quorate_core::session::Session;
use zeroize::Zeroizing;

use crate::identity::{NodeIdentity, signed_by};
use crate::raft::LeaderId;

/// Longest ECDSA P-256 signature in DER, in bytes.
const ECDSA_LEN_MAX: usize = 72;
/// Length of a boot certificate before its signature.
const BODY_LEN: usize = 8 + 4 + 16 + 32;
const ED25519_LEN: usize = 64;

/// Where a grant counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Realm {
    pub(crate) cluster: ClusterId,
    pub(crate) group: GroupId,
}

impl Realm {
    fn message(&self, label: &str) -> Writer {
        Writer::new().raw(label.as_bytes()).u8(0).field(&self.cluster.0).u32(self.group.0)
    }

    fn boot(&self, body: &[u8]) -> Vec<u8> {
        self.message("quorate/v1/boot").field(body).finish()
    }

    fn grant(&self, by: NodeId, to: LeaderId) -> Vec<u8> {
        self.message("quorate/v1/grant").u64(by.0).u64(to.term).u64(to.node_id).finish()
    }
}

/// Signs this process's grants.
pub(crate) struct BootKey {
    realm: Realm,
    node: NodeId,
    key: Ed25519KeyPair,
    certificate: Vec<u8>,
}

impl BootKey {
    /// A new key, certified by the node's identity key: one call to the HSM.
    ///
    /// # Errors
    /// When the HSM does not sign.
    pub(crate) fn make(
        realm: Realm,
        session: Session,
        identity: &dyn NodeIdentity,
        entropy: &dyn Entropy,
    ) -> io::Result<Self> {
        let mut seed = Zeroizing::new([0; 32]);
        entropy.fill(&mut *seed);
        let key = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(io::Error::other)?;
        let body = session.write(Writer::new()).raw(key.public_key().as_ref()).finish();
        let signature = identity.sign(&realm.boot(&body))?;
        if signature.len() > ECDSA_LEN_MAX {
            return Err(io::Error::other("the identity key makes signatures that are none of ECDSA P-256"));
        }
        let certificate = Writer::new().raw(&body).field(&signature).finish();
        Ok(Self { realm, node: session.origin, key, certificate })
    }

    /// This node's word that it has promised to follow `leadership`.
    pub(crate) fn grant(&self, leadership: LeaderId) -> Bytes {
        let signature = self.key.sign(&self.realm.grant(self.node, leadership));
        [&self.certificate, signature.as_ref()].concat().into()
    }
}

/// A grant as it was read: who it says to be from, and what there is to check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Grant {
    pub(crate) by: NodeId,
    certificate: Bytes,
    signature: Bytes,
}

impl Grant {
    pub(crate) fn read(bytes: &Bytes) -> Result<Self, Malformed> {
        let mut r = Reader::new("grant", bytes);
        let by = NodeId(Reader::new("grant", r.raw(BODY_LEN)?).u64()?);
        r.field(ECDSA_LEN_MAX)?;
        let (certificate, signature) = (bytes.len() - r.rest().len(), r.raw(ED25519_LEN)?.len());
        r.finish()?;
        let signature = bytes.slice(certificate..certificate + signature);
        Ok(Self { by, certificate: bytes.slice(..certificate), signature })
    }

    /// What names the key that signed: the same for all grants of one process.
    pub(crate) fn certificate(&self) -> &Bytes {
        &self.certificate
    }

    /// Whether the holder of `identity` made the key: about 60 us.
    pub(crate) fn is_certified(&self, realm: Realm, identity: &[u8]) -> bool {
        let (body, signature) = self.certificate.split_at(BODY_LEN);
        // Behind its length.
        signed_by(identity, &realm.boot(body), &signature[4..])
    }

    /// Whether the key signed for `leadership`: about 40 us.
    pub(crate) fn is_for(&self, realm: Realm, leadership: LeaderId) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.certificate[BODY_LEN - 32..BODY_LEN]);
        key.verify(&realm.grant(self.by, leadership), &self.signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};
    use openraft::vote::RaftLeaderId;
    use proptest::prelude::*;

    use super::*;
    use crate::testing::identity::SoftIdentity;

    const REALM: Realm = Realm { cluster: ClusterId([0xc1; 16]), group: GroupId(0) };

    struct Sevens;
    impl Entropy for Sevens {
        fn fill(&self, out: &mut [u8]) {
            out.fill(7);
        }
    }

    /// An identity key whose signature is known: the message's SHA-256.
    struct Fixed;
    impl NodeIdentity for Fixed {
        fn public_key(&self) -> Vec<u8> {
            Vec::new()
        }
        fn sign(&self, message: &[u8]) -> io::Result<Vec<u8>> {
            Ok(digest(&SHA256, message).as_ref().to_vec())
        }
    }

    fn boot(node: u64) -> Session {
        Session { origin: NodeId(node), boot: 5, process: [0xab; 16] }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn leadership(term: u64, node: u64) -> LeaderId {
        LeaderId::new(term, node)
    }

    /// The bytes themselves, worked out elsewhere: a change of any of them is a change of the format.
    #[test]
    fn the_bytes_are_as_written_down() {
        let key = BootKey::make(REALM, boot(3), &Fixed, &Sevens).expect("made");
        let parts = [
            "0000000000000003",
            "00000005",
            "abababababababababababababababab",
            "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c",
            "00000020",
            "2ef2b7bca88a638e9a569a5e5517d43e416f42490c37e0e5e1012e4c8eb19bd2",
            "eae4532cf7b5842ddf6cce31efa9b3ce0d42af1f4b2c52df742560d292cb2650",
            "29380f5a76d3c5ecc6e5685bbdbdc112328d616ce97a58b2fe337825c7687e05",
        ];
        assert_eq!(hex(&key.grant(leadership(9, 2))), parts.concat());
    }

    #[test]
    fn a_grant_is_for_one_leadership_of_one_cluster_by_one_node() {
        let identity = SoftIdentity::default();
        let spki = identity.public_key();
        let key = BootKey::make(REALM, boot(3), &identity, &Sevens).expect("made");
        let grant = Grant::read(&key.grant(leadership(9, 2))).expect("read");
        assert_eq!(grant.by, NodeId(3));
        assert!(grant.is_certified(REALM, &spki) && grant.is_for(REALM, leadership(9, 2)));

        assert!(!grant.is_for(REALM, leadership(10, 2)) && !grant.is_for(REALM, leadership(9, 3)));
        assert!(!grant.is_certified(REALM, &SoftIdentity::default().public_key()), "another node's key");
        assert!(!grant.is_certified(REALM, b"no key"));
        let other = Realm { group: GroupId(1), ..REALM };
        assert!(!grant.is_certified(other, &spki) && !grant.is_for(other, leadership(9, 2)));
        let other = Realm { cluster: ClusterId([0xc2; 16]), ..REALM };
        assert!(!grant.is_certified(other, &spki) && !grant.is_for(other, leadership(9, 2)));
    }

    #[test]
    fn no_byte_of_a_grant_can_be_another_and_none_can_be_missing() {
        let identity = SoftIdentity::default();
        let key = BootKey::make(REALM, boot(3), &identity, &Sevens).expect("made");
        let good = key.grant(leadership(9, 2));
        let holds = |bytes: Vec<u8>| {
            Grant::read(&bytes.into()).is_ok_and(|grant| {
                grant.by == NodeId(3)
                    && grant.is_certified(REALM, &identity.public_key())
                    && grant.is_for(REALM, leadership(9, 2))
            })
        };
        assert!(holds(good.to_vec()));
        for at in 0..good.len() {
            let mut bad = good.to_vec();
            bad[at] ^= 1;
            assert!(!holds(bad), "byte {at}");
            assert!(!holds(good[..at].to_vec()), "cut at {at}");
        }
        assert!(!holds([&good[..], &[0]].concat()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..250)) {
            if let Ok(grant) = Grant::read(&bytes.into()) {
                prop_assert!(!grant.is_certified(REALM, &[1; 91]) && !grant.is_for(REALM, leadership(1, 1)));
            }
        }
    }
}
