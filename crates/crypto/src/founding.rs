//! Founding a cluster: every first secret, and how it is shared out (key-hierarchy §2, §4.1).

use quorate_core::id::{ClusterId, Lineage};
use quorate_core::seam::Entropy;
use thiserror::Error;

use crate::hybrid::{AuditSecretKey, HybridKeyError, HybridSecretKey};
use crate::keyring::Keyring;
use crate::root::{Purpose, RootKey, fresh};
use crate::seal_config::{Custodian, SealConfig, SealFlags, SetId, UnsealModes, check_threshold, is_label};
use crate::secret::Secret;
use crate::share::{ClusterFingerprint, Share};
use crate::split::{self, SplitError};
use crate::suite::HashSuite;

/// What a cluster is founded with.
pub struct FoundingParams<'a> {
    /// n: how many shares, at most 255.
    pub shares: u8,
    /// t: how many open it; at least 2.
    pub threshold: u8,
    /// What the custodians are called, in order of x; none = `custodian-1` and so on.
    pub labels: Vec<String>,
    /// L, new.
    pub lineage: Lineage,
    /// C, from the root certificate.
    pub cluster: ClusterId,
    /// SPKI (DER) of the root CA: goes into every share's fingerprint.
    pub root_spki: &'a [u8],
    /// 32 bytes from the node's HSM, mixed with the operating system's.
    pub hsm_random: &'a Secret<32>,
    /// Allows one share of one, without split knowledge; shown everywhere.
    pub single_share: bool,
    /// Marks a cluster made by `quorate dev`.
    pub dev: bool,
}

/// Why a cluster cannot be founded like this.
#[derive(Debug, Error)]
pub enum FoundingError {
    /// t and n do not fit.
    #[error(
        "{threshold} of {shares} shares is not possible: the threshold must be at least 2 and at most the number of \
         shares (a single share needs --insecure-single-share, and opens the cluster alone)"
    )]
    Threshold {
        /// n.
        shares: u8,
        /// t.
        threshold: u8,
    },
    /// The labels do not fit.
    #[error("{got} labels for {shares} shares: give one for each (1 to 64 bytes, no control characters), or none")]
    Labels {
        /// n.
        shares: u8,
        /// How many labels were given.
        got: usize,
    },
    /// The shares could not be made.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// A key pair could not be made.
    #[error(transparent)]
    Key(#[from] HybridKeyError),
}

/// Everything a new cluster begins with. UK and SK_Q are gone already.
pub struct Founding {
    /// One for each custodian; show each once, then drop it.
    pub shares: Vec<Share>,
    /// Generation 1, not yet signed: add signatures before anything names its hash.
    pub seal_config: SealConfig,
    /// RK_1.
    pub root_key: RootKey,
    /// Epoch 1.
    pub keyring: Keyring,
    /// SK_aud, to be kept as a record.
    pub audit_secret_key: AuditSecretKey,
}

/// Makes all secrets of a new cluster.
///
/// # Errors
/// When numbers or labels do not fit, or no thread can be started for the splitter. Nothing is left behind.
pub fn found(params: FoundingParams<'_>, entropy: &dyn Entropy) -> Result<Founding, FoundingError> {
    let FoundingParams { shares: total, threshold, lineage, cluster, hsm_random, .. } = params;
    check_threshold(threshold, total, params.single_share)
        .map_err(|_| FoundingError::Threshold { shares: total, threshold })?;
    let labels =
        if params.labels.is_empty() { (1..=total).map(|x| format!("custodian-{x}")).collect() } else { params.labels };
    if labels.len() != usize::from(total) || !labels.iter().all(|l| is_label(l)) {
        return Err(FoundingError::Labels { shares: total, got: labels.len() });
    }

    let mut set_id = SetId([0; 4]);
    entropy.fill(&mut set_id.0);
    let fingerprint = ClusterFingerprint::new(cluster, params.root_spki);
    let uk = fresh(Purpose::UnsealKey, hsm_random, entropy);
    let shares: Vec<Share> = (1..=total)
        .zip(split::split(&uk, threshold, total)?)
        .map(|(x, y)| Share::new(fingerprint, set_id, threshold, x, y))
        .collect();
    let custodians = shares
        .iter()
        .zip(labels)
        .map(|(s, label)| Custodian { x: s.x(), label, proof_key: s.proof_public_key(cluster) })
        .collect();

    let sk_q = HybridSecretKey::generate(fresh(Purpose::QuorumX25519, hsm_random, entropy))?;
    let audit_secret_key = HybridSecretKey::generate(fresh(Purpose::AuditX25519, hsm_random, entropy))?;
    let keyring = Keyring::generate(hsm_random, entropy);
    let mut seal_config = SealConfig {
        suite: HashSuite::Blake3,
        lineage,
        cluster,
        generation: 1,
        set_id,
        threshold,
        total,
        custodians,
        quorum_public_key: sk_q.public_key()?,
        box_q: Vec::new(),
        pk_aud: audit_secret_key.public_key()?,
        pk_anchor: keyring.anchor_public_key(),
        unseal_modes: UnsealModes::QUORUM,
        recovery: Vec::new(),
        flags: SealFlags { dev: params.dev, single_share: params.single_share },
        previous_hash: [0; 32],
        signatures: Vec::new(),
    };
    seal_config.seal_quorum_key(&uk, &sk_q, entropy);
    let root_key = RootKey::generate(1, hsm_random, entropy);
    Ok(Founding { shares, seal_config, root_key, keyring, audit_secret_key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seal_config::SealConfig;
    use crate::testing::{TestEntropy, founding_params};

    #[test]
    fn a_founding_is_consistent() {
        let hsm = Secret::from_array([1; 32]);
        let params =
            FoundingParams { labels: vec!["ada".into(), "ben".into()], dev: true, ..founding_params(2, 2, &hsm) };
        let f = found(params, &TestEntropy::new(1)).ok().unwrap();
        assert_eq!(SealConfig::decode(&f.seal_config.encode()).unwrap(), f.seal_config);
        assert!(f.seal_config.flags.dev && !f.seal_config.flags.single_share);
        assert_eq!(f.seal_config.custodian(2).unwrap().label, "ben");
        assert_eq!(f.seal_config.pk_aud, f.audit_secret_key.public_key().unwrap());
        assert_eq!(f.seal_config.pk_anchor, f.keyring.anchor_public_key());
        assert_eq!((f.root_key.generation(), f.seal_config.generation), (1, 1));
    }

    #[test]
    fn impossible_numbers_and_labels_are_refused() {
        let hsm = Secret::from_array([1; 32]);
        for (t, n, single) in
            [(1, 1, false), (1, 3, false), (0, 3, false), (4, 3, false), (0, 0, false), (2, 3, true), (1, 2, true)]
        {
            let params = FoundingParams { single_share: single, ..founding_params(t, n, &hsm) };
            assert!(matches!(found(params, &TestEntropy::new(1)), Err(FoundingError::Threshold { .. })), "{t} {n}");
        }
        for labels in [
            vec!["a".into()],
            vec!["a".into(), String::new()],
            vec!["a".into(), "b\n".into()],
            vec!["a".into(), "b".repeat(65)],
        ] {
            let params = FoundingParams { labels, ..founding_params(2, 2, &hsm) };
            assert!(matches!(found(params, &TestEntropy::new(1)), Err(FoundingError::Labels { .. })));
        }
    }

    #[test]
    fn a_single_share_works_where_asked_for() {
        let hsm = Secret::from_array([1; 32]);
        let params = FoundingParams { single_share: true, ..founding_params(1, 1, &hsm) };
        let f = found(params, &TestEntropy::new(1)).ok().unwrap();
        assert!(f.seal_config.flags.single_share);
        let uk = split::combine(f.shares.iter().map(|s| (s.x(), s.y()))).unwrap();
        assert!(f.seal_config.open_quorum_key(&uk).is_ok());
    }

    #[test]
    fn either_source_of_randomness_alone_makes_keys_differ() {
        let found = |hsm: u8, seed| {
            let hsm = Secret::from_array([hsm; 32]);
            found(founding_params(2, 2, &hsm), &TestEntropy::new(seed)).ok().unwrap()
        };
        let (a, same, other_hsm, other_os) = (found(1, 1), found(1, 1), found(2, 1), found(1, 2));
        assert!(a.root_key.ct_eq(&same.root_key));
        assert!(!a.root_key.ct_eq(&other_hsm.root_key));
        assert!(!a.root_key.ct_eq(&other_os.root_key));
    }
}
