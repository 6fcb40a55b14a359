//! openraft behind our own facade: its types, our encoding of them, its storage over the journal and the state.
//! No other module of this crate stores or sends an openraft type as it is.

pub(crate) mod applier;
pub(crate) mod checkpoints;
pub(crate) mod codec;
pub(crate) mod log_store;
pub(crate) mod machine;
pub(crate) mod promise;
pub(crate) mod settings;
#[cfg(test)]
mod suite_tests;

use std::fmt;

use bytes::Bytes;
use openraft::alias::{LogIdOf, StoredMembershipOf, VoteOf};
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;
use quorate_core::batch::{Batch, Entry, Outcome};
use quorate_core::id::NodeId;
use quorate_core::seam::Entropy;

use crate::member::{Member, MembershipView};

openraft::declare_raft_types!(
    /// `leader_id_adv` (the default): within one term the higher node id supersedes, so votes never split.
    pub(crate) TypeConfig:
        D = Payload,
        R = Reply,
        NodeId = u64,
        Node = Member,
        AsyncRuntime = DeterministicRng<TokioRuntime>,
);

/// What openraft's random waits before elections come from.
pub(crate) fn new_seed(entropy: &dyn Entropy) -> u64 {
    let mut seed = [0; 8];
    entropy.fill(&mut seed);
    u64::from_be_bytes(seed)
}

/// Makes or runs a Raft with such a seed; all its tasks descend from there. Nothing else of openraft that is used here begins
/// tasks or draws numbers, which it could not elsewhere.
pub(crate) fn seeded<F: Future>(seed: u64, work: F) -> impl Future<Output = F::Output> {
    DeterministicRng::<TokioRuntime>::scope(seed, work)
}

pub(crate) type LogId = LogIdOf<TypeConfig>;
pub(crate) type Vote = VoteOf<TypeConfig>;
pub(crate) type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
pub(crate) type RaftEntry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Member>;
pub(crate) type StoredMembership = StoredMembershipOf<TypeConfig>;
pub(crate) type Raft = openraft::Raft<TypeConfig, machine::Machine>;

/// What the log carries for us: the canonical bytes of a [`quorate_core::batch::Entry`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload(pub(crate) Bytes);

impl fmt::Display for Payload {
    /// Kind, batch id, number of operations; nothing else of an entry belongs into a log line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Entry::decode(&self.0) {
            Ok(Entry::Batch(bytes)) => match Batch::decode(&bytes) {
                Ok((batch, _)) => write!(f, "batch {} with {} ops", batch.id, batch.ops.len()),
                Err(_) => write!(f, "malformed batch"),
            },
            Ok(Entry::Tick(ms)) => write!(f, "tick {ms}"),
            Ok(Entry::Genesis(_)) => write!(f, "genesis"),
            Ok(Entry::Open(open)) => write!(f, "session {}.{}", open.session.origin, open.session.boot),
            Err(_) => write!(f, "unknown entry"),
        }
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What applying an entry answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Reply(pub(crate) Outcome);

/// Our view of an openraft membership.
pub(crate) fn membership_view(stored: &StoredMembership) -> MembershipView {
    MembershipView { index: stored.log_id().as_ref().map_or(0, |id| id.index), ..config_view(stored.membership()) }
}

/// The same without an index.
pub(crate) fn config_view(membership: &Membership) -> MembershipView {
    MembershipView {
        index: 0,
        voters: membership.get_joint_config().iter().map(|set| set.iter().map(|id| NodeId(*id)).collect()).collect(),
        members: membership.nodes().map(|(id, member)| (NodeId(*id), member.clone())).collect(),
    }
}

/// The membership in the log, committed or not.
pub(crate) fn effective(raft: &Raft) -> MembershipView {
    membership_view(&raft.metrics().borrow_watched().membership_config)
}

/// The same, as Raft has it right now.
pub(crate) async fn effective_now(raft: &Raft) -> MembershipView {
    let now = raft.with_raft_state(|state| membership_view(state.membership_state.effective()));
    now.await.unwrap_or_else(|_| effective(raft))
}
