//! Who the members are, and who may speak for which node id.

use std::sync::{Arc, PoisonError, RwLock};

use quorate_core::id::NodeId;

use super::preface::Refusal;
use crate::member::{Member, MembershipView};
use crate::net::PeerIdentity;

/// Committed membership as applied here, and the newest one a member has told us of.
///
/// The second is needed by a node that is behind: the leader it must catch up from may have become a member in
/// entries it does not have yet. What it was told adds ids, it never changes a pin that it has applied itself.
pub(crate) struct Roster(RwLock<Views>);

struct Views {
    applied: Arc<MembershipView>,
    told: Arc<MembershipView>,
}

impl Roster {
    /// A roster that knows what the inviter told.
    pub(crate) fn new(introduction: Option<MembershipView>) -> Self {
        Self(RwLock::new(Views { applied: Arc::default(), told: Arc::new(introduction.unwrap_or_default()) }))
    }

    fn read<T>(&self, f: impl FnOnce(&Views) -> T) -> T {
        f(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Apply moved on.
    pub(crate) fn set_applied(&self, view: MembershipView) {
        let mut views = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if *views.applied != view {
            views.applied = Arc::new(view);
        }
    }

    /// A member told of a committed membership.
    pub(crate) fn hear(&self, view: MembershipView) {
        let mut views = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if view.is_newer_than(&views.told) {
            views.told = Arc::new(view);
        }
    }

    /// Committed membership as applied here.
    pub(crate) fn applied(&self) -> Arc<MembershipView> {
        self.read(|v| v.applied.clone())
    }

    /// The pinned member of that id.
    pub(crate) fn member(&self, id: NodeId) -> Option<Member> {
        self.read(|v| {
            let told = || v.told.members.get(&id).filter(|_| v.told.is_newer_than(&v.applied));
            v.applied.members.get(&id).or_else(told).cloned()
        })
    }

    /// All nodes to talk to.
    pub(crate) fn members(&self) -> Vec<(NodeId, Member)> {
        self.read(|v| {
            let told = v.told.members.iter().filter(|_| v.told.is_newer_than(&v.applied));
            let mut all = v.applied.members.clone();
            for (id, member) in told {
                all.entry(*id).or_insert_with(|| member.clone());
            }
            all.into_iter().collect()
        })
    }

    /// Whether the bearer of a certificate may speak for a node id.
    pub(crate) fn admit(&self, claimed: NodeId, who: &PeerIdentity) -> Result<(), Refusal> {
        let pinned = self.read(|v| {
            let told = || v.told.members.get(&claimed).filter(|_| v.told.is_newer_than(&v.applied));
            let member = v.applied.members.get(&claimed).or_else(told);
            member.is_some_and(|m| m.name == who.name && m.identity_spki == who.identity_spki)
        });
        if pinned { Ok(()) } else { Err(Refusal::NotPinned) }
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::id::ClusterId;

    use super::*;

    fn member(name: &str, spki: u8) -> Member {
        Member { name: name.into(), identity_spki: vec![spki], ..Member::default() }
    }

    fn view(index: u64, members: &[(u64, Member)]) -> MembershipView {
        MembershipView {
            index,
            voters: vec![],
            members: members.iter().map(|(id, m)| (NodeId(*id), m.clone())).collect(),
        }
    }

    fn who(name: &str, spki: u8) -> PeerIdentity {
        PeerIdentity { name: name.into(), cluster: ClusterId([0; 16]), identity_spki: vec![spki] }
    }

    #[test]
    fn only_the_pinned_key_and_name_speak_for_an_id() {
        let roster = Roster::new(None);
        assert_eq!(roster.admit(NodeId(1), &who("a", 1)), Err(Refusal::NotPinned), "nobody is known yet");
        roster.set_applied(view(5, &[(1, member("a", 1)), (2, member("b", 2))]));
        assert_eq!(roster.admit(NodeId(1), &who("a", 1)), Ok(()));
        for (id, name, key) in [(1, "a", 2), (1, "b", 1), (2, "a", 1), (3, "a", 1)] {
            assert_eq!(roster.admit(NodeId(id), &who(name, key)), Err(Refusal::NotPinned), "{id} {name} {key}");
        }
    }

    #[test]
    fn what_was_told_adds_members_until_apply_is_past_it_and_changes_no_pin() {
        let roster = Roster::new(Some(view(0, &[(1, member("a", 1))])));
        assert_eq!(roster.admit(NodeId(1), &who("a", 1)), Ok(()), "the founding membership has index 0");
        let roster = Roster::new(Some(view(9, &[(1, member("a", 1)), (3, member("c", 3))])));
        assert_eq!(roster.admit(NodeId(3), &who("c", 3)), Ok(()));
        roster.hear(view(10, &[(1, member("evil", 66)), (3, member("c", 3))]));
        roster.set_applied(view(5, &[(1, member("a", 1))]));
        assert_eq!(roster.admit(NodeId(3), &who("c", 3)), Ok(()), "replaying its log, it still follows a later member");
        assert_eq!(roster.admit(NodeId(1), &who("evil", 66)), Err(Refusal::NotPinned));
        assert_eq!(roster.members().len(), 2);
        roster.set_applied(view(10, &[(1, member("a", 1))]));
        assert_eq!(roster.admit(NodeId(3), &who("c", 3)), Err(Refusal::NotPinned), "applied is as new, and rules");
    }
}
