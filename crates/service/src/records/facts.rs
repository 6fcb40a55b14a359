//! The facts of one view of the engine, for decisions and for uses that the hot view can't answer.

use std::ops::Bound;
use std::sync::Arc;

use quorate_core::batch::{Expect, Rev};
use quorate_core::decide::View as Facts;
use quorate_core::id::Name;
use quorate_core::record::{Invitation, MemberRecord, Record, RecordName};
use quorate_core::record_key::{RecordKey, Table};
use quorate_crypto::Keyring;
use quorate_replica::View;

use super::barrier::Barrier;
use crate::error::Error;

/// Most records of a table that is read as a whole: those are small.
const LIST_MAX: usize = 1024;

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

    /// The view.
    pub fn view(&self) -> &'a View {
        self.view
    }

    /// The record called `name` and its revision, the index of the entry that wrote it.
    ///
    /// # Errors
    /// When storage fails or the record can't be opened.
    pub fn read_at(&mut self, name: &RecordName) -> Result<Option<(Rev, Record)>, Error> {
        let key = Barrier::key_of(&self.keyring, name);
        let found = self.view.get(&key).map_err(unreadable)?;
        self.note(&key, found.as_ref().map_or(0, |(rev, _)| *rev));
        let Some((rev, value)) = found else { return Ok(None) };
        Ok(Some((rev, self.barrier.record(&self.keyring, &key, Some(name), &value)?)))
    }

    /// What table 0 holds there.
    ///
    /// # Errors
    /// When storage fails.
    pub fn seal_value(&mut self, key: &RecordKey) -> Result<Option<Vec<u8>>, Error> {
        Ok(match self.read_at(&RecordName::Seal(key.clone()))? {
            Some((_, Record::Seal(record))) => Some(record.value),
            _ => None,
        })
    }

    /// The record of the member called that.
    ///
    /// # Errors
    /// When storage fails or it can't be opened.
    pub fn member(&mut self, name: &str) -> Result<Option<MemberRecord>, Error> {
        // What is no name is nobody's.
        let Ok(name) = name.parse::<Name>() else { return Ok(None) };
        Ok(match self.read_at(&RecordName::Member(name))? {
            Some((_, Record::Member(member))) => Some(member),
            _ => None,
        })
    }

    /// All members.
    ///
    /// # Errors
    /// Likewise.
    pub fn members(&mut self) -> Result<Vec<MemberRecord>, Error> {
        let member = |record| if let Record::Member(member) = record { Some(member) } else { None };
        Ok(self.read_all(Table::Member)?.into_iter().filter_map(member).collect())
    }

    /// All invitations.
    ///
    /// # Errors
    /// Likewise.
    pub fn invitations(&mut self) -> Result<Vec<Invitation>, Error> {
        let invitation = |record| if let Record::Invitation(invitation) = record { Some(invitation) } else { None };
        Ok(self.read_all(Table::Invitation)?.into_iter().filter_map(invitation).collect())
    }

    /// All records of a small table. The change stands only if none of them has moved; one that comes does not matter.
    ///
    /// # Errors
    /// Likewise.
    fn read_all(&mut self, table: Table) -> Result<Vec<Record>, Error> {
        let rows = self.view.scan(table, Bound::Unbounded, LIST_MAX).map_err(unreadable)?;
        let mut records = Vec::with_capacity(rows.len());
        for (key, rev, value) in rows {
            records.push(self.barrier.record(&self.keyring, &key, None, &value)?);
            self.note(&key, rev);
        }
        Ok(records)
    }

    fn note(&mut self, key: &RecordKey, rev: Rev) {
        if !self.read.iter().any(|e| e.key == *key) {
            self.read.push(Expect { key: key.clone(), rev });
        }
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
        Ok(self.read_at(name)?.map(|(_, record)| record))
    }
}

/// The revision of the last cluster-wide seal in `view`; 0 = never sealed.
pub fn seal_epoch(view: &View) -> Result<Rev, Error> {
    revision(view, &RecordKey::cluster_seal())
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
