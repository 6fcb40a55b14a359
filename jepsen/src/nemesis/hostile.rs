//! A member's process is stopped, and a program with its certificate and key takes its place at the nodes' own port.

use std::collections::BTreeMap;

use clap::ValueEnum;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{Kind, World};
use crate::checker::hostile::OPEN;
use crate::hostile::doors::{Door, Knock};

/// It goes on so long, seconds: it asks each node once first.
const HOLD: std::ops::Range<f64> = 4.0..9.0;
/// So many doors are tried at a time.
const DOORS: std::ops::RangeInclusive<usize> = 1..=3;

impl World<'_> {
    /// A member, half the time the leader, is played by somebody else for some seconds.
    pub(super) async fn hostile(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let Some((node, words, taken)) = self.victim(rng).await else { return Ok(()) };
        self.held.borrow_mut().insert(node);
        // Its own node comes back to what was said in its name.
        self.cluster.excuse(node);
        let done = self.impersonate(node, &words, rng).await;
        self.cluster.excuse_ends(node);
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
        let _ = self.cluster.kill(node);
        let names: Vec<&str> = doors.iter().map(|door| door.name()).collect();
        self.tell("hostile", &format!("{words}: {}", names.join(", ")));
        let program = self.cluster.impersonate(node, &status, &doors)?;
        self.nap(rng.random_range(HOLD)).await;
        let knocks = program.end()?;
        for (door, knocks) in by_door(&knocks) {
            let open = knocks.iter().filter(|knock| knock.open).count();
            let told = format!("{words}: {} answers, {open} times open; {}", knocks.len(), knocks[0].said);
            self.took_effect_as(Kind::Hostile, &format!("{}-{}", Kind::Hostile.name(), door.name()), &told);
            for knock in knocks.iter().filter(|knock| knock.open).take(1) {
                self.tell(OPEN, &format!("{} at {}, by {words}: {}", door.name(), knock.at, knock.said));
            }
        }
        self.restart(node, "restart-hostile")?;
        self.bring_back(node).await?;
        self.tell("heal-hostile", &format!("n{node}"));
        Ok(())
    }
}

fn by_door(knocks: &[Knock]) -> BTreeMap<Door, Vec<&Knock>> {
    let mut of: BTreeMap<Door, Vec<&Knock>> = BTreeMap::new();
    knocks.iter().for_each(|knock| of.entry(knock.door).or_default().push(knock));
    of
}
