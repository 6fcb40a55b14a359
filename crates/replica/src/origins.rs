//! Sessions of origins: how this node begins its own, and whose batches it sequences while it leads.
//!
//! A leader that is unsealed checks each batch's MAC. A sealed one can't, and boots are no secret: it takes batches only of
//! an origin that has shown, once under this leadership, that it has the keys. So what has no keys gets nothing into the
//! log through an honest leader.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use quorate_core::id::{BatchId, NodeId};
use quorate_core::record_key::RecordKey;
use quorate_core::session::{Claim, Open, Session};
use tokio::time::{Instant, timeout_at};

use crate::error::ProposeError;
use crate::node::Node;
use crate::propose::Proposal;
use crate::raft::LeaderId;
use crate::state::{get_value, seal_config};

/// Length of a claim's signature, in bytes.
pub(crate) const CLAIM_LEN: usize = 64;

/// Who has shown what, to this node as the leader.
#[derive(Default)]
pub(crate) struct Origins(Mutex<Shown>);

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
    /// Whether a batch with this id may be sequenced under this leadership. `verified`: its MAC was checked.
    pub(crate) fn admit(
        &self,
        node: &Node,
        id: &BatchId,
        leadership: LeaderId,
        verified: bool,
        claim: Option<&[u8; CLAIM_LEN]>,
    ) -> Result<(), Unproven> {
        let session = match node.shared.session_of(id.origin) {
            Some(session) if session.boot == id.boot => session,
            Some(session) if session.boot > id.boot => return Err(Unproven::Superseded),
            _ => return Err(Unproven::NotOpen),
        };
        if verified {
            return Ok(());
        }
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.under != Some(leadership) {
            *shown = Shown { under: Some(leadership), sessions: BTreeMap::new() };
        }
        if shown.sessions.get(&id.origin) == Some(&session) {
            return Ok(());
        }
        let config = node.seal_config().unwrap_or_default();
        let shows = |claim: &[u8; CLAIM_LEN]| {
            config.is_some_and(|config| node.seals.claims(&config, &node.claim(leadership, session), claim))
        };
        if !claim.is_some_and(shows) {
            return Err(Unproven::NoClaim);
        }
        shown.sessions.insert(id.origin, session);
        Ok(())
    }
}

impl Node {
    /// A record's value, as applied here.
    pub(crate) fn record(&self, key: &RecordKey) -> io::Result<Option<Bytes>> {
        get_value(&*self.files.view()?, key)
    }

    /// The seal configuration in force here; of a state that has none yet, the one that this node was introduced with.
    pub(crate) fn seal_config(&self) -> io::Result<Option<Bytes>> {
        let view = self.files.view()?;
        Ok(seal_config(&|key| get_value(&*view, key))?.or_else(|| self.introduced_by.clone()))
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
        let signed = self.seal_config().map_err(unreadable)?.is_some_and(|config| self.seals.opens(&config, &open));
        let genuine = match self.shared.keys() {
            Some(keys) if signed => keys.verify_open(&open, &|key| self.record(key)).map_err(unreadable)?,
            _ => signed,
        };
        if genuine {
            return Ok(open);
        }
        tracing::error!(%from, "the begin of a session was refused that the anchor key has not signed");
        Err("the anchor key has not signed that this session begins".into())
    }

    /// Sees to it that this start has a session, before its first batch.
    ///
    /// # Errors
    /// When the node is sealed, another start or process of it has a session, or no leader took it in time.
    pub(crate) async fn open_session(&self, deadline: Instant) -> Result<(), ProposeError> {
        let mine = self.shared.sequences.session();
        if self.shared.session_of(self.me) == Some(mine) {
            return Ok(());
        }
        let late = || ProposeError::NotAccepted("the deadline passed before this node's session had begun".into());
        let _one = timeout_at(deadline, self.opening.lock()).await.map_err(|_| late())?;
        let mut sessions = self.shared.sessions();
        let known = |now: &Option<Session>| now.is_some_and(|now| now.boot >= mine.boot);
        if !known(&self.shared.session_of(self.me)) {
            let Some(keys) = self.shared.keys() else {
                return Err(ProposeError::NotAccepted("this node is sealed".into()));
            };
            let open = Proposal::Open(keys.open(mine).encode().into());
            let begun = async {
                if sessions.wait_for(|all| known(&all.get(&self.me).copied())).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            // Nothing of the batch was sent yet: whatever became of this, the batch was not applied.
            let begun = self.submit(&open, deadline, begun).await;
            begun.map_err(|e| match e {
                ProposeError::Unknown(why) => ProposeError::NotAccepted(why),
                e => e,
            })?;
        }
        match self.shared.session_of(self.me) {
            Some(now) if now == mine => Ok(()),
            _ => Err(ProposeError::NotAccepted("another start of this node has begun a session".into())),
        }
    }
}
