//! Work that the cluster owes without being asked, a file for each duty and one table of them.
//!
//! One unsealed node at a time holds the lease of a duty, so that the work is not done twice; that it is *right* rests
//! on each step being a change with expectations like any other (key-log §2). Late is safe: a key that waits for its
//! destruction refuses use anyway. Whether something is due is decided by duty time, which no clock alone moves (trust.md §6).

mod destroy;
mod due;
mod expire;
mod raise_level;
mod rotate;
mod sweep;

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::future::BoxFuture;
use quorate_core::decide::{Change, claim};
use quorate_core::id::KeyId;
use quorate_core::record::Duty;
use quorate_core::time::DutyTime;
use quorate_replica::{DUTY_WAIT, Role};
use tokio::time::Instant;

use crate::error::Error;
use crate::records::{EngineFacts, Records, Secrets};

/// How long cluster time must have stood in a cluster marked for development.
const DEV_WAIT: Duration = Duration::from_secs(2);
/// How many times as often such a cluster looks after its duties.
const DEV_HASTE: u32 = 5;
/// How much later a node looks that does not lead: the leader claims first, if it is unsealed.
const FOLLOWER_LAG: Duration = Duration::from_secs(5);
/// How often it is looked whether it is time, at least; and how soon it is tried again after a failure, at the latest.
const LOOK_PERIOD: Duration = Duration::from_secs(10);
/// What one step of a duty may take.
const STEP_DEADLINE: Duration = Duration::from_secs(10);

/// One duty.
struct Row {
    /// Whose lease it takes.
    duty: Duty,
    /// How often it is looked at.
    period: Duration,
    /// What it has done, with how many of them, completing "… of them".
    done: &'static str,
    /// Does what is due; the answer is how many.
    work: for<'a> fn(&'a Duties) -> BoxFuture<'a, Result<usize, Error>>,
}

/// All duties.
const DUTIES: &[Row] = &[destroy::ROW, rotate::ROW, expire::ROW, sweep::ROW, raise_level::ROW];

/// Looks after the duties of one desk.
pub struct Duties {
    records: Arc<Records>,
}

impl Duties {
    pub fn new(records: Arc<Records>) -> Self {
        Self { records }
    }

    /// Starts looking after them, until the records close or nobody holds on to these.
    pub fn start(self: &Arc<Self>) {
        for row in DUTIES {
            tokio::spawn(run(Arc::downgrade(self), row));
        }
    }

    /// What may be destroyed by now.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: nothing may, and why.
    pub fn time(&self) -> Result<DutyTime, Error> {
        let wait = if self.records.dev { DEV_WAIT } else { DUTY_WAIT };
        self.records.replica.duty_time(wait).map_err(|why| Error::Unavailable(why.to_string()))
    }

    /// Does what is due of one duty, now; the answer is how many.
    #[cfg(test)]
    pub async fn look_after(&self, duty: Duty) -> Result<usize, Error> {
        let row = DUTIES.iter().find(|row| row.duty == duty).expect("every duty has a row");
        (row.work)(self).await
    }

    /// What is wrong with one key's records must not keep the others': it is told, and looked at again the next time.
    ///
    /// # Errors
    /// The error, when it concerns all keys.
    fn passed_over(&self, duty: Duty, key: KeyId, e: Error) -> Result<(), Error> {
        match e {
            Error::Damaged(_) | Error::Newer(_) | Error::Refused(_) | Error::Internal(_) | Error::Contended { .. } => {
                tracing::warn!(duty = duty.as_str(), %key, "passed over: {e}");
                Ok(())
            }
            e => Err(e),
        }
    }

    /// Claims or renews the lease of a duty for this start of this node.
    async fn claim(&self, duty: Duty) -> Result<bool, Error> {
        let me = self.records.replica.status();
        self.change(|facts| claim::decide(facts, duty, me.id, me.boot)).await
    }

    async fn change<A>(&self, decide: impl Fn(&mut EngineFacts<'_>) -> Result<Change<A>, Error>) -> Result<A, Error> {
        let deadline = Instant::now() + STEP_DEADLINE;
        Ok(self.records.change(deadline, Secrets::default(), decide).await?.answer)
    }
}

async fn run(duties: Weak<Duties>, row: &'static Row) {
    let mut pause = Duration::ZERO;
    loop {
        let Some(now) = duties.upgrade() else { return };
        if now.records.check_open().is_err() {
            return;
        }
        let lag = if now.records.replica.status().role == Role::Leader { Duration::ZERO } else { FOLLOWER_LAG };
        let period = if now.records.dev { row.period / DEV_HASTE } else { row.period };
        drop(now);
        // In short steps: whoever has closed is not kept, and who leads now goes first.
        let step = period.min(LOOK_PERIOD);
        tokio::time::sleep(lag + step).await;
        pause = pause.saturating_sub(step);
        if !pause.is_zero() {
            continue;
        }
        let Some(now) = duties.upgrade() else { return };
        pause = match (row.work)(&now).await {
            Ok(0) => period,
            Ok(n) => {
                tracing::info!(n, "{}", row.done);
                period
            }
            Err(e) => {
                tracing::debug!(duty = ?row.duty, reason = e.reason().as_str(), "will be done later");
                Duration::ZERO
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_duty_is_looked_after() {
        for duty in Duty::ALL {
            assert_eq!(DUTIES.iter().filter(|row| row.duty == *duty).count(), 1, "{duty:?}");
        }
        assert_eq!(DUTIES.len(), Duty::ALL.len());
    }
}
