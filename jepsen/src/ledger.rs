//! What the runs of a store came to: a line for each in `ledger.jsonl`, and the totals by version.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::checker::Verdict;
use crate::run::{Results, Test};

/// The file's name.
const FILE: &str = "ledger.jsonl";
/// The exit code of a run that ended without a verdict.
pub const HARNESS_FAILURE: u8 = 3;
/// Exit codes from the best to the worst.
const ORDER: [u8; 5] = [0, 4, 2, HARNESS_FAILURE, 1];

/// One run.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its folder, below the store.
    pub folder: String,
    /// What was run.
    pub test: Test,
    /// `None` when the harness failed.
    pub verdict: Option<Verdict>,
    /// Why the harness failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// From the first fault until all were healed, seconds.
    pub fault_seconds: f64,
    /// Calls of all clients.
    pub calls: u64,
    /// Calls that were judged for linearizability.
    pub judged: u64,
    /// Uses that raced an acknowledged revocation.
    pub races: u64,
    /// Faults that took effect, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Milliseconds from the loss of a leader to the next acknowledged change, by what happened to it.
    pub failover_ms: BTreeMap<String, Vec<u64>>,
}

impl Entry {
    /// Of a run that was judged.
    pub fn judged(folder: &str, results: &Results) -> Self {
        let linear = results.findings.iter().find(|f| f.checker == "linear");
        Self {
            folder: folder.to_owned(),
            test: results.test.clone(),
            verdict: Some(results.verdict),
            failure: None,
            fault_seconds: results.fault_seconds,
            calls: results.calls.values().flat_map(BTreeMap::values).sum(),
            judged: linear.map_or(0, |f| f.checked),
            races: results.races,
            faults: results.faults.clone(),
            failover_ms: results.failover_ms.clone(),
        }
    }

    /// Of a run that ended without a verdict.
    pub fn failed(folder: &str, test: &Test, why: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            test: test.clone(),
            verdict: None,
            failure: Some(why.to_owned()),
            fault_seconds: 0.0,
            calls: 0,
            judged: 0,
            races: 0,
            faults: BTreeMap::new(),
            failover_ms: BTreeMap::new(),
        }
    }

    /// As the command that ran it ended.
    pub fn exit_code(&self) -> u8 {
        self.verdict.map_or(HARNESS_FAILURE, Verdict::exit_code)
    }
}

/// The worse of two exit codes: 1 invalid, then 3 harness failure, 2 unknown, 4 not covered, 0 valid.
pub fn worse(a: u8, b: u8) -> u8 {
    let place = |code: u8| ORDER.iter().position(|c| *c == code).unwrap_or(ORDER.len());
    if place(a) >= place(b) { a } else { b }
}

/// Adds a line: whole or not at all, also when several runs end at once.
///
/// # Errors
/// When the file can't be written.
pub fn append(root: &Path, entry: &Entry) -> anyhow::Result<()> {
    let path = root.join(FILE);
    let line = serde_json::to_string(entry)? + "\n";
    let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
    file.and_then(|mut file| file.write_all(line.as_bytes())).with_context(|| format!("can't write {}", path.display()))
}

/// Every run in the order in which they ended. Of a run that was judged again only the newest line counts.
///
/// # Errors
/// When the file can't be read, with the line that is none.
pub fn read(root: &Path) -> anyhow::Result<Vec<Entry>> {
    let path = root.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.with_context(|| format!("can't read {}", path.display()))?,
    };
    let mut entries: Vec<Entry> = Vec::new();
    for (line, n) in text.lines().zip(1..) {
        let entry: Entry = serde_json::from_str(line).with_context(|| format!("{}, line {n}", path.display()))?;
        match entries.iter_mut().find(|e| e.folder == entry.folder) {
            Some(old) => *old = entry,
            None => entries.push(entry),
        }
    }
    Ok(entries)
}

/// The sum of some runs.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Totals {
    /// How many.
    pub runs: u64,
    /// Hours of faults.
    pub fault_hours: f64,
    /// Calls of all clients.
    pub calls: u64,
    /// Calls that were judged for linearizability.
    pub judged: u64,
    /// Uses that raced an acknowledged revocation.
    pub races: u64,
    /// Faults that took effect, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Runs by how they ended.
    pub verdicts: BTreeMap<String, u64>,
    /// Fail-over times, sorted, ms.
    pub failover_ms: BTreeMap<String, Vec<u64>>,
}

impl Totals {
    fn add(&mut self, entry: &Entry) {
        self.runs += 1;
        self.fault_hours += entry.fault_seconds / 3600.0;
        self.calls += entry.calls;
        self.judged += entry.judged;
        self.races += entry.races;
        for (kind, n) in &entry.faults {
            *self.faults.entry(kind.clone()).or_default() += n;
        }
        let verdict = entry.verdict.map_or("harness failure", Verdict::name);
        *self.verdicts.entry(verdict.to_owned()).or_default() += 1;
        // One node fails over to nobody: what takes so long there is a restart and a ceremony.
        let failovers = entry.failover_ms.iter().filter(|_| entry.test.nodes > 1);
        for (cause, times) in failovers {
            let all = self.failover_ms.entry(cause.clone()).or_default();
            all.extend(times);
            all.sort_unstable();
        }
    }
}

/// Totals by version and workload; the workload `all` is the sum of a version.
pub fn totals(entries: &[Entry]) -> BTreeMap<(String, String), Totals> {
    let mut totals: BTreeMap<(String, String), Totals> = BTreeMap::new();
    for entry in entries {
        for workload in ["all", &entry.test.workload] {
            totals.entry((entry.test.version.clone(), workload.to_owned())).or_default().add(entry);
        }
    }
    totals
}

/// The value below which `percent` of the sorted values are (nearest rank).
pub fn quantile(sorted: &[u64], percent: u64) -> u64 {
    let rank = (sorted.len() as u64 * percent).div_ceil(100).max(1) as usize;
    sorted.get(rank - 1).copied().unwrap_or(0)
}

/// Both tables, in Markdown.
pub fn table(entries: &[Entry]) -> String {
    let list = |counts: &BTreeMap<String, u64>| {
        let mut counts: Vec<_> = counts.iter().collect();
        counts.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
        counts.iter().map(|(what, n)| format!("{} {what}", grouped(**n))).collect::<Vec<_>>().join(", ")
    };
    let mut text = String::from(
        "| version | workload | runs | hours of faults | calls judged | revocation races | faults | verdicts |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    let totals = totals(entries);
    for ((version, workload), t) in &totals {
        let sum: u64 = t.faults.values().sum();
        let (judged, races) = (grouped(t.judged), grouped(t.races));
        let _ = writeln!(
            text,
            "| {version} | {workload} | {} | {:.2} | {judged} | {races} | {}: {} | {} |",
            t.runs,
            t.fault_hours,
            grouped(sum),
            list(&t.faults),
            list(&t.verdicts)
        );
    }
    text.push_str(
        "\n| version | the leader was lost by | events | p50 | p90 | p99 | longest |\n|---|---|---|---|---|---|---|\n",
    );
    for ((version, _), t) in totals.iter().filter(|((_, workload), _)| workload == "all") {
        for (cause, times) in &t.failover_ms {
            let [p50, p90, p99] = [50, 90, 99].map(|p| quantile(times, p));
            let longest = times.last().copied().unwrap_or(0);
            let _ = writeln!(
                text,
                "| {version} | {cause} | {} | {p50} ms | {p90} ms | {p99} ms | {longest} ms |",
                times.len()
            );
        }
    }
    text
}

/// `1234567` → `1,234,567`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(folder: &str, workload: &str, verdict: Option<Verdict>) -> Entry {
        let test = Test { workload: workload.into(), version: "quorate 9".into(), ..Test::sample() };
        Entry {
            verdict,
            fault_seconds: 1800.0,
            calls: 2000,
            judged: 1000,
            races: 7,
            faults: [("kill".to_owned(), 3)].into(),
            failover_ms: [("kill".to_owned(), vec![900, 100])].into(),
            ..Entry::failed(folder, &test, "x")
        }
    }

    #[test]
    fn totals_are_sums_by_version_and_workload() {
        let entries = [entry("a", "revoke", Some(Verdict::Valid)), entry("b", "durability", None)];
        let all = &totals(&entries)[&("quorate 9".to_owned(), "all".to_owned())];
        assert_eq!((all.runs, all.judged, all.races, all.faults["kill"]), (2, 2000, 14, 6));
        assert_eq!(all.verdicts, [("harness failure".to_owned(), 1), ("valid".to_owned(), 1)].into());
        assert_eq!(all.failover_ms["kill"], [100, 100, 900, 900]);
        let table = table(&entries);
        assert!(
            table.contains("| quorate 9 | all | 2 | 1.00 | 2,000 | 14 | 6: 6 kill | 1 harness failure, 1 valid |"),
            "{table}"
        );
        assert!(table.contains("| quorate 9 | kill | 4 | 100 ms | 900 ms | 900 ms | 900 ms |"), "{table}");
    }

    #[test]
    fn what_is_appended_is_read_and_a_second_judgement_replaces_the_first() {
        let root = tempfile::tempdir().unwrap();
        assert!(read(root.path()).unwrap().is_empty());
        for e in [
            entry("a", "revoke", Some(Verdict::Valid)),
            entry("b", "revoke", None),
            entry("a", "revoke", Some(Verdict::Invalid)),
        ] {
            append(root.path(), &e).unwrap();
        }
        let read = read(root.path()).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].exit_code(), read[1].exit_code()), (1, HARNESS_FAILURE));
    }

    #[test]
    fn the_worst_exit_code_counts() {
        for (a, b, worst) in [(0, 4, 4), (4, 2, 2), (2, 3, 3), (3, 1, 1), (0, 0, 0), (1, 77, 77)] {
            assert_eq!((worse(a, b), worse(b, a)), (worst, worst));
        }
    }

    #[test]
    fn nearest_rank() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!([50, 90, 99, 100].map(|p| quantile(&values, p)), [50, 90, 99, 100]);
        assert_eq!((quantile(&[5], 99), quantile(&[], 50)), (5, 0));
        assert_eq!(["7", "1,000", "12,345,678"], [7, 1000, 12_345_678].map(grouped).each_ref().map(String::as_str));
    }
}
