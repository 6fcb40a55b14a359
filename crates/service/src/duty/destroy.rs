//! Destroying keys that are due.

use std::ops::Bound;
use std::time::Duration;

use futures::FutureExt;
use quorate_core::decide::{Refusal, destroy};
use quorate_core::id::KeyId;
use quorate_core::record::{Due, DueRecord, Duty, Record};
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::time::HOUR_MS;
use tokio::time::Instant;

use super::{Duties, Row, STEP_DEADLINE};
use crate::error::Error;
use crate::records::facts::unreadable;

pub(super) const ROW: Row = Row {
    duty: Duty::Destroy,
    period: Duration::from_secs(10),
    done: "destroyed keys that were due",
    work: |duties| duties.destroy_due().boxed(),
};

/// Keys that are due taken on at a time; a chunk more at most. Those left over are found the next time.
const DUE_MAX: usize = 1024;
/// Records looked at in one go.
const CHUNK: usize = 128;

impl Duties {
    /// Destroys the keys that are due, if this node has or gets the lease; the answer is how many have gone.
    async fn destroy_due(&self) -> Result<usize, Error> {
        let mut destroyed = 0;
        for (hour, key) in self.due_keys().await? {
            // Asked again for each key: the lease is renewed while the work goes on.
            if !self.claim(Duty::Destroy).await? {
                break;
            }
            destroyed += usize::from(self.destroy(hour, key).await?);
        }
        Ok(destroyed)
    }

    /// Keys that are due: hours that have not come are not read.
    async fn due_keys(&self) -> Result<Vec<(u32, KeyId)>, Error> {
        let view = self.records.fresh_view(Instant::now() + STEP_DEADLINE).await?;
        let now = self.time()?;
        let mut due = Vec::new();
        let mut last: Option<RecordKey> = None;
        loop {
            let from = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let rows = view.scan(Table::Due, from, CHUNK).map_err(unreadable)?;
            let come = |key: &RecordKey| {
                DueRecord::hour_of(key.prefix()).is_some_and(|hour| now.is_due(u64::from(hour) * HOUR_MS))
            };
            let more = rows.last().is_some_and(|(key, _, _)| come(key)) && rows.len() == CHUNK;
            let keyring = self.records.barrier.keyring()?;
            for (key, _, value) in rows.into_iter().take_while(|(key, _, _)| come(key)) {
                if let Record::Due(DueRecord { what: Due::Deletion(id), at_ms }) =
                    self.records.barrier.record(&keyring, &key, None, &value)?
                    && now.is_due(at_ms)
                {
                    due.push((DueRecord::hour(at_ms), id));
                }
                last = Some(key);
            }
            drop(keyring);
            if !more || due.len() >= DUE_MAX {
                return Ok(due);
            }
            // Uses must not wait behind a long list of schedules.
            tokio::task::yield_now().await;
        }
    }

    /// Destroys one key, step by step; whether it is gone now.
    async fn destroy(&self, hour: u32, key: KeyId) -> Result<bool, Error> {
        loop {
            match self.change(|facts| destroy::decide(facts, hour, key, self.time()?)).await {
                Ok(destroy::Progress::More) => {}
                Ok(destroy::Progress::Done) => return Ok(true),
                Err(Error::Refused(Refusal::NotDue { .. })) => return Ok(false),
                Err(e) => return Err(e),
            }
        }
    }
}
