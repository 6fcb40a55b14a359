//! Using and managing keys: what an unsealed node does for a client. One file per verb.
//!
//! Every request takes a read index that starts after it arrived and decides on one view at or past it (key-log §1.8), but for
//! creates with a token.
//! Uses look at the [hot view](hot) and write nothing; changes are decided by `core::decide`, and take effect by being
//! applied ([`crate::records`]).

pub mod aad;
mod duties;
mod hot;
mod usage;

mod alias_create;
mod alias_delete;
mod alias_list;
mod cancel_deletion;
mod create;
mod create_many;
mod data_key;
mod decrypt;
mod describe;
mod disable;
pub mod echo;
mod enable;
pub mod encrypt;
mod list;
pub mod random;
mod rotate;
mod schedule_deletion;
pub mod turn;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use quorate_core::decide::Change;
use quorate_core::id::Lineage;
use quorate_core::record::MATERIAL_LEN;
use quorate_core::time::Time;
use tokio::time::Instant;

pub use self::data_key::DataKey;
pub use self::decrypt::Plaintext;
pub use self::encrypt::Ciphertext;
pub use self::list::{Page, PageToken};
pub use quorate_crypto::SecretBytes;

use self::hot::HotView;
use self::turn::Turn;
use crate::error::Error;
use crate::records::{EngineFacts, Records};

/// What the desk works with.
pub struct KmsConfig {
    /// The records.
    pub records: Arc<Records>,
    /// The keyring as its record in the state holds it.
    pub keyring_box: bytes::Bytes,
    /// Whether the cluster is marked for development: deletions may wait for seconds, and duties hardly wait at all.
    pub dev: bool,
    /// Bytes the hot view may take. A use needs two records of a few hundred bytes.
    pub hot_bytes: usize,
}

/// The service for keys; there is one while the node is unsealed.
pub struct Kms {
    records: Arc<Records>,
    dev: bool,
    hot: Arc<HotView>,
    turn: Arc<Turn>,
}

impl Kms {
    /// Opens the desk and starts the duties; both end with [`Kms::close`], or when the last handle is dropped.
    /// The caller has verified the state against its digest and given the replica the keys.
    pub fn new(config: KmsConfig) -> Arc<Self> {
        let kms = Self::open(config);
        duties::start(&kms);
        kms
    }

    fn open(config: KmsConfig) -> Arc<Self> {
        let KmsConfig { records, keyring_box, dev, hot_bytes } = config;
        let hot = Arc::new(HotView::new(hot_bytes));
        let turn = Arc::new(Turn::new(hot.clone(), records.barrier.clone(), keyring_box));
        records.replica.set_observer(turn.clone());
        Arc::new(Self { records, dev, hot, turn })
    }

    /// Closes the desk: cached records are wiped, the keyring is let go, and every request from now on, or still
    /// under way, is refused as sealed.
    pub fn close(&self) {
        self.records.barrier.close();
        self.hot.close();
    }

    /// The turns of its keyring.
    pub(crate) fn turn(&self) -> &Turn {
        &self.turn
    }

    /// Identity of the data.
    pub fn lineage(&self) -> Lineage {
        self.records.barrier.lineage()
    }

    /// A change that needs no secret.
    async fn change<A>(
        &self,
        deadline: Instant,
        decide: impl Fn(&mut EngineFacts<'_>, Time) -> Result<Change<A>, Error>,
    ) -> Result<A, Error> {
        Ok(self.records.change(deadline, &[], decide).await?.answer)
    }

    /// Fresh materials for `n` key versions.
    fn materials(&self, n: usize) -> Vec<SecretBytes> {
        let fresh = || {
            let mut material = SecretBytes::new(vec![0; MATERIAL_LEN]);
            self.records.world.entropy.fill(&mut material);
            material
        };
        std::iter::repeat_with(fresh).take(n).collect()
    }
}
