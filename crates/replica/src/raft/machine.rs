//! openraft's state machine over the state.

use std::io;
use std::sync::Arc;

use futures::{FutureExt, Stream, StreamExt};
use openraft::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};

use super::applier::Applier;
use super::codec::{decode_log_id, decode_membership, invalid};
use super::{LogId, Reply, StoredMembership, TypeConfig};
use crate::state::{Incoming, Meta, StateFiles, View};

/// Most entries in one write.
const GROUP_LEN_MAX: usize = 512;
/// Most bytes of entries in one write.
const GROUP_BYTES_MAX: usize = 2 * 1024 * 1024;

/// The state as openraft sees it.
pub(crate) struct Machine {
    files: Arc<StateFiles>,
    apply: Arc<Applier>,
}

/// The state at one index.
pub(crate) enum StateSnapshot {
    /// This node's own: no bytes are copied.
    View(Arc<dyn View>),
    /// One that was received, whole and durable beside this node's own.
    Incoming(Box<Incoming>),
}

impl std::fmt::Debug for StateSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StateSnapshot")
    }
}

impl Machine {
    pub(crate) fn new(files: Arc<StateFiles>, apply: Arc<Applier>) -> Self {
        Self { files, apply }
    }

    /// What is durable: sent for minutes, it keeps nothing in memory, and the log is never purged beyond it.
    fn snapshot(&self) -> io::Result<SnapshotOf<TypeConfig, StateSnapshot>> {
        Self::snapshot_of(self.files.durable_view()?)
    }

    fn snapshot_of(view: Arc<dyn View>) -> io::Result<SnapshotOf<TypeConfig, StateSnapshot>> {
        let (last_log_id, last_membership) = applied_state(&Meta::read(&*view)?)?;
        let meta = SnapshotMetaOf::<TypeConfig> { last_log_id, last_membership };
        Ok(SnapshotOf::<TypeConfig, _> { meta, snapshot: StateSnapshot::View(view) })
    }
}

/// Index and membership that a state stands at.
pub(crate) fn applied_state(meta: &Meta) -> io::Result<(Option<LogId>, StoredMembership)> {
    let applied = meta.applied.as_ref().map(|(_, id)| decode_log_id(id)).transpose().map_err(invalid)?;
    Ok((applied, decode_membership(&meta.membership).map_err(invalid)?))
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = StateSnapshot;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        applied_state(&Meta::read(&*self.files.view()?)?)
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(first) = entries.next().await {
            let mut group = Vec::new();
            let mut responders = Vec::new();
            let mut bytes = 0;
            let mut next = Some(first);
            // What the stream has ready, and no more: waiting would hold answers back.
            while let Some(item) = next {
                let (entry, responder) = item?;
                if let EntryPayload::Normal(payload) = &entry.payload {
                    bytes += payload.0.len();
                }
                group.push(entry);
                responders.push(responder);
                if group.len() >= GROUP_LEN_MAX || bytes >= GROUP_BYTES_MAX {
                    break;
                }
                next = entries.next().now_or_never().flatten();
            }
            let outcomes = self.apply.apply(group).await?;
            for (responder, outcome) in responders.into_iter().zip(outcomes) {
                if let Some(responder) = responder {
                    responder.send(Reply(outcome));
                }
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        Self { files: self.files.clone(), apply: self.apply.clone() }
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: StateSnapshot,
    ) -> io::Result<()> {
        self.apply.replace(snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<SnapshotOf<TypeConfig, StateSnapshot>>> {
        Ok(Some(self.snapshot()?).filter(|s| s.meta.last_log_id.is_some()))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    type SnapshotData = StateSnapshot;

    /// What is told to Raft is durable: it takes it for what the log may be purged up to.
    async fn build_snapshot(&mut self) -> io::Result<SnapshotOf<TypeConfig, StateSnapshot>> {
        match self.apply.checkpoint().await? {
            Some(durable) => Self::snapshot_of(durable.view),
            None => self.snapshot(),
        }
    }
}
