//! An operator's seal of one node: only a ceremony that is completed after it opens the node again.
//!
//! "After" is not asked of clocks, which may run at any rate, nor of how long anything took: the seal has a random name,
//! the node tells it to its peers, and a completed ceremony knows the names that were heard of before. A ceremony
//! that does not know of the seal came before it, or can't tell; then custodians decide.
//!
//! The name is kept in the data directory, so that the seal outlives the process: else a restarted node would be opened
//! by a peer that has seen a ceremony less than ten minutes ago. What opens the node removes it.

use std::io;
use std::path::{Path, PathBuf};

use quorate_core::seam::Entropy;
use quorate_journal::disk::{Disk, read_small, replace_small};

const LEN_MAX: usize = 4096;

/// Names one seal of one node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OperatorSeal(pub [u8; 16]);

impl OperatorSeal {
    /// A new seal.
    pub(super) fn new(entropy: &dyn Entropy) -> Self {
        let mut name = [0; 16];
        entropy.fill(&mut name);
        Self(name)
    }

    /// Who comes upon it in the data directory reads what it is for.
    fn text(self) -> String {
        format!(
            "{:032x}\nAn operator sealed this node; only custodians open it again. Removed by their ceremony.\n",
            u128::from_be_bytes(self.0)
        )
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let name = std::str::from_utf8(text.get(..32)?).ok()?;
        Some(Self(u128::from_str_radix(name, 16).ok()?.to_be_bytes()))
    }
}

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("sealed-by-operator")
}

/// Marks the node as sealed by an operator; on disk when this returns.
pub(super) fn mark(disk: &dyn Disk, data_dir: &Path, operator_seal: OperatorSeal) -> io::Result<()> {
    replace_small(disk, &path(data_dir), operator_seal.text().as_bytes())
}

/// The seal that is marked. What can't be read counts as one that nobody has heard of.
pub(super) fn marked(disk: &dyn Disk, data_dir: &Path, entropy: &dyn Entropy) -> Option<OperatorSeal> {
    match read_small(disk, &path(data_dir), LEN_MAX) {
        Ok(None) => None,
        Ok(Some(text)) => Some(OperatorSeal::parse(&text).unwrap_or_else(|| OperatorSeal::new(entropy))),
        Err(_) => Some(OperatorSeal::new(entropy)),
    }
}

/// Removes the mark, if there is one.
pub(super) fn clear(disk: &dyn Disk, data_dir: &Path) -> io::Result<()> {
    match disk.unlink(&path(data_dir)) {
        Ok(()) => disk.fsync_dir(data_dir),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use quorate_journal::disk::RealDisk;

    use super::super::support::OsEntropy;
    use super::*;

    #[test]
    fn a_mark_outlives_the_process_and_what_is_unreadable_is_one_nobody_knows() {
        let dir = tempfile::tempdir().expect("a folder");
        let read = || marked(&RealDisk, dir.path(), &OsEntropy);
        assert_eq!(read(), None);
        let operator_seal = OperatorSeal::new(&OsEntropy);
        mark(&RealDisk, dir.path(), operator_seal).expect("written");
        assert_eq!((read(), read()), (Some(operator_seal), Some(operator_seal)));
        for damaged in [&b""[..], b"An operator sealed this node", &[0xff; 60], &[b'7'; 9000]] {
            replace_small(&RealDisk, &path(dir.path()), damaged).expect("written");
            assert!(read().is_some_and(|read| read != operator_seal), "{damaged:?}");
        }
        clear(&RealDisk, dir.path()).expect("removed");
        clear(&RealDisk, dir.path()).expect("again, the same");
        assert_eq!(read(), None);
    }
}
