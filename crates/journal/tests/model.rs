//! The journal against a model: random records, clean reopens, kills and power cuts at any operation.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod list;

use list::{IDS, Items, Listed, drop_before, item, note};
use quorate_journal::testing::{Rng, SimDisk, seed};
use quorate_journal::{Haste, JournalConfig, JournalError, Record};

fn config() -> JournalConfig {
    // Small, so that segments roll all the time.
    JournalConfig { segment_bytes: 12 << 10, low_space_bytes: 0 }
}

/// Some random records that can follow, and what is there after them.
fn group(rng: &mut Rng, items: &Items, next: u64) -> (Vec<Record>, Items, u64) {
    let (mut records, mut after, mut next) = (Vec::new(), items.clone(), next);
    for _ in 0..=rng.below(5) {
        match rng.below(12) {
            0 => {
                let text = rng.bytes(20);
                after.note = Some(text.clone().into());
                records.push(note(text, [Haste::Rides, Haste::Syncs, Haste::Marks][rng.below(3) as usize]));
            }
            1 if next > after.needed_from => {
                after.needed_from += rng.below(next - after.needed_from + 1);
                after.numbers.retain(|number| *number >= after.needed_from);
                records.push(drop_before(after.needed_from));
            }
            _ => {
                after.numbers.push(next);
                records.push(item(next));
                next += 1;
            }
        }
    }
    (records, after, next)
}

/// Runs one life after another over one disk; in each the power may fail at any operation.
fn lives(seed: u64, lives: u64) {
    let mut rng = Rng(seed);
    let disk = SimDisk::default();
    let mut listed = Listed::create(disk.clone(), IDS, config()).expect("creates");
    let (mut items, mut next, mut boot) = (Items::default(), 0, listed.recovered.boot);
    assert_eq!(boot, 1);
    for life in 0..lives {
        if rng.chance(70) {
            disk.cut_power_after(rng.below(120));
        }
        // What may be there although it was not acknowledged.
        let mut unsure = None;
        for _ in 0..rng.below(80) {
            let (records, after, then) = group(&mut rng, &items, next);
            match listed.journal.write(records) {
                Ok(()) => (items, next) = (after, then),
                Err(_) => {
                    unsure = Some((after, then));
                    break;
                }
            }
            assert_eq!(listed.items(), items, "seed {seed}, life {life}, running");
            let housekeeping = match rng.below(6) {
                0 => listed.journal.write_mark(),
                1 => listed.journal.idle().map(|_| ()),
                _ => Ok(()),
            };
            if housekeeping.is_err() {
                break;
            }
        }
        if !disk.is_off() && rng.chance(40) {
            drop(listed);
            disk.kill();
        } else {
            drop(listed);
            disk.reboot(&mut rng);
        }
        // The power may fail again while it recovers, any number of times.
        listed = loop {
            if rng.chance(30) {
                disk.cut_power_after(rng.below(40));
            }
            match Listed::open(disk.clone(), IDS, config()) {
                Ok(opened) => break opened,
                Err(JournalError::Io { .. }) if disk.is_off() => disk.reboot(&mut rng),
                Err(e) => panic!("seed {seed}, life {life}: {e}"),
            }
        };
        disk.cut_power_after(u64::MAX);
        assert!(listed.recovered.boot > boot, "seed {seed}, life {life}: {} after {boot}", listed.recovered.boot);
        boot = listed.recovered.boot;
        let found = listed.items();
        if found != items {
            (items, next) = unsure
                .filter(|(unsure, _)| *unsure == found)
                .unwrap_or_else(|| panic!("seed {seed}, life {life}, after recovery: {found:?} instead of {items:?}"));
        }
    }
}

#[test]
fn random_lives_with_power_cuts_match_the_model() {
    let mut seeds = Rng(seed(1));
    for _ in 0..60 {
        lives(seeds.next_u64(), 25);
    }
}

#[test]
fn a_journal_whose_making_was_cut_short_can_be_made_again_or_opens() {
    let mut rng = Rng(seed(5));
    let (mut made_again, mut opened) = (0, 0);
    for operations in 0..60 {
        let disk = SimDisk::default();
        disk.cut_power_after(operations);
        let create = || Listed::create(disk.clone(), IDS, config());
        let acknowledged = create().is_ok();
        disk.reboot(&mut rng);
        match Listed::open(disk.clone(), IDS, config()) {
            Ok(listed) => {
                assert!(listed.recovered.boot > u32::from(acknowledged));
                opened += 1;
            }
            Err(JournalError::Absent(_)) => {
                assert!(!acknowledged, "cut after {operations}: a journal that was made is gone");
                create().unwrap_or_else(|e| panic!("cut after {operations}: {e}"));
                made_again += 1;
            }
            Err(e) => panic!("cut after {operations}: {e}"),
        }
    }
    assert!(made_again > 0 && opened > 0);
}
