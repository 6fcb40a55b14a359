//! After a run: what the nodes wrote.

use std::path::Path;

use anyhow::Context as _;

use crate::checker::secrets::Canaries;
use crate::checker::{Evidence, logs};
use crate::cluster::{Cluster, pin};
use crate::workload::Context;

/// Reads every node's log and every file of its data folder.
pub fn collect(cluster: &Cluster<'_>, seed: u64, dir: &Path, evidence: &mut Evidence) -> anyhow::Result<()> {
    let mut secrets: Vec<(String, Vec<u8>)> = vec![
        ("a plaintext".into(), Context::plaintext_canary(seed).into_bytes()),
        ("an alias".into(), Context::alias_canary(seed).into_bytes()),
        ("a key's description".into(), Context::name_canary(seed).into_bytes()),
    ];
    for entry in std::fs::read_dir(dir.join("shares"))?.flatten() {
        let share = std::fs::read_to_string(entry.path())?;
        secrets.push((format!("{}", entry.file_name().display()), share.trim().as_bytes().to_vec()));
    }
    for node in 1..=cluster.made() {
        secrets.push((format!("the PIN of n{node}"), pin(node).into_bytes()));
    }
    let canaries = Canaries::new(secrets.iter().map(|(name, secret)| (name.as_str(), secret.as_slice())))?;
    for node in 1..=cluster.made() {
        let folder = cluster.node_dir(node);
        let log = std::fs::read_to_string(folder.join("log")).context("a node's log")?;
        evidence.log_faults.extend(logs::faults(&format!("n{node}"), &log));
        scan(&folder.join("log"), &canaries, evidence)?;
        scan(&cluster.data_dir(node), &canaries, evidence)?;
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
