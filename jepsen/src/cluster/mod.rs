//! Real nodes: `quorate server` processes with tokens, certificates and a ceremony of their own, made by the binary's commands
//! as an operator makes them on separate machines.

pub mod clock;
mod disk;
pub mod excuse;
mod found;
mod gear;
pub mod memory;
mod node;
mod replace;
pub mod token;
pub mod trace;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, bail};
use quorate_client::v1::{StatusRequest, StatusResponse};
use quorate_client::{Client, ClientConfig};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::checker::digests::Sample;
use crate::checker::logs;
use crate::net::{API_PORT, Net};
pub use disk::Disk;
pub use found::{module, pin};
pub use gear::{Gear, Profile};
use node::NodeProcess;

/// Shares of a run's cluster, and how many open it.
const SHARES: usize = 5;
const THRESHOLD: usize = 3;
/// The longest any step of the set-up may take, on a busy machine.
const STEP_TIME_MAX: Duration = Duration::from_secs(120);

/// A cluster under attack. Used from one thread, the process's main one: nodes end with the thread that started them.
pub struct Cluster<'n> {
    quorate: PathBuf,
    dir: PathBuf,
    net: &'n dyn Net,
    nodes: Vec<RefCell<NodeProcess>>,
    /// By node, when they are to lose power; after the processes, which must have ended when disks are unmounted.
    disks: Vec<Disk>,
    /// By node, when time is in the harness's hands.
    clocks: Vec<clock::Clock>,
    /// By node, when their tokens are.
    tokens: Vec<token::Token>,
    client: Client,
    excuses: excuse::Excuses,
}

impl<'n> Cluster<'n> {
    /// Makes a cluster of `nodes` voters, all serving, in the new folder `dir`; with what its faults need.
    ///
    /// # Errors
    /// The step that failed, and what the command said.
    pub async fn start(quorate: &Path, dir: &Path, net: &'n dyn Net, nodes: u32, gear: Gear) -> anyhow::Result<Self> {
        disk::sweep();
        // What the nodes inherit allows core dumps: that there are none is then their own doing.
        let most = getrlimit(Resource::Core).maximum;
        setrlimit(Resource::Core, Rlimit { current: most, maximum: most }).context("the limit of core dumps")?;
        let disks = match gear.disks {
            true => (1..=nodes).map(|n| found::disk(dir, n)).collect::<Result<_, _>>()?,
            false => vec![],
        };
        let forwarder = gear.tokens.then(token::forwarder).transpose()?;
        found::prepare(quorate, dir, net, nodes, &disks, gear.profile, forwarder.as_deref()).await?;
        let read = |name: &str| std::fs::read(dir.join("pki").join(name)).with_context(|| format!("pki/{name}"));
        let addresses = (1..=nodes).map(|n| SocketAddr::new(net.reached(n), API_PORT).to_string()).collect();
        let config = ClientConfig::new(addresses, read("ca.pem")?, read("admin.pem")?, read("admin.key")?);
        let cluster = Self {
            quorate: quorate.to_owned(),
            dir: dir.to_owned(),
            net,
            nodes: (1..=nodes).map(|n| RefCell::new(NodeProcess::new(n, dir))).collect(),
            disks,
            clocks: gear.clocks(dir, nodes)?,
            tokens: gear.tokens(dir, nodes)?,
            client: Client::connect(config).await?,
            excuses: excuse::Excuses::default(),
        };
        found::found(&cluster).await?;
        Ok(cluster)
    }

    /// How many nodes there are.
    pub fn size(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// The network that joins them.
    pub fn net(&self) -> &dyn Net {
        self.net
    }

    /// The folder of a node.
    pub fn node_dir(&self, node: u32) -> PathBuf {
        self.dir.join(format!("n{node}"))
    }

    /// A client of one node alone, over connections of its own, which gives up at the first failure.
    ///
    /// # Errors
    /// When the client can't be made.
    pub fn client_of(&self, node: u32, deadline: Duration) -> anyhow::Result<Client> {
        let one = self.client.node(node as usize - 1).context("no such node")?;
        Ok(one.reconnected()?.with_deadline(deadline).impatient())
    }

    /// The folder of a node's data.
    pub fn data_dir(&self, node: u32) -> PathBuf {
        found::data_dir(&self.dir, node, &self.disks)
    }

    /// The disk of a node whose process was killed forgets what was not synced; nothing happens without a disk of its own.
    ///
    /// # Errors
    /// What the system said.
    pub fn forget_unsynced(&self, node: u32) -> anyhow::Result<()> {
        let disk = self.disks.get(node as usize - 1);
        disk.map_or(Ok(()), |disk| disk.lose_power().with_context(|| format!("the disk of n{node}")))
    }

    /// Starts a node's process.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start_node(&self, node: u32) -> anyhow::Result<()> {
        self.net.own(node, &self.node_dir(node))?;
        let mut command = self.net.command(node, &self.quorate);
        if let Some(clock) = self.clock(node) {
            clock.starts()?;
            command.envs(clock.environment());
        }
        self.process(node).borrow_mut().start(command)
    }

    /// The clock of a node, when it is in the harness's hands.
    pub fn clock(&self, node: u32) -> Option<&clock::Clock> {
        self.clocks.get(node as usize - 1)
    }

    /// The token of a node, when it is in the harness's hands.
    pub fn token(&self, node: u32) -> Option<&token::Token> {
        self.tokens.get(node as usize - 1)
    }

    /// How long a node's log is, bytes.
    pub fn log_len(&self, node: u32) -> u64 {
        std::fs::metadata(self.node_dir(node).join("log")).map_or(0, |m| m.len())
    }

    /// A node's log from a byte on, up to the last whole line.
    pub fn log_from(&self, node: u32, from: u64) -> String {
        let log = std::fs::read(self.node_dir(node).join("log")).unwrap_or_default();
        let rest = log.get(from as usize..).unwrap_or_default();
        let whole = rest.iter().rposition(|b| *b == b'\n').map_or(0, |last| last + 1);
        String::from_utf8_lossy(&rest[..whole]).into_owned()
    }

    /// SIGKILL; returns once the process is gone.
    ///
    /// # Errors
    /// When it was not running: the fault did not happen.
    pub fn kill(&self, node: u32) -> anyhow::Result<()> {
        self.process(node).borrow_mut().kill()
    }

    /// SIGSTOP; returns once the kernel shows it stopped.
    ///
    /// # Errors
    /// When it was not running.
    pub fn pause(&self, node: u32) -> anyhow::Result<()> {
        self.process(node).borrow().pause()
    }

    /// SIGCONT.
    pub fn resume(&self, node: u32) {
        self.process(node).borrow().resume();
    }

    /// Asks every node to stop in order (SIGTERM), and ends those that take too long.
    pub async fn stop(&self) {
        for node in &self.nodes {
            node.borrow().terminate();
        }
        let end = Instant::now() + Duration::from_secs(15);
        while Instant::now() < end && self.nodes.iter().any(|n| n.borrow_mut().is_running()) {
            sleep(Duration::from_millis(50)).await;
        }
        for node in 1..=self.size() {
            let _ = self.kill(node);
        }
    }

    /// Seals every node and waits until all say so.
    ///
    /// # Errors
    /// What the command said, or which node is not sealed.
    pub async fn seal(&self) -> anyhow::Result<()> {
        self.operator(&["seal", "--cluster"], b"").await?;
        let end = Instant::now() + STEP_TIME_MAX;
        loop {
            let statuses = self.statuses().await;
            if statuses.iter().all(|s| s.as_ref().is_some_and(|s| s.state == "sealed")) {
                return Ok(());
            }
            if Instant::now() > end {
                let states: Vec<_> = statuses.iter().map(|s| s.as_ref().map(|s| s.state.as_str())).collect();
                bail!("the cluster was sealed, and its nodes say {states:?}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// SIGABRT; whether the kernel wrote a core dump.
    ///
    /// # Errors
    /// When it was not running, or did not end.
    pub fn abort(&self, node: u32) -> anyhow::Result<bool> {
        self.process(node).borrow_mut().abort()
    }

    /// Nodes whose process ended by itself, with the end of their log. One that may stop, and said why, is not among them.
    pub fn died(&self) -> Vec<String> {
        let ended = (1..=self.size()).filter_map(|n| Some((n, self.process(n).borrow_mut().died()?)));
        ended.filter(|(n, words)| !(self.excuses.holds(*n) && logs::names_its_end(words))).map(|(_, w)| w).collect()
    }

    /// From now on a node may stop, if it says why: its disk or its token is being broken.
    pub fn excuse(&self, node: u32) {
        self.excuses.begin(node, self.log_len(node));
    }

    /// The node is whole again, and may stop no more.
    pub fn excuse_ends(&self, node: u32) {
        self.excuses.end(node, self.log_len(node));
    }

    /// The parts of a node's log in which it may stop.
    pub fn excused(&self, node: u32) -> excuse::Windows {
        self.excuses.windows(node, self.log_len(node))
    }

    /// The disk of a node, if it has one of its own.
    pub fn disk(&self, node: u32) -> Option<&Disk> {
        self.disks.get(node as usize - 1)
    }

    /// Whether a node's process is there.
    pub fn runs(&self, node: u32) -> bool {
        self.pid(node).is_some()
    }

    /// The id of a node's process, if it is there.
    pub fn pid(&self, node: u32) -> Option<u32> {
        self.process(node).borrow_mut().pid()
    }

    /// What each node says, in order; `None` for those that do not answer.
    pub async fn statuses(&self) -> Vec<Option<StatusResponse>> {
        let ask = (0..self.nodes.len()).map(|place| async move {
            let node = self.client.node(place)?.impatient().with_deadline(Duration::from_secs(3));
            node.status(StatusRequest {}).await.ok()
        });
        futures::future::join_all(ask).await
    }

    /// What each node tells of its state's digest now.
    pub async fn digests(&self) -> Vec<Sample> {
        let told = self.statuses().await.into_iter().flatten();
        let hex = |hash: &[u8]| hash.iter().map(|b| format!("{b:02x}")).collect();
        told.filter_map(|s| {
            let digest = s.digest?;
            Some(Sample { node: s.answered_by, index: digest.index, digest: hex(&digest.hash) })
        })
        .collect()
    }

    /// The node that most nodes call their leader.
    pub async fn leader(&self) -> Option<u32> {
        let statuses = self.statuses().await;
        let mut votes = vec![0; self.nodes.len() + 1];
        for status in statuses.iter().flatten() {
            let name = status.nodes.iter().find(|n| n.id == status.leader).map(|n| n.name.as_str());
            if let Some(place) = name.and_then(place_of).filter(|p| *p <= self.size()) {
                votes[place as usize] += 1;
            }
        }
        (1..=self.size()).filter(|n| votes[*n as usize] > 0).max_by_key(|n| votes[*n as usize])
    }

    /// What a node says that it is: `ok`, `sealed`, `damaged` …; `None` if it does not answer.
    pub async fn state(&self, node: u32) -> Option<String> {
        self.statuses().await[node as usize - 1].as_ref().map(|s| s.state.clone())
    }

    /// Whether a node answers that it serves.
    pub async fn serves(&self, node: u32) -> bool {
        self.statuses().await[node as usize - 1].as_ref().is_some_and(|s| s.state == "ok")
    }

    /// Enters shares at a node until it is open.
    ///
    /// # Errors
    /// What the command said.
    pub async fn ceremony(&self, node: u32) -> anyhow::Result<()> {
        for number in 1..=THRESHOLD {
            let share = std::fs::read(self.dir.join(format!("shares/share-{number}.txt")))?;
            let said = self.operator(&["unseal", "--node", &node.to_string()], &share).await?;
            if said["unsealed"] == true {
                return Ok(());
            }
        }
        bail!("{THRESHOLD} shares were entered at n{node}, and it is not open")
    }

    /// [`Self::ceremony`], given up after a time.
    ///
    /// # Errors
    /// What the command said, or that it took too long.
    pub async fn ceremony_within(&self, node: u32, limit: Duration) -> anyhow::Result<()> {
        tokio::time::timeout(limit, self.ceremony(node)).await.context("the ceremony takes too long")?
    }

    /// Waits until every node serves, knows the same leader, reaches all others, and has applied what any had applied.
    ///
    /// # Errors
    /// What is missing, after `patience`.
    pub async fn converge(&self, patience: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + patience;
        let mut goal = 0;
        loop {
            let statuses = self.statuses().await;
            let own =
                |s: &StatusResponse| s.nodes.iter().find(|n| n.name == s.answered_by).map_or(0, |n| n.applied_index);
            if goal == 0 {
                goal = statuses.iter().flatten().map(own).max().unwrap_or(0);
            }
            let fine = |s: &StatusResponse| {
                s.state == "ok"
                    && s.leader != 0
                    && Some(s.leader) == statuses[0].as_ref().map(|s| s.leader)
                    && s.nodes.iter().all(|n| n.reachable && !n.sealed)
                    && own(s) >= goal
            };
            if statuses.iter().all(|s| s.as_ref().is_some_and(fine)) {
                return Ok(());
            }
            if Instant::now() > end {
                let tell = |s: &Option<StatusResponse>| match s {
                    None => "no answer".to_owned(),
                    Some(s) => {
                        let nodes: Vec<_> = s
                            .nodes
                            .iter()
                            .map(|n| {
                                format!(
                                    "{}{}{} {}",
                                    n.name,
                                    if n.reachable { "" } else { " unreachable" },
                                    if n.sealed { " sealed" } else { "" },
                                    n.problem
                                )
                            })
                            .collect();
                        format!("{} leader {} applied {} sees [{}]", s.state, s.leader, own(s), nodes.join("; "))
                    }
                };
                let said: Vec<String> = statuses.iter().zip(1..).map(|(s, n)| format!("n{n}: {}", tell(s))).collect();
                bail!(
                    "the cluster did not come back within {patience:?} (applied {goal} wanted): {}",
                    said.join(" | ")
                );
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// `quorate operator …` as administrator, in JSON.
    async fn operator(&self, args: &[&str], stdin: &[u8]) -> anyhow::Result<serde_json::Value> {
        let addresses: Vec<&str> = self.client.addresses().collect();
        let mut command = Command::new(&self.quorate);
        command.arg("operator").args(args).args(["--output", "json"]);
        command.env("QUORATE_ADDR", addresses.join(","));
        for (name, file) in
            [("QUORATE_CACERT", "ca.pem"), ("QUORATE_CLIENT_CERT", "admin.pem"), ("QUORATE_CLIENT_KEY", "admin.key")]
        {
            command.env(name, self.dir.join("pki").join(file));
        }
        let said = run(command, stdin).await?;
        serde_json::from_slice(&said).with_context(|| format!("operator {args:?} answered no JSON"))
    }

    fn process(&self, node: u32) -> &RefCell<NodeProcess> {
        &self.nodes[node as usize - 1]
    }
}

/// `n3` → 3.
fn place_of(name: &str) -> Option<u32> {
    name.strip_prefix('n')?.parse().ok()
}

/// Runs a command to its end; returns what it printed.
async fn run(mut command: Command, stdin: &[u8]) -> anyhow::Result<Vec<u8>> {
    // Without its environment, which says nothing new.
    let words = std::iter::once(command.as_std().get_program()).chain(command.as_std().get_args());
    let said = words.map(|w| w.display().to_string()).collect::<Vec<_>>().join(" ");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let done = async {
        let mut child = command.spawn()?;
        if let Some(mut pipe) = child.stdin.take() {
            // A command that asks for nothing may have ended.
            let _ = pipe.write_all(stdin).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(STEP_TIME_MAX, done).await.with_context(|| format!("{said} hangs"))??;
    if !output.status.success() {
        bail!("{said}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(output.stdout)
}
