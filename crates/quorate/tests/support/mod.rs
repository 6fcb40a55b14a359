//! A cluster of real processes for tests, started the way a user would: `quorate dev`.
#![allow(dead_code, clippy::disallowed_methods, reason = "each test file uses a part; tests touch files and processes")]

pub mod load;
pub mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use quorate_client::{Client, ClientConfig};
use quorate_proto::v1::{NodeStatus, SealRequest, StatusRequest, StatusResponse};
pub use rustix::process::Signal;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Deserialize;

/// The binary under test.
pub const QUORATE: &str = env!("CARGO_BIN_EXE_quorate");
/// The longest anything is waited for; a deadline against hanging, no measure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// `dev.json`, the part tests need.
#[derive(Deserialize, Clone)]
pub struct DevJson {
    pub nodes: Vec<DevNode>,
    pub ca: PathBuf,
    pub admin: Pair,
    pub shares: Vec<String>,
    pub threshold: usize,
}

#[derive(Deserialize, Clone)]
pub struct DevNode {
    pub id: u64,
    pub name: String,
    pub pid: u32,
    pub api: String,
    pub cluster: String,
    pub config: PathBuf,
    pub data: PathBuf,
    pub log: PathBuf,
}

#[derive(Deserialize, Clone)]
pub struct Pair {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// A process that is killed, by its own id, when dropped.
pub struct Process(pub Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running `quorate dev`.
pub struct Dev {
    pub json: DevJson,
    dev: Option<Child>,
    restarted: Vec<Process>,
    prepare: fn(&mut Command),
    dir: PathBuf,
    _temp: Option<tempfile::TempDir>,
}

impl Dev {
    /// A new cluster, serving.
    pub fn start(nodes: usize) -> Self {
        Self::start_as(nodes, false, None, |_| {})
    }

    /// A new cluster, left sealed.
    pub fn start_sealed(nodes: usize) -> Self {
        Self::start_as(nodes, true, None, |_| {})
    }

    /// A new cluster, serving, with this `[log]` table (TOML).
    pub fn start_with_log(nodes: usize, log: &str) -> Self {
        Self::start_as(nodes, false, Some(log), |_| {})
    }

    /// The same, with `quorate dev`'s command (and so its nodes) prepared by the test.
    pub fn start_prepared(nodes: usize, sealed: bool, prepare: fn(&mut Command)) -> Self {
        Self::start_as(nodes, sealed, None, prepare)
    }

    fn start_as(nodes: usize, sealed: bool, log: Option<&str>, prepare: fn(&mut Command)) -> Self {
        let temp = tempfile::tempdir().expect("a temporary folder");
        let dir = temp.path().join("cluster");
        let (dev, json) = launch(&dir, nodes, sealed, log, prepare);
        Self { json, dev: Some(dev), restarted: Vec::new(), prepare, dir, _temp: Some(temp) }
    }

    /// The folder of the cluster.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Kills every node at once, then starts the same cluster again.
    pub fn kill_all_and_restart(&mut self, sealed: bool) {
        let pids: Vec<_> = self.json.nodes.iter().map(|n| n.pid).collect();
        self.restarted.clear();
        pids.iter().for_each(|pid| signal(*pid, Signal::KILL));
        self.stop_and_restart(sealed);
    }

    /// Ends `quorate dev` in order, then starts the same cluster again.
    pub fn stop_and_restart(&mut self, sealed: bool) {
        self.stop();
        let (dev, json) = launch(&self.dir, self.json.nodes.len(), sealed, None, self.prepare);
        self.dev = Some(dev);
        self.json = json;
    }

    /// Ends `quorate dev` as Ctrl-C does, and waits.
    pub fn stop(&mut self) {
        if let Some(mut dev) = self.dev.take() {
            signal(dev.id(), Signal::INT);
            let end = Instant::now() + PATIENCE;
            while dev.try_wait().expect("our child").is_none() {
                assert!(Instant::now() < end, "quorate dev did not stop on SIGINT");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// SIGKILL to one node; when this returns it is gone, and its ports are free.
    pub fn kill(&self, place: usize) {
        let pid = self.json.nodes[place].pid;
        signal(pid, Signal::KILL);
        await_threads(pid, "ZX");
    }

    /// Starts one node again, on its own. It comes up sealed.
    pub fn restart(&mut self, place: usize) {
        let node = &self.json.nodes[place];
        let log = std::fs::OpenOptions::new().append(true).open(&node.log).expect("its log");
        let child = Command::new(QUORATE)
            .args(["server", "--dev", "--config"])
            .arg(&node.config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the server starts");
        self.json.nodes[place].pid = child.id();
        self.restarted.push(Process(child));
    }

    /// A client of all nodes, as administrator.
    pub async fn client(&self) -> Client {
        self.client_as(&self.json.admin).await
    }

    /// A client of all nodes with another certificate.
    pub async fn client_as(&self, pair: &Pair) -> Client {
        let read = |p: &Path| std::fs::read(p).unwrap_or_else(|e| panic!("{}: {e}", p.display()));
        let addrs = self.json.nodes.iter().map(|n| n.api.clone()).collect();
        let config = ClientConfig::new(addrs, read(&self.json.ca), read(&pair.cert), read(&pair.key));
        Client::connect(config).await.expect("valid settings")
    }

    /// Issues a client certificate as an operator would.
    pub fn issue(&self, role: &str, name: &str) -> Pair {
        let pki = self.dir.join("pki");
        let mut command = Command::new(QUORATE);
        command.args(["pki", "client", "--role", role, "--name", name, "--dir"]).arg(&pki);
        command.arg("--passphrase-file").arg(pki.join("passphrase"));
        let output = run(command, "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Pair { cert: pki.join(format!("{name}.pem")), key: pki.join(format!("{name}.key")) }
    }

    /// The command line, as administrator, with `stdin`.
    pub fn cli(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> Output {
        let addrs: Vec<_> = self.json.nodes.iter().map(|n| n.api.as_str()).collect();
        self.cli_at(&addrs.join(","), args, stdin)
    }

    /// The same at certain addresses.
    pub fn cli_at(&self, addrs: &str, args: &[&str], stdin: impl AsRef<[u8]>) -> Output {
        run(self.command_at(addrs, args), stdin)
    }

    /// The command line at certain addresses, not started yet.
    pub fn command_at(&self, addrs: &str, args: &[&str]) -> Command {
        let mut command = Command::new(QUORATE);
        command
            .args(args)
            .env("QUORATE_ADDR", addrs)
            .env("QUORATE_CACERT", &self.json.ca)
            .env("QUORATE_CLIENT_CERT", &self.json.admin.cert)
            .env("QUORATE_CLIENT_KEY", &self.json.admin.key)
            .env("XDG_STATE_HOME", self.state_home());
        command
    }

    /// Where the commands of this cluster's custodians keep what they remember.
    pub fn state_home(&self) -> PathBuf {
        self.dir.join("state-home")
    }

    /// The same, and it must succeed; returns standard output.
    pub fn cli_ok(&self, args: &[&str], stdin: impl AsRef<[u8]>) -> Vec<u8> {
        let output = self.cli(args, stdin);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// The place of the leader, once there is one.
    pub async fn leader(&self) -> usize {
        let client = self.client().await;
        let status = await_status(&client, "a leader", |s| self.json.nodes.iter().any(|n| n.id == s.leader)).await;
        self.json.nodes.iter().position(|n| n.id == status.leader).expect("a node of ours")
    }

    /// Enters shares at the first node by the command line, as custodians do.
    pub fn enter_shares(&self, places: &[usize]) {
        for place in places {
            self.cli_ok(&["operator", "unseal", "--node", "1"], &self.json.shares[*place]);
        }
    }

    /// Waits until every reachable node is unsealed.
    pub async fn await_serving(&self) {
        let client = self.client().await;
        await_status(&client, "every node unsealed", |s| s.nodes.iter().all(|n| !n.reachable || !n.sealed)).await;
    }

    /// Waits until a restarted node has been handed the root key by its peers, as they do within ten minutes of a ceremony.
    pub async fn await_handed_over(&self, name: &str) {
        let client = self.client().await;
        await_status(&client, "the root key to be handed over", |s| !node(s, name).sealed).await;
    }

    /// Seals one node.
    pub async fn seal(&self, place: usize) {
        let node = self.client().await.node(place).expect("a node");
        node.seal(SealRequest { cluster: false }).await.expect("sealed");
    }

    /// Everything the nodes and `dev` have logged.
    pub fn logs(&self) -> String {
        self.json.nodes.iter().map(|n| std::fs::read_to_string(&n.log).unwrap_or_default()).collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.json.nodes {
                let log = std::fs::read_to_string(&node.log).unwrap_or_default();
                let tail: Vec<_> = log.lines().rev().take(12).collect();
                eprintln!("--- {} ({}), newest first:\n{}", node.name, node.log.display(), tail.join("\n"));
            }
            if let Some(dev) = self.dev.take() {
                drop(Process(dev));
            }
        }
        self.stop();
    }
}

/// Runs a command with `stdin` and collects what it says.
pub fn run(mut command: impl std::borrow::BorrowMut<Command>, stdin: impl AsRef<[u8]>) -> Output {
    let command = command.borrow_mut();
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut pipe = child.stdin.take().expect("piped");
    let input = stdin.as_ref().to_vec();
    let feeder = std::thread::spawn(move || {
        let _ = pipe.write_all(&input);
    });
    let output = child.wait_with_output().expect("it ends");
    feeder.join().expect("no panic");
    output
}

/// What a failed command said.
pub fn complaint(output: &Output) -> String {
    assert!(!output.status.success(), "it should have failed: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Asks for the status until it is as wanted.
pub async fn await_status(client: &Client, what: &str, wanted: impl Fn(&StatusResponse) -> bool) -> StatusResponse {
    let end = Instant::now() + PATIENCE;
    let mut last = None;
    while Instant::now() < end {
        match client.status(StatusRequest {}).await {
            Ok(status) if wanted(&status) => return status,
            other => last = Some(other),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("waited in vain for {what}; last: {last:?}");
}

/// The status of one node among all.
pub fn node<'a>(status: &'a StatusResponse, name: &str) -> &'a NodeStatus {
    status.nodes.iter().find(|n| n.name == name).unwrap_or_else(|| panic!("{name} is in {status:?}"))
}

/// TLS as a stock client has it, with a client certificate or without.
pub fn tls(dev: &Dev, identity: Option<&Pair>, alpn: &[u8]) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&dev.json.ca).expect("PEM")).expect("a root");
    let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = CertificateDer::pem_file_iter(&pair.cert).expect("PEM").collect::<Result<_, _>>();
            let key = PrivateKeyDer::from_pem_file(&pair.key).expect("PEM");
            builder.with_client_auth_cert(chain.expect("certificates"), key).expect("they belong together")
        }
    };
    config.alpn_protocols = vec![alpn.to_vec()];
    Arc::new(config)
}

/// One HTTP/1.1 request over TLS, with a client certificate or without.
pub fn http(dev: &Dev, addr: &str, path: &str, identity: Option<&Pair>, alpn: &[u8]) -> std::io::Result<String> {
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let mut tls = rustls::ClientConnection::new(tls(dev, identity, alpn), name).expect("a connection");
    let mut tcp = TcpStream::connect(addr)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: quorate\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    match stream.read_to_string(&mut answer) {
        Err(e) if answer.is_empty() => Err(e),
        _ => Ok(answer),
    }
}

/// Stops a process this test started until `SIGCONT`. When this returns no thread of it runs any more: `kill` itself
/// returns long before that on a busy machine.
pub fn freeze(pid: u32) {
    signal(pid, Signal::STOP);
    await_threads(pid, "T");
}

/// Waits until every thread of a process is in one of these states (proc(5)), or gone.
fn await_threads(pid: u32, states: &str) {
    let there = |task: std::io::Result<std::fs::DirEntry>| {
        let Ok(stat) = task.and_then(|task| std::fs::read_to_string(task.path().join("stat"))) else { return true };
        // The state follows the command's name, which is in parentheses.
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(|state| states.contains(state)))
    };
    let end = Instant::now() + PATIENCE;
    while !std::fs::read_dir(format!("/proc/{pid}/task")).map_or(true, |mut tasks| tasks.all(there)) {
        assert!(Instant::now() < end, "the threads of process {pid} don't come to one of {states}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Sends a signal to a process this test started.
pub fn signal(pid: u32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).expect("a pid")).expect("not 0");
    let _ = rustix::process::kill_process(pid, signal);
}

fn launch(dir: &Path, nodes: usize, sealed: bool, log: Option<&str>, prepare: fn(&mut Command)) -> (Child, DevJson) {
    let path = dir.join("dev.json");
    let _ = std::fs::remove_file(&path);
    let mut command = Command::new(QUORATE);
    // Ports of a row of their own: a cluster that is restarted must find the ones it had.
    command.args(["dev", "--first-port", "0", "--nodes", &nodes.to_string(), "--dir"]).arg(dir);
    if sealed {
        command.arg("--no-unseal");
    }
    if let Some(log) = log {
        command.args(["--log", log]);
    }
    prepare(&mut command);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("quorate dev starts");
    let end = Instant::now() + PATIENCE;
    loop {
        if let Ok(text) = std::fs::read_to_string(&path) {
            return (child, serde_json::from_str(&text).expect("dev.json is valid"));
        }
        if let Some(status) = child.try_wait().expect("our child") {
            panic!("quorate dev ended: {status}");
        }
        if Instant::now() > end {
            drop(Process(child));
            panic!("dev.json did not appear");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
