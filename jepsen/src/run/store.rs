//! The folder of a run, and the verdict that is written into it.
//!
//! ```text
//! STORE/<workload>-<nemeses>/<utc>-<seed>/  test.json results.json history.edn evidence.json repro.sh report.html nodes/n1.log …
//! STORE/latest                              → the newest
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::format_description;

use super::Test;
use crate::checker::{Evidence, Finding, Verdict, check, overall};
use crate::history::{History, Outcome, from_text};

/// The folder of one run.
pub struct Store {
    dir: PathBuf,
}

/// `results.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Results {
    /// The worst of all findings.
    pub verdict: Verdict,
    /// What was run.
    pub test: Test,
    /// Each checker's.
    pub findings: Vec<Finding>,
    /// Calls by `:f` and how they ended.
    pub calls: BTreeMap<String, BTreeMap<String, u64>>,
    /// Faults that took effect, by kind.
    pub faults: BTreeMap<String, u64>,
    /// After a leader was killed, paused or cut off: milliseconds until a change was acknowledged that was invoked
    /// afterwards; sorted. Of this machine and this load, no promise.
    pub failover_ms: Vec<u64>,
}

impl Store {
    /// A new folder under `root`.
    ///
    /// # Errors
    /// When it can't be made.
    pub fn create(root: &Path, test: &Test) -> anyhow::Result<Self> {
        let now = OffsetDateTime::now_utc()
            .format(format_description!("[year][month][day]T[hour][minute][second]"))
            .context("the time")?;
        let faults = if test.nemeses.is_empty() { "none".into() } else { test.nemeses.join("+") };
        let name = format!("{}-{faults}", test.workload);
        let root = std::path::absolute(root)?;
        let dir = root.join(name).join(format!("{now}-{}", test.seed));
        std::fs::create_dir_all(&dir).with_context(|| format!("can't make {}", dir.display()))?;
        let store = Self { dir };
        store.write("test.json", &serde_json::to_string_pretty(test)?)?;
        store.write("repro.sh", &repro(test))?;
        let latest = root.join("latest");
        let _ = std::fs::remove_file(&latest);
        let _ = std::os::unix::fs::symlink(&store.dir, &latest);
        Ok(store)
    }

    /// The folder of a run that ended.
    pub fn open(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The history's file.
    pub fn history(&self) -> PathBuf {
        self.dir.join("history.edn")
    }

    /// The cluster's folder while it runs.
    pub fn cluster(&self) -> PathBuf {
        self.dir.join("cluster")
    }

    /// Keeps the nodes' logs, and the rest only if `keep`.
    ///
    /// # Errors
    /// When a file can't be written.
    pub fn tidy(&self, keep: bool) -> anyhow::Result<()> {
        std::fs::create_dir_all(self.dir.join("nodes"))?;
        // Every node there was, with those that came later and those that were removed.
        for entry in std::fs::read_dir(self.cluster()).into_iter().flatten().flatten() {
            let log = entry.path().join("log");
            if log.exists() {
                std::fs::copy(&log, self.dir.join(format!("nodes/{}.log", entry.file_name().display())))?;
            }
        }
        if !keep && self.cluster().exists() {
            std::fs::remove_dir_all(self.cluster())?;
        }
        Ok(())
    }

    fn read(&self, name: &str) -> anyhow::Result<String> {
        let path = self.dir.join(name);
        std::fs::read_to_string(&path).with_context(|| format!("can't read {}", path.display()))
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.dir.join(name);
        std::fs::write(&path, text).with_context(|| format!("can't write {}", path.display()))
    }
}

fn repro(test: &Test) -> String {
    let nemesis =
        if test.nemeses.is_empty() { String::new() } else { format!(" --nemesis {}", test.nemeses.join(",")) };
    let Test { workload, nodes, seconds, rate, clients, seed, version, .. } = test;
    format!(
        "#!/bin/sh
# Runs the same test up to ${{1:-20}} times and stops at the first that is not valid. The seed fixes which calls and faults
# are chosen, not how real processes interleave them. Run with: {version}
i=0
while [ \"$i\" -lt \"${{1:-20}}\" ]; do
  \"${{JEPSEN:-jepsen}}\" run --workload {workload}{nemesis} --nodes {nodes} --time {seconds}s --rate {rate} --clients {clients} --seed {seed} || exit
  i=$((i + 1))
done
"
    )
}

/// Judges, and writes the verdict beside the history.
///
/// # Errors
/// A history that no harness writes, or a file that can't be written.
pub fn judge(
    store: &Store,
    test: &Test,
    history: &History,
    evidence: &Evidence,
    per_key: Duration,
) -> anyhow::Result<Vec<Finding>> {
    store.write("evidence.json", &serde_json::to_string_pretty(evidence)?)?;
    let findings = check(history, evidence, per_key)?;
    let mut calls: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for op in history.ops()? {
        let end = match &op.outcome {
            Outcome::Ok(_) => "ok".to_owned(),
            Outcome::Fail(why) => format!("fail {why}"),
            Outcome::Info(why) => format!("info {why}"),
        };
        *calls.entry(op.call.name().to_owned()).or_default().entry(end).or_default() += 1;
    }
    let mut faults: BTreeMap<String, u64> = BTreeMap::new();
    for (_, f, _) in history.nemesis() {
        if let Some(kind) = f.strip_suffix("-took-effect") {
            *faults.entry(kind.to_owned()).or_default() += 1;
        }
    }
    let results = Results {
        verdict: overall(&findings),
        test: test.clone(),
        findings: findings.clone(),
        calls,
        faults,
        failover_ms: failovers(history)?,
    };
    store.write("results.json", &serde_json::to_string_pretty(&results)?)?;
    store.write("report.html", &crate::report::html(history, &results)?)?;
    Ok(findings)
}

/// Judges a stored run again.
///
/// # Errors
/// As [`judge`], and when a file is missing.
pub fn judge_stored(store: &Store, per_key: Duration) -> anyhow::Result<Vec<Finding>> {
    let test: Test = serde_json::from_str(&store.read("test.json")?).context("test.json")?;
    let evidence: Evidence = serde_json::from_str(&store.read("evidence.json")?).context("evidence.json")?;
    let history = from_text(&store.read("history.edn")?).context("history.edn")?;
    judge(store, &test, &history, &evidence, per_key)
}

/// From the loss of a leader to the first acknowledgement of a change invoked afterwards, ms.
fn failovers(history: &History) -> anyhow::Result<Vec<u64>> {
    let ops = history.ops()?;
    let mut changes: Vec<(u64, u64)> =
        ops.iter().filter(|o| o.is_ok() && o.call.is_change()).map(|o| (o.invoked, o.ended)).collect();
    changes.sort_unstable_by_key(|(_, ended)| *ended);
    let lost = history.nemesis().filter(|(_, f, value)| match *f {
        "kill-took-effect" | "pause-took-effect" => value.contains("(leader)"),
        "partition" => value.starts_with("Leader: ") && !value.contains("unknown"),
        _ => false,
    });
    let mut times: Vec<u64> = lost
        .filter_map(|(event, _, _)| {
            let (_, ended) = changes.iter().find(|(invoked, _)| *invoked > event.time)?;
            Some((ended - event.time) / 1_000_000)
        })
        .collect();
    times.sort_unstable();
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test() -> Test {
        Test {
            workload: "revoke".into(),
            nemeses: vec!["kill".into(), "pause".into()],
            nodes: 3,
            seconds: 30,
            rate: 100,
            clients: 8,
            seed: 42,
            version: "quorate 0".into(),
        }
    }

    #[test]
    fn a_stored_run_is_judged_again_with_the_same_verdict() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::create(root.path(), &test()).unwrap();
        let history = "{:index 0, :time 1, :process 0, :type :invoke, :f :rotate, :key \"k\", :node 1, :value {}}\n\
                       {:index 1, :time 5000000, :process :nemesis, :type :info, :f :kill-took-effect, :value \"n1 (leader)\"}\n\
                       {:index 2, :time 6000000, :process 1, :type :invoke, :f :disable, :key \"k\", :node 1, :value {}}\n\
                       {:index 3, :time 9000000, :process 1, :type :ok, :f :disable, :key \"k\", :node 1, :value {:state :disabled, :version 1}}\n";
        std::fs::write(store.history(), history).unwrap();
        let read = from_text(history).unwrap();
        let limit = Duration::from_secs(60);
        let first =
            judge(&store, &test(), &read, &Evidence { members: vec![1, 2, 3], ..Evidence::default() }, limit).unwrap();
        assert_eq!(overall(&first), Verdict::Invalid, "a disable of a key that nobody created");
        let again = judge_stored(&Store::open(store.dir()), limit).unwrap();
        assert_eq!(first, again);
        let results: Results = serde_json::from_str(&store.read("results.json").unwrap()).unwrap();
        assert_eq!((results.failover_ms, results.faults["kill"]), (vec![4], 1));
        assert_eq!(results.calls["rotate"]["info it never ended"], 1);
        let script = store.read("repro.sh").unwrap();
        assert!(script.contains("--nemesis kill,pause --nodes 3 --time 30s") && script.contains("--seed 42"));
        assert_eq!(std::fs::read_link(root.path().join("latest")).unwrap(), store.dir());
    }
}
