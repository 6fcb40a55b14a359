//! What goes wrong around a replica: silence, strangers, forgers, wrong clocks.
#![allow(clippy::disallowed_methods, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use quorate_core::batch::Outcome;
use quorate_core::id::{ClusterId, GroupId, NodeId};
use quorate_core::seam::WallClock;
use quorate_replica::{
    CallError, MembershipError, PeerExpectation, Problem, ProposeError, Quorum, ReadError, Replica, ReplicaConfig,
    Role, StateMismatch, World,
};
use support::net::TestNet;
use support::{CLUSTER, Cluster, PATIENCE, confirm, forged, put, soon, until, write};
use tokio::time::Instant;

fn within(limit: Duration) -> Instant {
    Instant::now() + limit
}

/// Makes one node hear nothing of the others, or hear again.
fn isolate(cluster: &Cluster, node: usize, silent: bool) {
    for other in (0..cluster.sites.len()).filter(|i| *i != node) {
        cluster.board.set_silent(&cluster.sites[node].name, &cluster.sites[other].name, silent);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_goes_silent_hangs_nobody_beyond_the_deadline() {
    let cluster = Cluster::voters(3).await;
    cluster.write(0, "before", b"1").await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let rest: Vec<usize> = (0..3).filter(|i| *i != leader).collect();
    isolate(&cluster, leader, true);

    // Cut off, it refuses reads: it must not answer from a state that others may have moved past.
    let limit = Duration::from_millis(700);
    let began = Instant::now();
    let read = cluster.nodes[leader].read_index(within(limit)).await;
    assert!(matches!(read, Err(ReadError::Unavailable(_))), "{read:?}");
    let seq = cluster.nodes[leader].open_seq(soon()).await.expect("a number");
    let lost = put(seq.id(), "lost?", 0, b"1");
    let proposed = cluster.nodes[leader].propose(lost.clone(), within(limit)).await;
    assert!(proposed.is_err(), "{proposed:?}");
    assert!(began.elapsed() < 2 * limit + Duration::from_secs(1), "{:?}", began.elapsed());

    // The others elect one of them; a proposal that was on its way to the old leader finds the new one.
    cluster.write(rest[0], "after", b"2").await;
    assert_eq!(cluster.read(rest[1], "after").await.expect("there").1[..], *b"2");
    assert_ne!(cluster.leader(&rest).await, leader);

    // A call to the silent one ends at its deadline.
    let call = cluster.nodes[rest[0]].call_peer(cluster.sites[leader].id, 7, Bytes::new(), limit).await;
    assert!(matches!(call, Err(CallError::Deadline(_) | CallError::Unreachable(_))), "{call:?}");

    // It hears again, follows, and tells what became of its own proposal: applied once or never.
    isolate(&cluster, leader, false);
    assert_eq!(cluster.read(leader, "after").await.expect("there").1[..], *b"2");
    let again = cluster.nodes[leader].propose(lost, soon()).await.expect("an outcome");
    assert!(matches!(again, Outcome::Applied(_)), "{again:?}");
    assert_eq!(cluster.read(rest[0], "lost?").await.expect("there").1[..], *b"1");
    for node in &cluster.nodes {
        node.verify_state().await.expect("the digest holds");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_follower_slows_nobody() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let silent = (leader + 1) % 3;
    let other = (leader + 2) % 3;
    isolate(&cluster, silent, true);
    let began = Instant::now();
    for n in 0..50 {
        cluster.write([leader, other][n % 2], &format!("k{n}"), &[n as u8]).await;
    }
    assert!(began.elapsed() < Duration::from_secs(10), "50 writes took {:?}", began.elapsed());
    assert_eq!(cluster.nodes[leader].status().role, Role::Leader);
    isolate(&cluster, silent, false);
    assert_eq!(cluster.read(silent, "k49").await.expect("there").1[..], [49]);
    cluster.stop().await;
}

/// Waits until the rounds of a node's reads are confirmed without heartbeats: its connections for rounds are made.
async fn until_rounds_are_cheap(cluster: &Cluster, node: usize) {
    let by_heartbeat = || cluster.nodes.iter().map(|n| n.read_rounds().by_heartbeat).sum::<u64>();
    let cheap = async {
        loop {
            let (before, begun) = (by_heartbeat(), cluster.nodes[node].read_rounds().begun);
            cluster.nodes[node].read_index(soon()).await.expect("a read index");
            assert!(cluster.nodes[node].read_rounds().begun > begun, "a read took no round of its own");
            if by_heartbeat() == before {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, cheap).await.expect("rounds on connections of their own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_read_sees_every_acknowledged_write_while_leadership_wanders() {
    let cluster = Cluster::voters(3).await;
    for node in 0..3 {
        until_rounds_are_cheap(&cluster, node).await;
    }
    for turn in 0..30u8 {
        let (writer, reader) = (usize::from(turn) % 3, usize::from(turn / 3) % 3);
        let to = cluster.sites[usize::from(turn) * 2 % 3].id;
        // The leadership moves while the write and the reads after it are under way.
        let moved = cluster.nodes[reader].transfer_leader(Some(to), soon());
        let used = async {
            cluster.write(writer, "n", &[turn]).await;
            let reads = (0..3).map(|node| cluster.read(node, "n"));
            for (node, read) in futures::future::join_all(reads).await.into_iter().enumerate() {
                assert_eq!(read.expect("there").1[..], [turn], "node {node} answered from a state before the write");
            }
        };
        // Refused when the leadership has moved on by itself meanwhile.
        let (_, ()) = tokio::join!(moved, used);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_reads_with_whoever_still_answers() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    for silent in (0..3).filter(|i| *i != leader) {
        until_rounds_are_cheap(&cluster, leader).await;
        isolate(&cluster, silent, true);
        for _ in 0..5 {
            cluster.nodes[leader].read_index(soon()).await.expect("the other two are a majority");
        }
        isolate(&cluster, silent, false);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_read_or_accepted() {
    let cluster = Cluster::voters(3).await;
    isolate(&cluster, 0, true);
    isolate(&cluster, 1, true);
    let limit = Duration::from_millis(600);
    for node in &cluster.nodes {
        let read = node.read_index(within(limit)).await;
        assert!(matches!(read, Err(ReadError::Unavailable(_) | ReadError::NoMajority(_))), "{read:?}");
        let seq = node.open_seq(soon()).await.expect("a number");
        assert!(node.propose(put(seq.id(), "x", 0, b"1"), within(limit)).await.is_err());
    }
    // Once that has lasted for longer than elections take, it is told, and nobody waits for a deadline.
    until("the loss is told", || cluster.nodes.iter().all(|n| !n.quorum().is_present())).await;
    let began = Instant::now();
    let read = cluster.nodes[0].read_index(soon()).await;
    let lost = |q: &Quorum| matches!(q, Quorum::Missing { reachable: 1, voters: 3, missing } if missing.len() == 2);
    assert!(matches!(&read, Err(ReadError::NoMajority(quorum)) if lost(quorum)), "{read:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    isolate(&cluster, 0, false);
    isolate(&cluster, 1, false);
    until("it is back", || cluster.nodes.iter().all(|n| n.quorum().is_present())).await;
    cluster.write(2, "healed", b"1").await;
    assert_eq!(cluster.read(0, "healed").await.expect("there").1[..], *b"1");
    cluster.stop().await;
}

/// A replica of its own folder that claims what it is told to claim.
async fn impostor(cluster: &Cluster, id: u64, name: &str, spki: &[u8], of: ClusterId) -> (tempfile::TempDir, Replica) {
    let dir = tempfile::tempdir().expect("a folder");
    let site = &cluster.sites[0];
    let world = World { net: Arc::new(TestNet::new(cluster.board.clone(), name, of, spki)), ..site.world() };
    let mut cfg = ReplicaConfig::new(NodeId(id), name.into(), of, dir.path().join("data"), "127.0.0.1:0".into());
    cfg.introduction = Some(support::introduction(&cluster.nodes[0]).await);
    (dir, Replica::create(cfg, world, site.service.clone()).await.expect("created"))
}

async fn refusal(impostor: &Replica) -> String {
    match impostor.call_peer(NodeId(1), 7, Bytes::new(), PATIENCE).await {
        Err(CallError::Unreachable(why) | CallError::Refused(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_refused_before_they_are_heard() {
    let cluster = Cluster::voters(3).await;
    let before = cluster.nodes[0].status();
    let mine = cluster.sites[1].spki.clone();
    let mut foreign = CLUSTER;
    foreign.0[15] ^= 1;
    // Another cluster, even with a pinned name and key.
    let (_dir, other) = impostor(&cluster, 2, "n2", &mine, foreign).await;
    assert!(refusal(&other).await.contains("another cluster"));
    other.shutdown().await;
    // A good certificate of this cluster, for an id that is pinned to someone else; or to another key; or to no one.
    for (id, name, spki) in
        [(2, "n9", vec![9; 91]), (2, "n2", vec![9; 91]), (2, "n3", mine.clone()), (77, "n9", vec![9; 91])]
    {
        let (_dir, other) = impostor(&cluster, id, name, &spki, CLUSTER).await;
        let why = refusal(&other).await;
        assert!(why.contains("not the one pinned"), "{id} {name}: {why}");
        other.shutdown().await;
    }
    // All of them said Hello in the meantime, and were not heard.
    let after = cluster.nodes[0].status();
    assert_eq!(after.membership, before.membership);
    assert!(after.peers.iter().all(|p| p.id != NodeId(77)), "{:?}", after.peers);
    cluster.write(1, "still", b"1").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_no_member_may_join_and_do_nothing_else() {
    let cluster = Cluster::founded(1).await;
    let addr = cluster.nodes[0].peer_addr();
    let expect = |cluster| PeerExpectation { name: "n1".into(), cluster, identity_spki: None };
    let net = |of| Arc::new(TestNet::new(cluster.board.clone(), "new", of, &[8; 91]));
    let body = Bytes::from_static(b"a token");
    let joined = Replica::join_call(net(CLUSTER), &addr, expect(CLUSTER), GroupId(0), body.clone(), PATIENCE).await;
    assert_eq!(joined.expect("answered"), "new may join with a token");
    let mut foreign = CLUSTER;
    foreign.0[0] ^= 1;
    // By what it says, and by what its certificate says.
    for (of, says) in [(foreign, CLUSTER), (CLUSTER, foreign), (foreign, foreign)] {
        let refused = Replica::join_call(net(of), &addr, expect(says), GroupId(0), body.clone(), PATIENCE).await;
        let Err(CallError::Unreachable(why) | CallError::Refused(why)) = refused else { panic!("{refused:?}") };
        assert!(why.contains("another cluster"), "{why}");
    }
    // The inviter is pinned: whoever else answers there is not asked.
    let mut pinned = expect(CLUSTER);
    pinned.identity_spki = Some(vec![99; 91]);
    assert!(Replica::join_call(net(CLUSTER), &addr, pinned, GroupId(0), body, PATIENCE).await.is_err());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_is_never_answered_ends_at_its_deadline() {
    let cluster = Cluster::voters(3).await;
    let limit = Duration::from_millis(300);
    let call = cluster.nodes[0].call_peer(NodeId(2), 1, Bytes::new(), limit).await;
    assert_eq!(call, Err(CallError::Deadline(limit)));
    let unknown = cluster.nodes[0].call_peer(NodeId(99), 1, Bytes::new(), limit).await;
    assert_eq!(unknown, Err(CallError::NoMember(NodeId(99))));
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_forged_by_a_follower_is_refused_before_it_is_proposed() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let forger = (leader + 1) % 3;
    write(&cluster.nodes[forger], "w", b"1").await.expect("its session has begun");
    cluster.nodes[forger].set_keys(Some(Arc::new(support::Forger)));
    let before = cluster.nodes[leader].status().last_log;
    let seq = cluster.nodes[forger].open_seq(soon()).await.expect("a number");
    let refused = cluster.nodes[forger].propose(forged(seq.id(), "x"), soon()).await;
    // It was refused, but who forges can't know what a leader does with what it was given.
    let Err(ProposeError::Unknown(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("forged"), "{why}");
    assert_eq!(cluster.nodes[leader].status().last_log, before, "nothing was appended");
    // Nor by an honest desk; nor in another node's name.
    let own = cluster.nodes[leader].open_seq(soon()).await.expect("a number");
    assert!(cluster.nodes[leader].propose(forged(own.id(), "x"), soon()).await.is_err());
    assert!(cluster.nodes[forger].propose(put(own.id(), "x", 0, b"1"), soon()).await.is_err());
    for node in &cluster.nodes {
        assert_eq!(node.status().problem, None);
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_forged_by_the_leader_stops_every_unsealed_node_from_serving() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let unsealed = (leader + 1) % 3;
    let sealed = (leader + 2) % 3;
    write(&cluster.nodes[leader], "w", b"1").await.expect("its session has begun");
    cluster.nodes[leader].set_keys(Some(Arc::new(support::Forger)));
    cluster.nodes[sealed].set_keys(None);
    let seq = cluster.nodes[leader].open_seq(soon()).await.expect("a number");
    let outcome = cluster.nodes[leader].propose(forged(seq.id(), "x"), soon()).await.expect("an outcome");
    let Outcome::Applied(index) = outcome else { panic!("{outcome:?}") };

    let mut applied = cluster.nodes[unsealed].applied();
    applied.wait_for(|now| *now >= index).await.expect("running");
    let problem = Problem::BadMac { index };
    assert_eq!(cluster.nodes[unsealed].status().problem.as_ref(), Some(&problem));
    assert_eq!(*cluster.sites[unsealed].service.problems.lock().expect("lock"), std::slice::from_ref(&problem));
    assert!(problem.to_string().contains(&index.to_string()), "the index is named: {problem}");
    assert_eq!(cluster.nodes[unsealed].read_index(soon()).await, Err(ReadError::Stopped(problem)));
    let seq = cluster.nodes[unsealed].open_seq(soon()).await.expect("a number");
    let refused = cluster.nodes[unsealed].propose(put(seq.id(), "y", 0, b"1"), soon()).await;
    assert!(matches!(refused, Err(ProposeError::NotAccepted(_))), "{refused:?}");

    // It votes and follows on, and its state does not diverge.
    let next = write(&cluster.nodes[leader], "z", b"1").await.expect("written");
    applied.wait_for(|now| *now >= next).await.expect("running");
    cluster.nodes[unsealed].set_keys(None);
    cluster.nodes[unsealed].verify_state().await.expect("the digest holds");

    // Nor does a restart make it forget, nor did the sealed node's applying it unchecked make it good.
    cluster.nodes[unsealed].shutdown().await;
    let again = cluster.sites[unsealed].open().await;
    cluster.nodes[sealed].set_keys(Some(Arc::new(support::TestKeys)));
    for node in [&again, &cluster.nodes[sealed]] {
        let refused = node.verify_state().await;
        assert_eq!(refused, Err(StateMismatch::Forged(Problem::BadMac { index })), "before it may serve");
    }
    again.shutdown().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_wrong_clock_moves_no_time_and_does_not_lead() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let started = cluster.nodes[leader].status().cluster_time_ms;
    // A year ahead, on the leader itself.
    cluster.sites[leader].wall.0.store(31_536_000_000, Ordering::Relaxed);
    let rest: Vec<usize> = (0..3).filter(|i| *i != leader).collect();
    let handed_on = async {
        let mut watch = cluster.nodes[rest[0]].leader();
        watch.wait_for(|l| l.is_some() && *l != Some(cluster.sites[leader].id)).await.expect("running");
    };
    tokio::time::timeout(PATIENCE, handed_on).await.expect("leadership is handed on");
    let back = cluster.nodes[rest[0]].transfer_leader(Some(cluster.sites[leader].id), soon()).await;
    assert!(matches!(&back, Err(MembershipError::Refused(why)) if why.contains("clock")), "{back:?}");
    // Time moves on, by the others' clocks.
    let moved = async {
        let mut applied = cluster.nodes[rest[0]].applied();
        loop {
            let now = cluster.nodes[rest[0]].view().expect("a view").cluster_time_ms();
            if now > started {
                return now;
            }
            applied.changed().await.expect("running");
        }
    };
    let now = tokio::time::timeout(PATIENCE, moved).await.expect("time moves");
    assert!(now <= cluster.sites[rest[0]].wall.now_ms() + 2_000, "no jump");
    cluster.stop().await;
}

/// Waits for the next move of cluster time as one node has it; returns it.
async fn next_tick(node: &Replica) -> u64 {
    let before = node.status().cluster_time_ms;
    let moved = async {
        let mut applied = node.applied();
        loop {
            let now = node.status().cluster_time_ms;
            if now != before {
                return now;
            }
            applied.changed().await.expect("running");
        }
    };
    tokio::time::timeout(PATIENCE, moved).await.expect("time moves")
}

/// The leader's clock leaps whenever time is about to move on, while what it knows of the others' clocks is from before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leap_of_the_leaders_clock_moves_no_time_in_either_direction() {
    let cluster = Cluster::voters(3).await;
    let right = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    for leap in [691_196_000, -691_196_000, 691_196_000] {
        let leader = cluster.leader(&[0, 1, 2]).await;
        let (node, wall) = (&cluster.nodes[leader], &cluster.sites[leader].wall.0);
        let follower = &cluster.nodes[(leader + 1) % 3];
        let before = next_tick(follower).await;
        let leaps = async {
            // Clocks are looked at each second from then on, and every fifth or sixth time time moves on.
            loop {
                tokio::time::sleep(Duration::from_millis(850)).await;
                wall.store(leap, Ordering::Relaxed);
                let duty = node.duty_time(Duration::ZERO);
                assert!(duty.is_err(), "destroys by a clock that leapt: {duty:?}");
                tokio::time::sleep(Duration::from_millis(150)).await;
                wall.store(0, Ordering::Relaxed);
            }
        };
        let after = tokio::select! {
            after = next_tick(follower) => after,
            () = leaps => unreachable!(),
        };
        wall.store(0, Ordering::Relaxed);
        assert!(before < after && after <= right(), "{leap}: from {before} to {after}, now {}", right());
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jump_that_nobody_witnesses_waits_for_the_operator() {
    let cluster = Cluster::founded(1).await;
    let node = &cluster.nodes[0];
    let site = &cluster.sites[0];
    site.wall.0.store(3_600_000, Ordering::Relaxed);
    let held = async {
        let mut changes = node.watch();
        while node.status().time_held_ms.is_none() {
            changes.changed().await.expect("running");
        }
    };
    tokio::time::timeout(PATIENCE, held).await.expect("held");
    assert!(node.status().cluster_time_ms + 3_000_000 < site.wall.now_ms(), "time stands still");
    let seq = node.open_seq(soon()).await.expect("a number");
    let confirmed = node.propose(confirm(seq.id(), site.wall.now_ms()), soon()).await;
    assert!(matches!(confirmed, Ok(Outcome::Applied(_))), "{confirmed:?}");
    let moved = async {
        let mut applied = node.applied();
        while node.view().expect("a view").cluster_time_ms() + 60_000 < site.wall.now_ms() {
            applied.changed().await.expect("running");
        }
    };
    tokio::time::timeout(PATIENCE, moved).await.expect("moved");
    let released = async {
        let mut changes = node.watch();
        while node.status().time_held_ms.is_some() {
            changes.changed().await.expect("running");
        }
    };
    tokio::time::timeout(PATIENCE, released).await.expect("nothing waits any more");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_follows_a_leader_that_became_a_member_meanwhile() {
    let mut cluster = Cluster::founded(4).await;
    let learners = vec![cluster.add().await, cluster.add().await];
    support::promote(&cluster.nodes[0], learners, false).await.expect("promoted");
    cluster.leader(&[0, 1, 2]).await;
    isolate(&cluster, 2, true);
    let newcomer = cluster.add().await;
    support::promote(&cluster.nodes[0], vec![newcomer], false).await.expect("promoted");
    // A wrong clock makes a leader hand on to the voter with the longest log, and of equals to the newest.
    let id = cluster.sites[3].id;
    let newcomer_leads = async {
        loop {
            let leader = cluster.leader(&[0, 1, 3]).await;
            if leader == 3 {
                return;
            }
            cluster.sites[leader].wall.0.store(31_536_000_000, Ordering::Relaxed);
            let mut watch = cluster.nodes[3].leader();
            let old = cluster.sites[leader].id;
            watch.wait_for(|l| l.is_some() && *l != Some(old)).await.expect("running");
            cluster.sites[leader].wall.0.store(0, Ordering::Relaxed);
        }
    };
    tokio::time::timeout(PATIENCE, newcomer_leads).await.expect("the newcomer leads");
    assert!(!cluster.nodes[2].view().expect("a view").membership().members.contains_key(&id));
    isolate(&cluster, 2, false);
    cluster.write(3, "news", b"1").await;
    assert_eq!(cluster.read(2, "news").await.expect("there").1[..], *b"1");
    cluster.stop().await;
}
