//! The log's writer: order, visibility before the sync, errors.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use quorate_core::id::{ClusterId, NodeId};
use quorate_journal::testing::SimDisk;
use quorate_journal::testing::TestEntropy;
use quorate_journal::{JournalConfig, JournalIds};
use quorate_replica::log::{Command, Log, LogConfig, LogEntry, LogWriter};

const IDS: JournalIds = JournalIds { cluster: ClusterId([1; 16]), node: NodeId(7), stream: 0 };

fn config() -> LogConfig {
    LogConfig { journal: JournalConfig { segment_bytes: 256 << 10, low_space_bytes: 0 }, ..LogConfig::default() }
}

fn create(disk: &SimDisk) -> Log {
    let entropy = Arc::new(TestEntropy::default());
    Log::create(Path::new("/j"), IDS, config(), Arc::new(disk.clone()), entropy).expect("creates").0
}

fn open(disk: &SimDisk) -> Log {
    let entropy = Arc::new(TestEntropy::default());
    Log::open(Path::new("/j"), IDS, config(), Arc::new(disk.clone()), entropy).expect("opens").0
}

fn entry(index: u64) -> Command {
    let payload = Bytes::from(vec![index as u8; 100]);
    Command::Entry(LogEntry { index, id: Bytes::from_static(b"id"), payload })
}

#[tokio::test]
async fn entries_are_readable_at_once_and_callbacks_come_in_order_after_the_sync() {
    let disk = SimDisk::default();
    let (writer, run) = LogWriter::new(create(&disk), Box::new(|e| panic!("{e}")));
    let calls = Arc::new(Mutex::new(Vec::new()));
    for index in 0..20 {
        let calls = Arc::clone(&calls);
        writer
            .append(vec![entry(index)], Box::new(move |r| calls.lock().unwrap().push((index, r.is_ok()))))
            .await
            .expect("enqueued");
    }
    // The loop has not run yet.
    let reader = writer.reader();
    assert_eq!(reader.entries(0..100, usize::MAX).expect("readable").len(), 20);
    assert_eq!(reader.synced(), None);
    assert!(calls.lock().unwrap().is_empty());
    let before = disk.operations();
    let running = tokio::spawn(run);
    writer.append_synced(vec![entry(20)]).await.expect("synced");
    assert_eq!(*calls.lock().unwrap(), (0..20).map(|i| (i, true)).collect::<Vec<_>>());
    assert_eq!(reader.synced(), Some(20));
    // All that waited went in one write and one sync; the rest is the next segment's zeros.
    assert!(disk.operations() - before < 10, "{} operations", disk.operations() - before);
    writer.stop().await;
    running.await.expect("ends");
}

#[tokio::test]
async fn an_entry_truncated_and_replaced_before_it_was_written_reads_as_the_new_one() {
    let disk = SimDisk::default();
    let (writer, run) = LogWriter::new(create(&disk), Box::new(|e| panic!("{e}")));
    let other = LogEntry { index: 1, id: Bytes::from_static(b"new"), payload: Bytes::from_static(b"other") };
    let commands = vec![entry(0), entry(1), entry(2), Command::TruncateAfter(Some(0)), Command::Entry(other.clone())];
    writer.append(commands, Box::new(|_| ())).await.expect("enqueued");
    assert_eq!(writer.reader().state().expect("readable").last, Some((1, Bytes::from_static(b"new"))));
    let running = tokio::spawn(run);
    writer.append_synced(vec![Command::Vote(Bytes::from_static(b"v"))]).await.expect("synced");
    assert!(writer.reader().entry(1).expect("readable") == Some(other.clone()));
    writer.stop().await;
    running.await.expect("ends");
    let reader = open(&disk).reader();
    assert!(reader.entry(1).expect("readable") == Some(other) && reader.entry(2).expect("readable").is_none());
}

#[tokio::test]
async fn a_committed_id_alone_causes_no_sync_and_is_not_lost_by_stopping() {
    let disk = SimDisk::default();
    let mut log = create(&disk);
    while log.journal().idle().expect("fills") {}
    let (writer, run) = LogWriter::new(log, Box::new(|e| panic!("{e}")));
    let running = tokio::spawn(run);
    let before = disk.operations();
    for i in 0..100u8 {
        writer.append(vec![Command::Committed(Bytes::from(vec![i]))], Box::new(|_| ())).await.expect("enqueued");
        tokio::task::yield_now().await;
    }
    assert_eq!(disk.operations(), before);
    assert_eq!(writer.reader().committed(), Some(Bytes::from_static(&[99])));
    writer.stop().await;
    running.await.expect("ends");
    assert_eq!(open(&disk).reader().committed(), Some(Bytes::from_static(&[99])));
}

#[tokio::test]
async fn what_cannot_follow_is_refused_before_it_is_enqueued() {
    let disk = SimDisk::default();
    let (writer, run) = LogWriter::new(create(&disk), Box::new(|e| panic!("{e}")));
    let running = tokio::spawn(run);
    writer.append_synced(vec![entry(0)]).await.expect("synced");
    let refused = writer.append_synced(vec![entry(1), entry(3)]).await.expect_err("a hole");
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    writer.append_synced(vec![entry(1)]).await.expect("goes on");
    writer.stop().await;
    running.await.expect("ends");
    // Stopped means closed: the folder may be opened again at once.
    assert_eq!(open(&disk).reader().synced(), Some(1));
}
