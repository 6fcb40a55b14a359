//! How many keys there are in each state, counted now and then by the leader: nobody has to be asked, and no change is slower
//! for it.

use std::ops::Bound;
use std::sync::{Arc, Weak};
use std::time::Duration;

use quorate_core::facts::Facts;
use quorate_core::lifecycle::KeyState;
use quorate_core::name::Class;
use quorate_core::record::{GCM_USES_DUE, KeyRecord, Record};
use quorate_core::record_key::{RecordKey, Table};
use quorate_replica::{Role, View};
use tokio::time::Instant;

use super::Kms;
use super::page::CHUNK;
use crate::error::Error;
use crate::records::facts::unreadable;

/// How often the keys are counted, at least by so much apart.
const PERIOD: Duration = Duration::from_secs(60);
/// Counting takes no more than one part in so many of one core's time.
const SHARE: u32 = 100;
/// How soon who does not lead, or could not count, looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long it may take until the view is fresh.
const FRESH_WITHIN: Duration = Duration::from_secs(10);

/// How many keys there are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stock {
    /// That may be used.
    pub enabled: u64,
    /// That may not.
    pub disabled: u64,
    /// That wait for their destruction.
    pub pending_deletion: u64,
    /// Versions that have come to where their keys are to be rotated: half of what they may encrypt by GCM is given out.
    pub gcm_due: u64,
    /// When they were counted, ms since 1970 by the cluster's time.
    pub counted_ms: u64,
}

impl Kms {
    /// The keys as they were counted last, while this node leads.
    pub fn stock(&self) -> Option<Stock> {
        // Who led when it counted may lead no more: then another tells.
        let leads = self.records.replica.status().role == Role::Leader;
        self.stock.load().as_deref().copied().filter(|_| leads && self.records.check_open().is_ok())
    }

    /// Counts the keys.
    ///
    /// # Errors
    /// [`Error::Unavailable`], [`Error::Sealed`], [`Error::Damaged`].
    pub(super) async fn count(&self) -> Result<Stock, Error> {
        let view = self.records.fresh_view(Instant::now() + FRESH_WITHIN).await?;
        let mut stock = Stock { counted_ms: self.records.replica.status().cluster_time_ms, ..Stock::default() };
        // Of all namespaces.
        self.each(&view, Table::Key, |record| {
            if let Record::Key(key) = record
                && key.class() == Class::Key
            {
                match key.state {
                    KeyState::Enabled => stock.enabled += 1,
                    KeyState::Disabled => stock.disabled += 1,
                    KeyState::PendingDeletion { .. } => stock.pending_deletion += 1,
                    KeyState::Destroyed => {}
                }
            }
            Ok(())
        })
        .await?;
        // Those whose current versions have come to half of their uses.
        self.each(&view, Table::Allowance, |record| {
            if let Record::Allowance(given) = record
                && given.gcm >= GCM_USES_DUE
            {
                let of = self.records.facts(&view)?.get::<KeyRecord>(given.key)?;
                stock.gcm_due += u64::from(of.is_some_and(|of| of.current == given.version));
            }
            Ok(())
        })
        .await?;
        Ok(stock)
    }

    /// Looks at each record of a table, in steps between which other requests get their turn.
    async fn each(
        &self,
        view: &View,
        table: Table,
        mut look: impl FnMut(Record) -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        let mut last: Option<RecordKey> = None;
        loop {
            let from = last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
            let rows = view.scan(table, from, CHUNK).map_err(unreadable)?;
            let keyring = self.records.barrier.keyring()?;
            for (key, _, value) in &rows {
                look(self.records.barrier.record(&keyring, key, None, value)?)?;
            }
            if rows.len() < CHUNK {
                return Ok(());
            }
            last = rows.into_iter().next_back().map(|(key, ..)| key);
            tokio::task::yield_now().await;
        }
    }

    /// Counts from time to time, until the desk closes or nobody holds on to it.
    pub(super) fn take_stock(self: &Arc<Self>) {
        tokio::spawn(keep(Arc::downgrade(self)));
    }
}

async fn keep(kms: Weak<Kms>) {
    loop {
        let pause = {
            let Some(kms) = kms.upgrade() else { return };
            if kms.records.check_open().is_err() {
                return;
            }
            let began = Instant::now();
            let leads = kms.records.replica.status().role == Role::Leader;
            let counted = if leads { kms.count().await.ok() } else { None };
            let pause = if counted.is_some() { PERIOD } else { LOOK_AGAIN }.max(began.elapsed() * SHARE);
            kms.stock.store(counted.map(Arc::new));
            pause
        };
        tokio::time::sleep(pause).await;
    }
}
