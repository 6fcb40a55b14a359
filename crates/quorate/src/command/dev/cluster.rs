//! A development cluster while it runs: its processes and a client of each node.

use std::time::Duration;

use quorate_client::v1::StatusResponse;
use quorate_client::{Client, ClientConfig};
use quorate_crypto::Share;
use tokio::time::Instant;

use super::layout::{ClusterFile, Layout};
use super::process::{LogFormat, NodeProcess};
use crate::command::failure::{CommandResult, Doing, Failure};
use crate::command::operator::{Asked, Public, ask_all, enter, node_at};
use crate::command::{advice, files};

/// Between two looks at the nodes.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest time for any step; on an idle machine all steps together take seconds.
const STEP_TIME_MAX: Duration = Duration::from_secs(90);

/// What runs.
pub struct Cluster {
    /// The folder.
    pub layout: Layout,
    /// What is in it.
    pub file: ClusterFile,
    /// Processes, in the order of `file.nodes`; fewer while a new cluster grows.
    pub processes: Vec<NodeProcess>,
    /// A client of all nodes, as administrator.
    pub client: Client,
    log_format: LogFormat,
}

impl Cluster {
    /// No process yet; the authority and the administrator's certificate are there.
    pub async fn new(layout: Layout, file: ClusterFile, log_format: LogFormat) -> CommandResult<Self> {
        let config = ClientConfig::new(
            file.nodes.iter().map(|n| n.api.clone()).collect(),
            files::read(&layout.ca(), "the root certificate")?,
            files::read(&layout.admin_cert(), "the administrator's certificate")?,
            files::read(&layout.admin_key(), "the administrator's key")?,
        );
        let client = Client::connect(config).await.doing("connect to the nodes")?.with_deadline(STEP_TIME_MAX);
        Ok(Self { layout, file, processes: Vec::new(), client, log_format })
    }

    /// Starts the next node.
    pub fn start_next(&mut self) -> CommandResult {
        let name = &self.file.nodes[self.processes.len()].name;
        self.processes.push(NodeProcess::start(name, &self.layout.node(name), self.log_format)?);
        Ok(())
    }

    /// Kills one node (SIGKILL) and waits for its end.
    pub async fn kill(&mut self, place: usize) {
        self.processes[place].kill().await;
    }

    /// Starts a node again that has ended. It comes up sealed.
    pub fn restart(&mut self, place: usize) -> CommandResult {
        let name = &self.file.nodes[place].name;
        self.processes[place] = NodeProcess::start(name, &self.layout.node(name), self.log_format)?;
        Ok(())
    }

    /// Stops every node in order.
    pub async fn stop(&mut self) {
        self.processes.iter().for_each(|p| p.terminate());
        for process in &mut self.processes {
            process.stopped().await;
        }
        self.processes.clear();
    }

    /// Starts every node, after [`Self::stop`]; they come up sealed.
    pub fn start_all(&mut self) -> CommandResult {
        while self.processes.len() < self.file.nodes.len() {
            self.start_next()?;
        }
        Ok(())
    }

    /// The client of one node, by its place from 0.
    pub fn node(&self, place: u16) -> CommandResult<Client> {
        node_at(&self.client, place + 1)
    }

    /// Asks every node that was started until all their answers are as wanted; returns them. Fails when one ends.
    pub async fn wait(
        &mut self,
        what: &str,
        wanted: impl Fn(&StatusResponse) -> bool,
    ) -> CommandResult<Vec<StatusResponse>> {
        let end = Instant::now() + STEP_TIME_MAX;
        loop {
            self.processes.iter_mut().try_for_each(NodeProcess::check)?;
            let asked: Vec<Asked> = ask_all(&self.client).await.into_iter().take(self.processes.len()).collect();
            let good = asked.iter().filter(|a| a.status.as_ref().is_ok_and(&wanted)).count();
            if good == self.processes.len() {
                return Ok(asked.into_iter().filter_map(|a| a.status.ok()).collect());
            }
            if Instant::now() > end {
                let say = |a: &Asked| match &a.status {
                    Ok(s) => {
                        let own = s.nodes.iter().find(|n| n.name == s.answered_by).map(|n| n.problem.as_str());
                        let hint = s.verdicts.first().map(|verdict| advice::of(verdict, &s.answered_by).hint());
                        format!(
                            "{} at {} is {} ({} {})",
                            s.answered_by,
                            a.address,
                            s.state,
                            own.unwrap_or_default(),
                            hint.unwrap_or_default()
                        )
                    }
                    Err(e) => format!("{}: {}", a.address, e.message),
                };
                let late: Vec<String> =
                    asked.iter().filter(|a| !a.status.as_ref().is_ok_and(&wanted)).map(say).collect();
                let todo = format!("look into the nodes' logs: {}/*/node.log", self.layout.root().display());
                return Err(Failure::failed(format!("waited in vain for {what}"), late.join("; "), todo));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Enters as many of the shares in D as open the cluster, at the first node.
    pub async fn ceremony(&self) -> CommandResult {
        self.ceremony_at(0).await
    }

    /// The same at any node.
    pub async fn ceremony_at(&self, place: u16) -> CommandResult {
        let node = self.node(place)?;
        let public = Public::of(&node).await?;
        for number in 1..=self.file.threshold {
            let share = self.share(number)?;
            public.check(&share).map_err(|e| Failure::failed(format!("can't enter share {number}"), e, ""))?;
            if enter(&node, &public, share).await?.ceremony.is_none() {
                break;
            }
        }
        Ok(())
    }

    /// One custodian's share, from 1.
    fn share(&self, number: usize) -> CommandResult<Share> {
        let path = self.layout.share(number);
        let text = zeroize::Zeroizing::new(files::read(&path, "a share")?);
        let text = std::str::from_utf8(&text).unwrap_or_default();
        Share::parse(text.trim())
            .map_err(|e| Failure::failed("can't use a share", format!("{}: {e}", path.display()), ""))
    }
}
