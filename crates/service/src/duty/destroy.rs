//! Destroying keys that are due.

use std::time::Duration;

use futures::FutureExt;
use quorate_core::decide::{Refusal, destroy};
use quorate_core::id::KeyId;
use quorate_core::record::{Due, Duty};

use super::{Duties, Row};
use crate::error::Error;
use crate::records::EngineFacts;

pub(super) const ROW: Row = Row {
    duty: Duty::Destroy,
    period: Duration::from_secs(10),
    done: "destroyed keys that were due",
    work: |duties| duties.destroy_due().boxed(),
};

impl Duties {
    /// Destroys the keys that are due, if this node has or gets the lease; the answer is how many have gone.
    async fn destroy_due(&self) -> Result<usize, Error> {
        let mut destroyed = 0;
        let deletion = |what| if let Due::Deletion(key) = what { Some(key) } else { None };
        for (hour, key) in self.due(deletion).await? {
            // Asked again for each key: the lease is renewed while the work goes on.
            if !self.claim(Duty::Destroy).await? {
                break;
            }
            match self.destroy(hour, key).await {
                Ok(gone) => destroyed += usize::from(gone),
                Err(e) => self.passed_over(Duty::Destroy, key, e)?,
            }
        }
        Ok(destroyed)
    }

    /// Destroys one key, step by step; whether it is gone now.
    async fn destroy(&self, hour: u32, key: KeyId) -> Result<bool, Error> {
        loop {
            let step = |facts: &mut EngineFacts<'_>| {
                let nodes = facts.users(key)?;
                destroy::decide(facts, hour, key, &nodes, self.time()?)
            };
            match self.change(step).await {
                Ok(destroy::Progress::More) => {}
                Ok(destroy::Progress::Done) => return Ok(true),
                Err(Error::Refused(Refusal::NotDue { .. })) => return Ok(false),
                Err(e) => return Err(e),
            }
        }
    }
}
