//! Cluster time (key-log §1.7): the leader, sealed or not, commits the median of a majority's clocks, so that one wrong
//! clock, be it the leader's, moves nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quorate_core::batch::Entry;
use quorate_core::id::NodeId;
use tokio::time::Instant;

use crate::change::LAG_MAX;
use crate::member::MembershipView;
use crate::node::Node;
use crate::status::Role;

/// How often time moves on.
const TICK_INTERVAL: Duration = Duration::from_secs(5);
/// How often this node compares its clock with the others.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Clocks count when heard within this: Hellos come once a second, and each is carried forward to now.
const CLOCK_AGE_MAX: Duration = Duration::from_millis(1500);
/// A clock further off than this is reported.
const OFFSET_ALARM_MS: i64 = 2_000;
/// A node whose clock is further off than this does not lead.
const OFFSET_LEAD_MAX_MS: i64 = 30_000;
/// With one or two voters there is no majority of witnesses: cluster time may outrun the leader's monotonic clock by
/// this much, more waits for an operator.
const OUTRUN_MAX_MS: u64 = 60_000;

/// What this node thinks of the time.
#[derive(Default)]
pub(crate) struct Clock(Mutex<State>);

#[derive(Default)]
struct State {
    /// Cluster time, and when it was that by the monotonic clock; set when this node began to lead.
    base: Option<(u64, Instant)>,
    /// A jump that waits for confirmation.
    held_ms: Option<u64>,
    /// This clock minus the majority's, as compared last.
    offset_ms: i64,
}

const fn is_alarming(offset_ms: i64) -> bool {
    offset_ms.saturating_abs() > OFFSET_ALARM_MS
}

const fn is_unfit(offset_ms: i64) -> bool {
    offset_ms.saturating_abs() > OFFSET_LEAD_MAX_MS
}

impl Clock {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether this node's clock is too far off for it to lead.
    pub(crate) fn unfit(&self) -> bool {
        is_unfit(self.with(|s| s.offset_ms))
    }

    /// The jump that waits for an operator.
    pub(crate) fn held_ms(&self) -> Option<u64> {
        self.with(|s| s.held_ms)
    }

    /// The operator has looked at the clock and says it is right.
    pub(crate) fn confirm(&self) {
        self.with(|s| {
            if let Some(held) = s.held_ms.take() {
                s.base = Some((held, Instant::now()));
            }
        });
    }

    /// Whether cluster time may move to `t`; without a majority of witnesses only as far as the monotonic clock says.
    fn allow(&self, t: u64, cluster_time_ms: u64, witnessed: bool) -> bool {
        self.with(|s| {
            if witnessed {
                (s.base, s.held_ms) = (None, None);
                return true;
            }
            let (base, at) = *s.base.get_or_insert((cluster_time_ms, Instant::now()));
            let limit = base.saturating_add(at.elapsed().as_millis() as u64).saturating_add(OUTRUN_MAX_MS);
            let allowed = t <= limit;
            s.held_ms = (!allowed).then_some(t);
            allowed
        })
    }
}

/// The lower median of the voters' clocks, as offsets to ours, when a majority of each set of voters was heard.
/// `offsets` holds what was heard of others; ours is 0.
fn median_offset(membership: &MembershipView, me: NodeId, offsets: &[(NodeId, i64)]) -> Option<i64> {
    let voters = membership.voter_ids();
    let mut heard: Vec<(NodeId, i64)> =
        offsets.iter().copied().filter(|(id, _)| voters.contains(id) && *id != me).collect();
    if voters.contains(&me) {
        heard.push((me, 0));
    }
    if !membership.is_majority(&heard.iter().map(|(id, _)| *id).collect()) {
        return None;
    }
    let mut offsets: Vec<i64> = heard.into_iter().map(|(_, offset)| offset).collect();
    offsets.sort_unstable();
    offsets.get((offsets.len() - 1) / 2).copied()
}

/// Keeps time for as long as the replica runs.
pub(crate) async fn drive(node: Arc<Node>) {
    let mut check = tokio::time::interval(CHECK_INTERVAL);
    check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut last_tick: Option<Instant> = None;
    loop {
        check.tick().await;
        let membership = node.shared.roster.applied();
        let median = median_offset(&membership, node.me, &node.peers.clock_offsets(CLOCK_AGE_MAX));
        let witnessed = membership.voter_ids().len() > 2;
        if let Some(median) = median.filter(|_| witnessed) {
            node.judge_own_clock(-median).await;
        }
        if !matches!(node.role(), (Role::Leader, _)) {
            last_tick = None;
            node.clock.with(|s| (s.base, s.held_ms) = (None, None));
            continue;
        }
        if last_tick.is_some_and(|at| at.elapsed() < TICK_INTERVAL) {
            continue;
        }
        let Some(median) = median else { continue };
        // On a full disk time goes on as long as what is allocated has room for it and for an election's entries.
        if node.journal.low_space() && !node.tail.has_room(&node.journal, 0) {
            continue;
        }
        let t = node.wall.now_ms().saturating_add_signed(median);
        let cluster_time = node.shared.cluster_time_ms();
        // Before genesis there is no time to move.
        if cluster_time == 0 || t <= cluster_time {
            continue;
        }
        if !node.clock.allow(t, cluster_time, witnessed) {
            tracing::warn!(
                cluster_time,
                t,
                "cluster time would jump with no majority of clocks to witness it: it stands still until an operator \
                 confirms that this node's clock is right"
            );
            last_tick = Some(Instant::now());
            node.shared.note_change();
            continue;
        }
        last_tick = Some(Instant::now());
        let node = node.clone();
        tokio::spawn(async move {
            let tick = Entry::Tick(t);
            if tokio::time::timeout(TICK_INTERVAL, node.sequence_entry(&tick)).await.is_err() {
                tracing::debug!("a tick was not committed in time");
            }
        });
    }
}

impl Node {
    /// Alarms when our clock is off the majority's; gives up leading when it is far off.
    async fn judge_own_clock(&self, offset_ms: i64) {
        let before = self.clock.with(|s| std::mem::replace(&mut s.offset_ms, offset_ms));
        let unfit = is_unfit(offset_ms);
        if is_alarming(offset_ms) && !is_alarming(before) {
            tracing::warn!(offset_ms, "this node's clock differs from the majority's; set it right (chrony, ntpd)");
        }
        if unfit != is_unfit(before) {
            self.review_candidacy();
            self.shared.note_change();
        }
        if unfit && self.leads() {
            tracing::error!(offset_ms, "this node's clock is too far off to lead; leadership is handed on");
            self.hand_on_leadership().await;
        }
    }

    /// Asks the most advanced reachable voter to lead, one that serves clients before one that is sealed. Without any
    /// nothing happens: a wrong clock is better than no leader, and ticks carry the median anyway.
    pub(crate) async fn hand_on_leadership(&self) -> Option<NodeId> {
        let to = self.best_successor()?;
        self.raft.trigger().transfer_leader(to.0).await.ok()?;
        Some(to)
    }

    /// Whether another node's clock lets it lead, as far as is known here. One whose clock does not, does not campaign
    /// either: a transfer aimed at it could leave the cluster without a leader.
    pub(crate) fn may_lead(&self, id: NodeId) -> bool {
        let own = self.clock.with(|s| s.offset_ms);
        !self.peers.clock_offset(id).is_some_and(|offset| is_unfit(offset.saturating_add(own)))
    }

    /// Who should lead when this node no longer does.
    pub(crate) fn best_successor(&self) -> Option<NodeId> {
        self.successor_with_space().or_else(|| self.successor(|_| true))
    }

    /// The same, if there is one whose disk is not nearly full.
    pub(crate) fn successor_with_space(&self) -> Option<NodeId> {
        self.successor(|id| !self.peers.is_low(id))
    }

    fn successor(&self, fit: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        let mut others = self.shared.roster.applied().voter_ids();
        others.retain(|id| *id != self.me && fit(*id) && self.may_lead(*id));
        let last = self.journal.state().ok().and_then(|s| s.last).map_or(0, |(index, _)| index);
        // Hellos are up to a second old, and what is missing arrives with the hand-over: nearly level is level.
        let serving = others.iter().copied().filter(|id| self.shared.handler.serves(*id));
        let serving = self.peers.most_advanced(serving);
        serving
            .filter(|id| self.peers.lag(*id, last) <= LAG_MAX)
            .or_else(|| self.peers.most_advanced(others.into_iter()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voters(ids: &[u64]) -> MembershipView {
        MembershipView { voters: vec![ids.iter().map(|id| NodeId(*id)).collect()], ..MembershipView::default() }
    }

    fn heard(offsets: &[(u64, i64)]) -> Vec<(NodeId, i64)> {
        offsets.iter().map(|(id, offset)| (NodeId(*id), *offset)).collect()
    }

    #[test]
    fn one_wrong_clock_moves_no_median() {
        let three = voters(&[1, 2, 3]);
        let year = 31_536_000_000;
        for (offsets, expected) in [
            (heard(&[(2, 10), (3, year)]), Some(10)),
            (heard(&[(2, 10), (3, -year)]), Some(0)),
            // Ours is the wrong one: both others agree on where we are.
            (heard(&[(2, -year), (3, -year + 5)]), Some(-year + 5)),
            // Two of three: the lower of the two.
            (heard(&[(2, 10)]), Some(0)),
            (heard(&[]), None),
            // A learner's clock counts for nothing.
            (heard(&[(9, 10)]), None),
        ] {
            assert_eq!(median_offset(&three, NodeId(1), &offsets), expected, "{offsets:?}");
        }
        assert_eq!(median_offset(&voters(&[1]), NodeId(1), &[]), Some(0));
        assert_eq!(median_offset(&voters(&[2]), NodeId(1), &[]), None, "a learner alone witnesses nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn witnesses_end_a_hold() {
        let clock = Clock::default();
        assert!(clock.allow(1_000_000, 1_000_000, false));
        assert!(!clock.allow(2_000_000, 1_000_000, false));
        assert_eq!(clock.held_ms(), Some(2_000_000));
        assert!(clock.allow(2_000_000, 1_000_000, true));
        assert_eq!(clock.held_ms(), None, "the time moves on, so nobody is asked to confirm it");
    }

    #[tokio::test(start_paused = true)]
    async fn without_witnesses_a_jump_waits_for_the_operator() {
        let clock = Clock::default();
        assert!(clock.allow(1_000_000, 1_000_000, false));
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(clock.allow(1_160_000, 1_000_000, false), "100 s have passed, 60 s are free");
        assert!(!clock.allow(1_160_001, 1_000_000, false));
        assert_eq!(clock.held_ms(), Some(1_160_001));
        clock.confirm();
        assert_eq!(clock.held_ms(), None);
        assert!(clock.allow(1_160_001, 1_000_000, false));
    }
}
