//! Who the members are, and who may speak for which node id.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use quorate_core::id::NodeId;

use super::preface::Refusal;
use crate::member::{Member, MembershipView};
use crate::net::PeerIdentity;

/// Committed membership as applied here, and newer ones that others have told of.
///
/// Those are needed by a node that is behind: the leader it must catch up from may have become a member in entries it
/// does not have yet. What it was told adds ids, it never changes a pin that it has applied itself; nor does what one
/// member tells hide what another did.
pub(crate) struct Roster(RwLock<Views>);

struct Views {
    applied: Arc<MembershipView>,
    /// The inviter's word, bound to the invitation.
    introduction: Arc<MembershipView>,
    /// The newest that each member has told, by the identity key of the teller.
    told: BTreeMap<Vec<u8>, Arc<MembershipView>>,
}

impl Views {
    /// In the order in which they are believed.
    fn all(&self) -> Vec<&Arc<MembershipView>> {
        let mut told: Vec<_> = self.told.values().collect();
        told.sort_by_key(|view| std::cmp::Reverse(view.index));
        let newer = std::iter::once(&self.introduction).chain(told).filter(|view| view.is_newer_than(&self.applied));
        std::iter::once(&self.applied).chain(newer).collect()
    }

    fn member(&self, id: NodeId) -> Option<&Member> {
        // Nearly always.
        let applied = self.applied.members.get(&id);
        applied.or_else(|| self.all().into_iter().find_map(|view| view.members.get(&id)))
    }
}

impl Roster {
    /// A roster that knows what the inviter told.
    pub(crate) fn new(introduction: Option<MembershipView>) -> Self {
        let introduction = Arc::new(introduction.unwrap_or_default());
        Self(RwLock::new(Views { applied: Arc::default(), introduction, told: BTreeMap::new() }))
    }

    fn read<T>(&self, f: impl FnOnce(&Views) -> T) -> T {
        f(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Apply moved on.
    pub(crate) fn set_applied(&self, view: MembershipView) {
        let mut views = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if *views.applied != view {
            let applied = Arc::new(view);
            views.told.retain(|_, told| told.is_newer_than(&applied));
            views.applied = applied;
        }
    }

    /// A member told of a committed membership.
    pub(crate) fn hear(&self, from: NodeId, view: MembershipView) {
        let mut views = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if view.is_newer_than(&views.applied)
            && let Some(teller) = views.member(from).map(|member| member.identity_spki.clone())
        {
            views.told.insert(teller, Arc::new(view));
        }
    }

    /// The memberships of which any one may elect the bearer of `claimant`: the one applied here and, for a node that lags
    /// behind, those told since. Nobody tells of the voters that elected itself: one liar could then elect itself.
    pub(crate) fn electorates(&self, claimant: &[u8]) -> Vec<Arc<MembershipView>> {
        self.read(|v| {
            let own = v.told.get(claimant);
            v.all().into_iter().filter(|view| !own.is_some_and(|own| Arc::ptr_eq(own, view))).cloned().collect()
        })
    }

    /// Committed membership as applied here.
    pub(crate) fn applied(&self) -> Arc<MembershipView> {
        self.read(|v| v.applied.clone())
    }

    /// The pinned member of that id.
    pub(crate) fn member(&self, id: NodeId) -> Option<Member> {
        self.read(|v| v.member(id).cloned())
    }

    /// All nodes to talk to.
    pub(crate) fn members(&self) -> Vec<(NodeId, Member)> {
        self.read(|v| {
            let mut all = BTreeMap::new();
            for (id, member) in v.all().into_iter().flat_map(|view| &view.members) {
                all.entry(*id).or_insert_with(|| member.clone());
            }
            all.into_iter().collect()
        })
    }

    /// Whether the bearer of a certificate may speak for a node id.
    pub(crate) fn admit(&self, claimed: NodeId, who: &PeerIdentity) -> Result<(), Refusal> {
        let pinned =
            |v: &Views| v.member(claimed).is_some_and(|m| m.name == who.name && m.identity_spki == who.identity_spki);
        if self.read(pinned) { Ok(()) } else { Err(Refusal::NotPinned) }
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
        roster.hear(NodeId(3), view(10, &[(1, member("evil", 66)), (3, member("c", 3))]));
        roster.set_applied(view(5, &[(1, member("a", 1))]));
        assert_eq!(roster.admit(NodeId(3), &who("c", 3)), Ok(()), "replaying its log, it still follows a later member");
        assert_eq!(roster.admit(NodeId(1), &who("evil", 66)), Err(Refusal::NotPinned));
        assert_eq!(roster.members().len(), 2);
        roster.set_applied(view(10, &[(1, member("a", 1))]));
        assert_eq!(roster.admit(NodeId(3), &who("c", 3)), Err(Refusal::NotPinned), "applied is as new, and rules");
    }

    #[test]
    fn nobody_tells_of_its_own_electorate_and_what_is_applied_or_was_an_invitation_s_counts_for_all() {
        let (a, b) = (member("a", 1), member("b", 2));
        let roster = Roster::new(Some(view(3, &[(1, a.clone()), (2, b.clone())])));
        let indexes = |claimant: u8| -> Vec<u64> {
            let mut known: Vec<u64> = roster.electorates(&[claimant]).iter().map(|view| view.index).collect();
            known.sort_unstable();
            known
        };
        assert_eq!(indexes(1), [0, 3], "nothing is applied yet");
        roster.hear(NodeId(1), view(8, &[(1, a.clone())]));
        roster.hear(NodeId(2), view(9, &[(2, b.clone())]));
        roster.hear(NodeId(7), view(10, &[(7, member("g", 7))]));
        assert_eq!((indexes(1), indexes(2), indexes(3)), (vec![0, 3, 9], vec![0, 3, 8], vec![0, 3, 8, 9]));
        // Under another id it is the same teller.
        roster.hear(NodeId(1), view(12, &[(1, a.clone()), (2, b.clone()), (9, a.clone())]));
        roster.hear(NodeId(9), view(13, &[(9, a.clone())]));
        assert_eq!((indexes(1), indexes(2)), (vec![0, 3, 9], vec![0, 3, 13]));
        roster.set_applied(view(9, &[(1, a), (2, b)]));
        assert_eq!((indexes(1), indexes(2)), (vec![9], vec![9, 13]), "what is older than the own log is over");
    }
}
