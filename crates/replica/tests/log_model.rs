//! The log against a model: random commands, clean reopens, kills and power cuts at any operation.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::id::{ClusterId, NodeId};
use quorate_journal::testing::SimDisk;
use quorate_journal::testing::{Rng, TestEntropy, seed};
use quorate_journal::{JournalConfig, JournalError, JournalIds};
use quorate_replica::log::{Checkpoint, Command, Log, LogConfig, LogEntry, Recovered};

const IDS: JournalIds = JournalIds { cluster: ClusterId([1; 16]), node: NodeId(7), stream: 0 };

fn config() -> LogConfig {
    // Small, so that segments roll and the ring overflows all the time.
    let journal = JournalConfig { segment_bytes: 24 << 10, low_space_bytes: 0 };
    LogConfig { journal, ring_bytes: 3000, ..LogConfig::default() }
}

/// What the log must amount to.
#[derive(Clone, PartialEq, Default)]
struct Model {
    entries: BTreeMap<u64, LogEntry>,
    next: u64,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    checkpoint: Option<Checkpoint>,
    purged: Option<(u64, Bytes)>,
    /// The newest words of the others, until a purge: they have to be written anew before one.
    seen: Option<Bytes>,
}

impl Model {
    fn apply(&mut self, command: &Command) {
        match command.clone() {
            Command::Entry(e) => {
                self.next = e.index + 1;
                self.entries.insert(e.index, e);
            }
            Command::Vote(v) => self.vote = Some(v),
            Command::Committed(c) => self.committed = Some(c),
            Command::TruncateAfter(i) => {
                let next = i.map_or(0, |i| i + 1);
                self.entries.split_off(&next);
                self.next = self.next.min(next);
            }
            Command::Purge((i, id)) => {
                self.entries = self.entries.split_off(&(i + 1));
                self.next = self.next.max(i + 1);
                self.purged = Some((i, id));
                self.seen = None;
            }
            Command::Checkpoint(c) => self.checkpoint = Some(c),
            Command::Seen(words) => self.seen = Some(words),
        }
    }
}

/// One random command that can follow.
fn command(rng: &mut Rng, model: &Model) -> Command {
    let first = model.purged.as_ref().map_or(0, |(i, _)| i + 1);
    match rng.below(20) {
        0 => Command::Vote(rng.bytes(17).into()),
        1 | 2 => Command::Committed(rng.bytes(24).into()),
        6 => Command::Seen(rng.bytes(85).into()),
        3 if model.next > first => {
            let keep = first + rng.below(model.next - first);
            Command::TruncateAfter(keep.checked_sub(1).filter(|_| keep > 0))
        }
        4 => {
            let index = model.next + rng.below(3);
            Command::Checkpoint(Checkpoint { index, digest: [index as u8; 32], chain: [rng.next_u64() as u8; 32] })
        }
        5 if model.checkpoint.is_some_and(|c| c.index >= first) => {
            let highest = model.checkpoint.map_or(0, |c| c.index);
            let index = first + rng.below(highest - first + 1);
            Command::Purge((index, rng.bytes(20).into()))
        }
        _ => {
            let payload_len = if rng.chance(5) { 3000 } else { rng.below(300) } as usize;
            let (id, payload) = (rng.bytes(20).into(), rng.bytes(payload_len).into());
            Command::Entry(LogEntry { index: model.next, id, payload })
        }
    }
}

fn group(rng: &mut Rng, model: &Model) -> (Vec<Command>, Model) {
    let (mut after, mut commands) = (model.clone(), Vec::new());
    for _ in 0..=rng.below(5) {
        let command = command(rng, &after);
        after.apply(&command);
        commands.push(command);
    }
    (commands, after)
}

fn check(log: &Log, model: &Model) -> Result<(), String> {
    let reader = log.reader();
    let entries = reader.entries(0..u64::MAX, usize::MAX).map_err(|e| e.to_string())?;
    let expected: Vec<_> = model.entries.values().cloned().collect();
    if entries != expected {
        let indexes: Vec<_> = entries.iter().map(|e| e.index).collect();
        return Err(format!("entries {indexes:?} instead of {:?}", model.entries.keys()));
    }
    let state = reader.state().map_err(|e| e.to_string())?;
    let last = expected.last().map(|e| (e.index, e.id.clone())).or(model.purged.clone());
    let same = state.purged == model.purged
        && state.last == last
        && reader.vote() == model.vote
        && reader.committed() == model.committed
        && reader.checkpoint() == model.checkpoint
        && reader.synced().map_or(0, |i| i + 1) == model.next;
    if same { Ok(()) } else { Err("vote, committed, purged, checkpoint or last differ".to_owned()) }
}

fn open(disk: &SimDisk) -> Result<(Log, Recovered), JournalError> {
    Log::open(Path::new("/j"), IDS, config(), Arc::new(disk.clone()), Arc::new(TestEntropy::default()))
}

/// Runs one life after another over one disk; in each the power may fail at any operation.
fn lives(seed: u64, lives: u64) {
    let mut rng = Rng(seed);
    let disk = SimDisk::default();
    let dir = Path::new("/j");
    let created = Log::create(dir, IDS, config(), Arc::new(disk.clone()), Arc::new(TestEntropy::default()));
    let (mut log, recovered) = created.expect("creates");
    assert_eq!(recovered.boot, 1);
    let (mut model, mut boot) = (Model::default(), 1);
    for life in 0..lives {
        if rng.chance(70) {
            disk.cut_power_after(rng.below(120));
        }
        // What may be there although it was not acknowledged.
        let mut unsure = None;
        for _ in 0..rng.below(80) {
            let (commands, after) = group(&mut rng, &model);
            match log.write(commands) {
                Ok(()) => model = after,
                Err(_) => {
                    unsure = Some(after);
                    break;
                }
            }
            check(&log, &model).unwrap_or_else(|e| panic!("seed {seed}, life {life}, running: {e}"));
            let housekeeping = match rng.below(6) {
                0 => log.journal().write_mark(),
                1 => log.journal().idle().map(|_| ()),
                _ => Ok(()),
            };
            if housekeeping.is_err() {
                break;
            }
        }
        if disk.is_off() || rng.chance(20) {
            drop(log);
            disk.reboot(&mut rng);
        } else if rng.chance(50) {
            drop(log);
            disk.kill();
        } else {
            log.journal().write_mark().ok();
            drop(log);
            disk.reboot(&mut rng);
        }
        // The power may fail again while it recovers, any number of times.
        let seen = loop {
            if rng.chance(30) {
                disk.cut_power_after(rng.below(40));
            }
            match open(&disk) {
                Ok((opened, recovered)) => {
                    disk.cut_power_after(u64::MAX);
                    assert!(recovered.boot > boot, "seed {seed}, life {life}: boot {} after {boot}", recovered.boot);
                    boot = recovered.boot;
                    log = opened;
                    break recovered.seen;
                }
                Err(JournalError::Io { .. }) if disk.is_off() => disk.reboot(&mut rng),
                Err(e) => panic!("seed {seed}, life {life}: {e}"),
            }
        };
        if let Err(why) = check(&log, &model) {
            match unsure.take().filter(|unsure| check(&log, unsure).is_ok()) {
                Some(unsure) => model = unsure,
                None => panic!("seed {seed}, life {life}, after recovery: {why}"),
            }
        } else if unsure.is_none() && model.seen.is_some() {
            assert!(seen == model.seen, "seed {seed}, life {life}: the words of the others are lost");
        }
    }
}

/// The newest segments, which hold what no state stands for yet; of the others, only what a start needs of them.
#[test]
fn a_start_reads_as_little_of_a_long_log_as_of_a_short_one() {
    let mut read = Vec::new();
    for count in [200, 2000] {
        let disk = SimDisk::default();
        let (dir, config) = (Path::new("/j"), config());
        let created = Log::create(dir, IDS, config, Arc::new(disk.clone()), Arc::new(TestEntropy::default()));
        let (mut log, mut model) = (created.expect("creates").0, Model::default());
        for index in 0..count {
            let entry = LogEntry { index, id: vec![1; 20].into(), payload: vec![index as u8; 300].into() };
            let stand = Checkpoint { index, digest: [1; 32], chain: [2; 32] };
            let mut commands = vec![Command::Entry(entry), Command::Checkpoint(stand)];
            if index % 50 == 49 {
                // As a new leader does: the entry is appended anew.
                let again = LogEntry { index, id: vec![2; 20].into(), payload: Bytes::new() };
                commands.extend([Command::TruncateAfter(Some(index - 1)), Command::Entry(again)]);
            }
            commands.iter().for_each(|command| model.apply(command));
            log.write(commands).expect("written");
        }
        drop(log);
        let disk = SimDisk::load(&disk.dump());
        let (mut log, _) = open(&disk).expect("opens");
        read.push((disk.read_bytes(), log.reader().retained_bytes()));
        check(&log, &model).expect("the same");
        log.write(vec![Command::TruncateAfter(Some(10))]).expect("written");
        model.apply(&Command::TruncateAfter(Some(10)));
        check(&log, &model).expect("the same");
    }
    println!("bytes read, of all: {read:?}");
    let [(short, _), (long, all)] = read[..] else { unreachable!("two logs") };
    // A header and an index a segment are more.
    assert!(long < short + all / 4 && long < all / 3, "{read:?}");
}

/// A log of 300 entries, with the state durable up to `stands`; and a byte in the middle of its third segment flipped.
fn harmed(stands: u64) -> Result<(Log, Recovered), JournalError> {
    let disk = SimDisk::default();
    let dir = Path::new("/j");
    let created = Log::create(dir, IDS, config(), Arc::new(disk.clone()), Arc::new(TestEntropy::default()));
    let mut log = created.expect("creates").0;
    for index in 0..300 {
        let entry = LogEntry { index, id: vec![1; 20].into(), payload: vec![7; 300].into() };
        log.write(vec![Command::Entry(entry)]).expect("written");
        if index == stands {
            // The second: a crash may leave the state at the one before.
            let stand = Command::Checkpoint(Checkpoint { index, digest: [1; 32], chain: [2; 32] });
            log.write(vec![stand.clone(), stand]).expect("written");
        }
    }
    drop(log);
    let mut files = disk.dump();
    files.get_mut(Path::new("/j/0000000000000003.seg")).expect("there")[12 << 10] ^= 1;
    open(&SimDisk::load(&files))
}

#[test]
fn damage_is_found_at_the_start_in_what_no_state_stands_for_and_else_when_it_is_read() {
    let (log, _) = harmed(250).expect("opens");
    let reader = log.reader();
    assert_eq!(reader.last_index(), Some(299));
    assert!(reader.check(3).is_err_and(|e| e.to_string().contains("0000000000000003.seg")));
    assert!(reader.check(2).expect("whole") && reader.check(4).expect("whole"));
    let read = reader.entries(0..300, usize::MAX).map(drop).expect_err("damage");
    assert!(read.to_string().contains("0000000000000003.seg"), "{read}");
    // In the third segment are entries up to some 120.
    let refused = harmed(90).map(drop).expect_err("acknowledged entries may be gone");
    assert!(matches!(&refused, JournalError::Damaged { .. }) && refused.to_string().contains("0003.seg"), "{refused}");
}

#[test]
fn random_lives_with_power_cuts_match_the_model() {
    let mut seeds = Rng(seed(1));
    for _ in 0..60 {
        lives(seeds.next_u64(), 25);
    }
}
