//! The book of grants by itself.

use openraft::vote::RaftLeaderId;
use quorate_core::id::GroupId;
use quorate_core::seam::Entropy;
use quorate_core::session::Session;

use super::*;
use crate::identity::NodeIdentity;
use crate::testing::CLUSTER;
use crate::testing::identity::SoftIdentity;

const REALM: Realm = Realm { cluster: CLUSTER, group: GroupId(0) };

struct Salt(u8);
impl Entropy for Salt {
    fn fill(&self, out: &mut [u8]) {
        out.fill(self.0);
    }
}

fn key(id: u64, identity: &SoftIdentity) -> BootKey {
    let boot = Session { origin: NodeId(id), boot: 1, process: [id as u8; 16] };
    BootKey::make(REALM, boot, identity, &Salt(id as u8)).expect("certified")
}

fn vote(term: u64, node: u64, committed: bool) -> Vote {
    Vote { leader_id: LeaderId::new(term, node), committed }
}

/// Of a node that has voted in term 5.
pub(super) fn book(me: u64) -> Grants {
    let mine = vote(5, me, false);
    let promise = Arc::new(Promise::new(NodeId(me), Some(&mine)));
    Grants::new(REALM, NodeId(me), key(me, &SoftIdentity::default()), promise, Some(mine))
}

#[test]
fn a_leader_shows_the_good_grants_of_its_newest_leadership_its_own_first() {
    let book = book(3);
    let (two, liar) = (SoftIdentity::default(), SoftIdentity::default());
    let (old, new) = (LeaderId::new(6, 3), LeaderId::new(7, 3));
    let grant = key(2, &two).grant(old);
    assert!(book.lacks(old, NodeId(2)));
    assert!(book.collect(old, NodeId(2), &two.public_key(), &grant));
    assert!(!book.lacks(old, NodeId(2)) && book.lacks(old, NodeId(1)));
    assert_eq!(book.collected(old), [book.key.grant(old), grant.clone()]);

    for (from, identity, bad) in [
        (1, &two, grant.clone()),
        (1, &liar, key(1, &two).grant(new)),
        (1, &liar, key(1, &liar).grant(old)),
        (1, &liar, Bytes::new()),
    ] {
        assert!(!book.collect(new, NodeId(from), &identity.public_key(), &bad));
    }
    assert_eq!(book.collected(new), [book.key.grant(new)]);
    // Late answers to an earlier candidacy.
    assert!(book.collect(old, NodeId(2), &two.public_key(), &grant));
    assert!(book.collected(old).is_empty() && !book.lacks(old, NodeId(1)));
    assert_eq!(book.collected(new), [book.key.grant(new)]);
    assert_eq!(book.give(LeaderId::new(8, 1)), book.give(LeaderId::new(8, 1)));
    assert_ne!(book.give(LeaderId::new(8, 1)), book.give(LeaderId::new(9, 1)));
}

#[test]
fn a_vote_told_in_an_answer_is_nobody_s_election() {
    let book = book(3);
    let sent = vote(5, 3, true);
    let from = NodeId(2);
    assert_eq!(book.told(from, vote(5, 3, true), &sent), Ok(vote(5, 3, false)));
    assert_eq!(book.told(from, vote(9, 2, true), &sent), Ok(vote(9, 2, false)));
    assert_eq!(book.told(from, vote(4, 1, true), &sent), Ok(vote(4, 1, false)));
    assert_eq!(book.doubt(from), None);
    assert!(book.told(from, vote(6, 3, false), &sent).is_err(), "a vote of this node's");
    assert!(book.doubt(from).is_some());
    // What it has asked for itself meanwhile may well be told.
    assert_eq!(book.told(from, vote(5, 3, false), &vote(4, 3, true)), Ok(vote(5, 3, false)));
    assert!(book.told(from, vote(5 + TERMS_AHEAD_MAX, 2, false), &sent).is_ok());
    assert!(book.told(from, vote(6 + TERMS_AHEAD_MAX, 2, false), &sent).is_err());
    assert!(book.told(from, vote(u64::MAX, 2, true), &sent).is_err());
}

#[test]
fn a_node_that_starts_believes_in_whom_its_journal_says_was_elected() {
    let believed = |vote| {
        let promise = Arc::new(Promise::new(NodeId(3), Some(&vote)));
        let book = Grants::new(REALM, NodeId(3), key(3, &SoftIdentity::default()), promise, Some(vote));
        book.lock().believed
    };
    assert_eq!(believed(vote(5, 1, true)), Some(LeaderId::new(5, 1)));
    assert_eq!(believed(vote(5, 1, false)), None, "a vote is no election");
}

/// Whoever tells of ever higher terms would else unseat every leader as soon as it is elected.
#[tokio::test(start_paused = true)]
async fn a_member_s_answers_move_the_term_now_and_then_and_not_again_and_again() {
    let book = book(1);
    let sent = vote(5, 1, true);
    let told = |from: u64, term| book.told(NodeId(from), vote(term, from, true), &sent);
    assert_eq!(told(2, 6), Ok(vote(6, 2, false)));
    assert_eq!(told(2, 7), Ok(vote(7, 2, false)));
    assert!(told(2, 8).is_err());
    assert_eq!(book.doubts.of(NodeId(2)), Some(Doubt::EndlessTerms { term: 8 }));
    assert_eq!(told(3, 9), Ok(vote(9, 3, false)), "another is listened to");
    tokio::time::advance(RAISES_PER).await;
    assert_eq!(told(2, 9), Ok(vote(9, 2, false)));
}
