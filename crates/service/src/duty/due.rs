//! What has fallen due, found by its hour.

use std::ops::Bound;

use quorate_core::record::{Due, DueRecord, Record};
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::time::HOUR_MS;
use tokio::time::Instant;

use super::{Duties, STEP_DEADLINE};
use crate::error::Error;
use crate::records::facts::unreadable;

/// What is due and taken on at a time; a chunk more at most. What is left over is found the next time.
const DUE_MAX: usize = 1024;
/// Records looked at in one go.
const CHUNK: usize = 128;

impl Duties {
    /// What is due of a kind that `of` picks, each with the hour it is filed under: hours that have not come are not read.
    pub(super) async fn due<T>(&self, of: impl Fn(Due) -> Option<T>) -> Result<Vec<(u32, T)>, Error> {
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
                if let Record::Due(DueRecord { what, at_ms }) =
                    self.records.barrier.record(&keyring, &key, None, &value)?
                    && let Some(id) = of(what)
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
}
