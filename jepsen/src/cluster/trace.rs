//! System calls of a running node, made to fail, to take long or to lie: strace, attached for a while.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

/// strace has attached to every thread within this time, on a busy machine.
const ATTACH_TIME_MAX: Duration = Duration::from_secs(20);

/// What happens to the calls.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Injection {
    /// Names of the system calls.
    pub calls: &'static str,
    /// What is done to them, in strace's words.
    pub what: &'static str,
}

/// strace at work; it lets go when dropped.
pub struct Trace {
    child: Child,
    log: PathBuf,
}

/// Whether somebody is attached to a process already: nobody else can be then.
pub fn is_traced(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

impl Trace {
    /// Attaches to a process; what was done is written to `log`. Returns once it is attached.
    ///
    /// # Errors
    /// strace is not installed, or can't attach.
    pub fn attach(pid: u32, injection: &Injection, log: &Path) -> anyhow::Result<Self> {
        let _ = std::fs::remove_file(log);
        let Injection { calls, what } = injection;
        let said = log.with_extension("said");
        let child = Command::new("strace")
            .args(["-f", "-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{what}"), "-o"])
            .arg(log)
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&said)?)
            .spawn()
            .context("can't run strace; scripts/setup tools installs it")?;
        let mut trace = Self { child, log: log.to_owned() };
        let end = Instant::now() + ATTACH_TIME_MAX;
        loop {
            let words = std::fs::read_to_string(&said).unwrap_or_default();
            if words.contains("attached") {
                return Ok(trace);
            }
            if trace.child.try_wait()?.is_some() || Instant::now() > end {
                bail!("strace did not attach: {}", words.trim());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many calls it was done to.
    pub fn count(&self) -> usize {
        injected(&std::fs::read_to_string(&self.log).unwrap_or_default())
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        // Asked to end, it leaves the process as it was.
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
    }
}

/// Calls that strace says it meddled with.
fn injected(log: &str) -> usize {
    log.lines().filter(|line| line.ends_with("(INJECTED)") || line.ends_with("(DELAYED)")).count()
}

/// Whether strace can make a call fail here.
///
/// # Errors
/// What does not work.
pub fn probe() -> anyhow::Result<()> {
    let file = std::env::temp_dir().join(format!("quorate-jepsen-trace-{}", std::process::id()));
    let log = file.with_extension("strace");
    let run = Command::new("strace")
        .args(["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO", "-o"])
        .arg(&log)
        .args(["dd", "if=/dev/zero", "bs=1", "count=1", "conv=fdatasync"])
        .arg(format!("of={}", file.display()))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("can't run strace; scripts/setup tools installs it");
    let count = injected(&std::fs::read_to_string(&log).unwrap_or_default());
    let _ = (std::fs::remove_file(&file), std::fs::remove_file(&log));
    let status = run?;
    anyhow::ensure!(
        count > 0 && !status.success(),
        "strace is there, but can't make a call fail (is ptrace forbidden?)"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_meddled_with_counts() {
        let log = "12 fdatasync(9)  = -1 EIO (Input/output error) (INJECTED)\n\
                   12 fdatasync(9)  = 0\n\
                   13 fdatasync(9)  = 0 (DELAYED)\n\
                   13 +++ exited with 134 +++\n";
        assert_eq!(injected(log), 2);
    }
}
