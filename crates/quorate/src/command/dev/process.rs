//! The nodes' processes: started like any node, ended with this one.

use std::fs::OpenOptions;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::layout::NodeLayout;
use crate::command::failure::{CommandResult, Failure};
use crate::command::server::{LOG_FORMAT_ENV, LOG_FORMAT_JSON};

/// Time for a node to stop in order; then it is killed, which loses nothing.
const STOP_TIME_MAX: Duration = Duration::from_secs(10);
/// As much of a failed node's log is shown, in bytes.
const LOG_TAIL: u64 = 2048;

/// How nodes write their logs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum LogFormat {
    /// As this process's environment says.
    #[default]
    Inherited,
    /// One JSON object a line, to be read by this process.
    Json,
}

/// One running node.
pub struct NodeProcess {
    name: String,
    config: PathBuf,
    log: PathBuf,
    pid: u32,
    /// None once it has ended.
    child: Option<Child>,
}

impl NodeProcess {
    /// Starts `quorate server` for the node. Must be called on the process's main thread: the kernel ends the node with
    /// the thread that started it.
    pub fn start(name: &str, layout: &NodeLayout, log_format: LogFormat) -> CommandResult<Self> {
        let log = layout.log();
        let fail = |e: std::io::Error| Failure::failed(format!("can't start {name}"), e, "");
        #[expect(clippy::disallowed_methods, reason = "the node's log, written by the node's process")]
        let out = OpenOptions::new().append(true).create(true).mode(0o600).open(&log).map_err(fail)?;
        let mut command = this_program()?;
        command
            .args(["server", "--dev", "--die-with-parent", &std::process::id().to_string(), "--config"])
            .arg(layout.config())
            .stdin(Stdio::null())
            .stdout(out.try_clone().map_err(fail)?)
            .stderr(out)
            // Ctrl-C is for this process, which then stops the nodes in order.
            .process_group(0)
            .kill_on_drop(true);
        if log_format == LogFormat::Json {
            command.env(LOG_FORMAT_ENV, LOG_FORMAT_JSON);
        }
        let child = command.spawn().map_err(fail)?;
        let pid = child.id().unwrap_or_default();
        Ok(Self { name: name.to_owned(), config: layout.config(), log, pid, child: Some(child) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The command that starts it.
    pub fn server(&self) -> String {
        format!("quorate server --dev --config {}", super::quoted(&self.config.display().to_string()))
    }

    /// Its process id, also after it has ended.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Fails when it has ended, with the end of its log.
    pub fn check(&mut self) -> CommandResult {
        let ended = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten());
        match ended {
            None => Ok(()),
            Some(status) => {
                let why = format!("{}; its log ({}) ends:\n{}", how(status), self.log.display(), tail(&self.log));
                Err(Failure::failed(format!("can't keep {} running", self.name), why, ""))
            }
        }
    }

    /// Waits until it ends by itself; for ever once it has.
    pub async fn ended(&mut self) -> String {
        let Some(child) = &mut self.child else { return std::future::pending().await };
        let status = child.wait().await;
        self.child = None;
        status.map_or_else(|e| e.to_string(), how)
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        if self.child.is_some()
            && let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
        {
            // It may just have ended.
            let _ = kill_process(pid, Signal::TERM);
        }
    }

    /// Kills it, as a power cut of this one machine would, and waits for its end.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may just have ended.
            let _ = child.kill().await;
        }
    }

    /// Where it logs.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Waits for its end, and ends it if it takes too long.
    pub async fn stopped(&mut self) {
        if let Some(child) = &mut self.child
            && tokio::time::timeout(STOP_TIME_MAX, child.wait()).await.is_err()
        {
            let _ = child.kill().await;
        }
        self.child = None;
    }
}

/// Another process of this very program.
pub fn this_program() -> CommandResult<Command> {
    let program = std::env::current_exe().map_err(|e| Failure::failed("can't find this program's own file", e, ""))?;
    Ok(Command::new(program))
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it ended with exit code {code}"),
        (None, Some(signal)) => format!("it was ended by signal {signal}"),
        (None, None) => "it ended".to_owned(),
    }
}

fn tail(path: &Path) -> String {
    #[expect(clippy::disallowed_methods, reason = "a log file, for a message")]
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(LOG_TAIL)))?;
        let mut bytes = Vec::new();
        file.take(LOG_TAIL).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    read().unwrap_or_default()
}
