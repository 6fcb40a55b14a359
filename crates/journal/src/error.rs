//! Why a journal is not made or opened.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::JournalIds;

/// Why a journal cannot be made or opened. Nothing was changed.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Records that had been synced are missing or changed.
    #[error("the journal is damaged: {what} ({path}, byte {offset}); nothing was changed", path = path.display())]
    Damaged {
        /// What is wrong.
        what: String,
        /// Where: the file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
    },
    /// The folder has no journal.
    #[error("there is no journal in {}: was this node ever part of a cluster? Check data_dir", .0.display())]
    Absent(PathBuf),
    /// The folder already has one.
    #[error("{} already holds a journal: start this node with it, or choose another data_dir", .0.display())]
    Exists(PathBuf),
    /// Another process has it open.
    #[error("{} is in use by another process: stop that one, or choose another data_dir", .0.display())]
    InUse(PathBuf),
    /// It belongs to another cluster or node, or is another one of this node's.
    #[error("{} is the journal of {found}, this is {expected}: check data_dir and tls.cert", dir.display())]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// Whose it is.
        found: JournalIds,
        /// Whose it should be.
        expected: JournalIds,
    },
    /// It was written by a newer version.
    #[error("{} has journal format {format}, this version knows format 1: start a newer version", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u8,
    },
    /// The operating system refused.
    #[error("cannot {what} {}: {source}. Check the disk and its permissions", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl JournalError {
    pub(crate) fn damaged(path: &Path, offset: u64, what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into(), path: path.to_owned(), offset }
    }
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { what, path: path.to_owned(), source }
    }
}
