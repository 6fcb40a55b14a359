//! Forgetting old answers to client tokens.

use std::ops::Bound;
use std::time::Duration;

use futures::FutureExt;
use quorate_core::decide::sweep;
use quorate_core::principal::Principal;
use quorate_core::record::{Duty, Record};
use quorate_core::record_key::Table;
use quorate_core::request::Token;
use quorate_core::time::DutyTime;
use tokio::time::Instant;

use super::{Duties, Row, STEP_DEADLINE};
use crate::error::Error;
use crate::records::facts::unreadable;

pub(super) const ROW: Row = Row {
    duty: Duty::Sweep,
    period: Duration::from_secs(60 * 60),
    done: "forgot old answers to client tokens",
    work: |duties| duties.sweep_answers().boxed(),
};

impl Duties {
    /// Removes answers that are old, the oldest first, if this node has or gets the lease; the answer is how many have gone.
    async fn sweep_answers(&self) -> Result<usize, Error> {
        let now = self.time()?;
        let mut swept = 0;
        loop {
            let old = self.old_answers(now).await?;
            // Asked again each time: the lease is renewed while the work goes on.
            if old.is_empty() || !self.claim(Duty::Sweep).await? {
                return Ok(swept);
            }
            match self.change(|facts| sweep::decide(facts, &old, now)).await? {
                0 => return Ok(swept),
                n => swept += n,
            }
            tokio::task::yield_now().await;
        }
    }

    /// The tokens of the oldest answers, as far as they are old.
    async fn old_answers(&self, now: DutyTime) -> Result<Vec<(Principal, Token)>, Error> {
        let view = self.records.fresh_view(Instant::now() + STEP_DEADLINE).await?;
        let keyring = self.records.barrier.keyring()?;
        let rows = view.scan(Table::Idempotency, Bound::Unbounded, sweep::RECORDS_MAX).map_err(unreadable)?;
        let mut old = Vec::new();
        for (key, _, value) in rows {
            match self.records.barrier.record(&keyring, &key, None, &value)? {
                Record::Idempotency(record) if sweep::is_old(record.token, now) => {
                    old.push((record.principal, record.token));
                }
                _ => break,
            }
        }
        Ok(old)
    }
}
