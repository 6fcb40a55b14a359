//! Nodes on loopback, joined by a TCP proxy: for machines that allow no namespaces. Each node listens on an address of its
//! own, and all others reach it at another one, where the proxy listens. Connections are held, not frames: what is lost,
//! doubled or overtaken below TCP can't be had here.
//!
//! A connection's source is told by the user it belongs to: each node runs under one of its own.

mod pump;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::{chown, lchown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, anyhow, bail, ensure};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::stream::Flow;
use super::{API_PORT, Backend, CLIENTS, Counts, Net, PEER_PORT, Policy, Recorded};
use crate::seed::stream;

/// Nodes run under this user id and those that follow: ids that Debian gives to nobody.
const USER: u32 = 64_100;

/// The network; taken down when dropped.
pub struct Proxy {
    seed: u64,
    shared: Arc<Shared>,
    runtime: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread of the proxy and the harness share.
struct Shared {
    flows: Mutex<BTreeMap<(u32, u32), Flow>>,
    /// Changes whenever a link does.
    changes: watch::Sender<u64>,
    /// Times of pieces count from here.
    begun: Instant,
    /// The run's own part of 127.0.0.0/8.
    net: [u8; 2],
}

impl Shared {
    fn flows(&self) -> MutexGuard<'_, BTreeMap<(u32, u32), Flow>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl Fn(&(u32, u32), &mut Flow)) {
        self.flows().iter_mut().for_each(|(pair, flow)| change(pair, flow));
        self.changes.send_modify(|n| *n += 1);
    }

    /// Where a node listens.
    fn inside(&self, node: u32) -> Ipv4Addr {
        Ipv4Addr::new(127, self.net[0], self.net[1], node as u8)
    }

    /// Where the proxy listens for it.
    fn outside(&self, node: u32) -> Ipv4Addr {
        Ipv4Addr::new(127, self.net[0], self.net[1], 100 + node as u8)
    }
}

impl Proxy {
    /// Builds it.
    ///
    /// # Errors
    /// What the system refused: it takes the right to run processes under other users (root, also in a container).
    pub fn build(nodes: u32, seed: u64) -> anyhow::Result<Self> {
        ensure!((1..100).contains(&nodes), "1 to 99 nodes");
        let [.., high, low] = std::process::id().to_be_bytes();
        // Neither the usual 127.0.0.1 nor its neighbours.
        let shared = Arc::new(Shared {
            flows: Mutex::new(flows(nodes, seed)),
            changes: watch::Sender::new(0),
            begun: Instant::now(),
            net: [high | 0x80, low],
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let mut proxy = Self { seed, shared: shared.clone(), runtime: handle, stop: None, thread: None };
        let mut probe = proxy.command(1, Path::new("true"));
        let ran = probe.stdin(Stdio::null()).status();
        ran.context("can't run a process under another user, by which nodes' connections are told apart")?;
        (1..=nodes).try_for_each(|node| proxy.listen(node))?;
        let (stop, stops) = oneshot::channel();
        let serve = move || {
            let _ = runtime.block_on(stops);
        };
        proxy.stop = Some(stop);
        proxy.thread = Some(thread::Builder::new().name("proxy".into()).spawn(serve)?);
        Ok(proxy)
    }

    /// Takes connections for a node.
    fn listen(&self, node: u32) -> anyhow::Result<()> {
        for port in [API_PORT, PEER_PORT] {
            let at = SocketAddr::from((self.shared.outside(node), port));
            let listener = std::net::TcpListener::bind(at).with_context(|| format!("can't listen on {at}"))?;
            listener.set_nonblocking(true)?;
            let _entered = self.runtime.enter();
            let listener = TcpListener::from_std(listener)?;
            self.runtime.spawn(pump::accept(self.shared.clone(), node, port, listener));
        }
        Ok(())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        drop(self.stop.take());
        self.thread.take().map_or(Ok(()), |thread| thread.join().map_err(|_| anyhow!("the proxy broke")))
    }
}

fn flows(nodes: u32, seed: u64) -> BTreeMap<(u32, u32), Flow> {
    let places = || (1..=nodes).chain([CLIENTS]);
    let pairs = places().flat_map(|a| places().map(move |b| (a, b))).filter(|(a, b)| a != b);
    pairs.map(|pair| (pair, flow(seed, pair))).collect()
}

fn flow(seed: u64, (a, b): (u32, u32)) -> Flow {
    Flow::new(stream(seed, "flow", u64::from(a << 16 | b)))
}

impl Net for Proxy {
    fn backend(&self) -> Backend {
        Backend::Proxy
    }

    fn attach(&self, node: u32) -> anyhow::Result<()> {
        let mut flows = self.shared.flows();
        let others: BTreeSet<u32> = flows.keys().map(|(a, _)| *a).collect();
        let pairs = others.into_iter().flat_map(|other| [(other, node), (node, other)]);
        flows.extend(pairs.map(|pair| (pair, flow(self.seed, pair))));
        drop(flows);
        self.listen(node)
    }

    fn listens(&self, node: u32) -> IpAddr {
        self.shared.inside(node).into()
    }

    fn reached(&self, node: u32) -> IpAddr {
        self.shared.outside(node).into()
    }

    fn enter(&self) -> anyhow::Result<()> {
        Ok(())
    }

    fn visit(&self, _: u32) -> anyhow::Result<()> {
        Ok(())
    }

    fn command(&self, node: u32, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.uid(USER + node).gid(USER + node);
        command
    }

    fn own(&self, node: u32, folder: &Path) -> anyhow::Result<()> {
        let id = Some(USER + node);
        give(folder, id).with_context(|| format!("can't give {} to user {}", folder.display(), USER + node))?;
        // Every folder above must let that user through.
        let mut probe = self.command(node, Path::new("test"));
        probe.arg("-w").arg(folder).stdin(Stdio::null());
        let passes = probe.status().context("can't run test")?.success();
        ensure!(
            passes,
            "user {} can't reach {}: choose a --store that all users may enter",
            USER + node,
            folder.display()
        );
        Ok(())
    }

    fn cut(&self, pairs: &[(u32, u32)]) -> anyhow::Result<()> {
        self.shared.change(|pair, flow| flow.set_held(pairs.contains(pair)));
        Ok(())
    }

    fn heal(&self) -> anyhow::Result<u64> {
        self.shared.change(|_, flow| flow.set_held(false));
        Ok(self.shared.flows().values_mut().map(Flow::take_held).sum())
    }

    fn shape(&self, pairs: &[(u32, u32)], policy: &Policy) -> anyhow::Result<()> {
        let Policy { delay: _, rate: _, forge: _, half_close: _, reset: _, jitter, loss, duplicate, corrupt } = policy;
        if !jitter.is_zero() || *loss > 0.0 || *duplicate > 0.0 || *corrupt > 0.0 {
            bail!("a TCP proxy can't reorder, lose, double or corrupt what is below TCP; use --net tap");
        }
        self.shared.change(|pair, flow| flow.set_policy(pairs.contains(pair).then(|| policy.clone())));
        Ok(())
    }

    fn unshape(&self) -> anyhow::Result<Counts> {
        self.shared.change(|_, flow| flow.set_policy(None));
        let mut sum = Counts::default();
        self.shared.flows().values_mut().for_each(|flow| sum += flow.take_counts());
        Ok(sum)
    }

    fn recorded(&self) -> anyhow::Result<Option<Recorded>> {
        Ok(None)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Err(e) = self.end() {
            eprintln!("jepsen: {e:#}");
        }
    }
}

/// Gives a folder and what is in it to a user; links are not followed.
fn give(path: &Path, id: Option<u32>) -> std::io::Result<()> {
    if path.is_symlink() {
        return lchown(path, id, id);
    }
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            give(&entry?.path(), id)?;
        }
    }
    chown(path, id, id)
}
