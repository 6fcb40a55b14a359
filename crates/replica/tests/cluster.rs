//! Replicas as a cluster: founding, joining, proposing through any node, losing and restarting nodes.
#![allow(clippy::disallowed_methods, reason = "tests")]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::batch::{Expect, Outcome};
use quorate_core::id::NodeId;
use quorate_core::record_key::RecordKey;
use quorate_replica::{FoundError, MembershipError, OpenError, ProposeError, Replica, Role};
use support::{CLUSTER, Cluster, PATIENCE, genesis, key, put, soon, write};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_found_join_and_propose_through_each() {
    let cluster = Cluster::voters(3).await;
    for node in 0..3 {
        cluster.write(node, &format!("by-{node}"), format!("value {node}").as_bytes()).await;
    }
    // Whatever one node acknowledged, every other reads at once.
    for reader in 0..3 {
        for writer in 0..3 {
            let (_, value) = cluster.read(reader, &format!("by-{writer}")).await.expect("there");
            assert_eq!(value, format!("value {writer}"));
        }
        let view = cluster.nodes[reader].view().expect("a view");
        assert_eq!(view.membership().voter_ids(), [NodeId(1), NodeId(2), NodeId(3)].into());
        assert_eq!(view.membership().voters.len(), 1, "no joint membership lasts");
        assert!(view.get(&RecordKey::keyring()).expect("readable").is_some(), "genesis is there");
        cluster.nodes[reader].verify_state().await.expect("the digest holds");
    }
    let leader = cluster.leader(&[0, 1, 2]).await;
    let status = cluster.nodes[leader].status();
    assert_eq!((status.role, status.leader), (Role::Leader, Some(cluster.sites[leader].id)));
    assert_eq!(status.problem, None);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_write_is_seen_by_the_next_read_on_any_other_node() {
    let cluster = Cluster::voters(3).await;
    for round in 0..60u64 {
        let (writer, reader) = (round as usize % 3, (round as usize + 1 + round as usize / 3 % 2) % 3);
        cluster.write(writer, "switch", &round.to_be_bytes()).await;
        let (_, value) = cluster.read(reader, "switch").await.expect("there");
        assert_eq!(value[..], round.to_be_bytes(), "round {round}: {writer} wrote, {reader} read");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_at_once_through_all_nodes_lose_nothing() {
    let cluster = Arc::new(Cluster::voters(3).await);
    let clients = (0..48).map(|client| {
        let cluster = cluster.clone();
        tokio::spawn(async move {
            for n in 0..5 {
                cluster.write(client % 3, &format!("c{client}-{n}"), &[n]).await;
            }
        })
    });
    for client in futures::future::join_all(clients).await {
        client.expect("done");
    }
    for node in 0..3 {
        for client in 0..48 {
            for n in 0..5u8 {
                let (_, value) = cluster.read(node, &format!("c{client}-{n}")).await.expect("there");
                assert_eq!(value[..], [n]);
            }
        }
        cluster.nodes[node].verify_state().await.expect("the digest holds");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_read_set_is_a_conflict_that_names_what_moved() {
    let cluster = Cluster::voters(3).await;
    let first = cluster.write(0, "x", b"one").await;
    for node in &cluster.nodes {
        let seq = node.open_seq(soon()).await.expect("a number");
        let outcome = node.propose(put(seq.id(), "x", 0, b"two"), soon()).await.expect("an outcome");
        let Outcome::Conflict { index, mismatches } = outcome else { panic!("{outcome:?}") };
        assert_eq!(mismatches, [Expect { key: key("x"), rev: first }]);
        assert!(*node.applied().borrow() >= index, "its own state shows what it conflicted with");
    }
    assert_eq!(cluster.read(2, "x").await.expect("there").1[..], *b"one");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_sent_again_has_the_same_outcome_and_no_second_effect() {
    let cluster = Cluster::voters(3).await;
    let seq = cluster.nodes[1].open_seq(soon()).await.expect("a number");
    let batch = put(seq.id(), "once", 0, b"1");
    let first = cluster.nodes[1].propose(batch.clone(), soon()).await.expect("an outcome");
    assert!(matches!(first, Outcome::Applied(_)));
    cluster.write(2, "once", b"2").await;
    let again = cluster.nodes[1].propose(batch, soon()).await.expect("an outcome");
    assert_eq!(again, first);
    assert_eq!(cluster.read(0, "once").await.expect("there").1[..], *b"2", "the newer value stands");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_goes_and_nothing_acknowledged_goes_with_it() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let rest: Vec<usize> = (0..3).filter(|i| *i != leader).collect();
    // Clients keep writing through the two others while the leader goes.
    let writers: Vec<_> = rest
        .iter()
        .map(|i| {
            let node = cluster.nodes[*i].clone();
            let i = *i;
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for n in 0..40 {
                    let name = format!("w{i}-{n}");
                    write(&node, &name, name.as_bytes()).await.expect("written");
                    acknowledged.push(name);
                }
                acknowledged
            })
        })
        .collect();
    let mut moved = cluster.nodes[rest[0]].applied();
    let base = *moved.borrow();
    moved.wait_for(|now| *now > base + 10).await.expect("running");
    cluster.nodes[leader].shutdown().await;
    for writer in writers {
        for name in writer.await.expect("done") {
            for node in &rest {
                assert_eq!(cluster.read(*node, &name).await.expect("there").1, name);
            }
        }
    }
    let heir = cluster.leader(&rest).await;
    assert_ne!(heir, leader);
    // It comes back and catches up.
    let back = cluster.sites[leader].open().await;
    back.read_index(soon()).await.expect("a read index");
    assert!(back.view().expect("a view").get(&key("w0-39")).expect("readable").is_some() || leader == 0);
    back.verify_state().await.expect("the digest holds");
    back.shutdown().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_restart_and_an_old_boot_s_batch_is_refused() {
    let mut cluster = Cluster::voters(3).await;
    let boots: Vec<u32> = cluster.nodes.iter().map(Replica::boot).collect();
    for n in 0..20 {
        cluster.write(n % 3, &format!("k{n}"), &[n as u8]).await;
    }
    let old = cluster.nodes[1].open_seq(soon()).await.expect("a number").id();
    cluster.stop().await;
    for (i, boot) in boots.iter().enumerate() {
        cluster.nodes[i] = cluster.sites[i].open().await;
        assert_eq!(cluster.nodes[i].boot(), boot + 1);
    }
    for n in 0..20 {
        assert_eq!(cluster.read(n % 3, &format!("k{n}")).await.expect("there").1[..], [n as u8]);
    }
    // The new boot takes the session over; what the old one still had under way is certainly not applied.
    cluster.write(1, "new-boot", b"1").await;
    let refused = cluster.nodes[1].propose(put(old, "old-boot", 0, b"1"), soon()).await;
    assert!(matches!(refused, Err(ProposeError::NotAccepted(_))), "{refused:?}");
    assert_eq!(cluster.read(0, "old-boot").await, None);
    for node in &cluster.nodes {
        node.verify_state().await.expect("the digest holds");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_learner_that_joins_late_replays_the_log_and_serves() {
    let mut cluster = Cluster::founded(2).await;
    for n in 0..300 {
        cluster.write(0, &format!("k{}", n % 50), &[n as u8]).await;
    }
    cluster.add().await;
    // Neither vote nor quorum depends on it, and it reads and proposes like anyone.
    assert_eq!(cluster.read(1, "k49").await.expect("there").1[..], [299u16 as u8]);
    cluster.write(1, "by-learner", b"1").await;
    let status = cluster.nodes[1].status();
    assert_eq!(status.role, Role::Learner);
    assert_eq!(status.learners().collect::<Vec<_>>(), [NodeId(2)]);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn membership_changes_keep_their_rules_on_leader_and_follower() {
    let mut cluster = Cluster::founded(4).await;
    cluster.add().await;
    cluster.add().await;
    let refused = |r: Result<u64, MembershipError>| match r {
        Err(MembershipError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    let why = refused(support::promote(&cluster.nodes[0], vec![NodeId(2)], false).await);
    assert!(why.contains("two voters"), "{why}");
    refused(support::promote(&cluster.nodes[0], vec![NodeId(2), NodeId(77)], false).await);
    // Asked of a learner, done by the leader.
    support::promote(&cluster.nodes[2], vec![NodeId(2), NodeId(3)], false).await.expect("promoted");
    let view = cluster.nodes[2].view().expect("a view");
    assert_eq!(view.membership().voter_ids(), BTreeSet::from([NodeId(1), NodeId(2), NodeId(3)]));
    // Said twice, done once; and what no roster says, no leader does.
    support::promote(&cluster.nodes[1], vec![NodeId(2)], false).await.expect("a voter already");
    let serial = view.roster().expect("readable").expect("one").1.roster().serial;
    refused(cluster.nodes[1].carry_out(serial + 1, soon()).await);
    cluster.nodes[1].carry_out(serial, soon()).await.expect("done already");
    cluster.stop().await;
}

/// Each change of voters needs those that go, and whom the roster leaves out is asked nothing more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_shrinks_to_one_voter_and_grows_again() {
    let mut cluster = Cluster::sites(4).start(3).await;
    for (by, gone) in [(0, 2), (0, 1)] {
        support::remove(&cluster.nodes[by], cluster.sites[gone].id).await.expect("removed");
        cluster.nodes[gone].shutdown().await;
        cluster.write(by, "after", &[gone as u8]).await;
    }
    let view = cluster.nodes[0].view().expect("a view");
    assert_eq!((view.membership().members.len(), view.membership().voter_ids().len()), (1, 1));
    drop(view);
    let id = cluster.add().await;
    support::promote(&cluster.nodes[0], vec![id], true).await.expect("promoted");
    cluster.write(3, "two", b"1").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_is_founded_once() {
    let cluster = Cluster::founded(1).await;
    let again = cluster.nodes[0].found(cluster.sites[0].member(), genesis("n1", 1), soon()).await;
    assert_eq!(again, Err(FoundError::AlreadyFounded(CLUSTER)));
    cluster.nodes[0].shutdown().await;
    let reopened = cluster.sites[0].open().await;
    let again = reopened.found(cluster.sites[0].member(), genesis("n1", 1), soon()).await;
    assert_eq!(again, Err(FoundError::AlreadyFounded(CLUSTER)));
    reopened.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_belongs_to_one_node() {
    let cluster = Cluster::founded(2).await;
    let (first, second) = (&cluster.sites[0], &cluster.sites[1]);
    let open = |cfg| Replica::open(cfg, first.world(), first.service.clone());
    let create = |cfg| Replica::create(cfg, first.world(), first.service.clone());
    let refused = |r: Result<Replica, OpenError>| r.err().expect("refused");
    cluster.nodes[0].shutdown().await;
    assert!(matches!(refused(create(first.config()).await), OpenError::AlreadyExists(_)));
    assert!(matches!(refused(open(second.config()).await), OpenError::Missing(_)));
    let mut other_name = first.config();
    other_name.name = "n9".into();
    assert!(matches!(refused(open(other_name).await), OpenError::WrongNode { .. }));
    let mut other_cluster = first.config();
    other_cluster.cluster.0[0] ^= 1;
    let e = refused(open(other_cluster).await);
    assert!(matches!(e, OpenError::WrongNode { .. }));
    assert!(e.to_string().contains("data_dir"), "says what to do: {e}");
    // A creation that was cut short never ran: it is made again. The byte says complete or not.
    let path = first.dir.join("node");
    let complete = std::fs::read(&path).expect("read");
    let mut cut_short = complete[..complete.len() - 32].to_vec();
    cut_short[1] = 0;
    let hash = blake3::hash(&cut_short);
    std::fs::write(&path, [&cut_short[..], hash.as_bytes()].concat()).expect("written");
    assert!(matches!(refused(open(first.config()).await), OpenError::Missing(_)));
    let again = create(first.config()).await.expect("made again");
    assert_eq!((again.boot(), again.status().last_log), (1, 0));
    again.shutdown().await;
    // A node that has lost its journal is no fresh node.
    std::fs::rename(first.dir.join("journal"), first.dir.join("elsewhere")).expect("renamed");
    let e = refused(open(first.config()).await);
    assert!(matches!(&e, OpenError::Damaged(why) if why.contains("must not vote")), "{e}");
    std::fs::rename(first.dir.join("elsewhere"), first.dir.join("journal")).expect("renamed");
    // Without its node file a folder that holds a journal is not taken for a fresh one.
    std::fs::remove_file(first.dir.join("node")).expect("removed");
    assert!(matches!(refused(create(first.config()).await), OpenError::Damaged(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_the_format_is_refused_at_once_and_changes_nothing() {
    let cluster = Cluster::founded(1).await;
    let node = &cluster.nodes[0];
    let before = node.status().last_log;
    let seq = node.open_seq(soon()).await.expect("a number");
    let mut truncated = put(seq.id(), "x", 0, b"1").to_vec();
    truncated.truncate(100);
    let mut other_origin = seq.id();
    other_origin.origin = NodeId(55);
    for bad in [Bytes::new(), truncated.into(), put(other_origin, "x", 0, b"1"), vec![0; 300 * 1024].into()] {
        let refused = node.propose(bad, soon()).await;
        assert!(matches!(refused, Err(ProposeError::NotAccepted(_))), "{refused:?}");
    }
    assert_eq!(node.status().last_log, before);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_carries_the_service_s_part_and_calls_reach_every_member() {
    let cluster = Cluster::voters(3).await;
    let heard = async {
        let mut changes = cluster.nodes[0].watch();
        loop {
            let peers = cluster.nodes[0].status().peers;
            if peers.iter().filter(|p| p.reachable && !p.app_hello.is_empty()).count() == 2 {
                return peers;
            }
            changes.changed().await.expect("running");
        }
    };
    let peers = tokio::time::timeout(PATIENCE, heard).await.expect("hellos");
    for peer in peers {
        assert_eq!(peer.app_hello, format!("hello from n{}", peer.id));
        assert_eq!(peer.boot, 1);
    }
    for (from, to) in [(0, 1), (1, 2), (2, 0), (1, 1)] {
        let body = Bytes::from_static(b"body");
        let id = cluster.sites[to].id;
        let answer = cluster.nodes[from].call_peer(id, 7, body, PATIENCE).await.expect("an answer");
        assert_eq!(answer, format!("n{id} to {}: 7 body", cluster.sites[from].id));
    }
    let refused = cluster.nodes[0].call_peer(NodeId(2), 0, Bytes::new(), PATIENCE).await.expect_err("refused");
    assert_eq!(refused.to_string(), "n2 refuses");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_to_a_voter_that_can_take_it() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let to = cluster.sites[(leader + 1) % 3].id;
    // Asked at a follower that is not even concerned.
    let asked = &cluster.nodes[(leader + 2) % 3];
    assert_eq!(asked.transfer_leader(Some(to), soon()).await.expect("handed on"), to);
    assert_eq!(asked.transfer_leader(Some(to), soon()).await.expect("it leads already"), to);
    let other = asked.transfer_leader(None, soon()).await.expect("handed on");
    assert_ne!(other, to);
    let refused = asked.transfer_leader(Some(NodeId(99)), soon()).await;
    assert!(matches!(&refused, Err(MembershipError::Refused(why)) if why.contains("no voter")), "{refused:?}");
    cluster.write(0, "after", b"all").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_voter_is_cut_off_and_what_would_lose_the_quorum_is_refused() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let id = |place: usize| cluster.sites[place].id;
    let (gone, stays) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.nodes[stays].may_remove(id(gone), soon()).await.expect("may be removed");
    assert_eq!(cluster.nodes[stays].status().voters().count(), 3, "a check changes nothing");
    support::remove(&cluster.nodes[stays], id(gone)).await.expect("removed");
    support::remove(&cluster.nodes[stays], id(gone)).await.expect("again, the same");
    let applied = async {
        while [leader, stays].iter().any(|place| cluster.nodes[*place].status().members().contains_key(&id(gone))) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, applied).await.expect("both know");
    cluster.write(stays, "after", b"it went").await;
    // It can neither read nor write, nor is it listened to.
    let brief = || tokio::time::Instant::now() + std::time::Duration::from_secs(2);
    assert!(cluster.nodes[gone].read_index(brief()).await.is_err());
    let seq = cluster.nodes[gone].open_seq(soon()).await.expect("a number");
    let proposed = cluster.nodes[gone].propose(put(seq.id(), "x", 0, b"y"), brief()).await;
    assert!(!matches!(proposed, Ok(Outcome::Applied(_))), "{proposed:?}");

    // Of two voters, one is down: the other can't be removed, and the one that is down can't be without a majority.
    let (one, other) = (leader, stays);
    let leader = cluster.leader(&[one, other]).await;
    cluster.nodes[if leader == one { other } else { one }].shutdown().await;
    let away = async {
        while cluster.nodes[leader].status().peers.iter().any(|p| p.error.is_none()) {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, away).await.expect("noticed");
    let refused = support::remove(&cluster.nodes[leader], id(leader)).await;
    match &refused {
        Err(MembershipError::Refused(why)) => assert!(why.contains("quorum"), "{why}"),
        // On a busy machine it may have lost its leadership by now, with which it lost the right to change anything.
        refused => assert!(matches!(refused, Err(MembershipError::Unavailable(_))), "{refused:?}"),
    }
    assert_eq!(cluster.nodes[leader].status().voters().count(), 2, "nothing was changed");
    cluster.stop().await;
}
