//! What a node takes for its cluster's members: a roster with a good signature, wherever it comes from, and no membership
//! entry beyond one (trust.md §3.4).
//!
//! An entry is judged by the rosters that stand in the log before it, applied or not: a new leader commits what an older one
//! left only together with its own first entry behind it, so to wait for apply could be to wait for ever.

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::alias::SnapshotMetaOf;
use openraft::raft::AppendEntriesRequest;
use quorate_core::id::NodeId;
use quorate_core::record_key::RecordKey;
use quorate_core::seeded::{self, Bug};
use tonic::Status;

use crate::grants::Doubt;
use crate::member::MembershipView;
use crate::node::Node;
use crate::raft::codec::{from_journal, invalid};
use crate::raft::log_store::Pieces;
use crate::raft::machine::applied_state;
use crate::raft::{RaftEntry, TypeConfig, config_view, membership_view};
use crate::roster::{Roster, SignedRoster, roster_in};
use crate::state::{Incoming, Meta, View, get_value, recorded_roster};

/// What there is to say of an append, or of a state.
enum Judgement {
    /// All the members that it makes are listed.
    Listed,
    /// Its first entry that makes others.
    Unlisted(u64),
    /// It does not go on from what is here.
    Apart,
}

impl Node {
    /// A member told a roster.
    pub(crate) fn hear_roster(&self, from: NodeId, told: Bytes) {
        if told.is_empty() {
            return;
        }
        let Ok(told) = SignedRoster::decode(told) else { return self.grants.doubts.note(from, Doubt::FalseRoster) };
        if told.roster().serial <= self.shared.members.serial() {
            return;
        }
        // Seeded bug: whoever tells of members is believed.
        let good = seeded::is(Bug::SkipRoster) || self.is_signed(&told).unwrap_or_default();
        if !good {
            self.grants.doubts.note(from, Doubt::FalseRoster);
        } else if self.shared.members.hear(from, told) {
            self.hello.notify_one();
            self.shared.note_change();
        }
    }

    /// Whether a log that this node knows nothing of may begin with this membership: one node's, the one that the newest
    /// roster lists under its id if it lists any.
    fn may_found(&self, view: &MembershipView) -> bool {
        let listed = self.shared.members.listed();
        let known = |(id, member)| listed.as_ref().and_then(|l| l.members.get(id)).is_none_or(|known| known == member);
        view.members.len() == 1 && view.voters.len() == 1 && view.members.iter().all(known)
    }

    /// Refuses a state whose roster the anchor key has not signed, or is older than the one applied here; or whose voters are
    /// neither that roster's nor the ones known here.
    pub(crate) fn refuse_unlisted_state(
        &self,
        from: NodeId,
        incoming: &Incoming,
        meta: &SnapshotMetaOf<TypeConfig>,
    ) -> Result<(), Status> {
        // Seeded bug: a state says who the members are.
        if seeded::is(Bug::SkipRoster) {
            return Ok(());
        }
        let judge = || -> io::Result<Judgement> {
            let (applied, index) = (self.applied_roster()?, meta.last_log_id.map_or(0, |id| id.index));
            let told = incoming.value(&RecordKey::roster())?.map(SignedRoster::decode).transpose();
            let told = match told {
                Ok(None) if applied.is_none() => return Ok(Judgement::Listed),
                Ok(Some(told)) if self.is_signed(&told)? => told,
                _ => return Ok(Judgement::Unlisted(index)),
            };
            let (next, known) = (config_view(meta.last_membership.membership()), self.shared.members.electorates());
            let voters = |set: &BTreeSet<NodeId>| {
                *set == told.roster().voters || known.iter().any(|view| view.voters.contains(set))
            };
            let newer = applied.is_none_or(|applied| applied.roster().serial <= told.roster().serial);
            // Nobody is elected without a majority of each set.
            Ok(if newer && next.voters.iter().any(voters) { Judgement::Listed } else { Judgement::Apart })
        };
        match judge() {
            Ok(Judgement::Listed) => Ok(()),
            Ok(Judgement::Unlisted(index)) => {
                self.grants.doubts.note(from, Doubt::Unlisted { index });
                Err(Status::failed_precondition("its members are not those of a signed roster"))
            }
            // An honest leader's too, until it has carried out a roster that is new.
            Ok(Judgement::Apart) => {
                Err(Status::failed_precondition("its voters are neither its roster's nor known here"))
            }
            Err(e) => Err(Status::unavailable(format!("this node's state can't be read: {e}"))),
        }
    }

    fn is_signed(&self, roster: &SignedRoster) -> io::Result<bool> {
        let config = self.seal_config()?;
        Ok(config.is_some_and(|config| roster.holds(&*self.seals, &config, self.cluster, self.group)))
    }

    /// The roster as applied here.
    pub(crate) fn applied_roster(&self) -> io::Result<Option<SignedRoster>> {
        recorded_roster(&|key| self.record(key))
    }

    /// Refuses an append that would make members of whom no roster names, or unmake whom it names. Of one that does not go on
    /// from this node's log it takes the entries off: they can't be judged, and Raft would not take them.
    ///
    /// # Errors
    /// With the refusal.
    pub(crate) fn refuse_unlisted(
        &self,
        from: NodeId,
        append: &mut AppendEntriesRequest<TypeConfig>,
    ) -> Result<(), Status> {
        // Seeded bug: a leader makes whom it likes a member.
        let changes = append.entries.iter().any(|entry| matches!(entry.payload, EntryPayload::Membership(_)));
        if !changes || seeded::is(Bug::SkipRoster) {
            return Ok(());
        }
        let judge = || -> io::Result<Judgement> {
            let view = self.files.view()?;
            self.judge(append, &*view)
        };
        match judge() {
            Ok(Judgement::Listed) => Ok(()),
            Ok(Judgement::Apart) => {
                append.entries.clear();
                Ok(())
            }
            Ok(Judgement::Unlisted(index)) => {
                self.grants.doubts.note(from, Doubt::Unlisted { index });
                Err(Status::failed_precondition(format!("entry {index} makes members of whom no signed roster names")))
            }
            Err(e) => Err(Status::unavailable(format!("this node's log or state can't be read: {e}"))),
        }
    }

    fn judge(&self, append: &AppendEntriesRequest<TypeConfig>, view: &dyn View) -> io::Result<Judgement> {
        let (applied, membership) = applied_state(&Meta::read(view)?)?;
        let roster = recorded_roster(&|key| get_value(view, key))?;
        let mut course = Course {
            serial: roster.as_ref().map_or(0, |signed| signed.roster().serial),
            rosters: roster.into_iter().map(|signed| signed.roster().clone()).collect(),
            members: membership_view(&membership),
        };
        let next = applied.map_or(0, |id| id.index + 1);
        let sent = append.prev_log_id.map_or(0, |id| id.index + 1);
        let mut end = applied;
        for entry in Pieces::new(self.journal.clone(), next..sent) {
            let entry = entry?;
            end = Some(entry.log_id);
            course.take(entry, |signed| self.is_signed(signed))?;
        }
        if sent >= next && append.prev_log_id != end {
            return Ok(Judgement::Apart);
        }
        for sent in append.entries.iter().filter(|entry| entry.log_id.index >= next) {
            let index = sent.log_id.index;
            // What is in this log under that id stays there, whatever is sent as it.
            let kept = self.journal.entry(index)?.map(|kept| from_journal(&kept)).transpose().map_err(invalid)?;
            let entry = kept.filter(|kept| kept.log_id == sent.log_id).unwrap_or_else(|| sent.clone());
            if !course.permits(&entry, |founder| self.may_found(founder)) {
                return Ok(Judgement::Unlisted(index));
            }
            course.take(entry, |signed| self.is_signed(signed))?;
        }
        Ok(Judgement::Listed)
    }
}

/// What a log says of members, up to an entry.
struct Course {
    /// The applied roster, and each signed one that stands in the log after it: which of these will be applied, only apply
    /// can tell (a batch may conflict).
    rosters: Vec<Roster>,
    /// The applied one's serial.
    serial: u64,
    members: MembershipView,
}

impl Course {
    fn permits(&self, entry: &RaftEntry, may_found: impl FnOnce(&MembershipView) -> bool) -> bool {
        let EntryPayload::Membership(next) = &entry.payload else { return true };
        let next = config_view(next);
        // The founder's own is the log's first entry.
        let first = entry.log_id.index == 0 && self.members.members.is_empty() && self.rosters.is_empty();
        first && may_found(&next) || self.rosters.iter().any(|roster| roster.permits(&self.members, &next))
    }

    fn take(&mut self, entry: RaftEntry, is_signed: impl Fn(&SignedRoster) -> io::Result<bool>) -> io::Result<()> {
        match &entry.payload {
            EntryPayload::Membership(next) => self.members = config_view(next),
            EntryPayload::Normal(payload) => {
                let follows = |roster: &Roster| {
                    let serial = roster.serial.checked_sub(1);
                    serial == Some(self.serial) || self.rosters.iter().any(|known| serial == Some(known.serial))
                };
                if let Some(roster) = roster_in(&payload.0)
                    && roster.roster().serial > self.serial
                    && follows(roster.roster())
                    && !self.rosters.contains(roster.roster())
                    && is_signed(&roster)?
                {
                    self.rosters.push(roster.roster().clone());
                }
            }
            EntryPayload::Blank => {}
        }
        Ok(())
    }
}
