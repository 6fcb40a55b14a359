//! A hostile member at every door that leads to leadership. It has a member's identity and a member's grant, its own.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use bytes::Bytes;
use openraft::vote::RaftLeaderId;
use quorate_core::id::NodeId;
use tonic::Status;

use super::doubt::Doubt;
use super::hostile::{Answers, Hostile, vote_id};
use crate::peer::{RpcFailure, pb};
use crate::raft::codec::{encode_log_id, to_wire};
use crate::raft::{LeaderId, LogId, RaftEntry, Vote, effective, effective_now};
use crate::replica::Replica;
use crate::roster::Roster;
use crate::snapshot::wire::{Framer, header};
use crate::state::{Identity, LtHash, Meta, Records, View};
use crate::testing::{Cluster, PATIENCE, Site, change_roster, introduction, soon};

/// How far the claims of these tests are above the term in force: not out of reach.
const AHEAD: u64 = 20;

pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = async {
        while !holds() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

fn refused<T: std::fmt::Debug>(answer: Result<T, RpcFailure>, why: &str) {
    assert!(matches!(&answer, Err(RpcFailure::Refused(text)) if text.contains(why)), "{why}: {answer:?}");
}

fn leadership(node: &Replica) -> LeaderId {
    node.node().base.promise.now().expect("it follows or leads")
}

fn beat(term: u64, id: NodeId, grants: &[Bytes]) -> pb::AppendRequest {
    pb::AppendRequest { vote: vote_id(term, id, true), grants: grants.to_vec(), ..Default::default() }
}

/// A state as `view` has it, or without its records, said to be newer than everything.
fn state(view: &dyn View, records: bool, term: u64, id: NodeId, grants: &[Bytes]) -> Vec<pb::SnapshotPart> {
    let mut meta = Meta::read(view).expect("readable");
    let index = meta.applied.as_ref().map_or(0, |(index, _)| *index) + 1000;
    meta.applied = Some((index, encode_log_id(&LogId::new(LeaderId::new(term, id.0), index))));
    let digest = if records { Meta::read_digest(view).expect("readable") } else { LtHash::default() };
    let identity = Identity::from_parts(&meta, &digest);
    let vote = Vote { leader_id: LeaderId::new(term, id.0), committed: true };
    let mut parts = vec![header(&vote, grants.to_vec(), Bytes::new(), &identity, &[])];
    let mut framer = Framer::new(&identity);
    let page = Records::new(view).next_page(10_000).expect("readable").filter(|_| records).unwrap_or_default();
    parts.extend(page.iter().filter_map(|(key, value)| framer.push(key, value)));
    let (last, trailer) = framer.finish();
    parts.extend(last.into_iter().chain([trailer]));
    parts.into_iter().map(|part| pb::SnapshotPart { part: Some(part) }).collect()
}

/// What a member can show for a leadership that nobody gave it.
fn shown(hostile: &Hostile, term: u64, real: &[Bytes]) -> Vec<Vec<Bytes>> {
    let own = hostile.grant(term);
    let garbled: Vec<Bytes> = real.iter().map(|grant| grant.slice(..grant.len() - 1)).collect();
    vec![
        vec![],
        vec![own.clone()],
        vec![own.clone(); 5],
        // Real ones, of another leadership; and real certificates under a grant of its own making.
        [std::slice::from_ref(&own), real].concat(),
        [std::slice::from_ref(&own), &garbled[..]].concat(),
        real.iter().map(|grant| [&grant[..grant.len() - 64], &own[own.len() - 64..]].concat().into()).collect(),
    ]
}

/// Tries everything that makes `to` follow it, or take a state from it.
async fn claim(hostile: &Hostile, to: &Site, term: u64, real: &[Bytes], view: &dyn View) {
    for grants in shown(hostile, term, real) {
        refused(hostile.append(to, beat(term, hostile.id, &grants)).await, "no grants of a majority");
        for records in [true, false] {
            let parts = state(view, records, term, hostile.id, &grants);
            refused(hostile.install(to, parts).await, "no grants of a majority");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_leads_by_saying_so() {
    for size in [3, 5] {
        let cluster = Cluster::voters(size).await;
        let all: Vec<usize> = (0..size as usize).collect();
        cluster.write(0, "kept", b"old").await;
        let leader = cluster.leader(&all).await;
        let liar = (leader + 1) % all.len();
        let hostile = Hostile::new(&cluster, liar);
        let old = cluster.nodes[liar].node().base.files.view().expect("a view");
        cluster.write(0, "kept", b"new").await;
        let now = leadership(&cluster.nodes[leader]);
        let real = cluster.nodes[leader].node().base.grants.collected(now);
        assert!(real.len() > all.len() / 2);
        for place in all.iter().filter(|place| **place != liar) {
            claim(&hostile, &cluster.sites[*place], now.term + AHEAD, &real, &*old).await;
            let status = cluster.nodes[*place].status();
            let told = status.peers.iter().find(|peer| peer.id == hostile.id).and_then(|peer| peer.doubt.clone());
            assert!(told.is_some_and(|doubt| doubt.contains("claims to lead")), "it shows in the status");
            assert_ne!(status.leader, Some(hostile.id));
            assert!(status.term < now.term + AHEAD, "nothing of it has reached Raft");
        }
        assert_eq!(cluster.read(leader, "kept").await.expect("there").1[..], *b"new");
        cluster.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_other_door_leads_there() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (liar, honest) = ((leader + 1) % 3, (leader + 2) % 3);
    let hostile = Hostile::new(&cluster, liar);
    let (to, node) = (&cluster.sites[honest], cluster.nodes[honest].node());
    let now = leadership(&cluster.nodes[honest]);
    let term = now.term + AHEAD;

    // A ballot that says to be won already, and a leader that says not to be elected.
    for pre_vote in [false, true] {
        let won = pb::VoteRequest { vote: vote_id(term, hostile.id, true), pre_vote, ..Default::default() };
        refused(hostile.ask(to, won).await, "elected already");
        let far = vote_id(now.term + (1 << 20) + 100, hostile.id, false);
        let far = pb::VoteRequest { vote: far, pre_vote, ..Default::default() };
        refused(hostile.ask(to, far).await, "out of reach");
    }
    let candidate = pb::AppendRequest { vote: vote_id(term, hostile.id, false), ..Default::default() };
    refused(hostile.append(to, candidate).await, "no elected leader");

    // It hands on what it does not have, with and without a claim.
    let transfer = |vote| pb::TransferLeaderRequest { from_leader: vote, to: hostile.id.0, last_log_id: None };
    let mut control = hostile.link(to).control();
    for (vote, why) in [
        (vote_id(term, hostile.id, true), "only the leader that this node follows"),
        (vote_id(now.term, hostile.id, true), "only the leader that this node follows"),
        (vote_id(now.term, hostile.id, false), "no elected leader"),
        (vote_id(now.term, NodeId(now.node_id), true), "only the leader hands on"),
    ] {
        refused(crate::peer::bounded(PATIENCE, control.transfer_leader(transfer(vote))).await, why);
    }

    // It says that the leader wants it to take over: that is not so, so the leader's lease protects it as ever.
    let ballot = |id: NodeId| openraft::raft::VoteRequest {
        vote: Vote { leader_id: LeaderId::new(term, id.0), committed: false },
        last_log_id: None,
        leadership_transfer: true,
    };
    let overrules = |id| node.doorkeeper.admit_ballot(ballot(id)).expect("a ballot").leadership_transfer;
    assert!(!overrules(hostile.id));
    // Until it is.
    node.base.grants.note_successor(cluster.sites[leader].id);
    assert!(!overrules(hostile.id), "somebody else was named");
    node.base.grants.note_successor(hostile.id);
    assert!(overrules(hostile.id));
    assert_eq!(node.base.shared.problem(), None);
    cluster.write(honest, "after", b"1").await;
    cluster.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_successor_is_one_for_two_seconds() {
    let grants = super::tests::book(1);
    grants.note_successor(NodeId(2));
    assert!(grants.is_successor(NodeId(2)) && !grants.is_successor(NodeId(3)));
    tokio::time::advance(super::HAND_ON_LIMIT).await;
    assert!(!grants.is_successor(NodeId(2)));
}

/// Who is behind learns of members from others, and from nobody about its own electorate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_can_t_tell_who_elects_it() {
    let cluster = Cluster::voters(3).await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (liar, honest) = ((leader + 1) % 3, (leader + 2) % 3);
    let hostile = Hostile::new(&cluster, liar);
    let to = &cluster.sites[honest];
    let now = cluster.nodes[liar].view().expect("a view").roster().expect("readable").expect("one").1;
    // It votes alone, and has another id besides, under which it would come in when it is removed.
    let member = cluster.sites[liar].member();
    let (voters, stranger) = ([hostile.id].into(), NodeId(999));
    let members = [(hostile.id, member.clone()), (stranger, member)].into();
    let alone = Roster { serial: 1 << 62, voters, members, ..now.roster().clone() };
    for (told, signed) in [(alone.clone(), [1; 64]), (alone, now.encode().last_chunk().copied().expect("64 bytes"))] {
        let hello = pb::HelloMessage { roster: told.signed(|_| signed).into(), ..Default::default() };
        crate::peer::bounded(PATIENCE, hostile.link(to).control().hello(hello)).await.expect("answered");
    }
    let node = cluster.nodes[honest].node();
    assert_eq!(node.base.grants.doubts.of(hostile.id), Some(Doubt::FalseRoster));
    assert!(!node.base.shared.members.has(stranger) && node.base.shared.members.serial() == now.roster().serial);
    let term = leadership(&cluster.nodes[honest]).term + AHEAD;
    let own = [hostile.grant(term)];
    refused(hostile.append(to, beat(term, hostile.id, &own)).await, "no grants of a majority");
    cluster.write(honest, "after", b"1").await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joins_and_one_in_a_joint_change_follow_whom_the_voters_elected() {
    let mut cluster = Cluster::founded(4).await;
    let founder = cluster.nodes[0].clone();
    // Introduced, with an empty log, and not added yet: it knows no more than the invitation said.
    let joiner = cluster.sites[3].create(Some(introduction(&founder).await)).await;
    let learners = vec![cluster.add().await, cluster.add().await];
    joiner.node().rosters.hear(NodeId(1), introduction(&founder).await.roster.encode().clone());
    assert_eq!(joiner.node().base.shared.members.all().len(), 3);
    let hostile = Hostile::new(&cluster, 2);
    let view = founder.node().base.files.view().expect("a view");
    let now = leadership(&cluster.nodes[1]);
    let real = founder.node().base.grants.collected(now);
    for to in [&cluster.sites[3], &cluster.sites[1]] {
        claim(&hostile, to, now.term + AHEAD, &real, &*view).await;
    }

    // Between two sets of voters: the founder can't reach the newcomers, so the first entry stays uncommitted.
    founder.may_promote(learners.clone(), soon()).await.expect("they have the log");
    for name in ["n2", "n3"] {
        cluster.board.set_silent("n1", name, true);
    }
    let promoting = tokio::spawn(async move { change_roster(&founder, |now| now.promoting(&learners, false)).await });
    let founder = cluster.nodes[0].clone();
    until("the change has begun", || effective(&founder.node().base.raft).voters.len() == 2).await;
    claim(&hostile, &cluster.sites[1], now.term + AHEAD, &real, &*view).await;
    for name in ["n2", "n3"] {
        cluster.board.set_silent("n1", name, false);
    }
    // Its outcome may be unknown by now; then the next leader has ended it.
    let _ = promoting.await.expect("no panic");
    let settled = |n: &Replica| n.status().membership.voters.len() == 1 && n.status().voters().count() == 3;
    until("three voters", || cluster.nodes.iter().all(settled)).await;
    // Whoever became a voter under this leader has granted it too: who joins next must see today's voters.
    let leader = cluster.nodes[cluster.leader(&[0, 1, 2]).await].clone();
    until("all voters have granted", || leader.node().base.grants.collected(leadership(&leader)).len() >= 3).await;
    joiner.shutdown().await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_told_in_answers_moves_terms_and_makes_nobody_a_leader() {
    for (told, moves) in [((AHEAD, 2), true), ((AHEAD, 0), false), ((1 << 21, 2), false)] {
        let cluster = Cluster::voters(3).await;
        let leader = cluster.leader(&[0, 1, 2]).await;
        let (liar, other) = ((leader + 1) % 3, (leader + 2) % 3);
        cluster.nodes[liar].shutdown().await;
        cluster.write(leader, "before", b"1").await;
        let before = cluster.nodes[leader].status().term;
        // As the liar's own leadership, and as one of the node that asks.
        let (ahead, whose) = told;
        let named = cluster.sites[if whose == 2 { liar } else { leader }].id;
        let vote = vote_id(before + ahead, named, true).expect("one");
        // So many answers; then it says nothing.
        let left = Arc::new(AtomicU64::new(5));
        let next = |left: &Arc<AtomicU64>| {
            let left = left.clone();
            move || match left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
                Ok(_) => Ok(()),
                Err(_) => Err(Status::unavailable("silent")),
            }
        };
        let (voted, appended) = (next(&left), next(&left));
        let higher = Some(pb::append_response::Result::HigherVote(vote));
        let answers = Answers {
            vote: Box::new(move |_| voted().map(|()| pb::VoteResponse { vote: Some(vote), ..Default::default() })),
            append: Box::new(move |_| appended().map(|()| pb::AppendResponse { result: higher, ..Default::default() })),
            ..Default::default()
        };
        let honest = [leader, other];
        let followed: Vec<_> = honest
            .iter()
            .map(|place| {
                let mut watch = cluster.nodes[*place].leader();
                let liar = cluster.sites[liar].id;
                tokio::spawn(async move { watch.wait_for(|now| *now == Some(liar)).await.is_ok() })
            })
            .collect();
        answers.serve(&cluster.sites[liar]).await;
        until("the answers are given", || left.load(SeqCst) == 0).await;
        if moves {
            let term = |place: &usize| cluster.nodes[*place].status().term;
            until("the term moves", || honest.iter().all(|place| term(place) > before + AHEAD)).await;
        } else {
            let doubts = |n: &Replica| n.node().base.grants.doubt(cluster.sites[liar].id).is_some();
            until("it is held against it", || cluster.nodes.iter().any(doubts)).await;
            let doubting = cluster.nodes.iter().filter(|n| doubts(n));
            assert!(doubting.map(|n| n.status().term).all(|term| term < before + AHEAD));
        }
        cluster.write(other, "after", b"1").await;
        for followed in followed {
            assert!(!followed.is_finished(), "nobody has followed it for a moment");
            followed.abort();
        }
        cluster.stop().await;
    }
}

/// Its grants are real. It then makes members of whom it likes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_elected_leader_can_t_change_members() {
    let cluster = Cluster::voters(3).await;
    cluster.write(0, "before", b"1").await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (liar, honest) = ((leader + 1) % 3, (leader + 2) % 3);
    for gone in [leader, liar] {
        cluster.nodes[gone].shutdown().await;
    }
    let (hostile, to, node) = (Hostile::new(&cluster, liar), &cluster.sites[honest], cluster.nodes[honest].clone());
    let term = node.status().term + AHEAD;
    let grants = hostile.elected_by(to, term).await;
    let end = node.node().base.raft.with_raft_state(|state| state.log_ids.last().copied()).await.expect("running");
    let end = end.expect("a log");
    let now = effective_now(&node.node().base.raft).await;
    let stranger = cluster.sites[liar].member();
    let append = |view: &crate::MembershipView, roster: Option<Bytes>| {
        let id = |n| LogId::new(LeaderId::new(term, hostile.id.0), end.index + n);
        let configs = view.voters.iter().map(|set| set.iter().map(|id| id.0).collect()).collect();
        let nodes: std::collections::BTreeMap<u64, _> = view.members.iter().map(|(id, m)| (id.0, m.clone())).collect();
        let membership = openraft::Membership::new(configs, nodes).expect("a membership");
        let mut payloads: Vec<_> =
            roster.into_iter().map(|bytes| openraft::EntryPayload::Normal(crate::raft::Payload(bytes))).collect();
        payloads.push(openraft::EntryPayload::Membership(membership));
        let entry = |(n, payload)| to_wire(&RaftEntry { log_id: id(n), payload });
        pb::AppendRequest {
            prev_log_id: Some(crate::peer::convert::log_id_out(&end)),
            entries: (1..).zip(payloads).map(entry).collect(),
            ..beat(term, hostile.id, &grants)
        }
    };
    let alone = crate::MembershipView { voters: vec![[hostile.id].into()], ..now.clone() };
    let mut with_stranger = now.clone();
    with_stranger.members.insert(NodeId(999), stranger.clone());
    let mut without = now.clone();
    without.members.retain(|id, _| without.voters[0].contains(id) && *id != cluster.sites[leader].id);
    without.voters = vec![without.members.keys().copied().collect()];
    for view in [&alone, &with_stranger, &without] {
        refused(hostile.append(to, append(view, None)).await, "no signed roster");
        assert_eq!(node.node().base.grants.doubts.of(hostile.id), Some(Doubt::Unlisted { index: end.index + 1 }));
    }
    // Nor by a state that lists nobody.
    let view = node.node().base.files.view().expect("a view");
    refused(hostile.install(to, state(&*view, false, term, hostile.id, &grants)).await, "signed roster");
    drop(view);
    // Nor by a roster of its own before it in the log.
    let signed = node.view().expect("a view").roster().expect("readable").expect("one").1.roster().clone();
    let next = signed.with(NodeId(999), &crate::Member { name: "n9".into(), identity_spki: vec![9], ..stranger });
    let next = next.expect("well formed").expect("a change");
    let mut listed = now.clone();
    listed.members.insert(NodeId(999), next.members[&NodeId(999)].clone());
    let batch = |value: Vec<u8>| {
        let id = quorate_core::id::BatchId { origin: hostile.id, boot: 1, seq: 1 };
        let batch = crate::testing::put_at(id, quorate_core::record_key::RecordKey::roster(), 0, &value);
        Bytes::from(quorate_core::batch::Entry::Batch(batch.to_vec()).encode())
    };
    let own = batch(next.signed(|_| [1; 64]));
    refused(hostile.append(to, append(&listed, Some(own))).await, "no signed roster");
    // One that the anchor key signed counts before it is applied: who leads next may have to commit both at once.
    let genuine = batch(next.signed(crate::testing::roster_signature));
    hostile.append(to, append(&listed, Some(genuine))).await.expect("taken");
    cluster.stop().await;
}

/// Elected by the rules: its grants are real. It then denies what its electors have applied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_elected_leader_can_t_take_back_what_is_applied() {
    let mut cluster = Cluster::voters(3).await;
    let last = cluster.write(0, "kept", b"1").await;
    let leader = cluster.leader(&[0, 1, 2]).await;
    let (liar, honest) = ((leader + 1) % 3, (leader + 2) % 3);
    let node = cluster.nodes[honest].clone();
    let mut applied = node.applied();
    applied.wait_for(|now| *now >= last).await.expect("running");
    for gone in [leader, liar] {
        cluster.nodes[gone].shutdown().await;
    }
    let hostile = Hostile::new(&cluster, liar);
    let to = &cluster.sites[honest];
    let term = node.status().term + AHEAD;
    let grants = hostile.elected_by(to, term).await;

    let here = |index| node.node().base.raft.with_raft_state(move |state| state.log_ids.get(index));
    let mine = here(last).await.expect("running").expect("there");
    let before = here(last - 1).await.expect("running").expect("there");
    let other = |index| LogId::new(LeaderId::new(term, hostile.id.0), index);
    let blank = |id| to_wire(&RaftEntry { log_id: id, payload: openraft::EntryPayload::Blank });
    let append = |prev: LogId, entries: &[LogId]| pb::AppendRequest {
        prev_log_id: Some(crate::peer::convert::log_id_out(&prev)),
        entries: entries.iter().map(|id| blank(*id)).collect(),
        ..beat(term, hostile.id, &grants)
    };
    for (prev, entries) in [(before, vec![other(last)]), (other(last), vec![]), (other(last - 1), vec![other(last)])] {
        refused(hostile.append(to, append(prev, &entries)).await, "contradicts");
    }
    assert!(matches!(node.node().base.grants.doubts.of(hostile.id), Some(Doubt::Contradicted { .. })));
    assert_eq!(here(last).await.expect("running"), Some(mine), "nothing was cut off");
    // It may go on from what there is; but it is not elected here again.
    hostile.append(to, append(mine, &[])).await.expect("taken");
    // What was acknowledged to it, it can't cut off either: others would call this node lost that lacks it.
    let end = node.node().base.raft.with_raft_state(|state| state.log_ids.last().copied()).await.expect("running");
    let end = end.expect("a log");
    hostile.append(to, append(end, &[other(end.index + 1)])).await.expect("taken");
    let older = LogId::new(LeaderId::new(term - 1, hostile.id.0), end.index + 1);
    refused(hostile.append(to, append(end, &[older])).await, "contradicts");
    assert_eq!(here(end.index + 1).await.expect("running"), Some(other(end.index + 1)));
    let ballot = pb::VoteRequest { vote: vote_id(term + 1, hostile.id, false), ..Default::default() };
    refused(hostile.ask(to, ballot).await, "two histories");

    cluster.nodes[leader] = cluster.sites[leader].open().await;
    cluster.write(leader, "after", b"1").await;
    assert_eq!(cluster.read(honest, "kept").await.expect("there").1[..], *b"1");
    node.verify_state().await.expect("the digest holds");
    cluster.stop().await;
}
