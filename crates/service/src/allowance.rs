//! What this node was given of the uses that versions have ([`quorate_core::decide::lease`]): spent in memory, asked for ahead
//! of need, and forgotten when the desk closes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_core::decide::Refusal;
use quorate_core::decide::lease::{self, Lease, Of};
use tokio::time::Instant;

use crate::error::Error;
use crate::records::{Records, Secrets};

/// Versions of which something is kept here, at most; 200 B each. Of one more, each use is asked for by itself.
const VERSIONS_MAX: usize = 1 << 18;
/// How long it may take to be given more while nobody waits for it.
const AHEAD_WITHIN: Duration = Duration::from_secs(10);

/// What this node was given.
pub struct Allowances {
    records: Arc<Records>,
    accounts: Mutex<HashMap<Of, Arc<Account>>>,
}

/// Of one version.
#[derive(Default)]
struct Account {
    lease: Mutex<Lease>,
    /// Held while more is asked for: one asks, for all who wait.
    asking: Arc<tokio::sync::Mutex<()>>,
}

impl Allowances {
    pub fn new(records: Arc<Records>) -> Arc<Self> {
        Arc::new(Self { records, accounts: Mutex::default() })
    }

    /// Forgets it all.
    pub fn close(&self) {
        locked(&self.accounts).clear();
    }

    /// Takes so many uses of a version. They are spent, whatever becomes of them.
    ///
    /// # Errors
    /// [`Refusal::Exhausted`]; where more has to be asked for, those of every change.
    pub async fn spend(self: &Arc<Self>, of: Of, uses: u64, deadline: Instant) -> Result<(), Error> {
        let Some(account) = self.account(of) else {
            return self.ask(of, uses, false, deadline).await.map(drop).map_err(lost);
        };
        let (is_spent, is_low) = account.spend(uses);
        if is_low {
            self.ask_ahead(of, &account);
        }
        if is_spent {
            return Ok(());
        }
        let _asking = tokio::time::timeout_at(deadline, account.asking.lock())
            .await
            .map_err(|_| Error::Unavailable("this node could not count the use in time".into()))?;
        // Whoever asked before has been given some for all who wait.
        if account.spend(uses).0 {
            return Ok(());
        }
        // What may or may not have been given is lost; nothing was done with the key.
        let given = self.ask(of, uses, true, deadline).await.map_err(lost)?;
        let mut lease = locked(&account.lease);
        lease.add(given);
        if lease.spend(uses) { Ok(()) } else { Err(Error::Internal("less was given than was asked for")) }
    }

    /// None: there is no room for one.
    fn account(&self, of: Of) -> Option<Arc<Account>> {
        let mut accounts = locked(&self.accounts);
        if let Some(account) = accounts.get(&of) {
            return Some(account.clone());
        }
        (accounts.len() < VERSIONS_MAX).then(|| accounts.entry(of).or_default().clone())
    }

    async fn ask(&self, of: Of, wanted: u64, ahead: bool, deadline: Instant) -> Result<lease::Given, Error> {
        let change = self.records.change(deadline, Secrets::default(), |facts| lease::decide(facts, of, wanted, ahead));
        let given = change.await?.answer;
        if given.falls_due {
            tracing::warn!(key = %of.key, version = %of.version, "half of what a version may encrypt by aes-gcm is given out: rotate the key");
        }
        Ok(given)
    }

    /// Asks while there is some left, so that no use has to wait; unless somebody asks already.
    fn ask_ahead(self: &Arc<Self>, of: Of, account: &Arc<Account>) {
        let Ok(asking) = account.asking.clone().try_lock_owned() else { return };
        let (allowances, account) = (self.clone(), account.clone());
        tokio::spawn(async move {
            let _asking = asking;
            match allowances.ask(of, 1, true, Instant::now() + AHEAD_WITHIN).await {
                Ok(given) => locked(&account.lease).add(given),
                Err(Error::Refused(Refusal::Exhausted(..))) => locked(&account.lease).ends(),
                // Who finds nothing left asks again.
                Err(e) => tracing::debug!(key = %of.key, reason = e.reason().as_str(), "no uses were had ahead"),
            }
        });
    }
}

/// Why no uses were had: what may or may not have been given is lost.
fn lost(e: Error) -> Error {
    match e {
        Error::UnknownOutcome | Error::Contended { .. } => {
            Error::Unavailable("this node was given no more uses of the version in time".into())
        }
        e => e,
    }
}

impl Account {
    /// Whether the uses were there, and whether it is time to ask for more.
    fn spend(&self, uses: u64) -> (bool, bool) {
        let mut lease = locked(&self.lease);
        (lease.spend(uses), lease.is_low())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
