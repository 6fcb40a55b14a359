//! A member that lost what it had acknowledged is replaced, as the manual says (`replace`).

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{Cluster, STEP_TIME_MAX};
use crate::net::PEER_PORT;

/// Between two tries of a step that other faults may hold up.
const PAUSE: Duration = Duration::from_millis(500);

impl Cluster<'_> {
    /// Stops a node, removes it from the cluster, puts its data aside and takes it in again under its name.
    ///
    /// # Errors
    /// The step that did not succeed in time.
    pub async fn replace(&self, node: u32) -> anyhow::Result<()> {
        let _ = self.kill(node);
        self.remove(node, STEP_TIME_MAX).await?;
        self.readmit(node).await
    }

    /// Removes a node from the cluster, within a time.
    ///
    /// # Errors
    /// What the last refusal said; it may be removed all the same, or later.
    pub async fn remove(&self, node: u32, limit: Duration) -> anyhow::Result<()> {
        self.insist_within(&["members", "remove", &format!("n{node}")], limit).await.map(drop)
    }

    /// Puts the data of a removed node aside, and takes the node in again under its name.
    async fn readmit(&self, node: u32) -> anyhow::Result<()> {
        let data = self.data_dir(node);
        let aside = (1..).map(|n| data.with_file_name(format!("data.damaged-{n}"))).find(|p| !p.exists());
        std::fs::rename(&data, aside.context("no name is free")?).context("can't put the data aside")?;
        let name = format!("n{node}");
        let invited = self.insist(&["members", "invite", "--name", &name]).await?;
        let token = invited["token"].as_str().context("no token")?;
        self.invited(node, token)?;
        self.join_by_any(node)?;
        self.start_node(node)?;
        let fingerprint = self.fingerprint(node)?;
        let end = Instant::now() + STEP_TIME_MAX;
        loop {
            let listed = self.insist(&["members", "list"]).await?;
            let pending = listed["pending"].as_array().cloned().unwrap_or_default();
            if pending.iter().any(|p| p["name"] == name && p["fingerprint"] == fingerprint) {
                break;
            }
            if Instant::now() > end {
                bail!("{name} did not ask to join again: {listed}");
            }
            sleep(PAUSE).await;
        }
        self.insist(&["members", "approve", &name, "--fingerprint", &fingerprint]).await?;
        let mut promote = vec!["members", "promote", &name];
        if self.size().is_multiple_of(2) {
            promote.push("--force");
        }
        self.insist(&promote).await?;
        Ok(())
    }

    /// An operator's step, until it succeeds: other nodes may be down for a while. What was done by a try whose answer was
    /// lost counts.
    async fn insist(&self, args: &[&str]) -> anyhow::Result<Value> {
        self.insist_within(args, STEP_TIME_MAX).await
    }

    async fn insist_within(&self, args: &[&str], limit: Duration) -> anyhow::Result<Value> {
        let end = Instant::now() + limit;
        loop {
            match self.operator.run(&self.members(), args, b"").await {
                Ok(said) => return Ok(said),
                Err(e) if Instant::now() > end => return Err(e),
                Err(e) if done_already(args, &format!("{e:#}")) => return Ok(Value::Null),
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// A node that joins may ask any other member.
    fn join_by_any(&self, node: u32) -> anyhow::Result<()> {
        let dir = self.node_dir(node);
        let path = dir.join("node.toml");
        let mut config: toml::Table = toml::from_str(&std::fs::read_to_string(&path)?)?;
        let others = self
            .members()
            .into_iter()
            .filter(|n| *n != node)
            .map(|n| SocketAddr::new(self.net.reached(n), PEER_PORT).to_string().into());
        let others = others.collect();
        let token_file = dir.join("join-token").to_str().context("the folder's name is not UTF-8")?.to_owned();
        let join = [("addresses".to_owned(), toml::Value::Array(others)), ("token_file".to_owned(), token_file.into())];
        config.insert("join".into(), toml::Value::Table(join.into_iter().collect()));
        Ok(std::fs::write(&path, toml::to_string(&config)?)?)
    }
}

/// Whether a refusal says that the step was done by an earlier try.
fn done_already(args: &[&str], refusal: &str) -> bool {
    let says = |word| refusal.contains(word);
    match args {
        [_, "remove", ..] => says("nobody called") && says("is a member"),
        [_, "approve", ..] => says("nobody called") && says("is invited"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_try_did_is_done() {
        let refusal = "error: can't remove the member (NOT_FOUND)\n  why: nobody called n3 is a member";
        assert!(done_already(&["members", "remove", "n3"], refusal));
        assert!(!done_already(&["members", "promote", "n3"], refusal));
        assert!(!done_already(&["members", "remove", "n3"], "error: the rest would have no majority"));
    }
}
