//! Whether this node has a majority of the voters to work with, and one that leads.
//!
//! To lose either is no event: a dead leader is succeeded within an election, a Hello that was late is followed by the next. So
//! they count as lost once they have been for longer than elections take, and as there again at once: a majority that is back
//! has as long to elect.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use quorate_core::id::NodeId;
use tokio::time::Instant;

use crate::member::MembershipView;
use crate::node::Node;
use crate::word::Standing;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A majority, or its leader, that was missed for so long is lost; longer where elections take longer.
const LOST_AFTER: Duration = Duration::from_secs(3);
/// A leader that no majority has acknowledged for so long leads nobody.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(2);

/// What a node has of the voters to work with.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Quorum {
    /// A majority with a leader, or nothing that was missed for long.
    #[default]
    Present,
    /// Fewer voters are within reach than a majority.
    Missing {
        /// How many are, this node included if it votes.
        reachable: usize,
        /// How many there are.
        voters: usize,
        /// The names of those that would help: of the others, who has not lost its vote for good.
        missing: Vec<String>,
    },
    /// A majority is within reach, and none of it leads.
    Leaderless,
}

impl Quorum {
    /// Whether nothing is missed.
    pub fn is_present(&self) -> bool {
        *self == Self::Present
    }

    /// The same without anybody's name.
    pub fn unnamed(self) -> Self {
        match self {
            Self::Missing { reachable, voters, .. } => Self::Missing { reachable, voters, missing: Vec::new() },
            other => other,
        }
    }
    /// What brings a majority back; nothing where that is not known.
    pub fn remedy(&self) -> String {
        let Self::Missing { reachable, voters, missing } = self else { return String::new() };
        match ((voters / 2 + 1).saturating_sub(*reachable).max(1), &missing[..]) {
            (_, []) => String::new(),
            (1, [others @ .., last]) if !others.is_empty() => format!("start {} or {last}", others.join(", ")),
            (n, names) if n < names.len() => format!("start {n} of {}", names.join(", ")),
            (_, names) => format!("start {}", names.join(" and ")),
        }
    }
}

/// What is the case.
impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Present => f.write_str("a majority of the voters is within reach"),
            Self::Leaderless => f.write_str("no leader: a majority of the voters is within reach, and elects none"),
            Self::Missing { reachable, voters, .. } => {
                write!(f, "no majority: {reachable} of {voters} voters reachable")
            }
        }
    }
}

/// What one look shows.
struct Sight<'a> {
    membership: &'a MembershipView,
    /// The members that answer and may vote, this node included if it does.
    reachable: BTreeSet<NodeId>,
    /// The members that never vote again under their ids.
    lost: BTreeSet<NodeId>,
    /// Whether one of them leads.
    led: bool,
}

impl Sight<'_> {
    fn quorum(&self) -> Quorum {
        // A node that has not heard of its membership yet has nothing to miss.
        if self.membership.voters.is_empty() {
            return Quorum::Present;
        }
        if self.membership.is_majority(&self.reachable) {
            return if self.led { Quorum::Present } else { Quorum::Leaderless };
        }
        let voters = self.membership.voter_ids();
        let missing = voters.difference(&self.reachable).filter(|id| !self.lost.contains(id));
        Quorum::Missing {
            reachable: voters.intersection(&self.reachable).count(),
            voters: voters.len(),
            missing: missing.filter_map(|id| Some(self.membership.members.get(id)?.name.clone())).collect(),
        }
    }
}

/// For how long something has been missed.
#[derive(Default)]
struct Patience {
    /// Since when a majority, or its leader, has been missed.
    since: Option<Instant>,
    /// Since when a majority is back that has to elect first.
    electing: Option<Instant>,
}

impl Patience {
    /// What counts now, after a look that showed `seen`.
    fn judge(&mut self, seen: Quorum, now: Instant, lost_after: Duration) -> Quorum {
        let since = match seen {
            Quorum::Present => {
                *self = Self::default();
                return seen;
            }
            Quorum::Missing { .. } => {
                self.electing = None;
                *self.since.get_or_insert(now)
            }
            Quorum::Leaderless => {
                self.since.get_or_insert(now);
                *self.electing.get_or_insert(now)
            }
        };
        if now.duration_since(since) >= lost_after { seen } else { Quorum::Present }
    }
}

/// One look at what this node knows of the others.
fn look(node: &Node) -> Quorum {
    let base = &node.base;
    let membership = base.shared.members.applied();
    // Whom the others have removed is cut off from them, which says nothing about them.
    if base.peers.disowned_by_most(base.me, &membership) {
        return Quorum::Present;
    }
    let is_lost = |id: &NodeId| match *id == base.me {
        true => base.own.standing() == Standing::Lost,
        false => base.peers.is_lost(*id),
    };
    let (lost, whole): (BTreeSet<NodeId>, BTreeSet<NodeId>) = membership.members.keys().partition(|id| is_lost(id));
    let reachable: BTreeSet<NodeId> =
        whole.into_iter().filter(|id| *id == base.me || base.peers.is_reachable(*id)).collect();
    let led = node.leader.now().is_some_and(|leader| match leader == base.me {
        true => membership.voter_ids().len() == 1 || is_acknowledged(node),
        false => reachable.contains(&leader),
    });
    Sight { membership: &membership, reachable, lost, led }.quorum()
}

/// Whether a majority has acknowledged this leader lately.
fn is_acknowledged(node: &Node) -> bool {
    let metrics = node.base.raft.metrics();
    metrics.borrow_watched().last_quorum_acked.is_some_and(|at| at.elapsed() < ACKNOWLEDGED_WITHIN)
}

/// Keeps what the replica tells of it, for as long as it runs.
pub(crate) async fn watch(node: Arc<Node>) {
    let elections = Duration::from_millis(2 * node.base.raft.config().election_timeout_max);
    let lost_after = LOST_AFTER.max(elections);
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut leader, mut changes) = (node.leader.watch(), node.base.shared.watch_changes());
    let mut patience = Patience::default();
    loop {
        tokio::select! {
            biased;
            changed = leader.changed() => if changed.is_err() { return },
            // A member is heard again, perhaps.
            changed = changes.changed() => if changed.is_err() { return },
            _ = tick.tick() => {}
        }
        let now = patience.judge(look(&node), Instant::now(), lost_after);
        let before = node.base.shared.set_quorum(now.clone());
        match (before.is_present(), now.is_present()) {
            (true, false) => tracing::error!(node = %node.base.me, todo = now.remedy(), "{now}: no key can be used"),
            (false, true) => tracing::info!(node = %node.base.me, "{now} again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::Member;

    fn membership(sets: &[&[u64]]) -> MembershipView {
        let ids = |set: &&[u64]| set.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
        let member = |id: u64| (NodeId(id), Member { name: format!("n{id}"), ..Member::default() });
        MembershipView { index: 1, voters: sets.iter().map(ids).collect(), members: (1..=6).map(member).collect() }
    }

    fn seen(sets: &[&[u64]], reachable: &[u64], led: bool) -> Quorum {
        let reachable = reachable.iter().copied().map(NodeId).collect();
        Sight { membership: &membership(sets), reachable, lost: BTreeSet::new(), led }.quorum()
    }

    #[test]
    fn what_is_missed_is_told_with_who_could_bring_it_back() {
        const THREE: &[u64] = &[1, 2, 3];
        for (sets, reachable, led, said) in [
            (&[][..], &[][..], false, None),
            (&[&[1][..]][..], &[1][..], true, None),
            (&[THREE], &[1, 2, 3], true, None),
            (&[THREE], &[1, 3], true, None),
            (&[THREE], &[1, 3], false, Some("no leader: a majority of the voters is within reach, and elects none")),
            (&[THREE], &[1, 6], true, Some("no majority: 1 of 3 voters reachable; start n2 or n3")),
            (&[THREE], &[], false, Some("no majority: 0 of 3 voters reachable; start 2 of n1, n2, n3")),
            (&[&[1, 2]], &[1], true, Some("no majority: 1 of 2 voters reachable; start n2")),
            (&[&[1, 2, 3, 4, 5]], &[1], true, Some("no majority: 1 of 5 voters reachable; start 2 of n2, n3, n4, n5")),
            (&[&[1, 2, 3, 4, 5]], &[1, 2], true, Some("no majority: 2 of 5 voters reachable; start n3, n4 or n5")),
            // A change of membership needs a majority of both sets.
            (&[&[1], THREE], &[1], true, Some("no majority: 1 of 3 voters reachable; start n2 or n3")),
            (&[&[1], THREE], &[2, 3], true, Some("no majority: 2 of 3 voters reachable; start n1")),
        ] {
            let quorum = seen(sets, reachable, led);
            let words = match quorum.remedy() {
                todo if todo.is_empty() => quorum.to_string(),
                todo => format!("{quorum}; {todo}"),
            };
            assert_eq!((!quorum.is_present()).then_some(&*words), said, "{sets:?} {reachable:?}");
        }
    }

    #[test]
    fn who_has_lost_its_vote_is_no_help() {
        let lost = |reachable: &[u64], lost: &[u64]| {
            let ids = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
            let (reachable, lost) = (ids(reachable), ids(lost));
            Sight { membership: &membership(&[&[1, 2, 3]]), reachable, lost, led: false }.quorum()
        };
        let one = lost(&[2], &[1]);
        assert_eq!((one.to_string(), one.remedy()), ("no majority: 1 of 3 voters reachable".into(), "start n3".into()));
        let none = lost(&[2], &[1, 3]);
        assert_eq!((none.to_string(), none.remedy()), ("no majority: 1 of 3 voters reachable".into(), String::new()));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_lost_after_longer_than_elections_take_and_there_again_at_once() {
        let missing = || seen(&[&[1, 2, 3]], &[1], true);
        let (mut patience, begun) = (Patience::default(), Instant::now());
        let mut at = |ms: u64, seen| patience.judge(seen, begun + Duration::from_millis(ms), LOST_AFTER);
        assert!(at(0, missing()).is_present());
        assert!(at(2_900, Quorum::Leaderless).is_present());
        assert!(at(2_950, Quorum::Present).is_present(), "one good look");
        assert!(at(3_100, missing()).is_present(), "and it is counted anew");
        assert_eq!(at(6_100, missing()), missing());
        assert!(at(6_200, Quorum::Leaderless).is_present(), "a majority is back, and elects");
        assert!(at(9_100, Quorum::Leaderless).is_present());
        assert_eq!(at(9_200, Quorum::Leaderless), Quorum::Leaderless, "for longer than that takes");
        assert_eq!(at(9_300, missing()), missing(), "nothing was there in between");
        assert!(at(9_400, Quorum::Present).is_present());
        assert!(at(9_500, missing()).is_present());
        assert!(at(11_000, Quorum::Leaderless).is_present());
        assert_eq!(at(12_500, missing()), missing(), "it comes and goes, and none has led");
    }
}
