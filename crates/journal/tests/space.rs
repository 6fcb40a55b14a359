//! The journal on a disk that is nearly full: what it says, what it keeps for later, what it can still write.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod list;

use std::time::Duration;

use list::{IDS, Listed, item, note};
use quorate_journal::testing::SimDisk;
use quorate_journal::{Haste, JournalConfig, Space};
use tokio::time::Instant;

const SEGMENT: u64 = 32 << 10;

fn config() -> JournalConfig {
    JournalConfig { segment_bytes: SEGMENT, low_space_bytes: 0 }
}

fn create() -> (SimDisk, Listed) {
    let disk = SimDisk::default();
    let listed = Listed::create(disk.clone(), IDS, config()).expect("creates");
    (disk, listed)
}

fn reopen(disk: &SimDisk) -> Listed {
    Listed::open(disk.clone(), IDS, config()).expect("opens")
}

fn space(listed: &Listed) -> Space {
    listed.journal.reader().space()
}

fn room(listed: &Listed) -> u64 {
    listed.journal.reader().room()
}

#[test]
fn a_full_disk_raises_low_space_and_leaves_room_for_what_must_be_written() {
    let (disk, mut listed) = create();
    assert!(!space(&listed).low);
    disk.set_free_bytes(0);
    listed.journal.maintain(Instant::now() + Duration::from_secs(3600)).expect("looks");
    assert!(space(&listed).low);
    // Items until the segment is full: the last bytes are only used because there is no next segment.
    let mut number = 0;
    let full = loop {
        match listed.journal.write(vec![item(number)]) {
            Ok(()) => number += 1,
            Err(e) => break e,
        }
    };
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull, "{full}");
    assert!(number > 30, "two segments were there: the first and its prepared successor, {number} items fit");
    drop(listed);
    disk.set_free_bytes(1 << 40);
    let listed = reopen(&disk);
    assert_eq!(listed.items().numbers, (0..number).collect::<Vec<_>>());
    assert!(!space(&listed).low);
}

#[test]
fn space_stays_low_until_there_is_twice_the_limit() {
    let (disk, mut listed) = create();
    let mut hours = 0;
    let mut look = |free| {
        disk.set_free_bytes(free);
        hours += 1;
        listed.journal.maintain(Instant::now() + Duration::from_secs(3600 * hours)).expect("looks");
        space(&listed)
    };
    let limit = look(1 << 40).limit_bytes;
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
        let space = look(free);
        assert_eq!((space.low, space.free_bytes), (low, free));
    }
}

#[test]
fn the_next_segment_is_kept_across_a_restart_on_a_full_disk() {
    let (disk, listed) = create();
    let at_first = room(&listed);
    assert!(at_first > SEGMENT, "this segment and the next one: {at_first}");
    drop(listed);
    // What is free is less than a segment: only what is allocated already can be used.
    disk.set_free_bytes(SEGMENT - 1);
    let mut listed = reopen(&disk);
    assert!(space(&listed).low);
    let before = room(&listed);
    assert!(before > SEGMENT, "{before} of {at_first}");
    let mut number = 0;
    while room(&listed) > 0 && number < 1000 {
        listed.journal.write(vec![item(number)]).expect("written to what is allocated");
        number += 1;
    }
    assert!(number > 30, "both segments took {number} items");
    listed.journal.write(vec![note("a vote", Haste::Marks)]).expect("has room");
}

#[test]
fn a_full_disk_is_not_filled_further_by_trying() {
    let (disk, mut listed) = create();
    disk.set_free_bytes(SEGMENT - 1);
    let mut number = 0;
    while room(&listed) > 4096 {
        listed.journal.write(vec![item(number)]).expect("written");
        number += 1;
    }
    let operations = disk.operations();
    for hour in 1..10 {
        listed.journal.maintain(Instant::now() + Duration::from_secs(3600 * hour)).expect("looks");
    }
    let spent = disk.operations() - operations;
    assert!(spent <= 4, "a mark, and nothing allocated or removed: {spent} operations");
    assert!(space(&listed).low);
}
