//! Cluster time (key-log §1.7, trust.md §6): the leader, sealed or not, commits the median of a majority's clocks, so that one
//! wrong clock, be it the leader's, moves nothing; and what is destroyed goes by a time that no clock alone can push.

mod judge;
mod keeper;
pub(crate) mod reading;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quorate_core::id::NodeId;
use quorate_core::seam::{BootClock, WallClock};
use quorate_core::time::DutyTime;

pub(crate) use self::judge::is_fit;
pub use self::judge::{DUTY_WAIT, NoDuty, OFFSET_ALARM_MS, OUTRUN_MAX_MS};
use self::judge::{Judge, Tick};
pub(crate) use self::keeper::Keeper;
use self::reading::Clocks;
use crate::peer::hello::Heard;
use crate::shared::Shared;

/// The clocks of this machine, those that were heard of, and what this node thinks of the time.
pub(crate) struct Clock {
    me: NodeId,
    wall: Arc<dyn WallClock>,
    boot: Arc<dyn BootClock>,
    shared: Arc<Shared>,
    heard: Arc<Heard>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    judge: Judge,
    /// A leap that waits for an operator.
    held_ms: Option<u64>,
}

impl Clock {
    pub(crate) fn new(
        me: NodeId,
        wall: Arc<dyn WallClock>,
        boot: Arc<dyn BootClock>,
        shared: Arc<Shared>,
        heard: Arc<Heard>,
    ) -> Self {
        Self { me, wall, boot, shared, heard, state: Mutex::default() }
    }

    /// This machine's idea of the time, milliseconds since 1970.
    pub(crate) fn wall_ms(&self) -> u64 {
        self.wall.now_ms()
    }

    /// Since some fixed point, by the clock that nobody sets.
    pub(crate) fn boot_time(&self) -> Duration {
        self.boot.now()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All clocks that are known here, now.
    fn with_clocks<T>(&self, f: impl FnOnce(&Clocks<'_>) -> T) -> T {
        let membership = self.shared.members.applied();
        // The own clock first: what was heard while this looked is not older than it says.
        let (own_ms, now) = (self.wall.now_ms(), self.boot.now());
        f(&Clocks { me: self.me, membership: &membership, readings: self.heard.readings(), now, own_ms })
    }

    /// The leap that waits for an operator.
    pub(crate) fn held_ms(&self) -> Option<u64> {
        self.state().held_ms
    }

    /// This clock minus the majority's, as compared last.
    pub(crate) fn offset_ms(&self) -> Option<i64> {
        self.state().judge.offset_ms()
    }

    /// Compares this clock with the others; `leader_known`: somebody leads who is there.
    fn look(&self, leader_known: bool) {
        let cluster_ms = self.shared.cluster_time_ms();
        self.with_clocks(|clocks| self.state().judge.look(clocks, cluster_ms, leader_known));
    }

    /// What a leader does with cluster time.
    fn tick(&self) -> Tick {
        let cluster_ms = self.shared.cluster_time_ms();
        let tick = self.with_clocks(|clocks| self.state().judge.tick(clocks, cluster_ms));
        self.hold(if let Tick::Held(t) = tick { Some(t) } else { None });
        tick
    }

    fn hold(&self, held_ms: Option<u64>) {
        self.state().held_ms = held_ms;
    }

    /// Whether this node's clock lets it lead: it is fit, or nobody leads.
    pub(crate) fn may_lead(&self) -> bool {
        self.state().judge.may_lead(self.boot.now())
    }

    /// What may be destroyed by, when cluster time has stood for `wait`.
    pub(crate) fn duty_time(&self, wait: Duration) -> Result<DutyTime, NoDuty> {
        let cluster_ms = self.shared.cluster_time_ms();
        self.with_clocks(|clocks| self.state().judge.duty_time(clocks, cluster_ms, wait))
    }

    /// What a confirmed time is measured by: the median of a majority's clocks; with one or two voters the own clock.
    pub(crate) fn reference_ms(&self) -> Option<u64> {
        self.with_clocks(|clocks| if clocks.is_witnessed() { clocks.median() } else { Some(clocks.own_ms) })
    }

    /// Each member's clock minus the majority's, of those known.
    pub(crate) fn offsets_ms(&self) -> BTreeMap<NodeId, i64> {
        self.with_clocks(|clocks| {
            let Some(median) = clocks.median().filter(|_| clocks.is_witnessed()) else { return BTreeMap::new() };
            let off = |ms: u64| i64::try_from(i128::from(ms) - i128::from(median)).unwrap_or(i64::MAX);
            let members = clocks.readings.keys().copied().chain([self.me]);
            members.filter_map(|id| Some((id, off(clocks.of(id)?)))).collect()
        })
    }
}
