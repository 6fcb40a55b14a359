//! Which seal configurations are believed: one whose hash was pinned, and what enough custodians of a believed one have
//! signed as its successor. Nothing else says who the custodians are, nor which anchor key is the cluster's.
//!
//! ```text
//! G ─► G+1: previous_hash = SHA-256(SealConfig_G), and ≥ t different custodians of G over signing_message of G+1
//! ```

use std::collections::BTreeSet;
use std::fmt;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ED25519, UnparsedPublicKey};

use crate::kdf::{Label, message};
use crate::keyring::Keyring;
use crate::seal_config::{SealConfig, SealConfigHash, SealSignature, SignerKind};
use crate::share::Share;

/// First 8 bytes of a seal configuration's hash: what people compare, and what a custodian's machine remembers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealFingerprint(pub [u8; 8]);

impl SealFingerprint {
    /// From the whole hash.
    pub fn of(hash: &SealConfigHash) -> Self {
        Self(*hash.first_chunk().expect("a hash is longer"))
    }
}

impl fmt::Display for SealFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        in_groups(&self.0, f)
    }
}

/// Eight bytes as people compare them: `1a2b-3c4d-5e6f-7081`.
pub(crate) fn in_groups(bytes: &[u8; 8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, pair) in bytes.chunks(2).enumerate() {
        let dash = if i == 0 { "" } else { "-" };
        write!(f, "{dash}{:02x}{:02x}", pair[0], pair[1])?;
    }
    Ok(())
}

impl SealConfig {
    /// What people compare.
    pub fn fingerprint(&self) -> SealFingerprint {
        SealFingerprint::of(&self.hash())
    }

    /// Whether this is a first generation, signed by the node that founded the cluster: that is checked at genesis, by who
    /// hands out the shares. From then on it is known by its hash, and the node may long be gone.
    pub fn is_founded_by(&self, node: &str, identity_spki: &[u8]) -> bool {
        let (key, message) = (UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, identity_spki), self.signing_message());
        let signed = |s: &SealSignature| {
            s.kind == SignerKind::Node && s.signer == node && key.verify(&message, &s.signature).is_ok()
        };
        self.generation == 1 && self.signatures.iter().any(signed)
    }

    /// Whether `next` is the next generation of this one: linked to it, of the same cluster, and signed by at least t of
    /// this generation's custodians.
    pub fn is_succeeded_by(&self, next: &Self) -> bool {
        let same = (self.lineage, self.cluster, self.suite) == (next.lineage, next.cluster, next.suite);
        let linked = self.generation.checked_add(1) == Some(next.generation) && next.previous_hash == self.hash();
        same && linked && self.custodians_for(next).len() >= usize::from(self.threshold)
    }

    /// The custodians of this generation who have signed `next`; each counts once.
    fn custodians_for(&self, next: &Self) -> BTreeSet<u8> {
        let message = next.signing_message();
        let signed = |s: &SealSignature| {
            let custodian = self.custodian(s.signer.parse().ok()?)?;
            let key = UnparsedPublicKey::new(&ED25519, &custodian.proof_key);
            key.verify(&message, &s.signature).is_ok().then_some(custodian.x)
        };
        next.signatures.iter().filter(|s| s.kind == SignerKind::Custodian).filter_map(signed).collect()
    }

    /// Whether the anchor key of this configuration signed `fields` for the purpose of `label`.
    pub fn is_signed_by_anchor(&self, label: Label, fields: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.pk_anchor).verify(&message(label, fields), signature).is_ok()
    }
}

impl Keyring {
    /// Signs as whoever holds the cluster's keys, for everybody who knows the seal configuration, sealed nodes too.
    pub fn sign_with_anchor(&self, label: Label, fields: &[u8]) -> [u8; 64] {
        let signature = self.anchor_pair().sign(&message(label, fields));
        signature.as_ref().try_into().expect("an Ed25519 signature has 64 bytes")
    }
}

/// Whether the last of `chain`, which begins with the oldest, is pinned or was signed on to from one that is.
pub fn descends(pins: &[SealConfigHash], chain: &[SealConfig]) -> bool {
    let pinned = chain.iter().rposition(|config| pins.contains(&config.hash()));
    pinned.is_some_and(|from| chain[from..].windows(2).all(|pair| pair[0].is_succeeded_by(&pair[1])))
}

impl Share {
    /// This custodian's signature under the next seal configuration; the share is not shown.
    pub fn sign_successor(&self, next: &SealConfig) -> SealSignature {
        let signature = self.proof_key(next.cluster).sign(&next.signing_message());
        SealSignature {
            kind: SignerKind::Custodian,
            signer: self.x().to_string(),
            signature: signature.as_ref().to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quorate_core::id::{ClusterId, Lineage};

    use super::*;
    use crate::Founding;
    use crate::testing::founding;

    /// A successor of `before`, with the custodians of another founding, signed by these of its shares.
    fn successor(before: &Founding, signers: &[usize]) -> Founding {
        let mut next = founding(2, 3);
        let config = &mut next.seal_config;
        config.generation = before.seal_config.generation + 1;
        config.previous_hash = before.seal_config.hash();
        config.signatures = signers.iter().map(|i| before.shares[*i].sign_successor(config)).collect();
        next
    }

    #[test]
    fn t_different_custodians_of_the_generation_before_make_a_successor() {
        let first = founding(3, 5);
        let follows = |next: &SealConfig| first.seal_config.is_succeeded_by(next);
        for enough in [&[0, 1, 2][..], &[4, 2, 0], &[0, 1, 2, 3, 4]] {
            assert!(follows(&successor(&first, enough).seal_config), "{enough:?}");
        }
        for too_few in [&[][..], &[0], &[0, 1], &[0, 1, 1, 1, 0]] {
            assert!(!follows(&successor(&first, too_few).seal_config), "{too_few:?}");
        }
        // Its own custodians do not vouch for it, nor does anybody else.
        let stranger = founding(3, 5);
        let mut own = successor(&first, &[0, 1]);
        let config = own.seal_config.clone();
        own.seal_config.signatures.extend(own.shares.iter().chain(&stranger.shares).map(|s| s.sign_successor(&config)));
        assert!(!follows(&own.seal_config));
    }

    #[test]
    fn a_successor_that_is_altered_in_anything_is_none() {
        let first = founding(2, 3);
        let good = successor(&first, &[0, 1]).seal_config;
        assert!(first.seal_config.is_succeeded_by(&good) && !good.is_succeeded_by(&first.seal_config));
        type Change = fn(&mut SealConfig);
        let changes: [(&str, Change); 9] = [
            ("lineage", |c| c.lineage = Lineage([9; 16])),
            ("cluster", |c| c.cluster = ClusterId([9; 16])),
            ("generation skipped", |c| c.generation += 1),
            ("link", |c| c.previous_hash[0] ^= 1),
            ("anchor key", |c| c.pk_anchor[0] ^= 1),
            ("proof key", |c| c.custodians[0].proof_key[0] ^= 1),
            ("threshold", |c| c.threshold = 3),
            ("another's name under a signature", |c| c.signatures[1].signer = "3".into()),
            ("another kind of signer", |c| c.signatures[1].kind = SignerKind::Node),
        ];
        for (what, change) in changes {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(!first.seal_config.is_succeeded_by(&bad), "{what}");
        }
    }

    #[test]
    fn genesis_is_signed_by_the_node_that_founded() {
        use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
        use aws_lc_rs::rand::SystemRandom;
        use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair};
        let pair = || EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let spki = |pair: &EcdsaKeyPair| -> Vec<u8> {
            let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
            der.as_ref().to_vec()
        };
        let (founder, other) = (pair(), pair());
        let mut config = founding(2, 3).seal_config;
        assert!(!config.is_founded_by("n1", &spki(&founder)), "not signed yet");
        let signature = founder.sign(&SystemRandom::new(), &config.signing_message()).unwrap().as_ref().to_vec();
        config.signatures.push(SealSignature { kind: SignerKind::Node, signer: "n1".into(), signature });
        assert!(config.is_founded_by("n1", &spki(&founder)));
        assert!(!config.is_founded_by("n2", &spki(&founder)) && !config.is_founded_by("n1", &spki(&other)));
        let altered = SealConfig { threshold: 3, ..config.clone() };
        assert!(!altered.is_founded_by("n1", &spki(&founder)));
        config.signatures[0].kind = SignerKind::InitPrincipal;
        assert!(!config.is_founded_by("n1", &spki(&founder)));
    }

    #[test]
    fn a_chain_is_believed_from_a_pin_on() {
        let first = founding(2, 3);
        let second = successor(&first, &[0, 1]);
        let third = successor(&second, &[1, 2]);
        let [a, b, c] = [&first, &second, &third].map(|f| f.seal_config.clone());
        let pins = [a.hash()];
        assert!(descends(&pins, std::slice::from_ref(&a)));
        assert!(descends(&pins, &[a.clone(), b.clone(), c.clone()]));
        assert!(descends(&[[7; 32], b.hash()], &[b.clone(), c.clone()]), "one of several attempts");
        // A pin further on needs nothing of what came before.
        assert!(descends(&[c.hash()], &[founding(2, 3).seal_config, c.clone()]));
        assert!(!descends(&pins, &[]) && !descends(&[], std::slice::from_ref(&a)));
        assert!(!descends(&pins, &[b.clone(), c.clone()]), "the pinned one is missing");
        assert!(!descends(&pins, &[a.clone(), c.clone()]), "one is left out");
        let rogue = successor(&first, &[0]).seal_config;
        assert!(!descends(&pins, &[a, rogue]));
    }

    #[test]
    fn the_anchor_key_signs_for_one_purpose_and_cluster() {
        let (f, other) = (founding(2, 3), founding(2, 3));
        let signature = f.keyring.sign_with_anchor(Label::Handover, b"fields");
        assert!(f.seal_config.is_signed_by_anchor(Label::Handover, b"fields", &signature));
        assert!(!f.seal_config.is_signed_by_anchor(Label::SealConfig, b"fields", &signature));
        assert!(!f.seal_config.is_signed_by_anchor(Label::Handover, b"field", &signature));
        assert!(!other.seal_config.is_signed_by_anchor(Label::Handover, b"fields", &signature));
        assert!(!f.seal_config.is_signed_by_anchor(Label::Handover, b"fields", &signature[..63]));
    }

    #[test]
    fn fingerprints_are_shown_in_groups() {
        let hash = [[0x1a, 0x2b, 0x3c, 0x4d, 0x5e, 0x6f, 0x70, 0x81].as_slice(), &[9; 24]].concat();
        let fingerprint = SealFingerprint::of(&hash.try_into().unwrap());
        assert_eq!(fingerprint.to_string(), "1a2b-3c4d-5e6f-7081");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Whoever signs, and however often: only the number of different custodians counts.
        #[test]
        fn the_rule_counts_different_custodians(signers in proptest::collection::vec(0_usize..5, 0..12)) {
            let first = founding(3, 5);
            let different = signers.iter().collect::<BTreeSet<_>>().len();
            let next = successor(&first, &signers).seal_config;
            prop_assert_eq!(first.seal_config.is_succeeded_by(&next), different >= 3);
        }
    }
}
