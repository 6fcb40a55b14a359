//! The doors by which a member without right could get in, what is brought to each, and whether it was open. Pure.

#![allow(clippy::needless_update, reason = "the protocol grows")]

use bytes::Bytes;
use clap::ValueEnum;
use quorate_core::codec::Writer;
use quorate_core::id::NodeId;
use quorate_replica::SignedRoster;
use serde::{Deserialize, Serialize};

use super::pb;
use super::pb::append_response::Result as Appended;

/// A claimed leadership is so many terms ahead of what the other knows.
const AHEAD: u64 = 20;
/// The serial of a roster that is told: no cluster will ever come to it.
const TOLD_SERIAL: u64 = 1 << 62;
/// Under this id nobody was ever admitted.
pub const STRANGER: NodeId = NodeId(999);

/// In a Hello, of who has less than it said.
const LOST: u32 = 3;

/// A way in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// An Append under a leadership that nobody granted, with an entry that is said to be committed
    Append,
    /// A state under such a leadership
    Snapshot,
    /// A ballot that is said to have been won
    Ballot,
    /// Such a leadership in the answers that the leader is given
    Answer,
    /// Leadership handed over by somebody who has none
    Transfer,
    /// A roster that is told, far ahead of the cluster's, with the member under another id and the signature of the real one
    Told,
    /// What the other is said to have said of itself, by a later process of it
    Word,
}

impl Door {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::Snapshot => "snapshot",
            Self::Ballot => "ballot",
            Self::Answer => "answer",
            Self::Transfer => "transfer",
            Self::Told => "told",
            Self::Word => "word",
        }
    }
}

/// What a node answered at a door.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Knock {
    /// The door.
    pub door: Door,
    /// Whose.
    pub at: String,
    /// Whether it was open.
    pub open: bool,
    /// What was said.
    pub said: String,
}

/// A leadership that nobody granted, ahead of `known`.
pub fn claim(me: NodeId, known: u64) -> pb::VoteId {
    pb::VoteId { term: known.saturating_add(AHEAD), node: me.0, committed: true }
}

/// An entry behind `last` with nothing in it, said to be committed.
pub fn append(vote: pb::VoteId, last: Option<pb::LogId>) -> pb::AppendRequest {
    let index = last.map_or(0, |last| last.index + 1);
    let id = pb::LogId { term: vote.term, node: vote.node, index };
    let blank = Writer::new().u64(id.term).u64(id.node).u64(id.index).u8(1).u8(0).finish();
    pb::AppendRequest {
        vote: Some(vote),
        prev_log_id: last,
        leader_commit: Some(id),
        entries: vec![blank.into()],
        ..Default::default()
    }
}

/// A ballot for it, with the longest of all logs.
pub fn ballot(vote: pb::VoteId) -> pb::VoteRequest {
    let last = pb::LogId { term: vote.term, node: vote.node, index: u64::from(u32::MAX) };
    pb::VoteRequest { vote: Some(vote), last_log_id: Some(last), ..Default::default() }
}

/// The roster that a node told, far ahead, and with `me` under another id besides: all of it but the signature.
pub fn told(told: &[u8], me: NodeId) -> Option<Vec<u8>> {
    let real = SignedRoster::decode(told.to_vec().into()).ok()?;
    let mut roster = real.roster().clone();
    let member = roster.members.get(&me)?.clone();
    roster.members.insert(STRANGER, member);
    roster.serial = TOLD_SERIAL;
    Some(roster.signed(|_| *real.encode().last_chunk().expect("it ends in its signature")))
}

/// A word of `other` by which it would be superseded, under a tag that it never made.
pub fn word(other: NodeId) -> Bytes {
    const LATER: [u8; 16] = [0xEE; 16];
    let said = Writer::new().u64(other.0).u32(u32::MAX).raw(&LATER).u64(0).u64(0).u8(0).u64(0).u64(0).u64(0);
    said.raw(&[0; 16]).finish().into()
}

/// Whether a node gave itself up for lost between two answers.
pub fn is_lost_since(before: &pb::HelloMessage, after: &pb::HelloMessage) -> bool {
    before.standing != LOST && after.standing == LOST
}

/// Whether an answer to an Append says that the claim was believed: all that comes after the look at the vote does.
pub fn took(answer: &pb::AppendResponse) -> bool {
    matches!(answer.result, Some(Appended::Success(_) | Appended::Partial(_) | Appended::Conflict(_)))
}

/// Whether a node answers with a vote that is above the claim: it was refused then.
pub fn outbids(vote: Option<pb::VoteId>, claim: pb::VoteId) -> bool {
    vote.is_some_and(|vote| (vote.term, vote.node) > (claim.term, claim.node))
}

/// Whether a node that tells of this vote believes that `me` leads in a term after `granted`, in which nobody granted it anything.
pub fn believes(vote: Option<pb::VoteId>, granted: u64, me: NodeId) -> bool {
    vote.is_some_and(|vote| vote.committed && vote.node == me.0 && vote.term > granted)
}

#[cfg(test)]
mod tests {
    use quorate_core::id::{ClusterId, GroupId};
    use quorate_replica::{Member, MembershipView, Roster};

    use super::*;

    const ME: NodeId = NodeId(3);

    #[test]
    fn a_claim_is_ahead_and_its_entry_follows_the_last() {
        let vote = claim(ME, 7);
        assert_eq!((vote.term, vote.node, vote.committed), (27, 3, true));
        let append = append(vote, Some(pb::LogId { term: 7, node: 1, index: 40 }));
        assert_eq!(append.leader_commit.map(|id| (id.term, id.index)), Some((27, 41)));
        assert_eq!(append.entries[0].len(), 26);
        assert_eq!(append.entries[0][16..24], 41_u64.to_be_bytes());
    }

    #[test]
    fn only_what_follows_the_vote_says_that_it_was_believed() {
        let answer = |result| pb::AppendResponse { result: Some(result), ..Default::default() };
        let nothing = pb::Nothing {};
        assert!(took(&answer(Appended::Success(nothing))) && took(&answer(Appended::Conflict(nothing))));
        assert!(!took(&answer(Appended::HigherVote(claim(ME, 9)))) && !took(&pb::AppendResponse::default()));
    }

    #[test]
    fn only_a_vote_above_the_claim_refuses_it() {
        let claim = claim(ME, 7);
        assert!(outbids(Some(pb::VoteId { term: 28, node: 1, committed: false }), claim));
        assert!(!outbids(Some(claim), claim) && !outbids(Some(pb::VoteId { term: 9, ..claim }), claim));
        assert!(!outbids(None, claim));
    }

    #[test]
    fn a_node_believes_what_was_claimed_and_only_when_it_is_committed() {
        let vote = claim(ME, 7);
        assert!(believes(Some(vote), 7, ME));
        assert!(!believes(Some(pb::VoteId { committed: false, ..vote }), 7, ME), "it moves terms only");
        assert!(!believes(Some(pb::VoteId { node: 1, ..vote }), 7, ME));
        assert!(!believes(Some(pb::VoteId { term: 5, ..vote }), 7, ME), "it led once, rightly");
        assert!(!believes(None, 7, ME));
    }

    #[test]
    fn a_word_is_as_long_as_they_are_and_only_who_was_whole_is_lost_by_it() {
        let word = word(ME);
        assert_eq!((word.len(), &word[..12]), (85, &[0, 0, 0, 0, 0, 0, 0, 3, 255, 255, 255, 255][..]));
        let of = |standing| pb::HelloMessage { standing, ..Default::default() };
        assert!(is_lost_since(&of(2), &of(3)) && is_lost_since(&of(1), &of(3)));
        assert!(!is_lost_since(&of(3), &of(3)) && !is_lost_since(&of(2), &of(2)));
    }

    #[test]
    fn what_is_told_has_the_member_twice() {
        let member = Member { name: "n3".into(), ..Member::default() };
        let view = MembershipView { index: 9, voters: vec![[ME].into()], members: [(ME, member.clone())].into() };
        let real = Roster::before_the_first(ClusterId([1; 16]), GroupId(0), &view).signed(|_| [7; 64]);
        let forged = SignedRoster::decode(told(&real, ME).expect("one").into()).expect("well formed");
        assert_eq!((forged.roster().serial, forged.roster().members.get(&STRANGER)), (TOLD_SERIAL, Some(&member)));
        assert_eq!(forged.encode().last_chunk(), Some(&[7; 64]));
        assert_eq!(super::told(&real, NodeId(1)), None);
    }
}
