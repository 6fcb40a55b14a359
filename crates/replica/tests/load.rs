//! What a node costs under load: not a promise, a measurement. `cargo nextest run -p quorate-replica --run-ignored only load`
#![allow(clippy::disallowed_methods, reason = "a measurement")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_core::batch::{Op, Outcome};
use quorate_core::id::{BatchId, NodeId};
use quorate_core::record_key::{RecordKey, Table};
use quorate_journal::JournalIds;
use quorate_journal::disk::RealDisk;
use quorate_journal::testing::TestEntropy;
use quorate_replica::Replica;
use quorate_replica::log::{Checkpoint, Command, Log, LogConfig, LogEntry};
use quorate_replica::state::{Engine, RedbEngine, Store, WriteSet};
use support::{CLUSTER, Cluster, put_all, soon};

/// Records that are there before anything is measured.
const RECORDS: u64 = 200_000;
const WRITERS: u64 = 64;
const LASTS: Duration = Duration::from_secs(20);

/// As an object's key: what was made later comes later.
fn key(table: Table, n: u64) -> RecordKey {
    let place: [u8; 10] = [&[0; 2], &n.to_be_bytes()[..]].concat().try_into().expect("10 bytes");
    let blind = *blake3::hash(&n.to_be_bytes()).as_bytes();
    match table {
        Table::KeyVersion => RecordKey::with(table, &place[4..], blind, &1u32.to_be_bytes()),
        _ => RecordKey::with(table, &place, blind, &[]),
    }
}

fn creates(id: BatchId, numbers: std::ops::Range<u64>) -> Bytes {
    let keys = numbers.flat_map(|n| [key(Table::Key, n), key(Table::KeyVersion, n)]);
    put_all(id, keys.map(|key| Op::Put(key, vec![7; 300])).collect(), 0)
}

async fn create(node: &Replica, numbers: std::ops::Range<u64>) {
    let seq = node.open_seq(soon()).await.expect("a sequence number");
    let outcome = node.propose(creates(seq.id(), numbers), soon()).await.expect("decided");
    assert!(matches!(outcome, Outcome::Applied(_)), "{outcome:?}");
}

/// CPU time of this process.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("readable");
    let fields: Vec<_> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(10 * ticks)
}

/// Kilobytes that this process has given to the disk.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("readable");
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).expect("a counter");
    line.parse::<u64>().expect("a number") >> 10
}

#[ignore = "a measurement of half a minute"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_beside_checkpoints() {
    let cluster = Cluster::voters(1).await;
    let node = &cluster.nodes[0];
    for n in 0..RECORDS / 100 {
        create(node, n * 50..(n + 1) * 50).await;
    }
    let (cpu_before, written_before, began) = (cpu(), written(), Instant::now());
    let writers = (0..WRITERS).map(|writer| {
        let node = node.clone();
        tokio::spawn(async move {
            let mut done = Vec::new();
            while began.elapsed() < LASTS {
                let sent = Instant::now();
                // As objects are made: by time, not by writer.
                let at = (began.elapsed().as_nanos() as u64) << 8 | writer;
                create(&node, RECORDS + at..RECORDS + at + 1).await;
                done.push((sent.elapsed(), Instant::now()));
            }
            done
        })
    });
    let mut done = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        done.extend(writer.await.expect("no panic"));
    }
    let (spent, took, kib) = (cpu() - cpu_before, began.elapsed(), written() - written_before);
    let mut latencies: Vec<_> = done.iter().map(|(latency, _)| *latency).collect();
    latencies.sort();
    let mut times: Vec<_> = done.iter().map(|(_, at)| *at).collect();
    times.sort();
    let longest = times.windows(2).map(|pair| pair[1] - pair[0]).max().expect("some");
    let at = |per_mille: usize| latencies[(latencies.len() - 1) * per_mille / 1000];
    println!(
        "{:.0} creates/s, p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}; longest stop {longest:?}; {:?} CPU and {:.1} KiB each",
        done.len() as f64 / took.as_secs_f64(),
        at(500),
        at(990),
        at(999),
        at(1000),
        spent / done.len() as u32,
        kib as f64 / done.len() as f64
    );
    cluster.stop().await;
}

/// What the writes of creates cost: the longest time that one group of them took, and the CPU for each.
fn writes(name: &str, write: &dyn Fn(WriteSet), flush: &(dyn Fn() + Sync), beside: bool) {
    const GROUP: u64 = 20;
    let group = |n: u64| -> WriteSet {
        let creates = (n * GROUP..(n + 1) * GROUP).flat_map(|n| {
            let slot = RecordKey::session(NodeId(1), Some((n % 4096) as u16));
            [(key(Table::Key, n), 300), (key(Table::KeyVersion, n), 300), (slot, 29)]
        });
        let mut set: WriteSet = creates.map(|(key, len)| (key.as_bytes().to_vec(), Some(vec![n as u8; len]))).collect();
        set.extend([(vec![0xff, b'd'], Some(vec![n as u8; 2048])), (vec![0xff, b'm'], Some(vec![n as u8; 200]))]);
        set
    };
    let mut n = 0;
    while n < RECORDS / 2 / GROUP {
        write(group(n));
        n += 1;
    }
    flush();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        if beside {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::thread::sleep(Duration::from_secs(2));
                    flush();
                }
            });
        }
        let (cpu_before, began) = (cpu(), Instant::now());
        let (mut took, mut flushed, first) = (Vec::new(), Instant::now(), n);
        while began.elapsed() < LASTS {
            let set = group(n);
            let now = Instant::now();
            write(set);
            if !beside && flushed.elapsed() > Duration::from_secs(2) {
                flush();
                flushed = Instant::now();
            }
            took.push(now.elapsed());
            n += 1;
            // 8000 creates a second.
            std::thread::sleep((Duration::from_micros(2500) * (n - first) as u32).saturating_sub(began.elapsed()));
        }
        stop.store(true, Ordering::Relaxed);
        took.sort();
        println!(
            "{name}: a group of {GROUP}: p50 {:?}, p99 {:?}, longest {:?}; {:?} CPU each",
            took[took.len() / 2],
            took[took.len() * 99 / 100],
            took[took.len() - 1],
            (cpu() - cpu_before) / ((n - first) * GROUP) as u32
        );
    });
}

#[ignore = "a measurement of a minute"]
#[test]
fn writes_beside_checkpoints() {
    let dir = tempfile::tempdir().expect("a folder");
    let engine = |name| Arc::new(RedbEngine::open(&RealDisk, &dir.path().join(name), 64 << 20).expect("opens"));
    let alone = engine("alone");
    let durable = || alone.write(&WriteSet::new(), true).expect("durable");
    writes("into the engine", &|set| alone.write(&set, false).expect("written"), &durable, false);
    let store = Store::new(engine("store"), 16 << 20).expect("a view");
    let write = |set| store.write(set).expect("written");
    writes("into memory, flushed beside", &write, &|| drop(store.flush(|_| Ok(())).expect("flushed")), true);
}

/// A start reads the log that is kept: how long that takes for a gibibyte.
#[ignore = "a measurement of half a minute"]
#[test]
fn a_start_over_a_gibibyte_of_log() {
    let dir = tempfile::tempdir().expect("a folder");
    let ids = JournalIds { cluster: CLUSTER, node: NodeId(1), stream: 0 };
    let entropy = Arc::new(TestEntropy::default());
    let (mut log, _) =
        Log::create(dir.path(), ids, LogConfig::default(), Arc::new(RealDisk), entropy.clone()).expect("made");
    let mut index = 0;
    while log.reader().retained_bytes() < 1 << 30 {
        let entry = |index| {
            Command::Entry(LogEntry { index, id: b"0123456789".as_slice().into(), payload: vec![7; 900].into() })
        };
        let mut commands: Vec<_> = (index..index + 2000).map(entry).collect();
        index += 2000;
        commands.push(Command::Checkpoint(Checkpoint { index: index - 1, digest: [0; 32], chain: [0; 32] }));
        log.write(commands).expect("written");
    }
    drop(log);
    let began = Instant::now();
    let (log, _) = Log::open(dir.path(), ids, LogConfig::default(), Arc::new(RealDisk), entropy).expect("opens");
    println!("{index} entries, {} MiB: {:?}", log.reader().retained_bytes() >> 20, began.elapsed());
    let began = Instant::now();
    let mut next = 0;
    while let Some(last) = log.reader().entries(next..index, 1 << 20).expect("readable").last() {
        next = last.index + 1;
    }
    println!("read through in {:?}", began.elapsed());
    assert_eq!(next, index);
}
