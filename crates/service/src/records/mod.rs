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
use quorate_core::decide::{Slot, Write};
use quorate_core::id::{ClusterId, GroupId, Lineage};
use quorate_core::key_spec::KeySpec;
use quorate_core::record_key::RecordKey;
use quorate_core::seam::Entropy;
use quorate_core::time::Time;
use quorate_crypto::material::{Encoded, Material};
use quorate_crypto::{Keyring, SecretBytes};
use quorate_replica::{ReadError, Replica, View, World};
use tokio::time::Instant;

pub use self::change::Done;
pub use self::facts::EngineFacts;

use self::barrier::{Barrier, Identity};
use self::facts::revision;
use self::locks::Locks;
use crate::error::{Error, Fault};
use crate::workers::Workers;

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
    /// Do what is slow.
    pub workers: Workers,
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
            workers: Workers::new(),
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

    /// The time of now.
    pub fn now(&self) -> Time {
        Time { cluster_ms: self.replica.cluster_time_ms(), local_ms: self.world.wall.now_ms() }
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
    given: Vec<Placed<'a>>,
    /// Those that were made for it, kept when it has to be decided again.
    fresh: Vec<(KeySpec, Encoded)>,
}

/// A secret on its way into a record.
#[derive(Clone, Copy)]
pub struct Placed<'a> {
    /// Its bytes.
    pub secret: &'a SecretBytes,
    /// The public key that goes with it (SubjectPublicKeyInfo, DER); empty = none does.
    pub public: &'a [u8],
}

impl<'a> Secrets<'a> {
    /// A change that comes with secrets.
    pub fn given(given: &'a [SecretBytes]) -> Self {
        Self { given: given.iter().map(|secret| Placed { secret, public: &[] }).collect(), fresh: Vec::new() }
    }

    /// A change that comes with the material of keys.
    pub fn of_keys(keys: &'a [Encoded]) -> Self {
        Self { given: keys.iter().map(placed).collect(), fresh: Vec::new() }
    }

    /// Makes what the writes ask for, unless it is there; what is slow to make, on the workers.
    ///
    /// # Errors
    /// [`Error::Busy`] when the deadline passes; [`Error::Internal`].
    async fn prepare(
        &mut self,
        writes: &[Write],
        deadline: Instant,
        workers: &Workers,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<(), Error> {
        for write in writes {
            let Write::CreateWith(_, Slot::Fresh(nth, spec)) = write else { continue };
            if self.fresh.get(*nth).is_some_and(|(of, _)| of == spec) {
                continue;
            }
            let (spec, entropy) = (*spec, entropy.clone());
            let made = if spec.is_slow_to_make() {
                workers.of(spec.takes_seconds_to_make()).run(deadline, move || Material::fresh(spec, &*entropy)).await?
            } else {
                Material::fresh(spec, &*entropy)
            };
            // Slots are counted as they are written.
            self.fresh.truncate(*nth);
            self.fresh.push((spec, made));
        }
        Ok(())
    }

    /// The secret of each write, in their order; `kept` are those that records keep.
    ///
    /// # Errors
    /// [`Error::Internal`] when a decision names one that is not there.
    fn of<'s>(&'s self, writes: &[Write], kept: &'s [SecretBytes]) -> Result<Vec<Option<Placed<'s>>>, Error> {
        let mut kept = kept.iter();
        let mut secret = |write: &Write| match write {
            Write::CreateWith(_, slot) | Write::UpdateWith(_, slot) => self.get(*slot).map(Some),
            Write::UpdateKeeping(_) => kept.next().map(|secret| Some(Placed { secret, public: &[] })),
            Write::Create(_) | Write::Update(_) | Write::Delete(_) => Some(None),
        };
        let secrets = writes.iter().map(&mut secret).collect::<Option<_>>();
        secrets.ok_or(Error::Internal("a decision names a secret that is not there"))
    }

    /// What is in `slot`.
    fn get(&self, slot: Slot) -> Option<Placed<'_>> {
        match slot {
            Slot::Given(nth) => self.given.get(nth).copied(),
            Slot::Fresh(nth, spec) => {
                let (_, made) = self.fresh.get(nth).filter(|(of, _)| *of == spec)?;
                Some(placed(made))
            }
        }
    }
}

fn placed(key: &Encoded) -> Placed<'_> {
    Placed { secret: &key.material, public: key.public.as_deref().unwrap_or_default() }
}
