//! What this machine remembers of each cluster that a custodian here has dealt with: which seal it had, and how far it was.
//! A cluster that was put back from a copy, or one that only looks like the other, is noticed before a share is typed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use quorate_client::Client;
use quorate_client::v1::StatusRequest;
use quorate_core::id::ClusterId;
use quorate_crypto::{SealConfig, descends};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::files;

/// A node that was down may catch up for so long.
const CATCH_UP: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// What is remembered of a cluster; public, as everything in it.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(deny_unknown_fields)]
struct Known {
    /// First 8 bytes of the seal configuration's hash, as shown.
    seal_fingerprint: String,
    /// Its generation.
    generation: u32,
    /// Number of the newest anchor; 0 while there are none.
    anchor: u64,
    /// The last entry that the node had applied.
    index: u64,
}

/// One cluster's place in this machine's memory.
pub struct Memory {
    /// None where the machine has no home folder.
    path: Option<PathBuf>,
    known: Option<Known>,
}

/// Why a cluster is not taken for the one that is remembered.
#[derive(PartialEq, Eq, Debug)]
enum Strange {
    /// Its seal does not descend from the one remembered: no custodian signed it.
    Unlinked(String),
    /// It is what it was before.
    Older(String),
}

impl Memory {
    /// What is remembered of `cluster`.
    ///
    /// # Errors
    /// When there is something that can't be read: better than to know nothing by accident.
    pub fn of(cluster: ClusterId) -> CommandResult<Self> {
        match folder() {
            Some(folder) => Self::at(folder.join(format!("{cluster}.json"))),
            None => Ok(Self { path: None, known: None }),
        }
    }

    fn at(path: PathBuf) -> CommandResult<Self> {
        if !files::exists(&path) {
            return Ok(Self { path: Some(path), known: None });
        }
        let text = files::read(&path, "what is remembered of the cluster")?;
        let known = serde_json::from_slice(&text).map_err(|e| {
            let todo = "restore the file, or remove it if you are sure which cluster this is";
            Failure::failed("can't read what is remembered of the cluster", format!("{}: {e}", path.display()), todo)
        })?;
        Ok(Self { path: Some(path), known: Some(known) })
    }

    /// Whether the seal with this fingerprint and generation is the one remembered, for those who only look.
    pub fn contradicts(&self, fingerprint: &str, generation: u32) -> bool {
        let known = self.known.as_ref().filter(|_| !fingerprint.is_empty());
        known.is_some_and(|k| {
            generation < k.generation || (generation == k.generation && fingerprint != k.seal_fingerprint)
        })
    }

    /// Compares the cluster, as `node` shows it, with what is remembered; `chain` holds its seal configurations, the oldest
    /// first. Gives a node that lags ten seconds. `older` takes an older state for known. Answers the node's index.
    ///
    /// # Errors
    /// When the cluster is another one, or older.
    pub async fn check(&self, node: &Client, chain: &[SealConfig], older: bool) -> CommandResult<u64> {
        let end = Instant::now() + CATCH_UP;
        loop {
            let status = node.status(StatusRequest {}).await.doing("ask the node how far it is")?;
            let index = status.digest.map_or(0, |digest| digest.index);
            match self.known.as_ref().and_then(|known| known.find_strange(chain, index)) {
                None => return Ok(index),
                Some(Strange::Older(_)) if older => return Ok(index),
                Some(Strange::Older(_)) if Instant::now() < end => tokio::time::sleep(LOOK_EVERY).await,
                Some(Strange::Older(why)) => {
                    let todo = "let the node catch up (are the others running?), or ask another; only if this loss is known to all \
                                custodians: --older";
                    return Err(Failure::failed("can't take this cluster for the one you know", why, todo));
                }
                Some(Strange::Unlinked(why)) => {
                    let path = self.path.as_deref().unwrap_or(Path::new("")).display();
                    let todo = format!(
                        "enter no share; ask the other custodians what they see; only if the cluster was founded anew, remove {path}"
                    );
                    return Err(Failure::failed("can't take this cluster for the one you know", why, todo));
                }
            }
        }
    }

    /// Remembers the seal in force and how far the cluster is. What fails is told, and fails nothing else.
    pub fn remember(&self, config: &SealConfig, index: u64) {
        let (seal_fingerprint, generation) = (config.fingerprint().to_string(), config.generation);
        let known = Known { seal_fingerprint, generation, anchor: 0, index };
        if let Some(path) = self.path.as_ref().filter(|_| self.known.as_ref() != Some(&known))
            && let Err(e) = write(path, &known)
        {
            eprintln!("{e}; the next time this machine can't tell whether the cluster is still the same");
        }
    }
}

fn write(path: &Path, known: &Known) -> CommandResult {
    let failed = |e: &dyn std::fmt::Display| {
        Failure::failed("can't remember the cluster", format!("{}: {e}", path.display()), "")
    };
    files::create_dir_private(path.parent().unwrap_or(Path::new("")))?;
    let text = serde_json::to_vec_pretty(known).map_err(|e| failed(&e))?;
    files::replace(path, 0o600, &text).map_err(|e| failed(&e))
}

/// Where programs keep what they remember (XDG base directories).
fn folder() -> Option<PathBuf> {
    let of = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    Some(of("XDG_STATE_HOME").or_else(|| Some(of("HOME")?.join(".local/state")))?.join("quorate/clusters"))
}

impl Known {
    fn find_strange(&self, chain: &[SealConfig], index: u64) -> Option<Strange> {
        let newest = chain.last()?;
        if newest.generation < self.generation {
            return Some(Strange::Older(format!(
                "its seal is of generation {}, and you have seen generation {}: it was put back from a copy",
                newest.generation, self.generation
            )));
        }
        let same =
            |c: &&SealConfig| c.generation == self.generation && c.fingerprint().to_string() == self.seal_fingerprint;
        let linked = chain.iter().find(same).is_some_and(|known| descends(&[known.hash()], chain));
        if !linked {
            return Some(Strange::Unlinked(format!(
                "its seal has fingerprint {}, which no custodians signed on to from the one you know, {} (generation {})",
                newest.fingerprint(),
                self.seal_fingerprint,
                self.generation
            )));
        }
        (index < self.index).then(|| {
            Strange::Older(format!(
                "it stands at entry {index}, and was at {} when you last dealt with it: it lags, or was put back from a copy",
                self.index
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::id::Lineage;
    use quorate_core::seam::Entropy;
    use quorate_crypto::{Founding, FoundingParams, Secret, found};

    use super::*;

    struct Bytes(std::sync::atomic::AtomicU8);
    impl Entropy for Bytes {
        fn fill(&self, out: &mut [u8]) {
            out.fill_with(|| self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        }
    }

    fn founding(seed: u8) -> Founding {
        let hsm_random = Secret::from_array([seed; 32]);
        let params = FoundingParams {
            shares: 3,
            threshold: 2,
            labels: vec![],
            lineage: Lineage([1; 16]),
            cluster: ClusterId([2; 16]),
            root_spki: b"root",
            hsm_random: &hsm_random,
            single_share: false,
            dev: false,
        };
        found(params, &Bytes(seed.into())).expect("good numbers")
    }

    /// The generation after, signed by these shares.
    fn successor(before: &Founding, signers: &[usize]) -> Founding {
        let mut next = founding(90);
        let config = &mut next.seal_config;
        config.generation = before.seal_config.generation + 1;
        config.previous_hash = before.seal_config.hash();
        config.signatures = signers.iter().map(|i| before.shares[*i].sign_successor(config)).collect();
        next
    }

    fn known(config: &SealConfig, index: u64) -> Known {
        let seal_fingerprint = config.fingerprint().to_string();
        Known { seal_fingerprint, generation: config.generation, anchor: 0, index }
    }

    #[test]
    fn only_what_custodians_signed_and_what_is_no_older_is_the_cluster_one_knows() {
        let (first, stranger) = (founding(1), founding(2));
        let second = successor(&first, &[0, 2]).seal_config;
        let unsigned = successor(&first, &[0]).seal_config;
        let (a, x) = (first.seal_config, stranger.seal_config);
        let strange = |known: &Known, chain: &[&SealConfig], index| {
            known.find_strange(&chain.iter().copied().cloned().collect::<Vec<_>>(), index)
        };
        let seen = known(&a, 50);
        assert_eq!(strange(&seen, &[&a], 50), None);
        assert_eq!(strange(&seen, &[&a, &second], 90), None, "signed on by two of three");
        let unlinked = |found| matches!(found, Some(Strange::Unlinked(_)));
        let older = |found| matches!(found, Some(Strange::Older(_)));
        assert!(unlinked(strange(&seen, &[&x], 90)));
        assert!(unlinked(strange(&seen, &[&a, &unsigned], 90)));
        assert!(unlinked(strange(&seen, &[&second], 90)), "what lies between is not shown");
        assert!(older(strange(&seen, &[&a], 49)));
        let seen = known(&second, 50);
        assert!(older(strange(&seen, &[&a], 90)));
        assert!(unlinked(strange(&seen, &[&a, &unsigned], 90)));
        assert_eq!(strange(&seen, &[&a, &second], 50), None);
    }

    #[test]
    fn what_was_remembered_comes_back_and_a_damaged_file_is_not_taken_for_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("quorate/clusters/c.json");
        let config = founding(1).seal_config;
        Memory::at(path.clone()).expect("nothing yet").remember(&config, 7);
        let memory = Memory::at(path.clone()).expect("readable");
        assert_eq!(memory.known, Some(known(&config, 7)));
        let fingerprint = config.fingerprint().to_string();
        assert!(!memory.contradicts(&fingerprint, 1) && !memory.contradicts("", 0) && !memory.contradicts("other", 2));
        assert!(memory.contradicts("other", 1));
        files::replace(&path, 0o600, b"{}").expect("written");
        assert!(Memory::at(path).is_err());
    }
}
