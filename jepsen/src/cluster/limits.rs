//! Memory of a node's own, by a control group (version 1), which can be taken away: then the kernel ends the process or makes
//! it wait for pages that are read again and again.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Where the memory controller of version 1 is.
const ROOT: &str = "/sys/fs/cgroup/memory";
/// Groups of all runs begin so; the process id of the harness follows.
const PREFIX: &str = "quorate-jepsen-";
/// No limit.
const ALL: &str = "-1";
/// What is left beyond what can't be reclaimed, at first; twice as much at each further attempt.
const SPARE_FIRST: u64 = 64 << 10;
const SPARE_MAX: u64 = 1 << 30;

/// The groups of a run; removed when dropped, when no process may be in them any more.
pub struct Limits {
    root: PathBuf,
}

/// What the kernel counts of a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Squeezed {
    /// Processes that it ended for want of memory.
    pub killed: u64,
    /// How often a page was wanted and the limit was in the way.
    pub refused: u64,
}

impl Limits {
    /// Those of this run. What earlier runs left behind whose process is gone is removed first.
    ///
    /// # Errors
    /// What the system refused: it takes root and the memory controller of control groups, version 1.
    pub fn create() -> anyhow::Result<Self> {
        sweep();
        let root = Path::new(ROOT).join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&root).with_context(|| {
            format!("can't make {}; is the memory controller of cgroup v1 mounted there?", root.display())
        })?;
        Ok(Self { root })
    }

    /// Puts a process into the group of a node; what it takes from now on is counted there.
    ///
    /// # Errors
    /// What the system said.
    pub fn hold(&self, node: u32, pid: u32) -> anyhow::Result<()> {
        let group = self.group(node);
        if !group.exists() {
            fs::create_dir(&group).with_context(|| group.display().to_string())?;
        }
        put(&group, "cgroup.procs", &pid.to_string())
    }

    /// Sets the lowest limit that the kernel takes, which is what it can't reclaim; returns the counts until now.
    ///
    /// # Errors
    /// When it takes none.
    pub fn squeeze(&self, node: u32) -> anyhow::Result<Squeezed> {
        let group = self.group(node);
        let counts = self.counts(node)?;
        let held = field(&get(&group, "memory.stat")?, "rss").context("memory.stat tells no rss")?;
        let mut spare = SPARE_FIRST;
        while put(&group, "memory.limit_in_bytes", &(held + spare).to_string()).is_err() {
            spare *= 2;
            if spare > SPARE_MAX {
                bail!("{} takes no limit", group.display());
            }
        }
        Ok(counts)
    }

    /// Takes the limit away; returns what was counted since.
    ///
    /// # Errors
    /// What the system said.
    pub fn release(&self, node: u32, begun: &Squeezed) -> anyhow::Result<Squeezed> {
        put(&self.group(node), "memory.limit_in_bytes", ALL)?;
        let now = self.counts(node)?;
        Ok(Squeezed { killed: now.killed - begun.killed, refused: now.refused - begun.refused })
    }

    fn counts(&self, node: u32) -> anyhow::Result<Squeezed> {
        let group = self.group(node);
        let killed = field(&get(&group, "memory.oom_control")?, "oom_kill").context("no oom_kill is told")?;
        let refused = get(&group, "memory.failcnt")?.trim().parse().context("memory.failcnt")?;
        Ok(Squeezed { killed, refused })
    }

    fn group(&self, node: u32) -> PathBuf {
        self.root.join(format!("n{node}"))
    }
}

impl Drop for Limits {
    fn drop(&mut self) {
        remove(&self.root);
    }
}

/// Removes a group and those in it, as far as no process is left in them.
fn remove(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            let _ = fs::remove_dir(entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}

/// Removes the groups of runs whose process is gone.
fn sweep() {
    for entry in fs::read_dir(ROOT).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|n| n.strip_prefix(PREFIX));
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&entry.path());
        }
    }
}

/// The number after a word at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn get(group: &Path, file: &str) -> anyhow::Result<String> {
    let path = group.join(file);
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

fn put(group: &Path, file: &str, text: &str) -> anyhow::Result<()> {
    let path = group.join(file);
    fs::write(&path, text).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let stat = "cache 12\nrss_huge 1\nrss 4096\ntotal_rss 9\n";
        assert_eq!(field(stat, "rss"), Some(4096));
        assert_eq!(field(stat, "swap"), None);
        assert_eq!(field("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "oom_kill"), Some(3));
    }
}
