//! The mark of an operator's seal in the data directory, so that the seal outlives the process.
//!
//! Without it a restarted node would be opened again by a peer that has seen a ceremony less than ten minutes ago. A
//! held node is opened by no ceremony from before the seal; since no clock is asked for how long the node was down, also
//! by none from before its restart. The next ceremony or hand-over that opens it removes the mark.

use std::io;
use std::path::{Path, PathBuf};

use quorate_replica::disk::{Disk, read_small, replace_small};

/// Who comes upon it in the data directory reads what it is for.
const TEXT: &[u8] = b"An operator sealed this node; only custodians open it again. Removed by their ceremony.\n";

fn path(data_dir: &Path) -> PathBuf {
    data_dir.join("sealed-by-operator")
}

/// Marks the node as sealed by an operator; on disk when this returns.
pub(super) fn mark(disk: &dyn Disk, data_dir: &Path) -> io::Result<()> {
    replace_small(disk, &path(data_dir), TEXT)
}

/// Whether the mark is there. What can't be read counts as a mark: then custodians decide.
pub(super) fn is_marked(disk: &dyn Disk, data_dir: &Path) -> bool {
    !matches!(read_small(disk, &path(data_dir), 4096), Ok(None))
}

/// Removes the mark, if there is one.
pub(super) fn clear(disk: &dyn Disk, data_dir: &Path) -> io::Result<()> {
    match disk.unlink(&path(data_dir)) {
        Ok(()) => disk.fsync_dir(data_dir),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    }
}
