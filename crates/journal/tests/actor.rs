//! The writer actor: order, haste, errors, stopping.

#![allow(clippy::disallowed_methods, clippy::disallowed_types)]

mod list;

use std::path::Path;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use list::{IDS, Listed, item, note};
use quorate_journal::testing::SimDisk;
use quorate_journal::{Driver, Haste, JournalConfig, JournalError, JournalWriter};

fn config() -> JournalConfig {
    JournalConfig { segment_bytes: 256 << 10, low_space_bytes: 0 }
}

fn create(disk: &SimDisk) -> Listed {
    Listed::create(disk.clone(), IDS, config()).expect("creates")
}

fn open(disk: &SimDisk) -> Listed {
    Listed::open(disk.clone(), IDS, config()).expect("opens")
}

#[tokio::test]
async fn callbacks_come_in_order_after_one_sync() {
    let disk = SimDisk::default();
    let listed = create(&disk);
    let (writer, run) = JournalWriter::new(listed.journal, Box::new(|e| panic!("{e}")));
    let calls = Arc::new(Mutex::new(Vec::new()));
    for number in 0..20 {
        let calls = Arc::clone(&calls);
        let on_synced = Box::new(move |r: std::io::Result<()>| calls.lock().unwrap().push((number, r.is_ok())));
        writer.place().await.expect("a place").append(vec![item(number)], on_synced);
    }
    // The loop has not run yet.
    assert!(calls.lock().unwrap().is_empty() && listed.list.next() == 0);
    let before = disk.operations();
    let running = tokio::spawn(run);
    writer.append_synced(vec![item(20)]).await.expect("synced");
    assert_eq!(*calls.lock().unwrap(), (0..20).map(|i| (i, true)).collect::<Vec<_>>());
    assert_eq!(listed.list.next(), 21);
    // All that waited went in one write and one sync; the rest is the next segment's zeros.
    assert!(disk.operations() - before < 10, "{} operations", disk.operations() - before);
    writer.stop().await;
    running.await.expect("ends");
}

#[tokio::test]
async fn what_rides_along_causes_no_sync_and_is_not_lost_by_stopping() {
    let disk = SimDisk::default();
    let mut listed = create(&disk);
    while listed.journal.idle().expect("fills") {}
    let (writer, run) = JournalWriter::new(listed.journal, Box::new(|e| panic!("{e}")));
    let running = tokio::spawn(run);
    let before = disk.operations();
    for i in 0..100u8 {
        writer.place().await.expect("a place").append(vec![note(vec![i], Haste::Rides)], Box::new(|_| ()));
        tokio::task::yield_now().await;
    }
    assert_eq!(disk.operations(), before);
    writer.stop().await;
    running.await.expect("ends");
    assert_eq!(open(&disk).items().note, Some(Bytes::from_static(&[99])));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_marks_can_t_be_cut_off_unnoticed_and_another_can() {
    for (haste, noticed) in [(Haste::Syncs, false), (Haste::Marks, true)] {
        let disk = SimDisk::default();
        let (writer, run) = JournalWriter::new(create(&disk).journal, Box::new(|e| panic!("{e}")));
        let running = tokio::spawn(run);
        writer.append_synced(vec![item(0)]).await.expect("synced");
        let segment = Path::new("/j/0000000000000001.seg");
        let before = disk.dump().remove(segment).expect("a segment");
        writer.append_synced(vec![note("last", haste)]).await.expect("synced");
        // As after a crash, with the last group gone.
        let mut files = disk.dump();
        files.insert(segment.to_owned(), before);
        let opened = Listed::open(SimDisk::load(&files), IDS, config());
        assert_eq!(matches!(opened, Err(JournalError::Damaged { .. })), noticed, "{haste:?}");
        writer.stop().await;
        running.await.expect("ends");
    }
}

#[tokio::test]
async fn a_failed_disk_is_fatal_and_nobody_is_told_otherwise() {
    let disk = SimDisk::default();
    let fatal = Arc::new(Mutex::new(None));
    let said = Arc::clone(&fatal);
    let on_fatal = Box::new(move |e: &std::io::Error| *said.lock().unwrap() = Some(e.to_string()));
    let (writer, run) = JournalWriter::new(create(&disk).journal, on_fatal);
    let running = tokio::spawn(run);
    writer.append_synced(vec![item(0)]).await.expect("synced");
    disk.cut_power_after(0);
    assert!(writer.append_synced(vec![item(1)]).await.is_err());
    assert!(fatal.lock().unwrap().is_some());
    running.await.expect("ends");
    let refused = writer.append_synced(vec![item(2)]).await.expect_err("stopped");
    assert_eq!(refused.kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn the_thread_ends_when_it_is_stopped_and_the_folder_is_free() {
    let disk = SimDisk::default();
    let writer = JournalWriter::spawn(create(&disk).journal, &Driver::Process).expect("starts");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("starts");
    runtime.block_on(writer.append_synced(vec![item(0)])).expect("synced");
    runtime.block_on(writer.stop());
    drop(writer);
    assert_eq!(open(&disk).list.next(), 1);
}
