//! Start: whose data directory is this, is what is in it whole, and does the HSM still open this node's envelope?

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use quorate_core::id::NodeId;
use quorate_crypto::SealConfigHash;
use quorate_hsm::Hsm;
use quorate_replica::{Closed, Introduction, OpenError, Replica, ReplicaConfig, World, refuse_peers};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::ceremony::Ceremonies;
use super::handover::Handovers;
use super::join::JoinChallenges;
use super::open::SealState;
use super::operator_seal;
use super::peers::{NodeLink, Peers};
use super::pins::Pins;
use crate::error::{Error, Fault};
use crate::evidence::Pace;
use crate::node::{FOUNDER, GROUP, Node, NodeConfig, Sealed, StartError, State};
use crate::records::facts::seal_epoch;

/// Between two looks whether this node's envelope has arrived, or its HSM is back.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Between two looks whether the cluster was sealed, while entries are applied.
const SEAL_LOOK_EVERY: Duration = Duration::from_millis(100);

impl Node {
    /// Starts the node: opens what its data directory holds, or waits for `init`, or joins.
    ///
    /// Must be called within a multi-thread tokio runtime; the node's own work runs there. The HSM is logged in and the
    /// node's keys are loaded.
    ///
    /// # Errors
    /// [`StartError`] when directory, configuration and certificate do not belong together: the process should say so
    /// and end. Damage is no error: such a node starts, says what is wrong, and neither serves nor votes.
    pub async fn start(config: NodeConfig, world: World, hsm: Hsm) -> Result<Arc<Self>, StartError> {
        let keys = hsm.node_keys().map_err(|e| StartError::Config(e.to_string()))?.clone();
        let file = Replica::node_file(&*world.disk, &config.data_dir).map_err(foreign)?;
        let entropy = world.entropy.clone();
        let node = Arc::new_cyclic(|this| Self {
            this: this.clone(),
            runtime: Handle::current(),
            config,
            world,
            hsm,
            keys,
            state: watch::Sender::new(Arc::new(State::Uninitialized(None))),
            transition: tokio::sync::Mutex::default(),
            ceremony: Ceremonies::new(&*entropy),
            handover: Handovers::default(),
            join_challenges: JoinChallenges::default(),
            peers: Peers::default(),
            pins: Pins::new(file.as_ref().map(|file| file.pins.clone()).unwrap_or_default()),
            problem: Mutex::default(),
            awaits_approval: AtomicBool::default(),
            certificate: ArcSwap::default(),
            certificate_ends_ms: AtomicU64::new(0),
            statements: Pace::default(),
            closed_door: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        match file {
            Some(file) => {
                if file.cluster != node.config.cluster || file.name != node.config.name.as_str() {
                    return Err(StartError::Foreign(format!(
                        "{} belongs to node {} of cluster {}, but this is node {} of cluster {}; use that node's own \
                         configuration and certificate, or an empty data_dir",
                        node.config.data_dir.display(),
                        file.name,
                        file.cluster,
                        node.config.name,
                        node.config.cluster
                    )));
                }
                node.open_replica(file.node).await?;
            }
            None => match &node.config.join {
                Some(join) => {
                    node.check_join(join)?;
                    tracing::info!(
                        node = %node.config.name, data_dir = %node.config.data_dir.display(), "uninitialized: joining"
                    );
                    node.join_until_member();
                }
                None => tracing::info!(
                    node = %node.config.name, data_dir = %node.config.data_dir.display(),
                    "uninitialized"
                ),
            },
        }
        Ok(node)
    }

    async fn open_replica(self: &Arc<Self>, id: NodeId) -> Result<(), StartError> {
        let config = self.replica_config(id, None, Vec::new());
        let replica = match Replica::open(config, self.world.clone(), Arc::new(self.link())).await {
            Ok(replica) => replica,
            Err(OpenError::Damaged(what)) => {
                self.become_damaged(what);
                self.tell_peers(id, Closed::Damaged);
                return Ok(());
            }
            Err(e @ OpenError::UpgradeNeeded(_)) => {
                self.stop(Fault::UpgradeNeeded(e.to_string()));
                self.tell_peers(id, Closed::UpgradeNeeded);
                return Ok(());
            }
            Err(e) => return Err(foreign(e)),
        };
        let status = replica.status();
        if id == FOUNDER && status.last_log == 0 {
            // The process died between making the directory and genesis: nothing was ever acknowledged.
            self.state.send_replace(Arc::new(State::Uninitialized(Some(replica))));
            return Ok(());
        }
        let operator_seal = operator_seal::marked(&*self.world.disk, &self.config.data_dir, &*self.world.entropy);
        if operator_seal.is_some() {
            tracing::info!(node = %self.config.name, "an operator sealed this node: only a new ceremony opens it");
        }
        self.state.send_replace(Arc::new(State::Sealed(Sealed { replica: replica.clone(), operator_seal })));
        match self.seal_state(&replica) {
            Ok(seal) => {
                if seal.config.flags.dev && !self.config.dev {
                    replica.shutdown().await;
                    return Err(StartError::Config(format!(
                        "{} belongs to a development cluster, whose shares and tokens lie beside it; start it with \
                         --dev, or use another data_dir",
                        self.config.data_dir.display()
                    )));
                }
                self.own_envelope_step(&seal).await;
            }
            Err(e) => self.note(&e),
        }
        self.log_sealed_start(&replica);
        self.watch_problems(replica.clone());
        self.watch_cluster_seal(&replica);
        self.watch_own_envelope(replica);
        Ok(())
    }

    /// Tells the peers of node `id` why it takes no part: else it would be one that does not answer.
    fn tell_peers(&self, id: NodeId, why: Closed) {
        let (net, listen, cluster) = (self.world.net.clone(), self.config.peer_listen.clone(), self.config.cluster);
        let door = self.runtime.spawn(async move {
            let Err(error) = refuse_peers(&*net, &listen, cluster, id, why).await;
            tracing::warn!(%error, "the other members can't be told why this one takes no part");
        });
        *self.closed_door.lock().unwrap_or_else(PoisonError::into_inner) = Some(door);
    }

    /// One proof of the HSM; returns whether there was something to prove and the HSM answered.
    async fn own_envelope_step(&self, seal: &SealState) -> bool {
        match self.prove_hsm(seal).await {
            Ok(()) if seal.envelope.is_none() => {
                self.set_waiting("no envelope for this node has arrived yet".into());
                false
            }
            Ok(()) => {
                self.set_problem(String::new());
                true
            }
            Err(e) => {
                self.note(&e);
                matches!(e, Error::Damaged(_))
            }
        }
    }

    /// Until it has been proven once: looks for this node's envelope, and whether the HSM opens it.
    pub(crate) fn watch_own_envelope(&self, replica: Replica) {
        let this = self.this.clone();
        self.runtime.spawn(async move {
            loop {
                let Some(node) = this.upgrade() else { return };
                if !matches!(&*node.current(), State::Sealed(_)) {
                    return;
                }
                if let Ok(seal) = node.seal_state(&replica)
                    && node.own_envelope_step(&seal).await
                {
                    return;
                }
                drop(node);
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
    }

    /// What the replica finds wrong while it runs (a forged batch, a dead consensus core) ends this node's service.
    pub(crate) fn watch_problems(&self, replica: Replica) {
        let this = self.this.clone();
        self.runtime.spawn(async move {
            let mut changes = replica.watch();
            // It may have been found while the replica was being opened.
            changes.mark_changed();
            while changes.changed().await.is_ok() {
                let Some(problem) = replica.status().problem else { continue };
                let Some(node) = this.upgrade() else { return };
                let _moving = node.transition.lock().await;
                if !node.stopping.load(Ordering::Relaxed) {
                    node.stop(problem.into());
                }
                return;
            }
        });
    }

    pub(crate) fn replica_config(
        &self,
        id: NodeId,
        introduction: Option<Introduction>,
        pins: Vec<SealConfigHash>,
    ) -> ReplicaConfig {
        let own = &self.config;
        let mut config =
            ReplicaConfig::new(id, own.name.to_string(), own.cluster, own.data_dir.clone(), own.peer_listen.clone());
        config.group = GROUP;
        config.profile = own.profile;
        if own.dev {
            config.listening = Duration::ZERO;
        }
        config.journal.segment_bytes = own.segment_bytes;
        config.journal.low_space_bytes = own.low_space_bytes;
        config.compaction = own.compaction;
        config.cache_bytes = own.state_cache_bytes;
        config.levels = own.levels;
        config.introduction = introduction;
        config.pins = pins;
        config
    }

    pub(crate) fn link(&self) -> NodeLink {
        NodeLink(self.this.clone())
    }

    /// Erases keys and entered shares soon after a cluster-wide seal has arrived here. The seal needs no such watch to
    /// hold: every use, and every last share, reads its record.
    pub(crate) fn watch_cluster_seal(&self, replica: &Replica) {
        let this = self.this.clone();
        let mut applied = replica.applied();
        self.runtime.spawn(async move {
            while applied.changed().await.is_ok() {
                let Some(node) = this.upgrade() else { return };
                let epoch = node.current().replica().and_then(|replica| seal_epoch(&replica.view().ok()?).ok());
                if let Some(epoch) = epoch {
                    node.drop_if_sealed_at(epoch).await;
                }
                drop(node);
                tokio::time::sleep(SEAL_LOOK_EVERY).await;
            }
        });
    }
}

fn foreign(e: OpenError) -> StartError {
    match e {
        OpenError::Config(_) => StartError::Config(e.to_string()),
        _ => StartError::Foreign(e.to_string()),
    }
}
