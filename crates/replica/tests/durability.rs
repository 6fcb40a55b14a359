//! Journal and state are two files of one node: whatever of each survives a crash, the node comes back.
#![allow(clippy::disallowed_methods, reason = "tests")]

mod support;

use std::path::Path;
use std::time::Duration;

use quorate_replica::{Replica, ReplicaConfig};
use support::Cluster;

/// What a process that is killed right now leaves behind.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).expect("made");
    for entry in std::fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(std::fs::copy(entry.path(), to).expect("copied")),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_state_is_never_durable_ahead_of_the_log() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let site = &cluster.sites[leader];
    // The followers' disks are a majority: the leader applies what its own journal does not have yet.
    site.disk.hold_journal(true);
    let index = cluster.write(leader, "ahead", b"1").await;
    assert!(cluster.nodes[leader].status().applied >= index);
    // A checkpoint is made every two seconds.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let killed = site.dir.with_extension("killed");
    copy(&site.dir, &killed);
    site.disk.hold_journal(false);
    cluster.stop().await;

    let config = ReplicaConfig { data_dir: killed, ..site.config() };
    let back = Replica::open(config, site.world(), site.service.clone()).await.expect("it comes back");
    let status = back.status();
    assert!(status.applied <= status.last_log, "{} in the state, {} in the log", status.applied, status.last_log);
    assert!(status.last_log < index);
    back.shutdown().await;
}
