//! The front desk of an unsealed node, behind all doors: [`Kms::perform`] for uses, [`Kms::commit`] for changes, [`Kms::page`]
//! for lists. What every request goes through is done here, once; what is peculiar to a verb is in `core::decide`, or in
//! [`crate::operation`].
//!
//! Every request takes a read index that starts after it arrived and decides on one view at or past it (key-log §1.8), but for
//! creates with a token.

mod backup;
mod commit;
mod destruction;
mod last_use;
mod material;
mod namespace;
mod page;
mod perform;
mod secret;
mod stock;
mod touch;

#[cfg(test)]
pub(crate) mod tests;

use std::future::Future;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use quorate_core::access::{FixedRoles, PolicyEngine};
use quorate_core::action::Action;
use quorate_core::id::Lineage;
use tokio::time::Instant;

pub use self::last_use::LastUse;
pub use self::page::{CHUNK, Listing, Page, PageToken};
pub use self::perform::{Told, Tools, Use, UseFacts};
pub use self::stock::Stock;
pub use self::touch::Gathered;

use crate::allowance::Allowances;
use crate::call::{Call, Metered};
use crate::duty::Duties;
use crate::error::Error;
use crate::records::Records;
use crate::tally::{self, Uses};
use crate::view::{HotView, KeyringWatch};

/// What the desk works with.
pub struct KmsConfig {
    /// The records.
    pub records: Arc<Records>,
    /// The keyring as its record in the state holds it.
    pub keyring_box: bytes::Bytes,
    /// Bytes the hot view may take. A use needs two records of a few hundred bytes.
    pub hot_bytes: usize,
    /// Hears of each call.
    pub meter: Metered,
}

/// The service for keys; there is one while the node is unsealed.
pub struct Kms {
    records: Arc<Records>,
    policies: Box<dyn PolicyEngine>,
    hot: Arc<HotView>,
    keyring_watch: Arc<KeyringWatch>,
    duties: Arc<Duties>,
    allowances: Arc<Allowances>,
    uses: Arc<Uses>,
    meter: Metered,
    stock: ArcSwapOption<Stock>,
}

impl Kms {
    /// Opens the desk and starts the duties; both end with [`Kms::close`], or when the last handle is dropped.
    /// The caller has verified the state against its digest and given the replica the keys.
    pub fn new(config: KmsConfig) -> Arc<Self> {
        let kms = Self::open(config);
        kms.duties.start();
        tally::keep(&kms.uses, &kms.records);
        kms.take_stock();
        kms
    }

    pub(crate) fn open(config: KmsConfig) -> Arc<Self> {
        let KmsConfig { records, keyring_box, hot_bytes, meter } = config;
        let hot = Arc::new(HotView::new(hot_bytes));
        let keyring_watch = Arc::new(KeyringWatch::new(hot.clone(), records.barrier.clone(), keyring_box));
        records.replica.set_observer(keyring_watch.clone());
        let duties = Arc::new(Duties::new(records.clone()));
        let (policies, allowances) = (Box::new(FixedRoles), Allowances::new(records.clone()));
        let (uses, stock) = (Arc::default(), ArcSwapOption::empty());
        Arc::new(Self { records, policies, hot, keyring_watch, duties, allowances, uses, meter, stock })
    }

    /// Closes the desk: cached records are wiped, the keyring is let go, and every request from now on, or still
    /// under way, is refused as sealed.
    pub fn close(&self) {
        self.records.barrier.close();
        self.hot.close();
        self.allowances.close();
    }

    /// Watches the rotations of its keyring.
    pub(crate) fn keyring_watch(&self) -> &KeyringWatch {
        &self.keyring_watch
    }

    /// Identity of the data.
    pub fn lineage(&self) -> Lineage {
        self.records.barrier.lineage()
    }

    /// What every call ends with.
    async fn metered<T>(
        &self,
        call: &Call,
        action: Action,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let began = Instant::now();
        let answer = work.await.map_err(|e| e.told_to(&call.caller.principal));
        self.meter.answered(action, answer.as_ref().map(drop).map_err(Error::reason), began.elapsed());
        answer
    }
}
