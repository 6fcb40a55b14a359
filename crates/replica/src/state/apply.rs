//! Apply (key-log §1.3): log entries and a view in, writes and outcomes out. Pure and deterministic: the same on
//! every node, whatever it has unsealed and however its stream of entries was cut into groups.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::batch::{Batch, Entry, Expect, Genesis, Op, Outcome, Rev};
use quorate_core::codec::{Malformed, Writer};
use quorate_core::id::{BatchId, NodeId};
use quorate_core::level::{Levels, Unfit};
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::seeded::{self, Bug};
use quorate_core::session::{Claim, Open, Session};
use quorate_core::time::ConfirmedTime;
use thiserror::Error;

use super::digest::LtHash;
use super::engine::{View, WriteSet, join_value, split_value};
use super::meta::Meta;
use super::session::{self, Verdict};
use crate::level::{SignedLevel, level_in, level_of};
use crate::log::Checkpoint;
use crate::roster::{SignedRoster, roster_of};

/// Mismatches reported in a conflict.
const MISMATCHES_MAX: usize = 8;
/// Records removed at a time when a member's session is forgotten.
const REMOVE_STEP: usize = 1000;
/// Every so many entries the digest is sampled, for nodes to compare (key-log §5.4).
pub(super) const SAMPLE_INTERVAL: u64 = 1024;

/// An entry of the log, as apply needs it.
#[derive(Clone)]
pub struct ToApply<'a> {
    /// Its index: one more than that of the entry before.
    pub index: u64,
    /// Its encoded log id.
    pub log_id: &'a [u8],
    /// What it is.
    pub what: What<'a>,
}

/// Kinds of log entries.
#[derive(Clone)]
pub enum What<'a> {
    /// Raft's own empty entry.
    Blank,
    /// A membership: the caller's encoding, kept in [`Meta::membership`], and the ids of all its nodes (voters and
    /// learners, of both sets of a joint one).
    Membership(&'a [u8], BTreeSet<NodeId>),
    /// A `quorate_core::batch::Entry`, encoded.
    Entry(&'a [u8]),
}

/// A record that an entry wrote: its key, its revision now (0 = removed) and its value now.
pub type Touched = (RecordKey, Rev, Option<Bytes>);

/// What an entry did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applied {
    /// The entry.
    pub index: u64,
    /// For its proposer; `Applied` for entries that are no batch.
    pub outcome: Outcome,
    /// The records it wrote, without sessions.
    pub touched: Vec<Touched>,
    /// Whose it is.
    pub whose: Whose,
}

/// Whose an applied entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// An origin's batch.
    Batch(BatchId),
    /// An origin's, which begins a session.
    Open(Session),
    /// Nobody's in particular.
    Log,
}

/// Reads a record's value from the state that something is judged by.
pub type ReadRecord<'a> = &'a dyn Fn(&RecordKey) -> io::Result<Option<Bytes>>;

/// Checks the MACs in the log; given while the node is unsealed.
pub trait BatchVerifier: Send + Sync {
    /// True when the MAC is right, or when `state` shows that this verifier can't tell.
    ///
    /// # Errors
    /// When the state can't be read.
    fn verify(&self, batch: &[u8], state: ReadRecord<'_>) -> io::Result<bool>;

    /// The same for the MAC of an entry that begins a session.
    ///
    /// # Errors
    /// When the state can't be read.
    fn verify_open(&self, open: &Open, state: ReadRecord<'_>) -> io::Result<bool>;
}

/// Checks what the anchor key signed, against the seal configuration (its canonical bytes) that a state holds: no key
/// is needed for that, so that every node does it, sealed or not, and comes to the same result.
pub trait SealCheck: Send + Sync {
    /// Whether it signed that this session begins.
    fn opens(&self, seal_config: &[u8], open: &Open) -> bool;

    /// Whether it signed what an origin claims.
    fn claims(&self, seal_config: &[u8], claim: &Claim, signature: &[u8; 64]) -> bool;

    /// Whether it signed this list of all members.
    fn lists(&self, seal_config: &[u8], list: &[u8], signature: &[u8; 64]) -> bool;

    /// Whether it signed this feature level.
    fn levels(&self, seal_config: &[u8], said: &[u8], signature: &[u8; 64]) -> bool;

    /// Whether enough custodians of this configuration signed `next` (canonical bytes too) as its successor.
    fn succeeds(&self, seal_config: &[u8], next: &[u8]) -> bool;
}

/// The canonical bytes of the seal configuration in force; `None` before genesis.
pub(crate) fn seal_config(record: ReadRecord<'_>) -> io::Result<Option<Bytes>> {
    let Some(generation) = record(&RecordKey::seal_generation())? else { return Ok(None) };
    let Ok(generation) = <[u8; 4]>::try_from(&generation[..]) else { return Ok(None) };
    record(&RecordKey::seal_config(u32::from_be_bytes(generation)))
}

/// The roster of all members; `None` before the first.
pub(crate) fn recorded_roster(record: ReadRecord<'_>) -> io::Result<Option<SignedRoster>> {
    record(&RecordKey::roster())?.map(SignedRoster::decode).transpose().map_err(damaged)
}

/// Why applying stopped before an entry. Never skipped over: that would make this state another one.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// A batch's MAC is wrong: a node without keys made it.
    #[error(
        "log entry {index} is forged: its MAC is wrong. This node stops serving. Find out which node led when it was \
         proposed, remove that node, and void the entry by the custodians' quorum"
    )]
    Forged {
        /// The entry.
        index: u64,
    },
    /// It raises the feature level to one that this version does not speak.
    #[error("log entry {index} raises the feature level: {unfit}")]
    Raised {
        /// The entry.
        index: u64,
        /// To which.
        unfit: Unfit,
    },
    /// Entries came in a wrong order: a bug, or a log that is not this state's.
    #[error(
        "log entry {index} cannot follow {applied:?}: this state belongs to another log; {todo}",
        todo = quorate_core::REPLACE_MEMBER
    )]
    OutOfOrder {
        /// The entry.
        index: u64,
        /// The last applied one.
        applied: Option<u64>,
    },
    /// The engine failed; nothing of this group is applied, and the state must be opened again.
    #[error("the state cannot be read or written: {0}. Check the disk, then start this node again")]
    Io(#[from] io::Error),
}

/// What a group of entries amounts to.
pub(super) struct Run {
    pub(super) applied: Vec<Applied>,
    pub(super) writes: WriteSet,
    pub(super) meta: Meta,
    pub(super) digest: LtHash,
    /// Digests at the sampled indexes.
    pub(super) samples: Vec<Checkpoint>,
    /// Why it ends before the group's end.
    pub(super) stop: Option<ApplyError>,
}

/// What every entry of a log is held to.
pub(super) struct Rules {
    pub(super) seals: Arc<dyn SealCheck>,
    /// What this node speaks.
    pub(super) levels: Levels,
    /// Each index follows the one before. Off only in openraft's own suite, whose logs have holes.
    pub(super) gapless: bool,
}

/// Applies entries on top of a view whose meta and digest are given.
pub(super) fn run(
    view: &dyn View,
    meta: Meta,
    digest: LtHash,
    entries: &[ToApply<'_>],
    rules: &Rules,
    verifier: Option<&dyn BatchVerifier>,
) -> io::Result<Run> {
    let mut overlay = Overlay { view, writes: WriteSet::new(), digest };
    let mut run = Run {
        applied: Vec::with_capacity(entries.len()),
        writes: WriteSet::new(),
        meta,
        digest: LtHash::default(),
        samples: Vec::new(),
        stop: None,
    };
    for entry in entries {
        let applied = run.meta.applied.as_ref().map(|(index, _)| *index);
        let next = applied.map_or(0, |applied| applied.saturating_add(1));
        if entry.index < next || entry.index > next && rules.gapless {
            run.stop = Some(ApplyError::OutOfOrder { index: entry.index, applied });
            break;
        }
        let mut step = Step {
            index: entry.index,
            meta: &mut run.meta,
            overlay: &mut overlay,
            seals: &*rules.seals,
            levels: rules.levels,
            verifier,
            whose: Whose::Log,
        };
        match step.take(&entry.what)? {
            Ok((outcome, touched)) => {
                let whose = step.whose;
                run.applied.push(Applied { index: entry.index, outcome, touched, whose });
            }
            Err(stop) => {
                run.stop = Some(stop);
                break;
            }
        }
        run.meta.chain = next_chain(&run.meta.chain, entry);
        run.meta.applied = Some((entry.index, Bytes::copy_from_slice(entry.log_id)));
        if entry.index % SAMPLE_INTERVAL == 0 {
            let digest = overlay.digest.hash();
            run.samples.push(Checkpoint { index: entry.index, digest, chain: run.meta.chain });
        }
    }
    (run.writes, run.digest) = (overlay.writes, overlay.digest);
    if !run.applied.is_empty() {
        run.meta.write(&run.digest, &mut run.writes);
    }
    Ok(run)
}

fn next_chain(chain: &[u8; 32], entry: &ToApply<'_>) -> [u8; 32] {
    let (kind, payload) = match &entry.what {
        What::Blank => (0, &[][..]),
        What::Membership(bytes, _) => (1, *bytes),
        What::Entry(bytes) => (2, *bytes),
    };
    let head =
        Writer::new().raw(chain).u64(entry.index).field(entry.log_id).u8(kind).u32(payload.len() as u32).finish();
    let mut hash = blake3::Hasher::new_derive_key("quorate/v1/log-chain");
    *hash.update(&head).update(payload).finalize().as_bytes()
}

type Effect = (Outcome, Vec<Touched>);

/// One entry being applied. Errors leave nothing behind: the checks come before the first write.
struct Step<'a, 'v> {
    index: u64,
    meta: &'a mut Meta,
    overlay: &'a mut Overlay<'v>,
    seals: &'a dyn SealCheck,
    levels: Levels,
    verifier: Option<&'a dyn BatchVerifier>,
    whose: Whose,
}

impl Step<'_, '_> {
    fn take(&mut self, what: &What<'_>) -> io::Result<Result<Effect, ApplyError>> {
        let bytes = match what {
            What::Blank => return Ok(Ok((Outcome::Applied(self.index), Vec::new()))),
            What::Membership(bytes, members) => {
                self.membership(bytes, members)?;
                return Ok(Ok((Outcome::Applied(self.index), Vec::new())));
            }
            What::Entry(bytes) => *bytes,
        };
        // What no version at the level in force writes does nothing, here as on every other node: whoever leads could append
        // anything. Formats and kinds that come with a higher level follow the raise to it, where older versions have halted;
        // who knows them takes them as malformed before it, too.
        let effect = match Entry::decode(bytes) {
            Err(_) => (Outcome::Malformed, Vec::new()),
            Ok(Entry::Tick(ms)) => {
                self.meta.cluster_time_ms = self.meta.cluster_time_ms.max(ms);
                (Outcome::Applied(self.index), Vec::new())
            }
            Ok(Entry::Genesis(genesis)) => return self.genesis(&genesis),
            Ok(Entry::Batch(batch)) => return self.batch(&batch),
            Ok(Entry::Open(open)) => return self.open(&open),
        };
        Ok(Ok(effect))
    }

    fn membership(&mut self, bytes: &[u8], members: &BTreeSet<NodeId>) -> io::Result<()> {
        for gone in self.meta.members.difference(members) {
            session::forget(self.overlay, *gone)?;
        }
        self.meta.members.clone_from(members);
        self.meta.membership = Bytes::copy_from_slice(bytes);
        Ok(())
    }

    /// The first records; a second genesis changes nothing.
    fn genesis(&mut self, genesis: &Genesis) -> io::Result<Result<Effect, ApplyError>> {
        let nothing = Ok(Ok((Outcome::Malformed, Vec::new())));
        if self.meta.lineage.is_some() || self.meta.cluster.is_some_and(|c| c != genesis.cluster) {
            return nothing;
        }
        if !genesis.level.is_empty() {
            let signed = SignedLevel::decode(&genesis.level).ok();
            let holds = |l: &SignedLevel| l.holds(self.seals, &genesis.seal_config, genesis.cluster, self.meta.group);
            let Some(signed) = signed.filter(holds) else { return nothing };
            if let Err(unfit) = self.levels.check(signed.level()) {
                return Ok(Err(ApplyError::Raised { index: self.index, unfit }));
            }
        }
        self.meta.lineage = Some(genesis.lineage);
        self.meta.cluster_time_ms = self.meta.cluster_time_ms.max(genesis.time_ms);
        let mut records = vec![
            (RecordKey::seal_config(1), genesis.seal_config.clone()),
            (RecordKey::seal_generation(), 1u32.to_be_bytes().to_vec()),
            (RecordKey::envelope(&genesis.node_name), genesis.envelope.clone()),
            (RecordKey::keyring(), genesis.keyring.clone()),
        ];
        if !genesis.level.is_empty() {
            records.push((RecordKey::level(), genesis.level.clone()));
        }
        let mut touched = Vec::new();
        for (key, value) in records {
            self.overlay.put(&key, self.index, &value)?;
            touched.push((key, self.index, Some(value.into())));
        }
        Ok(Ok((Outcome::Applied(self.index), touched)))
    }

    fn batch(&mut self, bytes: &[u8]) -> io::Result<Result<Effect, ApplyError>> {
        let nothing = |outcome| Ok(Ok((outcome, Vec::new())));
        let Ok((batch, _)) = Batch::decode(bytes) else { return nothing(Outcome::Malformed) };
        if !self.meta.owns(&batch) {
            return nothing(Outcome::Malformed);
        }
        let Ok(confirmed) = confirmed_time(&batch) else { return nothing(Outcome::Malformed) };
        if let Some(verifier) = self.verifier
            && !verifier.verify(bytes, &|key| self.overlay.value(key))?
        {
            return Ok(Err(ApplyError::Forged { index: self.index }));
        }
        self.whose = Whose::Batch(batch.id);
        if !self.meta.members.contains(&batch.id.origin) {
            return nothing(Outcome::Fenced);
        }
        if let Verdict::Settled(outcome) = session::judge(&|key| self.overlay.record(key), &batch.id)? {
            return nothing(outcome);
        }
        let mut mismatches = Vec::new();
        for expect in &batch.expects {
            let rev = self.overlay.record(&expect.key)?.map_or(0, |(rev, _)| rev);
            if rev != expect.rev {
                mismatches.push(Expect { key: expect.key.clone(), rev });
            }
        }
        if mismatches.is_empty() {
            if !(self.keeps_seal(&batch.ops)? && self.keeps_roster(&batch)? && self.keeps_level(&batch)?) {
                return nothing(Outcome::Malformed);
            }
            // After it there may be what this node can't read. (A level that it works at no more is history, which it can.)
            if let Some(Ok(raised)) = level_of(&batch)
                && let Err(unfit @ Unfit::TooOld { .. }) = self.levels.check(raised.level())
            {
                return Ok(Err(ApplyError::Raised { index: self.index, unfit }));
            }
        }
        session::settle(self.overlay, &batch.id, self.index, mismatches.is_empty())?;
        if !mismatches.is_empty() {
            mismatches.truncate(MISMATCHES_MAX);
            return nothing(Outcome::Conflict { index: self.index, mismatches });
        }
        // The one way back for a cluster time that is wrong.
        if let Some(confirmed) = confirmed {
            self.meta.cluster_time_ms = confirmed.time_ms;
        }
        let mut touched = Vec::with_capacity(batch.ops.len());
        for op in batch.ops {
            match op {
                Op::Put(key, value) => {
                    self.overlay.put(&key, self.index, &value)?;
                    touched.push((key, self.index, Some(value.into())));
                }
                Op::Delete(key) => {
                    self.overlay.remove(key.as_bytes())?;
                    touched.push((key, 0, None));
                }
            }
        }
        Ok(Ok((Outcome::Applied(self.index), touched)))
    }

    /// Whether a batch leaves the seal configuration as it is, or puts there the next generation and nothing else: who the
    /// custodians are, is theirs to say.
    fn keeps_seal(&self, ops: &[Op]) -> io::Result<bool> {
        if ops.iter().all(|op| op.key().table() != Table::Seal) {
            return Ok(true);
        }
        let value = |key: &RecordKey| self.overlay.value(key);
        let (number, now) = (RecordKey::seal_generation(), value(&RecordKey::seal_generation())?);
        let now = now.and_then(|bytes| bytes[..].try_into().ok()).map_or(0, u32::from_be_bytes);
        let next = now.saturating_add(1);
        let of_seal = |key: &RecordKey| *key == number || (1..=next).any(|g| *key == RecordKey::seal_config(g));
        let touching: Vec<&Op> = ops.iter().filter(|op| of_seal(op.key())).collect();
        let put = |at: &RecordKey| {
            touching.iter().find_map(|op| match op {
                Op::Put(key, value) if key == at => Some(value),
                _ => None,
            })
        };
        match (touching.len(), put(&number), put(&RecordKey::seal_config(next))) {
            (0, ..) => Ok(true),
            (2, Some(told), Some(config)) if told[..] == next.to_be_bytes() => {
                Ok(seal_config(&value)?.is_some_and(|now| self.seals.succeeds(&now, config)))
            }
            _ => Ok(false),
        }
    }

    /// Whether a batch leaves the roster as it is, or puts there the next one that the anchor key signed: Raft's membership
    /// follows it.
    fn keeps_roster(&self, batch: &Batch) -> io::Result<bool> {
        // Nearly always; and a key of table 0 is a hash.
        if batch.ops.iter().all(|op| op.key().table() != Table::Seal) {
            return Ok(true);
        }
        let key = RecordKey::roster();
        if batch.ops.iter().all(|op| *op.key() != key) {
            return Ok(true);
        }
        let Some(next) = roster_of(batch) else { return Ok(false) };
        let value = |key: &RecordKey| self.overlay.value(key);
        let serial = recorded_roster(&value)?.map_or(0, |now| now.roster().serial);
        let config = seal_config(&value)?;
        Ok(next.roster().serial.checked_sub(1) == Some(serial)
            && config.is_some_and(|config| next.holds(self.seals, &config, batch.cluster, batch.group)))
    }

    /// Whether a batch leaves the feature level as it is, or puts there one that the anchor key signed and that is no lower. One
    /// that puts another seal configuration in force writes it anew: by that one's anchor key it is known from then on.
    fn keeps_level(&self, batch: &Batch) -> io::Result<bool> {
        let value = |key: &RecordKey| self.overlay.value(key);
        let reshared = batch.ops.iter().find_map(|op| match op {
            // Seal configurations are never put again: `keeps_seal`.
            Op::Put(key, number) if *key == RecordKey::seal_generation() => number[..].try_into().ok(),
            _ => None,
        });
        let config = match reshared.map(|number| RecordKey::seal_config(u32::from_be_bytes(number))) {
            None => seal_config(&value)?,
            Some(at) => batch.ops.iter().find_map(|op| match op {
                Op::Put(key, config) if *key == at => Some(Bytes::copy_from_slice(config)),
                _ => None,
            }),
        };
        let Some(next) = level_of(batch) else {
            return Ok(reshared.is_none() || value(&RecordKey::level())?.is_none());
        };
        let Ok(next) = next else { return Ok(false) };
        Ok(next.level() >= level_in(&value)?
            && config.is_some_and(|config| next.holds(self.seals, &config, batch.cluster, batch.group)))
    }

    /// What a member that has keys says, any node can check: so none without them gets a batch in under a session of its
    /// own making.
    fn open(&mut self, open: &Open) -> io::Result<Result<Effect, ApplyError>> {
        let nothing = |outcome| Ok(Ok((outcome, Vec::new())));
        let value = |key: &RecordKey| self.overlay.value(key);
        let signed = seal_config(&value)?.is_some_and(|config| self.seals.opens(&config, open));
        if !signed || !self.meta.is_of(open.lineage, open.cluster, open.group) {
            return nothing(Outcome::Malformed);
        }
        if let Some(verifier) = self.verifier
            && !verifier.verify_open(open, &value)?
        {
            return Ok(Err(ApplyError::Forged { index: self.index }));
        }
        self.whose = Whose::Open(open.session);
        let begun = self.meta.members.contains(&open.session.origin)
            && session::begin(self.overlay, &open.session, self.index)?;
        nothing(if begun { Outcome::Applied(self.index) } else { Outcome::Fenced })
    }
}

/// The time that a batch confirms, if it does; such a record is never removed, and holds nothing else.
fn confirmed_time(batch: &Batch) -> Result<Option<ConfirmedTime>, Malformed> {
    let mut of_seal = batch.ops.iter().filter(|op| op.key().table() == Table::Seal);
    match of_seal.find(|op| *op.key() == RecordKey::clock()) {
        None => Ok(None),
        Some(Op::Put(_, value)) => ConfirmedTime::decode(value).map(Some),
        Some(Op::Delete(_)) => Err(Malformed("confirmed time: removed")),
    }
}

/// A record that apply wrote does not read back.
pub(crate) fn damaged(e: Malformed) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{e}: the state is damaged; {}", quorate_core::REPLACE_MEMBER))
}

/// A view with the writes of the group so far on top, and the digest of both together.
pub(super) struct Overlay<'v> {
    view: &'v dyn View,
    writes: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    digest: LtHash,
}

impl Overlay<'_> {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        match self.writes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.view.get(key),
        }
    }

    /// A record's revision and value.
    pub(super) fn record(&self, key: &RecordKey) -> io::Result<Option<(Rev, Bytes)>> {
        self.get(key.as_bytes())?.map(split_value).transpose()
    }

    /// A record's value.
    fn value(&self, key: &RecordKey) -> io::Result<Option<Bytes>> {
        Ok(self.record(key)?.map(|(_, value)| value))
    }

    /// Writes a record.
    pub(super) fn put(&mut self, key: &RecordKey, rev: Rev, value: &[u8]) -> io::Result<()> {
        // Seeded bug: this node alone keeps the record it had.
        if key.table() == Table::Key && seeded::every(Bug::DropRecord, 100) {
            return Ok(());
        }
        self.remove(key.as_bytes())?;
        let value = join_value(rev, value);
        self.digest.add(key.as_bytes(), &value);
        self.writes.insert(key.as_bytes().to_vec(), Some(value));
        Ok(())
    }

    /// Removes a record, if it is there.
    pub(super) fn remove(&mut self, key: &[u8]) -> io::Result<()> {
        if let Some(old) = self.get(key)? {
            self.digest.sub(key, &old);
            self.writes.insert(key.to_vec(), None);
        }
        Ok(())
    }

    /// Removes every record whose key begins so.
    pub(super) fn remove_prefix(&mut self, prefix: &[u8]) -> io::Result<()> {
        let mut keys: BTreeSet<Vec<u8>> = self
            .writes
            .range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .map(|(key, _)| key.clone())
            .take_while(|key| key.starts_with(prefix))
            .collect();
        let mut after = Bound::Included(prefix.to_vec());
        'pages: loop {
            let page = self.view.scan((after.as_ref().map(|k| &k[..]), Bound::Unbounded), REMOVE_STEP)?;
            let Some((last, _)) = page.last() else { break };
            after = Bound::Excluded(last.clone());
            for (key, _) in page {
                if !key.starts_with(prefix) {
                    break 'pages;
                }
                keys.insert(key);
            }
        }
        keys.iter().try_for_each(|key| self.remove(key))
    }
}
