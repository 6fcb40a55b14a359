//! Proposals (key-log §1.5): the same bytes to whoever leads, until there is an outcome or the deadline has passed.

use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{ClientWriteError, RaftError};
use quorate_core::batch::{Batch, ENTRY_LEN_MAX, Entry, Outcome};
use quorate_core::id::NodeId;
use quorate_core::seeded;
use tokio::time::Instant;

use crate::error::ProposeError;
use crate::node::Node;
use crate::peer::{RpcFailure, bounded, convert, pb};
use crate::raft::Payload;
use crate::space::Short;
use crate::state::{Engine as _, get_value};

/// First pause before the same leader is tried again; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(5);
/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What became of one attempt to have an entry sequenced.
#[derive(Debug)]
pub(crate) enum Attempt {
    /// It has been applied, with this outcome.
    Done(Outcome),
    /// Not the leader; certainly not appended by this attempt.
    NotLeader(Option<NodeId>),
    /// It may have been appended.
    Unknown(String),
    /// Refused; will not be accepted however often it is sent.
    Refused(String),
    /// Not now; certainly not appended by this attempt.
    Busy(String),
    /// Too few disks have room for it; certainly not appended by this attempt.
    NoSpace(Short),
}

/// What must hold of a batch before this node proposes it, whoever brings it.
fn admissible(node: &Node, batch: &[u8], from: NodeId) -> Result<(), String> {
    if batch.len() >= ENTRY_LEN_MAX {
        return Err(format!("the batch has {} bytes, at most {} are allowed", batch.len(), ENTRY_LEN_MAX - 1));
    }
    let (decoded, _) = Batch::decode(batch).map_err(|e| format!("the batch breaks its format: {e}"))?;
    if decoded.cluster != node.cluster || decoded.group != node.group {
        return Err("the batch is of another cluster or group".into());
    }
    if decoded.id.origin != from {
        return Err(format!("node {from} brought a batch of node {}", decoded.id.origin));
    }
    // A forged batch gets into the log only through a hostile sealed leader (key-hierarchy §2).
    let Some(verifier) = node.shared.verifier() else { return Ok(()) };
    match verifier.verify(batch, &|key| {
        let view = node.files.view()?;
        get_value(&*view, key)
    }) {
        Ok(true) => Ok(()),
        Ok(false) => {
            tracing::error!(%from, id = %decoded.id, "a forged batch was refused before it was proposed");
            Err("the batch is forged: its MAC does not hold".into())
        }
        Err(e) => Err(format!("the leader's state can't be read: {e}")),
    }
}

impl Node {
    /// Has a batch sequenced by this node, if it leads. `from` is the node that brought it.
    pub(crate) async fn sequence(&self, batch: &Bytes, from: NodeId) -> Attempt {
        if let Err(why) = admissible(self, batch, from) {
            return Attempt::Refused(why);
        }
        if let Some(problem) = self.shared.problem() {
            return Attempt::Busy(problem.to_string());
        }
        if self.leads()
            && let Some(short) = self.short_of_space()
        {
            return Attempt::NoSpace(short);
        }
        // With the seeded bug that accepts any MAC there is a leader that forges.
        self.sequence_entry(&Entry::Batch(seeded::forged(batch.to_vec()))).await
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

    /// Has a batch of this node sequenced by another.
    async fn forward(&self, leader: NodeId, batch: &Bytes, limit: Duration) -> Attempt {
        let Some(link) = self.link(leader) else {
            return Attempt::Busy(format!("the leader, node {leader}, is no known member"));
        };
        let mut client = link.log();
        use pb::propose_response::Result as R;
        match bounded(limit, client.propose(pb::ProposeRequest { batch: batch.clone() })).await {
            Ok(response) => match response.result {
                Some(R::Outcome(bytes)) => match convert::outcome_in(&bytes) {
                    Ok(outcome) => Attempt::Done(outcome),
                    Err(e) => Attempt::Unknown(e.to_string()),
                },
                Some(R::NotLeader(id)) => Attempt::NotLeader(Some(NodeId(id)).filter(|id| id.0 != 0)),
                Some(R::Unknown(_)) => Attempt::Unknown("the leader lost its leadership".into()),
                Some(R::Refused(why)) => Attempt::Refused(why),
                Some(R::NoSpace(short)) => Attempt::NoSpace(Short { why: short.why, moving: short.moving }),
                None => Attempt::Unknown(format!("node {leader} answered nothing")),
            },
            Err(RpcFailure::Busy) => Attempt::Busy(format!("node {leader} is overloaded")),
            // It refuses us, not the batch: another leader, or the same one a little later, may not.
            Err(e @ (RpcFailure::Refused(_) | RpcFailure::NotPinned)) => Attempt::Busy(format!("node {leader}: {e}")),
            Err(e) => Attempt::Unknown(format!("node {leader}: {e}")),
        }
    }

    /// See [`crate::Replica::propose`].
    pub(crate) async fn propose(&self, batch: Bytes, deadline: Instant) -> Result<Outcome, ProposeError> {
        if let Some(problem) = self.shared.problem() {
            return Err(ProposeError::NotAccepted(problem.to_string()));
        }
        admissible(self, &batch, self.me).map_err(ProposeError::NotAccepted)?;
        // Whether any attempt may have put it into the log.
        let mut maybe = None;
        // Set while the last attempt failed for want of disk space.
        let mut short = None;
        let mut reason = "no leader is known".to_owned();
        let mut pause = PAUSE_MIN;
        loop {
            let now = Instant::now();
            if now >= deadline {
                break;
            }
            if let Some(problem) = self.shared.problem() {
                reason = problem.to_string();
                break;
            }
            let Some(leader) = self.leader_now() else {
                self.other_leader(None, deadline - now).await;
                continue;
            };
            let attempt = async {
                if leader == self.me {
                    self.sequence(&batch, self.me).await
                } else {
                    self.forward(leader, &batch, deadline - now).await
                }
            };
            let mut watch = self.leader.clone();
            let attempt = tokio::select! {
                biased;
                attempt = attempt => attempt,
                // A leader that is dead or deposed is not waited for: the next one knows the outcome, or decides it.
                Ok(_) = watch.wait_for(|now| *now != Some(leader) && now.is_some()) => {
                    Attempt::Unknown("the leader changed".into())
                }
                () = tokio::time::sleep_until(deadline) => Attempt::Unknown("the deadline passed".into()),
            };
            if !matches!(attempt, Attempt::NoSpace(_)) {
                short = None;
            }
            match attempt {
                Attempt::Done(outcome) => {
                    self.await_own_apply(&outcome, deadline).await;
                    return Ok(outcome);
                }
                Attempt::Refused(why) => {
                    return Err(match maybe {
                        None => ProposeError::NotAccepted(why),
                        // An earlier attempt may have got in all the same.
                        Some(_) => ProposeError::Unknown(why),
                    });
                }
                Attempt::NotLeader(_) => reason = format!("node {leader} does not lead, or has lost its majority"),
                Attempt::Busy(why) => reason = why,
                // Nobody is about to take over who has space: that is the answer.
                Attempt::NoSpace(Short { why, moving: false }) if maybe.is_none() => {
                    return Err(ProposeError::NoSpace(why));
                }
                Attempt::NoSpace(now) => short = Some(now.why),
                Attempt::Unknown(why) => maybe = Some(why),
            }
            // Our own watch tells of a new leader; what the asked one believes is not followed.
            self.other_leader(Some(leader), pause.min(deadline.saturating_duration_since(Instant::now()))).await;
            pause = PAUSE_MAX.min(pause * 2);
        }
        Err(match maybe {
            Some(why) => ProposeError::Unknown(why),
            None if short.is_some() => ProposeError::NoSpace(short.unwrap_or_default()),
            None if self.shared.problem().is_some() => ProposeError::NotAccepted(reason),
            None => ProposeError::NotAccepted(format!("the deadline passed: {reason}")),
        })
    }

    /// So that the caller's next view shows what the outcome speaks of.
    async fn await_own_apply(&self, outcome: &Outcome, deadline: Instant) {
        let (Outcome::Applied(index) | Outcome::Conflict { index, .. }) = outcome else { return };
        let mut applied = self.shared.applied();
        let _ = tokio::time::timeout_at(deadline, applied.wait_for(|now| now >= index)).await;
    }
}
