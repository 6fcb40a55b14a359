//! Sealing: a node, or every node at once, forgets its keys and goes on as a full citizen that uses none (P5).
//!
//! A cluster-wide seal is a record in table 0, read from the same view as every use and expected by every batch, so it
//! holds from its commit on, for paused and partitioned nodes too (P2). Telling the others only makes them erase sooner.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use quorate_core::authorize::{ManageCluster, authorize};
use quorate_core::batch::Rev;
use quorate_core::codec::Writer;
use quorate_core::decide::{Change, Write};
use quorate_core::principal::Principal;
use quorate_core::record::{Record, SealRecord};
use quorate_core::record_key::RecordKey;
use quorate_core::seeded::{self, Bug};
use quorate_replica::Replica;
use tokio::time::Instant;

use super::message::Message;
use super::open::SealState;
use super::operator_seal::{self, OperatorSeal};
use super::status::Health;
use crate::error::{Error, Fault};
use crate::node::{Node, Sealed, State, Unsealed};
use crate::records::facts::seal_epoch;
use crate::records::{EngineFacts, Secrets};

/// How long the others get to say that they have erased their keys; the seal holds with or without it.
const BROADCAST: Duration = Duration::from_secs(2);

/// Body of the record of a cluster-wide seal: `version u8 ‖ by ‖ at ms u64`. Only its revision matters to rules.
fn seal_record(by: &Principal, at_ms: u64) -> Vec<u8> {
    Writer::new().u8(1).field(by.to_string().as_bytes()).u64(at_ms).finish()
}

impl Node {
    /// Seals this node, or every node. Answers the names of the nodes known to have erased their keys; a cluster-wide
    /// seal holds for all from this answer on. Every seal also forgets entered shares, on a node that is sealed already too.
    ///
    /// # Errors
    /// [`Error::Denied`]; for the cluster, [`Error::Sealed`] on a sealed node (it cannot write the record) and what
    /// getting a batch through can end in.
    pub async fn seal(&self, caller: &Principal, cluster: bool, deadline: Instant) -> Result<Vec<String>, Error> {
        authorize::<ManageCluster>(caller)?;
        if cluster { self.seal_cluster(caller, deadline).await } else { self.seal_node(caller).await }
    }

    async fn seal_node(&self, caller: &Principal) -> Result<Vec<String>, Error> {
        let _moving = self.transition.lock().await;
        match &*self.current() {
            State::Uninitialized(_) => return Err(Error::Uninitialized),
            State::Stopped { why, .. } => return Err(why.clone().into()),
            State::Sealed(_) | State::Unsealed(_) => {}
        }
        // On a sealed node too: shares that were entered before a seal do not undo it.
        self.ceremony.forget(None);
        let operator_seal = OperatorSeal::new(&*self.world.entropy);
        // Seeded bug: the seal is acknowledged, and the desk goes on.
        if !seeded::is(Bug::ServeSealed) {
            self.become_sealed(Some(operator_seal));
        }
        // The keys are gone already; what may fail is to remember it.
        operator_seal::mark(&*self.world.disk, &self.config.data_dir, operator_seal).map_err(|e| {
            Error::Unavailable(format!(
                "this node is sealed, but could not note so on its disk ({e}): if it restarts within ten minutes of the \
                 last ceremony, another node may open it again; look at its disk and seal it once more"
            ))
        })?;
        tracing::info!(by = %caller, "this node was sealed by an operator");
        Ok(vec![self.config.name.to_string()])
    }

    async fn seal_cluster(&self, caller: &Principal, deadline: Instant) -> Result<Vec<String>, Error> {
        let opened = self.opened()?;
        let at_ms = self.world.wall.now_ms();
        let decide = |_: &mut EngineFacts<'_>| {
            let (key, value) = (RecordKey::cluster_seal(), seal_record(caller, at_ms));
            // Every change has read it.
            Ok(Change { writes: vec![Write::Update(Record::Seal(SealRecord { key, value }))], answer: () })
        };
        let rev = opened.records.change(deadline, Secrets::default(), decide).await?.index;
        tracing::info!(by = %caller, index = rev, "the cluster was sealed");
        let replica = opened.records.replica.clone();
        let status = replica.status();
        drop(opened);
        self.drop_if_sealed_at(rev).await;
        let others = status.members().iter().filter(|(id, _)| **id != status.id);
        let told = others.map(|(id, member)| {
            let call = Message::ClusterSealed(rev).ask(&replica, *id, BROADCAST);
            async move { call.await.is_ok().then(|| member.name.clone()) }
        });
        let told = join_all(told).await.into_iter().flatten();
        Ok(std::iter::once(self.config.name.to_string()).chain(told).collect())
    }

    /// A peer says that the cluster was sealed at a revision: wait for it to arrive here, then forget the keys.
    pub(crate) async fn hear_cluster_seal(&self, rev: Rev) -> Result<Vec<u8>, String> {
        let state = self.current();
        let Some(replica) = state.replica() else { return Ok(Vec::new()) };
        // The record itself decides, not the peer's word: a sealed peer may not seal others.
        let mut applied = replica.applied();
        let arrived = tokio::time::timeout(BROADCAST, applied.wait_for(|index| *index >= rev)).await;
        if !matches!(arrived, Ok(Ok(_))) {
            return Err(format!("{} has not caught up with entry {rev}", self.config.name));
        }
        drop(arrived);
        let view = replica.view().map_err(|e| e.to_string())?;
        let now = seal_epoch(&view).map_err(|e| e.to_string())?;
        self.drop_if_sealed_at(now).await;
        Ok(Vec::new())
    }

    /// Forgets the keys unless this node was unsealed after the cluster-wide seal at `rev`; forgets shares in any case
    /// that were entered before it.
    pub(crate) async fn drop_if_sealed_at(&self, rev: Rev) {
        let _moving = self.transition.lock().await;
        self.ceremony.forget_before(rev);
        let outdated = matches!(&*self.current(), State::Unsealed(u) if u.opened.ceremony.seal_epoch < rev);
        if outdated {
            self.become_sealed(None);
            tracing::info!(node = %self.config.name, seal = rev, "sealed with the whole cluster");
        }
    }

    /// Unsealed → sealed; by an operator, with a seal of its name. A node that an operator sealed stays so, also while it stops. The
    /// caller holds `transition`.
    pub(crate) fn become_sealed(&self, operator_seal: Option<OperatorSeal>) {
        let operator_seal = operator_seal.or(match &*self.current() {
            State::Sealed(sealed) => sealed.operator_seal,
            _ => None,
        });
        let Some(replica) = self.drop_keys() else { return };
        self.state.send_replace(Arc::new(State::Sealed(Sealed { replica: replica.clone(), operator_seal })));
        replica.hello_now();
    }

    /// Takes the service away from new and running requests, and the MAC key from the replica.
    pub(crate) fn drop_keys(&self) -> Option<Replica> {
        let state = self.current();
        if let State::Unsealed(Unsealed { replica, opened }) = &*state {
            opened.kms.close();
            replica.set_keys(None);
        }
        state.replica().cloned()
    }

    /// Any state → stopped, as damaged.
    pub(crate) fn become_damaged(&self, what: String) {
        self.stop(Fault::Damaged(what));
    }

    /// Any state → stopped: it says what is wrong and uses no key. Its replica goes on where it can.
    pub(crate) fn stop(&self, why: Fault) {
        match &why {
            Fault::Damaged(what) => {
                tracing::error!(node = %self.config.name, what, "damaged: this node no longer serves")
            }
            Fault::UpgradeNeeded(what) => {
                tracing::error!(node = %self.config.name, what, "this node is to be upgraded")
            }
        }
        let replica = self.drop_keys();
        self.ceremony.forget(None);
        self.state.send_replace(Arc::new(State::Stopped { why, replica: replica.clone() }));
        if let Some(replica) = replica {
            replica.hello_now();
        }
    }

    /// What an unsealed node works with.
    pub(crate) fn opened(&self) -> Result<Arc<super::open::Opened>, Error> {
        match &*self.current() {
            State::Unsealed(u) => Ok(u.opened.clone()),
            State::Sealed(_) => Err(Error::Sealed),
            State::Uninitialized(_) => Err(Error::Uninitialized),
            State::Stopped { why, .. } => Err(why.clone().into()),
        }
    }

    /// The replica of a sealed node; anything else is the reason why no share is wanted here.
    pub(crate) fn sealed_replica(&self) -> Result<Replica, Error> {
        match &*self.current() {
            State::Sealed(s) => Ok(s.replica.clone()),
            State::Unsealed(_) => {
                Err(Error::WrongState(format!("node {} is unsealed already and takes no shares", self.config.name)))
            }
            State::Uninitialized(_) => Err(Error::Uninitialized),
            State::Stopped { why, .. } => Err(why.clone().into()),
        }
    }

    /// Table 0 as this node has it now. One that can't be believed makes this node damaged.
    pub(crate) fn seal_state(&self, replica: &Replica) -> Result<SealState, Error> {
        let view = replica.view().map_err(|e| Error::Unavailable(e.to_string()))?;
        let read = SealState::read(&view, self.config.name.as_str(), &self.pins.get());
        if let Err(Error::Damaged(what)) = &read {
            self.become_damaged(what.clone());
        }
        read?.ok_or_else(|| {
            Error::Unavailable(
                "this node has not caught up with the cluster's first entries yet; try again soon".into(),
            )
        })
    }

    pub(crate) fn damaged(&self) -> Error {
        match &*self.current() {
            State::Stopped { why, .. } => why.clone().into(),
            state if state.health() == Health::Uninitialized => Error::Uninitialized,
            _ => Error::Sealed,
        }
    }

    /// An error that shows that this node itself is broken becomes its state; others are shown in the status.
    pub(crate) fn note(&self, error: &Error) {
        match error {
            Error::Damaged(what) => self.become_damaged(what.clone()),
            other => self.set_problem(other.to_string()),
        }
    }
}
