//! The hand-over: one ceremony at any node unseals every approved sealed node (key-hierarchy §4.4).
//!
//! ```text
//! sender (unsealed)                        recipient (sealed)
//! nonce?                             ──►
//!                                    ◄──   nonce 32
//! RK, sealed to the recipient's HSM,
//! signed by the anchor key           ──►   signature checked, opened in its HSM, keyring opened, state checked, serves
//!                                    ◄──   MAC under RK
//! ```
//!
//! What is handed over is RK: never the unseal key, the quorum's key or a share. The recipient's keys come from its
//! *Member record*, which only a MACed batch can write, and not from Raft's membership. Offers are made for ten minutes
//! after a ceremony, at each Hello, and live in memory alone.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::NodeId;
use quorate_core::record::Statement;
use quorate_crypto::kdf::Label;
use quorate_crypto::{CeremonyId, Envelope, HandoverContext, HsmAlg, Keyring, RootKey, SealConfig, kem_secret};
use quorate_replica::{CallError, MembershipView, Replica, Seldom};
use tokio::time::Instant;

use super::members::member;
use super::message::Message;
use super::open::{CompletedCeremony, Opened, SealState};
use super::operator_seal::OperatorSeal;
use super::sha256;
use crate::error::Error;
use crate::node::{Node, State};

/// For how long a completed ceremony, or an approval, opens others.
pub(crate) const OFFERED: Duration = Duration::from_secs(10 * 60);
/// How long a recipient keeps the nonce it gave.
const NONCE_KEPT: Duration = Duration::from_secs(30);
/// Between two offers to the same node that did not take the first.
const RETRY_AFTER: Duration = Duration::from_secs(2);
/// The recipient scans its whole state before it answers.
const DEADLINE: Duration = Duration::from_secs(60);
const ENVELOPE_LEN_MAX: usize = 8 * 1024;
/// One for each member at most.
const OPERATOR_SEALS_MAX: usize = MembershipView::MEMBERS_MAX;

/// Offers and nonces of this process.
#[derive(Default)]
pub(crate) struct Handovers {
    /// Nodes approved here, and until when they are offered the key whatever the age of the ceremony.
    approved: Mutex<HashMap<NodeId, Instant>>,
    offering: Mutex<HashSet<NodeId>>,
    offered: Mutex<HashMap<NodeId, Instant>>,
    /// Offers in a row that were not taken.
    failing: Failing,
    nonces: Mutex<HashMap<NodeId, ([u8; 32], Instant)>>,
    /// The next root key, handed over before the log rotates to it.
    pub(super) next: Mutex<Option<super::rotation::Next>>,
    /// One rotation at a time.
    pub(super) rotating: tokio::sync::Mutex<()>,
}

/// Tells which members take no offer.
struct Failing(Seldom);

impl Default for Failing {
    fn default() -> Self {
        Self(Seldom::lasting(2 * RETRY_AFTER, OFFERED))
    }
}

/// A root key on its way to one member: `ceremony id 16 ‖ age ms u64 ‖ seal epoch u64 ‖ number of operators' seals u16 ‖ (node u64 ‖
/// seal 16)… ‖ envelope ‖ anchor signature 64`. Anybody can seal anything to a member's public key; the signature shows
/// that whoever made this offer holds the cluster's keys, and covers every word that the recipient acts on.
pub(super) struct Offer {
    ceremony: CompletedCeremony,
    envelope: Vec<u8>,
    bytes: Vec<u8>,
}

impl Offer {
    /// Signs an offer for `recipient`, which gave `nonce`.
    pub(super) fn sign(
        keyring: &Keyring,
        recipient: &str,
        nonce: &[u8; 32],
        ceremony: CompletedCeremony,
        envelope: Vec<u8>,
    ) -> Self {
        let said = said(&ceremony);
        let signature = keyring.sign_with_anchor(Label::Handover, &fields(recipient, nonce, &said, &envelope));
        let bytes = Writer::new().raw(&said).field(&envelope).raw(&signature).finish();
        Self { ceremony, envelope, bytes }
    }

    pub(super) fn encode(self) -> Bytes {
        self.bytes.into()
    }

    /// Reads an offer to `recipient`; none comes of one that the anchor key of `config` did not sign for this nonce.
    fn decode(bytes: &[u8], config: &SealConfig, recipient: &str, nonce: &[u8; 32]) -> Result<Self, Error> {
        let (ceremony, envelope, signature) = Self::parts(bytes).map_err(|e| refused(&e))?;
        let said = &bytes[..bytes.len() - signature.len() - envelope.len() - 4];
        if !config.is_signed_by_anchor(Label::Handover, &fields(recipient, nonce, said, envelope), &signature) {
            return Err(refused(
                &"the anchor key of the seal configuration did not sign it: its sender is not unsealed",
            ));
        }
        Ok(Self { ceremony, envelope: envelope.to_vec(), bytes: bytes.to_vec() })
    }

    fn parts(bytes: &[u8]) -> Result<(CompletedCeremony, &[u8], [u8; 64]), Malformed> {
        let mut r = Reader::new("hand-over", bytes);
        let (id, age, seal_epoch) = (r.array()?, Duration::from_millis(r.u64()?), r.u64()?);
        let number = r.u16()?;
        if usize::from(number) > OPERATOR_SEALS_MAX {
            return Err(Malformed("hand-over: number of operators' seals"));
        }
        let operator_seals =
            (0..number).map(|_| Ok((NodeId(r.u64()?), OperatorSeal(r.array()?)))).collect::<Result<_, _>>()?;
        let parts =
            (CompletedCeremony::new(id, seal_epoch, operator_seals, age), r.field(ENVELOPE_LEN_MAX)?, r.array()?);
        r.finish()?;
        Ok(parts)
    }
}

/// What an offer says of the ceremony, as of now.
fn said(ceremony: &CompletedCeremony) -> Vec<u8> {
    let CompletedCeremony { id, seal_epoch, operator_seals, .. } = ceremony;
    let age = u64::try_from(ceremony.age().as_millis()).unwrap_or(u64::MAX);
    let told = operator_seals.iter().take(OPERATOR_SEALS_MAX);
    let head = Writer::new().raw(id).u64(age).u64(*seal_epoch).u16(told.len() as u16);
    told.fold(head, |w, (node, operator_seal)| w.u64(node.0).raw(&operator_seal.0)).finish()
}

/// What is signed: `[recipient, nonce, what is said of the ceremony, SHA-256(envelope)]`.
fn fields(recipient: &str, nonce: &[u8; 32], said: &[u8], envelope: &[u8]) -> Vec<u8> {
    Writer::new().field(recipient.as_bytes()).field(nonce).field(said).field(&sha256(envelope)).finish()
}

impl Handovers {
    /// `id` was approved just now: it is offered the key even when the ceremony is long past.
    pub(crate) fn approved(&self, id: NodeId) {
        self.approved.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Instant::now() + OFFERED);
    }

    pub(super) fn is_newly_approved(&self, id: NodeId) -> bool {
        let mut approved = self.approved.lock().unwrap_or_else(PoisonError::into_inner);
        approved.retain(|_, until| Instant::now() < *until);
        approved.contains_key(&id)
    }

    /// Whether to offer to `id` now; the caller calls [`Self::ended`] afterwards.
    fn begins(&self, id: NodeId) -> bool {
        let offered = self.offered.lock().unwrap_or_else(PoisonError::into_inner);
        let too_early = offered.get(&id).is_some_and(|at| at.elapsed() < RETRY_AFTER);
        !too_early && self.offering.lock().unwrap_or_else(PoisonError::into_inner).insert(id)
    }

    /// It is open, or not to be opened by this node: whatever offer was not taken before, another was faster.
    fn is_not_wanted(&self, id: NodeId) {
        self.failing.0.over(&id.to_string());
    }

    /// An offer was not taken: whether that may pass by itself, as it does in nearly every ceremony.
    fn may_pass(&self, id: NodeId) -> bool {
        self.failing.0.due(&id.to_string()).is_none()
    }

    fn ended(&self, id: NodeId, taken: bool) {
        self.offered.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Instant::now());
        self.offering.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        if taken {
            self.failing.0.over(&id.to_string());
            self.approved.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        }
    }
}

impl Node {
    /// Offers the root key to every sealed member that is heard of.
    pub(crate) fn offer_to_all(&self) {
        let state = self.current();
        let Some(replica) = state.replica() else { return };
        for id in replica.status().members().keys() {
            self.offer_to(*id);
        }
    }

    /// Offers the root key to `id`, if it wants one and may have it.
    pub(crate) fn offer_to(&self, id: NodeId) {
        let state = self.current();
        let State::Unsealed(unsealed) = &*state else { return };
        let ceremony = &unsealed.opened.ceremony;
        let entitled = ceremony.age() < OFFERED || self.handover.is_newly_approved(id);
        if !self.wants_handover(id, ceremony) {
            return self.handover.is_not_wanted(id);
        }
        let stopping = self.stopping.load(Ordering::Relaxed);
        if id == unsealed.replica.id() || stopping || !entitled || !self.handover.begins(id) {
            return;
        }
        let Some(node) = self.this.upgrade() else { return };
        let opened = unsealed.opened.clone();
        let mut changes = self.state.subscribe();
        self.runtime.spawn(async move {
            // A seal ends what is under way: the key leaves this node, and its memory, no later than that.
            let sealed = async { drop(changes.wait_for(|state| !matches!(**state, State::Unsealed(_))).await) };
            let outcome = tokio::select! {
                biased;
                () = sealed => Err(Error::Sealed),
                outcome = node.hand_over(&opened, id) => outcome,
            };
            let to = || opened.records.replica.status().members().get(&id).map_or(id.to_string(), |m| m.name.clone());
            match &outcome {
                Ok(name) => tracing::info!(to = %name, "root key handed over"),
                // Another was faster, or it has to catch up first: what it said of itself is a second old.
                Err(why) if node.stopping.load(Ordering::Relaxed) || node.handover.may_pass(id) => tracing::debug!(to = %to(), why = why.to_string(), "root key not handed over"),
                Err(why) => {
                    tracing::warn!(to = %to(), why = why.to_string(), "the root key can't be handed over: it stays sealed, and it is tried again");
                }
            }
            node.handover.ended(id, outcome.is_ok());
        });
    }

    /// The members that the root key is on its way to, by name: this one too, while it opens itself.
    pub(crate) fn handing_over(&self) -> Vec<String> {
        let state = self.current();
        let State::Unsealed(unsealed) = &*state else {
            let own = self.ceremony.is_completing().then(|| self.config.name.to_string());
            return own.into_iter().collect();
        };
        let ceremony = &unsealed.opened.ceremony;
        let comes = |id: &NodeId| {
            (ceremony.age() < OFFERED || self.handover.is_newly_approved(*id)) && self.wants_handover(*id, ceremony)
        };
        let status = unsealed.replica.status();
        let others = status.members().iter().filter(|(id, _)| **id != status.id && comes(id));
        others.map(|(_, member)| member.name.clone()).collect()
    }

    pub(crate) async fn hand_over(&self, opened: &Arc<Opened>, to: NodeId) -> Result<String, Error> {
        let records = &opened.records;
        // A fresh view: neither a removed member nor a node of a sealed cluster gets anything.
        let view = records.fresh_view(Instant::now() + Duration::from_secs(5)).await?;
        let not_approved = || Error::WrongState(format!("node {to} is no approved member; approve it first"));
        let name = view.membership().members.get(&to).map(|m| m.name.clone()).ok_or_else(not_approved)?;
        let record =
            member(&mut records.facts(&view)?, &name)?.filter(|member| member.id == to).ok_or_else(not_approved)?;
        let unavailable = |e: CallError| Error::Unavailable(e.to_string());
        let ask = async |message: Message| message.ask(&records.replica, to, DEADLINE).await.map_err(unavailable);
        let nonce = ask(Message::HandoverNonce).await?;
        let (offer, expected) = self.seal_offer(&opened.seal, &opened.root_key, opened, &record.statement, &nonce)?;
        let ack = ask(Message::Handover(offer.encode())).await?;
        match aws_lc_rs::constant_time::verify_slices_are_equal(&ack, &expected) {
            Ok(()) => Ok(name),
            Err(_) => Err(Error::WrongState(format!("{name} did not prove that it opened the root key"))),
        }
    }

    /// A root key sealed to a member's HSM, and the proof of having opened it that is expected.
    pub(super) fn seal_offer(
        &self,
        seal: &SealState,
        root_key: &RootKey,
        opened: &Opened,
        them: &Statement,
        nonce: &[u8],
    ) -> Result<(Offer, Vec<u8>), Error> {
        let name = them.name.as_str();
        let nonce: [u8; 32] = nonce.try_into().map_err(|_| Error::Unavailable(format!("{name} gave no nonce")))?;
        let context = HandoverContext {
            envelope: seal.envelope_context(name, &them.kem_spki, &them.identity_spki)?,
            sender: self.config.name.to_string(),
            nonce,
            ceremony: CeremonyId(opened.ceremony.id),
        };
        let alg = HsmAlg::from_byte(them.kem_alg).map_err(|e| Error::WrongState(e.to_string()))?;
        let envelope = Envelope::seal_handover(&context, alg, &them.kem_spki, root_key, &*self.world.entropy)
            .map_err(|e| Error::WrongState(e.to_string()))?;
        let expected = envelope.handover_ack(&context, root_key).to_vec();
        let keyring = &opened.keyring;
        Ok((Offer::sign(keyring, name, &nonce, opened.ceremony.clone(), envelope.encode()), expected))
    }

    /// Opens what a member sealed to this node's HSM; answers the root key and the proof of it.
    async fn open_offer(
        &self,
        from: NodeId,
        nonce: [u8; 32],
        offer: &Offer,
        replica: &Replica,
        seal: &SealState,
    ) -> Result<(RootKey, Vec<u8>), Error> {
        let sender = replica.status().members().get(&from).map(|m| m.name.clone());
        let context = HandoverContext {
            envelope: self.own_context(seal)?,
            sender: sender.ok_or_else(|| Error::WrongState(format!("node {from} is no member here")))?,
            nonce,
            ceremony: CeremonyId(offer.ceremony.id),
        };
        let envelope = Envelope::decode(&offer.envelope).map_err(|e| refused(&e))?;
        let raw = self.hsm.decapsulate(envelope.ct_h()).await.map_err(|e| refused(&e))?;
        let half = kem_secret(envelope.alg(), raw, envelope.ct_h(), &self.keys.kem.spki_der);
        let root_key = envelope.open_handover(&context, &half).map_err(|e| refused(&e))?;
        let ack = envelope.handover_ack(&context, &root_key).to_vec();
        Ok((root_key, ack))
    }

    /// A fresh nonce for `from`, which is about to rotate the root key.
    pub(crate) fn rotation_nonce(&self, from: NodeId) -> Result<Vec<u8>, String> {
        self.opened().map_err(|e| e.to_string())?;
        Ok(self.fresh_nonce(from))
    }

    /// Takes the next root key and keyring from `from`, before the log rotates to them; answers the proof that it opened.
    pub(crate) async fn take_rotation(&self, from: NodeId, offer: &[u8], keyring: Bytes) -> Result<Vec<u8>, String> {
        let nonce = self.spend_nonce(from)?;
        self.open_rotation(from, nonce, offer, keyring).await.map_err(|e| e.to_string())
    }

    async fn open_rotation(&self, from: NodeId, nonce: [u8; 32], offer: &[u8], boxed: Bytes) -> Result<Vec<u8>, Error> {
        let _moving = self.transition.lock().await;
        let opened = self.opened()?;
        let offer = Offer::decode(offer, &opened.seal.config, self.config.name.as_str(), &nonce)?;
        let seal = SealState { keyring: boxed, ..opened.seal.clone() };
        let (root_key, ack) = self.open_offer(from, nonce, &offer, &opened.records.replica, &seal).await?;
        let keyring = seal.open_keyring(&root_key).map_err(|e| refused(&e))?;
        // The sender may have kept an older one, and may not skip one.
        if root_key.generation().checked_sub(1) != Some(opened.root_key.generation())
            || !keyring.succeeds(&opened.keyring)
        {
            return Err(refused(&"its keyring does not follow this node's"));
        }
        self.make_ready(&opened, seal.keyring, root_key, Arc::new(keyring));
        Ok(ack)
    }

    fn fresh_nonce(&self, from: NodeId) -> Vec<u8> {
        let mut nonce = [0; 32];
        self.world.entropy.fill(&mut nonce);
        let mut nonces = self.handover.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        nonces.insert(from, (nonce, Instant::now() + NONCE_KEPT));
        nonce.to_vec()
    }

    fn spend_nonce(&self, from: NodeId) -> Result<[u8; 32], String> {
        let nonce = self.handover.nonces.lock().unwrap_or_else(PoisonError::into_inner).remove(&from);
        Ok(nonce.filter(|(_, until)| Instant::now() < *until).ok_or("the nonce has expired; begin again")?.0)
    }

    /// A fresh nonce for `from`, which wants to hand over.
    pub(crate) fn handover_nonce(&self, from: NodeId) -> Result<Vec<u8>, String> {
        self.sealed_replica().map_err(|e| e.to_string())?;
        Ok(self.fresh_nonce(from))
    }

    /// Takes what `from` hands over; answers the proof that it opened.
    pub(crate) async fn take_handover(&self, from: NodeId, offer: &[u8]) -> Result<Vec<u8>, String> {
        let nonce = self.spend_nonce(from)?;
        self.open_handover(from, nonce, offer).await.map_err(|e| e.to_string())
    }

    async fn open_handover(&self, from: NodeId, nonce: [u8; 32], offer: &[u8]) -> Result<Vec<u8>, Error> {
        let _moving = self.transition.lock().await;
        let state = self.current();
        let State::Sealed(sealed) = &*state else {
            return Err(Error::WrongState(format!("{} is not sealed", self.config.name)));
        };
        let config = self.seal_state(&sealed.replica)?.config;
        let offer = Offer::decode(offer, &config, self.config.name.as_str(), &nonce)?;
        if !offer.ceremony.may_open(sealed.replica.id(), sealed.operator_seal) {
            return Err(Error::WrongState(format!(
                "{} was sealed by an operator after that ceremony; custodians have to hold a new one",
                self.config.name
            )));
        }
        let replica = sealed.replica.clone();
        let seal = self.caught_up(&replica).await?;
        if seal.seal_epoch != offer.ceremony.seal_epoch {
            return Err(Error::WrongState(format!(
                "the ceremony of the sender and the state of {} belong to different seals of the cluster",
                self.config.name
            )));
        }
        let (root_key, ack) = self.open_offer(from, nonce, &offer, &replica, &seal).await?;
        // The sender's root key may be of another time than this node's state: that says nothing about this node.
        let keyring = seal.open_keyring(&root_key).map_err(|e| refused(&e))?;
        self.serve(&replica, seal, root_key, keyring, offer.ceremony).await?;
        self.ceremony.forget(None);
        Ok(ack)
    }
}

fn refused(e: &dyn std::fmt::Display) -> Error {
    Error::WrongState(format!("the handed-over key does not open: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that stops says that it is sealed: that the offer to it fails has nothing to do with the ceremony of long ago, in which
    /// another member was faster.
    #[tokio::test(start_paused = true)]
    async fn an_offer_that_fails_once_is_not_told_of_whatever_failed_before_the_node_was_open() {
        let (handovers, id) = (Handovers::default(), NodeId(2));
        assert!(handovers.may_pass(id), "another was faster");
        handovers.is_not_wanted(id);
        tokio::time::advance(OFFERED / 2).await;
        assert!(handovers.may_pass(id), "it stops");
        tokio::time::advance(3 * RETRY_AFTER).await;
        assert!(!handovers.may_pass(id), "it stays sealed");
    }
}
