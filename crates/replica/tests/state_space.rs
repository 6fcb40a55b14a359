//! The state on a full disk: what is committed still finds room, and when there is none at all, nothing is lost.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::Arc;

use quorate_core::batch::{Entry, Outcome};
use quorate_core::id::{BatchId, GroupId, NodeId};
use quorate_core::level::Levels;
use quorate_core::session::Session;
use quorate_journal::disk::is_full;
use quorate_journal::testing::QuotaDisk;
use quorate_replica::log::{Checkpoint, Stands};
use quorate_replica::state::{ApplyError, State, StateFiles, ToApply, What, verify_state};
use support::{CLUSTER, TestSeals, genesis, put};

const RESERVE: u64 = 4 << 20;

fn open(disk: &Arc<QuotaDisk>, dir: &Path) -> std::io::Result<Arc<StateFiles>> {
    StateFiles::open(disk.clone(), dir, 1 << 20, RESERVE).map(Arc::new)
}

/// A state stands there and nowhere else.
fn only(checkpoint: Checkpoint) -> Stands {
    Stands { newest: Some(checkpoint), before: Some(checkpoint), from_first: false }
}

fn state(files: &Arc<StateFiles>, checkpoint: Option<Checkpoint>) -> State {
    State::open(
        files.store().expect("open"),
        CLUSTER,
        GroupId(0),
        Arc::new(TestSeals),
        Levels::default(),
        checkpoint.map(only),
    )
    .expect("a state")
}

/// Makes durable what was applied; returns what the journal is to remember of it.
fn checkpoint(files: &StateFiles, state: &State) -> std::io::Result<Option<Checkpoint>> {
    files.store()?.flush(|_| Ok(()))?;
    Ok(state.stands_at())
}

fn apply(state: &mut State, index: u64, what: What<'_>) -> Result<(), ApplyError> {
    let (applied, result) = state.apply(&[ToApply { index, log_id: &index.to_be_bytes(), what }], None);
    assert!(applied.iter().all(|a| matches!(a.outcome, Outcome::Applied(_))), "{applied:?}");
    result
}

fn found(state: &mut State) {
    apply(state, 0, What::Entry(&Entry::Genesis(Box::new(genesis("n1", 1000))).encode())).expect("applied");
    apply(state, 1, What::Membership(b"membership", [NodeId(1)].into())).expect("applied");
    let session = Session { origin: NodeId(1), boot: 1, process: [1; 16] };
    apply(state, 2, What::Entry(&Entry::Open(Box::new(support::open(session))).encode())).expect("applied");
}

/// The same value under a fresh name for each index.
fn write(state: &mut State, index: u64) -> Result<(), ApplyError> {
    let id = BatchId { origin: NodeId(1), boot: 1, seq: index };
    let batch = put(id, &format!("key {index}"), 0, &[index as u8; 8 << 10]);
    apply(state, index, What::Entry(&Entry::Batch(batch.to_vec()).encode()))
}

#[test]
fn what_is_committed_is_made_durable_on_a_full_disk_by_its_reserve() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = Arc::new(QuotaDisk::default());
    let files = open(&disk, dir.path()).expect("opens");
    assert!(files.hold_reserve().expect("held"));
    let mut state = state(&files, None);
    found(&mut state);
    checkpoint(&files, &state).expect("durable");
    // Somebody else takes everything there is.
    disk.fill_up();
    for index in 3..103 {
        write(&mut state, index).expect("applied");
    }
    let point = checkpoint(&files, &state).expect("durable").expect("something was applied");
    assert!(!files.reserve_is_held(), "this needed the reserve");
    assert_eq!(point.index, 102);
    verify_state(&*files.view().expect("a view")).expect("adds up");
    assert!(!files.hold_reserve().expect("looks"), "there is nothing to hold yet");
    // Nor does it take what little there is.
    disk.make_room(RESERVE / 2);
    assert!(!files.hold_reserve().expect("looks"));
    disk.make_room(2 * RESERVE);
    assert!(files.hold_reserve().expect("held") && files.reserve_is_held());
    drop((state, files));
    let files = open(&disk, dir.path()).expect("opens");
    assert!(files.reserve_is_held(), "it is found again");
    assert_eq!(self::state(&files, Some(point)).stands_at().map(|c| c.index), Some(102));
}

#[test]
fn a_state_without_any_room_fails_with_its_name_and_comes_back_where_it_was_durable() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = Arc::new(QuotaDisk::default());
    let files = open(&disk, dir.path()).expect("opens");
    let mut state = state(&files, None);
    found(&mut state);
    let durable = checkpoint(&files, &state).expect("durable");
    disk.fill_up();
    let mut index = 2;
    let error = loop {
        index += 1;
        assert!(index < 10_000, "it must find no room in the end");
        match write(&mut state, index) {
            Ok(()) if index % 50 > 0 => {}
            Ok(()) => {
                if let Err(e) = checkpoint(&files, &state) {
                    break e;
                }
            }
            Err(ApplyError::Io(e)) => break e,
            Err(e) => panic!("{e}"),
        }
    };
    assert!(is_full(&error), "{error}");
    assert!(write(&mut state, index + 1).is_err(), "it is of no use any more");
    drop((state, files));
    disk.make_room(64 << 20);
    let files = open(&disk, dir.path()).expect("opens");
    let mut state = self::state(&files, durable);
    let at = state.stands_at().expect("something").index;
    assert!(at >= durable.expect("one").index && at < index);
    verify_state(&*files.view().expect("a view")).expect("adds up");
    // What the log has from there on is applied again.
    for index in at + 1..at + 101 {
        write(&mut state, index).expect("applied");
    }
    checkpoint(&files, &state).expect("durable");
    verify_state(&*files.view().expect("a view")).expect("adds up");
}

#[test]
fn a_state_opens_on_a_full_disk_and_what_was_half_received_goes_first() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = Arc::new(QuotaDisk::default());
    let files = open(&disk, dir.path()).expect("opens");
    assert!(files.hold_reserve().expect("held"));
    let mut state = state(&files, None);
    found(&mut state);
    for index in 3..53 {
        write(&mut state, index).expect("applied");
    }
    let point = checkpoint(&files, &state).expect("durable");
    // What a killed process leaves: nothing of its own is written any more.
    disk.fill_up();
    disk.freeze(true);
    drop((state, files));
    disk.freeze(false);
    std::fs::write(dir.path().join("state-9-0.new"), [0; 64]).expect("written");
    let files = open(&disk, dir.path()).expect("opens");
    assert!(!dir.path().join("state-9-0.new").exists());
    assert_eq!(self::state(&files, point).stands_at().map(|c| c.index), Some(52));
    verify_state(&*files.view().expect("a view")).expect("adds up");
}
