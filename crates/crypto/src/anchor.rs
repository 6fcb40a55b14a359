//! What the anchor key signs for the log: that a session begins, that an origin has the keys, who the members are and at which
//! feature level they work (trust: a member that is sealed can check all of it, and make none).
//!
//! ```text
//! signature of Open  = Ed25519(anchor key, "quorate/v1/open" ‖ 0 ‖ head)
//! MAC of Open        = HMAC-SHA-256(K_mac(epoch), "quorate/v1/open" ‖ 0 ‖ head ‖ signature)
//! signature of claim = Ed25519(anchor key, "quorate/v1/origin" ‖ 0 ‖ claim)
//! … of a roster      = Ed25519(anchor key, "quorate/v1/roster" ‖ 0 ‖ list)
//! … of a level       = Ed25519(anchor key, "quorate/v1/level" ‖ 0 ‖ said)
//! ```

use quorate_core::id::{ClusterId, GroupId, Lineage};
use quorate_core::session::{Claim, Open, Session};

use crate::kdf::{Label, message};
use crate::keyring::Keyring;
use crate::seal_config::SealConfig;

impl Keyring {
    /// The entry that begins a session, under the current epoch.
    pub fn open_session(&self, lineage: Lineage, cluster: ClusterId, group: GroupId, session: Session) -> Open {
        let epoch = self.current_epoch();
        let mut open = Open { lineage, cluster, group, epoch, session, signature: [0; 64], mac: [0; 32] };
        open.signature = self.sign_with_anchor(Label::Open, &open.head());
        open.mac = self.mac(&macked(&open));
        open
    }

    /// Whether it bears the MAC of its epoch; false also when the keyring no longer has that.
    pub fn verify_open(&self, open: &Open) -> bool {
        let message = macked(open);
        self.verify_batch(&[&message[..], &open.mac].concat(), open.epoch, message.len())
    }

    /// Signs an origin's claim.
    pub fn sign_claim(&self, claim: &Claim) -> [u8; 64] {
        self.sign_with_anchor(Label::Origin, &claim.encode())
    }

    /// Signs the list of all members.
    pub fn sign_roster(&self, list: &[u8]) -> [u8; 64] {
        self.sign_with_anchor(Label::Roster, list)
    }

    /// Signs the feature level in force.
    pub fn sign_level(&self, said: &[u8]) -> [u8; 64] {
        self.sign_with_anchor(Label::Level, said)
    }
}

impl SealConfig {
    /// Whether its anchor key signed that this session begins.
    pub fn opens(&self, open: &Open) -> bool {
        self.is_signed_by_anchor(Label::Open, &open.head(), &open.signature)
    }

    /// Whether its anchor key signed this claim.
    pub fn claims(&self, claim: &Claim, signature: &[u8; 64]) -> bool {
        self.is_signed_by_anchor(Label::Origin, &claim.encode(), signature)
    }

    /// Whether its anchor key signed this list of all members.
    pub fn lists(&self, list: &[u8], signature: &[u8; 64]) -> bool {
        self.is_signed_by_anchor(Label::Roster, list, signature)
    }

    /// Whether its anchor key signed this feature level.
    pub fn levels(&self, said: &[u8], signature: &[u8; 64]) -> bool {
        self.is_signed_by_anchor(Label::Level, said, signature)
    }
}

fn macked(open: &Open) -> Vec<u8> {
    message(Label::Open, &[&open.head()[..], &open.signature].concat())
}

#[cfg(test)]
mod tests {
    use quorate_core::id::NodeId;

    use super::*;
    use crate::secret::Secret;
    use crate::testing::{TestEntropy, founding};

    fn keyring(seed: u64) -> Keyring {
        Keyring::generate(&Secret::from_array([4; 32]), &TestEntropy::new(seed))
    }

    fn config(keyring: &Keyring) -> SealConfig {
        SealConfig { pk_anchor: keyring.anchor_public_key(), ..founding(2, 3).seal_config }
    }

    fn session() -> Session {
        Session { origin: NodeId(3), boot: 7, process: [5; 16] }
    }

    fn open(keyring: &Keyring) -> Open {
        keyring.open_session(Lineage([1; 16]), ClusterId([2; 16]), GroupId(0), session())
    }

    #[test]
    fn every_byte_of_an_open_is_signed_and_macked() {
        let mine = keyring(1);
        let (config, good) = (config(&mine), open(&mine));
        assert!(config.opens(&good) && mine.verify_open(&good));
        let bytes = good.encode();
        for at in 1..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let bad = Open::decode(&bad).unwrap();
            assert!(!config.opens(&bad) || at >= bytes.len() - 32, "byte {at}");
            assert!(!mine.verify_open(&bad), "byte {at}");
        }
    }

    #[test]
    fn a_roster_is_signed_by_the_anchor_key_of_the_configuration() {
        let mine = keyring(1);
        let signature = mine.sign_roster(b"list");
        assert!(config(&mine).lists(b"list", &signature));
        assert!(!config(&mine).lists(b"lists", &signature) && !config(&keyring(2)).lists(b"list", &signature));
    }

    #[test]
    fn a_level_is_signed_by_the_anchor_key_of_the_configuration_and_no_roster_s_signature_is_its() {
        let mine = keyring(1);
        let signature = mine.sign_level(b"said");
        assert!(config(&mine).levels(b"said", &signature));
        assert!(!config(&mine).levels(b"says", &signature) && !config(&keyring(2)).levels(b"said", &signature));
        assert!(!config(&mine).levels(b"said", &mine.sign_roster(b"said")));
    }

    #[test]
    fn another_anchor_key_or_epoch_key_opens_nothing() {
        let (mine, other) = (keyring(1), keyring(2));
        assert!(!config(&other).opens(&open(&mine)));
        assert!(!other.verify_open(&open(&mine)));
    }

    #[test]
    fn a_claim_holds_for_one_leadership_and_one_session() {
        let mine = keyring(1);
        let config = config(&mine);
        let leadership = (4, NodeId(1));
        let claim = Claim { cluster: ClusterId([2; 16]), group: GroupId(0), leadership, session: session() };
        let signature = mine.sign_claim(&claim);
        assert!(config.claims(&claim, &signature));
        let later = Session { boot: 8, ..session() };
        for other in [
            Claim { leadership: (5, NodeId(1)), ..claim },
            Claim { leadership: (4, NodeId(2)), ..claim },
            Claim { session: later, ..claim },
            Claim { cluster: ClusterId([3; 16]), ..claim },
            Claim { group: GroupId(1), ..claim },
        ] {
            assert!(!config.claims(&other, &signature), "{other:?}");
        }
        assert!(!config.claims(&claim, &keyring(2).sign_claim(&claim)));
    }
}
