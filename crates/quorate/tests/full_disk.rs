//! Disks that are really full: each node's data lies on a small ext4 file system of its own, which a ballast file fills to
//! the last block. Needs root, loop devices, `mkfs.ext4` and `mount`; without them it fails and says so.
#![allow(clippy::disallowed_methods, reason = "tests touch files and processes")]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quorate_client::{Client, ClientError};
use quorate_proto::v1::*;
use serde_json::Value;
use support::load::Load;
use support::{Dev, PATIENCE, Signal, await_status, complaint, http, node, signal};

/// What each file system holds; most of it is the first journal segment, 64 MiB, made before it gets there.
const DISK_MIB: u64 = 256;
/// The limit set for the nodes, in MiB.
const LIMIT_MIB: u64 = 16;

/// Runs a tool that this test can't do without.
fn tool(name: &str, args: &[&str]) {
    let output = Command::new(name).args(args).output();
    let output = output.unwrap_or_else(|e| panic!("THIS TEST NEEDS {name} (packages e2fsprogs, mount): {e}"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        output.status.success(),
        "THIS TEST MUST BE ALLOWED TO MOUNT A FILE SYSTEM (root, loop devices): {name} {args:?}: {said}"
    );
}

/// A file system of its own for one node's data; gone when dropped.
struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Moves what is in `data` onto a new file system and mounts that there.
    fn under(data: &Path) -> Self {
        let text = |p: &Path| p.display().to_string();
        let (image, old) = (data.with_extension("img"), data.with_extension("old"));
        let file = std::fs::File::create(&image).expect("an image");
        file.set_len(DISK_MIB << 20).expect("its length");
        tool("mkfs.ext4", &["-q", "-m", "0", &text(&image)]);
        std::fs::rename(data, &old).expect("moved away");
        std::fs::create_dir(data).expect("a mount point");
        tool("mount", &["-o", "loop", &text(&image), &text(data)]);
        let disk = Self { at: data.to_owned() };
        // What was set aside for a large disk.
        for spare in ["state.reserve", "journal/0000000000000002.next"] {
            let _ = std::fs::remove_file(old.join(spare));
        }
        tool("cp", &["-a", &format!("{}/.", text(&old)), &text(data)]);
        std::fs::remove_dir_all(&old).expect("removed");
        disk
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.at).expect("mounted");
        stat.f_bavail * stat.f_frsize
    }

    /// Fills it to the last block.
    fn fill(&self) {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(self.ballast()).expect("a file");
        let len = self.free() - self.free() % 4096;
        // The greater part at once, so that the node can't see it coming.
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, len) {
            Ok(()) | Err(rustix::io::Errno::NOSPC) => {}
            Err(e) => panic!("{e}"),
        }
        let mut more =
            std::fs::OpenOptions::new().create(true).append(true).open(self.at.join("more")).expect("a file");
        while more.write_all(&[1; 4096]).is_ok() {}
        file.flush().expect("nothing to flush");
    }

    /// Takes the ballast away.
    fn heal(&self) {
        for name in ["ballast", "more"] {
            std::fs::remove_file(self.at.join(name)).expect("removed");
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the node on it may still run when a test fails. The loop device goes with the last user.
        let unmounted = Command::new("umount").arg("-l").arg(&self.at).status();
        if !unmounted.is_ok_and(|s| s.success()) {
            eprintln!("{} could not be unmounted", self.at.display());
        }
    }
}

/// A cluster whose nodes have small disks, unsealed and serving. The disks go before the folder they are mounted in.
struct Cluster {
    disks: Vec<SmallDisk>,
    dev: Dev,
}

impl Cluster {
    async fn start() -> Self {
        let mut dev = Dev::start(3);
        dev.stop();
        let disks = dev.json.nodes.iter().map(|node| {
            let text = std::fs::read_to_string(&node.config).expect("its configuration");
            let changed = text
                .replace("segment_mib = 64", "segment_mib = 1")
                .replace("low_space_mib = 512", &format!("low_space_mib = {LIMIT_MIB}"));
            assert!(changed.contains("segment_mib = 1\n") && changed.contains("low_space_mib = 16"), "{text}");
            std::fs::write(&node.config, changed).expect("written");
            SmallDisk::under(&node.data)
        });
        let disks = disks.collect();
        dev.kill_all_and_restart(false);
        let cluster = Self { disks, dev };
        cluster.dev.await_serving().await;
        cluster
    }

    fn name(&self, place: usize) -> &str {
        &self.dev.json.nodes[place].name
    }

    /// Fills a node's disk and waits until the cluster knows.
    async fn fill(&self, place: usize) {
        self.disks[place].fill();
        assert!(self.disks[place].free() < 4096, "really full: {}", self.disks[place].free());
        self.await_space(place, true).await;
    }

    /// Waits until every node knows whether one is short of space.
    async fn await_space(&self, place: usize, low: bool) {
        let client = self.dev.client().await;
        for at in 0..3 {
            let one = client.node(at).expect("a node");
            await_status(&one, "the disk to be known", |s| node(s, self.name(place)).low_space == low).await;
        }
    }

    /// Waits until all have all of the log.
    async fn await_level(&self) {
        let client = self.dev.client().await;
        await_status(&client, "all nodes level", |s| {
            s.leader != 0 && s.nodes.iter().all(|n| n.reachable && !n.low_space && n.lag < 5 && n.problem.is_empty())
        })
        .await;
    }
}

/// What is asked here is whether there is an answer, not how soon on a loaded machine.
const DEADLINE: Duration = PATIENCE.checked_div(2).expect("not zero");
/// Between a task's rounds: a full disk is what is to be seen, not a busy one.
const PACE: Duration = Duration::from_millis(5);

/// Uses of one key, by several clients.
fn start_uses(client: &Client, key: &str) -> Load<()> {
    let key = key.to_owned();
    Load::start(&client.with_deadline(DEADLINE), 3, move |client| {
        let key = key.clone();
        async move {
            tokio::time::sleep(PACE).await;
            use_key(&client, &key).await
        }
    })
}

/// New keys, each used once.
fn start_creates(client: &Client) -> Load<String> {
    Load::start(&client.with_deadline(DEADLINE), 3, |client| async move {
        tokio::time::sleep(PACE).await;
        let key = create(&client).await?;
        use_key(&client, &key).await.map(|()| key)
    })
}

async fn create(client: &Client) -> Result<String, ClientError> {
    Ok(client.create_key(CreateKeyRequest::default()).await?.key.expect("a key").key_id)
}

async fn use_key(client: &Client, key: &str) -> Result<(), ClientError> {
    let plaintext = Bytes::copy_from_slice(key.as_bytes());
    let request = EncryptRequest { key: key.into(), plaintext: plaintext.clone(), ..Default::default() };
    let ciphertext = client.encrypt(request).await?.ciphertext;
    let request = DecryptRequest { ciphertext, ..Default::default() };
    assert_eq!(client.decrypt(request).await?.plaintext, plaintext);
    Ok(())
}

/// After everything: nothing that was acknowledged is gone on any node, and each state adds up to its digest, which is
/// what a node looks at before it serves.
async fn nothing_is_lost(cluster: &mut Cluster, keys: &[String]) {
    cluster.await_level().await;
    assert!(!cluster.dev.logs().contains("panicked"), "no node panicked");
    cluster.dev.kill_all_and_restart(false);
    cluster.dev.await_serving().await;
    let client = cluster.dev.client().await;
    for place in 0..3 {
        let one = client.node(place).expect("a node").with_deadline(PATIENCE / 2);
        for key in keys {
            one.describe_key(KeyRequest { key: key.clone() }).await.expect("an acknowledged key is there");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_full_disk_moves_leadership_and_no_client_sees_an_error() {
    let mut cluster = Cluster::start().await;
    let client = cluster.dev.client().await;
    let key = create(&client).await.expect("created");
    let (uses, creates) = (start_uses(&client, &key), start_creates(&client));
    uses.go_on(20).await;
    creates.go_on(20).await;

    let first = cluster.dev.leader().await;
    let id = cluster.dev.json.nodes[first].id;
    cluster.fill(first).await;
    let status = await_status(&client, "leadership to move", |s| s.leader != 0 && s.leader != id).await;
    assert!(
        status.verdicts.iter().any(|v| matches!(v.kind, Some(verdict::Kind::LowSpace(_)))),
        "{:?}",
        status.verdicts
    );
    uses.go_on(30).await;
    creates.go_on(30).await;

    // The alarms, on the node itself and on another.
    for place in [first, (first + 1) % 3] {
        let api = &cluster.dev.json.nodes[place].api;
        let seen = cluster.dev.cli_at(api, &["operator", "status", "--output", "json"], "");
        let seen: Value = serde_json::from_slice(&seen.stdout).expect("JSON");
        for n in seen["nodes"].as_array().expect("nodes") {
            let full = n["name"] == cluster.name(first);
            assert_eq!(n["low_space"], full, "{n}");
            // Its state's reserve may have been used, and what it did not take of it is free now.
            assert_eq!(n["free_bytes"].as_u64().expect("a number") < LIMIT_MIB << 20, full, "{n}");
            assert_eq!(n["problem"].as_str().unwrap_or_default().contains("short of disk space"), full, "{n}");
        }
        let table = cluster.dev.cli_at(api, &["operator", "status"], "");
        assert!(String::from_utf8_lossy(&table.stdout).contains("short of disk space: "));
        let metrics = http(&cluster.dev, api, "/metrics", Some(&cluster.dev.json.admin), b"http/1.1").expect("metrics");
        for (name, low) in [(cluster.name(first), 1), (cluster.name((first + 2) % 3), 0)] {
            assert!(metrics.contains(&format!("quorate_node_low_space{{node=\"{name}\"}} {low}")), "{metrics}");
            assert!(metrics.contains(&format!("quorate_node_free_bytes{{node=\"{name}\"}}")), "{metrics}");
        }
        let health = http(&cluster.dev, api, "/health", None, b"http/1.1").expect("health");
        let second_line = health.ends_with("ok\nshort of disk space\n");
        assert!(health.starts_with("HTTP/1.1 200") && second_line == (place == first), "{health}");
    }
    let refused = cluster.dev.cli(&["operator", "members", "transfer-leader", cluster.name(first)], "");
    assert!(complaint(&refused).contains("short of disk space"), "{}", complaint(&refused));

    cluster.disks[first].heal();
    cluster.await_level().await;
    // Now a follower, and it is the one that led.
    let follower = if cluster.dev.leader().await == first { (first + 1) % 3 } else { first };
    cluster.fill(follower).await;
    uses.go_on(30).await;
    creates.go_on(30).await;
    // It restarts on the full disk, sealed, and is handed the root key as ever.
    let name = cluster.name(follower).to_owned();
    signal(cluster.dev.json.nodes[follower].pid, Signal::KILL);
    creates.go_on(10).await;
    cluster.dev.restart(follower);
    await_status(&client, "the node to be back", |s| node(s, &name).reachable && node(s, &name).low_space).await;
    cluster.disks[follower].heal();
    cluster.await_level().await;
    uses.go_on(20).await;
    uses.finish().await;
    let keys = creates.finish().await;
    nothing_is_lost(&mut cluster, &keys).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_every_disk_full_keys_are_used_and_changes_refused_until_there_is_room() {
    let mut cluster = Cluster::start().await;
    let client = cluster.dev.client().await;
    let key = create(&client).await.expect("created");
    let uses = start_uses(&client, &key);
    let creates = start_creates(&client);
    creates.go_on(30).await;
    let mut keys = creates.finish().await;
    for place in 0..3 {
        cluster.fill(place).await;
    }
    uses.go_on(30).await;
    for place in 0..3 {
        let begun = Instant::now();
        let refused = create(&client.node(place).expect("a node").with_deadline(PATIENCE)).await.expect_err("refused");
        assert!(refused.is("NO_SPACE") && refused.code == tonic::Code::ResourceExhausted, "{refused:?}");
        assert!(refused.message.contains("Make room") && refused.message.contains(cluster.name(place)), "{refused:?}");
        assert!(begun.elapsed() < PATIENCE, "it is not waited out");
    }
    let said = complaint(&cluster.dev.cli(&["keys", "disable", &key], ""));
    assert!(said.contains("NO_SPACE") && said.contains("keys can be used meanwhile"), "{said}");
    // A new leader is elected, with every disk full.
    let leader = cluster.dev.leader().await;
    let id = cluster.dev.json.nodes[leader].id;
    let log = cluster.dev.json.nodes[leader].log.clone();
    let stops = || std::fs::read_to_string(&log).unwrap_or_default().matches("stopped").count();
    let before = stops();
    signal(cluster.dev.json.nodes[leader].pid, Signal::TERM);
    let others = client.node((leader + 1) % 3).expect("a node");
    await_status(&others, "another leader", |s| s.leader != 0 && s.leader != id).await;
    uses.go_on(30).await;
    let stopped = async {
        while stops() == before {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, stopped).await.expect("it stops");
    cluster.dev.restart(leader);
    let name = cluster.name(leader).to_owned();
    await_status(&client, "the node to be back", |s| node(s, &name).reachable && node(s, &name).low_space).await;
    cluster.dev.await_handed_over(&name).await;
    uses.go_on(30).await;

    for disk in &cluster.disks {
        disk.heal();
    }
    cluster.await_level().await;
    let creates = start_creates(&client);
    creates.go_on(30).await;
    keys.extend(creates.finish().await);
    let still = client.describe_key(KeyRequest { key: key.clone() }).await.expect("there").key.expect("a key");
    assert_eq!(still.state(), KeyState::Enabled, "what was refused has not happened");
    keys.push(key);
    uses.go_on(30).await;
    uses.finish().await;
    nothing_is_lost(&mut cluster, &keys).await;
}
