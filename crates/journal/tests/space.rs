//! The journal on a disk that is nearly full: what it says, what it keeps for later, what it can still write.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::id::{ClusterId, GroupId, NodeId};
use quorate_journal::testing::SimDisk;
use quorate_journal::testing::TestEntropy;
use quorate_journal::{Command, Journal, JournalConfig, JournalIds, LogEntry};

const IDS: JournalIds = JournalIds { cluster: ClusterId([1; 16]), node: NodeId(7), group: GroupId(0) };

const SEGMENT: u64 = 32 << 10;

fn config() -> JournalConfig {
    JournalConfig { segment_bytes: SEGMENT, low_space_bytes: 0, ..JournalConfig::default() }
}

fn create() -> (SimDisk, Journal) {
    let disk = SimDisk::default();
    let entropy = Arc::new(TestEntropy::default());
    let (journal, _) =
        Journal::create(Path::new("/j"), IDS, config(), Arc::new(disk.clone()), entropy).expect("creates");
    (disk, journal)
}

fn reopen(disk: &SimDisk) -> Journal {
    let entropy = Arc::new(TestEntropy::default());
    Journal::open(Path::new("/j"), IDS, config(), Arc::new(disk.clone()), entropy).expect("opens").0
}

fn entry(index: u64) -> Command {
    let payload = Bytes::from(vec![index as u8; 60 + index as usize % 50]);
    Command::Entry(LogEntry { index, id: Bytes::from(vec![1; 20]), payload })
}

#[test]
fn a_full_disk_raises_low_space_and_leaves_room_for_votes() {
    let (disk, mut journal) = create();
    let now = || tokio::time::Instant::now() + std::time::Duration::from_secs(3600);
    assert!(!journal.reader().low_space());
    disk.set_free_bytes(0);
    journal.maintain(now()).expect("looks");
    assert!(journal.reader().low_space());
    // Entries until the segment is full: the last bytes are only used because there is no next segment.
    let mut index = 0;
    let full = loop {
        match journal.write_group(vec![entry(index)]) {
            Ok(()) => index += 1,
            Err(e) => break e,
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    assert!(index > 30, "two segments were there: the first and its prepared successor, {index} entries fit");
    drop(journal);
    disk.set_free_bytes(1 << 40);
    let journal = reopen(&disk);
    let entries = journal.reader().entries(0..u64::MAX, usize::MAX).expect("readable");
    assert_eq!(entries.iter().map(|e| e.index).collect::<Vec<_>>(), (0..index).collect::<Vec<_>>());
    assert!(!journal.reader().low_space());
}

#[test]
fn space_stays_low_until_there_is_twice_the_limit() {
    let (disk, mut journal) = create();
    let mut hours = 0;
    let mut look = |journal: &mut Journal, free| {
        disk.set_free_bytes(free);
        hours += 1;
        journal.maintain(tokio::time::Instant::now() + std::time::Duration::from_secs(3600 * hours)).expect("looks");
        journal.reader().space()
    };
    let limit = look(&mut journal, 1 << 40).limit_bytes;
    assert_eq!(limit, 2 * SEGMENT, "two segments");
    for (free, low) in [
        (limit, false),
        (limit - 1, true),
        (limit, true),
        (2 * limit - 1, true),
        (2 * limit, false),
        (limit, false),
        (0, true),
        (2 * limit, false),
    ] {
        let space = look(&mut journal, free);
        assert_eq!((space.low, space.free_bytes), (low, free));
    }
}

#[test]
fn the_next_segment_is_kept_across_a_restart_on_a_full_disk() {
    let (disk, journal) = create();
    let room = journal.reader().room();
    assert!(room > SEGMENT, "this segment and the next one: {room}");
    drop(journal);
    // What is free is less than a segment: only what is allocated already can be used.
    disk.set_free_bytes(SEGMENT - 1);
    let mut journal = reopen(&disk);
    assert!(journal.reader().low_space());
    let before = journal.reader().room();
    assert!(before > SEGMENT, "{before} of {room}");
    let mut index = 0;
    while journal.reader().room() > 0 && index < 1000 {
        journal.write_group(vec![entry(index)]).expect("written to what is allocated");
        index += 1;
    }
    assert!(index > 30, "both segments took {index} entries");
    journal.write_group(vec![Command::Vote(Bytes::from_static(b"vote"))]).expect("a vote has room");
}

#[test]
fn a_full_disk_is_not_filled_further_by_trying() {
    let (disk, mut journal) = create();
    disk.set_free_bytes(SEGMENT - 1);
    let mut index = 0;
    while journal.reader().room() > 4096 {
        journal.write_group(vec![entry(index)]).expect("written");
        index += 1;
    }
    let operations = disk.operations();
    for hour in 1..10 {
        let now = tokio::time::Instant::now() + std::time::Duration::from_secs(3600 * hour);
        journal.maintain(now).expect("looks");
    }
    let spent = disk.operations() - operations;
    assert!(spent <= 4, "a mark, and nothing allocated or removed: {spent} operations");
    assert!(journal.reader().low_space());
    // The segments before the newest can go.
    let newest = journal.reader().purge_to_newest_segment().expect("some can");
    assert!(newest > 0 && newest < index, "{newest} of {index}");
}
