//! Faults made of many small ones, or of several in a certain order: what plain faults meet by luck alone.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep};

use super::{HOLD, Kind, World};

/// A stutter stands still so long, and runs so long, milliseconds.
const STILL_MS: std::ops::Range<u64> = 5..60;
const RUNS_MS: std::ops::Range<u64> = 5..60;
/// A link is gone, and there, so long, milliseconds: about what a round or an election waits.
const GONE_MS: std::ops::Range<u64> = 150..500;
const THERE_MS: std::ops::Range<u64> = 50..300;
/// How long another leader is waited for.
const ELECTION_TIME_MAX: Duration = Duration::from_secs(10);

impl World<'_> {
    /// As a machine does that is starved, or collects garbage: what was sent before and after waits side by side.
    pub(super) async fn stutter(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let Some((node, words, taken)) = self.victim(rng).await else { return Ok(()) };
        let end = Instant::now() + Duration::from_secs_f64(rng.random_range(HOLD));
        let mut stopped = false;
        while Instant::now() < end && !self.stopped() && self.cluster.pause(node).is_ok() {
            stopped = true;
            sleep(Duration::from_millis(rng.random_range(STILL_MS))).await;
            self.cluster.resume(node);
            sleep(Duration::from_millis(rng.random_range(RUNS_MS))).await;
        }
        if stopped {
            self.took_effect(Kind::Stutter, &words);
        }
        self.give(taken);
        Ok(())
    }

    /// What was sent on the link arrives in the end, but late: each connection tries again at a time of its own.
    pub(super) async fn flaky(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        // All of it: no partition at the same time, whose links this would heal.
        let Some(taken) = self.take(self.budget_max).await else { return Ok(()) };
        let leader = self.cluster.leader().await;
        let others: Vec<u32> = self.cluster.members().into_iter().filter(|n| Some(*n) != leader).collect();
        let (Some(leader), false) = (leader, others.is_empty()) else {
            self.give(taken);
            return Ok(());
        };
        let other = others[rng.random_range(0..others.len())];
        // Mostly what the leader answers.
        let link = if rng.random_ratio(3, 4) { (leader, other) } else { (other, leader) };
        let words = format!("n{} to n{} (leader n{leader})", link.0, link.1);
        let mut dropped = 0;
        self.tell("flaky", &words);
        let end = Instant::now() + Duration::from_secs_f64(rng.random_range(HOLD));
        while Instant::now() < end && !self.stopped() {
            self.net.cut(&[link])?;
            sleep(Duration::from_millis(rng.random_range(GONE_MS))).await;
            dropped += self.net.heal()?;
            sleep(Duration::from_millis(rng.random_range(THERE_MS))).await;
        }
        self.tell("heal-flaky", &words);
        if dropped > 0 {
            self.took_effect(Kind::Flaky, &words);
        }
        self.give(taken);
        Ok(())
    }

    /// The third node is in two majorities that follow each other; what it promised in the first it must remember.
    pub(super) async fn sides(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let Some(taken) = self.take(self.budget_max).await else { return Ok(()) };
        let leader = self.cluster.leader().await;
        let others: Vec<u32> = self.cluster.members().into_iter().filter(|n| Some(*n) != leader).collect();
        if let Some(old) = leader
            && let [one, two] = others[..]
        {
            let both = |a: u32, b: u32| [(a, b), (b, a)];
            self.net.cut(&[both(old, one), both(old, two)].concat())?;
            self.tell("sides", &format!("n{old} (leader) cut off"));
            let end = Instant::now() + ELECTION_TIME_MAX;
            let (mut new, mut back) = (None, None);
            while new.is_none() && Instant::now() < end && !self.stopped() {
                sleep(Duration::from_millis(20)).await;
                new = self.cluster.leader().await.filter(|leader| *leader != old);
            }
            // So that something is acknowledged there.
            self.nap(rng.random_range(0.1..0.5)).await;
            if let Some(new) = new {
                let third = if new == one { two } else { one };
                if self.cluster.kill(third).is_ok() {
                    self.net.cut(&[both(old, new), both(new, third)].concat())?;
                    self.cluster.start_node(third)?;
                    self.took_effect(Kind::Sides, &format!("n{third} leaves n{new}, the leader, for n{old}"));
                    self.nap(rng.random_range(HOLD)).await;
                    back = Some(third);
                }
            }
            self.net.heal()?;
            self.tell("heal-sides", "every link");
            if let Some(back) = back {
                self.reopen(back).await;
            }
        }
        self.give(taken);
        Ok(())
    }
}
