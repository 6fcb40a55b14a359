//! The facts of one view of the engine, for decisions and for uses that the hot view can't answer.

use std::sync::Arc;

use quorate_core::batch::{Expect, Rev};
use quorate_core::decide::View as Facts;
use quorate_core::record::{Record, RecordName};
use quorate_core::record_key::RecordKey;
use quorate_crypto::Keyring;
use quorate_replica::View;

use super::barrier::Barrier;
use crate::error::Error;

/// One view, opened with the keyring; notes what was read, for the batch's expectations.
pub struct EngineFacts<'a> {
    view: &'a View,
    barrier: &'a Barrier,
    keyring: Arc<Keyring>,
    read: Vec<Expect>,
}

impl<'a> EngineFacts<'a> {
    /// Over `view`, which must be of the seal epoch the desk serves in.
    ///
    /// # Errors
    /// [`Error::Sealed`] when the cluster was sealed since, or the desk is closed.
    pub fn new(view: &'a View, barrier: &'a Barrier, seal_epoch: Rev) -> Result<Self, Error> {
        let seal = RecordKey::cluster_seal();
        if revision(view, &seal)? != seal_epoch {
            return Err(Error::Sealed);
        }
        let read = vec![Expect { key: seal, rev: seal_epoch }];
        Ok(Self { view, barrier, keyring: barrier.keyring()?, read })
    }

    /// The keyring of this view.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The change stands only if there is no such record.
    ///
    /// # Errors
    /// [`Error::Internal`] when one was read: a fault in the decision.
    pub fn expect_absence(&mut self, key: RecordKey) -> Result<(), Error> {
        match self.read.iter().find(|e| e.key == key) {
            None => self.read.push(Expect { key, rev: 0 }),
            Some(read) if read.rev == 0 => {}
            Some(_) => return Err(Error::Internal("a decision creates what is there")),
        }
        Ok(())
    }

    /// Everything read or expected, each once, in the order of a batch.
    pub fn into_expects(mut self) -> Vec<Expect> {
        self.read.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        self.read
    }
}

impl Facts for EngineFacts<'_> {
    type Error = Error;

    fn read(&mut self, name: &RecordName) -> Result<Option<Record>, Error> {
        let key = Barrier::key_of(&self.keyring, name);
        let found = self.view.get(&key).map_err(unreadable)?;
        let rev = found.as_ref().map_or(0, |(rev, _)| *rev);
        let record =
            found.map(|(_, value)| self.barrier.record(&self.keyring, &key, Some(name), &value)).transpose()?;
        if !self.read.iter().any(|e| e.key == key) {
            self.read.push(Expect { key, rev });
        }
        Ok(record)
    }
}

/// The revision of a record in a view; 0 = absent.
pub fn revision(view: &View, key: &RecordKey) -> Result<Rev, Error> {
    Ok(view.get(key).map_err(unreadable)?.map_or(0, |(rev, _)| rev))
}

/// The state's storage failed.
pub fn unreadable(e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::InvalidData => Error::Damaged(e.to_string()),
        _ => Error::Unavailable(format!("this node's state can't be read ({e}); look at its disk")),
    }
}
