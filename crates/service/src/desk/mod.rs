//! Using and managing keys: what an unsealed node does for a client. One file per verb.
//!
//! Every request takes a read index that starts after it arrived and decides on one view at or past it (key-log §1.8).
//! Uses look at the [hot view](hot) and write nothing; changes are decided by `core::decide`, encrypted here, and take
//! effect by being applied ([`change`]).

pub mod aad;
mod barrier;
mod change;
mod duties;
mod facts;
mod hot;
mod locks;
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
mod new_ids;
pub mod random;
mod rotate;
mod schedule_deletion;
pub mod turn;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use quorate_core::batch::Rev;
use quorate_core::id::{ClusterId, GroupId, Lineage};
use quorate_core::record_key::RecordKey;
use quorate_core::time::Time;
use quorate_crypto::Keyring;
use quorate_replica::{ReadError, Replica, View, World};
use tokio::time::Instant;

pub use self::data_key::DataKey;
pub use self::decrypt::Plaintext;
pub use self::encrypt::Ciphertext;
pub use self::list::{Page, PageToken};
pub use quorate_crypto::SecretBytes;

use self::barrier::Barrier;
use self::hot::HotView;
use self::locks::Locks;
use self::turn::Turn;
use crate::error::Error;

/// What the desk works with.
pub struct KmsConfig {
    /// The replicated state.
    pub replica: Replica,
    /// The seams.
    pub world: World,
    /// What encrypts the records.
    pub keyring: Arc<Keyring>,
    /// The same as its record in the state holds it.
    pub keyring_box: bytes::Bytes,
    /// Identity of the data.
    pub lineage: Lineage,
    /// Identity of the cluster.
    pub cluster: ClusterId,
    /// The Raft group.
    pub group: GroupId,
    /// The revision of the cluster-wide seal that the right to serve rests on: with another one in a view, this desk
    /// is closed (see [`quorate_core::record_key::RecordKey::cluster_seal`]).
    pub seal_epoch: Rev,
    /// Whether the cluster is marked for development: deletions may wait for seconds, and duties hardly wait at all.
    pub dev: bool,
    /// Bytes the hot view may take. A use needs two records of a few hundred bytes.
    pub hot_bytes: usize,
}

/// The service for keys; there is one while the node is unsealed.
pub struct Kms {
    replica: Replica,
    world: World,
    barrier: Arc<Barrier>,
    cluster: ClusterId,
    seal_epoch: Rev,
    /// Where the cluster-wide seal is kept; its key is a hash that need not be made for every request.
    seal_key: RecordKey,
    dev: bool,
    hot: Arc<HotView>,
    locks: Locks,
    turn: Arc<Turn>,
    closed: AtomicBool,
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
        let hot = Arc::new(HotView::new(config.hot_bytes));
        let barrier = Barrier::new(config.keyring, config.lineage, config.group, config.world.entropy.clone());
        let barrier = Arc::new(barrier);
        let turn = Arc::new(Turn::new(hot.clone(), barrier.clone(), config.keyring_box));
        config.replica.set_observer(turn.clone());
        Arc::new(Self {
            replica: config.replica,
            world: config.world,
            barrier,
            cluster: config.cluster,
            seal_epoch: config.seal_epoch,
            seal_key: RecordKey::cluster_seal(),
            dev: config.dev,
            hot,
            locks: Locks::default(),
            turn,
            closed: AtomicBool::new(false),
        })
    }

    /// Closes the desk: cached records are wiped, the keyring is let go, and every request from now on, or still
    /// under way, is refused as sealed.
    pub fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.hot.close();
        self.barrier.close();
    }

    /// The turns of its keyring.
    pub(crate) fn turn(&self) -> &Turn {
        &self.turn
    }

    /// Identity of the data.
    pub fn lineage(&self) -> Lineage {
        self.barrier.lineage()
    }

    /// Whether what was read until now may be answered. The replica says that it stops serving before it applies what
    /// it stops for, so a look after the facts catches those that were read too late.
    fn check_open(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::Sealed);
        }
        self.replica.problem().map_or(Ok(()), |problem| Err(Error::Damaged(problem.to_string())))
    }

    /// A read index of a round that starts now; the state here is at or past it.
    async fn read_index(&self, deadline: Instant) -> Result<u64, Error> {
        self.check_open()?;
        let index = self.replica.read_index(deadline).await.map_err(not_read)?;
        self.check_open()?;
        Ok(index)
    }

    /// A view at or past a round that starts now, of the seal epoch this desk serves in.
    async fn fresh_view(&self, deadline: Instant) -> Result<View, Error> {
        self.read_index(deadline).await?;
        let view = self.view()?;
        if facts::revision(&view, &self.seal_key)? == self.seal_epoch { Ok(view) } else { Err(Error::Sealed) }
    }

    fn view(&self) -> Result<View, Error> {
        let view = self.replica.view().map_err(not_read)?;
        self.check_open()?;
        Ok(view)
    }

    fn time(&self, view: &View) -> Time {
        Time { cluster_ms: view.cluster_time_ms(), local_ms: self.world.wall.now_ms() }
    }
}

fn not_read(e: ReadError) -> Error {
    match e {
        ReadError::Unavailable(why) => Error::Unavailable(why),
        ReadError::Stopped(problem) => Error::Damaged(problem.to_string()),
    }
}
