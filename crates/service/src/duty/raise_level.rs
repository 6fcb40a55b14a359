//! Raising the feature level once every member speaks a higher one (key-log §6).

use std::time::Duration;

use futures::FutureExt;
use quorate_core::decide::Change;
use quorate_core::level::{Level, raised};
use quorate_core::record::Duty;
use quorate_replica::Roster;
use tokio::time::Instant;

use super::{Duties, Row, STEP_DEADLINE};
use crate::error::Error;
use crate::records::EngineFacts;

pub(super) const ROW: Row = Row {
    duty: Duty::RaiseLevel,
    period: Duration::from_secs(10),
    done: "raised the feature level: no older quorate can take part any more",
    work: |duties| duties.raise_level().boxed(),
};

/// Who has said nothing for longer may have been replaced by an older version since.
const SAID_WITHIN: Duration = Duration::from_secs(10);

impl Duties {
    /// Raises the level, if all members allow it and this node has or gets the lease; the answer is how often.
    async fn raise_level(&self) -> Result<usize, Error> {
        let status = self.records.replica.status();
        // Nearly always.
        if status.speaks <= status.level {
            return Ok(0);
        }
        let decide = |facts: &mut EngineFacts<'_>| {
            let mut writes = Vec::new();
            let answer = self.records.raise_level(facts, &mut writes, |now, roster| self.common(now, roster))?;
            Ok(Change { writes, answer })
        };
        let view = self.records.fresh_view(Instant::now() + STEP_DEADLINE).await?;
        let may_rise = decide(&mut self.records.facts(&view)?)?.answer.is_some();
        drop(view);
        if !may_rise || !self.claim(Duty::RaiseLevel).await? {
            return Ok(0);
        }
        Ok(usize::from(self.change(decide).await?.is_some()))
    }

    /// What all members speak, learners included, if it is above the level that is in force.
    fn common(&self, now: Level, roster: &Roster) -> Option<Level> {
        let status = self.records.replica.status();
        raised(now, roster.members.keys().map(|id| status.spoken(*id, SAID_WITHIN)))
    }
}
