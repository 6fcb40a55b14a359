//! The facts of one view of the engine, for decisions and for uses that the hot view can't answer.

use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::REPLACE_MEMBER;
use quorate_core::batch::{Expect, Rev};
use quorate_core::facts::{Basis, Facts, Materials, Of, Version};
use quorate_core::id::{KeyId, KeyVersion, NodeId};
use quorate_core::record::{KeyVersionRecord, Kind, Origin, Record, RecordName, Stored, UseRecord};
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::time::Time;
use quorate_crypto::material::Material;
use quorate_crypto::{Keyring, SecretBytes};
use quorate_replica::View;

use super::Records;
use super::barrier::{Barrier, damaged, unreadable as undecoded};
use crate::error::Error;

/// Most records of a table that is read as a whole: those are small.
const LIST_MAX: usize = 1024;

/// Nodes whose uses of a key are told at a time: more have hardly ever been in one cluster.
const NODES_MAX: usize = 128;

/// What is known of one record at one index. Values are shared: a use keeps them past the view, and material is wiped when the
/// last holder lets go.
#[derive(Clone)]
pub enum Known {
    /// There is no such record.
    Absent,
    /// It is this.
    Record(Arc<Record>),
    /// It is this version, with its material unless that is gone. It counts only beside that revision of its key's record:
    /// nothing is known any more of a key that was changed.
    Version(Arc<Record>, Option<Arc<Material>>, Arc<RecordKey>, Rev),
}

/// What was read of one record.
pub struct Noted {
    /// Where it is.
    pub key: RecordKey,
    /// The index of the entry that wrote it; 0 = there is none.
    pub rev: Rev,
    /// What is known of it, unless nobody would ask again.
    pub known: Option<Known>,
}

/// One view, opened with the keyring; notes what was read: a batch expects it, and the hot view is offered it.
pub struct EngineFacts<'a> {
    view: &'a View,
    barrier: &'a Barrier,
    keyring: Arc<Keyring>,
    time: Time,
    dev: bool,
    read: Vec<Noted>,
}

impl<'a> EngineFacts<'a> {
    /// Over `view`, which must be of the seal epoch the records are served in.
    ///
    /// # Errors
    /// [`Error::Sealed`] when the cluster was sealed since, or the records are closed.
    pub fn new(view: &'a View, records: &'a Records) -> Result<Self, Error> {
        let keyring = records.barrier.keyring()?;
        let time = records.time(view);
        let mut facts =
            Self { view, barrier: &records.barrier, keyring, time, dev: records.dev, read: Vec::with_capacity(4) };
        let (epoch, _) = facts.at(&RecordName::Seal(records.seal_key.clone()))?;
        if epoch == records.seal_epoch { Ok(facts) } else { Err(Error::Sealed) }
    }

    /// The keyring of this view.
    pub fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// The view.
    pub fn view(&self) -> &'a View {
        self.view
    }

    /// The record called `name`, if there is one, and its revision: the index of the entry that wrote it, or 0.
    ///
    /// # Errors
    /// When storage fails or the record can't be opened.
    pub fn at(&mut self, name: &RecordName) -> Result<(Rev, Option<Arc<Record>>), Error> {
        let key = Barrier::key_of(&self.keyring, name);
        let noted = self.read.iter().find(|noted| noted.key == key);
        match noted {
            Some(Noted { known: Some(Known::Absent), .. }) => return Ok((0, None)),
            Some(Noted { rev, known: Some(Known::Record(record)), .. }) => return Ok((*rev, Some(record.clone()))),
            _ => {}
        }
        let is_noted = noted.is_some();
        let (rev, record, known) = match self.view.get(&key).map_err(unreadable)? {
            None => (0, None, Some(Known::Absent)),
            Some((rev, value)) => {
                let record = Arc::new(self.barrier.record(&self.keyring, &key, Some(name), &value)?);
                // A version's record alone is not worth keeping: whoever asks for it in uses asks for its material.
                let known = (!matches!(*record, Record::KeyVersion(_))).then(|| Known::Record(record.clone()));
                (rev, Some(record), known)
            }
        };
        if !is_noted {
            self.read.push(Noted { key, rev, known });
        }
        Ok((rev, record))
    }

    /// The material of a version, which the change keeps.
    ///
    /// # Errors
    /// Likewise; [`Error::Internal`] when no version is called so.
    pub fn secret(&self, name: &RecordName) -> Result<SecretBytes, Error> {
        let RecordName::KeyVersion((id, version)) = name else {
            return Err(Error::Internal("a decision keeps a secret where none is"));
        };
        let key = Barrier::key_of(&self.keyring, name);
        let value = self.view.get(&key).map_err(unreadable)?;
        let (_, value) = value.ok_or(Error::Internal("a decision keeps the secret of a record that is not there"))?;
        let (_, body) = self.barrier.open(&self.keyring, &key, Some(name), &value)?;
        let (_, secret) = KeyVersionRecord::split(*id, *version, &body).map_err(|why| undecoded(&key, why))?;
        Ok(SecretBytes::new(secret.to_vec()))
    }

    /// All records of a kind of which there are few. The change stands only if none of them has moved; one that comes does not
    /// matter.
    ///
    /// # Errors
    /// Likewise.
    pub fn all<K: Kind + Stored>(&mut self) -> Result<Vec<Of<K>>, Error> {
        let rows = self.view.scan(K::TABLE, Bound::Unbounded, LIST_MAX).map_err(unreadable)?;
        let mut records = Vec::with_capacity(rows.len());
        for (key, rev, value) in rows {
            records.extend(Of::new(Arc::new(self.barrier.record(&self.keyring, &key, None, &value)?)));
            self.note(key, rev, None);
        }
        Ok(records)
    }

    /// What nodes have written of their uses of a key. Whoever removes them has marked the key before, so that none comes.
    ///
    /// # Errors
    /// Likewise.
    pub fn uses(&self, key: KeyId) -> Result<Vec<UseRecord>, Error> {
        let mut records = Vec::new();
        for (at, _, value) in self.written_uses(key)? {
            match self.barrier.record(&self.keyring, &at, None, &value)? {
                Record::Use(record) => records.push(record),
                _ => return Err(damaged(&at)),
            }
        }
        Ok(records)
    }

    /// The nodes that have written of their uses of a key, noted unopened: what they have written may be damaged, or newer than this
    /// version, and is removed all the same.
    ///
    /// # Errors
    /// When storage fails.
    pub fn users(&mut self, key: KeyId) -> Result<Vec<NodeId>, Error> {
        let mut nodes = Vec::new();
        for (at, rev, _) in self.written_uses(key)? {
            nodes.push(NodeId(u64::from_be_bytes(at.suffix().try_into().map_err(|_| damaged(&at))?)));
            self.note(at, rev, None);
        }
        Ok(nodes)
    }

    fn written_uses(&self, key: KeyId) -> Result<Vec<(RecordKey, Rev, Bytes)>, Error> {
        let first = Barrier::key_of(&self.keyring, &RecordName::Use((key, NodeId(0))));
        let rows = self.view.scan(Table::Use, Bound::Included(&first), NODES_MAX).map_err(unreadable)?;
        let of_key = |at: &RecordKey| (at.prefix(), at.blind()) == (first.prefix(), first.blind());
        Ok(rows.into_iter().take_while(|(at, ..)| of_key(at)).collect())
    }

    fn note(&mut self, key: RecordKey, rev: Rev, known: Option<Known>) {
        if !self.read.iter().any(|noted| noted.key == key) {
            self.read.push(Noted { key, rev, known });
        }
    }

    /// The change stands only if there is no such record.
    ///
    /// # Errors
    /// [`Error::Internal`] when one was read: a fault in the decision.
    pub fn expect_absence(&mut self, key: RecordKey) -> Result<(), Error> {
        match self.read.iter().find(|noted| noted.key == key) {
            None => self.read.push(Noted { key, rev: 0, known: None }),
            Some(read) if read.rev == 0 => {}
            Some(_) => return Err(Error::Internal("a decision creates what is there")),
        }
        Ok(())
    }

    /// Everything that was read.
    pub fn into_read(self) -> Vec<Noted> {
        self.read
    }

    /// Everything read or expected, each once, in the order of a batch.
    pub fn into_expects(self) -> Vec<Expect> {
        let mut expects: Vec<_> = self.read.into_iter().map(|Noted { key, rev, .. }| Expect { key, rev }).collect();
        expects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        expects
    }
}

impl Facts for EngineFacts<'_> {
    type Error = Error;

    fn read(&mut self, name: &RecordName) -> Result<Option<Arc<Record>>, Error> {
        Ok(self.at(name)?.1)
    }
}

impl Basis for EngineFacts<'_> {
    fn time(&self) -> Time {
        self.time
    }
    fn is_dev(&self) -> bool {
        self.dev
    }
}

impl Materials for EngineFacts<'_> {
    type Material = Arc<Material>;

    fn version(&mut self, id: KeyId, version: KeyVersion) -> Result<Option<Version<Arc<Material>>>, Error> {
        let (key_rev, key_record) = self.at(&RecordName::Key(id))?;
        let of = Arc::new(Barrier::key_of(&self.keyring, &RecordName::Key(id)));
        let name = RecordName::KeyVersion((id, version));
        let key = Barrier::key_of(&self.keyring, &name);
        // Of many uses with one request each asks: material is parsed once.
        if let Some(Known::Version(record, material, ..)) =
            self.read.iter().find(|noted| noted.key == key).and_then(|noted| noted.known.clone())
        {
            return Ok(Of::new(record).map(|head| Version { head, material }));
        }
        let Some((rev, value)) = self.view.get(&key).map_err(unreadable)? else {
            if let Some(Record::Key(key)) = key_record.as_deref()
                && key.has(version)
            {
                let what = format!("version {version} of key {id} is missing in its state; {REPLACE_MEMBER}");
                return Err(Error::Damaged(what));
            }
            self.note(key, 0, Some(Known::Absent));
            return Ok(None);
        };
        let (_, body) = self.barrier.open(&self.keyring, &key, Some(&name), &value)?;
        let (head, bytes) = KeyVersionRecord::split(id, version, &body).map_err(|why| undecoded(&key, why))?;
        let is_public = matches!(key_record.as_deref(), Some(Record::Key(of)) if of.origin == Origin::Public);
        let material = match bytes {
            [] if is_public => Some(Material::public_alone(head.spec, &head.public)),
            [] => None,
            bytes => Some(Material::read(head.spec, bytes)),
        };
        let material = material.map(|read| read.map(Arc::new).ok_or_else(|| damaged(&key))).transpose()?;
        let record = Arc::new(Record::from(head));
        self.note(key, rev, Some(Known::Version(record.clone(), material.clone(), of, key_rev)));
        Ok(Of::new(record).map(|head| Version { head, material }))
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
