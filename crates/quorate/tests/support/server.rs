//! Single `quorate server` processes, on whatever their folders hold, and custodians who enter shares over the wire.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use quorate_client::{Client, ClientConfig, ClientError};
use quorate_crypto::{SealConfig, Share};
use quorate_proto::v1::*;

use super::{DevJson, PATIENCE, Process, QUORATE, Signal, signal};

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// One node's process; killed when dropped.
pub struct Server {
    process: Process,
    log: PathBuf,
}

/// What became of a start.
#[derive(Debug)]
pub enum Started {
    /// It ended.
    Ended(ExitStatus),
    /// It answers at this address.
    At(String),
}

impl Server {
    /// Starts a node; what it says goes to `log`, which is emptied.
    pub fn start(config: &Path, log: &Path) -> Self {
        let out = File::create(log).expect("a log file");
        let child = Command::new(QUORATE)
            .args(["server", "--dev", "--config"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("a second handle"))
            .stderr(out)
            .spawn()
            .expect("the server starts");
        Self { process: Process(child), log: log.to_owned() }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Everything it has said.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.0.try_wait().expect("our child")
    }

    /// Waits until it has ended or answers; `None` when it does neither in time.
    pub async fn started(&mut self) -> Option<Started> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            // Before the log is read: an end that comes between the two is seen the next time round.
            let ended = self.ended();
            if let Some(api) = self.said().lines().find_map(api_of_started) {
                return Some(Started::At(api));
            }
            if let Some(status) = ended {
                return Some(Started::Ended(status));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        None
    }

    /// SIGTERM, and waits for the end.
    pub async fn stop(mut self) -> ExitStatus {
        signal(self.pid(), Signal::TERM);
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(Instant::now() < end, "SIGTERM did not stop the node; it said:\n{}", self.said());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.process.0.kill();
        let _ = self.process.0.wait();
    }
}

/// The address in the one line that a node logs when it has started.
fn api_of_started(line: &str) -> Option<String> {
    let (_, fields) = line.split_once(" started node=")?;
    let api = fields.split_whitespace().find_map(|f| f.strip_prefix("api="))?;
    Some(api.to_owned())
}

impl DevJson {
    /// A client of nodes at `addrs`, as administrator.
    pub async fn client_at(&self, addrs: Vec<String>) -> Client {
        let read = |p: &Path| std::fs::read(p).unwrap_or_else(|e| panic!("{}: {e}", p.display()));
        let config = ClientConfig::new(addrs, read(&self.ca), read(&self.admin.cert), read(&self.admin.key));
        Client::connect(config).await.expect("valid settings").with_deadline(PATIENCE)
    }
}

/// Custodians enter shares at one node until it is unsealed, as the command line does.
pub async fn unseal(node: &Client, shares: &[String]) -> Result<(), ClientError> {
    let config = node.seal_config(SealConfigRequest {}).await?.seal_config;
    let config = SealConfig::decode(&config).expect("the node's own");
    for text in shares {
        let share = Share::parse(text.trim()).expect("a share");
        let challenge = node.share_challenge(ShareChallengeRequest {}).await?;
        let nonce: [u8; 32] = challenge.nonce.as_ref().try_into().expect("32 bytes");
        let proof = share.prove(config.cluster, &challenge.node_name, &nonce).to_vec().into();
        let share = share.to_text().to_string();
        if node.submit_share(SubmitShareRequest { share, nonce: challenge.nonce, proof }).await?.unsealed {
            return Ok(());
        }
    }
    Ok(())
}
