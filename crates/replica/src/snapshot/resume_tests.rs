//! A snapshot that breaks off, again and again, is gone on with from newer states, and what is installed is the last one.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use openraft::vote::RaftLeaderId;
use quorate_core::id::{ClusterId, GroupId};
use quorate_core::record_key::{RecordKey, Table};
use quorate_journal::disk::RealDisk;
use quorate_journal::testing::{Rng, seed};
use tokio::sync::mpsc;

use super::send::parts;
use super::wire::{Unframer, header, ranges_in, ranges_out};
use crate::compact::CompactionConfig;
use crate::peer::pb::{self, snapshot_part::Part};
use crate::raft::{LeaderId, Vote};
use crate::state::{Identity, Incoming, IncomingError, KeyRange, LtHash, Meta, StateFiles, View, verify_state};
use crate::testing::{self, Cluster, PATIENCE};

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Clone, Default)]
struct State(BTreeMap<Vec<u8>, Vec<u8>>);

impl View for State {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        Ok(self.0.get(key).cloned())
    }
    fn scan(&self, range: (Bound<&[u8]>, Bound<&[u8]>), limit: usize) -> io::Result<Pairs> {
        Ok(self.0.range::<[u8], _>(range).take(limit).map(|(k, v)| (k.clone(), v.clone())).collect())
    }
    fn scan_back(&self, _: (Bound<&[u8]>, Bound<&[u8]>), _: usize) -> io::Result<Pairs> {
        unreachable!("snapshots go forward")
    }
}

fn key(n: u64) -> Vec<u8> {
    let place: [u8; 10] = [&n.to_be_bytes()[..], &[0; 2]].concat().try_into().expect("10 bytes");
    RecordKey::with(Table::Key, &place, [7; 32], &[]).as_bytes().to_vec()
}

impl State {
    fn put(&mut self, n: u64, rng: &mut Rng) {
        self.0.insert(key(n), rng.bytes(2000));
    }

    /// As it is at an index.
    fn identity(&self, index: u64) -> Identity {
        let mut digest = LtHash::default();
        self.0.iter().for_each(|(key, value)| digest.add(key, value));
        let (cluster, applied) = (Some(ClusterId([1; 16])), Some((index, Bytes::from_static(b"id"))));
        Identity::from_parts(&Meta { cluster, group: GroupId(0), applied, ..Meta::default() }, &digest)
    }

    /// All that is sent of it after the header to who holds this.
    fn sent(&self, index: u64, held: &[KeyRange]) -> (Identity, Vec<Part>) {
        let identity = self.identity(index);
        let vote = Vote { leader_id: LeaderId::new(1, 1), committed: true };
        let header = header(&vote, Vec::new(), Default::default(), &identity, held);
        // No part of it waits for one to be taken.
        let (to, mut parts_sent) = mpsc::channel(1 << 16);
        let sent = parts(self, header, &identity, held, &to).now_or_never();
        sent.expect("there is room").expect("readable");
        let mut all: Vec<_> = std::iter::from_fn(|| parts_sent.try_recv().ok()).collect();
        all.remove(0);
        (identity, all)
    }
}

/// What there is after a stream has ended.
enum Taken {
    Whole(Incoming),
    Part(Incoming),
}

impl Taken {
    fn whole(self) -> Incoming {
        match self {
            Self::Whole(whole) => whole,
            Self::Part(_) => panic!("a part"),
        }
    }
    fn part(self) -> Incoming {
        match self {
            Self::Whole(_) => panic!("the whole"),
            Self::Part(part) => part,
        }
    }
}

fn take(incoming: Incoming, identity: Identity, parts: Vec<Part>) -> Result<Taken, IncomingError> {
    let mut unframer = Unframer::new(identity, incoming);
    for part in parts {
        match part {
            Part::Frame(frame) => unframer.frame(&frame)?,
            Part::Range(range) => unframer.range(&range)?,
            Part::Trailer(trailer) => return unframer.finish(&trailer).map(Taken::Whole),
            Part::Header(_) => unreachable!("it was taken off"),
        }
    }
    Ok(Taken::Part(unframer.break_off()))
}

fn told(incoming: &Incoming) -> Vec<KeyRange> {
    let held = incoming.ranges();
    assert_eq!(ranges_in(ranges_out(held.clone())), held);
    held
}

fn record_bytes(parts: &[Part]) -> usize {
    parts.iter().map(|part| if let Part::Frame(frame) = part { frame.records.len() } else { 0 }).sum()
}

fn installed(incoming: Incoming, files: &StateFiles) -> BTreeMap<Vec<u8>, Vec<u8>> {
    incoming.install(files).expect("installs");
    let view = files.view().expect("a view");
    verify_state(&*view).expect("adds up");
    let records = view.scan((Bound::Unbounded, Bound::Excluded(&[0xff])), usize::MAX).expect("readable");
    records.into_iter().collect()
}

fn files(dir: &tempfile::TempDir) -> Arc<StateFiles> {
    Arc::new(StateFiles::open(Arc::new(RealDisk), dir.path(), 1 << 20, 0).expect("opens"))
}

#[test]
fn what_is_there_and_the_same_is_not_sent_again() {
    let (dir, mut rng, mut state) = (tempfile::tempdir().expect("a folder"), Rng(seed(31)), State::default());
    let files = files(&dir);
    (0..5000).for_each(|n| state.put(n, &mut rng));
    let (identity, mut parts) = state.sent(1, &[]);
    let all = record_bytes(&parts);
    parts.truncate(parts.len() * 4 / 5);
    let broken_off = take(files.receive(1).expect("begins"), identity, parts).expect("taken").part();
    // Meanwhile: one record is changed, one removed, some are made.
    state.put(700, &mut rng);
    state.0.remove(&key(1400));
    (5000..5010).for_each(|n| state.put(n, &mut rng));
    let (identity, parts) = state.sent(9, &told(&broken_off));
    // A fifth was missing, and two ranges of a mebibyte have changed.
    assert!(record_bytes(&parts) < all / 5 + (3 << 20), "{} of {all} bytes", record_bytes(&parts));
    let whole = take(broken_off.again(9), identity, parts).expect("taken").whole();
    assert!(installed(whole, &files) == state.0);
}

/// By a leader that had no part in the first attempt.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_leader_goes_on_with_a_snapshot_that_broke_off() {
    let sites = Cluster::sites(3);
    for site in &sites.sites {
        *site.compaction.lock().expect("lock") = CompactionConfig {
            keep_bytes: Some(16 << 10),
            step_bytes: 32 << 10,
            interval: Duration::from_millis(200),
            stream_bytes: 1 << 30,
        };
    }
    let mut cluster = sites.start(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (away, other) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[away].shutdown().await;
    let last = cluster.nodes[away].status().last_log;
    for n in 0..600u32 {
        cluster.write(leader, &format!("value {n}"), &[n as u8; 8 << 10]).await;
    }
    for node in [leader, other] {
        until("what it would need is purged", || cluster.nodes[node].status().purged > Some(last)).await;
    }
    // A mebibyte is a group of records, and a range.
    let site = &cluster.sites[away];
    site.disk.hold_received_after(3 << 20);
    cluster.nodes[away] = site.open().await;
    let receiving = || &cluster.nodes[away].node().receiving;
    let new = || {
        std::fs::read_dir(&site.dir).expect("readable").any(|file| {
            let file = file.expect("readable");
            file.path().extension().is_some_and(|e| e == "new")
                && file.metadata().is_ok_and(|file| file.len() > 2 << 20)
        })
    };
    until("a part is received", new).await;
    let silence = |silent| cluster.board.set_silent(&cluster.sites[other].name, &site.name, silent);
    silence(true);
    cluster.nodes[leader].shutdown().await;
    site.disk.hold_received(false);
    until("it breaks off", || receiving().held().len() > 1).await;
    silence(false);
    assert_eq!(cluster.read(away, "value 599").await.expect("there").1[..], [599u32 as u8; 8 << 10]);
    assert_eq!(receiving().held(), [], "it was gone on with");
    cluster.nodes[away].verify_state().await.expect("adds up");
    let (here, there) = (cluster.nodes[away].view().expect("a view"), cluster.nodes[other].view().expect("a view"));
    for n in 0..600 {
        let name = testing::key(&format!("value {n}"));
        assert_eq!(here.get(&name).expect("readable"), there.get(&name).expect("readable"), "{n}");
    }
    cluster.stop().await;
}

/// Whatever changes between any number of attempts that break off anywhere.
#[test]
fn the_last_state_is_what_is_installed() {
    let mut rng = Rng(seed(32));
    for round in 0..20 {
        let (dir, mut state) = (tempfile::tempdir().expect("a folder"), State::default());
        let files = files(&dir);
        (0..1500).for_each(|_| state.put(rng.below(10_000), &mut rng));
        let (mut incoming, mut index) = (files.receive(1).expect("begins"), 1);
        let whole = loop {
            let (identity, mut parts) = state.sent(index, &told(&incoming));
            if rng.chance(70) {
                parts.truncate(rng.below(parts.len() as u64) as usize);
            }
            match take(incoming.again(index), identity, parts).expect("taken") {
                Taken::Whole(whole) => break whole,
                Taken::Part(part) => incoming = part,
            }
            for _ in 0..rng.below(30) {
                let n = rng.below(10_000);
                match rng.below(3) {
                    0 => _ = state.0.remove(&key(n)),
                    1 => _ = state.0.pop_last(),
                    _ => state.put(n, &mut rng),
                }
            }
            index += 1;
        };
        assert!(installed(whole, &files) == state.0, "round {round}");
    }
}

/// A sender that is told wrong ranges, or lies about them, gets nothing installed that is not what it says.
#[test]
fn ranges_that_are_not_there_are_refused() {
    let (dir, mut rng, mut state) = (tempfile::tempdir().expect("a folder"), Rng(seed(33)), State::default());
    let files = files(&dir);
    (0..2000).for_each(|n| state.put(n, &mut rng));
    let part = || {
        let (identity, mut parts) = state.sent(1, &[]);
        parts.truncate(parts.len() / 2);
        take(files.receive(1).expect("begins"), identity, parts).expect("taken").part()
    };
    let held = told(&part());
    assert!(held.len() > 1);
    let refused = |what: &str, identity: &Identity, parts: Vec<Part>| {
        let taken = take(part().again(9), identity.clone(), parts);
        assert!(matches!(taken, Err(IncomingError::Refused(_))), "{what}");
    };
    let (identity, good) = state.sent(9, &held);
    let (_, nothing_held) = state.sent(9, &[]);
    refused("all over again, on top of what is there", &identity, nothing_held);
    let (_, one_held) = state.sent(9, &held[1..]);
    refused("another range first", &identity, one_held);
    let mut bad = good.clone();
    let Part::Range(range) = &mut bad[0] else { panic!("a range comes first") };
    range.keep = !range.keep;
    refused("a changed range", &identity, bad);
    let mut other = state.clone();
    other.put(3, &mut rng);
    refused("kept, though it is another state's", &other.identity(9), good.clone());
    take(part().again(9), identity, good).expect("taken").whole();

    let told = |ranges: &[KeyRange]| ranges_in(ranges_out(ranges.to_vec()));
    assert_eq!(told(&held), held);
    assert_eq!(told(&[held[1].clone(), held[0].clone()]), [], "not in order");
    assert_eq!(told(&[held[0].clone(), held[0].clone()]), [], "twice the same");
    let of = |upto: &[u8], hash: &[u8]| {
        let range = pb::HeldRange { upto: upto.to_vec().into(), hash: hash.to_vec().into() };
        ranges_in(pb::HeldSnapshotResponse { ranges: vec![range] })
    };
    assert_eq!(of(&held[0].upto, &[1; 32]).len(), 1);
    assert_eq!((of(b"no key", &[1; 32]), of(&[0xff], &[1; 32]), of(&held[0].upto, b"short")), (vec![], vec![], vec![]));
}
