//! The disk seam (key-log §7): every file a node touches is reached through [`Disk`], so that a simulation
//! can cut power, flip bits and fill the disk. [`RealDisk`] is the operating system.

mod real;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealDisk;

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpenMode {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; made when it does not exist.
    Create,
    /// For reading and writing; an existing file is emptied.
    Truncate,
}

/// An open file. All offsets are absolute, so that one handle serves any number of threads.
pub trait DiskFile: Send + Sync + std::fmt::Debug {
    /// Writes all of `bytes` at `offset`; durable only after [`DiskFile::fdatasync`].
    ///
    /// # Errors
    /// Any failure. What part was written is then unknown: the journal aborts the process (key-log §4.6).
    fn pwrite(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Fills `out` from `offset` on; returns less than `out.len()` only at the end of the file.
    ///
    /// # Errors
    /// When the device cannot return the bytes.
    fn pread(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Makes written data, and the length, durable.
    ///
    /// # Errors
    /// Any failure; a second call that succeeds proves nothing (key-log §4.6).
    fn fdatasync(&self) -> io::Result<()>;
    /// Allocates the first `len` bytes and makes the file at least that long; new bytes read as zero.
    ///
    /// # Errors
    /// `StorageFull` when there is no room.
    fn fallocate(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    ///
    /// # Errors
    /// When the device fails.
    fn len(&self) -> io::Result<u64>;
    /// True when the file has no bytes.
    ///
    /// # Errors
    /// When the device fails.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends (with zeros) to `len` bytes.
    ///
    /// # Errors
    /// When the device fails.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Forgets what the system has cached of this file and need not write any more: it is read from the device again.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn drop_cached(&self) -> io::Result<()> {
        Ok(())
    }
    /// Takes the exclusive lock of this file for as long as the handle lives; false = another holder has it.
    ///
    /// # Errors
    /// When the file system has no locks.
    fn try_lock(&self) -> io::Result<bool>;
}

/// The file system, as far as a node needs it.
pub trait Disk: Send + Sync + 'static {
    /// Opens a file.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames a file over whatever has the name `to`; durable after [`Disk::fsync_dir`].
    ///
    /// # Errors
    /// As the operating system reports them.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes names made, changed and removed in `dir` durable.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn fsync_dir(&self, dir: &Path) -> io::Result<()>;
    /// The names in `dir`, sorted.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Removes a file; durable after [`Disk::fsync_dir`].
    ///
    /// # Errors
    /// As the operating system reports them.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Makes `dir` (mode 0700) and its parents, where they are missing, and makes their names durable.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that an unprivileged process may still allocate on the file system of `path`.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// The kernel's boot id: changes at each start of the machine, so it tells a power cut from a crash of the
    /// process. Zero where the kernel has none.
    fn kernel_boot_id(&self) -> [u8; 16];
}

/// Whether an operation failed because there is no room: nothing was changed by it then, and it may be tried again once
/// there is.
pub fn is_full(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Reads a whole small file; `None` when it does not exist.
///
/// # Errors
/// When it is longer than `len_max` bytes, or the device fails.
pub fn read_small(disk: &dyn Disk, path: &Path, len_max: usize) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let len = file.len()?;
    if len > len_max as u64 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{} has {len} bytes, expected at most {len_max}", path.display()),
        ));
    }
    let mut bytes = vec![0; len as usize];
    let got = file.pread(&mut bytes, 0)?;
    bytes.truncate(got);
    Ok(Some(bytes))
}

/// Replaces a small file so that a crash leaves the old or the new content: write `.new`, sync, rename, sync the
/// directory.
///
/// # Errors
/// As the operating system reports them.
pub fn replace_small(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    let file = disk.open(new, OpenMode::Truncate)?;
    file.pwrite(bytes, 0)?;
    file.fdatasync()?;
    drop(file);
    disk.rename(new, path)?;
    disk.fsync_dir(path.parent().unwrap_or(Path::new(".")))
}
