//! A member that shows less than it has said: what it promises and acknowledges does not count.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use quorate_core::session::Session;
use tokio::time::Instant;

use super::hostile::{Answers, vote_id};
use super::hostile_tests::until;
use crate::peer::pb;
use crate::raft::{LogId, Vote};
use crate::testing::{Cluster, put, soon};
use crate::word::Word;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_less_than_it_said_is_sent_nothing_and_acknowledges_nothing() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (liar, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let (node, site) = (&cluster.nodes[leader], &cluster.sites[liar]);
    cluster.write(leader, "before", b"1").await;
    cluster.nodes[liar].shutdown().await;

    // It follows, and has acknowledged what there is; it has everything that it is sent, it says.
    let under = node.node().base.promise.now().expect("it leads");
    let (vote, acked) = (Vote { leader_id: under, committed: true }, LogId::new(under, 1000));
    let session = Session { origin: site.id, boot: 9, process: [9; 16] };
    let word = cluster.nodes[liar].node().base.own.say(Word { session, vote: Some(vote), acked: Some(acked) });
    let (less, appends) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (shows, told, counted) = (less.clone(), word.clone(), appends.clone());
    let answers = Answers {
        hello: Box::new(move |_| {
            let index = if shows.load(SeqCst) { 999 } else { 1000 };
            Ok(pb::HelloMessage {
                boot: 9,
                vote: vote_id(under.term, quorate_core::id::NodeId(under.node_id), true),
                last_log_id: Some(pb::LogId { term: under.term, node: under.node_id, index }),
                standing: 2,
                word: told.clone(),
                ..Default::default()
            })
        }),
        append: Box::new(move |_| {
            counted.fetch_add(1, SeqCst);
            let result = Some(pb::append_response::Result::Success(pb::Nothing {}));
            Ok(pb::AppendResponse { result, ..Default::default() })
        }),
        ..Default::default()
    };
    answers.serve(site).await;
    let doubt = || node.node().base.grants.doubt(site.id);
    until("it has said how far it is", || node.node().base.words.newest(site.id) == word).await;
    until("it is sent the log", || appends.load(SeqCst) > 0).await;
    assert_eq!(doubt(), None);

    // The other one goes silent: with it alone there is no majority.
    less.store(true, SeqCst);
    until("it is seen", || doubt().is_some_and(|doubt| doubt.contains("shows less"))).await;
    cluster.board.set_silent(&cluster.sites[leader].name, &cluster.sites[other].name, true);
    let before = appends.load(SeqCst);
    let seq = node.open_seq(soon()).await.expect("a number");
    let batch = put(seq.id(), "with it alone", 0, b"1");
    let answered = node.propose(batch, Instant::now() + Duration::from_millis(500)).await;
    assert!(answered.is_err(), "{answered:?}");
    assert!(node.read_index(Instant::now() + Duration::from_millis(500)).await.is_err());
    // One may have been under way.
    assert!(appends.load(SeqCst) <= before + 1, "it is sent nothing");

    // It has it again, so it counts again.
    cluster.board.set_silent(&cluster.sites[leader].name, &cluster.sites[other].name, false);
    less.store(false, SeqCst);
    until("it is seen", || doubt().is_none()).await;
    cluster.write(other, "after", b"1").await;
    cluster.stop().await;
}
