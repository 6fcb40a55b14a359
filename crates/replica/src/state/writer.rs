//! The state's one writer.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use quorate_core::id::{ClusterId, GroupId};
use quorate_core::level::{Levels, Unfit};
use thiserror::Error;

use super::apply::{self, Applied, ApplyError, BatchVerifier, Rules, SealCheck, ToApply};
use super::digest::LtHash;
use super::engine::{View, WriteSet, get_value};
use super::meta::Meta;
use super::store::Store;
use crate::level::level_in;
use crate::log::{Checkpoint, Stands};

/// Digest samples kept for comparison with peers (key-log §5.4).
const SAMPLES_MAX: usize = 8;

/// Why a state cannot be used. The journal is not concerned.
#[derive(Debug, Error)]
pub enum StateError {
    /// It belongs to another cluster or group.
    #[error("the state belongs to cluster {found}, this node to {expected}: check data_dir")]
    WrongCluster {
        /// Its cluster.
        found: ClusterId,
        /// The one asked for.
        expected: ClusterId,
    },
    /// It is older than what the journal says was durable.
    #[error(
        "the state is at index {found:?}, though the journal says that index {expected} was durable: it was lost or \
         rolled back; {todo}",
        todo = quorate_core::REPLACE_MEMBER
    )]
    Lost {
        /// Its index.
        found: Option<u64>,
        /// The checkpoint's.
        expected: u64,
    },
    /// The journal does not know of it.
    #[error(
        "the state is at index {found}, but the journal last saw one made durable at {expected:?}: the journal was put back \
         from an older copy, or lost, and with it votes and entries that this node had acknowledged; {todo}",
        todo = quorate_core::REPLACE_MEMBER
    )]
    Ahead {
        /// Its index.
        found: u64,
        /// The newest that the journal knows of.
        expected: Option<u64>,
    },
    /// It is not what the journal says stood there.
    #[error(
        "the state at index {index} is another one than the journal's checkpoint says: it was changed; {todo}",
        todo = quorate_core::REPLACE_MEMBER
    )]
    Changed {
        /// The index of both.
        index: u64,
    },
    /// Its records do not add up to its digest.
    #[error(
        "the state at index {index:?} holds {records} records that do not add up to its digest: records were lost, \
         added, changed or rolled back. This node must not serve; {todo}",
        todo = quorate_core::REPLACE_MEMBER
    )]
    Mismatch {
        /// Its index.
        index: Option<u64>,
        /// Records scanned.
        records: u64,
    },
    /// It is of a feature level that this version does not work at. It is whole.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// The engine failed.
    #[error("the state cannot be read: {0}")]
    Io(#[from] io::Error),
}

impl StateError {
    /// Whether the state is whole, and of another version.
    pub fn is_of_another_version(&self) -> bool {
        match self {
            Self::Unfit(_) => true,
            Self::Io(e) => e.kind() == io::ErrorKind::Unsupported,
            _ => false,
        }
    }
}

/// The state and its writer; owned by the one thread that applies.
pub struct State {
    store: Arc<Store>,
    rules: Rules,
    meta: Meta,
    digest: LtHash,
    samples: VecDeque<Checkpoint>,
    broken: bool,
}

impl State {
    /// Takes up a store's state, which must be where the journal says that it may stand; `None`: it is not asked. `levels` are those that
    /// this node works at.
    ///
    /// # Errors
    /// See [`StateError`]; only the state's own words and the checkpoint are looked at here, for the records see
    /// [`super::verify_state`].
    pub fn open(
        store: Arc<Store>,
        cluster: ClusterId,
        group: GroupId,
        seals: Arc<dyn SealCheck>,
        levels: Levels,
        stands: Option<Stands>,
    ) -> Result<Self, StateError> {
        let view = store.view();
        let (mut meta, digest) = (Meta::read(&*view)?, Meta::read_digest(&*view)?);
        if meta.lineage.is_some() {
            levels.check(level_in(&|key| get_value(&*view, key))?)?;
        }
        drop(view);
        if let Some(found) = meta.cluster
            && (found, meta.group) != (cluster, group)
        {
            return Err(StateError::WrongCluster { found, expected: cluster });
        }
        let index = meta.applied.as_ref().map(|(index, _)| *index);
        let here = index.map(|index| Checkpoint { index, digest: digest.hash(), chain: meta.chain });
        if let Some(stands) = stands.filter(|stands| !stands.hold(here)) {
            let [newest, before] = [stands.newest, stands.before].map(|stand| stand.map(|c| c.index));
            return Err(match index {
                Some(index) if [newest, before].contains(&Some(index)) => StateError::Changed { index },
                Some(index) if Some(index) > newest => StateError::Ahead { found: index, expected: newest },
                found => StateError::Lost { found, expected: before.or(newest).unwrap_or_default() },
            });
        }
        if meta.cluster.is_none() {
            (meta.cluster, meta.group) = (Some(cluster), group);
            let mut set = WriteSet::new();
            meta.write(&digest, &mut set);
            store.write(set)?;
            // No entry is in it: there is nothing that a journal would have to know.
            store.flush(|_| Ok(()))?;
        }
        let rules = Rules { seals, levels, gapless: true };
        Ok(Self { store, rules, meta, digest, samples: VecDeque::new(), broken: false })
    }

    /// Takes logs with holes, as openraft's own suite has them.
    #[cfg(test)]
    pub(crate) fn with_gaps(mut self) -> Self {
        self.rules.gapless = false;
        self
    }

    /// What it is the state of.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The newest digests at multiples of 1024, oldest first, for comparison with peers (key-log §5.4).
    pub fn samples(&self) -> impl Iterator<Item = &Checkpoint> {
        self.samples.iter()
    }

    /// A view of everything applied so far.
    pub fn view(&self) -> Arc<dyn View> {
        self.store.view()
    }

    /// Applies entries in one write, durable with the next checkpoint; returns what each did. On an error the entries before
    /// the offending one are applied and returned; after an `Io` error none is, and the state must be opened again.
    pub fn apply(
        &mut self,
        entries: &[ToApply<'_>],
        verifier: Option<&dyn BatchVerifier>,
    ) -> (Vec<Applied>, Result<(), ApplyError>) {
        match self.apply_or_fail(entries, verifier) {
            Ok((applied, None)) => (applied, Ok(())),
            Ok((applied, Some(stop))) => (applied, Err(stop)),
            Err(e) => {
                self.broken = true;
                (Vec::new(), Err(ApplyError::Io(e)))
            }
        }
    }

    fn apply_or_fail(
        &mut self,
        entries: &[ToApply<'_>],
        verifier: Option<&dyn BatchVerifier>,
    ) -> io::Result<(Vec<Applied>, Option<ApplyError>)> {
        self.check_usable()?;
        let view = self.store.view();
        let run = apply::run(&*view, self.meta.clone(), self.digest.clone(), entries, &self.rules, verifier)?;
        drop(view);
        if !run.applied.is_empty() {
            self.store.write(run.writes)?;
            (self.meta, self.digest) = (run.meta, run.digest);
            self.samples.extend(run.samples);
            while self.samples.len() > SAMPLES_MAX {
                self.samples.pop_front();
            }
        }
        Ok((run.applied, run.stop))
    }

    /// What the journal would remember of it as it is now; `None`: nothing applied yet.
    pub fn stands_at(&self) -> Option<Checkpoint> {
        let (index, _) = self.meta.applied.as_ref()?;
        Some(Checkpoint { index: *index, digest: self.digest.hash(), chain: self.meta.chain })
    }

    fn check_usable(&self) -> io::Result<()> {
        match self.broken {
            true => Err(io::Error::other("the state failed before and must be opened again")),
            false => Ok(()),
        }
    }
}
