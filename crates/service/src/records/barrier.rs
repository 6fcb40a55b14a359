//! Between records as decisions see them and records as the replicas keep them: blinded names, encrypted bodies.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use quorate_core::REPLACE_MEMBER;
use quorate_core::batch::{Batch, Expect, Op};
use quorate_core::decide::Write;
use quorate_core::id::{BatchId, ClusterId, GroupId, Lineage};
use quorate_core::key_spec::Kind;
use quorate_core::level::Level;
use quorate_core::record::{KeyVersionRecord, Record, RecordName, SealRecord, Unreadable};
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::seam::Entropy;
use quorate_crypto::{Keyring, SecretBytes, WriterId};

use super::Placed;
use crate::error::Error;

/// Whose records they are.
#[derive(Clone, Copy)]
pub struct Identity {
    /// Of the data.
    pub lineage: Lineage,
    /// Of the cluster.
    pub cluster: ClusterId,
    /// The Raft group.
    pub group: GroupId,
}

/// Seals and opens records, while the desk is open.
pub struct Barrier {
    /// Opens records.
    keyring: ArcSwapOption<Keyring>,
    /// Seals records and batches while `keyring` is ahead of the log: its newest epoch has not begun there yet.
    writing: ArcSwapOption<Keyring>,
    of: Identity,
    entropy: Arc<dyn Entropy>,
}

impl Barrier {
    pub fn new(keyring: Arc<Keyring>, of: Identity, entropy: Arc<dyn Entropy>) -> Self {
        let keyring = ArcSwapOption::new(Some(keyring));
        Self { keyring, writing: ArcSwapOption::empty(), of, entropy }
    }

    /// Opens records with a successor of the keyring from now on; seals with the one it has until
    /// [`Self::begin_epoch`].
    pub fn read_ahead(&self, successor: &Arc<Keyring>) {
        let Some(now) = self.keyring.load_full() else { return };
        self.writing.compare_and_swap(&None::<Arc<Keyring>>, Some(now));
        self.keyring.rcu(|now| now.as_ref().map(|_| successor.clone()));
    }

    /// The successor's epoch has begun: seals with it too.
    pub fn begin_epoch(&self) {
        self.writing.store(None);
    }

    fn random(&self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.entropy.fill(&mut bytes);
        bytes
    }

    /// Lets the keyring go.
    pub fn close(&self) {
        self.keyring.store(None);
        self.writing.store(None);
    }

    pub fn lineage(&self) -> Lineage {
        self.of.lineage
    }

    /// The keyring. Keep it for a synchronous stretch only, never across an await, so that closing wipes it.
    ///
    /// # Errors
    /// [`Error::Sealed`] once the desk is closed.
    pub fn keyring(&self) -> Result<Arc<Keyring>, Error> {
        self.keyring.load_full().ok_or(Error::Sealed)
    }

    /// Where the record called `name` is kept.
    pub fn key_of(keyring: &Keyring, name: &RecordName) -> RecordKey {
        name.key(|table, true_name| keyring.blind(table, true_name))
    }

    /// Opens a stored value; the result is the record's name and its body. With `name`, that must be its name.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it does not open or is not what its key says.
    pub fn open(
        &self,
        keyring: &Keyring,
        key: &RecordKey,
        name: Option<&RecordName>,
        value: &[u8],
    ) -> Result<(RecordName, SecretBytes), Error> {
        let true_name = name.map(RecordName::true_name);
        let opened = keyring
            .open_record(self.of.lineage, self.of.group, key, true_name.as_deref(), value)
            .map_err(|_| damaged(key))?;
        let name = match name {
            Some(name) => name.clone(),
            None => RecordName::parse(key, &opened.name).map_err(|why| unreadable(key, why))?,
        };
        Ok((name, opened.body))
    }

    /// Opens and decodes a stored value; a version's material stays inside.
    ///
    /// # Errors
    /// [`Error::Damaged`] likewise; [`Error::Newer`].
    pub fn record(
        &self,
        keyring: &Keyring,
        key: &RecordKey,
        name: Option<&RecordName>,
        value: &[u8],
    ) -> Result<Record, Error> {
        if key.table() == Table::Seal {
            return Ok(Record::Seal(SealRecord { key: key.clone(), value: value.to_vec() }));
        }
        let (name, body) = self.open(keyring, key, name, value)?;
        Record::decode(&name, &body).map_err(|why| unreadable(key, why))
    }

    /// The batch of a change, encrypted, with its MAC, in the formats of a level that is in force; each write has its secret, if it
    /// has one.
    ///
    /// # Errors
    /// [`Error::Internal`] when the change breaks a rule of the format: a fault in the decision.
    pub fn batch(
        &self,
        level: Level,
        id: BatchId,
        stamp_ms: u64,
        expects: Vec<Expect>,
        writes: &[Write],
        secrets: &[Option<Placed<'_>>],
    ) -> Result<Vec<u8>, Error> {
        let keyring = self.keyring()?;
        let keyring = self.writing.load_full().unwrap_or(keyring);
        let mut ops = Vec::with_capacity(writes.len());
        for (i, (write, placed)) in writes.iter().zip(secrets).enumerate() {
            let name = write.name();
            let key = Self::key_of(&keyring, &name);
            let record = match write {
                Write::Delete(_) => {
                    ops.push(Op::Delete(key));
                    continue;
                }
                Write::Create(Record::Seal(record)) | Write::Update(Record::Seal(record)) => {
                    ops.push(Op::Put(key, record.value.clone()));
                    continue;
                }
                Write::CreateWith(Record::KeyVersion(head), _) | Write::UpdateWith(Record::KeyVersion(head), _) => {
                    let placed = placed.as_ref().ok_or(Error::Internal("a version is made without material"))?;
                    // What is imported or restored has one already.
                    let material_id = match (head.material_id, head.spec.kind()) {
                        // What a secret is could be guessed, and a guess tried.
                        (id, Kind::Secret) if id == [0; 32] => self.random(),
                        (id, _) if id == [0; 32] => keyring.material_id(head.key, placed.secret),
                        (id, _) => id,
                    };
                    &KeyVersionRecord { material_id, public: placed.public.to_vec(), ..head.clone() }.into()
                }
                // Nothing of a public key alone is secret: the decision has put it in.
                Write::Create(Record::KeyVersion(head)) if !head.public.is_empty() && head.material_id == [0; 32] => {
                    let material_id = keyring.material_id(head.key, &head.public);
                    &KeyVersionRecord { material_id, ..head.clone() }.into()
                }
                Write::Create(record)
                | Write::CreateWith(record, _)
                | Write::Update(record)
                | Write::UpdateKeeping(record)
                | Write::UpdateWith(record, _) => record,
            };
            let secret = placed.map(|placed| placed.secret);
            let (body, writer) = (body(record, level, secret), WriterId { batch: id, op: i as u16 });
            // What could not be read again would be lost.
            Record::decode(&name, &body).map_err(|_| Error::Internal("a record breaks a rule of its format"))?;
            let true_name = name.true_name();
            let value =
                keyring.seal_record(self.of.lineage, self.of.group, &key, writer, &true_name, &body, &*self.entropy);
            ops.push(Op::Put(key, value));
        }
        let batch = Batch {
            lineage: self.of.lineage,
            cluster: self.of.cluster,
            group: self.of.group,
            epoch: keyring.current_epoch(),
            id,
            stamp_ms,
            audit: [0; 32],
            expects,
            ops,
        };
        keyring.seal_batch(&batch).map_err(|_| Error::Internal("a batch breaks a rule of its format"))
    }
}

/// A record's body, with the secret at its end; a version whose material is gone says so by an empty one.
pub fn body(record: &Record, level: Level, secret: Option<&SecretBytes>) -> SecretBytes {
    const NONE: &[u8] = &[];
    let secret = match (secret, record) {
        (Some(secret), _) => Some(&secret[..]),
        (None, Record::KeyVersion(_)) => Some(NONE),
        (None, _) => None,
    };
    let head = record.encode(level);
    // Reserved at once: growing would leave secrets behind in the old allocation.
    let mut body = SecretBytes::new(Vec::with_capacity(head.len() + secret.map_or(0, |secret| 4 + secret.len())));
    body.extend_from_slice(&head);
    if let Some(secret) = secret {
        body.extend_from_slice(&u32::try_from(secret.len()).expect("a secret is far below 4 GiB").to_be_bytes());
        body.extend_from_slice(secret);
    }
    body
}

/// A record that opens, and is not what this version reads.
pub fn unreadable(key: &RecordKey, why: Unreadable) -> Error {
    match why {
        Unreadable::Malformed(_) => damaged(key),
        Unreadable::Newer(what) => Error::Newer(what),
    }
}

/// A record in this node's state can't be what was written.
pub fn damaged(key: &RecordKey) -> Error {
    Error::Damaged(format!("record {key:?} in its state does not open; {REPLACE_MEMBER}"))
}
