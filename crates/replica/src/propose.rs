//! Proposals (key-log §1.5): the same bytes to whoever leads, until this node's own apply has met them or the deadline has
//! passed. What a leader says of the outcome is a hint to wait, no more: it may have been deposed, or lie. That goes for a refusal
//! too: whoever was given the bytes may bring them into the log as long as the session lasts. So "not accepted" is said only of
//! what has never left this node.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{ClientWriteError, RaftError};
use quorate_core::batch::{Batch, ENTRY_LEN_MAX, Entry, Outcome};
use quorate_core::id::{BatchId, ClusterId, GroupId, NodeId};
use quorate_core::seeded;
use quorate_core::session::Session;
use tokio::time::{Instant, timeout_at};

use crate::change::Changes;
use crate::error::{Problem, ProposeError};
use crate::handler::KeyHolder;
use crate::leader::Leader;
use crate::node::Base;
use crate::origins::{CLAIM_LEN, Origins, Unproven};
use crate::peer::link::Links;
use crate::peer::{RpcFailure, bounded, forward};
use crate::raft::{LeaderId, Payload, Raft};
use crate::roster::roster_of;
use crate::shared::Shared;
use crate::space::{Short, SpaceRegime};
use crate::state_reader::StateReader;

/// First pause before the same leader is tried again; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(100);
/// How long a roster waits for an earlier one to be carried out.
const CARRIED_OUT_LIMIT: Duration = Duration::from_secs(8);
/// How long what a leader says to be in the log may take to arrive here before it is sent once more.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(1);

/// What is proposed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Proposal {
    /// A batch with its MAC.
    Batch(Bytes),
    /// The begin of this node's session.
    Open(Bytes),
}

/// What became of one attempt to have an entry sequenced: certain of an attempt of this node's own, else another's word.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Attempt {
    /// This node leads, and has applied it with this outcome.
    Done(Outcome),
    /// The leader says that it has been applied.
    Sequenced,
    /// Not the leader; not appended by this attempt.
    NotLeader(Option<NodeId>),
    /// It may have been appended.
    Unknown(String),
    /// Refused; will not be accepted however often it is sent.
    Refused(String),
    /// Not now; not appended by this attempt.
    Busy(String),
    /// Too few disks have room for it; not appended by this attempt.
    NoSpace(Short),
    /// The leader, sealed, wants its origin's claim under this leadership first; not appended.
    Claim(LeaderId),
}

/// A batch that may be proposed.
struct Admitted {
    id: BatchId,
    /// It writes the roster of members.
    has_roster: bool,
}

/// Has entries sequenced: by this node while it leads, else by whoever does.
pub(crate) struct Proposals {
    cluster: ClusterId,
    group: GroupId,
    me: NodeId,
    shared: Arc<Shared>,
    raft: Raft,
    links: Arc<Links>,
    leader: Arc<Leader>,
    space: Arc<SpaceRegime>,
    changes: Arc<Changes>,
    state: Arc<StateReader>,
    origins: Origins,
    /// The begin of this node's session is under way.
    opening: tokio::sync::Mutex<()>,
}

impl Proposals {
    pub(crate) fn of(
        base: &Base,
        leader: &Arc<Leader>,
        space: &Arc<SpaceRegime>,
        changes: &Arc<Changes>,
        state: &Arc<StateReader>,
    ) -> Self {
        Self {
            cluster: base.cluster,
            group: base.group,
            me: base.me,
            shared: base.shared.clone(),
            raft: base.raft.clone(),
            links: base.links.clone(),
            leader: leader.clone(),
            space: space.clone(),
            changes: changes.clone(),
            state: state.clone(),
            origins: Origins::of(base, state),
            opening: Default::default(),
        }
    }

    /// What must hold of a batch before this node proposes it, whoever brings it; its MAC, if this node has the `keys`.
    fn admit(&self, batch: &[u8], from: NodeId, keys: Option<&dyn KeyHolder>) -> Result<Admitted, String> {
        if batch.len() >= ENTRY_LEN_MAX {
            return Err(format!("the batch has {} bytes, at most {} are allowed", batch.len(), ENTRY_LEN_MAX - 1));
        }
        let (decoded, _) = Batch::decode(batch).map_err(|e| format!("the batch breaks its format: {e}"))?;
        if decoded.cluster != self.cluster || decoded.group != self.group {
            return Err("the batch is of another cluster or group".into());
        }
        if decoded.id.origin != from {
            return Err(format!("node {from} brought a batch of node {}", decoded.id.origin));
        }
        let admitted = Admitted { id: decoded.id, has_roster: roster_of(&decoded).is_some() };
        // A forged batch gets into the log only through a hostile leader (key-hierarchy §2).
        let Some(keys) = keys else { return Ok(admitted) };
        match keys.verify(batch, &|key| self.state.record(key)) {
            Ok(true) => Ok(admitted),
            Ok(false) => {
                tracing::error!(%from, id = %decoded.id, "a forged batch was refused before it was proposed");
                Err("the batch is forged: its MAC does not hold".into())
            }
            Err(e) => Err(format!("the leader's state can't be read: {e}")),
        }
    }

    /// Has a batch or the begin of a session sequenced by this node, if it leads. `from` is the node that brought it, with
    /// its claim where it was asked for one.
    pub(crate) async fn sequence(&self, what: &Proposal, from: NodeId, claim: Option<&[u8; CLAIM_LEN]>) -> Attempt {
        let keys = self.shared.keys();
        let admitted = match what {
            Proposal::Batch(batch) => self.admit(batch, from, keys.as_deref()).map(|admitted| {
                // With the seeded bug that accepts any MAC there is a leader that forges.
                (Some(admitted), Entry::Batch(seeded::forged(batch.to_vec())))
            }),
            Proposal::Open(open) => self.origins.may_open(open, from).map(|open| (None, Entry::Open(Box::new(open)))),
        };
        let (batch, entry) = match admitted {
            Ok(admitted) => admitted,
            Err(why) => return Attempt::Refused(why),
        };
        if let Some(problem) = self.shared.problem().filter(Problem::ends_sequencing) {
            return Attempt::Busy(problem.to_string());
        }
        if self.leader.is_me()
            && let Some(short) = self.space.shortage()
        {
            return Attempt::NoSpace(short);
        }
        if let Some(Admitted { id, .. }) = &batch {
            // Whoever has just been elected does not know it yet.
            let Some(leadership) = self.leader.leadership() else { return Attempt::NotLeader(self.leader.now()) };
            match self.origins.admit(id, leadership, keys.is_some(), claim) {
                Ok(()) => {}
                Err(Unproven::Superseded) => {
                    return Attempt::Refused("a newer start of its node has taken over".into());
                }
                Err(Unproven::NotOpen) => return Attempt::Busy("its node's session is not known here yet".into()),
                Err(Unproven::NoClaim) => return Attempt::Claim(leadership),
            }
        }
        // What is being carried out stays the newest roster in the log: followers check membership by that.
        let _unchanged = match batch {
            Some(Admitted { has_roster: true, .. }) => match self.changes.keep_still(CARRIED_OUT_LIMIT).await {
                Some(still) => Some(still),
                None => return Attempt::Busy("an earlier change of members is being carried out".into()),
            },
            _ => None,
        };
        self.sequence_entry(&entry).await
    }

    /// Has any entry sequenced by this node, if it leads.
    pub(crate) async fn sequence_entry(&self, entry: &Entry) -> Attempt {
        match self.raft.client_write(Payload(entry.encode().into())).await {
            Ok(written) => Attempt::Done(written.data.0),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to))) => {
                Attempt::NotLeader(to.leader_id.map(NodeId))
            }
            Err(RaftError::APIError(ClientWriteError::LogEntryDiscarded(_))) => {
                Attempt::Unknown("leadership was lost".into())
            }
            // Neither can happen to a plain write.
            Err(RaftError::APIError(
                e @ (ClientWriteError::ChangeMembershipError(_) | ClientWriteError::PreconditionFailed(_)),
            )) => Attempt::Refused(e.to_string()),
            Err(RaftError::Fatal(e)) => Attempt::Unknown(e.to_string()),
        }
    }

    /// Has something of this node's sequenced by another; signs a claim where that is asked for.
    async fn forward(&self, leader: NodeId, what: &Proposal, limit: Duration) -> Attempt {
        match self.forward_with(leader, what, Bytes::new(), limit).await {
            Attempt::Claim(to) => match self.shared.keys() {
                Some(keys) if to.node_id == leader.0 => {
                    let claim = keys.claim(&self.origins.claim(to, self.shared.sequences.session()));
                    match self.forward_with(leader, what, Bytes::copy_from_slice(&claim), limit).await {
                        Attempt::Claim(_) => Attempt::Busy(format!("node {leader} does not take this node's claim")),
                        attempt => attempt,
                    }
                }
                Some(_) => Attempt::Busy(format!("node {leader} asks for a claim under another's leadership")),
                None => Attempt::Refused("this node was sealed".into()),
            },
            attempt => attempt,
        }
    }

    async fn forward_with(&self, leader: NodeId, what: &Proposal, claim: Bytes, limit: Duration) -> Attempt {
        let Some(link) = self.links.to_member(&self.shared.members, leader) else {
            return Attempt::Busy(format!("the leader, node {leader}, is no known member"));
        };
        let mut client = link.log();
        match bounded(limit, client.propose(forward::proposal_out(what, claim))).await {
            Ok(response) => forward::attempt_in(response, leader),
            Err(RpcFailure::Busy) => Attempt::Busy(format!("node {leader} is overloaded")),
            // It refuses us, not the batch: another leader, or the same one a little later, may not.
            Err(e @ (RpcFailure::Refused(_) | RpcFailure::NotPinned | RpcFailure::Closed(_))) => {
                Attempt::Busy(format!("node {leader}: {e}"))
            }
            Err(e) => Attempt::Unknown(format!("node {leader}: {e}")),
        }
    }

    /// See [`crate::Replica::propose`].
    pub(crate) async fn propose(&self, batch: Bytes, deadline: Instant) -> Result<Outcome, ProposeError> {
        if let Some(problem) = self.shared.problem() {
            return Err(ProposeError::NotAccepted(problem.to_string()));
        }
        let keys = self.shared.keys().ok_or_else(|| ProposeError::NotAccepted("this node is sealed".into()))?;
        let Admitted { id, .. } = self.admit(&batch, self.me, Some(&*keys)).map_err(ProposeError::NotAccepted)?;
        let Some(mut told) = self.shared.sequences.outcome(&id) else {
            return Err(ProposeError::NotAccepted(format!("the batch id {id} is not in use")));
        };
        self.open_session(deadline).await?;
        let met = async move {
            match told.wait_for(Option::is_some).await.map(|outcome| outcome.clone()) {
                Ok(Some(outcome)) => outcome,
                // The id was given up: nobody waits.
                _ => std::future::pending().await,
            }
        };
        match self.submit(&Proposal::Batch(batch), deadline, met).await? {
            (Outcome::Fenced, attempts) if attempts > 1 => {
                Err(ProposeError::Unknown("this node's session ended while the change was under way".into()))
            }
            (outcome, _) => Ok(outcome),
        }
    }

    /// Sees to it that this start has a session, before its first batch.
    ///
    /// # Errors
    /// When the node is sealed, another start or process of it has a session, or no leader took it in time.
    async fn open_session(&self, deadline: Instant) -> Result<(), ProposeError> {
        let mine = self.shared.sequences.session();
        if self.shared.session_of(self.me) == Some(mine) {
            return Ok(());
        }
        let late = || ProposeError::NotAccepted("the deadline passed before this node's session had begun".into());
        let _one = timeout_at(deadline, self.opening.lock()).await.map_err(|_| late())?;
        let mut sessions = self.shared.sessions();
        let known = |now: &Option<Session>| now.is_some_and(|now| now.boot >= mine.boot);
        if !known(&self.shared.session_of(self.me)) {
            let Some(keys) = self.shared.keys() else {
                return Err(ProposeError::NotAccepted("this node is sealed".into()));
            };
            let open = Proposal::Open(keys.open(mine).encode().into());
            let begun = async {
                if sessions.wait_for(|all| known(&all.get(&self.me).copied())).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            // Nothing of the batch was sent yet: whatever became of this, the batch was not applied.
            let begun = self.submit(&open, deadline, begun).await;
            begun.map_err(|e| match e {
                ProposeError::Unknown(why) => ProposeError::NotAccepted(why),
                e => e,
            })?;
        }
        match self.shared.session_of(self.me) {
            Some(now) if now == mine => Ok(()),
            _ => Err(ProposeError::NotAccepted("another start of this node has begun a session".into())),
        }
    }

    /// Sends it to whoever leads until this node has `met` it in the log. Returns what it met, and how often it was sent.
    async fn submit<T>(
        &self,
        what: &Proposal,
        deadline: Instant,
        met: impl Future<Output = T>,
    ) -> Result<(T, u32), ProposeError> {
        tokio::pin!(met);
        // Whether some attempt may have put it into the log; and whether another node was given it, which may do so yet.
        let (mut maybe, mut given) = (false, false);
        // Set while the last attempt failed for want of disk space.
        let mut short = None;
        let mut reason = "no leader is known".to_owned();
        let (mut pause, mut arrival) = (PAUSE_MIN, ARRIVAL_LIMIT);
        let mut attempts = 0;
        loop {
            let now = Instant::now();
            if now >= deadline {
                break;
            }
            if let Some(problem) = self.shared.problem() {
                reason = problem.to_string();
                break;
            }
            let Some(leader) = self.leader.now() else {
                tokio::select! {
                    biased;
                    met = &mut met => return Ok((met, attempts)),
                    () = self.leader.other_than(None, deadline - now) => {}
                }
                continue;
            };
            let here = leader == self.me;
            // What the leader would say as well; before it is given anything, it is certain.
            if !here
                && !maybe
                && !given
                && let Some(why) = self.space.shortage_of_all()
            {
                return Err(ProposeError::NoSpace(why));
            }
            attempts += 1;
            let attempt = async {
                if here {
                    self.sequence(what, self.me, None).await
                } else {
                    self.forward(leader, what, deadline - now).await
                }
            };
            let mut watch = self.leader.watch();
            let attempt = tokio::select! {
                biased;
                met = &mut met => return Ok((met, attempts)),
                attempt = attempt => attempt,
                // A leader that is dead or deposed is not waited for: the next one decides it.
                Ok(_) = watch.wait_for(|now| *now != Some(leader) && now.is_some()) => {
                    Attempt::Unknown("the leader changed".into())
                }
                () = tokio::time::sleep_until(deadline) => Attempt::Unknown("the deadline passed".into()),
            };
            if !matches!(attempt, Attempt::NoSpace(_)) {
                short = None;
            }
            maybe |= matches!(attempt, Attempt::Done(_) | Attempt::Sequenced | Attempt::Unknown(_));
            given |= !here;
            let mut wait = pause;
            match attempt {
                Attempt::Done(_) | Attempt::Sequenced => {
                    reason = format!("node {leader} says that it is in the log, where it has not been met here");
                    wait = arrival;
                    arrival *= 2;
                }
                Attempt::Refused(why) if maybe || given => return Err(ProposeError::Unknown(why)),
                Attempt::Refused(why) => return Err(ProposeError::NotAccepted(why)),
                Attempt::NotLeader(_) => reason = format!("node {leader} does not lead, or has lost its majority"),
                Attempt::Busy(why) => reason = why,
                Attempt::Claim(_) => reason = "this node, which leads, is sealed".into(),
                // Nobody is about to take over who has space: that is the answer.
                Attempt::NoSpace(Short { why, moving: false }) if !maybe => {
                    return Err(if given { ProposeError::Unknown(why) } else { ProposeError::NoSpace(why) });
                }
                Attempt::NoSpace(Short { why, .. }) => {
                    reason.clone_from(&why);
                    short = Some(why);
                }
                Attempt::Unknown(why) => reason = why,
            }
            // Our own watch tells of a new leader; what the asked one believes is not followed.
            let wait = wait.min(deadline.saturating_duration_since(Instant::now()));
            tokio::select! {
                biased;
                met = &mut met => return Ok((met, attempts)),
                () = self.leader.other_than(Some(leader), wait) => {}
            }
            pause = PAUSE_MAX.min(pause * 2);
        }
        Err(match short {
            _ if maybe || given => ProposeError::Unknown(reason),
            Some(why) => ProposeError::NoSpace(why),
            None if self.shared.problem().is_some() => ProposeError::NotAccepted(reason),
            None => ProposeError::NotAccepted(format!("the deadline passed: {reason}")),
        })
    }
}
