//! The unseal ceremony as a value (key-hierarchy §5): shares go in one at a time, each checked on its own, so that one
//! bad share never poisons the others; with t of them it gives SK_Q. Who may submit, for how long, and what others see
//! is `service`'s.

use quorate_core::seam::Entropy;
use thiserror::Error;

use crate::hybrid::QuorumSecretKey;
use crate::seal_config::{SealConfig, SealConfigError};
use crate::share::{ClusterFingerprint, Share, ShareError};
use crate::split::{self, SplitError};

/// Names one ceremony: 16 random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CeremonyId(pub [u8; 16]);

impl CeremonyId {
    /// A new one.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let mut id = [0; 16];
        entropy.fill(&mut id);
        Self(id)
    }
}

/// How far a ceremony is; public.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// x of the shares entered, ascending.
    pub entered: Vec<u8>,
    /// How many are needed.
    pub threshold: u8,
}

impl Progress {
    /// Whether the threshold is reached.
    pub fn is_complete(&self) -> bool {
        self.entered.len() >= usize::from(self.threshold)
    }
}

/// A ceremony did not give the quorum key.
#[derive(Debug, Error)]
pub enum CeremonyError {
    /// Too few shares yet.
    #[error("{entered} of {threshold} shares have been entered: more custodians must enter theirs")]
    NotYet {
        /// How many have been entered.
        entered: usize,
        /// How many are needed.
        threshold: u8,
    },
    /// The shares could not be combined.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// Every share was right by itself, but box_Q does not open.
    #[error(transparent)]
    Config(#[from] SealConfigError),
}

/// An open ceremony. Its shares are wiped when it is dropped or completed.
pub struct Ceremony {
    id: CeremonyId,
    config: SealConfig,
    fingerprint: ClusterFingerprint,
    shares: Vec<Share>,
}

impl Ceremony {
    /// Opens a ceremony for the seal configuration in force.
    pub fn new(id: CeremonyId, config: SealConfig, fingerprint: ClusterFingerprint) -> Self {
        Self { id, config, fingerprint, shares: Vec::new() }
    }
    /// Its id.
    pub fn id(&self) -> CeremonyId {
        self.id
    }
    /// The seal configuration it was opened for.
    pub fn config(&self) -> &SealConfig {
        &self.config
    }

    /// Enters one share. Once the threshold is reached, further good shares are not kept.
    ///
    /// # Errors
    /// Whatever [`Share::check`] finds, or [`ShareError::Duplicate`]. The share is wiped, the ceremony unchanged.
    pub fn submit(&mut self, share: Share) -> Result<Progress, ShareError> {
        share.check(&self.config, &self.fingerprint)?;
        if self.shares.iter().any(|s| s.x() == share.x()) {
            let label = self.config.custodian(share.x()).map(|c| c.label.clone()).unwrap_or_default();
            return Err(ShareError::Duplicate { x: share.x(), label });
        }
        if !self.progress().is_complete() {
            self.shares.push(share);
        }
        Ok(self.progress())
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let mut entered: Vec<u8> = self.shares.iter().map(Share::x).collect();
        entered.sort_unstable();
        Progress { entered, threshold: self.config.threshold }
    }

    /// Combines the shares to UK, opens SK_Q with it, and wipes both UK and the shares.
    ///
    /// # Errors
    /// [`CeremonyError::NotYet`] below the threshold (ask [`Ceremony::progress`] first: the shares are wiped either
    /// way), or when box_Q does not open.
    pub fn complete(self) -> Result<QuorumSecretKey, CeremonyError> {
        if !self.progress().is_complete() {
            return Err(CeremonyError::NotYet { entered: self.shares.len(), threshold: self.config.threshold });
        }
        let uk = split::combine(self.shares.iter().map(|s| (s.x(), s.y())))?;
        Ok(self.config.open_quorum_key(&uk)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;
    use crate::testing::{TEST_ROOT_SPKI, TestEntropy, founding};
    use crate::{Founding, SetId};

    fn open(f: &Founding) -> Ceremony {
        let fingerprint = ClusterFingerprint::new(f.seal_config.cluster, TEST_ROOT_SPKI);
        Ceremony::new(CeremonyId::generate(&TestEntropy::new(1)), f.seal_config.clone(), fingerprint)
    }
    fn copy(share: &Share) -> Share {
        Share::parse(&share.to_text()).ok().unwrap()
    }

    #[test]
    fn every_choice_of_t_shares_in_every_order_gives_the_quorum_key() {
        let f = founding(3, 5);
        for a in 0..5 {
            for b in (0..5).filter(|b| *b != a) {
                for c in (0..5).filter(|c| *c != a && *c != b) {
                    let mut ceremony = open(&f);
                    for (i, k) in [a, b, c].into_iter().enumerate() {
                        let progress = ceremony.submit(copy(&f.shares[k])).unwrap();
                        assert_eq!((progress.entered.len(), progress.is_complete()), (i + 1, i == 2));
                        assert!(progress.entered.is_sorted());
                    }
                    let sk_q = ceremony.complete().ok().unwrap();
                    assert_eq!(sk_q.public_key().unwrap(), f.seal_config.quorum_public_key);
                }
            }
        }
    }

    #[test]
    fn fewer_shares_never_give_it() {
        let f = founding(3, 5);
        let mut ceremony = open(&f);
        assert!(matches!(open(&f).complete(), Err(CeremonyError::NotYet { entered: 0, threshold: 3 })));
        for share in &f.shares[..2] {
            ceremony.submit(copy(share)).unwrap();
        }
        assert!(matches!(ceremony.complete(), Err(CeremonyError::NotYet { entered: 2, threshold: 3 })));
        // Not even past the ceremony's own count: t − 1 shares combine to some other key.
        let uk = split::combine(f.shares[..2].iter().map(|s| (s.x(), s.y()))).unwrap();
        assert!(matches!(f.seal_config.open_quorum_key(&uk), Err(SealConfigError::QuorumKeyNotOpened(_))));
    }

    #[test]
    fn a_bad_share_changes_nothing() {
        let f = founding(3, 5);
        let other = founding(3, 5);
        let mut ceremony = open(&f);
        ceremony.submit(copy(&f.shares[0])).unwrap();
        let forged = Share::new(
            f.shares[1].cluster_fp(),
            f.seal_config.set_id,
            3,
            2,
            Secret::from_array(*f.shares[2].y().expose()),
        );
        let duplicate = ShareError::Duplicate { x: 1, label: "custodian-1".into() };
        assert_eq!(ceremony.submit(copy(&f.shares[0])), Err(duplicate));
        assert!(matches!(ceremony.submit(forged), Err(ShareError::Forged { x: 2, .. })));
        assert!(matches!(ceremony.submit(copy(&other.shares[1])), Err(ShareError::OtherSet { .. })));
        let old = Share::new(f.shares[1].cluster_fp(), SetId([0; 4]), 3, 2, Secret::from_array([1; 32]));
        assert!(matches!(ceremony.submit(old), Err(ShareError::OtherSet { .. })));
        assert_eq!(ceremony.progress(), Progress { entered: vec![1], threshold: 3 });
        ceremony.submit(copy(&f.shares[4])).unwrap();
        ceremony.submit(copy(&f.shares[2])).unwrap();
        // One more is checked, but not kept.
        assert_eq!(ceremony.submit(copy(&f.shares[3])).unwrap().entered, [1, 3, 5]);
        assert!(ceremony.complete().is_ok());
    }

    #[test]
    fn a_configuration_with_another_quorum_key_is_named() {
        let f = founding(2, 2);
        let mut ceremony = open(&f);
        ceremony.config.pk_anchor[0] ^= 1;
        for share in &f.shares {
            ceremony.submit(copy(share)).unwrap();
        }
        let set = f.seal_config.set_id;
        assert!(
            matches!(ceremony.complete(), Err(CeremonyError::Config(SealConfigError::QuorumKeyNotOpened(s))) if s == set)
        );
    }
}
