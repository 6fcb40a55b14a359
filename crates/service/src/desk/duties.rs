//! Work that the cluster owes without being asked: destroying keys that are due, forgetting old answers to tokens.
//!
//! One unsealed node at a time holds the lease of a duty, so that the work is not done twice; that it is *right* rests
//! on each step being a change with expectations like any other (key-log §2). Late is safe: a key that waits for its
//! destruction refuses use anyway. Whether something is due is decided by duty time, which no clock alone moves (trust.md §6).

use std::ops::Bound;
use std::sync::{Arc, Weak};
use std::time::Duration;

use quorate_core::decide::{Refusal, claim, destroy, sweep};
use quorate_core::id::KeyId;
use quorate_core::record::{Due, DueRecord, Duty, Record, RecordName};
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::time::{DutyTime, HOUR_MS};
use quorate_replica::{DUTY_WAIT, Role};
use tokio::time::Instant;

use super::Kms;
use crate::error::Error;
use crate::records::facts::unreadable;

/// How often duties are looked at.
const PERIOD: Duration = Duration::from_secs(10);
/// How often, and how long cluster time must have stood, in a cluster marked for development.
const DEV_PERIOD: Duration = Duration::from_secs(2);
const DEV_WAIT: Duration = Duration::from_secs(2);
/// How much later a node looks that does not lead: the leader claims first, if it is unsealed.
const FOLLOWER_LAG: Duration = Duration::from_secs(5);
/// How often old answers are swept.
const SWEEP_PERIOD: Duration = Duration::from_secs(60 * 60);
/// What one step of a duty may take.
const STEP_DEADLINE: Duration = Duration::from_secs(10);
/// Keys that are due taken on at a time; a chunk more at most. Those left over are found the next time.
const DUE_MAX: usize = 1024;
/// Records looked at in one go.
const CHUNK: usize = 128;

/// Starts looking after the duties until the desk closes.
pub fn start(kms: &Arc<Kms>) {
    let kms = Arc::downgrade(kms);
    tokio::spawn(run(kms));
}

async fn run(kms: Weak<Kms>) {
    let mut next_sweep = Instant::now();
    loop {
        let pause = match kms.upgrade() {
            Some(kms) => {
                let lag = if kms.records.replica.status().role == Role::Leader { Duration::ZERO } else { FOLLOWER_LAG };
                lag + if kms.dev { DEV_PERIOD } else { PERIOD }
            }
            None => return,
        };
        tokio::time::sleep(pause).await;
        let Some(kms) = kms.upgrade() else { return };
        if kms.records.check_open().is_err() {
            return;
        }
        match kms.destroy_due().await {
            Ok(0) => {}
            Ok(destroyed) => tracing::info!(destroyed, "destroyed keys that were due"),
            Err(e) => tracing::debug!(reason = e.reason().as_str(), "keys that are due will be destroyed later"),
        }
        if Instant::now() >= next_sweep {
            match kms.sweep_answers().await {
                Ok(swept) => {
                    next_sweep = Instant::now() + SWEEP_PERIOD;
                    if swept > 0 {
                        tracing::info!(swept, "forgot old answers to client tokens");
                    }
                }
                Err(e) => tracing::debug!(reason = e.reason().as_str(), "old answers will be swept later"),
            }
        }
    }
}

impl Kms {
    /// What may be destroyed by now.
    ///
    /// # Errors
    /// [`Error::Unavailable`]: nothing may, and why.
    pub(super) fn duty_time(&self) -> Result<DutyTime, Error> {
        let wait = if self.dev { DEV_WAIT } else { DUTY_WAIT };
        self.records.replica.duty_time(wait).map_err(|why| Error::Unavailable(why.to_string()))
    }

    /// Destroys the keys that are due, if this node has or gets the lease; the answer is how many have gone.
    pub(super) async fn destroy_due(&self) -> Result<usize, Error> {
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
        let now = self.duty_time()?;
        let mut due = Vec::new();
        let mut last: Option<RecordKey> = None;
        loop {
            let rows = view.scan(Table::Due, from(&last), CHUNK).map_err(unreadable)?;
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
            let step = self
                .change(Instant::now() + STEP_DEADLINE, |facts, _| destroy::decide(facts, hour, key, self.duty_time()?))
                .await;
            match step {
                Ok(destroy::Progress::More) => {}
                Ok(destroy::Progress::Done) => return Ok(true),
                Err(Error::Refused(Refusal::NotDue { .. })) => return Ok(false),
                Err(e) => return Err(e),
            }
        }
    }

    /// Removes answers that are old, the oldest first, if this node has or gets the lease; the answer is how many have gone.
    pub(super) async fn sweep_answers(&self) -> Result<usize, Error> {
        let now = self.duty_time()?;
        let mut swept = 0;
        loop {
            let old = self.old_answers(now).await?;
            // Asked again each time: the lease is renewed while the work goes on.
            if old.is_empty() || !self.claim(Duty::Sweep).await? {
                return Ok(swept);
            }
            let deadline = Instant::now() + STEP_DEADLINE;
            match self.change(deadline, |facts, _| sweep::decide(facts, &old, now)).await? {
                0 => return Ok(swept),
                n => swept += n,
            }
            tokio::task::yield_now().await;
        }
    }

    /// The oldest answers, as far as they are old.
    async fn old_answers(&self, now: DutyTime) -> Result<Vec<RecordName>, Error> {
        let view = self.records.fresh_view(Instant::now() + STEP_DEADLINE).await?;
        let keyring = self.records.barrier.keyring()?;
        let rows = view.scan(Table::Idempotency, Bound::Unbounded, sweep::RECORDS_MAX).map_err(unreadable)?;
        let mut old = Vec::new();
        for (key, _, value) in rows {
            match self.records.barrier.record(&keyring, &key, None, &value)? {
                Record::Idempotency(record) if sweep::is_old(record.token, now) => {
                    old.push(RecordName::Idempotency((record.principal, record.token)));
                }
                _ => break,
            }
        }
        Ok(old)
    }

    /// Claims or renews the lease of a duty for this start of this node.
    async fn claim(&self, duty: Duty) -> Result<bool, Error> {
        let me = self.records.replica.status();
        self.change(Instant::now() + STEP_DEADLINE, |facts, time| claim::decide(facts, duty, me.id, me.boot, time))
            .await
    }
}

fn from(last: &Option<RecordKey>) -> Bound<&RecordKey> {
    last.as_ref().map_or(Bound::Unbounded, Bound::Excluded)
}
