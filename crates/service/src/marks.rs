//! What the node's token keeps for the replica.

use std::io;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use quorate_hsm::{Hsm, HsmError};
use quorate_replica::Marks;

/// Keeps marks as data objects of a token.
pub struct HsmMarks(Hsm);

impl HsmMarks {
    /// In this token.
    pub fn new(hsm: Hsm) -> Self {
        Self(hsm)
    }
}

fn failed(e: HsmError) -> io::Error {
    let kind = if e.may_pass() { io::ErrorKind::TimedOut } else { io::ErrorKind::Other };
    io::Error::new(kind, e)
}

impl Marks for HsmMarks {
    fn read<'a>(&'a self, label: &'a str) -> BoxFuture<'a, io::Result<Vec<Vec<u8>>>> {
        self.0.read_data(label).map(|read| read.map_err(failed)).boxed()
    }

    fn replace<'a>(&'a self, label: &'a str, value: &'a [u8]) -> BoxFuture<'a, io::Result<()>> {
        self.0.replace_data(label, value).map(|replaced| replaced.map_err(failed)).boxed()
    }
}
