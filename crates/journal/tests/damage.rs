//! Damage of every kind: flipped bytes, cut files, missing, swapped and foreign segments, other owners.
//!
//! The rule for all: exactly what was synced comes back, or only groups that nothing on this disk proves to have
//! been synced are missing, or the journal is refused. Never silently less.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::id::{ClusterId, GroupId, NodeId};
use quorate_journal::disk::Disk;
use quorate_journal::testing::SimDisk;
use quorate_journal::testing::TestEntropy;
use quorate_journal::{Checkpoint, Command, Journal, JournalConfig, JournalError, JournalIds, JournalReader, LogEntry};

const IDS: JournalIds = JournalIds { cluster: ClusterId([1; 16]), node: NodeId(7), group: GroupId(0) };

fn config() -> JournalConfig {
    JournalConfig { segment_bytes: 8 << 10, low_space_bytes: 0, ..JournalConfig::default() }
}

type Files = BTreeMap<PathBuf, Vec<u8>>;
/// Indexes, vote, committed id, purged index.
type Content = (Vec<u64>, Option<Bytes>, Option<Bytes>, Option<u64>);

fn create(ids: JournalIds) -> (SimDisk, Journal) {
    let disk = SimDisk::default();
    let entropy = Arc::new(TestEntropy::default());
    let (journal, _) =
        Journal::create(Path::new("/j"), ids, config(), Arc::new(disk.clone()), entropy).expect("creates");
    (disk, journal)
}

fn open_as(ids: JournalIds, files: &Files) -> Result<(Journal, u64), JournalError> {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::load(files));
    let (journal, recovered) = Journal::open(Path::new("/j"), ids, config(), disk, Arc::new(TestEntropy::default()))?;
    Ok((journal, recovered.cut_bytes))
}

fn open(files: &Files) -> Result<Journal, JournalError> {
    Ok(open_as(IDS, files)?.0)
}

fn entry(index: u64) -> Command {
    let payload = Bytes::from(vec![index as u8; 60 + index as usize % 50]);
    Command::Entry(LogEntry { index, id: Bytes::from(vec![1; 20]), payload })
}

/// Everything a reader can see.
fn content(reader: &JournalReader) -> Content {
    let entries = reader.entries(0..u64::MAX, usize::MAX).expect("readable");
    for e in &entries {
        assert!(entry(e.index) == Command::Entry(e.clone()), "entry {} has other bytes", e.index);
    }
    let purged = reader.purged().map(|(index, _)| index);
    (entries.iter().map(|e| e.index).collect(), reader.vote(), reader.committed(), purged)
}

/// A journal of one segment: groups as given, the mark after `marked` of them; its files after each group.
fn small(groups: usize, marked: usize) -> (Vec<Files>, Vec<Content>) {
    let (disk, mut journal) = create(IDS);
    let (mut files, mut contents) = (vec![disk.dump()], vec![content(&journal.reader())]);
    for g in 0..groups {
        let i = 3 * g as u64;
        let commands = match g {
            2 => vec![Command::Vote(Bytes::from_static(b"vote")), entry(i), entry(i + 1), entry(i + 2)],
            4 => vec![Command::TruncateAfter(Some(i - 2)), entry(i - 1), entry(i), entry(i + 1), entry(i + 2)],
            _ => vec![entry(i), entry(i + 1), Command::Committed(Bytes::from(vec![g as u8])), entry(i + 2)],
        };
        journal.write_group(commands).expect("writes");
        if g + 1 == marked {
            journal.write_mark().expect("marks");
        }
        files.push(disk.dump());
        contents.push(content(&journal.reader()));
    }
    (files, contents)
}

fn segment(number: u64) -> PathBuf {
    PathBuf::from(format!("/j/{number:016x}.seg"))
}

#[test]
fn every_flipped_byte_is_noticed_or_harmless() {
    for marked in [6, 5, 1] {
        let (files, contents) = small(6, marked);
        let (whole, all, but_one) = (&files[6], &contents[6], &contents[5]);
        for (path, bytes) in whole {
            // Every byte that was written, and some of the zeros behind.
            let written = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 40).min(bytes.len());
            for at in (0..written).chain((written..bytes.len()).step_by(41)) {
                let mut files = whole.clone();
                files.get_mut(path).unwrap()[at] ^= 1 << (at % 8);
                match open(&files) {
                    Ok(journal) => {
                        let found = content(&journal.reader());
                        // Only the last group may go, and only when the mark does not cover it.
                        let fine = found == *all || (marked < 6 && found == *but_one);
                        assert!(fine, "byte {at} of {}: silently other content", path.display());
                    }
                    Err(JournalError::Damaged { .. }) => {}
                    Err(e) => panic!("byte {at} of {}: {e}", path.display()),
                }
            }
        }
    }
}

#[test]
fn a_flip_before_the_last_group_is_always_refused() {
    let (files, _) = small(6, 1);
    let (whole, before) = (&files[6], &files[5]);
    let (now, then) = (&whole[&segment(1)], &before[&segment(1)]);
    let differs = now.iter().zip(then).position(|(a, b)| a != b).expect("the last group wrote something");
    // A group begins with a length below 256: three zeros, as before.
    let last_group_at = differs - 3;
    for at in 0..last_group_at {
        let mut files = whole.clone();
        files.get_mut(&segment(1)).unwrap()[at] ^= 0x10;
        let refused = matches!(open(&files), Err(JournalError::Damaged { .. }));
        assert!(refused, "byte {at} of {last_group_at}");
    }
}

#[test]
fn a_group_torn_anywhere_is_cut_unless_it_was_marked() {
    for marked in [5, 6] {
        let (files, contents) = small(6, marked);
        let (whole, before) = (&files[6], &files[5]);
        let now = &whole[&segment(1)];
        let start = now.iter().zip(&before[&segment(1)]).position(|(a, b)| a != b).expect("a difference");
        let end = now.iter().rposition(|b| *b != 0).expect("not empty") + 1;
        for cut in start..=end {
            // The rest of the write never reached the disk.
            let mut files = whole.clone();
            files.get_mut(&segment(1)).unwrap()[cut..].fill(0);
            match open(&files) {
                Ok(journal) => {
                    let expected = if cut == end || now[cut..end].iter().all(|b| *b == 0) { 6 } else { 5 };
                    assert!(content(&journal.reader()) == contents[expected], "torn at {cut}");
                    assert!(expected == 6 || marked == 5, "torn at {cut}: it had been marked");
                }
                Err(JournalError::Damaged { .. }) => assert_eq!(marked, 6, "torn at {cut}"),
                Err(e) => panic!("torn at {cut}: {e}"),
            }
            // The beginning never reached the disk, the rest did.
            let mut files = whole.clone();
            files.get_mut(&segment(1)).unwrap()[start..cut].fill(0);
            match open(&files) {
                Ok(journal) => {
                    let found = content(&journal.reader());
                    assert!(found == contents[5] && marked == 5 || found == contents[6], "head lost up to {cut}");
                }
                Err(JournalError::Damaged { .. }) => assert_eq!(marked, 6, "head lost up to {cut}"),
                Err(e) => panic!("head lost up to {cut}: {e}"),
            }
        }
    }
}

#[test]
fn a_cut_tail_is_written_over_and_the_journal_goes_on() {
    let (files, contents) = small(6, 5);
    let mut torn = files[6].clone();
    let bytes = torn.get_mut(&segment(1)).unwrap();
    let end = bytes.iter().rposition(|b| *b != 0).unwrap();
    bytes[end] ^= 1;
    let disk = SimDisk::load(&torn);
    let entropy = || Arc::new(TestEntropy::default());
    let dir = Path::new("/j");
    let (mut journal, recovered) = Journal::open(dir, IDS, config(), Arc::new(disk.clone()), entropy()).expect("opens");
    assert!(recovered.cut_bytes > 0);
    assert_eq!(recovered.boot, 2);
    assert!(content(&journal.reader()) == contents[5]);
    journal.write_group(vec![entry(15), entry(16)]).expect("writes");
    drop(journal);
    let (journal, recovered) = Journal::open(dir, IDS, config(), Arc::new(disk), entropy()).expect("opens again");
    assert_eq!((recovered.cut_bytes, recovered.boot), (0, 3));
    assert_eq!(content(&journal.reader()).0, (0..17).collect::<Vec<_>>());
}

#[test]
fn a_shortened_file_is_refused_at_every_length() {
    let (files, _) = small(6, 5);
    let len = files[6][&segment(1)].len();
    for cut in (0..len).step_by(7).chain([len - 1]) {
        let mut files = files[6].clone();
        files.get_mut(&segment(1)).unwrap().truncate(cut);
        assert!(matches!(open(&files), Err(JournalError::Damaged { .. })), "{cut} bytes left");
    }
}

/// Several segments, the oldest purged away.
fn large() -> (SimDisk, Files, Vec<u64>) {
    let (disk, mut journal) = create(IDS);
    for i in 0..120 {
        journal.write_group(vec![entry(i)]).expect("writes");
        if i == 100 {
            let checkpoint = Checkpoint { index: 50, digest: [0; 32], chain: [0; 32] };
            let purge = Command::Purge((50, Bytes::from(vec![1; 20])));
            journal.write_group(vec![Command::Checkpoint(checkpoint), purge]).expect("writes");
        }
    }
    let numbers = disk.list(Path::new("/j")).expect("lists");
    let numbers = numbers.iter().filter_map(|n| u64::from_str_radix(n.strip_suffix(".seg")?, 16).ok()).collect();
    (disk.clone(), disk.dump(), numbers)
}

#[test]
fn purged_segments_go_and_the_rest_reads_back() {
    let (_, files, numbers) = large();
    assert!(numbers[0] > 1 && numbers.len() >= 3, "segments {numbers:?}");
    let journal = open(&files).expect("opens");
    let (indexes, _, _, purged) = content(&journal.reader());
    assert_eq!((indexes, purged), ((51..120).collect(), Some(50)));
}

#[test]
fn a_missing_swapped_or_older_segment_is_refused() {
    let (_, files, numbers) = large();
    for number in &numbers {
        let mut without = files.clone();
        without.remove(&segment(*number));
        let refused = open(&without).map(|_| ()).expect_err("a segment is missing");
        assert!(matches!(refused, JournalError::Damaged { .. }), "without {number}: {refused}");
        let text = refused.to_string();
        assert!(text.contains("missing") && text.contains("/j/") && text.contains("must not vote"), "{text}");
    }
    let (a, b) = (segment(numbers[0]), segment(numbers[1]));
    let mut swapped = files.clone();
    swapped.insert(a.clone(), files[&b].clone());
    swapped.insert(b.clone(), files[&a].clone());
    assert!(matches!(open(&swapped), Err(JournalError::Damaged { .. })));
    let mut twice = files.clone();
    twice.insert(b, files[&a].clone());
    assert!(matches!(open(&twice), Err(JournalError::Damaged { .. })));
    let mut all_gone = files.clone();
    all_gone.retain(|path, _| path.extension().is_none());
    assert!(matches!(open(&all_gone), Err(JournalError::Damaged { .. })));
    let mut unmarked = files.clone();
    unmarked.remove(Path::new("/j/mark"));
    assert!(matches!(open(&unmarked), Err(JournalError::Damaged { .. })));
}

#[test]
fn a_segment_of_another_history_of_the_same_node_is_refused() {
    // Same node, same numbers, but another history: as when a backup is copied over.
    let (_, files, numbers) = large();
    let (disk, mut journal) = create(IDS);
    for i in 0..120 {
        journal.write_group(vec![entry(i), Command::Committed(Bytes::from_static(b"other"))]).expect("writes");
    }
    let other = disk.dump();
    for number in &numbers {
        let Some(foreign) = other.get(&segment(*number)) else { continue };
        let mut mixed = files.clone();
        mixed.insert(segment(*number), foreign.clone());
        assert!(matches!(open(&mixed), Err(JournalError::Damaged { .. })), "segment {number}");
    }
}

#[test]
fn another_node_another_cluster_and_foreign_segments_are_refused() {
    let (_, files, numbers) = large();
    let other_node = JournalIds { node: NodeId(8), ..IDS };
    let other_cluster = JournalIds { cluster: ClusterId([2; 16]), ..IDS };
    assert!(matches!(open_as(other_node, &files), Err(JournalError::WrongNode { found: NodeId(7), .. })));
    assert!(matches!(open_as(other_cluster, &files), Err(JournalError::WrongCluster { .. })));
    assert_eq!(Journal::identify(Path::new("/j"), &SimDisk::load(&files)).expect("identifies"), Some(IDS));
    assert_eq!(Journal::identify(Path::new("/j"), &SimDisk::default()).expect("identifies"), None);
    // One segment of another node among ours.
    let (disk, mut journal) = create(other_node);
    for i in 0..120 {
        journal.write_group(vec![entry(i)]).expect("writes");
    }
    for number in &numbers {
        let mut mixed = files.clone();
        mixed.insert(segment(*number), disk.dump()[&segment(*number)].clone());
        assert!(matches!(open(&mixed), Err(JournalError::Damaged { .. })), "segment {number}");
    }
    // Another node's mark.
    let mut mixed = files.clone();
    mixed.insert(PathBuf::from("/j/mark"), disk.dump()[Path::new("/j/mark")].clone());
    assert!(matches!(open(&mixed), Err(JournalError::Damaged { .. })));
}

#[test]
fn a_rolled_back_tail_is_refused_when_the_mark_is_newer() {
    let (files, _) = small(6, 6);
    for older in 0..6 {
        let mut mixed = files[6].clone();
        mixed.insert(segment(1), files[older][&segment(1)].clone());
        assert!(matches!(open(&mixed), Err(JournalError::Damaged { .. })), "after {older} groups");
    }
}

#[test]
fn a_folder_is_used_once_and_by_one_process() {
    let (disk, journal) = create(IDS);
    let entropy = || Arc::new(TestEntropy::default());
    let dir = Path::new("/j");
    let again = Journal::open(dir, IDS, config(), Arc::new(disk.clone()), entropy());
    assert!(matches!(again, Err(JournalError::InUse(_))));
    drop(journal);
    let again = Journal::create(dir, IDS, config(), Arc::new(disk.clone()), entropy());
    assert!(matches!(again, Err(JournalError::Exists(_))));
    assert!(Journal::open(dir, IDS, config(), Arc::new(disk), entropy()).is_ok());
    let empty = Journal::open(dir, IDS, config(), Arc::new(SimDisk::default()), entropy());
    assert!(matches!(empty, Err(JournalError::Absent(_))));
}

#[test]
fn a_disk_error_is_final() {
    let (disk, mut journal) = create(IDS);
    journal.write_group(vec![entry(0)]).expect("writes");
    disk.cut_power_after(1);
    assert!(journal.write_group(vec![entry(1)]).is_err());
    disk.kill();
    let refused = journal.write_group(vec![entry(2)]).expect_err("once failed, always failed");
    assert!(refused.to_string().contains("must end"), "{refused}");
}

#[test]
fn commands_that_cannot_follow_change_nothing() {
    let (_, mut journal) = create(IDS);
    journal.write_group((0..10).map(entry).collect()).expect("writes");
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
    let before = content(&journal.reader());
    for commands in bad {
        let refused = journal.write_group(commands).expect_err("cannot follow");
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput, "{refused}");
        assert!(content(&journal.reader()) == before && journal.reader().checkpoint().is_none());
    }
    journal.write_group(vec![checkpoint, Command::Purge((5, id)), entry(10)]).expect("follows");
}
