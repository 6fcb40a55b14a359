//! Files the command line reads and writes for its caller: not a node's disk, hence not behind its seam.
#![expect(clippy::disallowed_methods, reason = "the command line's own files; a node's go through the Disk seam")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use quorate_core::seam::Entropy;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::failure::{CommandResult, Failure};
use crate::prompt;
use crate::wiring::OsEntropy;

/// Says on a terminal what is read from it: whoever forgot a file would wait for the command, and it for them.
pub fn say_what_is_awaited(path: Option<&Path>, what: &str) {
    if path.is_none() && io::stdin().is_terminal() {
        eprintln!("Reading {what} from this terminal; Ctrl-D on an empty line ends it. --in names a file instead.");
    }
}

/// Reads a whole file.
pub fn read(path: &Path, what: &str) -> CommandResult<Vec<u8>> {
    fs::read(path).map_err(|e| Failure::failed(format!("can't read {what}"), format!("{}: {e}", path.display()), ""))
}

/// Reads a file from `offset` on.
pub fn read_from(path: &Path, offset: u64, what: &str) -> CommandResult<Vec<u8>> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|e| Failure::failed(format!("can't read {what}"), format!("{}: {e}", path.display()), ""))
}

/// Reads `path`, or standard input without one, as far as `max` bytes; longer is refused with `todo`.
pub fn read_input(path: Option<&Path>, max: usize, todo: &str) -> CommandResult<Zeroizing<Vec<u8>>> {
    let (name, reader) = open_input(path)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(max + 1));
    reader
        .take(max as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::failed(format!("can't read {name}"), e, ""))?;
    if bytes.len() > max {
        return Err(Failure::failed(format!("can't take {name}"), format!("it is longer than {max} bytes"), todo));
    }
    Ok(bytes)
}

/// `path` or standard input, and what to call it.
pub fn open_input(path: Option<&Path>) -> CommandResult<(String, Box<dyn Read + Send>)> {
    Ok(match path {
        Some(path) => {
            let file = File::open(path)
                .map_err(|e| Failure::failed("can't read the input", format!("{}: {e}", path.display()), ""))?;
            (path.display().to_string(), Box::new(file))
        }
        None => {
            let input = prompt::stdin().map_err(|e| Failure::failed("can't read standard input", e, ""))?;
            ("standard input".into(), Box::new(input))
        }
    })
}

/// Standard output without the library's buffer, which would keep what was written for as long as the process lives.
pub fn stdout() -> io::Result<File> {
    Ok(io::stdout().as_fd().try_clone_to_owned()?.into())
}

/// Length of a regular file, for a progress bar.
pub fn regular_len(path: Option<&Path>) -> Option<u64> {
    let meta = fs::metadata(path?).ok()?;
    meta.is_file().then_some(meta.len())
}

/// Whether a path exists.
pub fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

/// A file of mode 0600 that did not exist; removed again unless it is filled.
pub struct NewFile {
    file: File,
    path: PathBuf,
    filled: bool,
}

impl NewFile {
    /// Makes the file, empty; an existing one is refused, never overwritten.
    pub fn create(path: &Path) -> CommandResult<Self> {
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = opened.map_err(|e| {
            let todo = "name a folder in which it does not exist yet";
            Failure::failed("can't make a file", format!("{}: {e}", path.display()), todo)
        })?;
        Ok(Self { file, path: path.to_owned(), filled: false })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes its content, durably.
    pub fn fill(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_all()?;
        self.filled = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.filled {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Writes a new file with mode 0600; an existing one is refused, never overwritten.
pub fn write_new_private(path: &Path, bytes: &[u8]) -> CommandResult {
    let written = NewFile::create(path)?.fill(bytes);
    written.map_err(|e| Failure::failed("can't write a file", format!("{}: {e}", path.display()), ""))
}

/// Writes two new files that belong together, mode 0600: both or none.
pub fn write_new_pair([first, second]: [(&Path, &[u8]); 2]) -> CommandResult {
    let (mut one, mut other) = (NewFile::create(first.0)?, NewFile::create(second.0)?);
    let fail =
        |path: &Path, e: io::Error| Failure::failed("can't write a file", format!("{}: {e}", path.display()), "");
    other.fill(second.1).map_err(|e| fail(second.0, e))?;
    one.fill(first.1).map_err(|e| {
        let _ = fs::remove_file(second.0);
        fail(first.0, e)
    })
}

/// Replaces two files that belong together, mode 0600. Where the second can't be replaced the first is put back, and should this
/// process end between the two, the old one lies beside it as `.old`.
pub fn replace_pair([first, second]: [(&Path, &[u8]); 2]) -> CommandResult {
    let fail =
        |path: &Path, e: io::Error| Failure::failed("can't write a file", format!("{}: {e}", path.display()), "");
    let mut kept = first.0.as_os_str().to_owned();
    kept.push(".old");
    let kept = PathBuf::from(kept);
    remove_if_there(&kept)?;
    // Written before either is touched: what fails now has changed nothing.
    let prepared = |(path, bytes): (&Path, &[u8])| -> io::Result<Replacement> {
        let mut replacement = Replacement::new(path, 0o600, Existing::Replace)?;
        replacement.file.write_all(bytes)?;
        Ok(replacement)
    };
    let one = prepared(first).map_err(|e| fail(first.0, e))?;
    let other = prepared(second).map_err(|e| fail(second.0, e))?;
    fs::hard_link(first.0, &kept).map_err(|e| fail(&kept, e))?;
    one.commit().map_err(|e| fail(first.0, e))?;
    other.commit().map_err(|e| {
        let _ = fs::rename(&kept, first.0);
        fail(second.0, e)
    })?;
    remove_if_there(&kept)
}

/// Makes a folder, and those above it, if it is not there.
pub fn create_dir(path: &Path) -> CommandResult {
    fs::create_dir_all(path).map_err(|e| Failure::failed("can't make a folder", format!("{}: {e}", path.display()), ""))
}

/// Makes a folder with mode 0700 if it is not there.
pub fn create_dir_private(path: &Path) -> CommandResult {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| Failure::failed("can't make a folder", format!("{}: {e}", path.display()), ""))
}

/// Makes a folder with mode 0700 in `parent`, under a name that nobody can have foreseen: what is in it is this process's
/// alone, also where everybody may make folders.
pub fn create_dir_unforeseen(parent: &Path, prefix: &str) -> CommandResult<PathBuf> {
    let mut random = [0; 16];
    OsEntropy.fill(&mut random);
    let path = parent.join(format!("{prefix}-{:032x}", u128::from_be_bytes(random)));
    // Not what is there already, nor what a link there points to.
    let made = fs::DirBuilder::new().mode(0o700).create(&path);
    made.map_err(|e| Failure::failed("can't make a folder", format!("{}: {e}", path.display()), ""))?;
    Ok(path)
}

/// Takes others' access to a folder away.
pub fn make_private(path: &Path) -> CommandResult {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
        .map_err(|e| Failure::failed("can't make a folder private", format!("{}: {e}", path.display()), ""))
}

/// Whether nothing is in a folder.
pub fn is_empty_dir(path: &Path) -> bool {
    fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Removes a file that may be there.
pub fn remove_if_there(path: &Path) -> CommandResult {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(Failure::failed("can't remove a file", format!("{}: {e}", path.display()), ""))
        }
        _ => Ok(()),
    }
}

/// Removes a folder with all that is in it, as far as possible.
pub fn remove_tree(path: &Path) {
    let _ = fs::remove_dir_all(path);
}

/// A file or a folder that only this process works on, until dropped.
pub struct Lock {
    _held: File,
}

impl Lock {
    /// Waits for whoever changes that file now. What is locked is an empty file beside it: it itself is replaced by others of its name.
    pub fn wait_for_file(path: &Path) -> CommandResult<Self> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        let fail = |e: io::Error| Failure::failed("can't lock a file", format!("{}: {e}", path.display()), "");
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(beside).map_err(fail)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|e| fail(e.into()))?;
        Ok(Self { _held: lock })
    }

    /// Takes that folder; refused while another process has it.
    pub fn take_folder(path: &Path) -> CommandResult<Self> {
        let fail = |e: io::Error| Failure::failed("can't use the folder", format!("{}: {e}", path.display()), "");
        let folder = File::open(path).map_err(fail)?;
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { _held: folder }),
            Err(Errno::WOULDBLOCK) => {
                let why = format!("another process works in {}", path.display());
                Err(Failure::failed("can't use the folder", why, "stop it first, or name another folder"))
            }
            Err(e) => Err(fail(e.into())),
        }
    }
}

/// What becomes of a file that is there already, where output is to go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Existing {
    /// It stays, and the output is refused.
    Refuse,
    /// It is replaced, once the output is complete.
    Replace,
}

/// Where output goes. A regular file appears under its name only when [`Sink::finish`] says it is complete; until then,
/// and after a failure or a signal, there is nothing, or what was there before.
pub enum Sink {
    /// Chunk by chunk, as it comes.
    Stream(Box<dyn Write>),
    /// A file that is not there yet.
    File(Replacement),
}

impl Sink {
    /// Opens `path`, or standard output without one. New files have mode `mode` less the umask.
    pub fn open(path: Option<&Path>, mode: u32, existing: Existing) -> CommandResult<Self> {
        let Some(path) = path else { return Ok(Self::Stream(Box::new(io::stdout().lock()))) };
        let fail = |e: io::Error| Failure::failed("can't write the output", format!("{}: {e}", path.display()), "");
        match fs::metadata(path) {
            // A pipe or device can't be replaced by a file.
            Ok(there) if !there.is_file() => {
                return Ok(Self::Stream(Box::new(OpenOptions::new().write(true).open(path).map_err(fail)?)));
            }
            Ok(_) if existing == Existing::Refuse => return Err(is_there(path)),
            _ => {}
        }
        Replacement::new(path, mode, existing).map(Self::File).map_err(fail)
    }

    /// Makes the output final.
    pub fn finish(self) -> io::Result<()> {
        match self {
            Self::Stream(mut stream) => stream.flush(),
            Self::File(file) => file.commit(),
        }
    }
}

fn is_there(path: &Path) -> Failure {
    let why = format!("{} is there already", path.display());
    Failure::failed("can't write the output", why, "name another file, or replace it with --force")
}

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stream(stream) => stream.write(buf),
            Self::File(file) => file.file.write(buf),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stream(stream) => stream.flush(),
            Self::File(file) => file.file.flush(),
        }
    }
}

/// A file that has no name before it is committed: whatever ends this process leaves nothing of it. Where the file system
/// knows no such files, it has a temporary name beside its target, which goes unless a signal ends the process.
pub struct Replacement {
    file: File,
    target: PathBuf,
    temporary: Option<PathBuf>,
    existing: Existing,
}

impl Replacement {
    fn new(target: &Path, mode: u32, existing: Existing) -> io::Result<Self> {
        // A link is followed, so that the file it names is replaced and not the link.
        let target = fs::canonicalize(target).unwrap_or_else(|_| target.to_owned());
        let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let nameless = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(folder, nameless, Mode::from_raw_mode(mode)) {
            Ok(file) => Ok(Self { file: file.into(), target, temporary: None, existing }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
                let (file, temporary) =
                    beside(&target, |path| OpenOptions::new().write(true).create_new(true).mode(mode).open(path))?;
                Ok(Self { file, target, temporary: Some(temporary), existing })
            }
            Err(e) => Err(e.into()),
        }
    }

    fn commit(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let named = self.temporary.take();
        let link = |to: &Path| match &named {
            Some(temporary) => fs::hard_link(temporary, to),
            None => {
                let file = format!("/proc/self/fd/{}", self.file.as_raw_fd());
                Ok(rustix::fs::linkat(CWD, file, CWD, to, AtFlags::SYMLINK_FOLLOW)?)
            }
        };
        let done = match self.existing {
            Existing::Refuse => link(&self.target),
            Existing::Replace => beside(&self.target, |path| link(path))
                .and_then(|((), path)| fs::rename(&path, &self.target).inspect_err(|_| drop(fs::remove_file(&path)))),
        };
        self.temporary = named;
        done
    }
}

/// Makes something under a name beside `target` that nothing has yet; and that name.
fn beside<T>(target: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(T, PathBuf)> {
    let name = target.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    for n in 0..1000u32 {
        let path = target.with_file_name(format!(".{name}.{}.{n}.partial", std::process::id()));
        match make(&path) {
            Ok(made) => return Ok((made, path)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = fs::remove_file(temporary);
        }
    }
}

/// Writes a whole file of the given mode by rename: a reader sees all of it or nothing.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let mut replacement = Replacement::new(path, mode, Existing::Replace)?;
    replacement.file.write_all(bytes)?;
    replacement.commit()
}

/// Asks a question on the terminal; the caller has seen that standard input is one.
pub fn ask(question: &str) -> CommandResult<String> {
    let fail = |e: io::Error| Failure::failed("can't read from the terminal", e, "");
    let mut answer = String::new();
    eprint!("{question}");
    io::stdin().read_line(&mut answer).map_err(fail)?;
    Ok(answer)
}

/// Reads a secret of one line: from the terminal without showing it, else from standard input.
pub fn read_secret(prompt: &str, max: usize) -> CommandResult<Zeroizing<String>> {
    prompt::read_secret(prompt, max)
        .map_err(|e| Failure::failed("can't take what was typed or given on standard input", e, ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn output_appears_only_when_it_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        fs::write(&path, "before").unwrap();
        let open = || Sink::open(Some(&path), 0o600, Existing::Replace).unwrap();
        let mut sink = open();
        sink.write_all(b"half").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"before");
        assert_eq!(
            names(dir.path()),
            ["out"],
            "what is not complete has no name: nothing that ends this process leaves it"
        );
        drop(sink);
        assert_eq!(fs::read(&path).unwrap(), b"before");
        let mut sink = open();
        sink.write_all(b"whole").unwrap();
        sink.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(names(dir.path()), ["out"]);
    }

    #[test]
    fn what_is_there_stays_unless_it_is_to_be_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        let open = || Sink::open(Some(&path), 0o600, Existing::Refuse);
        let mut sink = open().unwrap();
        sink.write_all(b"late").unwrap();
        // It came while this was written.
        fs::write(&path, "before").unwrap();
        assert_eq!(sink.finish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(open().err().unwrap().to_string().contains("--force"));
        assert_eq!((fs::read(&path).unwrap(), names(dir.path())), (b"before".to_vec(), vec!["out".to_owned()]));
        fs::remove_file(&path).unwrap();
        let mut sink = open().unwrap();
        sink.write_all(b"new").unwrap();
        sink.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn two_files_that_belong_together_are_replaced_both_or_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (key, cert) = (dir.path().join("a.key"), dir.path().join("a.pem"));
        write_new_pair([(&key, b"key 1"), (&cert, b"cert 1")]).unwrap();
        replace_pair([(&key, b"key 2"), (&cert, b"cert 2")]).unwrap();
        assert_eq!((fs::read(&key).unwrap(), fs::read(&cert).unwrap()), (b"key 2".to_vec(), b"cert 2".to_vec()));
        assert_eq!(names(dir.path()).len(), 2);
        // A folder can't be replaced by a file.
        fs::remove_file(&cert).unwrap();
        fs::create_dir(&cert).unwrap();
        assert!(replace_pair([(&key, b"key 3"), (&cert, b"cert 3")]).is_err());
        assert_eq!(fs::read(&key).unwrap(), b"key 2", "put back");
        let other = dir.path().join("b.key");
        assert!(write_new_pair([(&other, b"key"), (&cert, b"cert")]).is_err() && !exists(&other), "none is left alone");
    }

    #[test]
    fn a_device_is_written_as_it_is() {
        let mut sink = Sink::open(Some(Path::new("/dev/null")), 0o600, Existing::Refuse).unwrap();
        assert!(matches!(sink, Sink::Stream(_)));
        sink.write_all(b"x").unwrap();
        sink.finish().unwrap();
    }

    #[test]
    fn a_folder_of_ones_own_is_new_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let made = [(); 2].map(|()| create_dir_unforeseen(dir.path(), "quorate-dev").unwrap());
        assert_ne!(made[0], made[1]);
        for path in made {
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(name.strip_prefix("quorate-dev-").is_some_and(|random| random.len() == 32), "{name}");
        }
    }

    #[test]
    fn a_new_file_is_private_and_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("share-1.txt");
        NewFile::create(&path).unwrap().fill(b"a").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(NewFile::create(&path).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"a");
    }

    #[test]
    fn input_that_is_too_long_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in");
        fs::write(&path, [7; 11]).unwrap();
        assert_eq!(read_input(Some(&path), 11, "").unwrap().len(), 11);
        let error = read_input(Some(&path), 10, "cut it").unwrap_err().to_string();
        assert!(error.contains("longer than 10 bytes") && error.contains("cut it"), "{error}");
        assert!(read_input(Some(&dir.path().join("none")), 10, "").is_err());
    }
}
