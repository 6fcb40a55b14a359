//! The next segment, prepared while there is nothing else to write: allocated and filled with zeros, so that no
//! `fdatasync` of a group also has to commit extents (key-log §4.5).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, DiskFile, OpenMode, is_full};
use crate::spare_name;

/// Zeros written and synced at a time: a group that arrives waits for at most one such step.
const STEP_BYTES: u64 = 512 << 10;

/// The prepared segment, if the disk had room for one.
#[derive(Default)]
pub(super) struct Spare(Option<Filling>);

struct Filling {
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    len: u64,
    filled: u64,
}

impl Spare {
    /// True when its space is allocated, filled or not.
    pub(super) fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Allocates segment `number`, or takes up what is there of it: its content is written anew in any case, and room
    /// that is given back to a disk that fills up may not be had again. A full disk is no error: there just is no spare
    /// then.
    pub(super) fn start(&mut self, disk: &dyn Disk, dir: &Path, number: u64, len: u64) -> io::Result<()> {
        let path = dir.join(spare_name(number));
        let file = disk.open(&path, OpenMode::Create).and_then(|file| {
            if file.len()? > len {
                file.set_len(len)?;
            }
            file.fallocate(len)?;
            Ok(file)
        });
        match file {
            Ok(file) => {
                self.0 = Some(Filling { file, path, len, filled: 0 });
                Ok(())
            }
            Err(e) if is_full(&e) => {
                // An empty leftover is harmless; the next start removes it.
                _ = disk.unlink(&path);
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Fills one step; true when more is to be filled.
    pub(super) fn fill(&mut self, disk: &dyn Disk) -> io::Result<bool> {
        let Some(filling) = &mut self.0 else { return Ok(false) };
        if filling.filled == filling.len {
            return Ok(false);
        }
        let step = STEP_BYTES.min(filling.len - filling.filled);
        let zeros = vec![0; step as usize];
        match filling.file.pwrite(&zeros, filling.filled).and_then(|()| filling.file.fdatasync()) {
            Ok(()) => {
                filling.filled += step;
                Ok(filling.filled < filling.len)
            }
            // A file system that cannot reserve space only finds out here. Nothing was promised yet.
            Err(e) if is_full(&e) => {
                _ = disk.unlink(&filling.path);
                self.0 = None;
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// Fills what is left.
    pub(super) fn finish(&mut self, disk: &dyn Disk) -> io::Result<()> {
        while self.fill(disk)? {}
        Ok(())
    }

    /// Fills at least this part of it, `numerator / denominator`.
    pub(super) fn fill_part(&mut self, disk: &dyn Disk, numerator: u64, denominator: u64) -> io::Result<()> {
        while self
            .0
            .as_ref()
            .is_some_and(|f| u128::from(f.filled) * u128::from(denominator) < u128::from(f.len) * u128::from(numerator))
            && self.fill(disk)?
        {}
        Ok(())
    }

    /// The file and its name, for use.
    pub(super) fn take(&mut self) -> Option<(Arc<dyn DiskFile>, PathBuf)> {
        self.0.take().map(|f| (f.file, f.path))
    }
}
