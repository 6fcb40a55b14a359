//! Erasing imported material whose time is over.

use std::time::Duration;

use futures::FutureExt;
use quorate_core::decide::{Refusal, expire};
use quorate_core::record::{Due, Duty};

use super::{Duties, Row};
use crate::error::Error;

pub(super) const ROW: Row = Row {
    duty: Duty::Expire,
    period: Duration::from_secs(60),
    done: "erased imported material whose time is over",
    work: |duties| duties.expire_due().boxed(),
};

impl Duties {
    /// Erases the material that is due, if this node has or gets the lease; the answer is of how many versions.
    async fn expire_due(&self) -> Result<usize, Error> {
        let mut done = 0;
        let material = |what| if let Due::Material(key, version) = what { Some((key, version)) } else { None };
        for (hour, of) in self.due(material).await? {
            if !self.claim(Duty::Expire).await? {
                break;
            }
            match self.change(|facts| expire::decide(facts, hour, of, self.time()?)).await {
                Ok(erased) => done += usize::from(erased),
                Err(Error::Refused(Refusal::NotDue { .. })) => {}
                Err(e) => self.passed_over(Duty::Expire, of.0, e)?,
            }
        }
        Ok(done)
    }
}
