//! Removing a member, and the rotation of the root key that makes it final (key-hierarchy §4.5, §6).
//!
//! ```text
//! may it go?                      ask the leader: a majority with and without it
//! its vote                        goes first, by a roster of its own, while it counts still
//! RK_{r+1}, keyring + epoch e+1   made here, from public keys alone: no custodian is needed
//!   ──► every unsealed member     sealed to its HSM; it reads with the new keyring from now on
//! one batch                       Member record and envelope gone, keyring under RK_{r+1}, an envelope for each that stays,
//!                                 a roster without it: its connections are cut, its votes and answers count no more
//! membership                      follows the roster
//! ```
//!
//! The batch comes first: after a crash in between, the member is one without a record, to which nothing is handed over,
//! and removing it again goes on where it stopped. RK_{r+1} is never sent under RK_r, which the removed node has.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use quorate_core::authorize::{ManageCluster, authorize};
use quorate_core::decide::{Change, Write};
use quorate_core::facts::{Facts, Of};
use quorate_core::id::NodeId;
use quorate_core::principal::Principal;
use quorate_core::record::{MemberRecord, Record, RecordName, SealRecord};
use quorate_core::record_key::RecordKey;
use quorate_crypto::{Keyring, RootKey, Secret};
use tokio::time::Instant;

use super::members::{current_keyring, member, not_changed};
use super::message::Message;
use super::open::{Opened, SealState};
use super::status::Health;
use crate::desk::Kms;
use crate::error::Error;
use crate::node::{Node, State, Unsealed};
use crate::records::facts::unreadable;
use crate::records::{EngineFacts, Secrets};
use crate::view::Stands;

/// How long one member may take to open the next root key; who misses it asks for it later.
const HAND_ON_LIMIT: Duration = Duration::from_secs(5);

/// How long a leader is looked for to say whether the member may go.
const CHECK_LIMIT: Duration = Duration::from_secs(8);

/// The next root key, ready for the entry that rotates to it.
pub(crate) struct Next {
    boxed: Bytes,
    root_key: RootKey,
    keyring: Arc<Keyring>,
}

/// A removal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Removed {
    /// The Raft id that is gone, and never comes again.
    pub id: NodeId,
    /// The voters that remain.
    pub voters: Vec<NodeId>,
    /// Generation of the root key now.
    pub root_generation: u32,
}

impl Node {
    /// Removes a member: cut off, its record and envelope gone, root key and epoch rotated for those that stay. A
    /// leader hands on its leadership first. Called again after a failure it goes on where it stopped.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a name that is no member; [`Error::WrongState`] when the rest would lose its quorum, or
    /// when it is this node itself: then nothing was done. [`Error::Begun`] once its vote is taken.
    pub async fn remove_member(&self, caller: &Principal, name: &str, deadline: Instant) -> Result<Removed, Error> {
        authorize::<ManageCluster>(caller)?;
        if name == self.config.name.as_str() {
            return Err(Error::WrongState(format!(
                "{name} was asked to remove itself, and must not know the next root key; ask another unsealed member"
            )));
        }
        let node = self.this.upgrade().ok_or(Error::Internal("the node is stopping"))?;
        let (caller, name) = (caller.clone(), name.to_owned());
        // In a task of its own: a caller who hangs up does not leave half a removal.
        let task = self.runtime.spawn(async move { node.remove(&caller, &name, deadline).await });
        task.await.map_err(|_| Error::Internal("removing the member failed"))?
    }

    async fn remove(&self, caller: &Principal, name: &str, deadline: Instant) -> Result<Removed, Error> {
        let _one = self.handover.rotating.lock().await;
        let opened = self.opened()?;
        let records = &opened.records;
        let replica = &records.replica;
        // Asked first: without a majority there is no view either, and this says why.
        let check_until = deadline.min(Instant::now() + CHECK_LIMIT);
        if let Some((id, _)) = replica.status().membership.by_name(name) {
            replica.may_remove(id, check_until).await.map_err(not_changed)?;
        }
        let view = records.fresh_view(check_until).await?;
        let record = member(&mut records.facts(&view)?, name)?;
        let pinned = view.membership().by_name(name).map(|(id, _)| id);
        drop(view);
        let id = record.as_ref().map(|r| r.id).or(pinned);
        let id = id.ok_or_else(|| Error::NotFound(format!("nobody called {name} is a member")))?;
        // While the voters change, those that go count still; from then on it is the roster that cuts off.
        let serial = records.commit_roster(deadline, |now| now.demoting(id)).await?;
        let removed = self.finish_removal(&opened, name, (id, record.is_some()), serial, deadline).await?;
        let root_generation = removed.root_generation;
        tracing::info!(by = %caller, node = %name, id = id.0, root_generation, "member removed, root key rotated");
        Ok(removed)
    }

    /// What follows once the roster with this serial takes the member's vote.
    pub(super) async fn finish_removal(
        &self,
        opened: &Arc<Opened>,
        name: &str,
        (id, recorded): (NodeId, bool),
        serial: u64,
        deadline: Instant,
    ) -> Result<Removed, Error> {
        let records = &opened.records;
        let replica = &records.replica;
        let finish = async {
            replica.carry_out(serial, deadline).await.map_err(not_changed)?;
            tracing::info!(node = %name, "a member that is being removed has no vote any more");
            let roster = records.fresh_view(deadline).await?.roster().map_err(unreadable)?;
            if recorded || roster.is_some_and(|(_, signed)| signed.roster().members.contains_key(&id)) {
                let serial = self.rotate_without(opened, name, id, deadline).await?;
                replica.carry_out(serial, deadline).await.map_err(not_changed)?;
            }
            let root_generation = self.opened()?.root_key.generation();
            Ok(Removed { id, voters: replica.status().voters().collect(), root_generation })
        };
        finish.await.map_err(|e: Error| e.begun(format!("removing {name}")))
    }

    /// The batch that takes `name` out of who may open anything, and out of the roster, whose serial it answers.
    pub(super) async fn rotate_without(
        &self,
        opened: &Arc<Opened>,
        name: &str,
        id: NodeId,
        deadline: Instant,
    ) -> Result<u64, Error> {
        let records = &opened.records;
        let hsm_random = self.hsm.random(32).await.map_err(|e| Error::Unavailable(e.to_string()))?;
        let hsm_random = Secret::<32>::from_slice(&hsm_random).ok_or(Error::Internal("the HSM gave too few bytes"))?;
        let entropy = &*self.world.entropy;
        let generation = opened.root_key.generation().checked_add(1).ok_or(Error::Internal("root key generations"))?;
        let next = |applied| -> Result<(RootKey, Keyring), Error> {
            let damaged = |e: &dyn std::fmt::Display| Error::Damaged(e.to_string());
            let mut keyring = opened.seal.open_keyring(&opened.root_key).map_err(|e| damaged(&e))?;
            keyring.begin_epoch(applied, &hsm_random, entropy).map_err(|e| Error::WrongState(e.to_string()))?;
            Ok((RootKey::generate(generation, &hsm_random, entropy), keyring))
        };
        let view = records.fresh_view(deadline).await?;
        let stay = {
            let mut facts = records.facts(&view)?;
            current_keyring(opened, &mut facts)?;
            members_but(&mut facts, name)?
        };
        let (root_key, keyring) = next(view.applied())?;
        let boxed = Bytes::from(keyring.seal(&root_key, &opened.seal.keyring_context(), entropy));
        let seal = SealState { keyring: boxed.clone(), ..opened.seal.clone() };
        drop(view);

        let serves = |id| self.peers.hello(id).is_some_and(|(hello, _)| hello.health == Health::Ok);
        let unsealed: Vec<&MemberRecord> =
            stay.iter().map(|m| &**m).filter(|m| m.statement.name != self.config.name && serves(m.id)).collect();
        let told = unsealed.iter().map(|member| self.hand_on(opened, &seal, &root_key, member));
        let told = join_all(told).await;
        self.make_ready(opened, boxed.clone(), root_key, Arc::new(keyring));

        // The root key is in `next` now; envelopes are made of it and of public keys.
        let put = |key, value| Write::Update(Record::Seal(SealRecord { key, value }));
        let decide = |facts: &mut EngineFacts<'_>| {
            current_keyring(opened, facts)?;
            let mut writes = vec![put(RecordKey::keyring(), boxed.to_vec())];
            let serial = records.change_roster(facts, &mut writes, |now| now.without(id))?;
            if let Some(gone) = member(facts, name)? {
                writes.push(Write::Delete(RecordName::Member(gone.statement.name.clone())));
            }
            let envelope = RecordKey::envelope(name);
            if facts.get::<SealRecord>(envelope.clone())?.is_some() {
                writes.push(Write::Delete(RecordName::Seal(envelope)));
            }
            let next = self.handover.next.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(next) = next.as_ref().filter(|next| next.boxed == boxed) else {
                return Err(Error::Unavailable("another rotation is under way; try again".into()));
            };
            for member in members_but(facts, name)? {
                let envelope = RecordKey::envelope(member.statement.name.as_str());
                facts.get::<SealRecord>(envelope.clone())?;
                let value = self.envelope_for(&seal, &next.root_key, &member.statement)?.encode();
                writes.push(put(envelope, value));
            }
            Ok(Change { writes, answer: serial })
        };
        let serial = records.change(deadline, Secrets::default(), decide).await?.answer;
        for (member, told) in unsealed.iter().zip(told) {
            if let Err(why) = told {
                tracing::warn!(to = %member.statement.name, why = why.to_string(), "it missed the rotation, and will be sealed until it asks");
                self.handover.approved(member.id);
            }
        }
        // The log has rotated; this node's own service follows within moments.
        let rotated = |state: &Arc<State>| match &**state {
            State::Unsealed(u) => u.opened.seal.keyring == boxed,
            _ => true,
        };
        let _ = tokio::time::timeout_at(deadline, self.state.subscribe().wait_for(rotated)).await;
        Ok(serial)
    }

    /// Gives an unsealed member the next root key.
    async fn hand_on(
        &self,
        opened: &Opened,
        seal: &SealState,
        root_key: &RootKey,
        to: &MemberRecord,
    ) -> Result<(), Error> {
        let replica = &opened.records.replica;
        let unavailable = |e: quorate_replica::CallError| Error::Unavailable(e.to_string());
        let nonce = Message::RotationNonce.ask(replica, to.id, HAND_ON_LIMIT).await;
        let (offer, expected) = self.seal_offer(seal, root_key, opened, &to.statement, &nonce.map_err(unavailable)?)?;
        let message = Message::Rotation { offer: offer.encode(), keyring: seal.keyring.clone() };
        let ack = message.ask(replica, to.id, HAND_ON_LIMIT).await.map_err(unavailable)?;
        aws_lc_rs::constant_time::verify_slices_are_equal(&ack, &expected)
            .map_err(|_| Error::WrongState(format!("{} did not prove that it opened the key", to.statement.name)))
    }

    /// From now on this node opens and checks with the next keyring, and waits for the log to rotate to it.
    pub(super) fn make_ready(&self, opened: &Opened, boxed: Bytes, root_key: RootKey, keyring: Arc<Keyring>) {
        opened.verifier.succeed(&keyring);
        let next = Next { boxed: boxed.clone(), root_key, keyring: keyring.clone() };
        *self.handover.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
        opened.kms.keyring_watch().prepare(boxed, &keyring);
    }

    /// Follows the rotations in the log for as long as `kms` serves.
    pub(crate) fn watch_rotations(&self, kms: &Arc<Kms>) {
        let (this, kms) = (self.this.clone(), Arc::downgrade(kms));
        let Some(mut rotations) = kms.upgrade().map(|kms| kms.keyring_watch().watch()) else { return };
        self.runtime.spawn(async move {
            loop {
                let now = *rotations.borrow_and_update();
                let Some(node) = this.upgrade() else { return };
                if !node.follow(now, &kms).await {
                    return;
                }
                drop(node);
                if rotations.changed().await.is_err() {
                    return;
                }
            }
        });
    }

    /// Follows one rotation; false when there is nothing more to follow.
    async fn follow(&self, now: Stands, kms: &Weak<Kms>) -> bool {
        let _moving = self.transition.lock().await;
        let state = self.current();
        let State::Unsealed(unsealed) = &*state else { return false };
        if !kms.upgrade().is_some_and(|kms| Arc::ptr_eq(&kms, &unsealed.opened.kms)) {
            return false;
        }
        let along = match now {
            Stands::Current(0) => true,
            Stands::Current(_) => self.rotate(unsealed),
            Stands::Behind => false,
        };
        if !along {
            tracing::warn!(
                node = %self.config.name,
                "the root key was rotated without this node: sealed until a peer hands it over, or custodians come"
            );
            self.become_sealed(None);
        }
        along
    }

    /// Exchanges what this node works with; false when the next root key is not there.
    fn rotate(&self, unsealed: &Unsealed) -> bool {
        let Unsealed { replica, opened } = unsealed;
        let Ok(seal) = self.seal_state(replica) else { return false };
        if seal.keyring == opened.seal.keyring {
            return true;
        }
        let next = self.handover.next.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Next { root_key, keyring, .. }) = next.filter(|next| next.boxed == seal.keyring) else {
            return false;
        };
        let (kms, records, verifier) = (opened.kms.clone(), opened.records.clone(), opened.verifier.clone());
        let opened = Opened { root_key, kms, records, keyring, verifier, seal, ceremony: opened.ceremony.clone() };
        let state = State::Unsealed(Unsealed { replica: replica.clone(), opened: Arc::new(opened) });
        // Damage found meanwhile stays.
        let state = Arc::new(state);
        self.state.send_if_modified(|now| {
            let serving = matches!(**now, State::Unsealed(_));
            if serving {
                *now = state;
            }
            serving
        });
        tracing::info!(node = %self.config.name, "root key and epoch rotated");
        true
    }
}

/// The records of all members but one.
fn members_but(facts: &mut EngineFacts<'_>, name: &str) -> Result<Vec<Of<MemberRecord>>, Error> {
    let mut all = facts.all::<MemberRecord>()?;
    all.retain(|member| member.statement.name.as_str() != name);
    Ok(all)
}
