//! The operating system's file system behind the disk seam.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Advice, FallocateFlags, FlockOperation};

use super::{Disk, DiskFile, OpenMode};

/// The disk of this machine. Files are made with mode 0600: nobody else needs them.
#[derive(Clone, Copy, Default, Debug)]
pub struct RealDisk;

#[derive(Debug)]
struct RealFile(File);

impl DiskFile for RealFile {
    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }
    fn pread(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < out.len() {
            match self.0.read_at(&mut out[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }
    fn fdatasync(&self) -> io::Result<()> {
        // Never retried, not even on EINTR: the journal treats any failure as final.
        Ok(rustix::fs::fdatasync(&self.0)?)
    }
    fn fallocate(&self, len: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&self.0, FallocateFlags::empty(), 0, len) {
            Ok(()) => Ok(()),
            // A file system without allocation: at least the length is right; the zero fill allocates.
            Err(rustix::io::Errno::OPNOTSUPP) if self.len()? < len => self.set_len(len),
            Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
    fn drop_cached(&self) -> io::Result<()> {
        Ok(rustix::fs::fadvise(&self.0, 0, None, Advice::DontNeed)?)
    }
    fn try_lock(&self) -> io::Result<bool> {
        match rustix::fs::flock(&self.0, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the real implementation of the Disk seam")]
impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).mode(0o600);
        match mode {
            OpenMode::Read => {}
            OpenMode::Write => _ = options.write(true),
            OpenMode::Create => _ = options.write(true).create(true).truncate(false),
            OpenMode::Truncate => _ = options.write(true).create(true).truncate(true),
        }
        Ok(Arc::new(RealFile(options.open(path)?)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }
    fn fsync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        File::open(dir)?.sync_all()
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(names)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.as_os_str().is_empty() || fs::metadata(dir).is_ok_and(|m| m.is_dir()) {
            return Ok(());
        }
        let parent = dir.parent().unwrap_or(Path::new("/"));
        self.create_dir(parent)?;
        match fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
            _ => {}
        }
        self.fsync_dir(parent)
    }
    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    fn kernel_boot_id(&self) -> [u8; 16] {
        // A UUID in text; anything else (another kernel, no /proc) is "unknown".
        let mut id = [0; 16];
        let Ok(text) = fs::read_to_string("/proc/sys/kernel/random/boot_id") else { return id };
        let digits: Vec<u8> = text.bytes().filter_map(|b| char::from(b).to_digit(16)).map(|d| d as u8).collect();
        if digits.len() == 32 {
            for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
                *byte = pair[0] << 4 | pair[1];
            }
        }
        id
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;
    use crate::disk::{read_small, replace_small};

    #[test]
    fn files_do_what_the_seam_says() {
        let folder = tempfile::tempdir().expect("a folder");
        let dir = folder.path().join("a/b");
        RealDisk.create_dir(&dir).expect("made");
        RealDisk.create_dir(&dir).expect("is there");
        let path = dir.join("file");
        assert_eq!(RealDisk.open(&path, OpenMode::Write).expect_err("missing").kind(), io::ErrorKind::NotFound);
        let file = RealDisk.open(&path, OpenMode::Create).expect("made");
        assert!(file.is_empty().expect("length"));
        file.fallocate(10_000).expect("allocated");
        file.pwrite(b"hello", 9_998).expect("written");
        file.fdatasync().expect("synced");
        assert_eq!(file.len().expect("length"), 10_003);
        let mut out = [1; 8];
        assert_eq!(file.pread(&mut out, 9_996).expect("read"), 7);
        assert_eq!(&out, b"\0\0hello\x01");
        file.set_len(3).expect("cut");
        assert_eq!(file.pread(&mut out, 3).expect("read"), 0);
        RealDisk.rename(&path, &dir.join("other")).expect("renamed");
        RealDisk.fsync_dir(&dir).expect("synced");
        assert_eq!(RealDisk.list(&dir).expect("listed"), ["other"]);
        RealDisk.unlink(&dir.join("other")).expect("removed");
        assert!(RealDisk.free_bytes(&dir).expect("free") > 0);
        assert_eq!(RealDisk.kernel_boot_id(), RealDisk.kernel_boot_id());
    }

    #[test]
    fn a_lock_is_held_by_one_and_ends_with_its_handle() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("lock");
        let open = || RealDisk.open(&path, OpenMode::Create).expect("opens");
        let first = open();
        assert!(first.try_lock().expect("locks"));
        assert!(!open().try_lock().expect("locks"));
        drop(first);
        assert!(open().try_lock().expect("locks"));
    }

    #[test]
    fn small_files_are_replaced_whole_and_bounded() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("node");
        assert_eq!(read_small(&RealDisk, &path, 9).expect("reads"), None);
        replace_small(&RealDisk, &path, b"one").expect("writes");
        replace_small(&RealDisk, &path, b"longer").expect("writes");
        assert_eq!(read_small(&RealDisk, &path, 9).expect("reads"), Some(b"longer".to_vec()));
        assert_eq!(RealDisk.list(folder.path()).expect("lists"), ["node"]);
        assert_eq!(read_small(&RealDisk, &path, 5).expect_err("too long").kind(), io::ErrorKind::InvalidData);
    }
}
