//! Real nodes: `quorate server` processes with tokens, certificates and a ceremony of their own, made by the binary's commands
//! as an operator makes them on separate machines.

pub mod clock;
mod copy;
mod disk;
pub mod excuse;
mod found;
mod gear;
mod impostor;
mod limits;
pub mod memory;
mod metrics;
mod node;
mod operator;
mod replace;
mod status;
pub mod token;
pub mod trace;
pub mod twin;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, bail};
use quorate_client::{Client, ClientConfig, ClientError};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::checker::logs;
use crate::net::Net;
pub use copy::{Copy, Part};
pub use disk::Disk;
pub use found::{module, pin};
pub use gear::{Gear, Profile};
pub use limits::{Limits, Squeezed};
use node::NodeProcess;
pub use operator::Operator;
pub use twin::Twin;

/// Shares of a run's cluster.
pub const SHARES: usize = 5;
/// … and how many of them open it.
pub const THRESHOLD: usize = 3;
/// The longest any step of the set-up may take, on a busy machine.
const STEP_TIME_MAX: Duration = Duration::from_secs(120);
/// A node that is asked to stop is given this time.
const STOP_TIME_MAX: Duration = Duration::from_secs(15);

/// A cluster under attack. Used from one thread, the process's main one: nodes end with the thread that started them.
///
/// A node is known by its number, which is never given twice: who comes later is another node, with another identity.
pub struct Cluster<'n> {
    quorate: PathBuf,
    dir: PathBuf,
    operator: Operator,
    net: &'n dyn Net,
    config: ClientConfig,
    user: ClientConfig,
    gear: Gear,
    /// What stands between nodes and their tokens, if anything does.
    forwarder: Option<PathBuf>,
    excuses: excuse::Excuses,
    /// After the nodes, which must have ended when their groups are removed.
    limits: Option<Limits>,
    /// Highest number given.
    made: Cell<u32>,
    /// Those whose process runs or may run again.
    nodes: RefCell<BTreeMap<u32, Node>>,
    /// Those that are voters, as far as the harness has seen to it.
    members: RefCell<BTreeSet<u32>>,
}

/// Of one node: for who manages keys, and for who uses them, which must not do more.
#[derive(Clone)]
pub struct Clients {
    /// An administrator's.
    pub admin: Client,
    /// An application's.
    pub user: Client,
}

impl Clients {
    /// The same, over connections of their own.
    fn reconnected(&self) -> Result<Self, ClientError> {
        Ok(Self { admin: self.admin.reconnected()?, user: self.user.reconnected()? })
    }
}

struct Node {
    process: NodeProcess,
    /// After the process, which must have ended when the disk is unmounted.
    disk: Option<Rc<Disk>>,
    clock: Option<Rc<clock::Clock>>,
    token: Option<Rc<token::Token>>,
    clients: Clients,
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
        found::authority(quorate, dir).await?;
        let read = |name: &str| std::fs::read(dir.join("pki").join(name)).with_context(|| format!("pki/{name}"));
        let cluster = Self {
            quorate: quorate.to_owned(),
            dir: dir.to_owned(),
            operator: Operator::new(quorate, dir, net),
            net,
            config: ClientConfig::new(vec![], read("ca.pem")?, read("admin.pem")?, read("admin.key")?),
            user: ClientConfig::new(vec![], read("ca.pem")?, read("user.pem")?, read("user.key")?),
            gear,
            forwarder: gear.tokens.then(token::forwarder).transpose()?,
            excuses: excuse::Excuses::default(),
            limits: gear.limits.then(Limits::create).transpose()?,
            made: Cell::new(0),
            nodes: RefCell::default(),
            members: RefCell::new((1..=nodes).collect()),
        };
        futures::future::try_join_all((1..=nodes).map(|_| cluster.make_node())).await?;
        found::found(&cluster).await?;
        Ok(cluster)
    }

    /// A node's token, certificate, configuration and disk, under a new number; it is not started. All but the first will
    /// ask the members of now to let it join.
    ///
    /// # Errors
    /// The step that failed.
    pub async fn make_node(&self) -> anyhow::Result<u32> {
        let node = self.made.get() + 1;
        self.made.set(node);
        let disk = self.gear.disks.then(|| found::disk(&self.dir, node)).transpose()?.map(Rc::new);
        let data = disk.as_ref().map_or(self.node_dir(node), |disk| disk.path().to_owned()).join("data");
        found::node(self, node, &data).await?;
        let folder = self.node_dir(node);
        let client = |config: &ClientConfig| {
            Client::connect(ClientConfig { addrs: vec![self.operator.api(node)], ..config.clone() })
        };
        let (admin, user) = (client(&self.config).await?, client(&self.user).await?);
        let made = Node {
            process: NodeProcess::new(node, &self.dir, self.gear.dev),
            disk,
            clock: self.gear.clock(&folder, node)?.map(Rc::new),
            token: self.gear.token(&folder)?.map(Rc::new),
            clients: Clients { admin, user },
        };
        self.nodes.borrow_mut().insert(node, made);
        Ok(node)
    }

    /// Highest number of a node: with those that were removed.
    pub fn made(&self) -> u32 {
        self.made.get()
    }

    /// The voters.
    pub fn members(&self) -> Vec<u32> {
        self.members.borrow().iter().copied().collect()
    }

    /// Whether a node is one of them.
    pub fn is_member(&self, node: u32) -> bool {
        self.members.borrow().contains(&node)
    }

    /// How many voters there are.
    pub fn size(&self) -> u32 {
        self.members.borrow().len() as u32
    }

    /// A node has become a voter.
    pub fn joined(&self, node: u32) {
        self.members.borrow_mut().insert(node);
    }

    /// A node is a voter no more. Its process runs on.
    pub fn left(&self, node: u32) {
        self.members.borrow_mut().remove(&node);
    }

    /// Ends a node that is no member, for good; its data is kept in its folder.
    ///
    /// # Errors
    /// When it can't be kept.
    pub fn retire(&self, node: u32) -> anyhow::Result<()> {
        let Some(mut gone) = self.nodes.borrow_mut().remove(&node) else { return Ok(()) };
        // It may have been ended by a fault already.
        let _ = gone.process.kill();
        // Its disk is not held any longer: there are not many.
        if let Some(disk) = &gone.disk {
            let copied = found::copy(&disk.path().join("data"), &self.node_dir(node).join("data"));
            // A disk that is being broken need not be readable.
            if !self.excuses.holds(node) {
                copied?;
            }
        }
        Ok(())
    }

    /// The network that joins them.
    pub fn net(&self) -> &dyn Net {
        self.net
    }

    /// The folder of a node.
    pub fn node_dir(&self, node: u32) -> PathBuf {
        self.dir.join(format!("n{node}"))
    }

    /// Clients of one node alone, over connections of their own, which give up at the first failure.
    ///
    /// # Errors
    /// When one can't be made.
    pub fn clients_of(&self, node: u32, deadline: Duration) -> anyhow::Result<Clients> {
        let nodes = self.nodes.borrow();
        let one = nodes.get(&node).with_context(|| format!("there is no n{node}"))?.clients.reconnected()?;
        let brief = |client: Client| client.with_deadline(deadline).impatient();
        Ok(Clients { admin: brief(one.admin), user: brief(one.user) })
    }

    fn client(&self, node: u32) -> Option<Client> {
        self.nodes.borrow().get(&node).map(|n| n.clients.admin.clone())
    }

    /// The folder of a node's data.
    pub fn data_dir(&self, node: u32) -> PathBuf {
        let nodes = self.nodes.borrow();
        let disk = nodes.get(&node).and_then(|n| n.disk.as_ref());
        disk.map_or(self.node_dir(node), |disk| disk.path().to_owned()).join("data")
    }

    /// The disk of a node whose process was killed forgets what was not synced; nothing happens without a disk of its own.
    ///
    /// # Errors
    /// What the system said.
    pub fn forget_unsynced(&self, node: u32) -> anyhow::Result<()> {
        let nodes = self.nodes.borrow();
        let disk = nodes.get(&node).and_then(|n| n.disk.as_ref());
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
        self.process(node, |process| {
            let pid = process.start(command)?;
            self.limits.as_ref().map_or(Ok(()), |limits| limits.hold(node, pid))
        })
    }

    /// The clock of a node, when it is in the harness's hands.
    pub fn clock(&self, node: u32) -> Option<Rc<clock::Clock>> {
        self.nodes.borrow().get(&node)?.clock.clone()
    }

    /// The token of a node, when it is in the harness's hands.
    pub fn token(&self, node: u32) -> Option<Rc<token::Token>> {
        self.nodes.borrow().get(&node)?.token.clone()
    }

    /// The disk of a node, if it has one of its own.
    pub fn disk(&self, node: u32) -> Option<Rc<Disk>> {
        self.nodes.borrow().get(&node)?.disk.clone()
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
        self.process(node, NodeProcess::kill)
    }

    /// SIGSTOP; returns once the kernel shows it stopped.
    ///
    /// # Errors
    /// When it was not running.
    pub fn pause(&self, node: u32) -> anyhow::Result<()> {
        self.process(node, |process| process.pause())
    }

    /// SIGCONT.
    pub fn resume(&self, node: u32) {
        let _ = self.process(node, |process| {
            process.resume();
            Ok(())
        });
    }

    /// Takes almost all the memory from a node that it does not use now.
    ///
    /// # Errors
    /// What the system said, and without [`Gear::limits`].
    pub fn squeeze(&self, node: u32) -> anyhow::Result<Squeezed> {
        let limits = self.limits.as_ref().context("memory can't be limited in this run")?;
        self.process(node, |process| {
            let begun = limits.squeeze(node)?;
            // That it ends is what is to be expected.
            process.may_end(true);
            Ok(begun)
        })
    }

    /// Gives it back; what the kernel says of the time between, and whether it ended the node's process.
    ///
    /// # Errors
    /// What the system said.
    pub fn unsqueeze(&self, node: u32, begun: &Squeezed) -> anyhow::Result<(Squeezed, bool)> {
        let limits = self.limits.as_ref().context("memory can't be limited in this run")?;
        let since = limits.release(node, begun)?;
        let ended = self.process(node, |process| {
            process.may_end(false);
            Ok(since.killed > 0 && process.reap())
        });
        Ok((since, ended.unwrap_or(false)))
    }

    /// How often a node's log has a line with these words.
    pub fn logged(&self, node: u32, words: &str) -> usize {
        self.log_from(node, 0).matches(words).count()
    }

    /// Up to which entry the node has let go of its log, as it says in its own log.
    pub fn compacted(&self, node: u32) -> u64 {
        const WORDS: &str = "compacting the log upto=";
        let log = self.log_from(node, 0);
        let last = log.rsplit_once(WORDS).and_then(|(_, rest)| rest.split_whitespace().next());
        last.and_then(|index| index.parse().ok()).unwrap_or(0)
    }

    /// Asks one node to stop in order (SIGTERM), and ends it when that takes too long.
    pub async fn stop_node(&self, node: u32) {
        let _ = self.process(node, |process| {
            // That it ends is what was asked for.
            process.may_end(true);
            process.terminate();
            Ok(())
        });
        let end = Instant::now() + STOP_TIME_MAX;
        while Instant::now() < end && self.runs(node) {
            sleep(Duration::from_millis(20)).await;
        }
        let _ = self.process(node, |process| {
            let _ = process.kill();
            process.reap();
            process.may_end(false);
            Ok(())
        });
    }

    /// Asks every node to stop in order (SIGTERM), and ends those that take too long.
    pub async fn stop(&self) {
        self.nodes.borrow().values().for_each(|n| n.process.terminate());
        let end = Instant::now() + STOP_TIME_MAX;
        while Instant::now() < end && self.nodes.borrow_mut().values_mut().any(|n| n.process.is_running()) {
            sleep(Duration::from_millis(50)).await;
        }
        for node in self.nodes.borrow_mut().values_mut() {
            let _ = node.process.kill();
        }
    }

    /// Seals every member and waits until all say so; what they say if they do not, though the seal was acknowledged.
    ///
    /// # Errors
    /// What the command said.
    pub async fn seal(&self) -> anyhow::Result<Option<String>> {
        self.operator.run(&self.members(), &["seal", "--cluster"], b"").await?;
        let end = Instant::now() + STEP_TIME_MAX;
        loop {
            let statuses = self.statuses().await;
            if statuses.values().all(|s| s.as_ref().is_some_and(|s| s.state == "sealed")) {
                return Ok(None);
            }
            if Instant::now() > end {
                let states: BTreeMap<_, _> =
                    statuses.iter().map(|(n, s)| (n, s.as_ref().map(|s| s.state.as_str()))).collect();
                return Ok(Some(format!("the cluster was sealed, and its nodes say {states:?}")));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// SIGABRT; whether the kernel wrote a core dump.
    ///
    /// # Errors
    /// When it was not running, or did not end.
    pub fn abort(&self, node: u32) -> anyhow::Result<bool> {
        self.process(node, NodeProcess::abort)
    }

    /// Nodes whose process ended by itself, with the end of their log. One that may stop, and said why, is not among them.
    pub fn died(&self) -> Vec<String> {
        let mut nodes = self.nodes.borrow_mut();
        let ended = nodes.iter_mut().filter_map(|(n, node)| Some((*n, node.process.died()?)));
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

    /// Whether a node's process is there.
    pub fn runs(&self, node: u32) -> bool {
        self.pid(node).is_some()
    }

    /// The id of a node's process, if it is there.
    pub fn pid(&self, node: u32) -> Option<u32> {
        self.nodes.borrow_mut().get_mut(&node)?.process.pid()
    }

    /// Enters shares at a node until it is open. Who finds some entered already goes on with the others.
    ///
    /// # Errors
    /// What the command said.
    pub async fn ceremony(&self, node: u32) -> anyhow::Result<()> {
        let mut said = String::new();
        for number in 1..=SHARES {
            match self.operator.enter(node, &self.operator.share(number)?).await {
                Ok(answer) if answer["unsealed"] == true => return Ok(()),
                Ok(_) => {}
                Err(e) => said = format!("; the last refusal was: {e:#}"),
            }
        }
        bail!("{SHARES} shares were entered at n{node}, and it is not open{said}")
    }

    /// [`Self::ceremony`], given up after a time.
    ///
    /// # Errors
    /// What the command said, or that it took too long.
    pub async fn ceremony_within(&self, node: u32, limit: Duration) -> anyhow::Result<()> {
        tokio::time::timeout(limit, self.ceremony(node)).await.context("the ceremony takes too long")?
    }

    /// For those who type commands and shares beside the harness.
    pub fn operator(&self) -> Operator {
        self.operator.clone()
    }

    /// The token with which a node will ask to join.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn invited(&self, node: u32, token: &str) -> anyhow::Result<()> {
        found::write_private(&self.node_dir(node).join("join-token"), token)
    }

    /// What the node printed of its keys when its request was made; an operator compares it.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn fingerprint(&self, node: u32) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.node_dir(node).join("fingerprint"))?)
    }

    fn process<T>(&self, node: u32, act: impl FnOnce(&mut NodeProcess) -> anyhow::Result<T>) -> anyhow::Result<T> {
        let mut nodes = self.nodes.borrow_mut();
        act(&mut nodes.get_mut(&node).with_context(|| format!("there is no n{node}"))?.process)
    }
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
