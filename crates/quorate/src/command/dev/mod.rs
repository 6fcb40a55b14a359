//! `quorate dev`: a cluster on this machine, of real processes and real tokens, by the same steps as a real one.

mod cluster;
mod create;
mod layout;
mod ports;
mod process;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use futures::future::{FutureExt, select_all};
use quorate_client::v1::SealRequest;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

pub use cluster::Cluster;
use layout::{ClusterFile, Layout};
use ports::{Ports, Row};
use process::LogFormat;

use super::client_file::{Addresses, Edited, Settings};
use super::failure::{CommandResult, Doing, Failure};
use super::files::{self, Lock};
use super::operator::ask_all;
use super::output;
use crate::config;

const NODES_DEFAULT: u16 = 3;

/// Run a cluster on this machine, ready to use, for development.
///
/// Real processes, real TLS, a SoftHSM2 token for each node, the unseal ceremony held. It stays in front; Ctrl-C stops it. With --dir it is kept
/// and started again the next time. Its shares and PINs lie beside it: for development only.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:
  quorate dev
  quorate dev --dir my-cluster
  quorate dev --nodes 5 --dir my-cluster --no-unseal
  eval \"$(quorate dev env --dir my-cluster)\"  in another terminal: use it there

Written once every node serves: my-cluster/client.toml, which QUORATE_CONFIG may name, and my-cluster/dev.json with addresses, certificates,
shares and process ids.",
    args_conflicts_with_subcommands = true
)]
pub struct Dev {
    #[command(subcommand)]
    action: Option<Action>,
    /// How many nodes [default: 3, or as many as the folder has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=9))]
    nodes: Option<u16>,
    /// Folder to keep it in, made if need be [default: a temporary one]
    #[arg(long, value_name = "D")]
    dir: Option<PathBuf>,
    /// First port of a new cluster: P and P+1 for the first node, P+10 and P+11 for the second …; 0 = any free ones [default: 7600, or others where that is in use]
    #[arg(long, value_name = "P")]
    first_port: Option<u16>,
    /// Leave the nodes sealed: the shares are in the folder
    #[arg(long)]
    no_unseal: bool,
    /// The `[log]` table of a new cluster's configurations, as TOML
    #[arg(long, value_name = "TOML", value_parser = parse_log, hide = true)]
    log: Option<config::Log>,
    #[arg(skip)]
    log_format: LogFormat,
}

#[derive(Subcommand, Debug)]
enum Action {
    /// Print what a shell sets to use the cluster of a folder
    #[command(after_help = "Examples:
  eval \"$(quorate dev env --dir my-cluster)\"
  quorate dev env --dir my-cluster > env.sh")]
    Env {
        /// Its folder
        #[arg(long, value_name = "D")]
        dir: PathBuf,
    },
}

fn parse_log(text: &str) -> Result<config::Log, String> {
    toml::from_str(text).map_err(|e| e.to_string())
}

impl Dev {
    /// Runs until SIGINT or SIGTERM.
    pub async fn run(self) -> CommandResult {
        if let Some(Action::Env { dir }) = &self.action {
            return env(dir);
        }
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
            say(&what_is_left(&running.cluster).await);
        }
        say("stopping");
        running.cluster.stop().await;
        Ok(())
    }

    /// For a command that needs a cluster of its own for a while: on free ports, unsealed, with logs that it can read; kept when
    /// it has a folder.
    pub fn of_own(dir: Option<PathBuf>) -> Self {
        Self {
            action: None,
            nodes: None,
            dir,
            first_port: Some(0),
            no_unseal: false,
            log: None,
            log_format: LogFormat::Json,
        }
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
        write_client_file(&cluster)?;
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
        let row = match self.first_port {
            None => Row::Preferably(ports::FIRST),
            Some(0) => Row::Any,
            Some(first) => Row::Exactly(first),
        };
        say(&format!("making a cluster of {count} in {}", layout.root().display()));
        let (file, fingerprints) = create::prepare(&layout, count, ports, row, self.log.unwrap_or_default()).await?;
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
        if let Some(first) = self.first_port.filter(|first| *first != 0)
            && !file.nodes[0].api.ends_with(&format!(":{first}"))
        {
            let why = format!("its members know each other by their addresses: {} and so on", file.nodes[0].api);
            return Err(Failure::failed("can't move the cluster to other ports", why, "leave --first-port out"));
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
            let name = p.name();
            format!("{name}: {how}. To start it again, in another terminal: `{}`", p.server())
        }
        .boxed_local()
    });
    select_all(ends).await.0
}

/// What the others can still do, which is what their users want to know. They are asked: one may have been started again by hand.
async fn what_is_left(cluster: &Cluster) -> String {
    let asked = ask_all(&cluster.client).await;
    let names = |answers| {
        let nodes = cluster.file.nodes.iter().zip(&asked).filter(move |(_, asked)| asked.status.is_ok() == answers);
        nodes.map(|(node, _)| node.name.as_str()).collect::<Vec<_>>()
    };
    left(&names(true), &names(false))
}

fn left(up: &[&str], down: &[&str]) -> String {
    let (count, all) = (up.len(), up.len() + down.len());
    let answer = if count == 1 { "answers" } else { "answer" };
    if count > all / 2 {
        return format!("{count} of {all} nodes {answer}, a majority: the cluster goes on ({})", up.join(", "));
    }
    let need = all / 2 + 1;
    format!(
        "{count} of {all} nodes {answer}, no majority: no key is used, and nothing changes, until {need} do ({} down)",
        down.join(", ")
    )
}

/// How a client reaches it.
fn settings(layout: &Layout, file: &ClusterFile) -> Settings {
    Settings {
        addr: Some(Addresses::List(file.nodes.iter().map(|n| n.api.clone()).collect())),
        cacert: Some(layout.ca()),
        client_cert: Some(layout.admin_cert()),
        client_key: Some(layout.admin_key()),
        timeout: None,
        namespace: None,
    }
}

fn write_client_file(cluster: &Cluster) -> CommandResult {
    let path = cluster.layout.client_file();
    files::remove_if_there(&path)?;
    let mut file = Edited::open(path)?;
    file.put("dev", &settings(&cluster.layout, &cluster.file));
    file.set_current("dev");
    file.store()
}

/// What a shell sets to use the cluster in a folder.
fn env(dir: &Path) -> CommandResult {
    let root = std::path::absolute(dir).map_err(|e| Failure::usage(format!("--dir {}: {e}", dir.display())))?;
    let layout = Layout::new(root);
    let Some(file) = ClusterFile::load(&layout)? else {
        let why = format!("there is no cluster of `quorate dev` in {}", layout.root().display());
        let todo = format!("make one: quorate dev --dir {}", dir.display());
        return Err(Failure::failed("can't say how to reach it", why, todo));
    };
    output::line(&exports(&layout, &file))
}

fn exports(layout: &Layout, file: &ClusterFile) -> String {
    let addresses: Vec<&str> = file.nodes.iter().map(|n| n.api.as_str()).collect();
    let path = |p: PathBuf| quoted(&p.display().to_string());
    format!(
        "export QUORATE_ADDR={}\nexport QUORATE_CACERT={} QUORATE_CLIENT_CERT={} QUORATE_CLIENT_KEY={}",
        addresses.join(","),
        path(layout.ca()),
        path(layout.admin_cert()),
        path(layout.admin_key())
    )
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,".contains(c);
    if text.chars().all(plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
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
    say(if sealed { "every node is up, sealed" } else { "every node serves" });
    say(&format!(
        "in another terminal:

{}
quorate operator status

Ctrl-C stops it. The same from the folder: eval \"$(quorate dev env --dir {})\". Shares and everything else: {}",
        exports(layout, &cluster.file),
        quoted(&layout.root().display().to_string()),
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
    _lock: Lock,
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
        let lock = Lock::take_folder(&path)?;
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

#[cfg(test)]
mod tests {
    use super::{left, quoted};

    #[test]
    fn what_is_left_of_a_cluster_is_told_as_it_is() {
        assert_eq!(left(&["n1", "n3"], &["n2"]), "2 of 3 nodes answer, a majority: the cluster goes on (n1, n3)");
        let lost = left(&["n3"], &["n1", "n2"]);
        assert!(
            lost.starts_with("1 of 3 nodes answers, no majority") && lost.ends_with("until 2 do (n1, n2 down)"),
            "{lost}"
        );
        assert!(left(&["n1", "n2"], &["n3", "n4"]).contains("no majority"));
        assert!(left(&[], &["n1"]).starts_with("0 of 1 nodes answer, no majority"));
    }

    #[test]
    fn a_path_is_one_word_of_a_shell() {
        for (path, word) in [("/tmp/a-b_c.1", "/tmp/a-b_c.1"), ("/a b", "'/a b'"), ("/it's $HOME", r"'/it'\''s $HOME'")]
        {
            assert_eq!(quoted(path), word);
        }
    }
}
