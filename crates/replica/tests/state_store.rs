//! The state's layers against a model: whatever is in memory, on its way or in the engine, a view is one moment's state.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate_journal::testing::{Rng, SimDisk, seed};
use quorate_replica::state::{RedbEngine, Store, View, WriteSet};

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;
/// A view, and what it shows.
type Kept = (Arc<dyn View>, Model);

const TABLE_BYTES: usize = 4 << 10;

fn open(disk: &SimDisk) -> io::Result<Arc<Store>> {
    Store::new(Arc::new(RedbEngine::open(disk, Path::new("/state"), 1 << 20)?), TABLE_BYTES)
}

/// Few keys, often written, one the beginning of another; some are no records.
fn key(rng: &mut Rng) -> Vec<u8> {
    let first = *[0, 1, 2, 0xfe, 0xff].get(rng.below(5) as usize).expect("one of five");
    let len = rng.below(4) as usize;
    std::iter::once(first).chain((0..len).map(|_| rng.below(3) as u8)).collect()
}

fn bound(rng: &mut Rng) -> Bound<Vec<u8>> {
    match rng.below(3) {
        0 => Bound::Unbounded,
        1 => Bound::Included(key(rng)),
        _ => Bound::Excluded(key(rng)),
    }
}

fn in_range(key: &[u8], from: &Bound<Vec<u8>>, to: &Bound<Vec<u8>>) -> bool {
    let after = match from {
        Bound::Unbounded => true,
        Bound::Included(from) => key >= &from[..],
        Bound::Excluded(from) => key > &from[..],
    };
    let before = match to {
        Bound::Unbounded => true,
        Bound::Included(to) => key <= &to[..],
        Bound::Excluded(to) => key < &to[..],
    };
    after && before
}

/// Writes at random, to both.
fn write(store: &Store, model: &mut Model, rng: &mut Rng) -> io::Result<()> {
    let mut set = WriteSet::new();
    for _ in 0..=rng.below(8) {
        let len = rng.below(60) as usize;
        let value = rng.chance(70).then(|| rng.bytes(len));
        set.insert(key(rng), value);
    }
    store.write(set.clone())?;
    for (key, value) in set {
        match value {
            Some(value) => _ = model.insert(key, value),
            None => _ = model.remove(&key),
        }
    }
    Ok(())
}

fn all(view: &dyn View) -> Model {
    view.scan((Bound::Unbounded, Bound::Unbounded), usize::MAX).expect("readable").into_iter().collect()
}

fn check(view: &dyn View, model: &Model, rng: &mut Rng) {
    for _ in 0..5 {
        let key = key(rng);
        assert_eq!(view.get(&key).expect("readable").as_ref(), model.get(&key));
        let (from, to) = (bound(rng), bound(rng));
        let limit = [0, 1, 2, 5, 1000, usize::MAX][rng.below(6) as usize];
        let range = (from.as_ref().map(|k| &k[..]), to.as_ref().map(|k| &k[..]));
        let there = || model.iter().filter(|(key, _)| in_range(key, &from, &to)).map(|(k, v)| (k.clone(), v.clone()));
        let forward: Pairs = there().take(limit).collect();
        let mut back: Pairs = there().collect();
        back.reverse();
        back.truncate(limit);
        assert_eq!(view.scan(range, limit).expect("readable"), forward, "{range:?}");
        assert_eq!(view.scan_back(range, limit).expect("readable"), back, "{range:?}");
    }
}

/// Views of every age, while tables are frozen, written and dropped beside them.
#[test]
fn a_view_is_the_state_of_one_moment_for_as_long_as_it_is_kept() {
    let mut seeds = Rng(seed(21));
    for _ in 0..30 {
        let mut rng = Rng(seeds.next_u64());
        let store = open(&SimDisk::default()).expect("opens");
        let (mut now, mut kept): (Model, Vec<Kept>) = Default::default();
        for _ in 0..200 {
            match rng.below(10) {
                0..=6 => write(&store, &mut now, &mut rng).expect("written"),
                7 => kept.push((store.view(), now.clone())),
                8 if !kept.is_empty() => drop(kept.swap_remove(rng.below(kept.len() as u64) as usize)),
                _ => {
                    let durable = now.clone();
                    let flushed = store.flush(|view| {
                        assert_eq!(all(view), durable);
                        // Whoever writes does not wait for the disk, nor does who reads.
                        for _ in 0..rng.below(4) {
                            write(&store, &mut now, &mut rng)?;
                            check(&*store.view(), &now, &mut rng);
                            kept.push((store.view(), now.clone()));
                        }
                        Ok(())
                    });
                    if let Some(flushed) = flushed.expect("flushed") {
                        check(&*flushed, &durable, &mut rng);
                    }
                    assert_eq!(all(&*store.durable_view()), durable);
                }
            }
            check(&*store.view(), &now, &mut rng);
            for (view, model) in &kept {
                check(&**view, model, &mut rng);
            }
        }
    }
}

/// A crash takes what was not flushed, and nothing of what was; a flush that was cut off has happened, or has not.
#[test]
fn power_cuts_take_back_to_a_flush() {
    let mut rng = Rng(seed(22));
    let mut cut_off = 0;
    for _ in 0..100 {
        let disk = SimDisk::default();
        let store = open(&disk).expect("opens");
        let (mut now, mut durable) = (Model::new(), Model::new());
        disk.cut_power_after(rng.below(60));
        let tried = loop {
            for _ in 0..rng.below(6) {
                write(&store, &mut now, &mut rng).expect("only memory is needed");
            }
            let tried = now.clone();
            match store.flush(|_| write(&store, &mut now, &mut rng)) {
                Ok(_) => durable = tried,
                Err(_) => break tried,
            }
        };
        assert!(store.write(WriteSet::new()).is_err(), "what can't become durable is refused");
        assert!(store.flush(|_| Ok(())).is_err());
        assert_eq!(all(&*store.view()), now, "what was written is still seen");
        drop(store);
        disk.reboot(&mut rng);
        let found = all(&*open(&disk).expect("opens").view());
        assert!(found == durable || found == tried, "neither the last flush nor the one that was cut off");
        cut_off += u64::from(found == tried && tried != durable);
    }
    println!("{cut_off} of the flushes that were cut off had happened");
}

/// What the journal can't be told of does not become durable; and why is told to whoever comes later, too, as a full disk
/// is mended otherwise than a broken one.
#[test]
fn a_flush_that_is_not_allowed_writes_nothing() {
    let (disk, mut rng, mut model) = (SimDisk::default(), Rng(seed(23)), Model::new());
    let store = open(&disk).expect("opens");
    write(&store, &mut model, &mut rng).expect("written");
    let full = || io::Error::new(io::ErrorKind::StorageFull, "no room in the journal");
    assert_eq!(store.flush(|_| Err(full())).map(drop).expect_err("not allowed").to_string(), full().to_string());
    let later = [write(&store, &mut model.clone(), &mut rng), store.flush(|_| Ok(())).map(drop)];
    for error in later.map(|later| later.expect_err("there is none any more")) {
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(error.to_string().contains("no room in the journal"), "{error}");
    }
    drop(store);
    assert!(all(&*open(&disk).expect("opens").view()).is_empty());
}

/// What is frozen by one that is given up would never become durable.
#[test]
fn flushes_go_one_at_a_time_and_to_their_end() {
    let (disk, mut rng, mut model) = (SimDisk::default(), Rng(seed(25)), Model::new());
    let store = open(&disk).expect("opens");
    assert!(store.begin_flush().expect("usable").is_none(), "there is nothing to do");
    write(&store, &mut model, &mut rng).expect("written");
    let flush = store.begin_flush().expect("usable").expect("something");
    assert!(store.begin_flush().is_err(), "one is under way");
    let durable = model.clone();
    write(&store, &mut model, &mut rng).expect("written beside it");
    assert_eq!(all(flush.view()), durable);
    assert_eq!(all(&*flush.finish().expect("durable")), durable);
    drop(store.begin_flush().expect("usable").expect("what was written beside it"));
    assert!(write(&store, &mut model.clone(), &mut rng).is_err() && store.begin_flush().is_err(), "it was given up");
    assert_eq!(all(&*store.view()), model);
}

#[test]
fn a_flush_is_due_long_before_the_store_is_full_and_makes_room() {
    let (disk, mut rng, mut model) = (SimDisk::default(), Rng(seed(24)), Model::new());
    let store = open(&disk).expect("opens");
    assert!(store.flush(|_| panic!("nothing to tell")).expect("nothing to do").is_none());
    let (mut due_at, mut full_at) = (None, None);
    for n in 1..1000 {
        write(&store, &mut model, &mut rng).expect("written");
        due_at = due_at.or(store.flush_is_due().then_some(n));
        full_at = full_at.or(store.is_full().then_some(n));
    }
    let (due_at, full_at) = (due_at.expect("due"), full_at.expect("full"));
    assert!(due_at > 5 && full_at > due_at + 5, "{due_at}, {full_at}");
    store.flush(|_| Ok(())).expect("flushed").expect("something");
    assert!(!store.flush_is_due() && !store.is_full());
    assert_eq!(all(&*store.view()), model);
}

/// With threads: each write sets all counters to its number, so a view that shows two numbers is torn.
#[test]
fn no_view_is_torn_whoever_runs_beside_it() {
    let store = open(&SimDisk::default()).expect("opens");
    let counters: Vec<Vec<u8>> = (0..200u8).map(|n| vec![n % 3, n]).chain([vec![0xff, b'm']]).collect();
    let number =
        |n: u64| -> WriteSet { counters.iter().map(|key| (key.clone(), Some(n.to_be_bytes().to_vec()))).collect() };
    store.write(number(0)).expect("written");
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let view = store.view();
                    let seen = view.get(&counters[7]).expect("readable").expect("there");
                    let values: Vec<_> = all(&*view).into_values().collect();
                    assert_eq!(values, vec![seen.clone(); counters.len()]);
                    assert!(seen >= last, "views go back in time");
                    last = seen;
                }
            });
        }
        let flusher = scope.spawn(|| {
            let mut flushes = 0;
            while !stop.load(Ordering::Relaxed) {
                flushes += u64::from(store.flush(|_| Ok(())).expect("flushed").is_some());
            }
            flushes
        });
        for n in 1..2000 {
            store.write(number(n)).expect("written");
        }
        stop.store(true, Ordering::Relaxed);
        assert!(flusher.join().expect("no panic") > 0);
    });
    assert_eq!(store.view().get(&counters[0]).expect("readable"), Some(1999u64.to_be_bytes().to_vec()));
}
