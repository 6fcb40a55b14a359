//! Damage of every kind: flipped bytes, cut files, missing, swapped and foreign segments, other owners.
//!
//! The rule for all: exactly what was synced comes back, or only groups that nothing on this disk proves to have
//! been synced are missing, or the journal is refused. Never silently less.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod list;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use list::{IDS, Items, List, Listed, drop_before, item, note};
use quorate_core::codec::Malformed;
use quorate_core::id::{ClusterId, NodeId};
use quorate_journal::disk::Disk;
use quorate_journal::testing::{SimDisk, TestEntropy};
use quorate_journal::{Contents, Haste, Journal, JournalConfig, JournalError, JournalIds, Location, Record, Sealed};

fn config() -> JournalConfig {
    JournalConfig { segment_bytes: 8 << 10, low_space_bytes: 0 }
}

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn create(ids: JournalIds) -> (SimDisk, Listed) {
    let disk = SimDisk::default();
    let listed = Listed::create(disk.clone(), ids, config()).expect("creates");
    (disk, listed)
}

fn open_as(ids: JournalIds, files: &Files) -> Result<Listed, JournalError> {
    Listed::open(SimDisk::load(files), ids, config())
}

fn open(files: &Files) -> Result<Listed, JournalError> {
    open_as(IDS, files)
}

/// A journal of one segment: groups as given, the mark after `marked` of them; its files after each group.
fn small(groups: usize, marked: usize) -> (Vec<Files>, Vec<Items>) {
    let (disk, mut listed) = create(IDS);
    let (mut files, mut contents) = (vec![disk.dump()], vec![listed.items()]);
    for g in 0..groups {
        let i = 3 * g as u64;
        let records = match g {
            2 => vec![note("two", Haste::Marks), item(i), item(i + 1), item(i + 2)],
            4 => vec![drop_before(2), item(i), item(i + 1), item(i + 2)],
            _ => vec![item(i), item(i + 1), note(vec![g as u8], Haste::Rides), item(i + 2)],
        };
        listed.journal.write(records).expect("writes");
        if g + 1 == marked {
            listed.journal.write_mark().expect("marks");
        }
        files.push(disk.dump());
        contents.push(listed.items());
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
                    Ok(listed) => {
                        let found = listed.items();
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
                Ok(listed) => {
                    let expected = if cut == end || now[cut..end].iter().all(|b| *b == 0) { 6 } else { 5 };
                    assert!(listed.items() == contents[expected], "torn at {cut}");
                    assert!(expected == 6 || marked == 5, "torn at {cut}: it had been marked");
                }
                Err(JournalError::Damaged { .. }) => assert_eq!(marked, 6, "torn at {cut}"),
                Err(e) => panic!("torn at {cut}: {e}"),
            }
            // The beginning never reached the disk, the rest did.
            let mut files = whole.clone();
            files.get_mut(&segment(1)).unwrap()[start..cut].fill(0);
            match open(&files) {
                Ok(listed) => {
                    let found = listed.items();
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
    let mut listed = Listed::open(disk.clone(), IDS, config()).expect("opens");
    assert!(listed.recovered.cut_bytes > 0);
    assert_eq!(listed.recovered.boot, 2);
    assert!(listed.items() == contents[5]);
    listed.journal.write(vec![item(15), item(16)]).expect("writes");
    drop(listed);
    let listed = Listed::open(disk, IDS, config()).expect("opens again");
    assert_eq!((listed.recovered.cut_bytes, listed.recovered.boot), (0, 3));
    assert_eq!(listed.items().numbers, (2..17).collect::<Vec<_>>());
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

/// Several segments, the oldest no longer needed.
fn large() -> (SimDisk, Files, Vec<u64>) {
    let (disk, mut listed) = create(IDS);
    for i in 0..120 {
        listed.journal.write(vec![item(i)]).expect("writes");
        if i == 100 {
            listed.journal.write(vec![drop_before(51)]).expect("writes");
        }
    }
    let numbers = disk.list(Path::new("/j")).expect("lists");
    let numbers = numbers.iter().filter_map(|n| u64::from_str_radix(n.strip_suffix(".seg")?, 16).ok()).collect();
    (disk.clone(), disk.dump(), numbers)
}

#[test]
fn segments_that_are_not_needed_go_and_the_rest_reads_back() {
    let (_, files, numbers) = large();
    assert!(numbers[0] > 1 && numbers.len() >= 3, "segments {numbers:?}");
    let items = open(&files).expect("opens").items();
    assert_eq!((items.numbers, items.needed_from), ((51..120).collect(), 51));
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
        assert!(text.contains("missing") && text.contains("/j/"), "{text}");
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
    let (disk, mut listed) = create(IDS);
    for i in 0..120 {
        listed.journal.write(vec![item(i), note("other", Haste::Rides)]).expect("writes");
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
    let other_stream = JournalIds { stream: 1, ..IDS };
    for other in [other_node, other_cluster, other_stream] {
        let refused = open_as(other, &files).map(|_| ()).expect_err("not its own");
        let told =
            matches!(refused, JournalError::Foreign { found, expected, .. } if found == IDS && expected == other);
        assert!(told, "{refused}");
    }
    // One segment of another node among ours.
    let (disk, mut listed) = create(other_node);
    for i in 0..120 {
        listed.journal.write(vec![item(i)]).expect("writes");
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
    let (disk, listed) = create(IDS);
    assert!(matches!(Listed::open(disk.clone(), IDS, config()), Err(JournalError::InUse(_))));
    drop(listed);
    assert!(matches!(Listed::create(disk.clone(), IDS, config()), Err(JournalError::Exists(_))));
    assert!(Listed::open(disk, IDS, config()).is_ok());
    assert!(matches!(Listed::open(SimDisk::default(), IDS, config()), Err(JournalError::Absent(_))));
}

#[test]
fn a_disk_error_is_final() {
    let (disk, mut listed) = create(IDS);
    listed.journal.write(vec![item(0)]).expect("writes");
    disk.cut_power_after(1);
    assert!(listed.journal.write(vec![item(1)]).is_err());
    disk.kill();
    let refused = listed.journal.write(vec![item(2)]).expect_err("once failed, always failed");
    assert!(refused.to_string().contains("must end"), "{refused}");
}

#[test]
fn what_is_no_record_is_refused_before_anything_is_written() {
    let (disk, mut listed) = create(IDS);
    let before = disk.operations();
    let len_max = config().body_len_max();
    for (kind, len) in [(0, 1), (128, 1), (255, 1), (2, len_max + 1), (2, 2 << 20)] {
        let bad = Record { kind, ..note(vec![0; len], Haste::Syncs) };
        let refused = listed.journal.write(vec![item(0), bad]).expect_err("no record");
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput, "{refused}");
    }
    assert_eq!((disk.operations(), listed.items()), (before, Items::default()));
    // The longest that fits, whatever is in the segment already.
    for _ in 0..3 {
        listed.journal.write(vec![note(vec![7; len_max], Haste::Syncs)]).expect("fits");
    }
}

/// Segments that a start takes up by their index: all but the newest two.
fn by_index(numbers: &[u64]) -> &[u64] {
    &numbers[..numbers.len() - 2]
}

#[test]
fn a_start_does_not_read_the_segments_that_it_takes_up_by_their_index() {
    let (_, files, numbers) = large();
    assert!(by_index(&numbers).len() >= 3, "segments {numbers:?}");
    let disk = SimDisk::load(&files);
    let listed = Listed::open(disk.clone(), IDS, config()).expect("opens");
    assert_eq!(listed.list.resumed(), by_index(&numbers));
    // Of each its header, which is half of one here, and of those by their index only that besides.
    let headers = numbers.len() as u64 * 4096;
    let (read, replayed) = (disk.read_bytes(), 2 * config().segment_bytes);
    println!("{read} bytes read");
    assert!(read < headers + replayed + by_index(&numbers).len() as u64 * 1024);
    assert_eq!(listed.items().numbers, (51..120).collect::<Vec<_>>());
    for number in &numbers {
        let sealed = Some(number) != numbers.last();
        assert_eq!(listed.journal.reader().check(*number).expect("whole"), sealed, "segment {number}");
    }
    assert!(!listed.journal.reader().check(99).expect("looked for"));
}

/// At once, where the start reads; when it is checked, where it does not. Never silently other content.
#[test]
fn damage_in_a_segment_taken_up_by_its_index_is_found_when_it_is_checked() {
    let (_, files, numbers) = large();
    let expected = open(&files).expect("opens").items();
    let (mut at_once, mut when_checked) = (0, 0);
    for number in by_index(&numbers) {
        let written = files[&segment(*number)].iter().rposition(|b| *b != 0).expect("not empty") + 1;
        for at in (0..written + 50).step_by(11) {
            let mut files = files.clone();
            files.get_mut(&segment(*number)).expect("there")[at] ^= 1 << (at % 8);
            let listed = match open(&files) {
                Ok(listed) => listed,
                Err(JournalError::Damaged { .. }) => {
                    at_once += 1;
                    continue;
                }
                Err(e) => panic!("byte {at} of {number}: {e}"),
            };
            assert_eq!(listed.list.next(), 120);
            match listed.journal.reader().check(*number) {
                Err(e) => {
                    assert!(e.to_string().contains(&format!("{number:016x}.seg at byte")), "{e}");
                    when_checked += 1;
                }
                Ok(_) => {
                    assert!(at >= written, "byte {at} of {number}: not found");
                    assert_eq!(listed.items(), expected);
                }
            }
        }
    }
    println!("{at_once} found at once, {when_checked} when they were checked");
    assert!(at_once > 0 && when_checked > 0);
}

/// What the system has cached says nothing about the disk.
#[test]
fn a_check_reads_what_is_on_the_disk() {
    let (disk, mut listed) = create(IDS);
    for i in 0..400 {
        listed.journal.write(vec![item(i)]).expect("writes");
    }
    let reader = listed.journal.reader();
    assert!(reader.check(2).expect("whole"));
    disk.rot(&segment(2), 6000);
    let error = reader.check(2).expect_err("found");
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData, "{error}");
}

/// Without an index, or with one that is not what was written, a segment is read; an index that belongs elsewhere is none.
#[test]
fn a_segment_whose_index_is_of_no_use_is_read() {
    let long = Anything { summary: List::default().summary(), index: vec![1; 9000] };
    for contents in [long, Anything { summary: List::default().summary(), index: Vec::new() }] {
        let (disk, entropy) = (SimDisk::default(), Arc::new(TestEntropy::default()));
        let made = Journal::create(Path::new("/j"), IDS, config(), Arc::new(disk.clone()), entropy, contents);
        let (mut journal, _) = made.expect("creates");
        for n in 0..200 {
            journal.write(vec![note(vec![n; 60], Haste::Syncs)]).expect("writes");
        }
        let reader = journal.reader();
        assert!(reader.segments().len() > 2);
        for number in &reader.segments()[1..] {
            assert!(reader.check(number - 1).expect("whole"));
        }
    }
}

/// Takes whatever comes, and says of it what it was told to say.
struct Anything {
    summary: Vec<u8>,
    index: Vec<u8>,
}

impl Contents for Anything {
    fn summary(&self) -> Vec<u8> {
        self.summary.clone()
    }
    fn oldest_needed(&self) -> u64 {
        0
    }
    fn synced(&mut self, _: &[(Record, Location)]) {}
    fn begin(&mut self, _: &[u8]) -> Result<(), Malformed> {
        Ok(())
    }
    fn index(&self, _: u64) -> Vec<u8> {
        self.index.clone()
    }
    fn resume(&mut self, _: u64, _: &Sealed<'_>) -> Result<bool, String> {
        Ok(false)
    }
    fn replay(&mut self, _: u8, _: &[u8], _: Location) -> Result<(), String> {
        Ok(())
    }
    fn replayed(&mut self, _: bool) -> Result<(), String> {
        Ok(())
    }
}

/// Whole records that its owner can't make sense of are damage as well: another version wrote them, or another program.
#[test]
fn records_and_summaries_that_the_owner_refuses_are_damage() {
    let empty_list = List::default().summary();
    let unknown = || Record { kind: 9, ..note("?", Haste::Syncs) };
    let cases = [
        (Vec::new(), vec![], "list's summary"),
        (empty_list.clone(), vec![item(0), unknown()], "kind 9"),
        (empty_list.clone(), vec![item(1)], "item 1 instead of 0"),
        // So many that they begin a segment, whose header is not their sum.
        (empty_list, (0..200).map(item).collect(), "does not sum up"),
    ];
    for (summary, records, why) in cases {
        let disk = SimDisk::default();
        let entropy = Arc::new(TestEntropy::default());
        let contents = Anything { summary, index: Vec::new() };
        let made = Journal::create(Path::new("/j"), IDS, config(), Arc::new(disk.clone()), entropy, contents);
        let (mut journal, _) = made.expect("creates");
        journal.write(records).expect("writes");
        let refused = open(&disk.dump()).map(|_| ()).expect_err("refused");
        let told = matches!(&refused, JournalError::Damaged { .. }) && refused.to_string().contains(why);
        assert!(told, "{refused}, not {why}");
    }
}
