//! The new node's side: introduce oneself, prove possession, wait for an operator, then become a member.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_core::id::NodeId;
use quorate_core::record::Statement;
use quorate_crypto::{SealConfigHash, kem_secret};
use quorate_replica::{CallError, Introduction, MembershipView, PeerExpectation, Replica, SignedRoster};
use zeroize::Zeroizing;

use super::message::{self, Request, Response, signed};
use super::proof_of_possession;
use crate::node::{GROUP, JoinConfig, Node, Sealed, StartError, State};
use crate::seal::pins::leads_to;
use crate::seal::public::PublicSeals;
use crate::seal::sha256;
use crate::seal::token::JoinToken;

/// Between two questions whether an operator has decided.
const POLL_EVERY: Duration = Duration::from_secs(1);
/// After a failure.
const RETRY_AFTER: Duration = Duration::from_secs(3);
const CALL_DEADLINE: Duration = Duration::from_secs(10);

/// Why joining does not go on.
enum JoinError {
    /// Worth trying again: nobody answers, or nobody can answer now.
    Later(String),
    /// Refused; an operator has to do something.
    Refused(String),
}

impl Node {
    /// Checks before anything is sent that the token is for this node and this cluster.
    pub(crate) fn check_join(&self, join: &JoinConfig) -> Result<(), StartError> {
        let token = &join.token;
        let no = |why: String| {
            Err(StartError::Token(format!("the join token {why}; one has to be made for {}", self.config.name)))
        };
        if token.cluster != self.config.cluster {
            return no(format!(
                "is for cluster {}, but this node's certificate is for {}",
                token.cluster, self.config.cluster
            ));
        }
        if token.for_name != self.config.name {
            return no(format!("is for a node called {}, but this is {}", token.for_name, self.config.name));
        }
        if token.root_sha256 != sha256(&self.config.root_spki) {
            return no("was made under another root certificate than tls.root_ca".into());
        }
        Ok(())
    }

    /// What this node says of itself.
    pub(crate) fn own_statement(&self) -> Statement {
        Statement {
            name: self.config.name.clone(),
            peer_addr: self.config.peer_addr.clone(),
            api_addr: self.config.api_addr.clone(),
            identity_spki: self.keys.identity.clone(),
            kem_alg: self.keys.kem.alg as u8,
            kem_spki: self.keys.kem.spki_der.clone(),
            audit_spki: self.keys.audit.clone(),
            assurance: self.hsm.assurance().as_str().to_owned(),
        }
    }

    /// Tries until this node is a member, or is stopped. Progress and refusals are shown as the node's problem.
    pub(crate) fn join_until_member(&self) {
        let this = self.this.clone();
        self.runtime.spawn(async move {
            let mut known = MembershipView::default();
            loop {
                let Some(node) = this.upgrade().filter(|node| !node.stopping.load(Ordering::Relaxed)) else { return };
                let Some(pause) = node.join_once(&mut known).await else { return };
                drop(node);
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// One attempt; returns how long to wait before the next, none when there is nothing left to try.
    async fn join_once(&self, known: &mut MembershipView) -> Option<Duration> {
        let step = self.join_step(self.config.join.as_ref()?, known).await;
        self.awaits_approval.store(false, Ordering::Relaxed);
        match step {
            Ok(None) => {
                self.set_problem(String::new());
                self.awaits_approval.store(true, Ordering::Relaxed);
                Some(POLL_EVERY)
            }
            Ok(Some((id, introduction))) => {
                let pin = self.config.join.as_ref()?.token.seal_config_hash;
                if let Err(why) = self.become_member(id, introduction, pin).await {
                    self.become_damaged(why);
                }
                None
            }
            Err(JoinError::Later(why)) => {
                self.set_problem(format!("can't join yet: {why}"));
                Some(RETRY_AFTER)
            }
            Err(JoinError::Refused(why)) => {
                self.set_problem(format!("joining was refused: {why}"));
                Some(RETRY_AFTER)
            }
        }
    }

    /// Asks first: a node that introduced itself before a restart is known already.
    async fn join_step(
        &self,
        join: &JoinConfig,
        known: &mut MembershipView,
    ) -> Result<Option<(NodeId, Introduction)>, JoinError> {
        let mut response = self.poll(join, known).await?;
        if response == Response::Unknown {
            response = self.introduce(join).await?;
        }
        match response {
            Response::Approved { id, group, roster, configurations } if group == GROUP => {
                self.introduced(&join.token, id, roster, configurations).map(|told| Some((id, told)))
            }
            Response::Waiting { membership } => {
                *known = membership;
                Ok(None)
            }
            _ => Err(unexpected_answer()),
        }
    }

    /// What a member told of the cluster, when all of it follows from what the token says: any member may have answered.
    fn introduced(
        &self,
        token: &JoinToken,
        id: NodeId,
        roster: Vec<u8>,
        mut configurations: Vec<Vec<u8>>,
    ) -> Result<Introduction, JoinError> {
        let no = |what: &str| {
            JoinError::Refused(format!("{what}: do not trust that member; make a new token at another one"))
        };
        let newest = configurations.last().filter(|_| leads_to(&configurations, &token.seal_config_hash));
        if newest.is_none() {
            return Err(no(
                "the member's seal configuration is not the one that the token names, nor signed on from it by \
                           the custodians",
            ));
        }
        let seal_config = configurations.pop().unwrap_or_default();
        let roster = SignedRoster::decode(roster.into()).ok().filter(|signed| {
            let me = signed.roster().members.get(&id);
            signed.holds(&PublicSeals, &seal_config, self.config.cluster, GROUP)
                && signed.roster().serial >= token.roster_serial
                && me.is_some_and(|me| me.identity_spki == self.keys.identity && me.name == self.config.name.as_str())
        });
        let roster = roster.ok_or_else(|| {
            no("the member's list of members is not signed by this cluster's anchor key, is older than the token, or lacks \
                this node")
        })?;
        Ok(Introduction { seal_config, roster })
    }

    /// Asks the inviter, and when it can't answer, the members it told of: any unsealed one knows.
    async fn poll(&self, join: &JoinConfig, known: &MembershipView) -> Result<Response, JoinError> {
        let mut answer = self.ask_inviter(join, &Request::Poll).await;
        for member in known.members.values().filter(|m| m.name != join.token.inviter_name.as_str()) {
            if answer.is_ok() {
                break;
            }
            let expect = PeerExpectation {
                name: member.name.clone(),
                cluster: join.token.cluster,
                identity_spki: Some(member.identity_spki.clone()),
            };
            if let Ok(theirs) = self.ask(&member.peer_addr, expect, &Request::Poll).await {
                answer = Ok(theirs);
            }
        }
        answer
    }

    async fn introduce(&self, join: &JoinConfig) -> Result<Response, JoinError> {
        let statement = self.own_statement().encode();
        let signature = self
            .hsm
            .sign_identity(&signed(self.config.cluster, &statement))
            .await
            .map_err(|e| JoinError::Later(format!("this node's HSM failed: {e}")))?;
        let introduction = || message::Introduction {
            secret: Zeroizing::new(*join.token.secret),
            statement: statement.clone(),
            signature: signature.clone(),
        };
        let Response::Challenge { nonce, ct } = self.ask_inviter(join, &Request::Introduce(introduction())).await?
        else {
            return Err(unexpected_answer());
        };
        let raw =
            self.hsm.decapsulate(&ct).await.map_err(|e| JoinError::Later(format!("this node's HSM failed: {e}")))?;
        let ss_h = kem_secret(self.keys.kem.alg, raw, &ct, &self.keys.kem.spki_der);
        let mac = proof_of_possession(&ss_h, self.config.cluster, &nonce, &statement);
        self.ask_inviter(join, &Request::Prove { introduction: introduction(), nonce, mac }).await
    }

    /// One call to the inviter, by whatever address it is found at; its identity key is pinned by the token, so the
    /// token's secret is told to nobody else.
    async fn ask_inviter(&self, join: &JoinConfig, request: &Request) -> Result<Response, JoinError> {
        let token = &join.token;
        let mut addresses = vec![&token.inviter_addr];
        addresses.extend(join.addresses.iter().filter(|a| **a != token.inviter_addr));
        let mut answer = Err(JoinError::Later("no address is known".into()));
        for addr in addresses {
            let expect = PeerExpectation {
                name: token.inviter_name.to_string(),
                cluster: token.cluster,
                identity_spki: Some(token.inviter_spki.clone()),
            };
            answer = self.ask(addr, expect, request).await;
            if !matches!(answer, Err(JoinError::Later(_))) {
                break;
            }
        }
        answer
    }

    async fn ask(&self, addr: &str, expect: PeerExpectation, request: &Request) -> Result<Response, JoinError> {
        let (net, name) = (self.world.net.clone(), expect.name.clone());
        let body = request.encode(self.config.levels).to_vec().into();
        match Replica::join_call(net, addr, expect, GROUP, body, CALL_DEADLINE).await {
            Ok(bytes) => Response::decode(&bytes).map_err(|e| JoinError::Refused(e.to_string())),
            Err(CallError::Application(why)) => Err(JoinError::Refused(why)),
            Err(e) => Err(JoinError::Later(format!("{name} at {addr}: {e}"))),
        }
    }

    async fn become_member(&self, id: NodeId, told: Introduction, pin: SealConfigHash) -> Result<(), String> {
        let _moving = self.transition.lock().await;
        if self.stopping.load(Ordering::Relaxed) {
            return Ok(());
        }
        let replica = self.create_replica(id, Some(told), vec![pin]).await.map_err(|e| e.to_string())?;
        self.set_pins(vec![pin]).map_err(|e| e.to_string())?;
        self.state.send_replace(Arc::new(State::Sealed(Sealed { replica: replica.clone(), operator_seal: None })));
        self.set_waiting("catching up with the cluster".into());
        tracing::info!(node = %self.config.name, id = id.0, "approved: this node is a member now");
        self.watch_problems(replica.clone());
        self.watch_cluster_seal(&replica);
        self.watch_own_envelope(replica);
        Ok(())
    }
}

fn unexpected_answer() -> JoinError {
    JoinError::Refused("the member answered something else than was asked; update the older of the two nodes".into())
}
