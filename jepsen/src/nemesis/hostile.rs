//! A member's process is stopped, and a program with its certificate and key takes its place at the nodes' own port.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::ValueEnum;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{Kind, World};
use crate::checker::hostile::OPEN;
use crate::hostile::doors::{Door, Knock};

/// It goes on so long, seconds: it asks each node once first.
const HOLD: std::ops::Range<f64> = 4.0..9.0;
/// Its removal is asked for so long while it goes on.
const REMOVAL_TIME_MAX: Duration = Duration::from_secs(15);
/// So many doors are tried at a time.
const DOORS: std::ops::RangeInclusive<usize> = 1..=3;

impl World<'_> {
    /// A member, half the time the leader, is played by somebody else for some seconds; one time in three it is removed while
    /// that goes on.
    pub(super) async fn hostile(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let Some((node, words, taken)) = self.victim(rng).await else { return Ok(()) };
        self.held.borrow_mut().insert(node);
        let done = self.impersonate(node, &words, rng).await;
        self.held.borrow_mut().remove(&node);
        self.give(taken);
        done
    }

    async fn impersonate(&self, node: u32, words: &str, rng: &mut StdRng) -> anyhow::Result<()> {
        let mut doors = Door::value_variants().to_vec();
        doors.shuffle(rng);
        doors.truncate(rng.random_range(DOORS));
        // Who is who, as long as it can be asked.
        let Some(status) = self.cluster.status(node).await else { return Ok(()) };
        // Its own node comes back to what was said in its name.
        self.excuse(node);
        let _ = self.cluster.kill(node);
        let names: Vec<&str> = doors.iter().map(|door| door.name()).collect();
        self.tell("hostile", &format!("{words}: {}", names.join(", ")));
        let program = self.cluster.impersonate(node, &status, &doors)?;
        self.nap(rng.random_range(HOLD)).await;
        let is_removed = rng.random_ratio(1, 3);
        if is_removed {
            // It goes on after its removal.
            self.tell("remove", words);
            match self.cluster.remove(node, REMOVAL_TIME_MAX).await {
                Ok(()) => self.tell("removed", words),
                Err(e) => self.tell("not-removed", &format!("{words}: {e:#}")),
            }
            self.nap(rng.random_range(HOLD)).await;
        }
        // Another fault may have met its token or its disk: then this one did not happen.
        let knocks = program.end().unwrap_or_else(|e| {
            self.tell("hostile-ended", &format!("{words}: {e:#}"));
            vec![]
        });
        for (door, knocks) in by_door(&knocks) {
            let open = knocks.iter().filter(|knock| knock.open).count();
            let told = format!("{words}: {} answers, {open} times open; {}", knocks.len(), knocks[0].said);
            self.took_effect_as(Kind::Hostile, &format!("{}-{}", Kind::Hostile.name(), door.name()), &told);
            for knock in knocks.iter().filter(|knock| knock.open).take(1) {
                self.tell(OPEN, &format!("{} at {}, by {words}: {}", door.name(), knock.at, knock.said));
            }
        }
        if is_removed {
            self.replace(node).await;
        }
        self.restart(node, "restart-hostile")?;
        let replaced = self.bring_back(node).await? || is_removed;
        self.excuse_ends(node, false, replaced);
        self.tell("heal-hostile", &format!("n{node}"));
        Ok(())
    }
}

fn by_door(knocks: &[Knock]) -> BTreeMap<Door, Vec<&Knock>> {
    let mut of: BTreeMap<Door, Vec<&Knock>> = BTreeMap::new();
    knocks.iter().for_each(|knock| of.entry(knock.door).or_default().push(knock));
    of
}
