//! Approving and promoting members (design §6, step 5), and who leads.

use quorate_core::authorize::{ManageCluster, ReadStatus, authorize};
use quorate_core::decide::{Change, Write};
use quorate_core::facts::{Facts, Of};
use quorate_core::id::{Name, NodeId};
use quorate_core::principal::Principal;
use quorate_core::record::{Invitation, MemberRecord, Record, RecordName, SealRecord, Statement};
use quorate_core::record_key::RecordKey;
use quorate_crypto::{Envelope, EnvelopeKind, HsmAlg, RootKey};
use quorate_replica::{MembershipError, MembershipView};
use tokio::time::Instant;

use super::invitations::not_invited;
use super::open::{Opened, SealState};
use super::statement::{self, as_member};
use super::status::{Health, Members, Pending};
use crate::error::Error;
use crate::node::{FOUNDER, Node, State};
use crate::records::{EngineFacts, Records, Secrets};

/// Most invitations and members at once.
pub(super) const MEMBERS_MAX: usize = 64;
const _: () = assert!(MEMBERS_MAX <= MembershipView::MEMBERS_MAX);

/// An approval.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Approved {
    /// The member's Raft id.
    pub id: NodeId,
    /// Whether it was unsealed before the deadline; else it will be as soon as it is heard of.
    pub unsealed: bool,
}

/// Who leads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leader {
    /// Its Raft id.
    pub id: NodeId,
    /// Its name.
    pub name: String,
}

/// Fingerprints are compared as people copy them: without regard to case, dashes, colons and spaces.
fn same_fingerprint(a: &str, b: &str) -> bool {
    let digits = |s: &str| -> String {
        s.chars().filter(|c| !matches!(c, '-' | ':' | ' ')).map(|c| c.to_ascii_lowercase()).collect()
    };
    digits(a) == digits(b)
}

impl Node {
    /// Approves the applicant with this name and fingerprint: it becomes a learner with an envelope of its own, and is
    /// offered the root key. Approving again what was approved goes on where it stopped.
    ///
    /// # Errors
    /// [`Error::NotFound`] when nobody by that name waits; [`Error::InvalidArgument`] when its fingerprint is another;
    /// [`Error::Begun`] once it is approved.
    pub async fn approve(
        &self,
        caller: &Principal,
        name: &str,
        fingerprint: &str,
        deadline: Instant,
    ) -> Result<Approved, Error> {
        authorize::<ManageCluster>(caller)?;
        let opened = self.opened()?;
        let records = &opened.records;
        let stamp_ms = self.world.wall.now_ms();
        let decide = |facts: &mut EngineFacts<'_>| {
            let mut writes = Vec::new();
            if let Some(member) = member(facts, name)? {
                check_fingerprint(name, &member.statement, fingerprint)?;
                let unfinished = !facts.view().membership().members.contains_key(&member.id);
                let (id, pinned) = (member.id, as_member(&member.statement));
                let serial = records.change_roster(facts, &mut writes, |now| now.with(id, &pinned))?;
                return Ok(Change { writes, answer: (MemberRecord::clone(&member), unfinished, serial) });
            }
            let (invitation, record) = self.applicant(records, facts, caller, name, fingerprint, stamp_ms)?;
            // A removal writes an envelope for each that stays, in one batch.
            if facts.all::<MemberRecord>()?.len() >= MEMBERS_MAX {
                return Err(Error::WrongState(format!(
                    "a cluster has at most {MEMBERS_MAX} members; remove one first"
                )));
            }
            current_keyring(&opened, facts)?;
            let envelope = self.envelope_for(&opened.seal, &opened.root_key, &record.statement)?.encode();
            let envelope_key = RecordKey::envelope(name);
            facts.get::<SealRecord>(envelope_key.clone())?;
            let pinned = as_member(&record.statement);
            let serial = records.change_roster(facts, &mut writes, |now| now.with(record.id, &pinned))?;
            let put = |key, value| Write::Update(Record::Seal(SealRecord { key, value }));
            writes.extend([
                Write::Delete(RecordName::Invitation(invitation.token)),
                Write::Create(Record::Member(record.clone())),
                put(envelope_key, envelope),
                // Written anew, unchanged: an approval and a rotation never pass each other unseen.
                put(RecordKey::keyring(), opened.seal.keyring.to_vec()),
            ]);
            Ok(Change { writes, answer: (record, true, serial) })
        };
        let (record, unfinished, serial) = records.change(deadline, Secrets::default(), decide).await?.answer;
        // Once a member, a sealed node is the custodians' to open: approving it again is no way around them.
        if unfinished {
            self.handover.approved(record.id);
        }
        let carried_out = records.replica.carry_out(serial, deadline).await.map_err(not_changed);
        carried_out.map_err(|e| e.begun(format!("taking {name} in")))?;
        tracing::info!(by = %caller, node = %name, id = record.id.0, "member approved");
        // Half the time that is left, so that the answer still arrives.
        let until = Instant::now() + deadline.saturating_duration_since(Instant::now()) / 2;
        Ok(Approved { id: record.id, unsealed: self.wait_unsealed(record.id, until).await })
    }

    fn applicant(
        &self,
        records: &Records,
        facts: &mut EngineFacts<'_>,
        caller: &Principal,
        name: &str,
        fingerprint: &str,
        stamp_ms: u64,
    ) -> Result<(Of<Invitation>, MemberRecord), Error> {
        let now = self.now_ms(facts.view());
        let mut invitations = facts.all::<Invitation>()?;
        invitations.retain(|i| i.for_name.as_str() == name && now < i.expires_ms);
        let Some(invitation) = invitations.pop() else {
            return Err(not_invited(name));
        };
        let Some(applicant) = invitation.applicant.clone() else {
            return Err(Error::WrongState(format!(
                "{name} has not used its invitation yet; start its server with the token, then approve it"
            )));
        };
        check_fingerprint(name, &applicant.statement, fingerprint)?;
        // Here and not only as it asks: the cluster may have risen since, and must not rise unseen while this is decided.
        let level = records.level(facts)?;
        applicant
            .levels
            .check(level)
            .map_err(|unfit| Error::WrongState(format!("{name} can't become a member: {unfit}")))?;
        let record = MemberRecord {
            id: applicant.id,
            statement: applicant.statement,
            approved_by: caller.to_string(),
            approved_ms: stamp_ms,
        };
        Ok((invitation, record))
    }

    /// A node's envelope, from public keys alone.
    pub(crate) fn envelope_for(
        &self,
        seal: &SealState,
        root_key: &RootKey,
        node: &Statement,
    ) -> Result<Envelope, Error> {
        let bad_key =
            |e: &dyn std::fmt::Display| Error::WrongState(format!("{}'s KEM key can't be used: {e}", node.name));
        let context = seal.envelope_context(node.name.as_str(), &node.kem_spki, &node.identity_spki)?;
        let alg = HsmAlg::from_byte(node.kem_alg).map_err(|e| bad_key(&e))?;
        Envelope::seal(
            EnvelopeKind::Node,
            &context,
            alg,
            &node.kem_spki,
            &seal.config.quorum_public_key,
            root_key,
            &*self.world.entropy,
        )
        .map_err(|e| bad_key(&e))
    }

    async fn wait_unsealed(&self, id: NodeId, until: Instant) -> bool {
        let unsealed = || self.peers.hello(id).is_some_and(|(hello, _)| hello.health == Health::Ok);
        let mut heard = self.peers.watch();
        while !unsealed() {
            match tokio::time::timeout_at(until, heard.changed()).await {
                Ok(Ok(())) => {}
                _ => return unsealed(),
            }
        }
        true
    }

    /// Makes learners voters, all in one change.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a name that is no member; [`Error::WrongState`] when Raft's rules forbid it;
    /// [`Error::Begun`] once the roster says that they vote.
    pub async fn promote(
        &self,
        caller: &Principal,
        names: &[String],
        force: bool,
        deadline: Instant,
    ) -> Result<Vec<NodeId>, Error> {
        authorize::<ManageCluster>(caller)?;
        let opened = self.opened()?;
        let records = &opened.records;
        if names.is_empty() {
            return Err(Error::InvalidArgument("no member is named; name the learners to promote".into()));
        }
        let promoting = |facts: &mut EngineFacts<'_>| {
            let (mut ids, mut writes) = (Vec::with_capacity(names.len()), Vec::new());
            for name in names {
                // Approved, and a member under the id it was approved with.
                let id = member(facts, name)?.map(|member| member.id);
                let id = id.filter(|id| facts.view().membership().members.contains_key(id));
                ids.push(id.ok_or_else(|| Error::NotFound(format!("{name} is no approved member")))?);
            }
            let serial = records.change_roster(facts, &mut writes, |now| now.promoting(&ids, force))?;
            Ok(Change { writes, answer: (ids, serial) })
        };
        let view = records.fresh_view(deadline).await?;
        // What can be refused at once is, before anything waits for the learners.
        let (ids, _) = promoting(&mut records.facts(&view)?)?.answer;
        drop(view);
        let replica = &records.replica;
        replica.may_promote(ids, deadline).await.map_err(not_changed)?;
        let (_, serial) = records.change(deadline, Secrets::default(), promoting).await?.answer;
        let carried_out = replica.carry_out(serial, deadline).await.map_err(not_changed);
        carried_out.map_err(|e| e.begun(format!("promoting {}", names.join(", "))))?;
        let status = replica.status();
        let voters: Vec<_> = status.voters().collect();
        let called: Vec<_> = voters.iter().filter_map(|id| status.members().get(id).map(|m| m.name.as_str())).collect();
        tracing::info!(by = %caller, promoted = names.join(", "), voters = called.join(", "), "members were promoted to voters");
        if voters.len().is_multiple_of(2) {
            tracing::warn!(
                voters = voters.len(),
                "an even number of voters tolerates no more losses than one fewer would"
            );
        }
        Ok(voters)
    }

    /// Hands leadership to the voter called `name`, or to the best one: reachable, level with the log, unsealed if there
    /// is one. Works on a sealed node too: leading needs no keys. Answers who leads then.
    ///
    /// # Errors
    /// [`Error::NotFound`] for a name that is no member; [`Error::WrongState`] when that member could not lead: then
    /// nothing was done.
    pub async fn transfer_leader(
        &self,
        caller: &Principal,
        name: Option<&str>,
        deadline: Instant,
    ) -> Result<Leader, Error> {
        authorize::<ManageCluster>(caller)?;
        let state = self.current();
        let replica = state.replica().ok_or(Error::Uninitialized)?;
        let to = name
            .map(|name| {
                replica
                    .status()
                    .membership
                    .by_name(name)
                    .map(|(id, _)| id)
                    .ok_or_else(|| Error::NotFound(format!("nobody called {name} is a member")))
            })
            .transpose()?;
        let id = replica.transfer_leader(to, deadline).await.map_err(not_changed)?;
        let status = replica.status();
        let name = status.members().get(&id).map(|m| m.name.clone()).unwrap_or_default();
        tracing::info!(by = %caller, leader = %name, "leadership was handed on");
        Ok(Leader { id, name })
    }

    /// The members, and who would become one.
    ///
    /// # Errors
    /// [`Error::Denied`]; [`Error::Uninitialized`].
    pub async fn list_members(&self, caller: &Principal, deadline: Instant) -> Result<Members, Error> {
        authorize::<ReadStatus>(caller)?;
        let members = self.status(caller)?.nodes;
        let pending = match &*self.current() {
            State::Uninitialized(_) => return Err(Error::Uninitialized),
            State::Unsealed(u) => {
                let view = u.opened.records.fresh_view(deadline).await?;
                let now = self.now_ms(&view);
                let invitations = u.opened.records.facts(&view)?.all::<Invitation>()?;
                let open = invitations.into_iter().filter(|i| now < i.expires_ms);
                open.map(|i| Pending {
                    name: i.for_name.to_string(),
                    fingerprint: i.applicant.as_ref().map(|a| statement::fingerprint(&a.statement)),
                    expires_ms: i.expires_ms,
                })
                .collect()
            }
            _ => Vec::new(),
        };
        Ok(Members { members, pending })
    }

    /// The founder is approved by having founded.
    pub(crate) fn founder_record(&self) -> MemberRecord {
        MemberRecord {
            id: FOUNDER,
            statement: self.own_statement(),
            approved_by: "genesis".into(),
            approved_ms: self.world.wall.now_ms(),
        }
    }
}

/// The record of the member called that; what is no name is nobody's.
pub(super) fn member(facts: &mut EngineFacts<'_>, name: &str) -> Result<Option<Of<MemberRecord>>, Error> {
    name.parse().map_or(Ok(None), |name: Name| facts.get::<MemberRecord>(name))
}

/// The keyring is still the one that `opened` has; the change stands only while it is.
pub(super) fn current_keyring(opened: &Opened, facts: &mut EngineFacts<'_>) -> Result<(), Error> {
    match facts.get::<SealRecord>(RecordKey::keyring())? {
        Some(record) if record.value == opened.seal.keyring => Ok(()),
        _ => Err(Error::Unavailable("the root key is being rotated; try again".into())),
    }
}

fn check_fingerprint(name: &str, statement: &Statement, given: &str) -> Result<(), Error> {
    let actual = statement::fingerprint(statement);
    if same_fingerprint(&actual, given) {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!(
        "the fingerprint does not match: the node that asks to be {name} has {actual}; compare that with what was \
         printed on its machine when its keys were made, and do not approve it unless they are equal"
    )))
}

pub(super) fn not_changed(e: MembershipError) -> Error {
    match e {
        MembershipError::Refused(why) => Error::WrongState(why),
        MembershipError::Unavailable(why) => Error::Unavailable(why),
        MembershipError::Unknown(_) => Error::UnknownOutcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_match_however_they_were_copied() {
        assert!(same_fingerprint("AB12-CD34", "ab12cd34"));
        assert!(same_fingerprint("AB12-CD34", "ab:12:cd:34"));
        assert!(!same_fingerprint("AB12-CD34", "ab12cd35"));
        assert!(!same_fingerprint("AB12-CD34", ""));
    }
}
