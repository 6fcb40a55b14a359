//! Keeps time: moves cluster time on while this node leads, and gives up leading when its own clock is far off.

use std::sync::Arc;
use std::time::Duration;

use quorate_core::batch::Entry;
use quorate_core::id::NodeId;
use tokio::time::Instant;

use super::Clock;
use super::judge::{OFFSET_ALARM_MS, Tick, is_fit};
use crate::leader::Leader;
use crate::node::Base;
use crate::participation::Participation;
use crate::peer::hello::Heard;
use crate::propose::Proposals;
use crate::shared::Shared;
use crate::space::SpaceRegime;
use crate::status::Role;
use crate::succession::Succession;

/// How long a tick may take until it is committed.
const TICK_WITHIN: Duration = Duration::from_secs(5);
/// How often this node compares its clock with the others.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What keeping time takes.
pub(crate) struct Keeper {
    me: NodeId,
    clock: Arc<Clock>,
    shared: Arc<Shared>,
    peers: Arc<Heard>,
    leader: Arc<Leader>,
    participation: Arc<Participation>,
    succession: Arc<Succession>,
    space: Arc<SpaceRegime>,
    proposals: Arc<Proposals>,
}

impl Keeper {
    pub(crate) fn of(
        base: &Base,
        leader: &Arc<Leader>,
        participation: &Arc<Participation>,
        succession: &Arc<Succession>,
        space: &Arc<SpaceRegime>,
        proposals: &Arc<Proposals>,
    ) -> Self {
        Self {
            me: base.me,
            clock: base.clock.clone(),
            shared: base.shared.clone(),
            peers: base.peers.clone(),
            leader: leader.clone(),
            participation: participation.clone(),
            succession: succession.clone(),
            space: space.clone(),
            proposals: proposals.clone(),
        }
    }

    /// Keeps time for as long as the replica runs, and moves it on so often.
    pub(crate) async fn run(self, tick_interval: Duration) {
        let mut check = tokio::time::interval(CHECK_INTERVAL);
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_tick: Option<Instant> = None;
        let mut could_lead = true;
        loop {
            check.tick().await;
            could_lead = self.judge_own(could_lead).await;
            if !matches!(self.leader.role(), (Role::Leader, _)) {
                last_tick = None;
                self.clock.hold(None);
                continue;
            }
            if last_tick.is_some_and(|at| at.elapsed() < tick_interval) {
                continue;
            }
            // On a full disk time goes on as long as what is allocated has room for it and for an election's entries.
            if !self.space.has_room() {
                continue;
            }
            let t = match self.clock.tick() {
                Tick::Wait => continue,
                Tick::Held(t) => {
                    tracing::warn!(
                        cluster_time = self.shared.cluster_time_ms(),
                        t,
                        "cluster time would jump with no majority of clocks to witness it: it stands still until an operator \
                         confirms that this node's clock is right"
                    );
                    last_tick = Some(Instant::now());
                    self.shared.note_change();
                    continue;
                }
                Tick::To(t) => t,
            };
            last_tick = Some(Instant::now());
            let proposals = self.proposals.clone();
            tokio::spawn(async move {
                let tick = Entry::Tick(t);
                if tokio::time::timeout(TICK_WITHIN, proposals.sequence_entry(&tick)).await.is_err() {
                    tracing::debug!("a tick was not committed in time");
                }
            });
        }
    }

    /// Looks at the clocks: alarms when ours is off the majority's, and gives up leading when it is far off. Whether this node
    /// could lead before, and now.
    async fn judge_own(&self, could_lead: bool) -> bool {
        let before = self.clock.offset_ms().unwrap_or(0);
        // Raft names who was elected last, dead or not.
        let here = |leader| leader == self.me || self.peers.is_reachable(leader);
        self.clock.look(self.leader.now().is_some_and(here));
        let offset_ms = self.clock.offset_ms().unwrap_or(0);
        let alarming = |offset_ms: i64| offset_ms.saturating_abs() > OFFSET_ALARM_MS;
        if alarming(offset_ms) && !alarming(before) {
            tracing::warn!(offset_ms, "this node's clock differs from the majority's; set it right (chrony, ntpd)");
        }
        if alarming(offset_ms) != alarming(before) {
            self.shared.note_change();
        }
        let can_lead = self.clock.may_lead();
        if can_lead != could_lead {
            self.participation.review_candidacy();
            self.shared.note_change();
        }
        if !is_fit(offset_ms) && self.leader.is_me() {
            tracing::error!(offset_ms, "this node's clock is too far off to lead; leadership is handed on");
            self.succession.hand_on().await;
        }
        can_lead
    }
}
