//! The state's file: what a start reads of it, and what becomes of it under damage.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use quorate_journal::testing::{Rng, SimDisk, seed};
use quorate_replica::state::{Engine, RedbEngine, WriteSet};

const FILE: &str = "/state";
const CACHE: usize = 1 << 20;
const BLOCK: usize = 4096;

type Records = BTreeMap<Vec<u8>, Vec<u8>>;
type Files = BTreeMap<PathBuf, Vec<u8>>;

fn open(disk: &SimDisk) -> io::Result<RedbEngine> {
    RedbEngine::open(disk, Path::new(FILE), CACHE)
}

/// Writes records as apply does: groups that are not durable, and now and then one that is.
fn fill(engine: &RedbEngine, rng: &mut Rng, records: &mut Records, groups: u64, group_len: u64) {
    for n in 1..=groups {
        let set: Records = (0..group_len).map(|_| (rng.bytes(33), rng.bytes(200))).collect();
        let writes: WriteSet = set.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
        engine.write(&writes, n % 8 == 0).expect("written");
        records.extend(set);
    }
    engine.write(&WriteSet::new(), true).expect("durable");
}

fn all(engine: &RedbEngine) -> io::Result<Records> {
    Ok(engine.view()?.scan((Bound::Unbounded, Bound::Unbounded), usize::MAX)?.into_iter().collect())
}

/// Flat: with ten times the records a start reads no more, after a clean stop and after a kill in the middle of writes.
#[test]
fn a_start_reads_a_small_part_of_the_file_however_long_it_is() {
    const READ_MAX: u64 = 200 << 10;
    for groups in [8, 80] {
        let (disk, mut rng, mut records) = (SimDisk::default(), Rng(groups), Records::new());
        let engine = open(&disk).expect("opens");
        fill(&engine, &mut rng, &mut records, groups, 500);
        let durable = records.clone();
        let more: WriteSet = (0..500).map(|_| (rng.bytes(33), Some(rng.bytes(200)))).collect();
        engine.write(&more, false).expect("written");
        let killed = disk.dump();
        drop(engine);
        for (how, files) in [("killed", &killed), ("stopped", &disk.dump())] {
            let disk = SimDisk::load(files);
            let engine = open(&disk).expect("opens");
            let (key, value) = durable.first_key_value().expect("some");
            assert_eq!(engine.view().expect("a view").get(key).expect("read").as_ref(), Some(value));
            let read = disk.read_bytes();
            let len = files[Path::new(FILE)].len();
            println!("{how}: {} records, {len} bytes, {read} read", records.len());
            assert!(read < READ_MAX, "{how}: {read} of {len} bytes were read");
            if groups == 80 {
                assert!(len as u64 > 50 * READ_MAX, "the file is long enough for this to mean something");
            }
            if how == "killed" {
                assert!(all(&engine).expect("whole") == durable);
            }
        }
    }
}

/// Whatever happens to the file while nobody has it open: what is read is what was written, or an error. And the error
/// says that it is damaged, also to those who ask later.
#[test]
fn damage_is_an_error_when_it_is_read_and_never_a_panic_or_a_wrong_value() {
    let (disk, mut rng, mut records) = (SimDisk::default(), Rng(seed(11)), Records::new());
    let engine = open(&disk).expect("opens");
    fill(&engine, &mut rng, &mut records, 20, 100);
    let killed = disk.dump();
    drop(engine);
    let stopped = disk.dump();
    let (mut refused, mut found, mut same, mut older) = (0, 0, 0, 0);
    for round in 0..500 {
        let mut files: Files = if rng.chance(50) { killed.clone() } else { stopped.clone() };
        let bytes = files.get_mut(Path::new(FILE)).expect("the file");
        let blocks = (bytes.len() / BLOCK) as u64;
        let at = rng.below(blocks) as usize * BLOCK;
        match round % 5 {
            0 => {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << rng.below(8);
            }
            // Near the front, where the headers and the first group's checksums are.
            1 => bytes[rng.below(3 * BLOCK as u64) as usize] ^= 1 << rng.below(8),
            2 => bytes[at..at + BLOCK].fill(0),
            3 => {
                let other = rng.below(blocks) as usize * BLOCK;
                let block = bytes[other..other + BLOCK].to_vec();
                bytes[at..at + BLOCK].copy_from_slice(&block);
            }
            _ => bytes.truncate(rng.below(bytes.len() as u64) as usize),
        }
        let disk = SimDisk::load(&files);
        let engine = match open(&disk) {
            Ok(engine) => engine,
            Err(e) => {
                assert!(e.to_string().contains("damaged"), "{e}");
                refused += 1;
                continue;
            }
        };
        let read = all(&engine);
        let more: WriteSet = (0..50).map(|_| (rng.bytes(33), Some(rng.bytes(300)))).collect();
        let written = engine.write(&more, true);
        match read {
            Ok(read) if read == records => same += 1,
            // With its newest header gone a file is of an older time, whole: the journal's checkpoint tells.
            Ok(read) => {
                assert!(round % 5 != 0 && headers_hit(&files, &killed, &stopped), "round {round}");
                assert!(read.iter().all(|(key, value)| records.get(key) == Some(value)), "round {round}");
                older += 1;
            }
            Err(e) => {
                assert!(e.to_string().contains("damaged"), "{e}");
                assert!(engine.damage().is_some() && written.is_err());
                found += 1;
            }
        }
    }
    println!("{refused} refused at once, {found} found when read, {same} harmless, {older} older");
    assert!(refused > 0 && found > 0 && same > 0);
}

fn headers_hit(files: &Files, killed: &Files, stopped: &Files) -> bool {
    let headers = |files: &Files| files[Path::new(FILE)].iter().copied().take(2 * BLOCK).collect::<Vec<_>>();
    headers(files) != headers(killed) && headers(files) != headers(stopped)
}

/// A power cut at any moment leaves the last durable state or a later one, and the next start after it is as good as
/// any.
#[test]
fn power_cuts_leave_a_whole_file() {
    let mut rng = Rng(seed(12));
    for _ in 0..150 {
        let disk = SimDisk::default();
        let (mut durable, mut tried): (Records, Vec<Records>) = Default::default();
        let mut created = false;
        for _ in 0..3 {
            disk.cut_power_after(rng.below(120));
            if let Ok(engine) = open(&disk) {
                created = true;
                let mut now = all(&engine).expect("whole");
                assert!(now == durable || tried.contains(&now), "neither the durable state nor a later one");
                (durable, tried) = (now.clone(), Vec::new());
                loop {
                    let set: Records = (0..20).map(|_| (rng.bytes(33), rng.bytes(300))).collect();
                    now.extend(set.clone());
                    tried.push(now.clone());
                    let writes = set.into_iter().map(|(key, value)| (key, Some(value))).collect();
                    let sync = rng.chance(30);
                    if engine.write(&writes, sync).is_err() {
                        break;
                    }
                    if sync {
                        (durable, tried) = (now.clone(), Vec::new());
                    }
                }
                // The power has failed: nothing reaches the disk any more.
            }
            disk.reboot(&mut rng);
        }
        // A file whose making was cut off may be unusable; nothing was ever in it.
        match open(&disk) {
            Ok(engine) => {
                let now = all(&engine).expect("whole");
                assert!(now == durable || tried.contains(&now), "neither the durable state nor a later one");
            }
            Err(e) => assert!(!created || durable.is_empty(), "{e}"),
        }
    }
}
