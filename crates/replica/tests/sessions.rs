//! Whose changes count: those of the one start of a node that has begun a session, and of nobody without keys.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "tests copy folders and start clusters")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use quorate_core::batch::Outcome;
use quorate_replica::{OpenError, Problem, ProposeError, Replica, Rollback};
use support::{Cluster, Forger, Site, TestKeys, copy, problem, put, soon, write};
use tokio::time::Instant;

/// Puts a copy in the place of what is there.
fn put_back(copied: &Path, dir: &Path) {
    std::fs::remove_dir_all(dir).expect("removed");
    copy(copied, dir);
}

/// The token that knew better was put back too: only the others are left to tell.
fn put_back_with_token(copied: &Path, site: &Site) {
    put_back(copied, &site.dir);
    site.token.objects.lock().expect("lock").clear();
}

/// A virtual machine that was restored from a snapshot, a folder from a backup: what it acknowledged since then must not
/// be answered a second time for something else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_through_a_folder_put_back_are_refused_and_none_is_answered_from_an_older_one() {
    let mut cluster = Cluster::voters(3).await;
    cluster.leader(&[0, 1, 2]).await;
    let victim = 2;
    cluster.write(victim, "before", b"1").await;
    cluster.nodes[victim].shutdown().await;
    let kept = cluster.sites[victim].dir.with_extension("copy");
    copy(&cluster.sites[victim].dir, &kept);
    // It starts again, and makes changes under the number of this start.
    cluster.nodes[victim] = cluster.sites[victim].open().await;
    for i in 0..40 {
        cluster.write(victim, &format!("first {i}"), b"1").await;
    }
    cluster.nodes[victim].shutdown().await;
    // Who led knows how far it was; who leads next does not.
    let leader = cluster.leader(&[0, 1]).await;
    cluster.nodes[leader].transfer_leader(Some(cluster.sites[1 - leader].id), soon()).await.expect("handed on");
    put_back_with_token(&kept, &cluster.sites[victim]);
    cluster.nodes[victim] = cluster.sites[victim].open().await;

    let again = cluster.nodes[victim].clone();
    for i in 0..10 {
        let name = format!("second {i}");
        let written = write(&again, &name, b"2").await;
        if written.is_ok() {
            assert!(cluster.read(0, &name).await.is_some(), "acknowledged, and nowhere: {written:?}");
        }
    }
    let found = problem(&again).await;
    assert!(matches!(found, Problem::Lost(Rollback::Superseded { .. })), "{found}");
    let refused = write(&again, "third", b"3").await;
    assert!(refused.is_err(), "{refused:?}");
    for i in 0..40 {
        assert!(cluster.read(0, &format!("first {i}")).await.is_some());
    }
    cluster.stop().await;
}

/// Nobody who was there runs any more: what the others have written down of it is enough.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_put_back_is_found_out_when_all_start_anew_and_stays_out() {
    let mut cluster = Cluster::voters(3).await;
    cluster.leader(&[0, 1, 2]).await;
    let victim = 2;
    cluster.nodes[victim].shutdown().await;
    let kept = cluster.sites[victim].dir.with_extension("copy");
    copy(&cluster.sites[victim].dir, &kept);
    cluster.nodes[victim] = cluster.sites[victim].open().await;
    for i in 0..10 {
        cluster.write(victim, &format!("k {i}"), b"1").await;
    }
    cluster.stop().await;
    put_back_with_token(&kept, &cluster.sites[victim]);
    // With one of the others alone: were it to vote, it would vote again.
    cluster.nodes[victim] = cluster.sites[victim].open().await;
    cluster.nodes[0] = cluster.sites[0].open().await;
    let found = problem(&cluster.nodes[victim]).await;
    assert!(matches!(found, Problem::Lost(_)), "{found}");
    let alone = cluster.nodes[0].read_index(Instant::now() + Duration::from_secs(1)).await;
    assert!(alone.is_err(), "it counts for nothing: {alone:?}");
    // Its node file says so, whoever is there.
    cluster.nodes[victim].shutdown().await;
    cluster.nodes[victim] = cluster.sites[victim].open().await;
    assert!(matches!(cluster.nodes[victim].problem(), Some(Problem::Lost(Rollback::Before))));
    cluster.nodes[1] = cluster.sites[1].open().await;
    for i in 0..10 {
        assert!(cluster.read(0, &format!("k {i}")).await.is_some());
    }
    cluster.write(1, "after", b"1").await;
    cluster.stop().await;
}

/// Whom it knew are gone, and who is there it does not know: it would turn them away before they can tell it anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_older_than_the_members_that_are_left_is_found_out() {
    let mut cluster = Cluster::sites(3).start(2).await;
    let victim = 1;
    cluster.nodes[victim].shutdown().await;
    let kept = cluster.sites[victim].dir.with_extension("copy");
    copy(&cluster.sites[victim].dir, &kept);
    cluster.nodes[victim] = cluster.sites[victim].open().await;
    cluster.leader(&[0, 1]).await;
    let third = cluster.add().await;
    support::promote(&cluster.nodes[0], vec![third], false).await.expect("promoted");
    support::remove(&cluster.nodes[2], cluster.sites[0].id).await.expect("removed");
    cluster.nodes[0].shutdown().await;
    cluster.write(victim, "since", b"1").await;
    cluster.nodes[victim].shutdown().await;
    put_back_with_token(&kept, &cluster.sites[victim]);
    cluster.nodes[victim] = cluster.sites[victim].open().await;
    assert!(!cluster.nodes[victim].status().membership.members.contains_key(&third));
    let found = problem(&cluster.nodes[victim]).await;
    assert!(matches!(found, Problem::Lost(Rollback::Superseded { .. })), "{found}");
    cluster.stop().await;
}

/// By its own word alone it would lead at once, and take what it decides for acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_of_a_time_before_there_were_others_is_found_out_before_it_leads() {
    let mut cluster = Cluster::sites(3).start(1).await;
    cluster.leader(&[0]).await;
    let term = cluster.nodes[0].status().term;
    cluster.nodes[0].shutdown().await;
    let kept = cluster.sites[0].dir.with_extension("copy");
    copy(&cluster.sites[0].dir, &kept);
    cluster.nodes[0] = cluster.sites[0].open().await;
    cluster.leader(&[0]).await;
    let others = vec![cluster.add().await, cluster.add().await];
    support::promote(&cluster.nodes[0], others, false).await.expect("promoted");
    cluster.nodes[0].shutdown().await;
    cluster.write(1, "since", b"1").await;
    put_back_with_token(&kept, &cluster.sites[0]);
    let silence = |silent| {
        for other in &cluster.sites[1..] {
            cluster.board.set_silent(&cluster.sites[0].name, &other.name, silent);
        }
    };
    // The others can't reach it at once. It listens long enough on any machine.
    silence(true);
    *cluster.sites[0].listening.lock().expect("lock") = support::PATIENCE;
    let back = cluster.sites[0].open().await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    silence(false);
    cluster.nodes[0] = back;
    let found = problem(&cluster.nodes[0]).await;
    assert!(matches!(found, Problem::Lost(Rollback::Superseded { .. })), "{found}");
    assert_eq!(cluster.nodes[0].status().term, term, "it has not voted, not even for itself");
    cluster.stop().await;
}

/// The state tells of a journal that is not there: votes and entries went with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_put_back_under_a_newer_state_is_damage_and_a_state_put_back_replays() {
    let mut cluster = Cluster::voters(3).await;
    cluster.leader(&[0, 1, 2]).await;
    let victim = 2;
    let dir = cluster.sites[victim].dir.clone();
    cluster.write(victim, "before", b"1").await;
    cluster.nodes[victim].shutdown().await;
    let kept = dir.with_extension("copy");
    copy(&dir, &kept);
    cluster.nodes[victim] = cluster.sites[victim].open().await;
    for i in 0..10 {
        cluster.write(victim, &format!("k {i}"), b"1").await;
    }
    cluster.nodes[victim].shutdown().await;
    let newest = dir.with_extension("newest");
    copy(&dir, &newest);

    put_back(&kept.join("journal"), &dir.join("journal"));
    let site = &cluster.sites[victim];
    let refused = Replica::open(site.config(), site.world(), site.service.clone()).await.map(drop);
    let Err(OpenError::Damaged(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("journal was put back"), "{why}");

    // The state alone: the log still reaches back to where it stands, or the journal says that it does not.
    put_back(&newest, &dir);
    for name in std::fs::read_dir(&kept).expect("a folder").map(|entry| entry.expect("readable").file_name()) {
        if name != "journal" && name != "node" {
            std::fs::copy(kept.join(&name), dir.join(&name)).expect("copied");
        }
    }
    match Replica::open(site.config(), site.world(), site.service.clone()).await {
        Ok(node) => {
            node.set_keys(Some(Arc::new(TestKeys)));
            cluster.nodes[victim] = node;
            for i in 0..10 {
                assert!(cluster.read(victim, &format!("k {i}")).await.is_some());
            }
            cluster.nodes[victim].verify_state().await.expect("the digest holds");
        }
        Err(OpenError::Damaged(why)) => assert!(why.contains("lost or rolled back"), "{why}"),
        Err(e) => panic!("{e}"),
    }
    cluster.stop().await;
}

/// Boots are no secret: a member without keys must not get anything into the log by a leader that can't check MACs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sealed_leader_takes_batches_only_of_who_has_the_keys() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (honest, forger) = (&cluster.nodes[(leader + 1) % 3], &cluster.nodes[(leader + 2) % 3]);
    cluster.nodes[leader].set_keys(None);
    for i in 0..3 {
        write(honest, &format!("a {i}"), b"1").await.expect("it claims its session once, and goes on");
    }
    // Its session is from when it had keys.
    write(forger, "b", b"1").await.expect("written");
    forger.set_keys(Some(Arc::new(Forger)));
    // Another leadership, which has seen no claim of it.
    cluster.nodes[leader].transfer_leader(Some(honest.id()), soon()).await.expect("handed on");
    honest.set_keys(None);
    let before = honest.status().last_log;
    let seq = forger.open_seq(soon()).await.expect("a number");
    let limit = Instant::now() + Duration::from_millis(300);
    let refused = forger.propose(support::forged(seq.id(), "x"), limit).await;
    // It can't know what a leader does with what it was given.
    assert!(matches!(refused, Err(ProposeError::Unknown(_))), "{refused:?}");
    assert_eq!(honest.status().last_log, before, "nothing was appended");
    // With the keys again it shows its session, and goes on.
    forger.set_keys(Some(Arc::new(TestKeys)));
    write(forger, "c", b"1").await.expect("written");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_keys_begins_no_session() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    for (keys, why) in [(None, "sealed"), (Some(Arc::new(Forger) as Arc<dyn quorate_replica::KeyHolder>), "anchor key")]
    {
        let node = &cluster.nodes[(leader + 1) % 3];
        let before = cluster.nodes[leader].status().last_log;
        node.set_keys(keys);
        let seq = node.open_seq(soon()).await.expect("a number");
        let refused = node.propose(put(seq.id(), "x", 0, b"1"), soon()).await;
        let Err(ProposeError::NotAccepted(told)) = refused else { panic!("{refused:?}") };
        assert!(told.contains(why), "{told}");
        assert_eq!(cluster.nodes[leader].status().last_log, before, "nothing was appended");
    }
    cluster.stop().await;
}

/// The number must be in use: else nobody would tell the outcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_under_a_number_that_is_not_in_use_is_refused() {
    let cluster = Cluster::voters(1).await;
    let node = &cluster.nodes[0];
    let seq = node.open_seq(soon()).await.expect("a number");
    let id = seq.id();
    drop(seq);
    assert!(matches!(node.propose(put(id, "x", 0, b"1"), soon()).await, Err(ProposeError::NotAccepted(_))));
    let seq = node.open_seq(soon()).await.expect("a number");
    let batch = put(seq.id(), "x", 0, b"1");
    let first = node.propose(batch.clone(), soon()).await;
    assert!(matches!(first, Ok(Outcome::Applied(_))), "{first:?}");
    assert_eq!(node.propose(batch, soon()).await, first, "the same batch, the same outcome");
    cluster.stop().await;
}
