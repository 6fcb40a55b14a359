//! A running node finds what rots on its disk where nobody reads (key-log §5.4).
#![allow(clippy::disallowed_methods, reason = "a test does harm to a file")]

mod support;

use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use quorate_replica::{CompactionConfig, Problem};
use support::{Cluster, PATIENCE, until};

const BLOCK: u64 = 4096;
/// Three times what the node may cache, so that most of it is on the disk alone.
const VALUES: usize = 240;
const VALUE_LEN: usize = 48 << 10;

fn segment_path(site: &support::Site, segment: u64) -> PathBuf {
    site.dir.join(format!("journal/{segment:016x}.seg"))
}

/// Flips a bit in the middle of a segment.
fn harm(site: &support::Site, segment: u64) {
    let path = segment_path(site, segment);
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("the segment");
    let (mut byte, at) = ([0], file.metadata().expect("its length").len() / 2);
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 8], at).expect("flipped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rots_in_the_log_that_no_start_reads_is_found() {
    found_in_the_log(None).await;
}

/// Has the newest segment of the first nodes begin when two states were durable that stand for all that was written before.
async fn stand_for_all(cluster: &mut Cluster, nodes: usize) {
    for n in 0..2 {
        for i in 0..nodes {
            cluster.nodes[i].shutdown().await;
        }
        for i in 0..nodes {
            cluster.nodes[i] = cluster.sites[i].open().await;
        }
        cluster.write(0, &format!("stand {n}"), b"1").await;
    }
    for n in 0..8 {
        cluster.write(0, &format!("after {n}"), &vec![n; VALUE_LEN]).await;
    }
}

/// While the state's file must not grow, the log can be looked at all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rots_in_the_log_is_found_beside_a_disk_that_is_nearly_full() {
    // The limit is two segments.
    found_in_the_log(Some(640 << 10)).await;
}

async fn found_in_the_log(free_bytes: Option<u64>) {
    let sites = Cluster::sites(1);
    // Small segments, and all are kept.
    let keep = CompactionConfig { keep_bytes: Some(1 << 19), step_bytes: 1 << 30, ..CompactionConfig::default() };
    *sites.sites[0].compaction.lock().expect("lock") = keep;
    let mut cluster = sites.start(1).await;
    for n in 0..60 {
        cluster.write(0, &format!("value {n}"), &vec![n as u8; VALUE_LEN]).await;
    }
    stand_for_all(&mut cluster, 1).await;
    cluster.nodes[0].shutdown().await;
    harm(&cluster.sites[0], 3);
    cluster.sites[0].disk.set_free_bytes(free_bytes);
    // The state stands for what is in there, and the start does not read it.
    cluster.nodes[0] = cluster.sites[0].open().await;
    let problem = support::problem(&cluster.nodes[0]).await;
    let named = |what: &str| what.contains("0000000000000003.seg");
    assert!(matches!(&problem, Problem::Journal(what) if named(what)), "{problem}");
    let path = segment_path(&cluster.sites[0], 3);
    until("nobody has to come upon it first", || !path.exists()).await;
    cluster.stop().await;
}

/// Who is sent an older state would need what comes after it, and could not get it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rotted_in_the_log_is_not_kept_for_a_snapshot_that_is_being_sent() {
    let sites = Cluster::sites(3);
    for site in &sites.sites {
        let (interval, stream_bytes) = (Duration::from_millis(200), 1 << 30);
        let tiny = CompactionConfig { keep_bytes: Some(16 << 10), step_bytes: 32 << 10, interval, stream_bytes };
        *site.compaction.lock().expect("lock") = tiny;
    }
    let mut cluster = sites.start(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (away, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[away].shutdown().await;
    let fill = async |cluster: &Cluster, n: u8| {
        for n in n..n + 20 {
            cluster.write(leader, &format!("value {}", n % 8), &vec![n; VALUE_LEN]).await;
        }
    };
    fill(&cluster, 0).await;
    let purged = |cluster: &Cluster| cluster.nodes[leader].status().purged;
    let left_at = cluster.nodes[away].status().last_log;
    until("what it would need is purged", || purged(&cluster) > Some(left_at)).await;
    let site = &cluster.sites[away];
    site.disk.hold_received(true);
    cluster.nodes[away] = site.open().await;
    let received = || {
        let names = std::fs::read_dir(&site.dir).expect("readable").map(|name| name.expect("readable").path());
        names.filter(|path| path.extension().is_some_and(|e| e == "new")).count()
    };
    until("a snapshot is under way", || received() > 0).await;
    fill(&cluster, 20).await;
    let names = std::fs::read_dir(cluster.sites[leader].dir.join("journal")).expect("readable");
    let names = names.filter_map(|name| name.expect("readable").file_name().into_string().ok());
    let newest = names.filter_map(|name| u64::from_str_radix(name.strip_suffix(".seg")?, 16).ok()).max();
    let damaged = newest.expect("a segment") - 2;
    let path = segment_path(&cluster.sites[leader], damaged);
    harm(&cluster.sites[leader], damaged);
    // Long before the snapshot counts as stalled.
    let gone = tokio::time::timeout(Duration::from_secs(5), until("it goes", || !path.exists()));
    gone.await.expect("at once");
    site.disk.hold_received(false);
    cluster.write(other, "after", b"1").await;
    assert_eq!(cluster.read(away, "after").await.expect("there").1[..], *b"1");
    cluster.stop().await;
}

/// Whoever leads has the same damage: the one who needs what was there has nobody else to get it from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_needs_what_rotted_in_the_leader_s_log_is_sent_the_state() {
    let sites = Cluster::sites(3);
    for site in &sites.sites {
        let keep_bytes = Some((1 << 20) - 1);
        let hour = Duration::from_secs(3600);
        let keep = CompactionConfig { keep_bytes, step_bytes: 1 << 30, interval: hour, ..CompactionConfig::default() };
        *site.compaction.lock().expect("lock") = keep;
    }
    let mut cluster = sites.start(3).await;
    cluster.write(0, "before", b"1").await;
    cluster.nodes[2].shutdown().await;
    for n in 0..60 {
        cluster.write(0, &format!("value {n}"), &vec![n as u8; VALUE_LEN]).await;
    }
    stand_for_all(&mut cluster, 2).await;
    for i in 0..2 {
        cluster.nodes[i].shutdown().await;
        harm(&cluster.sites[i], 3);
    }
    for i in 0..2 {
        cluster.nodes[i] = cluster.sites[i].open().await;
    }
    cluster.nodes[2] = cluster.sites[2].open().await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    assert_ne!(leader, 2, "it lacks what the others have acknowledged");
    cluster.write(2, "after", b"2").await;
    assert_eq!(cluster.read(2, "value 7").await.expect("there").1, vec![7; VALUE_LEN]);
    // The damage is known, and named as that.
    let problem = support::problem(&cluster.nodes[leader]).await;
    assert!(matches!(&problem, Problem::Journal(what) if what.contains("0000000000000003.seg")), "{problem}");
    assert_eq!(cluster.nodes[2].problem(), None);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_rots_while_a_node_runs_is_found_though_nobody_reads_it() {
    let cluster = Cluster::voters(1).await;
    for n in 0..VALUES {
        cluster.write(0, &format!("value {n}"), &vec![n as u8; VALUE_LEN]).await;
    }
    let (node, site) = (&cluster.nodes[0], &cluster.sites[0]);
    // Found good as a whole, time and again.
    let mut verified = 0;
    for _ in 0..2 {
        let later = async {
            while node.verified_ms() <= verified {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, later).await.expect("the state is checked again");
        verified = node.verified_ms();
        assert_eq!(node.status().problem, None);
    }

    // The first thirds of the values are no longer cached: that much came after them.
    let path = site.dir.join("state.redb");
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("the state");
    let blocks = file.metadata().expect("its length").len() / BLOCK;
    for block in (blocks / 8..blocks / 2).step_by(4) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, block * BLOCK + 77).expect("a byte");
        file.write_all_at(&[byte[0] ^ 8], block * BLOCK + 77).expect("flipped");
    }
    let told = async {
        while node.status().problem.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("the damage is found");
    let problem = node.status().problem.expect("told");
    assert!(matches!(&problem, Problem::State(what) if what.contains("state.redb")), "{problem}");
    cluster.stop().await;
}
