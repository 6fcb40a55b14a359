//! `quorate dev`: a cluster on this machine, of real processes and real tokens, by the same steps as a real one.

mod cluster;
mod create;
mod layout;
mod ports;
mod process;

use std::path::{Path, PathBuf};

use clap::Args;
use futures::future::{FutureExt, select_all};
use quorate_client::v1::SealRequest;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

pub use cluster::Cluster;
use layout::{ClusterFile, Layout};
use ports::Ports;
use process::LogFormat;

use super::failure::{CommandResult, Doing, Failure};
use super::files::{self, FolderLock};
use crate::config;

const NODES_DEFAULT: u16 = 3;

/// Run a cluster on this machine, ready to use, for development.
///
/// Real processes, real TLS, a SoftHSM2 token for each node, the unseal ceremony held. It stays in front; Ctrl-C stops it. With --dir it is kept
/// and started again the next time. Its shares and PINs lie beside it: for development only.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  quorate dev
  quorate dev --dir my-cluster
  quorate dev --nodes 5 --dir my-cluster --no-unseal

my-cluster/dev.json, written once every node serves, holds addresses, certificates, shares and process ids.")]
pub struct Dev {
    /// How many nodes [default: 3, or as many as the folder has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: Option<u16>,
    /// Folder to keep it in, made if need be [default: a temporary one]
    #[arg(long, value_name = "D")]
    dir: Option<PathBuf>,
    /// First port of a new cluster: P and P+1 for the first node, P+10 and P+11 for the second …; 0 = any free ones
    #[arg(long, value_name = "P", default_value_t = ports::FIRST)]
    first_port: u16,
    /// Leave the nodes sealed: the shares are in the folder
    #[arg(long)]
    no_unseal: bool,
    /// The [log] table of a new cluster's configurations, as TOML
    #[arg(long, value_name = "TOML", value_parser = parse_log, hide = true)]
    log: Option<config::Log>,
    #[arg(skip)]
    log_format: LogFormat,
}

fn parse_log(text: &str) -> Result<config::Log, String> {
    toml::from_str(text).map_err(|e| e.to_string())
}

impl Dev {
    /// Runs until SIGINT or SIGTERM.
    pub async fn run(self) -> CommandResult {
        let fail = |e: std::io::Error| Failure::failed("can't start the cluster", e, "");
        let (mut int, mut term) =
            (signal(SignalKind::interrupt()).map_err(fail)?, signal(SignalKind::terminate()).map_err(fail)?);
        let started = tokio::select! {
            started = self.launch() => started,
            // What was started is killed as it is dropped.
            _ = int.recv() => return Ok(()),
            _ = term.recv() => return Ok(()),
        };
        let mut running = started?;
        announce(&running.cluster, self.no_unseal);
        loop {
            let ended = tokio::select! {
                _ = int.recv() => break,
                _ = term.recv() => break,
                ended = any_end(&mut running.cluster) => ended,
            };
            say(&ended);
        }
        say("stopping");
        running.cluster.stop().await;
        Ok(())
    }

    /// For a command that needs a cluster of its own for a while: on free ports, unsealed, with logs that it can read; kept when
    /// it has a folder.
    pub fn of_own(dir: Option<PathBuf>) -> Self {
        Self { nodes: None, dir, first_port: 0, no_unseal: false, log: None, log_format: LogFormat::Json }
    }

    /// Starts it. To be called on the process's main thread, as [`process::NodeProcess::start`] says.
    pub async fn launch(&self) -> CommandResult<Running> {
        let folder = Folder::open(self.dir.as_deref())?;
        let mut ports = Ports::default();
        let cluster = self.start(&folder, &mut ports).await?;
        Ok(Running { cluster, _ports: ports, folder })
    }

    async fn start(&self, folder: &Folder, ports: &mut Ports) -> CommandResult<Cluster> {
        let layout = Layout::new(folder.path.clone());
        // Output of an earlier start: its process ids mean nothing now.
        files::remove_if_there(&layout.dev_json())?;
        let mut cluster = match ClusterFile::load(&layout)? {
            Some(file) => self.restart(layout, file, ports).await?,
            None => self.create(layout, ports).await?,
        };
        let (state, count) = (if self.no_unseal { "sealed" } else { "ok" }, cluster.file.nodes.len());
        let all = |s: &quorate_client::v1::StatusResponse| {
            s.state == state
                && s.leader != 0
                && s.nodes.len() == count
                && s.nodes.iter().all(|n| n.voter && n.reachable)
        };
        let statuses =
            cluster.wait(if self.no_unseal { "every node to be up" } else { "every node to serve" }, all).await?;
        write_dev_json(&cluster, &statuses[0])?;
        Ok(cluster)
    }

    async fn create(&self, layout: Layout, ports: &mut Ports) -> CommandResult<Cluster> {
        let count = self.nodes.unwrap_or(NODES_DEFAULT);
        let mut own = vec![layout.pki(), layout.shares()];
        own.extend((1..=count).map(|n| layout.node(&format!("n{n}")).root().to_owned()));
        if let Some(there) = own.iter().find(|p| files::exists(p)) {
            let why = format!(
                "{} is there, but no cluster.toml: an earlier start did not finish, or it is someone else's",
                there.display()
            );
            return Err(Failure::failed("can't make a cluster", why, "remove it, or name another folder with --dir"));
        }
        let first = Some(self.first_port).filter(|port| *port != 0);
        say(&format!("making a cluster of {count} in {}", layout.root().display()));
        let (file, fingerprints) = create::prepare(&layout, count, ports, first, self.log.unwrap_or_default()).await?;
        let mut cluster = Cluster::new(layout, file, self.log_format).await?;
        create::found(&mut cluster, &fingerprints).await?;
        cluster.file.store(&cluster.layout)?;
        if self.no_unseal {
            cluster.client.seal(SealRequest { cluster: true }).await.doing("seal the cluster")?;
        }
        Ok(cluster)
    }

    async fn restart(&self, layout: Layout, file: ClusterFile, ports: &mut Ports) -> CommandResult<Cluster> {
        if let Some(asked) = self.nodes
            && usize::from(asked) != file.nodes.len()
        {
            let why = format!("{} holds a cluster of {}", layout.root().display(), file.nodes.len());
            return Err(Failure::failed(
                format!("can't start {asked} nodes"),
                why,
                "leave --nodes out, or name another folder",
            ));
        }
        for address in file.nodes.iter().flat_map(|n| [&n.api, &n.peer]) {
            if !ports.keep(address) {
                let todo = "stop what uses it: members know each other by these addresses";
                return Err(Failure::failed("can't start the cluster", format!("{address} is in use"), todo));
            }
        }
        say(&format!("starting the cluster of {} in {}", file.nodes.len(), layout.root().display()));
        let mut cluster = Cluster::new(layout, file, self.log_format).await?;
        cluster.start_all()?;
        cluster
            .wait("every node to find the leader", |s| s.leader != 0 && matches!(s.state.as_str(), "sealed" | "ok"))
            .await?;
        if !self.no_unseal {
            say(&format!("the ceremony: {} shares", cluster.file.threshold));
            cluster.ceremony().await?;
        }
        Ok(cluster)
    }
}

/// A cluster that this process has started. Dropped, it is killed, and a temporary folder removed.
pub struct Running {
    // In this order: no process writes into a folder that is being removed.
    /// Its processes and clients.
    pub cluster: Cluster,
    _ports: Ports,
    folder: Folder,
}

impl Running {
    /// The folder it is in.
    pub fn folder(&self) -> &Path {
        &self.folder.path
    }
}

/// Waits until any node ends; what to say about it.
async fn any_end(cluster: &mut Cluster) -> String {
    let ends = cluster.processes.iter_mut().map(|p| {
        async move {
            let how = p.ended().await;
            format!("{}: {how}; the others go on", p.name())
        }
        .boxed_local()
    });
    select_all(ends).await.0
}

fn write_dev_json(cluster: &Cluster, status: &quorate_client::v1::StatusResponse) -> CommandResult {
    let layout = &cluster.layout;
    let nodes: Vec<_> = cluster
        .file
        .nodes
        .iter()
        .zip(&cluster.processes)
        .map(|(node, process)| {
            let files = layout.node(&node.name);
            json!({
                "id": status.nodes.iter().find(|n| n.name == node.name).map_or(0, |n| n.id),
                "name": node.name,
                "pid": process.pid(),
                "api": node.api,
                "cluster": node.peer,
                "config": files.config(),
                "data": files.data(),
                "log": files.log(),
            })
        })
        .collect();
    let shares = (1..=cluster.file.shares)
        .map(|n| Ok(String::from_utf8_lossy(&files::read(&layout.share(n), "a share")?).trim().to_owned()))
        .collect::<CommandResult<Vec<_>>>()?;
    let json = json!({
        "nodes": nodes,
        "ca": layout.ca(),
        "admin": { "cert": layout.admin_cert(), "key": layout.admin_key() },
        "shares": shares,
        "threshold": cluster.file.threshold,
    });
    let path = layout.dev_json();
    files::replace(&path, 0o600, format!("{json:#}\n").as_bytes())
        .map_err(|e| Failure::failed("can't write a file", format!("{}: {e}", path.display()), ""))
}

fn announce(cluster: &Cluster, sealed: bool) {
    let layout = &cluster.layout;
    let addresses: Vec<&str> = cluster.file.nodes.iter().map(|n| n.api.as_str()).collect();
    say(if sealed { "every node is up, sealed" } else { "every node serves" });
    say(&format!(
        "in another terminal:

export QUORATE_ADDR={}
export QUORATE_CACERT={} QUORATE_CLIENT_CERT={} QUORATE_CLIENT_KEY={}
quorate operator status

Ctrl-C stops it. Shares and everything else: {}",
        addresses.join(","),
        layout.ca().display(),
        layout.admin_cert().display(),
        layout.admin_key().display(),
        layout.dev_json().display()
    ));
}

/// Progress, on standard error.
fn say(text: &str) {
    eprintln!("quorate dev: {text}");
}

/// D, for this process alone; a temporary one is removed in the end.
struct Folder {
    path: PathBuf,
    temporary: bool,
    _lock: FolderLock,
}

impl Folder {
    fn open(dir: Option<&Path>) -> CommandResult<Self> {
        let path = match dir {
            Some(dir) => dir.to_owned(),
            None => files::create_dir_unforeseen(&std::env::temp_dir(), "quorate-dev")?,
        };
        let path = std::path::absolute(&path).map_err(|e| Failure::usage(format!("--dir {}: {e}", path.display())))?;
        files::create_dir_private(&path)?;
        let known = files::exists(&Layout::new(path.clone()).cluster_file());
        if known || files::is_empty_dir(&path) {
            files::make_private(&path)?;
        }
        let lock = FolderLock::take(&path)?;
        Ok(Self { path, temporary: dir.is_none(), _lock: lock })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            files::remove_tree(&self.path);
        }
    }
}
