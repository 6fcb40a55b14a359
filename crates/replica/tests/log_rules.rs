//! What the log refuses, and what of it is damage though every record is whole.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::id::{ClusterId, NodeId};
use quorate_journal::testing::{SimDisk, TestEntropy};
use quorate_journal::{JournalConfig, JournalError, JournalIds};
use quorate_replica::log::{Checkpoint, Command, Log, LogConfig, LogEntry, LogReader};

const IDS: JournalIds = JournalIds { cluster: ClusterId([1; 16]), node: NodeId(7), stream: 0 };

fn config() -> LogConfig {
    // Nothing is kept in memory: every entry is read from the disk.
    let journal = JournalConfig { segment_bytes: 8 << 10, low_space_bytes: 0 };
    LogConfig { journal, ring_bytes: 0, ..LogConfig::default() }
}

fn create() -> (SimDisk, Log) {
    let disk = SimDisk::default();
    let entropy = Arc::new(TestEntropy::default());
    let (log, _) = Log::create(Path::new("/j"), IDS, config(), Arc::new(disk.clone()), entropy).expect("creates");
    (disk, log)
}

fn open(files: &BTreeMap<PathBuf, Vec<u8>>) -> Result<Log, JournalError> {
    let entropy = Arc::new(TestEntropy::default());
    Ok(Log::open(Path::new("/j"), IDS, config(), Arc::new(SimDisk::load(files)), entropy)?.0)
}

fn entry(index: u64) -> Command {
    let payload = Bytes::from(vec![index as u8; 60 + index as usize % 50]);
    Command::Entry(LogEntry { index, id: Bytes::from(vec![1; 20]), payload })
}

/// Indexes, vote, committed id, purged index.
type Content = (Vec<u64>, Option<Bytes>, Option<Bytes>, Option<u64>);

fn content(reader: &LogReader) -> Content {
    let entries = reader.entries(0..u64::MAX, usize::MAX).expect("readable");
    for e in &entries {
        assert!(entry(e.index) == Command::Entry(e.clone()), "entry {} has other bytes", e.index);
    }
    let purged = reader.purged().map(|(index, _)| index);
    (entries.iter().map(|e| e.index).collect(), reader.vote(), reader.committed(), purged)
}

fn purge(index: u64) -> Vec<Command> {
    let checkpoint = Checkpoint { index, digest: [0; 32], chain: [0; 32] };
    vec![Command::Checkpoint(checkpoint), Command::Purge((index, Bytes::from(vec![1; 20])))]
}

#[test]
fn purged_segments_go_and_the_rest_reads_back() {
    let (disk, mut log) = create();
    for i in 0..120 {
        log.write(vec![entry(i)]).expect("writes");
    }
    let segments = || disk.dump().into_keys().filter(|path| path.extension().is_some_and(|e| e == "seg")).count();
    let before = segments();
    // Nothing goes by itself, whatever is written.
    log.write(vec![Command::Vote(Bytes::from_static(b"vote"))]).expect("writes");
    assert_eq!(segments(), before);
    log.write(purge(50)).expect("writes");
    assert!(segments() < before);
    assert_eq!(content(&open(&disk.dump()).expect("opens").reader()).0, (51..120).collect::<Vec<_>>());
    let newest = log.reader().purge_to_newest_segment().expect("some can");
    assert!(newest > 50 && newest < 119, "{newest}");
    log.write(purge(newest)).expect("writes");
    assert_eq!(segments(), 1, "the newest stays");
    assert_eq!(content(&open(&disk.dump()).expect("opens").reader()).0, (newest + 1..120).collect::<Vec<_>>());
}

#[test]
fn the_oldest_segment_can_t_be_missing_unless_it_was_purged() {
    let (disk, mut log) = create();
    for i in 0..120 {
        log.write(vec![entry(i)]).expect("writes");
    }
    let mut files = disk.dump();
    files.remove(Path::new("/j/0000000000000001.seg")).expect("the first segment");
    let e = open(&files).map(|_| ()).expect_err("refused");
    assert!(matches!(e, JournalError::Damaged { .. }) && e.to_string().contains("it held log entries 0 to"), "{e}");
}

#[test]
fn an_entry_that_changes_on_the_disk_is_told_from_one_that_was_written() {
    let (disk, mut log) = create();
    log.write((0..10).map(entry).collect()).expect("writes");
    let path = Path::new("/j/0000000000000001.seg");
    let whole = disk.dump()[path].clone();
    let at = whole.windows(60).position(|w| w == [5; 60]).expect("the payload of entry 5");
    let file = quorate_journal::disk::Disk::open(&disk, path, quorate_journal::disk::OpenMode::Write).expect("opens");
    file.pwrite(&[!5], at as u64).expect("written");
    assert!(log.reader().entry(4).is_ok_and(|e| e.is_some()) && log.reader().entry(6).is_ok_and(|e| e.is_some()));
    let e = log.reader().entry(5).map(|_| ()).expect_err("not what was written");
    let told = ["log entry 5", "0000000000000001.seg", "not what was written", "Stop this node"];
    assert!(e.kind() == std::io::ErrorKind::InvalidData && told.iter().all(|t| e.to_string().contains(t)), "{e}");
}

#[test]
fn commands_that_cannot_follow_change_nothing() {
    let (_, mut log) = create();
    log.write((0..10).map(entry).collect()).expect("writes");
    let id = Bytes::from_static(b"id");
    let long = Bytes::from(vec![0; 1 << 20]);
    let checkpoint = Command::Checkpoint(Checkpoint { index: 5, digest: [0; 32], chain: [0; 32] });
    let bad = [
        vec![entry(11)],
        vec![entry(10), entry(12)],
        vec![entry(9)],
        vec![Command::Purge((5, id.clone()))],
        vec![checkpoint.clone(), Command::Purge((6, id.clone()))],
        vec![checkpoint.clone(), Command::Purge((5, id.clone())), Command::TruncateAfter(Some(4))],
        vec![Command::Purge((u64::MAX, id.clone()))],
        vec![Command::Vote(Bytes::from(vec![0; 257]))],
        vec![Command::Entry(LogEntry { index: 10, id: Bytes::from(vec![0; 65]), payload: Bytes::new() })],
        vec![Command::Entry(LogEntry { index: 10, id: id.clone(), payload: long })],
    ];
    let before = content(&log.reader());
    for commands in bad {
        let refused = log.write(commands).expect_err("cannot follow");
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput, "{refused}");
        assert!(content(&log.reader()) == before && log.reader().checkpoint().is_none());
    }
    log.write(vec![checkpoint, Command::Purge((5, id)), entry(10)]).expect("follows");
}

/// As when somebody has read it: who needs what lies there is helped by nothing that is kept of it.
#[test]
fn damage_that_is_found_by_looking_is_known_to_reach_to_the_end_of_its_segment() {
    let (disk, mut log) = create();
    for index in 0..300 {
        log.write(vec![entry(index)]).expect("written");
    }
    let reader = log.reader();
    let segment = reader.segments()[1];
    let path = PathBuf::from(format!("/j/{segment:016x}.seg"));
    assert!(reader.check(segment).expect("whole") && reader.damage().is_none());
    disk.rot(&path, 6000);
    reader.check(segment).expect_err("it has rotted");
    let damage = reader.damage().expect("known");
    assert!(damage.what.contains(&path.display().to_string()), "{}", damage.what);
    log.write(purge(damage.upto - 1)).expect("written");
    assert!(disk.dump().contains_key(&path));
    log.write(purge(damage.upto)).expect("written");
    assert!(!disk.dump().contains_key(&path), "and to no less");
}
