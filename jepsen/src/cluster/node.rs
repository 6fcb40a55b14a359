//! One node's process.

use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// As much of a log is shown of a node that died, in lines.
const TAIL: usize = 15;
/// The longest time to end after SIGABRT: a core dump takes a while.
const ABORT_TIME_MAX: Duration = Duration::from_secs(60);

/// A node, running or not. Its process ends with the harness: it is killed when dropped, and asks the kernel to be ended
/// with its parent.
pub struct NodeProcess {
    node: u32,
    dir: PathBuf,
    child: Option<Child>,
    /// Whether its end is to be expected, and is no news.
    may_end: bool,
    /// Of a cluster marked for development.
    dev: bool,
}

impl NodeProcess {
    /// Not started yet.
    pub fn new(node: u32, dir: &Path, dev: bool) -> Self {
        Self::at(node, dir.join(format!("n{node}")), dev)
    }

    /// The same, of a node whose configuration lies in this folder.
    pub fn at(node: u32, dir: PathBuf, dev: bool) -> Self {
        Self { node, dir, child: None, may_end: false, dev }
    }

    /// Starts it: `command` runs the binary in the node's namespace. Returns its process id.
    pub fn start(&mut self, mut command: Command) -> anyhow::Result<u32> {
        if self.is_running() {
            bail!("n{} runs already", self.node);
        }
        let log = OpenOptions::new().append(true).create(true).open(self.dir.join("log"))?;
        command
            .arg("server")
            .args(self.dev.then_some("--dev"))
            .args(["--die-with-parent", &std::process::id().to_string(), "--config"])
            .arg(self.dir.join("node.toml"))
            // A core dump would appear there.
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = self.child.insert(command.spawn().context("can't start a node")?);
        Ok(child.id())
    }

    /// Whether the process is there, stopped or not.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| c.try_wait().is_ok_and(|ended| ended.is_none()))
    }

    /// Its process id, while it runs.
    pub fn pid(&mut self) -> Option<u32> {
        if self.is_running() { self.child.as_ref().map(Child::id) } else { None }
    }

    /// Says whether its end is to be expected: then nobody is told of it.
    pub fn may_end(&mut self, may: bool) {
        self.may_end = may;
    }

    /// Whether its process has ended; if so, that is no news any more.
    pub fn reap(&mut self) -> bool {
        let ended = self.child.is_some() && !self.is_running();
        if ended {
            self.child = None;
        }
        ended
    }

    /// SIGKILL, and waits for its end.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        if !self.is_running() {
            bail!("n{} does not run", self.node);
        }
        let mut child = self.child.take().context("not running")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// SIGSTOP, and waits until the kernel shows every thread stopped: on a busy machine some run on for a while.
    pub fn pause(&self) -> anyhow::Result<()> {
        let pid = self.signal(Signal::STOP).with_context(|| format!("n{} does not run", self.node))?;
        // The state follows the command's name, which is in parentheses. A thread that has ended runs no more, too.
        let stopped = |task: std::io::Result<std::fs::DirEntry>| {
            let Ok(stat) = task.and_then(|task| std::fs::read_to_string(task.path().join("stat"))) else { return true };
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        };
        let end = Instant::now() + Duration::from_secs(5);
        while !std::fs::read_dir(format!("/proc/{pid}/task"))?.all(stopped) {
            if Instant::now() > end {
                bail!("n{} did not stop", self.node);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// SIGCONT.
    pub fn resume(&self) {
        let _ = self.signal(Signal::CONT);
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        let _ = self.signal(Signal::TERM);
    }

    /// SIGABRT, by which a process ends with a core dump if it may; whether the kernel wrote one.
    pub fn abort(&mut self) -> anyhow::Result<bool> {
        self.signal(Signal::ABORT)?;
        let mut child = self.child.take().context("not running")?;
        let end = Instant::now() + ABORT_TIME_MAX;
        while child.try_wait()?.is_none() {
            if Instant::now() > end {
                child.kill()?;
                bail!("n{} did not end by SIGABRT", self.node);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(child.wait()?.core_dumped())
    }

    /// What to say when it ended though nobody ended it; once.
    pub fn died(&mut self) -> Option<String> {
        if self.may_end {
            return None;
        }
        let status = self.child.as_mut()?.try_wait().ok().flatten()?;
        self.child = None;
        let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(TAIL).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        Some(format!("n{} ended by itself ({status}); its log ends:\n{}", self.node, tail.join("\n")))
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<u32> {
        let id = self.child.as_ref().context("not running")?.id();
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).context("no process id")?;
        kill_process(pid, signal)?;
        Ok(id)
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
