//! Whoever was elected is followed: by who lags, by who becomes a voter, by who starts again.

use std::time::Duration;

use quorate_core::id::NodeId;
use tokio::time::Instant;

use super::hostile::Hostile;
use crate::testing::{self, Cluster, PATIENCE, soon};

fn isolate(cluster: &Cluster, node: usize, silent: bool) {
    for other in (0..cluster.sites.len()).filter(|i| *i != node) {
        cluster.board.set_silent(&cluster.sites[node].name, &cluster.sites[other].name, silent);
    }
}

/// Of the voters that it knew, the leader has the grant of one: it takes another member's word for who votes now.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_follows_a_leader_whom_the_voters_it_knew_did_not_elect() {
    let mut cluster = Cluster::sites(5).start(3).await;
    isolate(&cluster, 2, true);
    let newcomers = vec![cluster.add().await, cluster.add().await];
    // Adding goes by the first node: it or whoever leads does it.
    testing::promote(&cluster.nodes[0], newcomers, false).await.expect("promoted");
    cluster.nodes[1].shutdown().await;
    let heir = cluster.sites[3].id;
    let moved = async {
        while cluster.nodes[0].leader().borrow_and_update().is_none_or(|leader| leader != heir) {
            let _ = cluster.nodes[0].transfer_leader(Some(heir), soon()).await;
        }
    };
    tokio::time::timeout(PATIENCE, moved).await.expect("the newcomer leads");
    let node = cluster.nodes[3].node();
    let leadership = node.base.promise.now().expect("it leads");
    let known: Vec<NodeId> = cluster.nodes[2].status().voters().collect();
    assert_eq!(known, [NodeId(1), NodeId(2), NodeId(3)]);
    let granted = node.base.grants.collected(leadership).len();
    assert!((3..=4).contains(&granted), "node 2 and node 3 have not voted");

    isolate(&cluster, 2, false);
    cluster.write(3, "news", b"1").await;
    assert_eq!(cluster.read(2, "news").await.expect("there").1[..], *b"1");
    assert_eq!(cluster.nodes[2].status().voters().count(), 5);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn once_voters_are_promoted_they_need_their_founder_no_more() {
    let mut cluster = Cluster::voters(3).await;
    for node in &cluster.nodes {
        let membership = node.status().membership;
        assert!(membership.voters.len() == 1 && membership.voter_ids().len() == 3, "applied by all: {membership:?}");
    }
    // Gone at once, without a good-bye, for good.
    drop(cluster.nodes.remove(0));
    let heir = &cluster.nodes[0];
    crate::testing::write(heir, "after", b"1").await.expect("two of three go on");
    cluster.stop().await;
}

/// A follower that starts again has seen the grants in an earlier life, and is shown none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_starts_again_follows_whom_it_followed() {
    let mut cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let follower = (leader + 1) % 3;
    cluster.write(leader, "before", b"1").await;
    cluster.nodes[follower].shutdown().await;
    cluster.nodes[follower] = cluster.sites[follower].open().await;
    let grants = &cluster.nodes[follower].node().base.grants;
    assert!(grants.lock().believed.is_some(), "the journal says whom");
    cluster.write(follower, "after", b"1").await;
    cluster.stop().await;
}

/// In a later term another would unseat the one that is about to be elected, before its first entries have arrived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_just_voted_lets_nobody_else_try_for_a_while() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (place, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let (voter, to) = (cluster.nodes[place].node(), &cluster.sites[place]);
    voter.base.raft.runtime_config().elect(false);
    let [first, second] = [leader, other].map(|gone| Hostile::new(&cluster, gone));
    for gone in [leader, other] {
        cluster.nodes[gone].shutdown().await;
    }
    let mut term = voter.base.promise.now().expect("it follows").term + 1;
    first.elected_by(to, term).await;
    let a_while = Duration::from_millis(voter.base.raft.config().election_timeout_min);
    // On a busy machine a while may be over before the question arrives.
    let refused = async {
        loop {
            term += 1;
            let began = Instant::now();
            assert!(first.ask(to, first.ballot(term, false)).await.expect("an answer").granted, "the lease is over");
            let granted = second.ask(to, second.ballot(term + 1, true)).await.expect("an answer").granted;
            if began.elapsed() < a_while {
                return granted;
            }
        }
    };
    assert!(!tokio::time::timeout(PATIENCE, refused).await.expect("in time"), "the first may be elected");
    let granted = async {
        while !second.ask(to, second.ballot(term + 1, true)).await.expect("an answer").granted {
            tokio::time::sleep(a_while / 4).await;
        }
    };
    tokio::time::timeout(PATIENCE, granted).await.expect("a while is not for ever");
    cluster.stop().await;
}
