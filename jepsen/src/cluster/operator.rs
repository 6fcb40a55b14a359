//! `quorate operator …`, as an administrator and as custodians type it.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use tokio::process::Command;

use super::run;
use crate::net::{API_PORT, Net, PLACES_MAX};

/// An operator of one cluster, with every custodian's share.
#[derive(Clone, Debug)]
pub struct Operator {
    quorate: PathBuf,
    dir: PathBuf,
    /// Where each node is reached, by its number.
    reached: Arc<[IpAddr]>,
}

impl Operator {
    /// Of a cluster in the folder `dir`.
    pub(super) fn new(quorate: &Path, dir: &Path, net: &dyn Net) -> Self {
        let reached = (0..=PLACES_MAX).map(|node| net.reached(node)).collect();
        Self { quorate: quorate.to_owned(), dir: dir.to_owned(), reached }
    }

    /// Where a node's API is.
    pub(super) fn api(&self, node: u32) -> String {
        SocketAddr::new(self.reached[node as usize], API_PORT).to_string()
    }

    /// A command at these nodes; its answer is JSON.
    ///
    /// # Errors
    /// What the command said.
    pub async fn run(&self, at: &[u32], args: &[&str], stdin: &[u8]) -> anyhow::Result<serde_json::Value> {
        let addresses: Vec<String> = at.iter().map(|node| self.api(*node)).collect();
        let mut command = Command::new(&self.quorate);
        command.arg("operator").args(args).args(["--output", "json"]);
        command.env("QUORATE_ADDR", addresses.join(",")).env("XDG_STATE_HOME", self.dir.join("state"));
        for (name, file) in
            [("QUORATE_CACERT", "ca.pem"), ("QUORATE_CLIENT_CERT", "admin.pem"), ("QUORATE_CLIENT_KEY", "admin.key")]
        {
            command.env(name, self.dir.join("pki").join(file));
        }
        let said = run(command, stdin).await?;
        serde_json::from_slice(&said).with_context(|| format!("operator {args:?} answered no JSON"))
    }

    /// Enters a share at one node.
    ///
    /// # Errors
    /// What the command said.
    pub async fn enter(&self, node: u32, share: &str) -> anyhow::Result<serde_json::Value> {
        // Nodes lag here by design: how far one is says nothing about whether it is the same cluster.
        self.run(&[node], &["unseal", "--older"], share.as_bytes()).await
    }

    /// A custodian's share, as it was handed out.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn share(&self, number: usize) -> anyhow::Result<String> {
        let path = self.dir.join(format!("shares/share-{number}.txt"));
        std::fs::read_to_string(&path).with_context(|| path.display().to_string())
    }
}
