//! Disks that lose power: ext4 in a loop device, cut by the file system's own shutdown call.
//!
//! They are mounted in a mount namespace of this process and its children: when the last of them has ended, however,
//! the kernel takes mounts and loop devices away.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::thread::UnshareFlags;

use crate::support::PATIENCE;

/// `EXT4_IOC_SHUTDOWN`, `_IOR('X', 125, __u32)`.
const SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;
/// Nothing more reaches the disk, the file system's own journal included.
const NO_LOG_FLUSH: u32 = 2;
/// Sparse.
const IMAGE_BYTES: u64 = 1 << 30;

/// Puts the calling thread, and every thread and process that it starts, into a mount namespace of its own.
pub fn own_namespace() {
    // SAFETY: only the view of mounts changes; no file descriptor is shared anew or closed.
    #[expect(unsafe_code, reason = "a system call that rustix marks so for its other flags")]
    let done = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) };
    done.expect("power cuts need root: a mount namespace can't be made");
    run("mount", &["--make-rprivate", "/"]);
}

fn try_run(program: &str, args: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(args).output().map_err(|e| format!("{program} can't be started: {e}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

fn run(program: &str, args: &[&str]) {
    try_run(program, args).unwrap_or_else(|e| panic!("power cuts need root, e2fsprogs and loop devices: {e}"));
}

/// A folder on a disk of its own.
pub struct CuttableDisk {
    image: PathBuf,
    folder: PathBuf,
    mounted: bool,
}

impl CuttableDisk {
    /// Puts what is in `folder` onto a disk of its own, mounted there; `image` is made beside it.
    pub fn under(folder: &Path, image: &Path) -> Self {
        File::create(image).and_then(|f| f.set_len(IMAGE_BYTES)).expect("an image file");
        run("mkfs.ext4", &["-q", "-F", &text(image)]);
        let before = folder.with_extension("before");
        std::fs::rename(folder, &before).expect("moved");
        std::fs::create_dir(folder).expect("made");
        let mut disk = Self { image: image.to_owned(), folder: folder.to_owned(), mounted: false };
        disk.mount();
        run("cp", &["-a", &format!("{}/.", text(&before)), &text(folder)]);
        run("sync", &["-f", &text(folder)]);
        std::fs::remove_dir_all(before).expect("removed");
        disk
    }

    fn mount(&mut self) {
        run("mount", &["-o", "loop", &text(&self.image), &text(&self.folder)]);
        self.mounted = true;
    }

    /// The power goes: what was not synced is lost, and every later call fails.
    pub fn cut(&self) {
        let (folder, how) = (File::open(&self.folder).expect("opens"), NO_LOG_FLUSH);
        // SAFETY: the call reads one u32 through the pointer, which lives until it returns.
        #[expect(unsafe_code, reason = "a foreign interface: there is no wrapper of this ioctl")]
        let result = unsafe { libc::ioctl(folder.as_raw_fd(), SHUTDOWN, &raw const how) };
        assert_eq!(result, 0, "the file system can't be shut down: {}", std::io::Error::last_os_error());
    }

    /// The power is back: whatever used the folder has ended; ext4 replays its journal.
    pub fn restore(&mut self) {
        let end = Instant::now() + PATIENCE;
        // A process that was just killed may hold it for a moment.
        while let Err(e) = try_run("umount", &[&text(&self.folder)]) {
            assert!(Instant::now() < end, "{e}");
            std::thread::sleep(Duration::from_millis(20));
        }
        self.mounted = false;
        self.mount();
    }
}

impl Drop for CuttableDisk {
    fn drop(&mut self) {
        if self.mounted {
            // Whoever still has a file open keeps the device until it ends.
            let _ = try_run("umount", &["--lazy", &text(&self.folder)]);
        }
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
