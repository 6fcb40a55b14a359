//! What the nodes say of themselves and of each other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::bail;
use quorate_client::v1::{NodeStatus, StatusRequest, StatusResponse};
use tokio::time::{Instant, sleep};

use super::Cluster;
use crate::checker::{digests, times};

impl Cluster<'_> {
    /// What a node says; `None` when it does not answer.
    pub async fn status(&self, node: u32) -> Option<StatusResponse> {
        let client = self.client(node)?.impatient().with_deadline(Duration::from_secs(3));
        client.status(StatusRequest {}).await.ok()
    }

    /// What each member says; `None` for those that do not answer.
    pub async fn statuses(&self) -> BTreeMap<u32, Option<StatusResponse>> {
        let ask = self.members().into_iter().map(|node| async move { (node, self.status(node).await) });
        futures::future::join_all(ask).await.into_iter().collect()
    }

    /// What each member tells of cluster time, and of its state's digest, now.
    pub async fn samples(&self) -> (Vec<times::Sample>, Vec<digests::Sample>) {
        let ask = self.members().into_iter().map(|node| async move {
            let status = self.status(node).await?;
            let real_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64);
            Some((status, real_ms))
        });
        let hex = |hash: &[u8]| hash.iter().map(|b| format!("{b:02x}")).collect();
        let (mut times, mut digests) = (Vec::new(), Vec::new());
        for (s, real_ms) in futures::future::join_all(ask).await.into_iter().flatten() {
            times.push(times::Sample { node: s.answered_by.clone(), real_ms, cluster_ms: s.cluster_time_ms });
            let digest = s.digest.map(|d| (d.index, hex(&d.hash)));
            digests.extend(digest.map(|(index, digest)| digests::Sample { node: s.answered_by, index, digest }));
        }
        (times, digests)
    }

    /// The member that most members call their leader.
    pub async fn leader(&self) -> Option<u32> {
        let statuses = self.statuses().await;
        let mut votes: BTreeMap<u32, u32> = BTreeMap::new();
        for status in statuses.values().flatten() {
            let name = status.nodes.iter().find(|n| n.id == status.leader).map(|n| n.name.as_str());
            if let Some(node) = name.and_then(place_of).filter(|node| statuses.contains_key(node)) {
                *votes.entry(node).or_default() += 1;
            }
        }
        votes.into_iter().max_by_key(|(_, count)| *count).map(|(node, _)| node)
    }

    /// What a node says that it is: `ok`, `sealed`, `damaged` …; `None` if it does not answer.
    pub async fn state(&self, node: u32) -> Option<String> {
        self.status(node).await.map(|s| s.state)
    }

    /// Whether a node answers that it serves.
    pub async fn serves(&self, node: u32) -> bool {
        self.status(node).await.is_some_and(|s| s.state == "ok")
    }

    /// Waits until every member serves, knows the same leader, knows and reaches all members and no others, and has applied
    /// what any had applied.
    ///
    /// # Errors
    /// What is missing, after `patience`.
    pub async fn converge(&self, patience: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + patience;
        let mut goal = 0;
        loop {
            let statuses = self.statuses().await;
            if goal == 0 {
                goal = statuses.values().flatten().map(applied).max().unwrap_or(0);
            }
            let leader = statuses.values().flatten().map(|s| s.leader).find(|leader| *leader != 0);
            let fine = |s: &StatusResponse| {
                let known: BTreeSet<u32> = s.nodes.iter().filter_map(|n| place_of(&n.name)).collect();
                s.state == "ok"
                    && Some(s.leader) == leader
                    && s.nodes.iter().all(|n| n.reachable && !n.sealed && n.voter)
                    && known.iter().eq(statuses.keys())
                    && applied(s) >= goal
            };
            if statuses.values().all(|s| s.as_ref().is_some_and(fine)) {
                return Ok(());
            }
            if Instant::now() > end {
                let said: Vec<String> = statuses.iter().map(|(n, s)| format!("n{n}: {}", told(s.as_ref()))).collect();
                bail!(
                    "the cluster did not come back within {patience:?} (applied {goal} wanted): {}",
                    said.join(" | ")
                );
            }
            sleep(Duration::from_millis(200)).await;
        }
    }
}

/// `n3` → 3.
fn place_of(name: &str) -> Option<u32> {
    name.strip_prefix('n')?.parse().ok()
}

/// How far the node that answered has applied the log.
fn applied(status: &StatusResponse) -> u64 {
    status.nodes.iter().find(|n| n.name == status.answered_by).map_or(0, |n| n.applied_index)
}

fn told(status: Option<&StatusResponse>) -> String {
    let Some(s) = status else { return "no answer".to_owned() };
    let nodes: Vec<String> = s.nodes.iter().map(told_of).collect();
    format!("{} leader {} applied {} sees [{}]", s.state, s.leader, applied(s), nodes.join("; "))
}

fn told_of(n: &NodeStatus) -> String {
    let voter = if n.voter { "" } else { " no voter" };
    let reachable = if n.reachable { "" } else { " unreachable" };
    let sealed = if n.sealed { " sealed" } else { "" };
    format!("{}{voter}{reachable}{sealed} {}", n.name, n.problem)
}
