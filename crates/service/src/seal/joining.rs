//! The joiner's side: introduce oneself, prove possession, wait for an operator, then become a member.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use quorate_core::id::NodeId;
use quorate_crypto::kem_secret;
use quorate_replica::{CallError, MembershipView, PeerExpectation, Replica};
use zeroize::Zeroizing;

use super::join::proof_of_possession;
use super::join_wire::{Introduction, Request, Response, signed};
use super::record::Statement;
use super::sha256;
use crate::node::{GROUP, JoinConfig, Node, Sealed, StartError, State};

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
            Err(StartError::Config(format!(
                "the join token {why}; make one with `members invite --name {}`",
                self.config.name
            )))
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
            let mut introduced = false;
            loop {
                let Some(node) = this.upgrade().filter(|node| !node.stopping.load(Ordering::Relaxed)) else { return };
                let Some(pause) = node.join_once(&mut introduced).await else { return };
                drop(node);
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// One attempt; returns how long to wait before the next, none when there is nothing left to try.
    async fn join_once(&self, introduced: &mut bool) -> Option<Duration> {
        match self.join_step(self.config.join.as_ref()?, introduced).await {
            Ok(None) => {
                self.set_problem(format!(
                    "waiting for approval: compare the fingerprint {} and run `members approve {} --fingerprint …` on a member",
                    self.keys.fingerprint(),
                    self.config.name
                ));
                Some(POLL_EVERY)
            }
            Ok(Some((id, membership))) => {
                if let Err(why) = self.become_member(id, membership).await {
                    self.become_damaged(why);
                }
                None
            }
            Err(JoinError::Later(why)) => {
                self.set_problem(format!("can't join yet: {why}"));
                Some(RETRY_AFTER)
            }
            Err(JoinError::Refused(why)) => {
                *introduced = false;
                self.set_problem(format!("joining was refused: {why}"));
                Some(RETRY_AFTER)
            }
        }
    }

    async fn join_step(
        &self,
        join: &JoinConfig,
        introduced: &mut bool,
    ) -> Result<Option<(NodeId, MembershipView)>, JoinError> {
        // A node that was approved and then restarted before it had a data directory is known already.
        let polled = match self.ask(join, &Request::Poll).await {
            Err(JoinError::Refused(_)) if !*introduced => {
                self.introduce(join).await?;
                *introduced = true;
                Response::Waiting
            }
            other => other?,
        };
        match polled {
            Response::Approved { id, group, membership } if group == GROUP => Ok(Some((id, membership))),
            Response::Waiting => Ok(None),
            _ => Err(JoinError::Refused("the member answered something else than was asked".into())),
        }
    }

    async fn introduce(&self, join: &JoinConfig) -> Result<(), JoinError> {
        let statement = self.own_statement().encode();
        let signature = self
            .hsm
            .sign_identity(&signed(self.config.cluster, &statement))
            .await
            .map_err(|e| JoinError::Later(format!("this node's HSM failed: {e}")))?;
        let introduction = || Introduction {
            secret: Zeroizing::new(*join.token.secret),
            statement: statement.clone(),
            signature: signature.clone(),
        };
        let (nonce, ct) = match self.ask(join, &Request::Introduce(introduction())).await? {
            Response::Challenge { nonce, ct } => (nonce, ct),
            _ => return Err(JoinError::Refused("the member answered something else than was asked".into())),
        };
        let raw =
            self.hsm.decapsulate(&ct).await.map_err(|e| JoinError::Later(format!("this node's HSM failed: {e}")))?;
        let ss_h = kem_secret(self.keys.kem.alg, raw, &ct, &self.keys.kem.spki_der);
        let mac = proof_of_possession(&ss_h, self.config.cluster, &nonce, &statement);
        match self.ask(join, &Request::Prove { introduction: introduction(), nonce, mac }).await? {
            Response::Waiting => Ok(()),
            _ => Err(JoinError::Refused("the member answered something else than was asked".into())),
        }
    }

    /// One call to the inviter, by whatever address it is found at; its identity key is pinned by the token, so the
    /// token's secret is told to nobody else.
    async fn ask(&self, join: &JoinConfig, request: &Request) -> Result<Response, JoinError> {
        let token = &join.token;
        let expect = PeerExpectation {
            name: token.inviter_name.to_string(),
            cluster: token.cluster,
            identity_spki: Some(token.inviter_spki.clone()),
        };
        let mut unreached = String::new();
        let mut addresses = vec![&token.inviter_addr];
        addresses.extend(join.addresses.iter().filter(|a| **a != token.inviter_addr));
        for addr in addresses {
            let body = request.encode().to_vec().into();
            let net = self.world.net.clone();
            match Replica::join_call(net, addr, expect.clone(), GROUP, body, CALL_DEADLINE).await {
                Ok(bytes) => {
                    return Response::decode(&bytes).map_err(|e| JoinError::Refused(e.to_string()));
                }
                Err(CallError::Application(why)) => return Err(JoinError::Refused(why)),
                Err(e) => unreached = format!("{} at {addr}: {e}", token.inviter_name),
            }
        }
        Err(JoinError::Later(unreached))
    }

    async fn become_member(&self, id: NodeId, membership: MembershipView) -> Result<(), String> {
        let _moving = self.transition.lock().await;
        if self.stopping.load(Ordering::Relaxed) {
            return Ok(());
        }
        let replica = self.create_replica(id, Some(membership)).await.map_err(|e| e.to_string())?;
        self.state.send_replace(Arc::new(State::Sealed(Sealed { replica: replica.clone(), held_since: None })));
        self.set_problem("catching up with the cluster".into());
        tracing::info!(node = %self.config.name, id = id.0, "approved: this node is a member now");
        self.watch_problems(replica.clone());
        self.watch_own_envelope(replica);
        Ok(())
    }
}
