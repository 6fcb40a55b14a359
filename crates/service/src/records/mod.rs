//! Reading and writing the records of an unsealed node: read index → one view → decide → encrypt → propose, again after a
//! conflict (key-log §1.7); what is new, and has a token, needs no read index at first. Keys, members, invitations and what table 0 holds are records like any other.
//!
//! What a change *is* is decided elsewhere, by functions over [`EngineFacts`]; uses look at the hot view first.

pub mod barrier;
mod change;
pub mod facts;
mod locks;
mod new_ids;
mod signed;

use std::sync::Arc;

use quorate_core::batch::Rev;
use quorate_core::decide::Slot;
use quorate_core::id::{ClusterId, GroupId, Lineage};
use quorate_core::key_spec::KeySpec;
use quorate_core::record_key::RecordKey;
use quorate_core::seam::Entropy;
use quorate_core::time::Time;
use quorate_crypto::material::Material;
use quorate_crypto::{Keyring, SecretBytes};
use quorate_replica::{ReadError, Replica, View, World};
use tokio::time::Instant;

pub use self::change::Done;
pub use self::facts::EngineFacts;

use self::barrier::{Barrier, Identity};
use self::facts::revision;
use self::locks::Locks;
use crate::error::{Error, Fault};

/// What records are read and written with.
pub struct RecordsConfig {
    /// The replicated state.
    pub replica: Replica,
    /// The seams.
    pub world: World,
    /// What encrypts the records.
    pub keyring: Arc<Keyring>,
    /// Identity of the data.
    pub lineage: Lineage,
    /// Identity of the cluster.
    pub cluster: ClusterId,
    /// The Raft group.
    pub group: GroupId,
    /// Whether the cluster is marked for development: deletions may wait for seconds, and duties hardly wait at all.
    pub dev: bool,
    /// The revision of the cluster-wide seal that the right to serve rests on: with another one in a view, nothing is read or
    /// written any more (see [`RecordKey::cluster_seal`]).
    pub seal_epoch: Rev,
}

/// The records, for as long as the node is unsealed.
pub struct Records {
    pub replica: Replica,
    pub world: World,
    pub barrier: Arc<Barrier>,
    pub seal_epoch: Rev,
    pub dev: bool,
    /// Where the cluster-wide seal is kept; a hash that need not be made for every request.
    pub seal_key: RecordKey,
    cluster: ClusterId,
    locks: Locks,
}

impl Records {
    pub fn new(config: RecordsConfig) -> Self {
        let identity = Identity { lineage: config.lineage, cluster: config.cluster, group: config.group };
        let barrier = Barrier::new(config.keyring, identity, config.world.entropy.clone());
        Self {
            replica: config.replica,
            world: config.world,
            barrier: Arc::new(barrier),
            seal_epoch: config.seal_epoch,
            dev: config.dev,
            seal_key: RecordKey::cluster_seal(),
            cluster: config.cluster,
            locks: Locks::default(),
        }
    }

    /// Whether what was read until now may be answered. The replica says that it stops serving before it applies what
    /// it stops for, so a look after the facts catches those that were read too late.
    pub fn check_open(&self) -> Result<(), Error> {
        self.barrier.keyring()?;
        self.replica.problem().map_or(Ok(()), |problem| Err(Fault::from(problem).into()))
    }

    /// A read index of a round that starts now; the state here is at or past it.
    pub async fn read_index(&self, deadline: Instant) -> Result<u64, Error> {
        self.check_open()?;
        let index = self.replica.read_index(deadline).await.map_err(not_read)?;
        self.check_open()?;
        Ok(index)
    }

    /// A view at or past a round that starts now, of the seal epoch that this node was unsealed in.
    ///
    /// # Errors
    /// [`Error::Unavailable`] without a majority, [`Error::Sealed`] when the cluster was sealed since.
    pub async fn fresh_view(&self, deadline: Instant) -> Result<View, Error> {
        self.read_index(deadline).await?;
        let view = self.view()?;
        if revision(&view, &self.seal_key)? == self.seal_epoch { Ok(view) } else { Err(Error::Sealed) }
    }

    /// A view of now, of whatever epoch.
    pub fn view(&self) -> Result<View, Error> {
        let view = self.replica.view().map_err(not_read)?;
        self.check_open()?;
        Ok(view)
    }

    /// The facts of a view.
    ///
    /// # Errors
    /// [`Error::Sealed`] when it is of another seal epoch.
    pub fn facts<'a>(&'a self, view: &'a View) -> Result<EngineFacts<'a>, Error> {
        EngineFacts::new(view, self)
    }

    /// The time that decisions on a view go by.
    pub fn time(&self, view: &View) -> Time {
        Time { cluster_ms: view.cluster_time_ms(), local_ms: self.world.wall.now_ms() }
    }
}

fn not_read(e: ReadError) -> Error {
    match e {
        ReadError::Unavailable(why) => Error::Unavailable(why),
        ReadError::NoMajority(quorum) => Error::NoMajority(quorum),
        ReadError::Stopped(problem) => Fault::from(problem).into(),
    }
}

/// Secrets that a change puts into records.
#[derive(Default)]
pub struct Secrets<'a> {
    /// Those that came with it.
    given: &'a [SecretBytes],
    /// Those that were made for it, kept when it has to be decided again.
    fresh: Vec<(KeySpec, SecretBytes)>,
}

impl<'a> Secrets<'a> {
    /// A change that comes with secrets.
    pub fn given(given: &'a [SecretBytes]) -> Self {
        Self { given, fresh: Vec::new() }
    }

    /// Makes what `slot` asks for, unless it is there.
    fn prepare(&mut self, slot: Slot, entropy: &dyn Entropy) {
        let Slot::Fresh(nth, spec) = slot else { return };
        match self.fresh.get_mut(nth) {
            Some((of, _)) if *of == spec => {}
            Some(other) => *other = (spec, Material::fresh(spec, entropy).material),
            // Slots are counted as they are written.
            None => self.fresh.push((spec, Material::fresh(spec, entropy).material)),
        }
    }

    /// What is in `slot`.
    fn get(&self, slot: Slot) -> Option<&SecretBytes> {
        match slot {
            Slot::Given(nth) => self.given.get(nth),
            Slot::Fresh(nth, spec) => self.fresh.get(nth).filter(|(of, _)| *of == spec).map(|(_, secret)| secret),
        }
    }
}
