//! Power cuts under load, of one node and of all at once: nothing acknowledged is lost, and no node takes what a cut
//! left for damage. The long run is `scripts/endure`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests cut disks and wait for processes")]

mod ext4;
mod load;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ext4::CuttableDisk;
use load::{Acknowledged, Load};
use quorate_client::Client;
use quorate_journal::disk::RealDisk;
use quorate_proto::v1::*;
use quorate_replica::state::{Meta, StateFiles, verify_state};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use support::server::{Server, Started, unseal};
use support::{Dev, PATIENCE, await_status};

/// The log is compacted, and the state made durable, all the time.
const NEAR: &str = "segment_mib = 1\nkeep_kib = 16\nstep_kib = 16\ncompact_seconds = 1";
/// Never within a run: a start applies everything since the last one again.
const FAR: &str = "segment_mib = 1\nkeep_kib = 1000000\nstep_kib = 1000000\ncompact_seconds = 100000";
/// Cuts of each of the two tests in `scripts/test`; `QUORATE_POWER_CUTS` asks for another number.
const CUTS: usize = 10;
/// Between two comparisons of the states' digests, in cuts.
const COMPARE_EACH: usize = 5;
/// Of the keys from before the last cut, so many are opened after each.
const SAMPLE: usize = 20;

#[test]
fn power_cuts_with_checkpoints_near_lose_nothing() {
    cuts("near", NEAR);
}

#[test]
fn power_cuts_with_checkpoints_far_lose_nothing() {
    cuts("far", FAR);
}

fn cuts(name: &str, log: &str) {
    let number = |name: &str| std::env::var(name).ok().map(|v| v.parse::<u64>().expect("a number"));
    let seed = number("QUORATE_SEED").unwrap_or_else(rand::random);
    let cuts = number("QUORATE_POWER_CUTS").map_or(CUTS, |n| n as usize);
    println!("seed {seed}: QUORATE_SEED={seed} QUORATE_POWER_CUTS={cuts} makes the same choices");
    // Before the runtime is made, so that all its threads are in the namespace.
    ext4::own_namespace();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let alone = (cuts / 4).max(1);
        for (nodes, cuts) in [(1, alone), (3, cuts - alone)] {
            let mut rng = StdRng::seed_from_u64(seed ^ nodes as u64);
            let begun = Instant::now();
            let mut rig = Rig::new(nodes, log).await;
            for cut in 1..=cuts {
                let what = rig.cut(&mut rng).await;
                rig.check(&mut rng, cut % COMPARE_EACH == 0 || cut == cuts).await;
                println!(
                    "checkpoints {name}, {nodes} node(s), cut {cut} of {cuts}: {what}; {} keys are there, {} s",
                    rig.keys.len(),
                    begun.elapsed().as_secs()
                );
            }
            rig.keys_open(&rig.client, rig.keys.iter()).await;
        }
    });
}

/// A cluster whose nodes have a disk each.
struct Rig {
    /// Before the disks: nothing uses them any more when they go.
    nodes: Vec<Server>,
    disks: Vec<CuttableDisk>,
    client: Client,
    dev: Dev,
    keys: Vec<Acknowledged>,
    /// So many of `keys` were checked after an earlier cut.
    old: usize,
}

impl Rig {
    async fn new(count: usize, log: &str) -> Self {
        let mut dev = Dev::start_with_log(count, log);
        dev.stop();
        let disk = |place: usize| {
            let data = &dev.json.nodes[place].data;
            CuttableDisk::under(data, &data.with_file_name("disk.img"))
        };
        let disks = (0..count).map(disk).collect();
        let client = dev.client().await.with_deadline(PATIENCE);
        let nodes = (0..count).map(|place| server(&dev, place)).collect();
        let mut rig = Self { nodes, disks, client, dev, keys: Vec::new(), old: 0 };
        rig.open().await;
        rig
    }

    /// Waits for every node, holds a ceremony, and waits until all serve. None may call itself damaged.
    async fn open(&mut self) {
        for node in &mut self.nodes {
            match node.started().await {
                Some(Started::At(_)) => {}
                other => panic!("a node did not start ({other:?}); it said:\n{}", node.said()),
            }
        }
        let all = 0..self.nodes.len();
        for place in all.clone() {
            let found = self.await_state(place, |s| s.leader != 0).await;
            assert!(["sealed", "ok"].contains(&&*found.state), "{}: {:?}", found.state, found.verdicts);
        }
        // In a cluster of which one node was cut the others have handed over the root key, or will.
        let some_open = futures::future::join_all(all.clone().map(|place| self.await_state(place, |_| true))).await;
        if some_open.iter().all(|s| s.state == "sealed") {
            let first = self.client.node(0).expect("a node");
            unseal(&first, &self.dev.json.shares).await.expect("three shares open it");
        }
        for place in all {
            let found = self.await_state(place, |s| s.state != "sealed").await;
            assert_eq!(found.state, "ok", "{:?}", found.verdicts);
        }
    }

    async fn await_state(&self, place: usize, wanted: impl Fn(&StatusResponse) -> bool) -> StatusResponse {
        let client = self.client.node(place).expect("a node");
        await_status(&client, "a node's state", |s| s.state == "damaged" || wanted(s)).await
    }

    /// Load, and in the midst of it the power of one node or of all goes; afterwards all are up again.
    async fn cut(&mut self, rng: &mut StdRng) -> String {
        let count = self.nodes.len();
        let whom: Vec<usize> = match rng.random_ratio(1, 2) {
            true => (0..count).collect(),
            false => vec![rng.random_range(0..count)],
        };
        self.old = self.keys.len();
        let load = Load::start(&self.client, 8);
        load.go_on(rng.random_range(20..150)).await;
        // At any moment between two acknowledgements.
        tokio::time::sleep(Duration::from_micros(rng.random_range(0..5000))).await;
        whom.iter().for_each(|place| self.disks[*place].cut());
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..20))).await;
        if whom.len() < count {
            // The majority goes on without it.
            load.go_on(20).await;
        }
        whom.iter().for_each(|place| self.nodes[*place].kill());
        self.keys.extend(load.finish().await);
        for place in &whom {
            self.disks[*place].restore();
            self.nodes[*place] = server(&self.dev, *place);
        }
        self.open().await;
        format!("{} of {count} lost power", whom.len())
    }

    /// Everything acknowledged is there, on every node; now and then, the nodes' states are the same to the byte.
    async fn check(&mut self, rng: &mut StdRng, compare: bool) {
        let (older, newer) = self.keys.split_at(self.old);
        let older: Vec<_> = older.sample(rng, SAMPLE).collect();
        for place in 0..self.nodes.len() {
            let client = self.client.node(place).expect("a node").with_deadline(PATIENCE);
            let found = list(&client).await;
            for key in &self.keys {
                let version = found.get(&key.key_id);
                let version = version.unwrap_or_else(|| panic!("the acknowledged key {} is lost", key.key_id));
                assert!(*version >= key.version, "the acknowledged version {} of {} is lost", key.version, key.key_id);
            }
            self.keys_open(&client, newer.iter().chain(older.iter().copied())).await;
        }
        if compare {
            self.compare().await;
        }
    }

    async fn keys_open(&self, client: &Client, keys: impl Iterator<Item = &Acknowledged>) {
        for key in keys {
            for ciphertext in &key.sealed {
                let request = DecryptRequest { ciphertext: ciphertext.clone(), ..Default::default() };
                let opened = client.decrypt(request).await;
                let opened = opened.unwrap_or_else(|e| panic!("{} does not open what it made: {e}", key.key_id));
                assert_eq!(opened.plaintext, key.key_id.as_bytes());
            }
        }
    }

    /// Stops all nodes in order, compares their states, and starts them again.
    async fn compare(&mut self) {
        let caught_up = |s: &StatusResponse| s.nodes.iter().all(|n| n.reachable && n.lag == 0);
        await_status(&self.client, "every node to catch up", caught_up).await;
        for node in self.nodes.drain(..) {
            node.stop().await;
        }
        let states: Vec<_> = self.dev.json.nodes.iter().map(|n| state_of(&n.data)).collect();
        let (records, digest, _) = &states[0];
        for (place, state) in states.iter().enumerate() {
            let same = (&state.0, &state.1) == (records, digest);
            assert!(same, "the state of node {place} differs: (records, digest, index) of all: {states:?}");
        }
        self.nodes = (0..self.dev.json.nodes.len()).map(|place| server(&self.dev, place)).collect();
        self.open().await;
    }
}

fn server(dev: &Dev, place: usize) -> Server {
    let node = &dev.json.nodes[place];
    Server::start(&node.config, &node.log)
}

/// Records, digest of all records, and applied index of a stopped node's state, which adds up.
fn state_of(data: &Path) -> (u64, Vec<u8>, Option<u64>) {
    let files = StateFiles::open(Arc::new(RealDisk), data, 8 << 20, 4 << 20).expect("opens");
    let view = files.view().expect("readable");
    let records = verify_state(&*view).expect("the records add up to the digest");
    let index = Meta::read(&*view).expect("readable").applied.map(|(index, _)| index);
    (records, Meta::read_digest(&*view).expect("readable").hash().to_vec(), index)
}

/// All keys and their current versions.
async fn list(client: &Client) -> BTreeMap<String, u32> {
    let (mut found, mut page_token) = (BTreeMap::new(), Bytes::new());
    loop {
        let page =
            client.list_keys(ListKeysRequest { limit: 1000, page_token, ..Default::default() }).await.expect("listed");
        found.extend(page.keys.into_iter().map(|k| (k.key_id, k.current_version)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}
