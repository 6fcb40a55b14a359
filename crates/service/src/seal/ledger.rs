//! Reading and writing the records of members, invitations and seals while unsealed: read index → one view → decide →
//! batch, again after a conflict (key-log §1.7). Keys have the desk's own machinery.

use std::ops::Bound;
use std::sync::Arc;

use quorate_core::REPLACE_MEMBER;
use quorate_core::batch::{Batch, Expect, Op, Outcome, Rev};
use quorate_core::id::{ClusterId, Lineage};
use quorate_core::record_key::{RecordKey, Table};
use quorate_crypto::{Keyring, WriterId};
use quorate_replica::{ProposeError, Replica, Roster, View, World};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::node::GROUP;

/// How often a decision is taken before the caller is told that others keep interfering.
const ATTEMPTS_MAX: u32 = 8;
/// Most members and invitations that are listed.
const LIST_MAX: usize = 1024;

/// What an unsealed node reads and writes records with.
pub(crate) struct Ledger {
    pub(crate) replica: Replica,
    pub(crate) world: World,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) lineage: Lineage,
    pub(crate) cluster: ClusterId,
    pub(crate) seal_epoch: Rev,
}

/// One write that a decision asks for, with the revision the decision read.
pub(crate) enum Change {
    /// Encrypts `body` into a record.
    Put { table: Table, name: Vec<u8>, body: Zeroizing<Vec<u8>>, rev: Rev },
    /// Removes a record.
    Delete { table: Table, name: Vec<u8>, rev: Rev },
    /// Writes a record of table 0 as it is.
    PutSeal { key: RecordKey, value: Vec<u8>, rev: Rev },
    /// Removes a record of table 0.
    DeleteSeal { key: RecordKey, rev: Rev },
    /// Writes nothing, but the decision rests on this revision.
    Expect { key: RecordKey, rev: Rev },
}

/// A record, opened.
pub(crate) struct Record<T> {
    pub(crate) rev: Rev,
    pub(crate) name: Vec<u8>,
    pub(crate) body: T,
}

impl Ledger {
    /// A view at or past everything acknowledged before this call.
    ///
    /// # Errors
    /// [`Error::Unavailable`] without a majority, [`Error::Sealed`] when the cluster was sealed since this node opened.
    pub(crate) async fn view(&self, deadline: Instant) -> Result<View, Error> {
        self.replica.read_index(deadline).await.map_err(|e| Error::Unavailable(e.to_string()))?;
        let view = self.replica.view().map_err(|e| Error::Unavailable(e.to_string()))?;
        if seal_epoch(&view)? != self.seal_epoch { Err(Error::Sealed) } else { Ok(view) }
    }

    /// The record called `name`, if it is there.
    pub(crate) fn get<T>(
        &self,
        view: &View,
        table: Table,
        name: &[u8],
        decode: impl Fn(&[u8]) -> Result<T, quorate_core::codec::Malformed>,
    ) -> Result<Option<Record<T>>, Error> {
        let key = self.key(table, name);
        let Some((rev, value)) = view.get(&key).map_err(unreadable)? else { return Ok(None) };
        self.open(&key, Some(name), rev, &value, decode).map(Some)
    }

    /// All records of a table.
    pub(crate) fn list<T>(
        &self,
        view: &View,
        table: Table,
        decode: impl Fn(&[u8]) -> Result<T, quorate_core::codec::Malformed>,
    ) -> Result<Vec<Record<T>>, Error> {
        let rows = view.scan(table, Bound::Unbounded, LIST_MAX).map_err(unreadable)?;
        rows.iter().map(|(key, rev, value)| self.open(key, None, *rev, value, &decode)).collect()
    }

    fn open<T>(
        &self,
        key: &RecordKey,
        name: Option<&[u8]>,
        rev: Rev,
        value: &[u8],
        decode: impl Fn(&[u8]) -> Result<T, quorate_core::codec::Malformed>,
    ) -> Result<Record<T>, Error> {
        let damaged = || Error::Damaged(format!("record {key:?} does not open; {REPLACE_MEMBER}"));
        let opened = self.keyring.open_record(self.lineage, GROUP, key, name, value).map_err(|_| damaged())?;
        let body = decode(&opened.body).map_err(|_| damaged())?;
        Ok(Record { rev, name: opened.name, body })
    }

    pub(crate) fn key(&self, table: Table, name: &[u8]) -> RecordKey {
        self.keyring.record_key(table, name)
    }

    /// Takes `decide` from a fresh view to a committed batch; decides again after a conflict. No changes = no batch.
    ///
    /// # Errors
    /// Those of `decide`, and of getting a batch through. What `decide` returned is given back with the batch's index.
    pub(crate) async fn commit<T>(
        &self,
        deadline: Instant,
        mut decide: impl FnMut(&View) -> Result<(Vec<Change>, T), Error>,
    ) -> Result<(u64, T), Error> {
        for _ in 0..ATTEMPTS_MAX {
            let view = self.view(deadline).await?;
            let (changes, answer) = decide(&view)?;
            if changes.is_empty() {
                return Ok((view.applied(), answer));
            }
            drop(view);
            match self.propose(changes, deadline).await? {
                Outcome::Applied(index) => return Ok((index, answer)),
                Outcome::Conflict { .. } => {}
                Outcome::Fenced | Outcome::Malformed => {
                    return Err(Error::Unavailable("this node's batch was refused: it was removed or replaced".into()));
                }
                Outcome::TooOld => return Err(Error::UnknownOutcome),
            }
        }
        Err(Error::Contended { attempts: ATTEMPTS_MAX })
    }

    /// Adds to `changes` what the roster becomes, if it becomes another one, signed; returns the serial to be carried out. Of
    /// a state that has no roster, it goes on from Raft's membership.
    pub(crate) fn change_roster(
        &self,
        view: &View,
        changes: &mut Vec<Change>,
        next: impl FnOnce(&Roster) -> Result<Option<Roster>, String>,
    ) -> Result<u64, Error> {
        let (rev, now) = match view.roster().map_err(unreadable)? {
            Some((rev, signed)) => (rev, signed.roster().clone()),
            None => (0, Roster::before_the_first(self.cluster, GROUP, view.membership())),
        };
        let Some(next) = next(&now).map_err(Error::WrongState)? else { return Ok(now.serial) };
        let value = next.signed(|list| self.keyring.sign_roster(list));
        changes.push(Change::PutSeal { key: RecordKey::roster(), value, rev });
        Ok(next.serial)
    }

    /// Writes what the roster becomes, and nothing else, if it becomes another one; returns the serial to be carried out.
    pub(crate) async fn commit_roster(
        &self,
        deadline: Instant,
        next: impl Fn(&Roster) -> Result<Option<Roster>, String>,
    ) -> Result<u64, Error> {
        let decide = |view: &View| {
            let mut changes = Vec::new();
            let serial = self.change_roster(view, &mut changes, &next)?;
            Ok((changes, serial))
        };
        Ok(self.commit(deadline, decide).await?.1)
    }

    async fn propose(&self, changes: Vec<Change>, deadline: Instant) -> Result<Outcome, Error> {
        let seq = self.replica.open_seq(deadline).await.map_err(not_proposed)?;
        let batch = self.batch(&seq.id(), changes)?;
        self.replica.propose(batch.into(), deadline).await.map_err(not_proposed)
    }

    /// The batch's bytes with its MAC. Every batch rests on the seal epoch: none gets in after a cluster-wide seal.
    fn batch(&self, id: &quorate_core::id::BatchId, changes: Vec<Change>) -> Result<Vec<u8>, Error> {
        let mut expects = Vec::with_capacity(changes.len() + 1);
        let mut ops = Vec::with_capacity(changes.len());
        for change in changes {
            let writer = WriterId { batch: *id, op: ops.len() as u16 };
            let (key, rev, op) = match change {
                Change::Put { table, name, body, rev } => {
                    let key = self.key(table, &name);
                    let value =
                        self.keyring.seal_record(self.lineage, GROUP, &key, writer, &name, &body, &*self.world.entropy);
                    (key.clone(), rev, Some(Op::Put(key, value)))
                }
                Change::Delete { table, name, rev } => {
                    let key = self.key(table, &name);
                    (key.clone(), rev, Some(Op::Delete(key)))
                }
                Change::PutSeal { key, value, rev } => (key.clone(), rev, Some(Op::Put(key, value))),
                Change::DeleteSeal { key, rev } => (key.clone(), rev, Some(Op::Delete(key))),
                Change::Expect { key, rev } => (key, rev, None),
            };
            expects.push(Expect { key, rev });
            ops.extend(op);
        }
        let seal = RecordKey::cluster_seal();
        if !expects.iter().any(|e| e.key == seal) {
            expects.push(Expect { key: seal, rev: self.seal_epoch });
        }
        expects.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let batch = Batch {
            lineage: self.lineage,
            cluster: self.cluster,
            group: GROUP,
            epoch: self.keyring.current_epoch(),
            id: *id,
            stamp_ms: self.world.wall.now_ms(),
            audit: [0; 32],
            expects,
            ops,
        };
        self.keyring.seal_batch(&batch).map_err(|_| Error::Internal("a batch breaks a rule of the format"))
    }
}

/// The revision of the last cluster-wide seal in `view`; 0 = never sealed.
pub(crate) fn seal_epoch(view: &View) -> Result<Rev, Error> {
    Ok(view.get(&RecordKey::cluster_seal()).map_err(unreadable)?.map_or(0, |(rev, _)| rev))
}

pub(crate) fn unreadable(e: std::io::Error) -> Error {
    Error::Unavailable(format!("this node's state can't be read ({e}); look at its disk"))
}

fn not_proposed(e: ProposeError) -> Error {
    match e {
        ProposeError::Unknown(_) => Error::UnknownOutcome,
        ProposeError::NotAccepted(why) => Error::Unavailable(why),
        ProposeError::NoSpace(why) => Error::NoSpace(why),
    }
}
