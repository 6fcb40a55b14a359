//! Who the members are, and who may speak for which node id.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use quorate_core::id::NodeId;

use super::preface::Refusal;
use crate::member::{Member, MembershipView};
use crate::net::PeerIdentity;
use crate::roster::SignedRoster;

/// Committed membership as applied here, and the newest signed roster that is known, applied here or told.
///
/// The roster is ahead of every change of membership: a node that is behind learns from it of members that came since, the
/// leader it must catch up from among them. Whom it leaves out counts for nothing, whatever membership was applied here. One
/// that was only told may never have come into force, though its signature is good: by one member's word alone it cuts off
/// nobody whom this node's own log has.
pub(crate) struct Members(RwLock<Known>);

struct Known {
    applied: Arc<MembershipView>,
    roster: Option<Newest>,
}

struct Newest {
    signed: Arc<SignedRoster>,
    view: Arc<MembershipView>,
    /// Who has told it, or of a later one; none that was applied here needs.
    tellers: BTreeSet<NodeId>,
    in_force: bool,
}

impl Known {
    fn member(&self, id: NodeId) -> Option<&Member> {
        let applied = || self.applied.members.get(&id);
        match &self.roster {
            None => applied(),
            // What is signed goes before what an entry said.
            Some(newest) => newest.view.members.get(&id).or_else(|| applied().filter(|_| !newest.is_believed())),
        }
    }

    fn serial(&self) -> u64 {
        self.roster.as_ref().map_or(0, |newest| newest.signed.roster().serial)
    }
}

impl Newest {
    fn is_believed(&self) -> bool {
        self.in_force || self.tellers.len() > 1
    }
}

impl Members {
    /// What is known to begin with: a joining node's introduction.
    pub(crate) fn new(introduction: Option<SignedRoster>) -> Self {
        let members = Self(RwLock::new(Known { applied: Arc::default(), roster: None }));
        if let Some(roster) = introduction {
            members.set_roster(roster);
        }
        members
    }

    fn read<T>(&self, f: impl FnOnce(&Known) -> T) -> T {
        f(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Apply moved on.
    pub(crate) fn set_applied(&self, view: MembershipView) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if *known.applied != view {
            known.applied = Arc::new(view);
        }
    }

    /// The roster as applied here: of two with one serial it is the one that counts.
    pub(crate) fn set_roster(&self, signed: SignedRoster) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if signed.roster().serial >= known.serial() {
            let view = Arc::new(signed.roster().view());
            known.roster = Some(Newest { signed: Arc::new(signed), view, tellers: BTreeSet::new(), in_force: true });
        }
    }

    /// A member told a roster, with a good signature; false when it is no news.
    pub(crate) fn hear(&self, from: NodeId, signed: SignedRoster) -> bool {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let news = signed.roster().serial > known.serial();
        if news {
            let view = Arc::new(signed.roster().view());
            known.roster = Some(Newest { signed: Arc::new(signed), view, tellers: [from].into(), in_force: false });
        }
        news
    }

    /// A member says that it knows a roster with this serial.
    pub(crate) fn note_serial(&self, from: NodeId, serial: u64) {
        let waits = |known: &Known| known.roster.as_ref().is_some_and(|newest| !newest.is_believed());
        if self.read(waits) {
            let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
            if serial >= known.serial()
                && let Some(newest) = &mut known.roster
            {
                newest.tellers.insert(from);
            }
        }
    }

    /// What to call a node.
    pub(crate) fn name_of(&self, id: NodeId) -> String {
        self.member(id).map_or_else(|| format!("node {id}"), |m| m.name)
    }

    /// Serial of the newest roster known; 0: none.
    pub(crate) fn serial(&self) -> u64 {
        self.read(Known::serial)
    }

    /// The newest roster known.
    pub(crate) fn roster(&self) -> Option<Arc<SignedRoster>> {
        self.read(|known| known.roster.as_ref().map(|newest| newest.signed.clone()))
    }

    /// The memberships of which any one may elect a leader: the one applied here and, for a node that lags behind, the
    /// newest roster's. Of neither counts whom that roster leaves out ([`Self::member`]).
    pub(crate) fn electorates(&self) -> Vec<Arc<MembershipView>> {
        std::iter::once(self.applied()).chain(self.listed()).collect()
    }

    /// The newest roster's members and voters.
    pub(crate) fn listed(&self) -> Option<Arc<MembershipView>> {
        self.read(|known| known.roster.as_ref().map(|newest| newest.view.clone()))
    }

    /// Committed membership as applied here.
    pub(crate) fn applied(&self) -> Arc<MembershipView> {
        self.read(|known| known.applied.clone())
    }

    /// The pinned member of that id; none for whom the newest roster leaves out.
    pub(crate) fn member(&self, id: NodeId) -> Option<Member> {
        self.read(|known| known.member(id).cloned())
    }

    /// Whether that id is a member's.
    pub(crate) fn has(&self, id: NodeId) -> bool {
        self.read(|known| known.member(id).is_some())
    }

    /// All nodes to talk to.
    pub(crate) fn all(&self) -> Vec<(NodeId, Member)> {
        self.read(|known| {
            let listed = known.roster.iter().flat_map(|newest| newest.view.members.keys());
            let ids: BTreeSet<NodeId> = known.applied.members.keys().chain(listed).copied().collect();
            ids.into_iter().filter_map(|id| Some((id, known.member(id)?.clone()))).collect()
        })
    }

    /// Whether the bearer of a certificate may speak for a node id.
    pub(crate) fn admit(&self, claimed: NodeId, who: &PeerIdentity) -> Result<(), Refusal> {
        let pinned =
            |k: &Known| k.member(claimed).is_some_and(|m| m.name == who.name && m.identity_spki == who.identity_spki);
        if self.read(pinned) { Ok(()) } else { Err(Refusal::NotPinned) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use quorate_core::id::{ClusterId, GroupId};

    use super::*;
    use crate::roster::Roster;

    fn member(name: &str, spki: u8) -> Member {
        Member { name: name.into(), identity_spki: vec![spki], ..Member::default() }
    }

    fn view(index: u64, members: &[(u64, Member)]) -> MembershipView {
        let members: BTreeMap<_, _> = members.iter().map(|(id, m)| (NodeId(*id), m.clone())).collect();
        MembershipView { index, voters: vec![members.keys().copied().collect()], members }
    }

    fn roster(serial: u64, members: &[(u64, Member)]) -> SignedRoster {
        let base = Roster::before_the_first(ClusterId([0; 16]), GroupId(0), &view(0, members));
        let bytes = Roster { serial, ..base }.signed(|_| [0; 64]);
        SignedRoster::decode(bytes.into()).expect("well formed")
    }

    fn who(name: &str, spki: u8) -> PeerIdentity {
        PeerIdentity { name: name.into(), cluster: ClusterId([0; 16]), identity_spki: vec![spki] }
    }

    #[test]
    fn only_the_pinned_key_and_name_speak_for_an_id() {
        let members = Members::new(None);
        assert_eq!(members.admit(NodeId(1), &who("a", 1)), Err(Refusal::NotPinned), "nobody is known yet");
        members.set_applied(view(5, &[(1, member("a", 1)), (2, member("b", 2))]));
        assert_eq!(members.admit(NodeId(1), &who("a", 1)), Ok(()));
        for (id, name, key) in [(1, "a", 2), (1, "b", 1), (2, "a", 1), (3, "a", 1)] {
            assert_eq!(members.admit(NodeId(id), &who(name, key)), Err(Refusal::NotPinned), "{id} {name} {key}");
        }
    }

    #[test]
    fn the_newest_roster_adds_members_and_cuts_off_whom_it_leaves_out() {
        let (a, b, c) = (member("a", 1), member("b", 2), member("c", 3));
        let members = Members::new(Some(roster(3, &[(1, a.clone()), (3, c.clone())])));
        assert_eq!(members.admit(NodeId(3), &who("c", 3)), Ok(()), "introduced");
        members.set_applied(view(5, &[(1, member("a", 66)), (2, b.clone())]));
        assert_eq!(
            members.admit(NodeId(3), &who("c", 3)),
            Ok(()),
            "replaying its log, it still follows a later member"
        );
        assert_eq!(members.admit(NodeId(2), &who("b", 2)), Err(Refusal::NotPinned), "gone since");
        assert_eq!(members.admit(NodeId(1), &who("a", 1)), Ok(()));
        assert_eq!(members.admit(NodeId(1), &who("a", 66)), Err(Refusal::NotPinned), "what is signed goes first");
        assert!(members.member(NodeId(2)).is_none() && !members.has(NodeId(2)));
        assert_eq!(members.all().len(), 2);
        assert_eq!((members.serial(), members.electorates().len()), (3, 2));
        let told = |serial| members.hear(NodeId(1), roster(serial, &[(2, b.clone())]));
        assert!(!told(3) && !told(2), "no news");
    }

    #[test]
    fn what_is_told_by_one_alone_and_not_applied_cuts_off_nobody_of_the_own_log() {
        let (a, b, c) = (member("a", 1), member("b", 2), member("c", 3));
        let members = Members::new(None);
        members.set_applied(view(5, &[(1, a.clone()), (2, b.clone())]));
        members.set_roster(roster(3, &[(1, a.clone()), (2, b.clone())]));
        assert!(members.hear(NodeId(2), roster(4, &[(2, b.clone()), (3, c.clone())])));
        assert!(members.has(NodeId(1)) && members.has(NodeId(3)), "it adds");
        members.note_serial(NodeId(2), 4);
        members.note_serial(NodeId(3), 3);
        assert!(members.has(NodeId(1)));
        members.note_serial(NodeId(3), 7);
        assert!(!members.has(NodeId(1)), "two know of it");
        // What was told and never applied gives way to what was.
        members.set_roster(roster(4, &[(1, a.clone()), (2, b)]));
        assert!(members.has(NodeId(1)) && !members.has(NodeId(3)));
    }
}
