//! Judges a history and what was collected after a run. Pure: no clock, no file, no process.
//!
//! | checker | rejects |
//! | --- | --- |
//! | `durability` | an acknowledged key, version or ciphertext that is not there in the end |
//! | `revocation` | a use that succeeded though it was invoked after an acknowledged disable or deletion; a use denied though enabled |
//! | `linear` | answers about one key that no order of the calls explains |
//! | `aliases` | answers about one alias that no order of the calls explains |
//! | `names` | answers about one name for life that no order of the calls explains |
//! | `values` | answers about one secret that no order of the calls explains |
//! | `metadata` | a description, a time of creation or of a version that changed |
//! | `ids` | an id given twice, or two ids for one token |
//! | `sealed` | a use that a sealed node performed |
//! | `ceremony` | a wrong share that was taken, a node opened by fewer shares than the threshold |
//! | `membership` | an answer about a key by a node whose removal had been acknowledged |
//! | `material` | imported material that is used after its end, erased before it, or not erased |
//! | `due` | a key that was destroyed before its time, though its deletion was cancelled, or not at all |
//! | `times` | a cluster time that was more than a minute ahead of the real one |
//! | `hostile` | a door that was open to a member without right |
//! | `digests` | two nodes whose state differs at the same log index |
//! | `secrets` | a secret or a name in a file or the metrics of a node, on the network, or in memory after a seal; a core dump |
//! | `logs` | a panic, a damaged node, a fault of quorate in a node's log |
//! | `answers` | an answer that says that quorate itself is at fault |
//! | `recovery` | a cluster that does not come back once every fault is healed |
//! | `coverage` | a run in which what was demanded did not happen: no pass |

pub mod alias;
pub mod answers;
pub mod brute;
pub mod ceremony;
pub mod coverage;
pub mod digests;
pub mod due;
pub mod durability;
pub mod hostile;
pub mod ids;
pub mod linear;
pub mod logs;
pub mod material;
pub mod membership;
pub mod metadata;
pub mod model;
pub mod name;
pub mod object;
pub mod revocation;
pub mod sealed;
pub mod secret;
pub mod secrets;
pub mod times;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::history::{History, Op};

/// As many violations of one checker are described; all are counted.
const DESCRIBED_MAX: usize = 10;

/// What a checker says; the worst is last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing contradicts the promise.
    Valid,
    /// What was demanded did not happen: nothing was proved.
    Uncovered,
    /// It could not be decided.
    Unknown,
    /// The promise was broken.
    Invalid,
}

impl Verdict {
    /// The exit code of the command (3 is a failure of the harness itself).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Valid => 0,
            Self::Invalid => 1,
            Self::Unknown => 2,
            Self::Uncovered => 4,
        }
    }

    /// In results and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Uncovered => "uncovered",
            Self::Unknown => "unknown",
            Self::Invalid => "invalid",
        }
    }
}

/// One checker's result.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Finding {
    /// The checker's name.
    pub checker: String,
    /// What it says.
    pub verdict: Verdict,
    /// How many things it judged.
    pub checked: u64,
    /// How many of them broke the promise.
    pub violations: u64,
    /// The first of them, and what could not be decided, in words.
    pub details: Vec<String>,
}

impl Finding {
    /// `broken` are violations, `undecided` what could not be judged; each in words.
    pub fn new(checker: &str, checked: usize, broken: Vec<String>, undecided: Vec<String>) -> Self {
        let verdict = match (broken.is_empty(), undecided.is_empty()) {
            (false, _) => Verdict::Invalid,
            (true, false) => Verdict::Unknown,
            (true, true) => Verdict::Valid,
        };
        Self {
            checker: checker.to_owned(),
            verdict,
            checked: checked as u64,
            violations: broken.len() as u64,
            details: broken.into_iter().chain(undecided).take(DESCRIBED_MAX).collect(),
        }
    }
}

/// What was collected besides the history; stored with it, so that a stored run can be judged again.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Evidence {
    /// The nodes that were members in the end.
    pub members: Vec<u32>,
    /// What must have happened.
    pub demands: Vec<coverage::Demand>,
    /// The time of day when the history began, ms since 1970; 0 when that is not known.
    #[serde(default)]
    pub began_ms: u64,
    /// Cluster times, as nodes told them.
    #[serde(default)]
    pub times: Vec<times::Sample>,
    /// Digests of states, as nodes told them.
    pub digests: Vec<digests::Sample>,
    /// Lines of nodes' logs that no sound node writes.
    pub log_faults: Vec<String>,
    /// Secrets found where they must not be.
    pub leaks: Vec<String>,
    /// What is to be known of the search for secrets: what was not searched, and whether it finds what is there.
    #[serde(default)]
    pub notes: Vec<String>,
    /// Bytes of files, memory and frames that were searched for secrets.
    pub scanned_bytes: u64,
    /// Why the cluster did not come back after the faults were healed.
    pub not_recovered: Option<String>,
    /// What nodes said that a seal of the whole cluster, acknowledged at the end, did not seal.
    #[serde(default)]
    pub not_sealed: Option<String>,
}

/// Every checker. `per_key` bounds the search for one key's order.
///
/// # Errors
/// A history that no harness writes.
pub fn check(history: &History, evidence: &Evidence, per_key: Duration) -> anyhow::Result<Vec<Finding>> {
    let ops = history.ops()?;
    // What may be gone at any time is not judged by what is to last.
    let doomed = due::doomed(&ops);
    let lasting: Vec<Op> =
        ops.iter().filter(|o| !o.key.as_ref().is_some_and(|k| doomed.contains(k))).cloned().collect();
    let mut secrets = Finding::new("secrets", evidence.scanned_bytes as usize, evidence.leaks.clone(), vec![]);
    secrets.details.extend(evidence.notes.clone());
    Ok(vec![
        durability::check(&lasting, &evidence.members),
        revocation::check(&ops),
        linear::check::<model::Key>("linear", &lasting, per_key),
        linear::check::<alias::Alias>("aliases", &ops, per_key),
        linear::check::<name::Name>("names", &ops, per_key),
        linear::check::<secret::Secret>("values", &ops, per_key),
        metadata::check(&ops),
        ids::check(&ops),
        sealed::check(&ops, &sealed::lies(history), evidence.not_sealed.as_deref()),
        ceremony::check(&ops),
        membership::check(&ops),
        due::check(&ops, evidence.began_ms, &evidence.members),
        material::check(&ops, evidence.began_ms),
        times::check(&evidence.times),
        hostile::check(history),
        digests::check(&evidence.digests, evidence.members.len()),
        secrets,
        Finding::new("logs", evidence.members.len(), evidence.log_faults.clone(), vec![]),
        answers::check(&ops),
        Finding::new("recovery", 1, evidence.not_recovered.iter().cloned().collect(), vec![]),
        coverage::check(history, &ops, &evidence.demands),
    ])
}

/// The worst of all.
pub fn overall(findings: &[Finding]) -> Verdict {
    findings.iter().map(|f| f.verdict).max().unwrap_or(Verdict::Uncovered)
}

/// A call, for people.
fn tell(op: &Op) -> String {
    let s = |ns: u64| format!("{:.6} s", ns as f64 / 1e9);
    let end = if op.ended == u64::MAX { "open".to_owned() } else { s(op.ended) };
    format!("{:?} at n{} [event {}, {} … {}] → {:?}", op.call, op.node, op.index, s(op.invoked), end, op.outcome)
}

/// The calls that a violation names, by the index of their invocation, in its order: the last is the one that could not be.
pub fn calls_of(violation: &str) -> Vec<u64> {
    let mut calls: Vec<u64> = Vec::new();
    for rest in violation.split("[event ").skip(1) {
        if let Some(index) = rest.split(',').next().and_then(|n| n.parse().ok())
            && !calls.contains(&index)
        {
            calls.push(index);
        }
    }
    calls
}

/// Hand-made calls for the checkers' tests.
#[cfg(test)]
pub(crate) mod hand {
    use crate::history::{Answer, Call, Op, Outcome, State};

    pub fn op(node: u32, invoked: u64, ended: u64, call: Call, outcome: Outcome) -> Op {
        let ended = if matches!(outcome, Outcome::Info(_)) { u64::MAX } else { ended };
        Op { index: invoked, process: invoked, node, key: Some("k".into()), last: false, call, invoked, ended, outcome }
    }
    pub fn key(state: State, version: u32) -> Outcome {
        Outcome::Ok(Answer::Key { state, version })
    }
    pub fn encrypted(version: u32) -> Outcome {
        Outcome::Ok(Answer::Encrypted { version })
    }
    pub fn decrypted(version: u32, exact: bool) -> Outcome {
        Outcome::Ok(Answer::Decrypted { version, exact })
    }
    pub fn refused(reason: &str) -> Outcome {
        Outcome::Fail(reason.into())
    }
    pub fn doubt() -> Outcome {
        Outcome::Info("UNKNOWN_OUTCOME".into())
    }
    pub fn create(at: u64) -> Op {
        op(1, at, at + 1, Call::create(1), key(State::Enabled, 1))
    }
    pub fn last(mut op: Op) -> Op {
        op.last = true;
        op
    }
    pub fn of(mut op: Op, key: &str) -> Op {
        op.key = Some(key.into());
        op
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_names_its_calls() {
        let words = format!("key k: no\n    {}\n    {}", tell(&hand::create(7)), tell(&hand::create(3)));
        assert_eq!(calls_of(&words), [7, 3]);
        assert!(calls_of("n1 ended by itself [event").is_empty());
    }

    #[test]
    fn the_worst_verdict_counts_and_each_has_its_exit_code() {
        let finding = |verdict| Finding { verdict, ..Finding::new("x", 0, vec![], vec![]) };
        assert_eq!(overall(&[]), Verdict::Uncovered, "no checker, no proof");
        for (worst, code) in
            [(Verdict::Valid, 0), (Verdict::Uncovered, 4), (Verdict::Unknown, 2), (Verdict::Invalid, 1)]
        {
            assert_eq!(overall(&[finding(Verdict::Valid), finding(worst), finding(Verdict::Valid)]), worst);
            assert_eq!(worst.exit_code(), code);
        }
        assert_eq!(Finding::new("x", 1, vec!["a".into()], vec!["b".into()]).verdict, Verdict::Invalid);
        assert_eq!(Finding::new("x", 1, vec![], vec!["b".into()]).verdict, Verdict::Unknown);
    }
}
