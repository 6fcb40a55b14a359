//! Leadership is granted, not declared (trust.md §3.1, §3.2).
//!
//! Raft's messages say who leads; nothing in them shows that anybody was asked. So whoever votes for a leadership V =
//! (term, node), or follows it, signs that; the leader keeps these grants and shows them to each member until that member
//! has answered it once. A member lets nothing of a leader reach Raft before it has seen the grants of a majority of each
//! set of voters that it knows of.
//!
//! Which voters those are is what the log that was *applied* here says, never an entry that is not: a deposed leader may
//! have left it; or what the newest signed roster says, for who lags behind a change of members ([`Members::electorates`]).
//!
//! [`Members::electorates`]: crate::peer::members::Members::electorates

mod believe;
mod doubt;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod liveness_tests;
#[cfg(test)]
mod outcome_tests;
#[cfg(test)]
mod shows_less_tests;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_core::id::NodeId;
use quorate_core::seeded::{self, Bug};
use tokio::time::Instant;

use crate::raft::promise::Promise;
use crate::raft::{LeaderId, Vote};
pub(crate) use believe::Doorkeeper;
pub(crate) use doubt::Doubt;
use doubt::Doubts;
use wire::{BootKey, Grant, Realm};

/// A term this far above the own is no election's: a vote that names it is dropped, since terms can run out.
const TERMS_AHEAD_MAX: u64 = 1 << 20;
/// So often, within [`RAISES_PER`], a member's answers may move this node's term. One that is honest tells of an election once;
/// one that went on for ever would unseat whoever is elected.
const RAISES_MAX: usize = 2;
/// See [`RAISES_MAX`].
const RAISES_PER: Duration = Duration::from_secs(10);
/// For so long after its leader has named a successor a node grants that one's ballot although the leader lives.
const HAND_ON_LIMIT: Duration = Duration::from_secs(2);

/// What this node has been granted, what it grants, and whom it believes to lead.
pub(crate) struct Grants {
    realm: Realm,
    me: NodeId,
    key: BootKey,
    promise: Arc<Promise>,
    state: Mutex<State>,
    pub(crate) doubts: Doubts,
}

struct State {
    /// The newest leadership whose grants were seen.
    believed: Option<LeaderId>,
    /// When it was heard last.
    heard: Option<Instant>,
    /// For the newest leadership that this node has asked for.
    collected: Option<(LeaderId, BTreeMap<NodeId, Bytes>)>,
    /// The last grant given: it may be asked for again.
    given: Option<(LeaderId, Bytes)>,
    /// When each member's answers have moved this node's term.
    raises: BTreeMap<NodeId, Vec<Instant>>,
    /// Whom the leader wants to lead next, and when it said so.
    successor: Option<(NodeId, Instant)>,
    /// The certificate that was found good last, of each node and under which identity key.
    certified: BTreeMap<NodeId, (Bytes, Vec<u8>)>,
}

impl Grants {
    /// `vote` is the journal's: whom it names as elected this node had believed before.
    pub(crate) fn new(realm: Realm, me: NodeId, key: BootKey, promise: Arc<Promise>, vote: Option<Vote>) -> Self {
        let state = State {
            believed: vote.filter(|vote| vote.committed).map(|vote| vote.leader_id),
            heard: None,
            collected: None,
            given: None,
            raises: BTreeMap::new(),
            successor: None,
            certified: BTreeMap::new(),
        };
        Self { realm, me, key, promise, state: Mutex::new(state), doubts: Doubts::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This node's grant for a leadership that it has voted for, or follows: to be called after that is durable.
    pub(crate) fn give(&self, leadership: LeaderId) -> Bytes {
        let mut state = self.lock();
        match &state.given {
            Some((given, grant)) if *given == leadership => grant.clone(),
            _ => {
                let grant = self.key.grant(leadership);
                state.given = Some((leadership, grant.clone()));
                grant
            }
        }
    }

    /// Keeps a member's grant for a leadership of this node's. `false`: it is none, and its vote must not be counted, as
    /// others would not count it.
    pub(crate) fn collect(&self, leadership: LeaderId, from: NodeId, identity: &[u8], grant: &Bytes) -> bool {
        let mut state = self.lock();
        let good = Grant::read(grant).is_ok_and(|read| {
            read.by == from && self.is_certified(&mut state, &read, identity) && read.is_for(self.realm, leadership)
        });
        if good && let Some(collected) = state.collected_for(leadership) {
            collected.insert(from, grant.clone());
        }
        good
    }

    /// Whether a leadership of this node's has no grant of that member yet.
    pub(crate) fn lacks(&self, leadership: LeaderId, from: NodeId) -> bool {
        self.lock().collected_for(leadership).is_some_and(|collected| !collected.contains_key(&from))
    }

    /// All grants for a leadership that this node won, its own first.
    pub(crate) fn collected(&self, leadership: LeaderId) -> Vec<Bytes> {
        let mut state = self.lock();
        let Some(collected) = state.collected_for(leadership) else { return Vec::new() };
        let own = collected.entry(self.me).or_insert_with(|| self.key.grant(leadership)).clone();
        let others = collected.iter().filter(|(id, _)| **id != self.me).map(|(_, grant)| grant.clone());
        std::iter::once(own).chain(others).collect()
    }

    fn is_certified(&self, state: &mut State, grant: &Grant, identity: &[u8]) -> bool {
        let known = state.certified.get(&grant.by);
        if known.is_some_and(|(certificate, by)| certificate == grant.certificate() && by == identity) {
            return true;
        }
        let good = grant.is_certified(self.realm, identity);
        if good {
            state.certified.insert(grant.by, (grant.certificate().clone(), identity.to_vec()));
        }
        good
    }

    /// Whether a term may be one that elections led to.
    fn is_in_reach(&self, term: u64) -> bool {
        term <= self.promise.now().map_or(0, |own| own.term).saturating_add(TERMS_AHEAD_MAX)
    }

    /// A vote told in an answer to `sent`: it may move this node's term, and makes nobody a leader.
    ///
    /// # Errors
    /// When no honest member says so.
    pub(crate) fn told(&self, from: NodeId, vote: Vote, sent: &Vote) -> Result<Vote, &'static str> {
        // Seeded bug: openraft adopts what it is told, so a follower may appoint itself.
        if seeded::is(Bug::TrustAnswerVote) {
            return Ok(vote);
        }
        if vote.leader_id > sent.leader_id {
            if vote.leader_id.node_id == self.me.0 && self.promise.now() < Some(vote.leader_id) {
                self.doubts.note(from, Doubt::FalseVote { term: vote.leader_id.term });
                return Err("it tells of a vote of this node's that this node never gave");
            }
            if !self.is_in_reach(vote.leader_id.term) {
                self.doubts.note(from, Doubt::FarTerm { term: vote.leader_id.term });
                return Err("it tells of a term that is out of reach of all elections");
            }
            if self.promise.now() < Some(vote.leader_id) && !self.lock().may_raise(from) {
                self.doubts.note(from, Doubt::EndlessTerms { term: vote.leader_id.term });
                return Err("it tells of one higher term after the other");
            }
        }
        Ok(Vote { committed: false, ..vote })
    }

    /// When the believed leader was heard last.
    pub(crate) fn heard(&self) -> Option<Instant> {
        self.lock().heard
    }

    /// The believed leader, or this node as the leader, wants `to` to lead next.
    pub(crate) fn note_successor(&self, to: NodeId) {
        self.lock().successor = Some((to, Instant::now()));
    }

    /// Whom the leader has just now wanted to lead next.
    pub(crate) fn heir(&self) -> Option<NodeId> {
        self.lock().successor.filter(|(_, at)| at.elapsed() < HAND_ON_LIMIT).map(|(to, _)| to)
    }

    /// Whether the leader has just now wanted `candidate` to take over from it.
    fn is_successor(&self, candidate: NodeId) -> bool {
        self.heir() == Some(candidate)
    }

    /// What is held against a member, in words.
    pub(crate) fn doubt(&self, id: NodeId) -> Option<String> {
        self.doubts.of(id).map(|doubt| doubt.to_string())
    }
}

impl State {
    /// Whether it is the believed leadership that speaks, which is noted.
    fn hear(&mut self, leadership: LeaderId) -> bool {
        let believed = self.believed == Some(leadership);
        if believed {
            self.heard = Some(Instant::now());
        }
        believed
    }

    /// Whether a member's answer may move this node's term now; it counts.
    fn may_raise(&mut self, from: NodeId) -> bool {
        let raises = self.raises.entry(from).or_default();
        raises.retain(|at| at.elapsed() < RAISES_PER);
        let may = raises.len() < RAISES_MAX;
        if may {
            raises.push(Instant::now());
        }
        may
    }

    /// The grants for a leadership, unless a later one was asked for since.
    fn collected_for(&mut self, leadership: LeaderId) -> Option<&mut BTreeMap<NodeId, Bytes>> {
        if self.collected.as_ref().is_none_or(|(of, _)| *of < leadership) {
            self.collected = Some((leadership, BTreeMap::new()));
        }
        self.collected.as_mut().filter(|(of, _)| *of == leadership).map(|(_, collected)| collected)
    }
}
