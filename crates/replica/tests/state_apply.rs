//! Apply against a model, and every way in which a state can be wrong.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, Deref, DerefMut};
use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use quorate_core::batch::{Batch, Entry, Expect, Genesis, MAC_LEN, Op, Outcome};
use quorate_core::id::{BatchId, ClusterId, Epoch, GroupId, Lineage, NodeId};
use quorate_core::level::{Level, Levels, Unfit};
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::session::{Claim, Open, Session};
use quorate_core::time::ConfirmedTime;
use quorate_journal::testing::{Rng, SimDisk, seed};
use quorate_replica::log::{Checkpoint, Stands};
use quorate_replica::state::{
    Applied, ApplyError, BatchVerifier, Engine, Meta, ReadRecord, RedbEngine, SealCheck, State, StateError, Store,
    ToApply, What, Whose, WriteSet, get_record, outcome_of, scan_table, session_of, verify_state,
};
use quorate_replica::{Member, MembershipView, Roster, SignedLevel};

const CLUSTER: ClusterId = ClusterId([1; 16]);
const LINEAGE: Lineage = Lineage([2; 16]);
const GROUP: GroupId = GroupId(0);

/// An entry, owned.
#[derive(Clone)]
enum Log {
    Blank,
    Membership(BTreeSet<NodeId>),
    Entry(Vec<u8>),
}

fn apply(state: &mut State, first: u64, log: &[Log]) -> (Vec<Applied>, Result<(), ApplyError>) {
    apply_verified(state, first, log, None)
}

fn apply_verified(
    state: &mut State,
    first: u64,
    log: &[Log],
    verifier: Option<&dyn BatchVerifier>,
) -> (Vec<Applied>, Result<(), ApplyError>) {
    let ids: Vec<_> = (0..log.len() as u64).map(|i| (first + i).to_be_bytes()).collect();
    let entries = log.iter().zip(&ids).enumerate().map(|(i, (log, id))| ToApply {
        index: first + i as u64,
        log_id: id,
        what: match log {
            Log::Blank => What::Blank,
            Log::Membership(ids) => What::Membership(b"membership", ids.clone()),
            Log::Entry(bytes) => What::Entry(bytes),
        },
    });
    state.apply(&entries.collect::<Vec<_>>(), verifier)
}

fn engine(disk: &SimDisk) -> Arc<dyn Engine> {
    Arc::new(RedbEngine::open(disk, Path::new("/state"), 1 << 20).expect("opens"))
}

fn store(disk: &SimDisk) -> Arc<Store> {
    Store::new(engine(disk), 1 << 20).expect("a view")
}

/// A state, and the store that makes it durable.
struct Opened(State, Arc<Store>);

impl Deref for Opened {
    type Target = State;
    fn deref(&self) -> &State {
        &self.0
    }
}

impl DerefMut for Opened {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.0
    }
}

impl Opened {
    /// Makes durable what was applied; returns what the journal is to remember of it.
    fn checkpoint(&self) -> std::io::Result<Option<Checkpoint>> {
        self.1.flush(|_| Ok(()))?;
        Ok(self.stands_at())
    }
}

fn open(disk: &SimDisk, checkpoint: Option<Checkpoint>) -> Result<Opened, StateError> {
    open_at(disk, Levels::default(), checkpoint)
}

fn open_at(disk: &SimDisk, levels: Levels, checkpoint: Option<Checkpoint>) -> Result<Opened, StateError> {
    let store = store(disk);
    let state = State::open(store.clone(), CLUSTER, GROUP, Arc::new(Seals), levels, checkpoint.map(only))?;
    Ok(Opened(state, store))
}

/// A state may stand there and nowhere else.
fn only(checkpoint: Checkpoint) -> Stands {
    Stands { newest: Some(checkpoint), before: Some(checkpoint), from_first: false }
}

fn genesis() -> Log {
    genesis_at(Vec::new())
}

fn genesis_at(level: Vec<u8>) -> Log {
    let genesis = Genesis {
        lineage: LINEAGE,
        cluster: CLUSTER,
        time_ms: 1000,
        seal_config: b"config".to_vec(),
        node_name: "n1".to_owned(),
        envelope: b"envelope".to_vec(),
        keyring: b"keyring".to_vec(),
        level,
    };
    Log::Entry(Entry::Genesis(Box::new(genesis)).encode())
}

fn members(ids: impl IntoIterator<Item = u64>) -> Log {
    Log::Membership(ids.into_iter().map(NodeId).collect())
}

/// A state after membership {1, 2, 3} at 0 and genesis at 1.
fn founded(disk: &SimDisk) -> Opened {
    let mut state = open(disk, None).expect("opens");
    let (applied, result) = apply(&mut state, 0, &[members(1..=3), genesis()]);
    result.expect("applies");
    assert_eq!(applied[1].touched.len(), 4);
    state
}

/// The same with the sessions of nodes 1 and 2 begun, each under its first start, at 2 and 3.
fn begun(disk: &SimDisk) -> Opened {
    let mut state = founded(disk);
    apply(&mut state, 2, &[opens(1, 1), opens(2, 1)]).1.expect("applies");
    state
}

fn key(n: u64) -> RecordKey {
    let mut blind = [0; 32];
    blind[..8].copy_from_slice(&n.to_be_bytes());
    match n % 3 {
        0 => RecordKey::with(Table::Key, &[n as u8; 10], blind, &[]),
        1 => RecordKey::new(Table::Name, blind),
        _ => RecordKey::with(Table::KeyVersion, &[n as u8; 6], blind, &(n as u32).to_be_bytes()),
    }
}

fn id(origin: u64, boot: u32, seq: u64) -> BatchId {
    BatchId { origin: NodeId(origin), boot, seq }
}

fn in_order(expects: impl Iterator<Item = Expect>) -> Vec<Expect> {
    let mut expects: Vec<_> = expects.collect();
    expects.sort_by(|a, b| a.key.cmp(&b.key));
    expects
}

fn batch(id: BatchId, expects: &[(u64, u64)], ops: Vec<Op>) -> Batch {
    Batch {
        lineage: LINEAGE,
        cluster: CLUSTER,
        group: GROUP,
        epoch: Epoch(1),
        id,
        stamp_ms: 0,
        audit: [0; 32],
        expects: in_order(expects.iter().map(|(n, rev)| Expect { key: key(*n), rev: *rev })),
        ops,
    }
}

fn encode(batch: &Batch) -> Vec<u8> {
    let mut bytes = batch.encode().expect("encodes");
    let mac = blake3::hash(&bytes);
    bytes.extend_from_slice(mac.as_bytes());
    bytes
}

fn entry(batch: &Batch) -> Log {
    Log::Entry(Entry::Batch(encode(batch)).encode())
}

fn put(n: u64, value: &[u8]) -> Op {
    Op::Put(key(n), value.to_vec())
}

struct Verifier;

impl BatchVerifier for Verifier {
    fn verify(&self, batch: &[u8], _: ReadRecord<'_>) -> std::io::Result<bool> {
        let (body, mac) = batch.split_at(batch.len() - MAC_LEN);
        Ok(blake3::hash(body).as_bytes() == mac)
    }
    fn verify_open(&self, open: &Open, _: ReadRecord<'_>) -> std::io::Result<bool> {
        Ok(open.mac == *blake3::hash(&open.head()).as_bytes())
    }
}

/// Stand-ins for the anchor key's signatures.
struct Seals;

impl SealCheck for Seals {
    fn opens(&self, seal_config: &[u8], open: &Open) -> bool {
        seal_config == b"config" && open.signature == signature(open)
    }
    fn claims(&self, _: &[u8], _: &Claim, _: &[u8; 64]) -> bool {
        unreachable!("apply meets no claims")
    }
    fn lists(&self, seal_config: &[u8], list: &[u8], told: &[u8; 64]) -> bool {
        seal_config == b"config" && told[..32] == *blake3::hash(list).as_bytes()
    }
    fn levels(&self, seal_config: &[u8], said: &[u8], told: &[u8; 64]) -> bool {
        let key: &[u8] = if seal_config == b"config" { b"" } else { seal_config };
        told[..32] == *blake3::hash(&[key, said].concat()).as_bytes()
    }
    fn succeeds(&self, seal_config: &[u8], next: &[u8]) -> bool {
        next.strip_prefix(b"after ").is_some_and(|before| before == seal_config)
    }
}

fn signature(open: &Open) -> [u8; 64] {
    let mut signature = [7; 64];
    signature[..32].copy_from_slice(blake3::hash(&open.head()).as_bytes());
    signature
}

fn session(origin: u64, boot: u32) -> Session {
    Session { origin: NodeId(origin), boot, process: [origin as u8; 16] }
}

fn signed(session: Session) -> Open {
    let mut open = Open {
        lineage: LINEAGE,
        cluster: CLUSTER,
        group: GROUP,
        epoch: Epoch(1),
        session,
        signature: [0; 64],
        mac: [0; 32],
    };
    (open.signature, open.mac) = (signature(&open), *blake3::hash(&open.head()).as_bytes());
    open
}

fn opening(open: Open) -> Log {
    Log::Entry(Entry::Open(Box::new(open)).encode())
}

/// The first start of a node begins its session.
fn opens(origin: u64, boot: u32) -> Log {
    opening(signed(session(origin, boot)))
}

/// Takes every batch, and notes what the state says of a record when it is asked.
struct Looks(RecordKey, Mutex<Vec<Option<Bytes>>>);

impl BatchVerifier for Looks {
    fn verify(&self, _: &[u8], state: ReadRecord<'_>) -> std::io::Result<bool> {
        self.1.lock().expect("lock").push(state(&self.0)?);
        Ok(true)
    }
    fn verify_open(&self, _: &Open, _: ReadRecord<'_>) -> std::io::Result<bool> {
        Ok(true)
    }
}

fn one(state: &mut State, index: u64, log: Log) -> Applied {
    let (mut applied, result) = apply(state, index, &[log]);
    result.expect("applies");
    applied.pop().expect("one entry")
}

fn verified(state: &State) -> u64 {
    verify_state(&*state.view()).expect("records add up")
}

/// Applies one batch after the other with these operations, at the revisions that are there.
fn outcomes(state: &mut State) -> impl FnMut(Vec<Op>) -> Outcome {
    let (mut index, mut seq) = (4, 0);
    move |ops| {
        seq += 1;
        let view = state.view();
        let rev = |key: &RecordKey| get_record(&*view, key).expect("readable").map_or(0, |(rev, _)| rev);
        let expects = in_order(ops.iter().map(|op| Expect { key: op.key().clone(), rev: rev(op.key()) }));
        let batch = Batch { expects, ..batch(id(1, 1, seq), &[], ops) };
        drop(view);
        let (applied, result) = apply(state, index, &[entry(&batch)]);
        result.expect("applies");
        index += 1;
        applied[0].outcome.clone()
    }
}

#[test]
fn only_the_next_roster_that_the_anchor_key_signed_takes_its_place() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    let member = |id: u64| Member { name: format!("n{id}"), ..Member::default() };
    let view = |ids: &[u64]| MembershipView {
        index: 0,
        voters: vec![ids.iter().map(|id| NodeId(*id)).collect()],
        members: ids.iter().map(|id| (NodeId(*id), member(*id))).collect(),
    };
    let roster = |serial, cluster| Roster { serial, ..Roster::before_the_first(cluster, GROUP, &view(&[1, 2])) };
    let sign = |list: &[u8]| -> [u8; 64] {
        let hash = blake3::hash(list);
        [hash.as_bytes().as_slice(), &[7; 32]].concat().try_into().expect("64 bytes")
    };
    let put = |value: Vec<u8>| vec![Op::Put(RecordKey::roster(), value)];
    let good = |serial| put(roster(serial, CLUSTER).signed(sign));
    let mut outcome = outcomes(&mut state);
    let nobody = Roster { voters: BTreeSet::new(), ..roster(1, CLUSTER) };
    let refused = [
        good(0),
        good(2),
        put(b"no roster".to_vec()),
        put(roster(1, CLUSTER).signed(|_| [1; 64])),
        put(roster(1, ClusterId([9; 16])).signed(sign)),
        put(Roster { group: GroupId(5), ..roster(1, CLUSTER) }.signed(sign)),
        put(nobody.signed(sign)),
        vec![Op::Delete(RecordKey::roster())],
    ];
    for bad in &refused {
        assert_eq!(outcome(bad.clone()), Outcome::Malformed, "{bad:?}");
    }
    assert!(matches!(outcome(good(1)), Outcome::Applied(_)));
    for bad in refused.iter().filter(|bad| **bad != good(2)).chain([&good(1), &good(3)]) {
        assert_eq!(outcome(bad.clone()), Outcome::Malformed, "{bad:?}");
    }
    assert!(matches!(outcome(good(2)), Outcome::Applied(_)));
}

/// A level, signed for the first seal configuration, or for this one.
fn level_of(level: u32, seal_config: &[u8]) -> Vec<u8> {
    let sign = |said: &[u8]| -> [u8; 64] {
        let hash = blake3::hash(&[seal_config, said].concat());
        [hash.as_bytes().as_slice(), &[7; 32]].concat().try_into().expect("64 bytes")
    };
    SignedLevel::new(CLUSTER, GROUP, Level(level), sign).encode()
}

#[test]
fn a_cluster_begins_at_the_level_of_its_genesis() {
    let levels = |lowest, highest| Levels { lowest: Level(lowest), highest: Level(highest) };
    for forged in [level_of(2, b"another"), b"no level".to_vec()] {
        let mut state = open_at(&SimDisk::default(), levels(2, 3), None).expect("opens");
        assert_eq!(apply(&mut state, 0, &[members(1..=3), genesis_at(forged)]).0[1].outcome, Outcome::Malformed);
    }
    let disk = SimDisk::default();
    let mut state = open_at(&disk, levels(2, 3), None).expect("opens");
    let (applied, result) = apply(&mut state, 0, &[members(1..=3), genesis_at(level_of(2, b""))]);
    result.expect("applies");
    assert_eq!(applied[1].outcome, Outcome::Applied(1));
    let there = get_record(&*state.view(), &RecordKey::level()).expect("readable").expect("there");
    assert_eq!(there, (1, level_of(2, b"").into()));
    let point = state.checkpoint().expect("durable");
    drop(state);
    assert!(open_at(&disk, levels(2, 2), point).is_ok());
    assert!(matches!(open_at(&disk, levels(1, 1), point), Err(StateError::Unfit(Unfit::TooOld { .. }))));
}

/// Else nobody who joins could know it: by the old anchor key it is signed for the old configuration alone.
#[test]
fn another_seal_configuration_comes_with_the_level_anew() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    let mut outcome = outcomes(&mut state);
    let level = |seal_config: &[u8]| Op::Put(RecordKey::level(), level_of(1, seal_config));
    let reshared = |level: Option<Op>| {
        let number = Op::Put(RecordKey::seal_generation(), 2u32.to_be_bytes().to_vec());
        let mut ops = vec![number, Op::Put(RecordKey::seal_config(2), b"after config".to_vec())];
        ops.extend(level);
        ops.sort_by(|a, b| a.key().cmp(b.key()));
        ops
    };
    assert!(matches!(outcome(vec![level(b"")]), Outcome::Applied(_)));
    for bad in [None, Some(level(b"")), Some(Op::Delete(RecordKey::level()))] {
        assert_eq!(outcome(reshared(bad)), Outcome::Malformed);
    }
    assert!(matches!(outcome(reshared(Some(level(b"after config")))), Outcome::Applied(_)));
    assert_eq!(outcome(vec![level(b"")]), Outcome::Malformed);
    assert!(matches!(outcome(vec![level(b"after config")]), Outcome::Applied(_)));
}

#[test]
fn only_a_level_that_the_anchor_key_signed_takes_the_place_of_a_lower_one() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    let sign = |said: &[u8]| -> [u8; 64] {
        let hash = blake3::hash(said);
        [hash.as_bytes().as_slice(), &[7; 32]].concat().try_into().expect("64 bytes")
    };
    let put = |value: Vec<u8>| vec![Op::Put(RecordKey::level(), value)];
    let good = |level| put(SignedLevel::new(CLUSTER, GROUP, Level(level), sign).encode());
    let forged = [
        good(0),
        put(b"no level".to_vec()),
        put(SignedLevel::new(CLUSTER, GROUP, Level(2), |_| [1; 64]).encode()),
        put(SignedLevel::new(ClusterId([9; 16]), GROUP, Level(2), sign).encode()),
        put(SignedLevel::new(CLUSTER, GroupId(5), Level(2), sign).encode()),
        vec![Op::Delete(RecordKey::level())],
    ];
    let mut outcome = outcomes(&mut state);
    for bad in &forged {
        assert_eq!(outcome(bad.clone()), Outcome::Malformed, "{bad:?}");
    }
    assert_eq!(outcome(good(1)), Outcome::Applied(10), "the one in force, said again");
    drop(outcome);

    // One that this build does not speak is not applied, nor is what follows it; another build goes on from there.
    let raise = |seq, level, rev| {
        let expects = vec![Expect { key: RecordKey::level(), rev }];
        entry(&Batch { expects, ..batch(id(1, 1, seq), &[], good(level)) })
    };
    let log = [Log::Blank, raise(50, 3, 10), entry(&batch(id(1, 1, 51), &[(0, 0)], vec![self::put(0, b"a")]))];
    let before = verified(&state);
    let (applied, halt) = apply(&mut state, 11, &log);
    let (halt, last) = (halt.expect_err("halts"), state.meta().applied.as_ref().map(|(index, _)| *index));
    let unfit = Unfit::TooOld { level: Level(3), highest: Level(1) };
    assert!(matches!(halt, ApplyError::Raised { index: 12, unfit: why } if why == unfit), "{halt}");
    assert!(!halt.to_string().contains(quorate_core::REPLACE_MEMBER), "{halt}");
    assert_eq!((applied.len(), last, verified(&state)), (1, Some(11), before));
    let point = state.checkpoint().expect("durable");
    drop(state);
    let speaking = |lowest, highest, point: Option<Checkpoint>| {
        let levels = Levels { lowest: Level(lowest), highest: Level(highest) };
        open_at(&disk, levels, point)
    };
    let mut upgraded = speaking(1, 3, point).expect("opens");
    assert!(apply(&mut upgraded, 12, &log[1..]).1.is_ok());
    let mut outcome = |index, seq, level, rev| one(&mut upgraded, index, raise(seq, level, rev)).outcome;
    assert_eq!(outcome(14, 52, 2, 12), Outcome::Malformed, "it never falls");
    assert!(matches!(outcome(15, 53, 3, 10), Outcome::Conflict { .. }), "two raise it at once: one does");
    assert_eq!(outcome(16, 54, 3, 12), Outcome::Applied(16));

    // There is no way back, nor one past the versions in between; and that is no damage.
    let point = upgraded.checkpoint().expect("durable");
    drop(upgraded);
    for (lowest, highest) in [(1, 2), (4, 5)] {
        let refused = speaking(lowest, highest, point).map(drop).expect_err("refused");
        assert!(matches!(refused, StateError::Unfit(_)) && refused.is_of_another_version(), "{refused}");
        assert!(!refused.to_string().contains(quorate_core::REPLACE_MEMBER), "{refused}");
    }
    assert!(speaking(3, 3, point).is_ok());
}

#[test]
fn only_the_successor_of_the_seal_configuration_takes_its_place() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    let config = RecordKey::seal_config;
    let number = |g: u32| Op::Put(RecordKey::seal_generation(), g.to_be_bytes().to_vec());
    let put = |g, value: &[u8]| Op::Put(config(g), value.to_vec());
    let mut outcome = outcomes(&mut state);
    let good: &[u8] = b"after config";
    for bad in [
        vec![put(1, b"another")],
        vec![Op::Delete(config(1))],
        vec![number(1)],
        vec![number(2)],
        vec![put(2, good)],
        vec![put(2, b"signed by nobody"), number(2)],
        vec![put(2, good), number(3)],
        vec![put(3, good), number(3)],
        vec![put(2, good), number(2), put(1, b"another")],
        vec![put(2, good), Op::Delete(RecordKey::seal_generation())],
    ] {
        assert_eq!(outcome(bad.clone()), Outcome::Malformed, "{bad:?}");
    }
    assert!(matches!(outcome(vec![Op::Put(RecordKey::keyring(), b"rotated".to_vec())]), Outcome::Applied(_)));
    assert!(matches!(outcome(vec![number(2), put(2, good)]), Outcome::Applied(_)));
    assert_eq!(outcome(vec![put(2, b"config")]), Outcome::Malformed);
    assert_eq!(outcome(vec![number(3), put(3, good)]), Outcome::Malformed, "it followed the one before");
    assert!(matches!(outcome(vec![number(3), put(3, b"after after config")]), Outcome::Applied(_)));
}

#[test]
fn genesis_writes_table_0_once() {
    let disk = SimDisk::default();
    let mut state = founded(&disk);
    let view = state.view();
    let got = |key| get_record(&*view, &key).expect("readable").map(|(rev, value)| (rev, value.to_vec()));
    assert_eq!(got(RecordKey::seal_config(1)), Some((1, b"config".to_vec())));
    assert_eq!(got(RecordKey::seal_generation()), Some((1, vec![0, 0, 0, 1])));
    assert_eq!(got(RecordKey::envelope("n1")), Some((1, b"envelope".to_vec())));
    assert_eq!(got(RecordKey::keyring()), Some((1, b"keyring".to_vec())));
    assert_eq!(state.meta().lineage, Some(LINEAGE));
    assert_eq!(state.meta().cluster_time_ms, 1000);
    assert_eq!(one(&mut state, 2, genesis()).outcome, Outcome::Malformed);
    assert_eq!(verified(&state), 4);
}

#[test]
fn a_genesis_of_another_cluster_changes_nothing() {
    let disk = SimDisk::default();
    let mut state =
        State::open(store(&disk), ClusterId([9; 16]), GROUP, Arc::new(Seals), Levels::default(), None).expect("opens");
    assert_eq!(one(&mut state, 0, genesis()).outcome, Outcome::Malformed);
    assert_eq!((state.meta().lineage, verified(&state)), (None, 0));
}

#[test]
fn no_tick_sets_time_back() {
    let disk = SimDisk::default();
    let mut state = founded(&disk);
    let (applied, result) = apply(&mut state, 2, &[5000, 4000, 6000, 1].map(|ms| Log::Entry(Entry::Tick(ms).encode())));
    result.expect("applies");
    assert!(applied.iter().all(|a| a.outcome == Outcome::Applied(a.index)));
    assert_eq!(state.meta().cluster_time_ms, 6000);
}

/// Only what an operator confirmed does, and it is bound to its revision: it can't be replayed.
#[test]
fn a_confirmed_time_sets_cluster_time_both_ways() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    let clock = RecordKey::clock();
    let write = |seq, rev, op: Op| {
        let expects = vec![Expect { key: op.key().clone(), rev }];
        entry(&Batch { expects, ..batch(id(1, 1, seq), &[], vec![op]) })
    };
    let put = |seq, rev, value: Vec<u8>| write(seq, rev, Op::Put(clock.clone(), value));
    let confirmed = |time_ms| ConfirmedTime { time_ms, by: "admin/root".into() }.encode();
    let mut index = 3;
    let mut time_after = |log: Log| {
        index += 1;
        let applied = one(&mut state, index, log);
        (applied.outcome, state.meta().cluster_time_ms)
    };
    assert_eq!(time_after(put(1, 0, confirmed(9000))), (Outcome::Applied(4), 9000));
    assert_eq!(time_after(put(2, 4, confirmed(500))), (Outcome::Applied(5), 500), "back too");
    assert!(matches!(time_after(put(3, 4, confirmed(9000))), (Outcome::Conflict { .. }, 500)));
    assert_eq!(time_after(put(4, 5, b"no time".to_vec())), (Outcome::Malformed, 500));
    assert_eq!(time_after(write(5, 5, Op::Delete(clock.clone()))), (Outcome::Malformed, 500));
    assert_eq!(time_after(Log::Entry(Entry::Tick(700).encode())), (Outcome::Applied(9), 700));
}

#[test]
fn a_batch_applies_when_everything_it_read_is_unchanged() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    let first = one(&mut state, 4, entry(&batch(id(1, 1, 1), &[(0, 0), (1, 0)], vec![put(0, b"a")])));
    assert_eq!((first.outcome, first.whose), (Outcome::Applied(4), Whose::Batch(id(1, 1, 1))));
    assert_eq!(first.touched, [(key(0), 4, Some(b"a"[..].to_vec().into()))]);
    // Key 0 is at revision 4 now.
    let stale = one(&mut state, 5, entry(&batch(id(2, 1, 1), &[(0, 0), (1, 0)], vec![put(1, b"b")])));
    let mismatches = vec![Expect { key: key(0), rev: 4 }];
    assert_eq!(stale.outcome, Outcome::Conflict { index: 5, mismatches });
    assert!(stale.touched.is_empty());
    let fresh = one(&mut state, 6, entry(&batch(id(2, 1, 2), &[(0, 4)], vec![Op::Delete(key(0))])));
    assert_eq!((fresh.outcome, fresh.touched), (Outcome::Applied(6), vec![(key(0), 0, None)]));
    // An absence can be expected, and a record written again.
    let again = one(&mut state, 7, entry(&batch(id(1, 1, 2), &[(0, 0)], vec![put(0, b"c")])));
    assert_eq!(again.outcome, Outcome::Applied(7));
    // 4 of genesis, key 0, sessions of two origins, one slot for each batch.
    assert_eq!(verified(&state), 4 + 1 + 2 + 4);
    // What an origin that was sent the whole state finds of its batches.
    let view = state.view();
    let outcome = |id| outcome_of(&*view, &id).expect("readable");
    assert_eq!(outcome(id(1, 1, 1)), Some(Outcome::Applied(4)));
    assert_eq!(outcome(id(2, 1, 1)), Some(Outcome::Conflict { index: 5, mismatches: vec![] }));
    assert_eq!(outcome(id(1, 1, 3)), None);
    assert_eq!(outcome(id(1, 2, 1)), Some(Outcome::Fenced));
}

#[test]
fn at_most_8_mismatches_are_told() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    let expects: Vec<_> = (0..20).map(|n| (n, 7)).collect();
    let conflict = one(&mut state, 4, entry(&batch(id(1, 1, 1), &expects, vec![])));
    let Outcome::Conflict { mismatches, .. } = conflict.outcome else { panic!("{conflict:?}") };
    let first = in_order((0..20).map(|n| Expect { key: key(n), rev: 0 }));
    assert_eq!(mismatches, first[..8]);
}

#[test]
fn the_same_batch_has_one_effect_however_often_it_comes() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    let create = entry(&batch(id(1, 1, 1), &[(0, 0)], vec![put(0, b"a")]));
    // Twice in one group, then again in another one.
    let (applied, result) = apply(&mut state, 4, &[create.clone(), create.clone()]);
    result.expect("applies");
    assert_eq!(applied[0].outcome, Outcome::Applied(4));
    assert_eq!((&applied[1].outcome, applied[1].touched.len()), (&Outcome::Applied(4), 0));
    assert_eq!(one(&mut state, 6, create).outcome, Outcome::Applied(4));
    let conflict = entry(&batch(id(1, 1, 2), &[(0, 0)], vec![put(0, b"b")]));
    assert!(matches!(one(&mut state, 7, conflict.clone()).outcome, Outcome::Conflict { index: 7, .. }));
    // Later it would not conflict any more; still it is the same batch.
    one(&mut state, 8, entry(&batch(id(1, 1, 3), &[(0, 4)], vec![Op::Delete(key(0))])));
    assert!(matches!(one(&mut state, 9, conflict).outcome, Outcome::Conflict { index: 7, .. }));
    verified(&state);
}

#[test]
fn slots_are_reused_after_4096_batches_and_older_ones_are_too_old() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    let old = entry(&batch(id(1, 1, 5), &[(0, 0)], vec![put(0, b"a")]));
    assert_eq!(one(&mut state, 4, old.clone()).outcome, Outcome::Applied(4));
    let new = entry(&batch(id(1, 1, 5 + 4096), &[(0, 4)], vec![put(0, b"b")]));
    assert_eq!(one(&mut state, 5, new).outcome, Outcome::Applied(5));
    assert_eq!(one(&mut state, 6, old).outcome, Outcome::TooOld);
    verified(&state);
}

#[test]
fn only_the_start_that_began_a_session_has_batches_in_it() {
    let disk = SimDisk::default();
    let mut state = founded(&disk);
    let at = |boot, seq| entry(&batch(id(1, boot, seq), &[(9, 0)], vec![]));
    assert_eq!(one(&mut state, 2, at(2, 1)).outcome, Outcome::Fenced, "none has begun");
    let begins = one(&mut state, 3, opens(1, 2));
    assert_eq!((begins.outcome, begins.whose), (Outcome::Applied(3), Whose::Open(session(1, 2))));
    assert_eq!(one(&mut state, 4, at(2, 1)).outcome, Outcome::Applied(4));
    assert_eq!(one(&mut state, 5, opens(1, 2)).outcome, Outcome::Applied(5), "the same again is fine");
    assert_eq!(one(&mut state, 6, at(1, 2)).outcome, Outcome::Fenced, "an older start");
    assert_eq!(one(&mut state, 7, opens(1, 1)).outcome, Outcome::Fenced);
    assert_eq!(one(&mut state, 8, at(3, 1)).outcome, Outcome::Fenced, "none takes over by itself");
    // A folder put back from a copy starts under a number that was used: the process tells it apart.
    let twin = opening(signed(Session { process: [99; 16], ..session(1, 2) }));
    assert_eq!(one(&mut state, 9, twin).outcome, Outcome::Fenced);
    assert_eq!(one(&mut state, 10, at(2, 2)).outcome, Outcome::Applied(10));
    // A newer start takes over: the slot of sequence 1 is void.
    assert_eq!(one(&mut state, 11, opens(1, 3)).outcome, Outcome::Applied(11));
    assert_eq!(one(&mut state, 12, at(3, 1)).outcome, Outcome::Applied(12));
    assert_eq!(one(&mut state, 13, at(2, 1)).outcome, Outcome::Fenced);
    assert_eq!(session_of(&*state.view(), NodeId(1)).expect("readable"), Some(session(1, 3)));
    let stranger = entry(&batch(id(4, 1, 1), &[(9, 0)], vec![]));
    // In the same group as the membership that admits it.
    let log = [opens(4, 1), stranger.clone(), members(1..=4), opens(4, 1), stranger.clone(), members(1..=3), stranger];
    let (applied, result) = apply(&mut state, 14, &log);
    result.expect("applies");
    let outcomes: Vec<_> = applied.into_iter().map(|a| a.outcome).collect();
    use Outcome::{Applied, Fenced};
    assert_eq!(outcomes, [Fenced, Fenced, Applied(16), Applied(17), Applied(18), Applied(19), Fenced]);
    verified(&state);
}

#[test]
fn a_session_that_the_anchor_key_did_not_sign_does_not_begin() {
    let disk = SimDisk::default();
    let mut state = founded(&disk);
    let good = signed(session(1, 1));
    let of_another = |change: fn(&mut Open)| {
        let mut open = signed(session(1, 1));
        change(&mut open);
        open.signature = signature(&open);
        opening(open)
    };
    let bad = [
        opening(Open { signature: [0; 64], ..good.clone() }),
        opening(Open { session: session(1, 2), ..good.clone() }),
        of_another(|open| open.lineage = Lineage([9; 16])),
        of_another(|open| open.cluster = ClusterId([9; 16])),
        of_another(|open| open.group = GroupId(1)),
    ];
    for (i, log) in bad.into_iter().enumerate() {
        let applied = one(&mut state, 2 + i as u64, log);
        assert_eq!((applied.outcome, applied.whose), (Outcome::Malformed, Whose::Log), "case {i}");
    }
    // The removed have had the anchor key, but not this epoch's: who has keys tells, and stops.
    let log = [opening(Open { mac: [0; 32], ..good })];
    let (_, result) = apply_verified(&mut state, 7, &log, Some(&Verifier));
    assert!(matches!(result, Err(ApplyError::Forged { index: 7 })), "{result:?}");
    assert_eq!(verified(&state), 4);
    // Before genesis there is no key that could have signed one.
    let disk = SimDisk::default();
    let mut empty = open(&disk, None).expect("opens");
    assert_eq!(one(&mut empty, 0, opens(1, 1)).outcome, Outcome::Malformed);
}

#[test]
fn a_removed_members_session_goes() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    let mut log = vec![opens(3, 1)];
    log.extend((0..1500).map(|seq| entry(&batch(id(3, 1, seq), &[(9, 0)], vec![]))));
    apply(&mut state, 4, &log).1.expect("applies");
    one(&mut state, 1505, entry(&batch(id(2, 1, 1), &[(9, 0)], vec![])));
    assert_eq!(verified(&state), 4 + 3 + 1500 + 1);
    // One more slot in the same group as the removal.
    let log = [entry(&batch(id(3, 1, 1500), &[(9, 0)], vec![])), members([2])];
    apply(&mut state, 1506, &log).1.expect("applies");
    assert_eq!(verified(&state), 4 + 2);
    let left = scan_table(&*state.view(), Table::Session, Bound::Unbounded, 10).expect("scans");
    assert!(left.iter().all(|(key, ..)| key.as_bytes()[1..9] == 2u64.to_be_bytes()));
}

#[test]
fn what_breaks_a_rule_is_malformed_and_changes_nothing() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    let good = batch(id(1, 1, 1), &[(0, 0)], vec![put(0, b"a")]);
    let mut cut = encode(&good);
    cut.pop();
    let mut longer = encode(&good);
    longer.push(0);
    let raw = |bytes: &[u8]| Log::Entry(bytes.to_vec());
    let bad = [
        raw(b""),
        raw(&[1]),
        raw(&[1, 1]),
        raw(&[1, 1, 1]),
        raw(&[1, 2, 0]),
        raw(&[1, 3, 0]),
        raw(&[1, 9, 1]),
        Log::Entry(Entry::Batch(cut).encode()),
        Log::Entry(Entry::Batch(longer).encode()),
        entry(&Batch { lineage: Lineage([9; 16]), ..good.clone() }),
        entry(&Batch { cluster: ClusterId([9; 16]), ..good.clone() }),
        entry(&Batch { group: GroupId(1), ..good.clone() }),
        raw(&{
            let mut huge = Entry::Batch(encode(&good)).encode();
            huge.resize(300 * 1024, 0);
            huge
        }),
    ];
    let before = verified(&state);
    let mut next = 4;
    for (i, log) in bad.into_iter().enumerate() {
        let applied = one(&mut state, next, log);
        next += 1;
        assert_eq!((applied.outcome, applied.touched.len()), (Outcome::Malformed, 0), "case {i}");
    }
    assert_eq!(verified(&state), before);
    assert_eq!(one(&mut state, next, entry(&good)).outcome, Outcome::Applied(next));
}

/// Whoever leads can append anything. What no version at the level in force writes stops nobody; else one such entry would stop
/// every node, for good.
#[test]
fn an_unknown_format_does_nothing_on_any_node() {
    for bytes in [vec![2u8, 1, 1], vec![1, 5, 0], vec![1, 1, 2, 0], vec![1, 9, 2, 0], vec![0], vec![200]] {
        let disk = SimDisk::default();
        let mut state = founded(&disk);
        let log =
            [Log::Entry(Entry::Tick(7000).encode()), Log::Entry(bytes.clone()), Log::Entry(Entry::Tick(8000).encode())];
        let (applied, result) = apply(&mut state, 2, &log);
        result.expect("goes on");
        assert_eq!(applied[1].outcome, Outcome::Malformed, "{bytes:?}");
        assert!(applied[1].touched.is_empty());
        assert_eq!((state.meta().cluster_time_ms, verified(&state)), (8000, verified(&state)));
    }
}

#[test]
fn a_forged_batch_stops_an_unsealed_node() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    let good = batch(id(1, 1, 1), &[(0, 0)], vec![put(0, b"a")]);
    let mut forged = encode(&batch(id(1, 1, 2), &[(0, 4)], vec![Op::Delete(key(0))]));
    *forged.last_mut().expect("not empty") ^= 1;
    let forged = Log::Entry(Entry::Batch(forged).encode());
    let log = [entry(&good), forged.clone(), Log::Blank];
    let (applied, result) = apply_verified(&mut state, 4, &log, Some(&Verifier));
    assert_eq!(applied.len(), 1);
    let stop = result.expect_err("stops");
    assert!(matches!(stop, ApplyError::Forged { index: 5 }), "{stop}");
    // A sealed node cannot tell.
    assert_eq!(one(&mut state, 5, forged).outcome, Outcome::Applied(5));
    verified(&state);
}

/// A rotation, for example, and what follows it, in one group.
#[test]
fn a_verifier_sees_what_the_entries_before_wrote() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    let writes = entry(&batch(id(1, 1, 1), &[(0, 0)], vec![put(0, b"a")]));
    let follows = entry(&batch(id(1, 1, 2), &[(0, 4)], vec![put(0, b"b")]));
    let verifier = Looks(key(0), Mutex::default());
    apply_verified(&mut state, 4, &[writes, follows], Some(&verifier)).1.expect("applies");
    assert_eq!(verifier.1.into_inner().expect("lock"), [None, Some(Bytes::from_static(b"a"))]);
}

#[test]
fn entries_out_of_order_are_refused() {
    let disk = SimDisk::default();
    let mut state = founded(&disk);
    // Again, or with a hole before it.
    for index in [0, 1, 3, u64::MAX] {
        let (applied, result) = apply(&mut state, index, &[Log::Blank]);
        let refused = matches!(result, Err(ApplyError::OutOfOrder { index: i, applied: Some(1) }) if i == index);
        assert!(applied.is_empty() && refused, "{index}");
    }
    let disk = SimDisk::default();
    let mut empty = open(&disk, None).expect("opens");
    let (_, result) = apply(&mut empty, 1, &[Log::Blank]);
    assert!(matches!(result, Err(ApplyError::OutOfOrder { index: 1, applied: None })), "a log begins at 0");
}

/// What state and outcomes must be.
#[derive(Default)]
struct Model {
    records: BTreeMap<RecordKey, (u64, Vec<u8>)>,
    members: BTreeSet<u64>,
    boots: BTreeMap<u64, u32>,
    slots: BTreeMap<(u64, u64), (u32, u64, Outcome)>,
}

impl Model {
    fn batch(&mut self, index: u64, batch: &Batch) -> Outcome {
        let BatchId { origin, boot, seq } = batch.id;
        if !self.members.contains(&origin.0) || self.boots.get(&origin.0) != Some(&boot) {
            return Outcome::Fenced;
        }
        if let Some((slot_boot, slot_seq, outcome)) = self.slots.get(&(origin.0, seq % 4096))
            && *slot_boot == boot
        {
            if *slot_seq == seq {
                return outcome.clone();
            }
            if *slot_seq > seq {
                return Outcome::TooOld;
            }
        }
        let rev = |key: &RecordKey| self.records.get(key).map_or(0, |(rev, _)| *rev);
        let wrong = batch.expects.iter().filter(|e| rev(&e.key) != e.rev);
        let mismatches: Vec<_> = wrong.map(|e| Expect { key: e.key.clone(), rev: rev(&e.key) }).take(8).collect();
        let outcome = if mismatches.is_empty() {
            for op in &batch.ops {
                match op {
                    Op::Put(key, value) => _ = self.records.insert(key.clone(), (index, value.clone())),
                    Op::Delete(key) => _ = self.records.remove(key),
                }
            }
            Outcome::Applied(index)
        } else {
            Outcome::Conflict { index, mismatches }
        };
        let kept = match &outcome {
            Outcome::Conflict { index, .. } => Outcome::Conflict { index: *index, mismatches: vec![] },
            other => other.clone(),
        };
        self.slots.insert((origin.0, seq % 4096), (boot, seq, kept));
        outcome
    }
    fn open(&mut self, index: u64, origin: u64, boot: u32) -> Outcome {
        if !self.members.contains(&origin) || self.boots.get(&origin).is_some_and(|known| *known > boot) {
            return Outcome::Fenced;
        }
        self.boots.insert(origin, boot);
        Outcome::Applied(index)
    }
    fn members(&mut self, members: BTreeSet<u64>) {
        self.boots.retain(|origin, _| members.contains(origin));
        self.slots.retain(|(origin, _), _| members.contains(origin));
        self.members = members;
    }
}

fn random_batch(rng: &mut Rng, model: &Model) -> Batch {
    let seq = if rng.chance(10) { 4096 + rng.below(40) } else { rng.below(40) };
    let id = id(1 + rng.below(4), 1 + rng.below(3) as u32, seq);
    let keys: BTreeSet<u64> = (0..=rng.below(4)).map(|_| rng.below(12)).collect();
    let mut expects = Vec::new();
    let mut ops = Vec::new();
    for n in keys {
        let rev = model.records.get(&key(n)).map_or(0, |(rev, _)| *rev);
        expects.push((n, if rng.chance(10) { rev + 1 } else { rev }));
        let len = rng.below(50) as usize;
        match rng.below(4) {
            0 => ops.push(Op::Delete(key(n))),
            1 | 2 => ops.push(put(n, &rng.bytes(len))),
            _ => {}
        }
    }
    batch(id, &expects, ops)
}

#[test]
fn random_logs_match_the_model_however_they_are_cut_into_groups() {
    let mut seeds = Rng(seed(2));
    for _ in 0..12 {
        let seed = seeds.next_u64();
        let mut rng = Rng(seed);
        let mut model = Model::default();
        model.members([1, 2, 3].into());
        let (mut log, mut outcomes, mut sent) = (vec![members(1..=3), genesis()], Vec::new(), Vec::new());
        outcomes.extend([Outcome::Applied(0), Outcome::Applied(1)]);
        for index in 2..400 {
            let (entry, outcome) = match rng.below(30) {
                0 => {
                    let ids: BTreeSet<u64> = (1..=4).filter(|_| rng.chance(80)).collect();
                    model.members(ids.clone());
                    (members(ids), Outcome::Applied(index))
                }
                1 => (Log::Blank, Outcome::Applied(index)),
                2 => (Log::Entry(Entry::Tick(rng.below(9000)).encode()), Outcome::Applied(index)),
                3..=5 => {
                    let (origin, boot) = (1 + rng.below(4), 1 + rng.below(3) as u32);
                    (opens(origin, boot), model.open(index, origin, boot))
                }
                n => {
                    let resent = (n < 11 && !sent.is_empty()).then(|| rng.below(sent.len() as u64) as usize);
                    let batch: Batch = match resent {
                        Some(i) => Batch::clone(&sent[i]),
                        None => random_batch(&mut rng, &model),
                    };
                    sent.push(batch.clone());
                    (entry(&batch), model.batch(index, &batch))
                }
            };
            log.push(entry);
            outcomes.push(outcome);
        }
        let mut ends = Vec::new();
        for cut in 0..3 {
            let disk = SimDisk::default();
            let mut state = open(&disk, None).expect("opens");
            let mut at = 0;
            while at < log.len() {
                let len = if cut == 0 { 1 } else { 1 + rng.below(60) as usize }.min(log.len() - at);
                let (applied, result) = apply_verified(&mut state, at as u64, &log[at..at + len], Some(&Verifier));
                result.expect("applies");
                let got: Vec<_> = applied.into_iter().map(|a| a.outcome).collect();
                assert_eq!(got, outcomes[at..at + len], "seed {seed} at {at}");
                at += len;
                if cut == 2 && rng.chance(10) {
                    // Durable or not, what was applied is there after closing; else it is applied again.
                    drop(state);
                    disk.kill();
                    state = open(&disk, None).expect("opens again");
                    at = state.meta().applied.as_ref().map_or(0, |(index, _)| *index as usize + 1);
                }
            }
            let view = state.view();
            let mut found = BTreeMap::new();
            for table in [Table::Key, Table::Name, Table::KeyVersion] {
                for (key, rev, value) in scan_table(&*view, table, Bound::Unbounded, 1000).expect("scans") {
                    found.insert(key, (rev, value.to_vec()));
                }
            }
            assert!(found == model.records, "seed {seed}: other records");
            let records = verify_state(&*view).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
            assert_eq!(records as usize, 4 + model.records.len() + model.boots.len() + model.slots.len());
            let checkpoint = state.checkpoint().expect("checkpoints").expect("applied");
            ends.push((checkpoint.index, checkpoint.digest, checkpoint.chain));
        }
        assert!(ends.iter().all(|end| *end == ends[0]), "seed {seed}: groups made a difference");
    }
}

#[test]
fn a_view_stays_as_it_was() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    let before = state.view();
    one(&mut state, 4, entry(&batch(id(1, 1, 1), &[(0, 0)], vec![put(0, b"a")])));
    assert!(get_record(&*before, &key(0)).expect("readable").is_none());
    assert_eq!(Meta::read(&*before).expect("readable").applied.map(|(i, _)| i), Some(3));
    assert!(get_record(&*state.view(), &key(0)).expect("readable").is_some());
    verify_state(&*before).expect("adds up");
}

#[test]
fn tables_are_scanned_from_any_bound() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    let ops: Vec<_> = (0..12).map(|n| put(n, b"v")).collect();
    let expects: Vec<_> = (0..12).map(|n| (n, 0)).collect();
    one(&mut state, 4, entry(&batch(id(1, 1, 1), &expects, ops)));
    let view = state.view();
    let scan = |table, from: Bound<&RecordKey>, limit| -> Vec<RecordKey> {
        scan_table(&*view, table, from, limit).expect("scans").into_iter().map(|(key, ..)| key).collect()
    };
    assert_eq!(scan(Table::Key, Bound::Unbounded, 99), [key(0), key(3), key(6), key(9)]);
    assert_eq!(scan(Table::Key, Bound::Excluded(&key(3)), 99), [key(6), key(9)]);
    assert_eq!(scan(Table::Key, Bound::Included(&key(3)), 2), [key(3), key(6)]);
    assert_eq!(scan(Table::Name, Bound::Excluded(&key(0)), 1), [key(1)]);
    assert_eq!(scan(Table::Key, Bound::Included(&key(1)), 99), []);
}

#[test]
fn power_cuts_leave_the_state_where_the_journal_says_that_it_may_stand() {
    let mut rng = Rng(seed(3));
    for round in 0..40 {
        let disk = SimDisk::default();
        let mut state = begun(&disk);
        let mut stands = Stands { newest: state.stands_at(), ..Stands::default() };
        state.checkpoint().expect("checkpoints");
        let mut ends = BTreeMap::new();
        disk.cut_power_after(rng.below(400));
        let mut index = 4;
        'life: while index < 400 {
            let n = rng.below(30);
            let view = state.view();
            let Ok(now) = get_record(&*view, &key(n)) else { break };
            drop(view);
            let rev = now.map_or(0, |(rev, _)| rev);
            let log = entry(&batch(id(1, 1, index), &[(n, rev)], vec![put(n, &rng.bytes(2000))]));
            let (applied, result) = apply(&mut state, index, &[log]);
            if result.is_err() {
                break;
            }
            ends.insert(index, state.meta().chain);
            index += applied.len() as u64;
            if rng.chance(5) {
                // The journal is told first.
                stands = Stands { newest: state.stands_at(), before: stands.newest, from_first: false };
                if state.checkpoint().is_err() {
                    break 'life;
                }
            }
        }
        drop(state);
        disk.reboot(&mut rng);
        let state = State::open(store(&disk), CLUSTER, GROUP, Arc::new(Seals), Levels::default(), Some(stands));
        let state = state.unwrap_or_else(|e| panic!("round {round}: {e}"));
        verified(&state);
        if let Some((index, _)) = &state.meta().applied
            && let Some(chain) = ends.get(index)
        {
            assert_eq!(*chain, state.meta().chain, "round {round}");
        }
    }
}

#[test]
fn a_state_behind_or_beside_the_journals_checkpoint_is_refused() {
    let disk = SimDisk::default();
    let state = founded(&disk);
    let checkpoint = state.checkpoint().expect("checkpoints").expect("applied");
    drop(state);
    assert!(open(&disk, Some(checkpoint)).is_ok());
    let (later, earlier) = (Checkpoint { index: 2, ..checkpoint }, Checkpoint { index: 0, ..checkpoint });
    assert!(matches!(open(&disk, Some(later)), Err(StateError::Lost { found: Some(1), expected: 2 })));
    // The journal is the older one: it was put back, or lost.
    assert!(matches!(open(&disk, Some(earlier)), Err(StateError::Ahead { found: 1, expected: Some(0) })));
    let at = |stands| State::open(store(&disk), CLUSTER, GROUP, Arc::new(Seals), Levels::default(), Some(stands));
    let none = Stands { from_first: true, ..Stands::default() };
    assert!(matches!(at(none), Err(StateError::Ahead { found: 1, expected: None })));
    // A crash after the journal was told, and before the state was durable there.
    assert!(at(Stands { newest: Some(later), before: Some(checkpoint), from_first: false }).is_ok());
    for changed in [Checkpoint { digest: [0; 32], ..checkpoint }, Checkpoint { chain: [0; 32], ..checkpoint }] {
        assert!(matches!(open(&disk, Some(changed)), Err(StateError::Changed { index: 1 })));
    }
    // An engine that comes up empty agrees with itself, but not with the journal.
    let disk_of_none = SimDisk::default();
    assert!(matches!(open(&disk_of_none, Some(checkpoint)), Err(StateError::Lost { found: None, .. })));
    // Unless the log is there from its first entry on.
    let whole = Stands { from_first: true, ..only(checkpoint) };
    assert!(State::open(store(&disk_of_none), CLUSTER, GROUP, Arc::new(Seals), Levels::default(), Some(whole)).is_ok());
    let other = State::open(store(&disk), ClusterId([9; 16]), GROUP, Arc::new(Seals), Levels::default(), None);
    assert!(matches!(other, Err(StateError::WrongCluster { found: CLUSTER, .. })));
}

#[test]
fn the_scan_finds_lost_added_changed_and_rolled_back_records() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    one(&mut state, 4, entry(&batch(id(1, 1, 1), &[(0, 0)], vec![put(0, b"a")])));
    let old = state.view().get(key(0).as_bytes()).expect("readable");
    one(&mut state, 5, entry(&batch(id(1, 1, 2), &[(0, 4)], vec![put(0, b"b")])));
    state.checkpoint().expect("checkpoints");
    let new = state.view().get(key(0).as_bytes()).expect("readable");
    drop(state);
    let mut flipped = new.clone().expect("there");
    *flipped.last_mut().expect("not empty") ^= 1;
    for (what, key, value) in [
        ("lost", key(0), None),
        ("changed", key(0), Some(flipped)),
        ("rolled back", key(0), old),
        ("added", key(5), new.clone()),
    ] {
        let engine = engine(&disk);
        let tamper = |value| engine.write(&WriteSet::from([(key.as_bytes().to_vec(), value)]), true).expect("writes");
        let before = engine.view().expect("a view").get(key.as_bytes()).expect("readable");
        tamper(value);
        let found = verify_state(&*engine.view().expect("a view"));
        assert!(matches!(found, Err(StateError::Mismatch { index: Some(5), .. })), "{what}");
        tamper(before);
        verify_state(&*engine.view().expect("a view")).expect("adds up again");
    }
}

#[test]
fn a_damaged_state_file_is_an_error_and_no_panic() {
    let disk = SimDisk::default();
    let mut state = begun(&disk);
    for index in 4..60 {
        let rev = if index < 14 { 0 } else { index - 10 };
        let log = entry(&batch(id(1, 1, index), &[(index % 10, rev)], vec![put(index % 10, &[7; 500])]));
        assert_eq!(one(&mut state, index, log).outcome, Outcome::Applied(index));
    }
    let checkpoint = state.checkpoint().expect("checkpoints");
    let end = (state.meta().applied.clone(), state.meta().chain);
    drop(state);
    let files = disk.dump();
    let mut rng = Rng(seed(4));
    let (mut refused, mut same) = (0, 0);
    for _ in 0..300 {
        let mut files = files.clone();
        let bytes = files.get_mut(Path::new("/state")).expect("the file");
        match rng.below(5) {
            0 => bytes.truncate(rng.below(bytes.len() as u64) as usize),
            _ => {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
        }
        let disk = SimDisk::load(&files);
        let opened = RedbEngine::open(&disk, Path::new("/state"), 1 << 20).map_err(StateError::Io);
        let opened = opened.and_then(|engine| Ok(Store::new(Arc::new(engine), 1 << 20)?)).and_then(|store| {
            State::open(store, CLUSTER, GROUP, Arc::new(Seals), Levels::default(), checkpoint.map(only))
        });
        // What a start does not read is checked by the scan before the node serves.
        let scanned = opened
            .and_then(|state| verify_state(&*state.view()).map(|_| (state.meta().applied.clone(), state.meta().chain)));
        match scanned {
            Ok(found) => {
                assert!(found == end);
                same += 1;
            }
            Err(e) => {
                assert!(!e.to_string().is_empty());
                refused += 1;
            }
        }
    }
    println!("{refused} refused, {same} unchanged");
    assert!(refused > 0 && same > 0);
}
