//! The log is compacted; whoever needs what is gone gets a snapshot.
#![allow(clippy::disallowed_methods, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use quorate_core::id::GroupId;
use quorate_core::level::Levels;
use quorate_journal::JournalIds;
use quorate_journal::disk::RealDisk;
use quorate_replica::log::{Command, Log, LogConfig};
use quorate_replica::state::{RedbEngine, State, Store};
use quorate_replica::{ApplyObserver, CompactionConfig, ReadRecord, Replica, Touched};
use support::{CLUSTER, Cluster, PATIENCE, TestSeals, soon, write};

const TINY: CompactionConfig = CompactionConfig {
    keep_bytes: Some(16 << 10),
    step_bytes: 32 << 10,
    interval: Duration::from_millis(200),
    stream_bytes: 1 << 30,
};

/// A stream on which nothing moves for so long has failed.
const STALL_LIMIT: Duration = Duration::from_secs(10);

/// Sites that compact all the time.
fn tiny(n: u64) -> Cluster {
    let cluster = Cluster::sites(n);
    for site in &cluster.sites {
        *site.compaction.lock().expect("lock") = TINY;
    }
    cluster
}

async fn voters(n: u64, sites: u64) -> Cluster {
    tiny(sites).start(n).await
}

/// Writes `bytes` in values of 8 KiB under a few names.
async fn fill(cluster: &Cluster, node: usize, bytes: usize, salt: u8) {
    for n in 0..bytes / 8192 {
        cluster.write(node, &format!("fill{}", n % 64), &[salt ^ n as u8; 8192]).await;
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// The lowest index that is still in the log.
fn first_kept(node: &Replica) -> u64 {
    node.status().purged.map_or(0, |purged| purged + 1)
}

/// Everything a node holds, and its digest agrees with it.
async fn same_state(a: &Replica, b: &Replica) {
    let index =
        a.read_index(soon()).await.expect("a read index").max(b.read_index(soon()).await.expect("a read index"));
    for node in [a, b] {
        let mut applied = node.applied();
        tokio::time::timeout(PATIENCE, applied.wait_for(|i| *i >= index)).await.expect("in time").expect("running");
        node.verify_state().await.expect("the digest holds");
    }
    let (a, b) = (a.view().expect("a view"), b.view().expect("a view"));
    if a.applied() == b.applied() {
        assert_eq!(a.digest().expect("a digest"), b.digest().expect("a digest"));
    }
}

fn journal_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("journal")).expect("readable");
    files.map(|f| f.expect("readable").metadata().map_or(0, |m| m.len())).sum()
}

fn names(dir: &Path) -> Vec<String> {
    let files = std::fs::read_dir(dir).expect("readable");
    files.map(|f| f.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

#[derive(Default)]
struct Watcher {
    replaced: AtomicU64,
    last: AtomicU64,
    gap: AtomicBool,
}

impl ApplyObserver for Watcher {
    fn applied(&self, index: u64, _: &[Touched]) {
        let last = self.last.swap(index, Ordering::SeqCst);
        if last != 0 && index != last + 1 {
            self.gap.store(true, Ordering::SeqCst);
        }
    }
    fn replaced(&self, index: u64, _: ReadRecord<'_>) {
        self.last.store(index, Ordering::SeqCst);
        self.replaced.store(index, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_stays_bounded_under_sustained_writes_and_every_node_restarts() {
    let mut cluster = voters(3, 3).await;
    fill(&cluster, 0, 3 << 20, 1).await;
    for (site, node) in cluster.sites.iter().zip(&cluster.nodes) {
        until("every node purges", || first_kept(node) > 50).await;
        // Kept, step, the segment being written, the next one, and those that are not wholly purged.
        until("its segments go", || journal_bytes(&site.dir) <= 6 * (256 << 10)).await;
    }
    for i in 0..3 {
        cluster.nodes[i].shutdown().await;
        cluster.nodes[i] = cluster.sites[i].open().await;
        cluster.write(i, &format!("after{i}"), b"x").await;
        same_state(&cluster.nodes[i], &cluster.nodes[(i + 1) % 3]).await;
    }
    // All at once.
    cluster.stop().await;
    for i in 0..3 {
        cluster.nodes[i] = cluster.sites[i].open().await;
    }
    for i in 0..3 {
        assert_eq!(cluster.read(i, "after1").await.expect("there").1[..], *b"x");
        assert!(cluster.nodes[i].problem().is_none());
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_away_for_longer_than_the_log_catches_up_while_others_serve() {
    let mut cluster = voters(3, 3).await;
    cluster.write(0, "before", b"1").await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (away, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[away].shutdown().await;
    let left_at = cluster.nodes[away].status().last_log;
    fill(&cluster, leader, 2 << 20, 2).await;
    for node in [leader, other] {
        until("what it would need is purged", || first_kept(&cluster.nodes[node]) > left_at + 1).await;
    }
    // Writes go on while it comes back.
    let stop = Arc::new(AtomicBool::new(false));
    let writer = {
        let (node, stop) = (cluster.nodes[other].clone(), stop.clone());
        tokio::spawn(async move {
            let mut n = 0u64;
            while !stop.load(Ordering::SeqCst) {
                write(&node, "meanwhile", &n.to_be_bytes()).await.expect("others serve");
                n += 1;
            }
            n
        })
    };
    cluster.nodes[away] = cluster.sites[away].open().await;
    let watcher = Arc::new(Watcher::default());
    cluster.nodes[away].set_observer(watcher.clone());
    until("the snapshot is installed", || first_kept(&cluster.nodes[away]) > left_at + 1).await;
    let last = cluster.write(leader, "last", b"2").await;
    assert_eq!(cluster.read(away, "last").await.expect("there").1[..], *b"2");
    assert!(cluster.nodes[away].status().applied >= last);
    stop.store(true, Ordering::SeqCst);
    assert!(writer.await.expect("ran") > 0);
    same_state(&cluster.nodes[away], &cluster.nodes[leader]).await;
    assert!(!watcher.gap.load(Ordering::SeqCst), "the observer is told when entries are left out");
    let dir = &cluster.sites[away].dir;
    assert!(names(dir).contains(&"CURRENT".to_owned()) && !names(dir).contains(&"state.redb".to_owned()));
    // It restarts from what it installed, votes and writes.
    cluster.nodes[away].shutdown().await;
    cluster.nodes[away] = cluster.sites[away].open().await;
    cluster.nodes[other].shutdown().await;
    cluster.write(away, "with two", b"3").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_learner_joins_from_a_snapshot_and_votes() {
    let mut cluster = voters(1, 2).await;
    fill(&cluster, 0, 1 << 20, 3).await;
    until("the beginning is purged", || first_kept(&cluster.nodes[0]) > 10).await;
    let id = cluster.add().await;
    until("it has the state", || first_kept(&cluster.nodes[1]) > 10).await;
    support::promote(&cluster.nodes[0], vec![id], true).await.expect("promoted");
    cluster.write(1, "both", b"1").await;
    same_state(&cluster.nodes[0], &cluster.nodes[1]).await;
    cluster.stop().await;
}

/// Writes down in a site's journal that this state is about to be made durable there.
fn tell_journal(site: &support::Site, state: &Path) {
    let engine = RedbEngine::open(&RealDisk, state, 1 << 20).expect("opens");
    let store = Store::new(Arc::new(engine), 1 << 20).expect("a view");
    let state = State::open(store, CLUSTER, GroupId(0), Arc::new(TestSeals), Levels::default(), None).expect("a state");
    let ids = JournalIds { cluster: CLUSTER, node: site.id, stream: 0 };
    let (dir, config) =
        (site.dir.join("journal"), LogConfig { journal: site.config().journal, ..LogConfig::default() });
    let opened = Log::open(&dir, ids, config, Arc::new(RealDisk), site.entropy.clone());
    let (mut log, _) = opened.expect("a journal");
    log.write(vec![Command::Checkpoint(state.stands_at().expect("applied"))]).expect("written");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_killed_in_mid_install_comes_back_from_either_side_of_the_switch() {
    let mut cluster = voters(3, 3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (early, late) = ((leader + 1) % 3, (leader + 2) % 3);
    // Both are behind in turn: what one needs is gone from the others' logs.
    cluster.nodes[late].shutdown().await;
    fill(&cluster, leader, 1 << 20, 4).await;
    cluster.write(leader, "kept", b"1").await;
    until("it is purged", || first_kept(&cluster.nodes[leader]) > 60).await;
    cluster.stop().await;
    let applied = cluster.nodes[leader].status().applied;
    // Killed before the switch: received in part, and whole but not yet named. The state in force is untouched.
    let dir = &cluster.sites[early].dir;
    std::fs::write(dir.join("state-900-0.new"), b"half a state").expect("written");
    std::fs::write(dir.join("state-901.redb"), b"not named").expect("written");
    // Killed after the switch: the journal was told of it before, and ends far before that state.
    let dir = &cluster.sites[late].dir;
    tell_journal(&cluster.sites[late], &cluster.sites[leader].dir.join("state.redb"));
    let name = format!("state-{applied}.redb");
    std::fs::copy(cluster.sites[leader].dir.join("state.redb"), dir.join(&name)).expect("copied");
    let mut current = vec![1];
    current.extend_from_slice(&(name.len() as u32).to_be_bytes());
    current.extend_from_slice(name.as_bytes());
    current.extend_from_slice(&crc32c::crc32c(&current).to_be_bytes());
    std::fs::write(dir.join("CURRENT"), current).expect("written");
    for i in 0..3 {
        cluster.nodes[i] = cluster.sites[i].open().await;
    }
    assert_eq!(cluster.nodes[late].status().purged, Some(applied), "the hole in its log is closed");
    assert!(!names(&cluster.sites[late].dir).contains(&"state.redb".to_owned()));
    assert!(!names(&cluster.sites[early].dir).iter().any(|n| n.starts_with("state-")));
    for i in 0..3 {
        assert_eq!(cluster.read(i, "kept").await.expect("there").1[..], *b"1");
        cluster.write(i, &format!("from{i}"), b"2").await;
        same_state(&cluster.nodes[i], &cluster.nodes[(i + 1) % 3]).await;
    }
    cluster.stop().await;
}

/// The view that it is sent from would take the disk's last room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_being_sent_is_given_up_before_the_sender_is_short_of_space() {
    let mut cluster = voters(3, 3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (away, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[away].shutdown().await;
    fill(&cluster, leader, 1 << 20, 6).await;
    for node in [leader, other] {
        until("what it would need is purged", || first_kept(&cluster.nodes[node]) > 60).await;
    }
    let site = &cluster.sites[away];
    site.disk.hold_received(true);
    cluster.nodes[away] = site.open().await;
    let received = |n: u32| names(&site.dir).iter().any(|name| name.ends_with(&format!("-{n}.new")));
    until("a snapshot is under way", || received(0)).await;
    // Two segments are the limit. It takes changes still.
    cluster.sites[leader].disk.set_free_bytes(Some(2 * (256 << 10) + (128 << 10)));
    let again = tokio::time::timeout(STALL_LIMIT / 2, until("the next one is under way", || received(1)));
    again.await.expect("the first one is given up, long before it counts as stalled");
    assert!(!cluster.nodes[leader].status().space.low);
    cluster.write(leader, "meanwhile", b"1").await;
    site.disk.hold_received(false);
    assert_eq!(cluster.read(away, "meanwhile").await.expect("there").1[..], *b"1");
    same_state(&cluster.nodes[away], &cluster.nodes[leader]).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sender_that_goes_in_mid_stream_is_replaced_by_the_next_leader() {
    let mut cluster = voters(3, 3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (away, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[away].shutdown().await;
    fill(&cluster, leader, 1 << 20, 5).await;
    for node in [leader, other] {
        until("what it would need is purged", || first_kept(&cluster.nodes[node]) > 60).await;
    }
    let site = &cluster.sites[away];
    site.disk.hold_received(true);
    cluster.nodes[away] = site.open().await;
    until("a snapshot is under way", || names(&site.dir).iter().any(|n| n.ends_with(".new"))).await;
    assert!(first_kept(&cluster.nodes[away]) < 60);
    // The receiver's disk stalls; the others serve all the same, and the sender goes.
    cluster.write(other, "during", b"1").await;
    cluster.nodes[leader].shutdown().await;
    site.disk.hold_received(false);
    cluster.write(other, "after", b"2").await;
    assert_eq!(cluster.read(away, "during").await.expect("there").1[..], *b"1");
    assert!(first_kept(&cluster.nodes[away]) > 60);
    same_state(&cluster.nodes[away], &cluster.nodes[other]).await;
    until("nothing is left of the first", || !names(&site.dir).iter().any(|n| n.ends_with(".new"))).await;
    cluster.nodes[leader] = cluster.sites[leader].open().await;
    cluster.write(leader, "whole again", b"3").await;
    cluster.stop().await;
}
