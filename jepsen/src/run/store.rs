//! The folder of a run, and the verdict that is written into it.
//!
//! ```text
//! STORE/<workload>-<nemeses>/<utc>-<seed>/  test.json results.json history.edn evidence.json repro.sh report.html nodes/n1.log …
//! STORE/latest                              → the newest
//! ```

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::format_description;

use super::Test;
use crate::checker::{Evidence, Finding, Verdict, check, overall, revocation};
use crate::history::{History, Op, Outcome, from_text};

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
    /// From the first fault until all were healed, seconds.
    pub fault_seconds: f64,
    /// Uses that raced an acknowledged revocation.
    pub races: u64,
    /// After a leader was lost, by how: milliseconds until a change was acknowledged that was invoked afterwards; sorted. Of
    /// this machine and this load, no promise.
    pub failover_ms: BTreeMap<String, Vec<u64>>,
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
        let root = std::path::absolute(root)?;
        let dir = family(&root, test).join(format!("{now}-{}", test.seed));
        std::fs::create_dir_all(&dir).with_context(|| format!("can't make {}", dir.display()))?;
        let store = Self { dir };
        store.write("test.json", &serde_json::to_string_pretty(test)?)?;
        let script = store.dir.join("repro.sh");
        store.write("repro.sh", REPRO)?;
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))?;
        let latest = root.join("latest");
        let _ = std::fs::remove_file(&latest);
        let _ = std::os::unix::fs::symlink(&store.dir, &latest);
        Ok(store)
    }

    /// The folder of a run that ended.
    pub fn open(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The newest run of a test.
    pub fn find(root: &Path, test: &Test) -> Option<Self> {
        let ending = format!("-{}", test.seed);
        let runs = std::fs::read_dir(family(root, test)).ok()?.flatten().map(|e| e.path());
        runs.filter(|dir| dir.to_str().is_some_and(|d| d.ends_with(&ending))).max().map(|dir| Self { dir })
    }

    /// Every run below a root, the newest first.
    pub fn all(root: &Path) -> Vec<Self> {
        let below =
            |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect::<Vec<_>>();
        let families = below(root).into_iter().filter(|dir| !dir.is_symlink());
        let mut runs: Vec<PathBuf> =
            families.flat_map(|dir| below(&dir)).filter(|d| d.join("test.json").exists()).collect();
        runs.sort_by(|a, b| b.file_name().cmp(&a.file_name()));
        runs.into_iter().map(|dir| Self { dir }).collect()
    }

    /// What was run.
    ///
    /// # Errors
    /// When the folder holds no run.
    pub fn test(&self) -> anyhow::Result<Test> {
        serde_json::from_str(&self.read("test.json")?).with_context(|| format!("{}/test.json", self.dir.display()))
    }

    /// What was found, if it was judged.
    ///
    /// # Errors
    /// When the folder holds no results that this version reads.
    pub fn results(&self) -> anyhow::Result<Results> {
        let path = format!("{}/results.json", self.dir.display());
        serde_json::from_str(&self.read("results.json")?).context(path)
    }

    /// The root of the store, and the folder below it.
    ///
    /// # Errors
    /// When the folder is not where a run is kept.
    pub fn place(&self) -> anyhow::Result<(PathBuf, String)> {
        let dir = self.dir.canonicalize().with_context(|| self.dir.display().to_string())?;
        let root = dir.ancestors().nth(2).context("a run lies two folders below its store")?.to_owned();
        let below = dir.strip_prefix(&root)?.display().to_string();
        Ok((root, below))
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The history's file.
    pub fn history(&self) -> PathBuf {
        self.dir.join("history.edn")
    }

    /// What was recorded of the network.
    pub fn capture(&self) -> PathBuf {
        self.dir.join("net.pcap")
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

    /// Pictures of an earlier judgement may show what is no longer found.
    fn remove_reports(&self) -> anyhow::Result<()> {
        for entry in std::fs::read_dir(&self.dir)?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|e| e == "svg" || e == "html") {
                std::fs::remove_file(&path).with_context(|| format!("can't remove {}", path.display()))?;
            }
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

/// The folder of all runs of a workload with the same faults.
fn family(root: &Path, test: &Test) -> PathBuf {
    let faults = if test.nemeses.is_empty() { "none".into() } else { test.nemeses.join("+") };
    root.join(format!("{}-{faults}", test.workload))
}

/// The script beside a result.
const REPRO: &str = "#!/bin/sh
# Runs the test of this folder again, up to ${1:-20} times, until it is not valid.
exec \"${JEPSEN:-jepsen}\" repro --times \"${1:-20}\" \"$(dirname \"$0\")\"
";

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
    let ops = history.ops()?;
    let mut calls: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    for op in &ops {
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
        fault_seconds: fault_seconds(history),
        races: revocation::races(&ops) as u64,
        failover_ms: failovers(history, &ops),
    };
    store.write("results.json", &serde_json::to_string_pretty(&results)?)?;
    store.remove_reports()?;
    for (name, text) in crate::report::files(history, &results)? {
        store.write(&name, &text)?;
    }
    Ok(findings)
}

/// Judges a stored run again.
///
/// # Errors
/// As [`judge`], and when a file is missing.
pub fn judge_stored(store: &Store, per_key: Duration) -> anyhow::Result<Vec<Finding>> {
    let test = store.test()?;
    let evidence: Evidence = serde_json::from_str(&store.read("evidence.json")?).context("evidence.json")?;
    let history = from_text(&store.read("history.edn")?).context("history.edn")?;
    judge(store, &test, &history, &evidence, per_key)
}

/// From the first fault to the healing of all.
fn fault_seconds(history: &History) -> f64 {
    let first = history.nemesis().map(|(event, ..)| event.time).next();
    let healed = history.nemesis().find(|(_, f, _)| *f == "healed").map(|(event, ..)| event.time);
    first.zip(healed).map_or(0.0, |(first, healed)| healed.saturating_sub(first) as f64 / 1e9)
}

/// So many changes acknowledged within a second before show that the cluster worked, and that its clients kept changing
/// something: else the time is theirs.
const STEADY: usize = 5;

/// From the loss of a leader to the first acknowledgement of a change invoked afterwards, ms, by how it was lost.
fn failovers(history: &History, ops: &[Op]) -> BTreeMap<String, Vec<u64>> {
    let mut changes: Vec<(u64, u64)> =
        ops.iter().filter(|o| o.is_ok() && o.call.is_change()).map(|o| (o.invoked, o.ended)).collect();
    changes.sort_unstable_by_key(|(_, ended)| *ended);
    let cause = |f: &str, value: &str| match f {
        "kill-took-effect" if value.contains("(leader)") => Some("kill"),
        "pause-took-effect" if value.contains("(leader)") => Some("pause"),
        "power-took-effect" if value.contains("(leader)") => Some("power"),
        "partition" if value.starts_with("Leader: ") && !value.contains("unknown") => Some("isolation"),
        "sides" => Some("isolation"),
        _ => None,
    };
    let mut times: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (event, f, value) in history.nemesis() {
        let just_before = event.time.saturating_sub(1_000_000_000)..event.time;
        if let Some(cause) = cause(f, value)
            && changes.iter().filter(|(_, ended)| just_before.contains(ended)).count() >= STEADY
            && let Some((_, ended)) = changes.iter().find(|(invoked, _)| *invoked > event.time)
        {
            times.entry(cause.to_owned()).or_default().push((ended - event.time) / 1_000_000);
        }
    }
    times.values_mut().for_each(|t| t.sort_unstable());
    times
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change every 100 ms, but for 400 ms after the leader is lost; later they are rare.
    #[test]
    fn a_fail_over_is_measured_under_steady_load_alone() {
        let ms = |at: u64| at * 1_000_000;
        let times: Vec<u64> = (0..10).map(|n| 100 * n).chain([1_350, 9_000]).collect();
        let op = |i: usize, at: u64| {
            let (value, ended) = ("{:state :disabled, :version 1}", ms(at) + 1);
            format!(
                "{{:index {}, :time {}, :process {i}, :type :invoke, :f :disable, :key \"k\", :node 1, :value {{}}}}\n\
                 {{:index {}, :time {ended}, :process {i}, :type :ok, :f :disable, :key \"k\", :node 1, :value {value}}}\n",
                3 * i,
                ms(at),
                3 * i + 1
            )
        };
        let loss = |index: u64, at: u64| {
            let what = ":f :kill-took-effect, :value \"n1 (leader)\"";
            format!("{{:index {index}, :time {}, :process :nemesis, :type :info, {what}}}\n", ms(at))
        };
        let mut text: String = times.iter().take(10).enumerate().map(|(i, at)| op(i, *at)).collect();
        text += &loss(40, 950);
        text += &op(20, times[10]);
        text += &loss(70, 5_000);
        text += &op(30, times[11]);
        let history = from_text(&text).unwrap();
        let ops = history.ops().unwrap();
        assert_eq!(failovers(&history, &ops), [("kill".to_owned(), vec![400])].into());
    }

    #[test]
    fn a_stored_run_is_judged_again_with_the_same_verdict() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::create(root.path(), &Test::sample()).unwrap();
        let history = "{:index 0, :time 1, :process 0, :type :invoke, :f :rotate, :key \"k\", :node 1, :value {}}\n\
                       {:index 1, :time 5000000, :process :nemesis, :type :info, :f :kill-took-effect, :value \"n1 (leader)\"}\n\
                       {:index 2, :time 6000000, :process 1, :type :invoke, :f :disable, :key \"k\", :node 1, :value {}}\n\
                       {:index 3, :time 9000000, :process 1, :type :ok, :f :disable, :key \"k\", :node 1, :value {:state :disabled, :version 1}}\n";
        std::fs::write(store.history(), history).unwrap();
        let read = from_text(history).unwrap();
        let limit = Duration::from_secs(60);
        let first =
            judge(&store, &Test::sample(), &read, &Evidence { members: vec![1, 2, 3], ..Evidence::default() }, limit)
                .unwrap();
        assert_eq!(overall(&first), Verdict::Invalid, "a disable of a key that nobody created");
        let again = judge_stored(&Store::open(store.dir()), limit).unwrap();
        assert_eq!(first, again);
        let results: Results = serde_json::from_str(&store.read("results.json").unwrap()).unwrap();
        assert_eq!(results.faults["kill"], 1);
        assert_eq!(results.calls["rotate"]["info it never ended"], 1);
        let args = Test::sample().args().join(" ");
        assert_eq!(
            args,
            "--workload revoke --nemesis kill,pause --nodes 3 --time 30s --rate 100 --clients 8 --seed 42 --net tap"
        );
        assert_eq!(std::fs::read_link(root.path().join("latest")).unwrap(), store.dir());
        assert_eq!(Store::find(root.path(), &Test::sample()).unwrap().dir(), store.dir());
        assert!(
            Store::find(root.path(), &Test { seed: 2, ..Test::sample() }).is_none(),
            "42 ends in 2, but is another seed"
        );
        let (at, below) = store.place().unwrap();
        assert_eq!(
            (at.join(&below).canonicalize().unwrap(), Store::all(root.path()).len()),
            (store.dir().canonicalize().unwrap(), 1)
        );
    }
}
