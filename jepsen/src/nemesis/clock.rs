//! One node's clock is wrong: the time of day leaps, drifts or runs to and fro; or the monotonic clock, by which timers and
//! leases go, is slow or fast.

use std::time::{SystemTime, UNIX_EPOCH};

use rand::RngExt;
use rand::rngs::StdRng;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{HOLD, Kind, World};
use crate::cluster::clock::Reach;

/// A certificate is valid from an hour before it was made: a node whose clock is further back believes nobody's, its peers'
/// neither, and is lost to the majority.
const LONELY_BELOW: f64 = -3000.0;
/// How often a node's log is looked at, seconds.
const LOOK: f64 = 0.2;
/// A clock is seen to be wrong from this on, seconds: nodes tell of 2 s.
const SEEN_MIN: f64 = 0.5;
/// A clock that is set right again is ahead by no more than this, seconds.
const REST_AHEAD: f64 = 0.7;

/// How a time of day is wrong.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Wrong {
    /// So many seconds ahead, going right.
    Jump(f64),
    /// So many seconds ahead, and from then on at this rate.
    Drift(f64, f64),
    /// Now so many seconds ahead, now right, to and fro.
    Strobe(f64),
}

impl Wrong {
    /// One, by the seed. `lone`: with nobody to compare with, only a jump ahead is ever told of.
    pub fn choose(rng: &mut StdRng, lone: bool) -> Self {
        let sign = if lone || rng.random_ratio(1, 2) { 1.0 } else { -1.0 };
        let far = f64::from(rng.random_range(2..180_u32) * 60);
        if lone {
            return Self::Jump(far);
        }
        match rng.random_range(0..4) {
            0 => Self::Jump(sign * far),
            1 => Self::Jump(sign * rng.random_range(3.0..60.0)),
            2 => Self::Drift(sign * rng.random_range(3.0..10.0), if sign > 0.0 { 2.0 } else { 0.5 }),
            _ => Self::Strobe(sign * rng.random_range(3.0..40.0)),
        }
    }

    /// How many nodes it may take from the majority.
    pub fn costs(self) -> u32 {
        u32::from(matches!(self, Self::Jump(seconds) if seconds < LONELY_BELOW))
    }

    fn words(self) -> String {
        match self {
            Self::Jump(seconds) => format!("{seconds:+.0} s"),
            Self::Drift(seconds, rate) => format!("{seconds:+.0} s, then at rate {rate}"),
            Self::Strobe(seconds) => format!("to and fro by {seconds:+.0} s"),
        }
    }
}

/// How far the clock that stamped a line was off at least, seconds; the line was written between these two moments.
pub fn off(line: &str, after: f64, before: f64) -> Option<f64> {
    let stamp = OffsetDateTime::parse(line.split_whitespace().next()?, &Rfc3339).ok()?;
    let stamp = stamp.unix_timestamp_nanos() as f64 / 1e9;
    Some((stamp - before).max(0.0) + (stamp - after).min(0.0))
}

/// The real time of day, seconds.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// Reads what a node writes to its log, for stamps that are off.
struct Watch<'w> {
    world: &'w World<'w>,
    node: u32,
    read: u64,
    looked: f64,
    /// The stamp that was off most.
    worst: f64,
}

impl<'w> Watch<'w> {
    fn new(world: &'w World<'w>, node: u32) -> Self {
        Self { world, node, read: world.cluster.log_len(node), looked: now(), worst: 0.0 }
    }

    fn look(&mut self) {
        let text = self.world.cluster.log_from(self.node, self.read);
        self.read += text.len() as u64;
        let before = now();
        let offs = text.lines().filter_map(|line| off(line, self.looked, before));
        self.worst = offs.fold(self.worst, |worst, off| if off.abs() > worst.abs() { off } else { worst });
        self.looked = before;
    }

    /// Looks for so many seconds; true when faults are to end.
    async fn watch(&mut self, seconds: f64) -> bool {
        let end = now() + seconds;
        while now() < end {
            if self.world.nap(LOOK).await {
                return true;
            }
            self.look();
        }
        false
    }

    /// What was seen, if anything.
    fn seen(mut self) -> Option<String> {
        self.look();
        (self.worst.abs() >= SEEN_MIN).then(|| format!("its log is stamped {:+.1} s off", self.worst))
    }
}

impl World<'_> {
    /// The time of day of one node is wrong for a while.
    pub(super) async fn clock(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let lone = self.cluster.size() < 3;
        let wrong = Wrong::choose(rng, lone);
        // Of few, it is the leader who tells.
        let Some(node) = self.with_clock(rng, Reach::Wall, lone).await else { return Ok(()) };
        let Some(taken) = self.take(wrong.costs()).await else { return Ok(()) };
        let Some(clock) = self.cluster.clock(node) else {
            // Removed meanwhile.
            self.give(taken);
            return Ok(());
        };
        let words = format!("n{node}: {}", wrong.words());
        let mut watch = Watch::new(self, node);
        self.tell("clock", &words);
        let hold = rng.random_range(HOLD);
        match wrong {
            Wrong::Jump(seconds) => {
                clock.leap(seconds, 1.0)?;
                // Few tell of it only when time is next to move on, every 5 s.
                watch.watch(if lone { hold + 5.0 } else { hold }).await;
            }
            Wrong::Drift(seconds, rate) => {
                clock.leap(seconds, rate)?;
                watch.watch(hold).await;
            }
            Wrong::Strobe(seconds) => {
                for _ in 0..rng.random_range(3..10) {
                    clock.leap(seconds, 1.0)?;
                    let done = watch.watch(rng.random_range(0.1..1.5)).await;
                    clock.leap(0.0, 1.0)?;
                    if done || watch.watch(rng.random_range(0.1..1.0)).await {
                        break;
                    }
                }
            }
        }
        clock.leap(0.0, 1.0)?;
        self.tell("heal-clock", &format!("n{node}"));
        if let Some(seen) = watch.seen() {
            self.took_effect(Kind::Clock, &format!("{words} ({seen})"));
        }
        self.give(taken);
        Ok(())
    }

    /// The time of day of whoever leads leaps, for about as long as others' clocks are known from before; again and again, so that
    /// some of it falls upon the moment when cluster time moves on.
    pub(super) async fn clock_leap(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        for _ in 0..rng.random_range(4..9) {
            let Some(node) = self.with_clock(rng, Reach::Wall, true).await else { return Ok(()) };
            let Some(clock) = self.cluster.clock(node) else { return Ok(()) };
            let far = f64::from(rng.random_range(2..45_u32) * 60);
            let seconds = if rng.random_ratio(3, 4) { far } else { -far };
            let words = format!("n{node}: {seconds:+.0} s");
            let mut watch = Watch::new(self, node);
            self.tell("clock-leap", &words);
            clock.leap(seconds, 1.0)?;
            let mut done = watch.watch(rng.random_range(0.3..2.0)).await;
            clock.leap(0.0, 1.0)?;
            self.tell("heal-clock-leap", &format!("n{node}"));
            done |= self.nap(rng.random_range(0.2..1.0)).await;
            if let Some(seen) = watch.seen() {
                self.took_effect(Kind::ClockLeap, &format!("{words} ({seen})"));
            }
            if done {
                break;
            }
        }
        Ok(())
    }

    /// Every clock of one node, the one for its timers too, is slow or fast for a while; then the other way, until it is
    /// right again.
    pub(super) async fn clock_rate(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        // A slow leader believes longer in its lease than those who wait for its end.
        let rate = [0.25, 0.5, 0.5, 2.0][rng.random_range(0..4)];
        let Some(node) = self.with_clock(rng, Reach::Monotonic, false).await else { return Ok(()) };
        let Some(clock) = self.cluster.clock(node) else { return Ok(()) };
        let start = clock.start();
        let words = format!("n{node}: at rate {rate}");
        let mut watch = Watch::new(self, node);
        clock.set_rate(rate)?;
        self.tell("clock-rate", &words);
        watch.watch(rng.random_range(6.0..9.0)).await;
        // A restarted process has a new clock.
        if clock.start() == start {
            clock.set_rate(if rate < 1.0 { 2.0 } else { 0.5 })?;
            self.tell("clock-rate-back", &format!("n{node}: {:+.1} s off", clock.ahead()));
            let off = |ahead: f64| if rate < 1.0 { ahead < 0.0 } else { ahead > REST_AHEAD };
            while clock.start() == start && off(clock.ahead()) && !watch.watch(LOOK).await {}
            if clock.start() == start {
                clock.set_right_forward()?;
            }
        }
        self.tell("heal-clock-rate", &format!("n{node}"));
        if let Some(seen) = watch.seen() {
            self.took_effect(Kind::ClockRate, &format!("{words} ({seen})"));
        }
        Ok(())
    }

    /// A node whose clock can be moved so, half the time the leader, or always.
    async fn with_clock(&self, rng: &mut StdRng, reach: Reach, leader_only: bool) -> Option<u32> {
        let can = |node: &u32| self.cluster.clock(*node).is_some_and(|c| c.reach() == reach);
        let nodes: Vec<u32> = self.cluster.members().into_iter().filter(can).collect();
        let any = *nodes.get(rng.random_range(0..nodes.len().max(1)))?;
        let wants_leader = rng.random_ratio(1, 2) || leader_only;
        let leader = if wants_leader { self.cluster.leader().await.filter(can) } else { None };
        if leader_only { leader } else { Some(leader.unwrap_or(any)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::stream;

    #[test]
    fn a_stamp_shows_how_far_a_clock_is_off_at_least() {
        // 1_767_225_600 = 2026-01-01T00:00:00Z
        let line = |stamp: &str| off(&format!("{stamp}  WARN quorate: words"), 1_767_225_600.0, 1_767_225_601.0);
        assert_eq!(line("2026-01-01T00:00:00.500000Z"), Some(0.0), "within the time it may have been written");
        assert_eq!(line("2026-01-01T00:00:04.000000Z"), Some(3.0));
        assert_eq!(line("2025-12-31T23:59:55Z"), Some(-5.0));
        assert_eq!(line("thread"), None);
        assert_eq!(off("", 0.0, 1.0), None);
    }

    #[test]
    fn every_way_is_chosen_and_only_a_clock_far_back_costs_a_node() {
        let mut rng = stream(1, "clock", 0);
        let all: Vec<Wrong> = (0..200).map(|_| Wrong::choose(&mut rng, false)).collect();
        let some = |wanted: fn(&Wrong) -> bool| assert!(all.iter().any(wanted));
        some(|w| matches!(w, Wrong::Jump(s) if *s > 60.0));
        some(|w| matches!(w, Wrong::Jump(s) if *s < -60.0));
        some(|w| matches!(w, Wrong::Drift(..)));
        some(|w| matches!(w, Wrong::Strobe(_)));
        some(|w| w.costs() == 1);
        assert!(all.iter().all(|w| w.costs() == 0 || matches!(w, Wrong::Jump(s) if *s < -3000.0)));
        // What nobody would tell of is not chosen.
        let lone = |w: Wrong| matches!(w, Wrong::Jump(s) if s > 60.0);
        assert!((0..100).all(|_| lone(Wrong::choose(&mut rng, true))));
    }
}
