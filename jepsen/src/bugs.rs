//! Builds of the product that are broken on purpose: the whole harness, from the faults to the verdict, must reject each.
//! A checker that accepts them is worthless, and so is a fault that never meets them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::checker::Verdict;
use crate::ledger::HARNESS_FAILURE;
use crate::run::Results;

/// A build with the feature of that name reads the bug's name from the environment; no other build knows it.
const FEATURE: &str = "seeded-bugs";
const VARIABLE: &str = "QUORATE_SEEDED_BUG";
/// A bug must be rejected within so many runs.
pub const RUNS_MAX: u32 = 3;

/// A bug, and the run that suits it.
#[derive(Clone, Copy, Debug)]
pub struct Seeded {
    /// Its name.
    pub name: &'static str,
    /// What is wrong with it.
    pub what: &'static str,
    workload: &'static str,
    nemeses: &'static str,
    nodes: u32,
    seconds: u32,
    rate: u32,
    /// Checkers of which one must reject it; any other's rejection is shown, but is not what the bug does.
    rejected_by: &'static [&'static str],
}

/// How it went with one of them.
pub struct Caught {
    /// Which checkers rejected it, of the last run.
    pub by: Vec<String>,
    /// Whether one of those did that were to; the others are side effects.
    pub rightly: bool,
    /// How many runs were made.
    pub runs: u32,
    /// How long they took.
    pub time: Duration,
    /// What else is to be said of the last run.
    pub remark: String,
}

/// Every bug that the product can be built with.
pub const BUGS: [Seeded; 23] = [
    bug(
        "skip-read-index",
        "reads are answered from what the node has applied",
        ("revoke", "kill", 3, 15, 150),
        &["revocation", "linear"],
    ),
    bug(
        "join-sent-round",
        "a read shares a round that was sent before it arrived",
        ("revoke", "stutter", 3, 60, 300),
        &["revocation", "linear"],
    ),
    bug(
        "reuse-round",
        "a late answer counts for the next round",
        ("revoke", "flaky", 3, 60, 300),
        &["revocation", "linear"],
    ),
    bug(
        "two-views",
        "a use is judged by a view before its round and one after",
        ("revoke", "kill", 3, 15, 150),
        &["revocation", "linear"],
    ),
    bug(
        "late-fill",
        "the cache keeps what was read before a change",
        ("revoke", "stutter", 3, 40, 300),
        &["revocation", "linear"],
    ),
    bug(
        "ack-before-fsync",
        "the journal answers before it has synced",
        ("durability", "blackout", 3, 40, 150),
        &["durability", "linear", "recovery", "logs"],
    ),
    bug(
        "skip-boot-sync",
        "the count of starts is not kept: batch ids repeat",
        ("durability", "kill", 3, 30, 150),
        &["durability", "linear", "ids", "sealed", "recovery", "logs"],
    ),
    bug(
        "publish-before-apply",
        "the applied index is told before the entry is applied",
        ("lifecycle", "kill", 3, 15, 150),
        &["linear", "revocation", "answers"],
    ),
    bug(
        "drop-record",
        "a node loses an applied record",
        ("durability", "kill", 3, 20, 150),
        &["digests", "durability"],
    ),
    bug("serve-sealed", "a sealed node goes on", ("revoke", "seal", 3, 15, 150), &["sealed"]),
    bug(
        "accept-bad-mac",
        "a leader's forged batches are accepted",
        ("durability", "kill", 3, 15, 150),
        &["durability", "linear"],
    ),
    bug(
        "lose-vote",
        "a vote does not outlive a restart",
        ("revoke", "sides", 3, 45, 150),
        &["revocation", "linear", "durability", "digests", "logs", "recovery"],
    ),
    bug(
        "leader-lease",
        "a leader answers reads for 2 s without asking",
        ("revoke", "partition", 3, 40, 150),
        &["revocation", "linear"],
    ),
    bug(
        "word-while-asking",
        "who starts says what it has while it asks what it had",
        ("durability", "rollback", 2, 40, 150),
        &["recovery", "logs"],
    ),
    bug(
        "skip-tag",
        "a word about a node is believed whoever made it",
        ("durability", "hostile", 3, 30, 150),
        &["hostile"],
    ),
    bug(
        "trust-answer-vote",
        "a vote told in an answer is adopted as it comes",
        ("durability", "hostile", 3, 60, 150),
        &["hostile"],
    ),
    bug(
        "count-unsigned",
        "whoever says that it leads is followed, whoever voted",
        ("durability", "hostile", 3, 30, 150),
        &["hostile"],
    ),
    bug(
        "skip-roster",
        "whoever tells of members, or leads, says who they are",
        ("durability", "hostile", 3, 40, 60),
        &["hostile"],
    ),
    bug("keep-floor", "a version that was rotated out protects on", ("rotation", "kill", 3, 15, 150), &["linear"]),
    bug(
        "forget-purged",
        "nothing is left of a purged key that tells a late retry of its creation",
        ("soft-delete", "kill", 3, 60, 150),
        &["linear"],
    ),
    bug("any-material", "a key takes another material than it had", ("import", "kill", 3, 15, 150), &["linear"]),
    bug(
        "own-offset",
        "the offset of a peer's clock is kept, and a majority's median believed at once",
        ("due", "clock-leap", 3, 60, 60),
        &["times", "due"],
    ),
    bug("duty-at-once", "what destroys goes by the own clock, at once", ("due", "clock-leap", 3, 40, 60), &["due"]),
];

/// Workload, nemeses, nodes, seconds, calls per second.
type Run = (&'static str, &'static str, u32, u32, u32);

const fn bug(
    name: &'static str,
    what: &'static str,
    (workload, nemeses, nodes, seconds, rate): Run,
    rejected_by: &'static [&'static str],
) -> Seeded {
    Seeded { name, what, workload, nemeses, nodes, seconds, rate, rejected_by }
}

/// Builds the product with its bugs, in a folder of its own; returns the binary.
///
/// # Errors
/// When it can't be built: it takes cargo, and the sources in the working directory.
pub fn build() -> anyhow::Result<PathBuf> {
    let target = std::path::absolute("target")?.join(FEATURE);
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--locked", "--package", "quorate", "--features", FEATURE, "--target-dir"]).arg(&target);
    let built = cargo.stdin(Stdio::null()).status().context("can't run cargo; give a binary with --binary")?;
    if !built.success() {
        bail!("the product with bugs can't be built; run this in its source folder, or give a binary with --binary");
    }
    Ok(target.join("debug/quorate"))
}

impl Seeded {
    /// Runs it until it is rejected, [`RUNS_MAX`] times at most.
    ///
    /// # Errors
    /// When no run could be made.
    pub fn attack(&self, binary: &Path, store: &Path) -> anyhow::Result<Caught> {
        let begun = Instant::now();
        let store = store.join(self.name);
        let mut last = None;
        for run in 1..=RUNS_MAX {
            let (by, remark) = self.run(binary, &store, u64::from(run))?;
            let rightly = by.iter().any(|checker| self.rejected_by.contains(&checker.as_str()));
            last = Some(Caught { by, rightly, runs: run, time: begun.elapsed(), remark });
            if rightly {
                break;
            }
        }
        last.context("no run was made")
    }

    /// One run, in a process of its own, since it lives in its clients' network. Which checkers rejected it.
    fn run(&self, binary: &Path, store: &Path, seed: u64) -> anyhow::Result<(Vec<String>, String)> {
        let number = |n: u32| n.to_string();
        let mut run = Command::new(std::env::current_exe()?);
        run.args(["run", "--workload", self.workload, "--nemesis", self.nemeses, "--nodes", &number(self.nodes)])
            .args(["--time", &format!("{}s", self.seconds), "--rate", &number(self.rate), "--seed", &seed.to_string()])
            // What the figures were measured on.
            .args(["--net", "veth"])
            .arg("--quorate")
            .arg(binary)
            .arg("--store")
            .arg(store)
            .env(VARIABLE, self.name)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let code = run.status().context("can't run this program again")?.code();
        if code == Some(HARNESS_FAILURE.into()) {
            return Ok((vec![], "the harness failed".into()));
        }
        let text = std::fs::read_to_string(store.join("latest/results.json")).context("the run left no results")?;
        let results: Results = serde_json::from_str(&text)?;
        let rejecting = results.findings.iter().filter(|f| f.verdict == Verdict::Invalid);
        Ok((rejecting.map(|f| f.checker.clone()).collect(), format!("{:?}", results.verdict).to_lowercase()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Kind;
    use crate::workload::Workload;
    use clap::ValueEnum;

    #[test]
    fn every_bug_has_a_run_that_there_is_and_names_of_checkers_that_there_are() {
        let checkers = crate::checker::check(&Default::default(), &Default::default(), Duration::from_secs(1)).unwrap();
        for (i, bug) in BUGS.iter().enumerate() {
            assert!(BUGS[..i].iter().all(|other| other.name != bug.name), "{} twice", bug.name);
            assert!(Workload::from_str(bug.workload, false).is_ok(), "{}", bug.name);
            assert!(bug.nemeses.split(',').all(|kind| Kind::from_str(kind, false).is_ok()), "{}", bug.name);
            let known = |by: &&str| checkers.iter().any(|f| f.checker == **by);
            assert!(!bug.rejected_by.is_empty() && bug.rejected_by.iter().all(known), "{}", bug.name);
        }
    }
}
