//! Whether this node takes part in consensus: only while it is known to have all that it said (trust.md §2), and it leads only
//! while its clock is fit.

use std::sync::Arc;

use openraft::async_runtime::watch::WatchReceiver;
use tonic::Status;

use crate::clock::Clock;
use crate::error::{Problem, Rollback};
use crate::node::Base;
use crate::raft::promise::Promise;
use crate::raft::{LeaderId, Raft};
use crate::shared::Shared;
use crate::word::{Own, Standing};

/// One node's part.
pub(crate) struct Participation {
    own: Arc<Own>,
    promise: Arc<Promise>,
    clock: Arc<Clock>,
    raft: Raft,
    shared: Arc<Shared>,
}

impl Participation {
    pub(crate) fn of(base: &Base) -> Self {
        Self {
            own: base.own.clone(),
            promise: base.promise.clone(),
            clock: base.clock.clone(),
            raft: base.raft.clone(),
            shared: base.shared.clone(),
        }
    }

    /// Refuses what only a member may answer that is known to have all that it said, and whose consensus core runs.
    pub(crate) fn check(&self) -> Result<(), Status> {
        match self.own.standing() {
            Standing::TakesPart => {}
            Standing::Asking => {
                return Err(Status::failed_precondition(
                    "this node has just started, and first asks what is known of it",
                ));
            }
            Standing::Lost => return Err(Status::failed_precondition("this node has less than it had acknowledged")),
        }
        if self.raft.metrics().borrow_watched().running_state.is_err() {
            return Err(Status::failed_precondition("this node has stopped taking part; its status says why"));
        }
        Ok(())
    }

    /// The leadership that this node has promised to follow; who does not take part promises nothing.
    pub(crate) fn promised(&self) -> Option<LeaderId> {
        self.promise.now().filter(|_| self.own.standing() == Standing::TakesPart)
    }

    /// Whether this node may ask for votes.
    pub(crate) fn may_campaign(&self) -> bool {
        self.own.standing() == Standing::TakesPart && self.clock.may_lead()
    }

    /// The one place that says so to Raft.
    pub(crate) fn review_candidacy(&self) {
        self.raft.runtime_config().elect(self.may_campaign());
    }

    /// This node knows that it lacks nothing that it said; whether it takes part from now on.
    pub(crate) fn begin(&self) -> bool {
        let begins = self.own.take_part();
        if begins {
            self.review_candidacy();
            self.shared.note_change();
        }
        begins
    }

    /// This node was rolled back: it takes no further part, for others count on its answers.
    pub(crate) fn set_lost(&self, rollback: Rollback) {
        if self.own.set_lost() {
            self.review_candidacy();
            self.shared.set_problem(Problem::Lost(rollback));
        }
    }
}
