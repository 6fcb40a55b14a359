//! What of a leader's or a candidate's words may reach Raft.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use quorate_core::id::NodeId;
use quorate_core::seeded::{self, Bug};
use tonic::Status;

use super::Grants;
use super::doubt::Doubt;
use super::wire::Grant;
use crate::log::LogReader;
use crate::member::MembershipView;
use crate::node::Base;
use crate::raft::codec::decode_log_id;
use crate::raft::{LeaderId, LogId, Raft, TypeConfig, Vote};
use crate::shared::Shared;
use crate::word::{Own, Words};

/// Whether the grants are those of a majority of each set of voters; `holds` checks one under the key pinned there.
fn is_granted(view: &MembershipView, grants: &[Grant], mut holds: impl FnMut(&Grant, &[u8]) -> bool) -> bool {
    let (mut looked_at, mut granted) = (BTreeSet::new(), BTreeSet::new());
    grants.iter().any(|grant| {
        let pinned = view.members.get(&grant.by).filter(|_| view.is_voter(grant.by));
        let good = pinned.is_some_and(|member| looked_at.insert(grant.by) && holds(grant, &member.identity_spki));
        if good {
            granted.insert(grant.by);
        }
        good && view.is_majority(&granted)
    })
}

/// Keeps from Raft what no honest leader or candidate says.
pub(crate) struct Doorkeeper {
    shared: Arc<Shared>,
    grants: Arc<Grants>,
    words: Arc<Words>,
    own: Arc<Own>,
    raft: Raft,
    journal: LogReader,
}

impl Doorkeeper {
    pub(crate) fn of(base: &Base) -> Self {
        Self {
            shared: base.shared.clone(),
            grants: base.grants.clone(),
            words: base.words.clone(),
            own: base.own.clone(),
            raft: base.raft.clone(),
            journal: base.journal.clone(),
        }
    }

    /// Lets pass what `vote`'s node says as the leader: it shows, or has shown, that it was elected. What is older than this
    /// node's own vote passes too, for Raft refuses it.
    pub(crate) fn believe(&self, vote: &Vote, grants: &[Bytes]) -> Result<(), Status> {
        let (book, leadership) = (&self.grants, vote.leader_id);
        if book.lock().hear(leadership) || book.promise.now() > Some(leadership) {
            return Ok(());
        }
        let leader = NodeId(leadership.node_id);
        // Seeded bug: whoever says that it leads does.
        if !seeded::is(Bug::CountUnsigned) && !self.is_granted(leader, leadership, grants) {
            book.doubts.note(leader, Doubt::NotGranted { term: leadership.term });
            return Err(Status::failed_precondition("it shows no grants of a majority of the voters known here"));
        }
        let mut state = book.lock();
        state.believed = state.believed.max(Some(leadership));
        state.hear(leadership);
        drop(state);
        book.doubts.clear_claim(leader);
        Ok(())
    }

    fn is_granted(&self, leader: NodeId, leadership: LeaderId, grants: &[Bytes]) -> bool {
        let members = &self.shared.members;
        let grants: Vec<Grant> = grants.iter().filter_map(|bytes| Grant::read(bytes).ok()).collect();
        let holds = |grant: &Grant, identity: &[u8]| {
            let mut state = self.grants.lock();
            members.member(grant.by).is_some_and(|pinned| pinned.identity_spki == identity)
                && self.grants.is_certified(&mut state, grant, identity)
                && grant.is_for(self.grants.realm, leadership)
        };
        members.has(leader) && members.electorates().iter().any(|view| is_granted(view, &grants, holds))
    }

    /// A ballot as Raft may see it: it overrules a living leader only if that leader wants it to.
    pub(crate) fn admit_ballot(&self, mut ballot: VoteRequest<TypeConfig>) -> Result<VoteRequest<TypeConfig>, Status> {
        let (book, LeaderId { term, node_id }) = (&self.grants, ballot.vote.leader_id);
        let candidate = NodeId(node_id);
        if !book.is_in_reach(term) {
            book.doubts.note(candidate, Doubt::FarTerm { term });
            return Err(Status::invalid_argument("that term is out of reach of all elections"));
        }
        if let Some(doubt @ Doubt::Contradicted { .. }) = book.doubts.of(candidate) {
            return Err(Status::failed_precondition(doubt.to_string()));
        }
        if self.words.shows_less(candidate) {
            return Err(Status::failed_precondition(Doubt::ShowsLess.to_string()));
        }
        ballot.leadership_transfer &= book.is_successor(candidate);
        Ok(ballot)
    }

    /// Lets pass the believed leader's wish to be succeeded, and remembers by whom.
    pub(crate) fn admit_transfer(&self, request: &TransferLeaderRequest<TypeConfig>) -> Result<(), Status> {
        let leadership = Some(request.from_leader().leader_id);
        if self.grants.lock().believed != leadership || self.grants.promise.now() != leadership {
            return Err(Status::failed_precondition("only the leader that this node follows hands on leadership"));
        }
        self.grants.note_successor(NodeId(*request.to_node_id()));
        Ok(())
    }

    /// Refuses an append that says otherwise than what is committed here (trust.md §3.3), for Raft takes everything up to there
    /// for equal; or than what this node has acknowledged under the same leadership: an elected liar could else make it lose
    /// what it said it had. Its sender gets no vote of this node for a while.
    pub(crate) async fn refuse_contradiction(&self, append: &AppendEntriesRequest<TypeConfig>) -> Result<(), Status> {
        let noted = self.journal.committed().and_then(|id| decode_log_id(&id).ok());
        let leadership = append.vote.leader_id;
        let acked = self.own.acked_to(leadership);
        let committed = noted.max(self.raft.metrics().borrow_watched().local_committed).max(acked);
        // Nearly always: it goes on from there or after.
        if committed.is_none_or(|mine| append.prev_log_id.is_some_and(|id| id == mine || id.index > mine.index)) {
            return Ok(());
        }
        let theirs = append.prev_log_id.into_iter().chain(append.entries.iter().map(|entry| entry.log_id)).collect();
        self.refuse_contradictions(leadership, theirs).await
    }

    /// The same of entries that the leader says to be in its log, a snapshot's last one among them.
    pub(crate) async fn refuse_contradictions(&self, leadership: LeaderId, theirs: Vec<LogId>) -> Result<(), Status> {
        let acked = self.own.acked_to(leadership);
        let found = self.raft.with_raft_state(move |state| {
            // Who was succeeded meanwhile knows no better, and Raft refuses it.
            let committed = state.local_committed().copied().max(acked);
            let committed = committed.filter(|_| state.vote_ref().leader_id <= leadership);
            contradiction(&theirs, committed, |index| state.log_ids.get(index))
        });
        match found.await {
            Ok(None) => Ok(()),
            Ok(Some(index)) => {
                self.grants.doubts.note(NodeId(leadership.node_id), Doubt::Contradicted { index });
                Err(Status::failed_precondition(format!("it contradicts entry {index}, which is settled here")))
            }
            Err(e) => Err(Status::unavailable(e.to_string())),
        }
    }
}

/// The first index up to the committed entry at which `theirs` is not what is here, as far as the log still tells.
fn contradiction(theirs: &[LogId], committed: Option<LogId>, here: impl Fn(u64) -> Option<LogId>) -> Option<u64> {
    let committed = committed?;
    let settled = theirs.iter().filter(|id| id.index <= committed.index);
    // Terms only grow along a log: above the committed entry's term and below its index is in no log.
    let contradicts = |id: &&LogId| **id > committed || here(id.index).is_some_and(|mine| mine != **id);
    settled.into_iter().find(contradicts).map(|id| id.index)
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId;

    use super::*;
    use crate::member::Member;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new(LeaderId::new(term, 1), index)
    }

    #[test]
    fn what_is_committed_here_can_only_be_repeated() {
        // Purged up to 3, committed up to 6, ending at 8.
        let here = |index| (3..=8).contains(&index).then(|| id(if index < 6 { 2 } else { 4 }, index));
        let committed = Some(id(4, 6));
        let found = |theirs: &[LogId]| contradiction(theirs, committed, here);
        assert_eq!(found(&[id(2, 5), id(4, 6), id(4, 7)]), None);
        assert_eq!(found(&[id(1, 1), id(2, 2), id(2, 3)]), None, "purged");
        assert_eq!(found(&[id(4, 6), id(5, 7), id(5, 8)]), None, "what is not committed may be replaced");
        assert_eq!(found(&[id(2, 5), id(5, 6)]), Some(6));
        assert_eq!(found(&[id(3, 5)]), Some(5));
        assert_eq!(found(&[id(2, 4), id(3, 5), id(4, 6)]), Some(5));
        assert_eq!(found(&[id(5, 2)]), Some(2), "of a term after the committed one");
        assert_eq!(contradiction(&[id(9, 0)], None, here), None, "nothing is committed");
    }

    fn view(voters: &[&[u64]]) -> MembershipView {
        let member = |id: &u64| (NodeId(*id), Member { identity_spki: vec![*id as u8], ..Member::default() });
        MembershipView {
            index: 1,
            voters: voters.iter().map(|set| set.iter().map(|id| NodeId(*id)).collect()).collect(),
            members: (1..=9).map(|id| member(&id)).collect(),
        }
    }

    /// Grants of these, of which the `good` hold.
    fn granted(voters: &[&[u64]], by: &[u64], good: &[u64]) -> bool {
        let grant = |id: &u64| {
            let bytes = [&id.to_be_bytes()[..], &[0; 52], &0u32.to_be_bytes(), &[0; 64]].concat();
            Grant::read(&bytes.into()).expect("well formed")
        };
        let grants: Vec<Grant> = by.iter().map(grant).collect();
        is_granted(&view(voters), &grants, |grant, identity| {
            assert_eq!(identity, [grant.by.0 as u8], "checked under its own key");
            good.contains(&grant.by.0)
        })
    }

    #[test]
    fn a_majority_of_each_set_of_voters_must_have_signed() {
        let all: Vec<u64> = (1..=9).collect();
        let three: &[&[u64]] = &[&[1, 2, 3]];
        assert!(granted(three, &[1, 2], &all) && granted(three, &[1, 2, 3], &[1, 3]));
        assert!(!granted(three, &[], &all) && !granted(three, &[3], &all));
        assert!(!granted(three, &[1, 2, 3], &[3]), "signatures that do not hold");
        assert!(!granted(three, &[3, 3, 3], &all), "one thrice");
        assert!(!granted(three, &[3, 7, 8], &all), "members that do not vote");
        let five: &[&[u64]] = &[&[1, 2, 3, 4, 5]];
        assert!(granted(five, &[1, 3, 5], &all) && !granted(five, &[1, 3], &all));
        let joint: &[&[u64]] = &[&[1, 2, 3], &[3, 4, 5]];
        assert!(
            granted(joint, &[2, 3, 4], &all) && !granted(joint, &[1, 2, 4], &all) && !granted(joint, &[3, 4, 5], &all)
        );
        assert!(granted(&[&[1]], &[1], &all) && !granted(&[&[1]], &[2], &all));
        assert!(!granted(&[], &[1, 2, 3], &all), "no voters are known");
    }
}
