//! The token's mark: a single voter whose folder is older than its token takes no part, and a healthy one always does.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests copy folders")]

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_core::seam::WallClock as _;
use tokio::time::Instant;

use crate::error::{Problem, Rollback};
use crate::mark::Mark;
use crate::replica::Replica;
use crate::testing::{Cluster, copy, genesis, problem, soon, write};

const LABEL: &str = "quorate/c1c1c1c1-c1c1-c1c1-c1c1-c1c1c1c1c1c1/1";

/// A mark as the node writes it.
fn mark(node: &Replica, boot: u32, term: u64, applied: u64) -> Vec<u8> {
    node.node().base.own.tagged(Mark { boot, term, applied }.encode())
}

/// What the token keeps of the one node: one mark, and its own.
fn marked(cluster: &Cluster) -> Mark {
    let objects = cluster.sites[0].token.objects.lock().expect("lock");
    let [value] = &objects[LABEL][..] else { panic!("{objects:?}") };
    let mark = Mark::of(&cluster.nodes[0].node().base.own, std::slice::from_ref(value));
    assert_eq!((value.len(), value), (37, &cluster.nodes[0].node().base.own.tagged(mark.encode())));
    mark
}

fn keep(cluster: &Cluster, values: &[Vec<u8>]) {
    cluster.sites[0].token.objects.lock().expect("lock").insert(LABEL.into(), values.to_vec());
}

fn kept(cluster: &Cluster, name: &str) -> PathBuf {
    let to = cluster.sites[0].dir.with_extension(name);
    copy(&cluster.sites[0].dir, &to);
    to
}

fn put_back(cluster: &Cluster, kept: &Path) {
    std::fs::remove_dir_all(&cluster.sites[0].dir).expect("removed");
    copy(kept, &cluster.sites[0].dir);
}

/// Ends the node as a kill would: what a folder that is copied now holds, with what the token knows until then.
async fn kill(cluster: &mut Cluster) -> PathBuf {
    let objects = cluster.sites[0].token.objects.lock().expect("lock").clone();
    let left = kept(cluster, &format!("killed {}", cluster.nodes[0].boot()));
    cluster.nodes.remove(0).shutdown().await;
    *cluster.sites[0].token.objects.lock().expect("lock") = objects;
    put_back(cluster, &left);
    left
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_voter_s_folder_from_one_start_earlier_is_lost_and_the_newest_is_not() {
    let mut cluster = Cluster::voters(1).await;
    cluster.write(0, "before", b"1").await;
    cluster.stop().await;
    let old = kept(&cluster, "old");
    let token = cluster.sites[0].token.objects.lock().expect("lock").clone();
    cluster.nodes[0] = cluster.sites[0].open().await;
    cluster.write(0, "acknowledged", b"1").await;
    // Nothing is marked at its end, and one start is enough.
    let newest = kill(&mut cluster).await;

    put_back(&cluster, &old);
    let again = cluster.sites[0].open().await;
    let found = problem(&again).await;
    assert!(matches!(found, Problem::Lost(Rollback::Superseded { mine: 2, known: 2 })), "{found}");
    assert!(again.read_index(Instant::now() + Duration::from_millis(200)).await.is_err());
    assert!(write(&again, "second", b"2").await.is_err());
    again.shutdown().await;
    let again = cluster.sites[0].open().await;
    assert!(matches!(again.problem(), Some(Problem::Lost(Rollback::Before))), "its node file says so");
    again.shutdown().await;
    cluster.nodes.push(again);
    assert_eq!(marked(&cluster).boot, 2, "who is lost marks nothing");
    cluster.nodes.clear();

    put_back(&cluster, &newest);
    cluster.nodes.push(cluster.sites[0].open().await);
    assert!(cluster.read(0, "acknowledged").await.is_some());
    cluster.write(0, "after", b"1").await;
    cluster.stop().await;

    // With the token put back too there is nobody who could know.
    put_back(&cluster, &old);
    *cluster.sites[0].token.objects.lock().expect("lock") = token;
    cluster.nodes[0] = cluster.sites[0].open().await;
    cluster.write(0, "goes on from there", b"1").await;
    assert!(cluster.read(0, "acknowledged").await.is_none());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_or_an_entry_that_was_synced_once_and_is_gone_is_found_out() {
    let mut cluster = Cluster::voters(1).await;
    cluster.write(0, "k", b"1").await;
    cluster.stop().await;
    let whole = kept(&cluster, "whole");
    let Mark { boot, term, applied } = marked(&cluster);
    assert_eq!(boot, 1);
    let first = cluster.nodes[0].clone();
    let mark = |boot, term, applied| mark(&first, boot, term, applied);
    for (value, rollback) in [
        (mark(boot, term + 1, applied), Rollback::Vote { mine: term, known: term + 1 }),
        (mark(boot, term, applied + 1), Rollback::Applied { mine: applied, known: applied + 1 }),
        (mark(boot + 1, term, applied), Rollback::Superseded { mine: boot + 1, known: boot + 1 }),
    ] {
        put_back(&cluster, &whole);
        // Of several copies the highest counts, in whatever order they are found.
        for values in [[value.clone(), mark(1, 0, 0)], [mark(1, 0, 0), value]] {
            keep(&cluster, &values);
            put_back(&cluster, &whole);
            let node = cluster.sites[0].open().await;
            assert_eq!(problem(&node).await, Problem::Lost(rollback.clone()));
            node.shutdown().await;
        }
    }
    put_back(&cluster, &whole);
    keep(&cluster, &[mark(1, 0, 0), mark(boot, term, applied), mark(0, term, 0)]);
    cluster.nodes[0] = cluster.sites[0].open().await;
    cluster.write(0, "after", b"1").await;
    cluster.stop().await;
    let now = marked(&cluster);
    assert!(now.boot == 2 && now.applied > applied, "one is left, with all that was synced by the stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn however_a_healthy_node_ends_it_has_what_is_marked() {
    let mut cluster = Cluster::voters(1).await;
    for round in 0..8 {
        cluster.write(0, &format!("k {round}"), b"1").await;
        match round % 2 {
            0 => drop(kill(&mut cluster).await),
            _ => cluster.nodes.remove(0).shutdown().await,
        }
        cluster.nodes.push(cluster.sites[0].open().await);
        assert!(cluster.read(0, &format!("k {round}")).await.is_some());
        assert_eq!((cluster.nodes[0].problem(), cluster.nodes[0].unmarked()), (None, None));
        assert_eq!(marked(&cluster).boot, cluster.nodes[0].boot(), "marked before it took part");
    }
    cluster.stop().await;
    let applied = cluster.nodes[0].status().applied;
    assert_eq!(marked(&cluster).applied, applied, "a clean stop leaves nothing unmarked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_keeps_nothing_is_told_and_hinders_nobody() {
    let mut cluster = Cluster::voters(1).await;
    cluster.stop().await;
    cluster.sites[0].token.refuses.store(true, Ordering::Relaxed);
    cluster.nodes[0] = cluster.sites[0].open().await;
    cluster.write(0, "k", b"1").await;
    let told = cluster.nodes[0].unmarked().expect("told");
    assert!(told.contains("does not keep") && told.contains("CKR_FUNCTION_NOT_SUPPORTED"), "{told}");
    assert_eq!(cluster.nodes[0].problem(), None);
    // It works again, and nothing was lost meanwhile.
    cluster.sites[0].token.refuses.store(false, Ordering::Relaxed);
    cluster.stop().await;
    assert_eq!((cluster.nodes[0].unmarked(), marked(&cluster).boot), (None, 2));
    cluster.nodes[0] = cluster.sites[0].open().await;
    cluster.write(0, "again", b"1").await;
    cluster.stop().await;
}

/// No lie of a token declares a node lost, nor does a bit that fell over in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_this_node_has_not_written_is_not_believed_and_replaced() {
    let mut cluster = Cluster::voters(2).await;
    cluster.stop().await;
    let far = mark(&cluster.nodes[0], 99, 99, 99);
    let mut false_marks = vec![vec![], vec![1], far[..21].to_vec(), mark(&cluster.nodes[1], 99, 99, 99)];
    false_marks.extend((0..far.len()).map(|at| {
        let mut flipped = far.clone();
        flipped[at] ^= 1;
        flipped
    }));
    // Tagged, and no mark.
    false_marks.push(cluster.nodes[0].node().base.own.tagged(vec![2; 21]));
    false_marks.push(cluster.nodes[0].node().base.own.word().to_vec());
    keep(&cluster, &false_marks);
    for node in [0, 1] {
        cluster.nodes[node] = cluster.sites[node].open().await;
    }
    cluster.write(0, "k", b"1").await;
    assert_eq!((cluster.nodes[0].problem(), marked(&cluster).boot), (None, 2));
    cluster.stop().await;
}

/// The founder's id is always the same; its folder was emptied, and a cluster is founded anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_is_not_held_to_the_mark_of_an_earlier_one() {
    let mut cluster = Cluster::voters(1).await;
    for _ in 0..3 {
        cluster.nodes[0].shutdown().await;
        cluster.nodes[0] = cluster.sites[0].open().await;
    }
    cluster.stop().await;
    assert_eq!(marked(&cluster).boot, 4);
    let site = &cluster.sites[0];
    std::fs::remove_dir_all(&site.dir).expect("removed");
    // Not even when it could not replace it.
    site.token.refuses.store(true, Ordering::Relaxed);
    let first = site.create(None).await;
    first.found(site.member(), genesis("n1", site.wall.now_ms()), soon()).await.expect("founded");
    first.shutdown().await;
    site.token.refuses.store(false, Ordering::Relaxed);
    cluster.nodes[0] = cluster.sites[0].open().await;
    cluster.write(0, "k", b"1").await;
    assert_eq!(marked(&cluster).boot, 2);
    cluster.stop().await;
}
