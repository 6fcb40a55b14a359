//! After a run: what the nodes wrote, and what is left in their memory.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use tokio::time::{Instant, sleep};

use crate::checker::secrets::Canaries;
use crate::checker::{Evidence, logs};
use crate::cluster::{Cluster, memory, pin, twin};
use crate::net::Backend;
use crate::workload::{Context, Learned};

/// Work under way at a seal, and connections that end, are given so much time: a deadline against hanging, no measure.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(60);
/// All shares begin alike: cluster and set. What follows is the secret.
const SHARE_HEAD_LEN: usize = 20;

/// What must not be found anywhere, of a cluster whose folder is `dir`; and what clients learned of it.
pub fn canaries(seed: u64, dir: &Path, learned: &[(&'static str, Bytes)]) -> anyhow::Result<Canaries> {
    let mut secrets: Vec<(String, Vec<u8>)> = vec![
        ("a plaintext".into(), Context::plaintext_canary(seed).into_bytes()),
        ("an alias".into(), Context::alias_canary(seed).into_bytes()),
        ("a name".into(), Context::object_name_canary(seed).into_bytes()),
        ("a secret's value".into(), Context::secret_canary(seed).into_bytes()),
        ("a key's description".into(), Context::name_canary(seed).into_bytes()),
        ("imported material".into(), Learned::canary(seed).into_bytes()),
    ];
    secrets.extend(learned.iter().map(|(name, secret)| ((*name).to_owned(), secret.to_vec())));
    for entry in std::fs::read_dir(dir.join("shares"))?.flatten() {
        let share = std::fs::read_to_string(entry.path())?;
        let (name, secret) = (entry.file_name(), share.trim().as_bytes().get(SHARE_HEAD_LEN..).context("a share")?);
        // Each half: what is left in memory may have been overwritten in part.
        let (first, second) = secret.split_at(secret.len() / 2);
        secrets.push((format!("the first half of {}", name.display()), first.to_vec()));
        secrets.push((format!("the second half of {}", name.display()), second.to_vec()));
    }
    // Every node there was, with those that came later and those that were removed.
    for node in (1..).take_while(|node| dir.join(format!("n{node}")).exists()) {
        secrets.push((format!("the PIN of n{node}"), pin(node).into_bytes()));
    }
    Canaries::new(secrets.iter().map(|(name, secret)| (name.as_str(), secret.as_slice())))
}

/// Searches the metrics of every node that serves.
pub async fn metrics(cluster: &Cluster<'_>, canaries: &Canaries, evidence: &mut Evidence) -> anyhow::Result<()> {
    for node in cluster.members() {
        let told = cluster.metrics(node).await?;
        evidence.scanned_bytes += told.len() as u64;
        evidence.leaks.extend(canaries.find(&told).into_iter().map(|hit| format!("the metrics of n{node}: {hit}")));
    }
    Ok(())
}

/// Seals the cluster and searches the memory of every node; then aborts one, which must leave no core dump.
pub async fn memory(cluster: &Cluster<'_>, canaries: &Canaries, evidence: &mut Evidence) -> anyhow::Result<()> {
    // A node that serves has names and plaintexts in its memory: that the search finds them shows that it finds things.
    let before: Vec<usize> = (cluster.members().into_iter())
        .filter_map(|n| Some(memory::search(cluster.pid(n)?, canaries).ok()?.found.len()))
        .collect();
    evidence.notes.push(format!(
        "while the nodes served, secrets or names were found in so many places of their memory: {before:?}"
    ));
    evidence.not_sealed = cluster.seal().await.context("the seal at the end")?;
    if evidence.not_sealed.is_some() {
        return Ok(());
    }
    for node in cluster.members() {
        let pid = cluster.pid(node).with_context(|| format!("n{node} does not run"))?;
        let end = Instant::now() + SETTLE_TIME_MAX;
        // Until nothing is found: what is there for good is there at the end, too.
        let searched = loop {
            let searched = match memory::search(pid, canaries) {
                // Where there are no namespaces, there may be no right to look, either.
                Err(e) if cluster.net().backend() == Backend::Proxy && is_forbidden(&e) => {
                    evidence.notes.push(format!("the memory of n{node} was not searched: {e:#}"));
                    break None;
                }
                searched => searched?,
            };
            if searched.found.is_empty() || Instant::now() > end {
                break Some(searched);
            }
            sleep(Duration::from_millis(500)).await;
        };
        if let Some(searched) = searched {
            anyhow::ensure!(searched.read > 0, "nothing could be read of the memory of n{node}");
            evidence.scanned_bytes += searched.read;
            evidence
                .leaks
                .extend(searched.found.iter().map(|hit| format!("the memory of n{node} after a seal: {hit}")));
        }
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).context("a node's limits")?;
        if !forbids_core(&limits) {
            evidence.leaks.push(format!("n{node} may leave a core dump: its limit for them is not 0"));
        }
    }
    if let Some(last) = cluster.members().last().copied()
        && cluster.abort(last)?
    {
        evidence.leaks.push(format!("n{last} left a core dump when it was aborted"));
    }
    Ok(())
}

fn is_forbidden(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::PermissionDenied)
}

/// Whether `/proc/PID/limits` allows no core dump, and no raise of that limit.
fn forbids_core(limits: &str) -> bool {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    line.is_some_and(|rest| rest.split_whitespace().take(2).eq(["0", "0"]))
}

/// Reads every node's log and every file of its data folder.
pub fn files(cluster: &Cluster<'_>, canaries: &Canaries, evidence: &mut Evidence) -> anyhow::Result<()> {
    for node in 1..=cluster.made() {
        let folder = cluster.node_dir(node);
        // One that came last may never have been started.
        if !folder.join("log").exists() {
            continue;
        }
        let log = std::fs::read_to_string(folder.join("log")).context("a node's log")?;
        evidence.log_faults.extend(logs::faults(&format!("n{node}"), &log, &cluster.excused(node)));
        scan(&folder.join("log"), canaries, evidence)?;
        scan(&cluster.data_dir(node), canaries, evidence)?;
        // A node's working folder is its own: a core dump would lie there.
        for entry in std::fs::read_dir(&folder)?.flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(twin::FOLDER)) {
                let log = std::fs::read_to_string(entry.path().join("log")).context("a twin's log")?;
                // A twin may stop, and has to.
                let all = 0..log.len() as u64;
                let faults = logs::faults(&format!("a twin of n{node}"), &log, std::slice::from_ref(&all));
                evidence.log_faults.extend(faults);
                scan(&entry.path().join("log"), canaries, evidence)?;
                scan(&entry.path().join("data"), canaries, evidence)?;
            }
            if entry.file_name().to_str().is_some_and(|name| name.starts_with("core")) {
                evidence.leaks.push(format!("a core dump: {}", entry.path().display()));
            }
        }
    }
    Ok(())
}

fn scan(path: &Path, canaries: &Canaries, evidence: &mut Evidence) -> anyhow::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            scan(&entry?.path(), canaries, evidence)?;
        }
        return Ok(());
    }
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    evidence.scanned_bytes += bytes.len() as u64;
    // Journal files end in zeros, which are their room for later.
    let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    evidence.leaks.extend(canaries.find(&bytes[..used]).into_iter().map(|hit| format!("{}: {hit}", path.display())));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_limit_of_zero_that_can_not_be_raised_forbids_a_core_dump() {
        let limits = |soft: &str, hard: &str| {
            format!(
                "Limit                     Soft Limit  Hard Limit  Units\nMax core file size        {soft}  {hard}  bytes\n"
            )
        };
        assert!(forbids_core(&limits("0", "0")));
        assert!(!forbids_core(&limits("0", "unlimited")) && !forbids_core(&limits("unlimited", "unlimited")));
        assert!(!forbids_core(""));
        let own = std::fs::read_to_string("/proc/self/limits").unwrap();
        assert!(own.contains("Max core file size"), "the kernel's words: {own}");
    }
}
