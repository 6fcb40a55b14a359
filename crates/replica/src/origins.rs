//! Whose batches, and whose sessions' begin, this node sequences while it leads.
//!
//! A leader that is unsealed checks each batch's MAC. A sealed one can't, and boots are no secret: it takes batches only of
//! an origin that has shown, once under this leadership, that it has the keys. So what has no keys gets nothing into the
//! log through an honest leader.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use quorate_core::id::{BatchId, ClusterId, GroupId, NodeId};
use quorate_core::session::{Claim, Open, Session};

use crate::handler::SealCheck;
use crate::node::Base;
use crate::raft::LeaderId;
use crate::shared::Shared;
use crate::state_reader::StateReader;

/// Length of a claim's signature, in bytes.
pub(crate) const CLAIM_LEN: usize = 64;

/// Judges the origins of what this node is to sequence.
pub(crate) struct Origins {
    cluster: ClusterId,
    group: GroupId,
    shared: Arc<Shared>,
    seals: Arc<dyn SealCheck>,
    state: Arc<StateReader>,
    shown: Mutex<Shown>,
}

/// Who has shown what, to this node as the leader.
#[derive(Default)]
struct Shown {
    under: Option<LeaderId>,
    sessions: BTreeMap<NodeId, Session>,
}

/// Why a batch is not sequenced now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unproven {
    /// A newer start of its origin has begun a session.
    Superseded,
    /// That start has begun none, as far as is applied here.
    NotOpen,
    /// This node is sealed, and the origin has not shown that it is not.
    NoClaim,
}

impl Origins {
    pub(crate) fn of(base: &Base, state: &Arc<StateReader>) -> Self {
        Self {
            cluster: base.cluster,
            group: base.group,
            shared: base.shared.clone(),
            seals: base.seals.clone(),
            state: state.clone(),
            shown: Mutex::default(),
        }
    }

    /// Whether a batch with this id may be sequenced under this leadership. `verified`: its MAC was checked.
    pub(crate) fn admit(
        &self,
        id: &BatchId,
        leadership: LeaderId,
        verified: bool,
        claim: Option<&[u8; CLAIM_LEN]>,
    ) -> Result<(), Unproven> {
        let session = match self.shared.session_of(id.origin) {
            Some(session) if session.boot == id.boot => session,
            Some(session) if session.boot > id.boot => return Err(Unproven::Superseded),
            _ => return Err(Unproven::NotOpen),
        };
        if verified {
            return Ok(());
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.under != Some(leadership) {
            *shown = Shown { under: Some(leadership), sessions: BTreeMap::new() };
        }
        if shown.sessions.get(&id.origin) == Some(&session) {
            return Ok(());
        }
        let config = self.state.seal_config().unwrap_or_default();
        let shows = |claim: &[u8; CLAIM_LEN]| {
            config.is_some_and(|config| self.seals.claims(&config, &self.claim(leadership, session), claim))
        };
        if !claim.is_some_and(shows) {
            return Err(Unproven::NoClaim);
        }
        shown.sessions.insert(id.origin, session);
        Ok(())
    }

    /// What an origin claims to the leader of `under`.
    pub(crate) fn claim(&self, under: LeaderId, session: Session) -> Claim {
        let leadership = (under.term, NodeId(under.node_id));
        Claim { cluster: self.cluster, group: self.group, leadership, session }
    }

    /// What must hold of an entry that begins a session before this node proposes it.
    pub(crate) fn may_open(&self, open: &[u8], from: NodeId) -> Result<Open, String> {
        let open = Open::decode(open).map_err(|e| e.to_string())?;
        if open.cluster != self.cluster || open.group != self.group || open.session.origin != from {
            return Err("that session is of another cluster, group or node".into());
        }
        let unreadable = |e: io::Error| format!("the leader's state can't be read: {e}");
        let signed =
            self.state.seal_config().map_err(unreadable)?.is_some_and(|config| self.seals.opens(&config, &open));
        let genuine = match self.shared.keys() {
            Some(keys) if signed => keys.verify_open(&open, &|key| self.state.record(key)).map_err(unreadable)?,
            _ => signed,
        };
        if genuine {
            return Ok(open);
        }
        tracing::error!(%from, "the begin of a session was refused that the anchor key has not signed");
        Err("the anchor key has not signed that this session begins".into())
    }
}
