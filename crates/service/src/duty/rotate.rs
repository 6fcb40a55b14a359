//! Rotating keys that are due.

use std::time::Duration;

use futures::FutureExt;
use quorate_core::decide::Refusal;
use quorate_core::decide::rotate::{Rotated, decide_due};
use quorate_core::record::{Due, Duty};

use super::{Duties, Row};
use crate::error::Error;

pub(super) const ROW: Row = Row {
    duty: Duty::Rotate,
    period: Duration::from_secs(60),
    done: "rotated keys that were due",
    work: |duties| duties.rotate_due().boxed(),
};

impl Duties {
    /// Rotates the keys that are due, if this node has or gets the lease; the answer is how many have a fresh version.
    async fn rotate_due(&self) -> Result<usize, Error> {
        let mut done = 0;
        let rotation = |what| if let Due::Rotation(key) = what { Some(key) } else { None };
        for (hour, key) in self.due(rotation).await? {
            if !self.claim(Duty::Rotate).await? {
                break;
            }
            match self.change(|facts| decide_due(facts, hour, key, self.time()?)).await {
                Ok(rotated) => done += usize::from(rotated == Rotated::Yes),
                Err(Error::Refused(Refusal::NotDue { .. })) => {}
                Err(e) => self.passed_over(Duty::Rotate, key, e)?,
            }
        }
        Ok(done)
    }
}
