//! One node's judgement, second by second, with clocks that do what a test says.

use std::collections::BTreeMap;

use proptest::prelude::*;
use quorate_core::id::NodeId;

use super::*;
use crate::clock::reading::Reading;
use crate::clock::reading::tests::{NOW, WALL, voters};
use crate::member::MembershipView;

const WEEK: i64 = 7 * 86_400_000;

/// A node, its clock, and the others' clocks, of which each is so far off; everything goes on by whole steps.
struct Site {
    judge: Judge,
    membership: MembershipView,
    now: Duration,
    offs: BTreeMap<u64, i64>,
    cluster_ms: u64,
    leader_known: bool,
}

impl Site {
    fn of(ids: &[u64]) -> Self {
        let offs = ids.iter().map(|id| (*id, 0)).collect();
        let (judge, membership) = (Judge::default(), voters(&[ids]));
        let mut site = Self { judge, membership, now: NOW, offs, cluster_ms: WALL, leader_known: true };
        site.look();
        site
    }
    fn wall(&self, id: u64) -> u64 {
        let right = WALL + (self.now - NOW).as_millis() as u64;
        right.saturating_add_signed(self.offs[&id])
    }
    fn clocks(&self) -> Clocks<'_> {
        let heard = |id: &u64| Some((NodeId(*id), Reading::new(self.wall(*id), self.now, self.now, self.wall(1))?));
        let readings = self.offs.keys().filter(|id| **id != 1).filter_map(heard).collect();
        let (me, own_ms) = (NodeId(1), self.wall(1));
        Clocks { me, membership: &self.membership, readings, now: self.now, own_ms }
    }
    fn look(&mut self) {
        let mut judge = std::mem::take(&mut self.judge);
        judge.look(&self.clocks(), self.cluster_ms, self.leader_known);
        self.judge = judge;
    }
    /// So many seconds go by, looked at each second, and cluster time moves on as it may.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.look();
            if let Tick::To(t) = self.tick() {
                self.cluster_ms = t;
                self.look();
            }
        }
    }
    fn tick(&self) -> Tick {
        self.judge.tick(&self.clocks(), self.cluster_ms)
    }
    fn duty(&self) -> Result<u64, NoDuty> {
        self.judge.duty_time(&self.clocks(), self.cluster_ms, DUTY_WAIT).map(DutyTime::ms)
    }
    fn right(&self) -> u64 {
        WALL + (self.now - NOW).as_millis() as u64
    }
}

#[test]
fn a_leader_that_leaps_moves_no_time_and_destroys_nothing() {
    for leap in [691_196_000, -691_196_000] {
        let mut site = Site::of(&[1, 2, 3]);
        site.pass(400);
        assert!(site.duty().is_ok());
        site.offs.insert(1, leap);
        assert!(matches!(site.duty(), Err(NoDuty::Unfit)), "before anybody looked");
        for _ in 0..400 {
            site.pass(1);
            assert!(site.cluster_ms <= site.right() && site.duty() == Err(NoDuty::Unfit), "{leap}");
        }
        assert!(!site.judge.fit() && site.cluster_ms + 2000 > site.right(), "by the others' clocks time goes on");
    }
}

#[test]
fn a_small_step_runs_no_duty_for_a_minute_but_leads() {
    let mut site = Site::of(&[1, 2, 3]);
    site.pass(400);
    for step in [2500, -2500] {
        *site.offs.get_mut(&1).unwrap() += step;
        assert_eq!(site.duty(), Err(NoDuty::Stepped), "before anybody looked");
        site.pass(59);
        assert_eq!(site.duty(), Err(NoDuty::Stepped));
        assert!(site.judge.fit());
        site.pass(2);
        assert!(site.duty().is_ok());
    }
    *site.offs.get_mut(&1).unwrap() += 1500;
    site.pass(1);
    assert!(site.duty().is_ok(), "no step");
}

#[test]
fn after_a_start_duties_wait_five_minutes() {
    let mut site = Site::of(&[1, 2, 3]);
    site.pass(299);
    assert_eq!(site.duty(), Err(NoDuty::Unseen));
    site.pass(1);
    assert_eq!(site.duty(), Ok(WALL));
    site.pass(100);
    assert!(site.duty().unwrap() <= site.right() - 300_000 && site.duty().unwrap() >= site.right() - 302_000);
    // A process that was stopped for long has seen what it saw before that.
    let seen = site.cluster_ms;
    site.now += Duration::from_secs(3600);
    assert_eq!(site.judge.duty_time(&site.clocks(), site.right(), DUTY_WAIT).map(DutyTime::ms), Ok(seen));
}

#[test]
fn time_that_a_leader_pushed_destroys_nothing() {
    let mut site = Site::of(&[1, 2, 3]);
    site.pass(400);
    site.cluster_ms += WEEK as u64;
    site.pass(700);
    assert!(site.duty().unwrap() <= site.right(), "the median is right");
    // In a cluster of one, whose clock went along: until an operator has set time back, and then at once.
    let mut site = Site::of(&[1]);
    site.pass(400);
    site.offs.insert(1, WEEK);
    site.cluster_ms += WEEK as u64;
    site.pass(100);
    assert!(site.duty().unwrap() <= site.right());
    site.pass(300);
    assert!(site.duty().unwrap() > site.right());
    site.cluster_ms = site.right();
    assert!(site.duty().unwrap() <= site.right(), "before anybody looked");
    site.pass(1);
    assert!(site.duty().unwrap() <= site.right());
}

#[test]
fn without_a_majority_of_clocks_nothing_is_destroyed_and_no_time_moves() {
    let mut site = Site::of(&[1, 2, 3]);
    site.pass(400);
    site.offs = BTreeMap::from([(1, 5000)]);
    assert_eq!((site.duty(), site.tick()), (Err(NoDuty::Unwitnessed), Tick::Wait));
    site.offs.insert(2, 5000);
    assert!(matches!(site.tick(), Tick::To(_)));
    assert!(matches!(Site { cluster_ms: 0, ..site }.tick(), Tick::Wait), "before genesis");
}

#[test]
fn a_long_way_takes_five_rounds_of_clocks_that_go_right() {
    let far = |ids| {
        let mut site = Site::of(ids);
        site.cluster_ms -= 3_600_000;
        site.look();
        site
    };
    let mut site = far(&[1, 2, 3]);
    for round in 2..=5 {
        assert_eq!(site.tick(), Tick::Wait, "round {round}");
        site.now += Duration::from_secs(1);
        site.look();
    }
    assert!(matches!(site.tick(), Tick::To(_)));

    // Clocks that are set meanwhile begin anew; and one that is not read anew is no round.
    let mut site = far(&[1, 2, 3]);
    for _ in 0..10 {
        site.now += Duration::from_secs(1);
        site.offs.values_mut().for_each(|off| *off += 2500);
        site.look();
        site.look();
        assert_eq!(site.tick(), Tick::Wait);
    }

    // Who has nobody to ask waits for an operator, however long.
    for few in [&[1][..], &[1, 2]] {
        let mut site = far(few);
        site.pass(1000);
        assert!(matches!(site.tick(), Tick::Held(t) if t == site.right()), "{few:?}");
    }
}

#[test]
fn within_a_minute_of_boot_time_anybody_may_move_on() {
    for ids in [&[1][..], &[1, 2], &[1, 2, 3]] {
        let mut site = Site::of(ids);
        site.now += Duration::from_secs(1000);
        site.offs.values_mut().for_each(|off| *off += 60_000);
        let ahead = site.right() + 60_000;
        assert_eq!(site.tick(), Tick::To(ahead), "what has passed, and a minute");
        site.offs.values_mut().for_each(|off| *off += 1);
        assert_ne!(site.tick(), Tick::To(ahead + 1));
        site.offs.values_mut().for_each(|off| *off = -2_000_000);
        assert_eq!(site.tick(), Tick::Wait, "never back");
    }
}

#[test]
fn an_unfit_clock_leads_when_nobody_does() {
    let mut site = Site::of(&[1, 2, 3]);
    assert!(site.judge.may_lead(site.now), "nothing is known against it");
    site.offs.insert(1, 30_001);
    site.look();
    assert!(!site.judge.may_lead(site.now));
    site.leader_known = false;
    site.look();
    site.pass(4);
    assert!(!site.judge.may_lead(site.now));
    site.pass(1);
    assert!(site.judge.may_lead(site.now));
    site.leader_known = true;
    site.look();
    assert!(!site.judge.may_lead(site.now));
    // What was known last holds while nobody can be asked.
    site.offs = BTreeMap::from([(1, 0)]);
    site.pass(10);
    assert!(!site.judge.fit());
    site.offs.insert(2, 0);
    site.pass(1);
    assert!(site.judge.fit());
    // Of two nobody can tell who is wrong.
    let mut pair = Site::of(&[1, 2]);
    pair.offs.insert(1, WEEK);
    pair.pass(10);
    assert!(pair.judge.fit());
}

proptest! {
    /// One of three clocks does whatever it likes, be it the leader's: cluster time is never later than the others' clocks,
    /// nor is what may be destroyed.
    #[test]
    fn one_wild_clock_moves_nothing(
        wild in 1u64..=3,
        steps in prop::collection::vec((prop::option::of(-2 * WEEK..2 * WEEK), 0u64..90), 1..40),
    ) {
        let mut site = Site::of(&[1, 2, 3]);
        for (leap, seconds) in steps {
            if let Some(off) = leap {
                site.offs.insert(wild, off);
            }
            if let Ok(duty) = site.duty() {
                prop_assert!(duty <= site.right());
            }
            site.pass(seconds);
            prop_assert!(site.cluster_ms <= site.right());
        }
    }

    /// A lone clock that leaps moves cluster time by a minute at most for each second that it is looked at, and what may
    /// be destroyed not within five minutes of a leap.
    #[test]
    fn a_lone_clock_moves_time_by_a_minute_at_a_time(leap in 0i64..2 * WEEK) {
        let mut site = Site::of(&[1]);
        site.pass(400);
        site.offs.insert(1, leap);
        for _ in 0..299 {
            let before = site.cluster_ms;
            site.pass(1);
            prop_assert!(site.cluster_ms <= before + 61_000);
            prop_assert!(site.duty().is_ok_and(|duty| duty <= site.right()) || site.duty() == Err(NoDuty::Stepped));
        }
    }
}
