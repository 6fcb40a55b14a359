//! A disk of its own for a node, which can lose power: ext4 in a file, shut down without flushing anything, mounted again.
//! What was not synced is gone, as after a real power cut.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};

/// Mount points of all runs begin so; the process id of the harness follows.
const PREFIX: &str = "/run/quorate-jepsen-";
/// Size of a disk; the file is sparse.
const SIZE: u64 = 2 << 30;

/// A disk that lost power is released by everybody within so many tries, with a pause of this length.
const RELEASE_TRIES: u32 = 100;
const RELEASE_PAUSE: Duration = Duration::from_millis(100);

/// A mounted disk; unmounted when dropped.
pub struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// A new one, for a node.
    ///
    /// # Errors
    /// What the system refused: it takes root, loop devices, e2fsprogs and xfsprogs.
    pub fn create(image: &Path, node: u32) -> anyhow::Result<Self> {
        let file = std::fs::File::create_new(image).with_context(|| image.display().to_string())?;
        file.set_len(SIZE)?;
        run("mkfs.ext4", [OsStr::new("-q"), OsStr::new("-F"), image.as_os_str()])?;
        let root = PathBuf::from(format!("{PREFIX}{}", std::process::id()));
        let at = root.join(format!("n{node}"));
        std::fs::create_dir_all(&at)?;
        share(&root)?;
        let disk = Self { image: image.to_owned(), at };
        disk.mount()?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Loses what was not synced, and is mounted again. No process may use it.
    ///
    /// # Errors
    /// What the system said.
    pub fn lose_power(&self) -> anyhow::Result<()> {
        self.shut_down()?;
        run("umount", [self.at.as_os_str()])?;
        // A disk that somebody else still holds (as a process in another mount namespace may) comes back as it was: shut down.
        for _ in 0..RELEASE_TRIES {
            self.mount()?;
            if std::fs::write(self.at.join("probe"), "").is_ok() {
                return Ok(());
            }
            run("umount", [self.at.as_os_str()])?;
            std::thread::sleep(RELEASE_PAUSE);
        }
        bail!("{} is still held by a process in another mount namespace", self.image.display())
    }

    /// From now on every access fails, until [`Self::lose_power`]. What was not synced is lost.
    ///
    /// # Errors
    /// What the system said.
    pub fn shut_down(&self) -> anyhow::Result<()> {
        // Without -f the file system's log is not flushed either.
        run("xfs_io", [OsStr::new("-x"), OsStr::new("-c"), OsStr::new("shutdown"), self.at.as_os_str()])
    }

    /// Fills it with a file, up to the last `left` bytes.
    ///
    /// # Errors
    /// What the system said.
    pub fn fill(&self, filler: &Path, left: u64) -> anyhow::Result<()> {
        let space = rustix::fs::statvfs(&self.at)?;
        let len = (space.f_bavail * space.f_frsize).saturating_sub(left);
        let file = std::fs::File::create(filler)?;
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len.max(1)) {
            // The node took some of it meanwhile: the disk is full.
            Ok(()) | Err(rustix::io::Errno::NOSPC) => Ok(()),
            Err(e) => Err(e).context("can't fill a disk"),
        }
    }

    /// Makes it read-only, or writable again. No process may use it.
    ///
    /// # Errors
    /// What the system said.
    pub fn set_read_only(&self, read_only: bool) -> anyhow::Result<()> {
        let how = if read_only { "remount,ro" } else { "remount,rw" };
        run("mount", [OsStr::new("-o"), OsStr::new(how), self.at.as_os_str()])
    }

    fn mount(&self) -> anyhow::Result<()> {
        run("mount", [OsStr::new("-o"), OsStr::new("loop"), self.image.as_os_str(), self.at.as_os_str()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if run("umount", [self.at.as_os_str()]).is_err() {
            let _ = run("umount", [OsStr::new("-l"), self.at.as_os_str()]);
        }
        let _ = std::fs::remove_dir(&self.at);
        // The last disk takes the common folder with it.
        if let Some(root) = self.at.parent()
            && std::fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_none())
        {
            let _ = run("umount", [root]);
            let _ = std::fs::remove_dir(root);
        }
    }
}

/// Makes the folder a mount of its own whose changes reach every mount namespace that is made meanwhile (`ip netns exec`
/// makes one): else a copy there would keep an unmounted disk alive.
fn share(root: &Path) -> anyhow::Result<()> {
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1).is_some_and(|at| Path::new(at) == root)) {
        return Ok(());
    }
    run("mount", [OsStr::new("--bind"), root.as_os_str(), root.as_os_str()])?;
    run("mount", [OsStr::new("--make-shared"), root.as_os_str()])
}

/// Unmounts the disks of runs whose process is gone.
pub fn sweep() {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    // The newest first: what lies in another comes off before it.
    for at in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
        let pid = at.strip_prefix(PREFIX).and_then(|rest| rest.split('/').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = run("umount", ["-l", at]);
        }
    }
}

fn run<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> anyhow::Result<()> {
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("can't run {program}; scripts/setup tools installs it"))?;
    if !output.status.success() {
        bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
