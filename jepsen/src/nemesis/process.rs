//! A node's process is killed or stopped, its power is lost, it is sealed.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{HOLD, Kind, World};
use crate::history::{Call, Outcome};

impl World<'_> {
    pub(super) async fn kill(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let Some((node, words, taken)) = self.victim(rng).await else { return Ok(()) };
        // Another fault may have met it meanwhile: then this one did not happen.
        if self.cluster.kill(node).is_err() {
            self.give(taken);
            return Ok(());
        }
        self.took_effect(Kind::Kill, &words);
        self.nap(rng.random_range(HOLD)).await;
        self.restart(node, "restart")?;
        self.reopen(node).await;
        self.give(taken);
        Ok(())
    }

    pub(super) async fn pause(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let Some((node, words, taken)) = self.victim(rng).await else { return Ok(()) };
        if self.cluster.pause(node).is_err() {
            self.give(taken);
            return Ok(());
        }
        self.took_effect(Kind::Pause, &words);
        self.nap(rng.random_range(HOLD)).await;
        self.cluster.resume(node);
        self.tell("resume", &format!("n{node}"));
        self.give(taken);
        Ok(())
    }

    pub(super) async fn power(&self, kind: Kind, rng: &mut StdRng) -> anyhow::Result<()> {
        let all = kind == Kind::Blackout || rng.random_ratio(1, 3);
        let (nodes, words, taken) = if all {
            let Some(taken) = self.take(self.budget_max).await else { return Ok(()) };
            (self.cluster.members(), "every node".to_owned(), taken)
        } else {
            let Some((node, words, taken)) = self.victim(rng).await else { return Ok(()) };
            (vec![node], words, taken)
        };
        // All processes first: no node acknowledges anything after another has forgotten.
        let lost: Vec<u32> = nodes.into_iter().filter(|n| self.cluster.kill(*n).is_ok()).collect();
        lost.iter().try_for_each(|n| self.cluster.forget_unsynced(*n))?;
        if !lost.is_empty() {
            self.took_effect(kind, &words);
        }
        self.nap(rng.random_range(HOLD)).await;
        for node in &lost {
            self.restart(*node, "restart-power")?;
        }
        for node in lost {
            self.reopen(node).await;
        }
        self.give(taken);
        Ok(())
    }

    /// A sealed node still votes: nothing is taken from the majority.
    pub(super) async fn seal(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let node = self.any_member(rng);
        let mut process = self.context.process();
        let (outcome, _) = self.context.call(&mut process, node, None, Call::Seal).await;
        if matches!(outcome, Outcome::Ok(_)) {
            self.took_effect(Kind::Seal, &format!("n{node}"));
        }
        self.nap(rng.random_range(HOLD)).await;
        if matches!(outcome, Outcome::Fail(_)) {
            return Ok(());
        }
        while self.cluster.is_member(node) && !self.cluster.serves(node).await && !self.stopped() {
            // Under faults a ceremony may fail; it is held again.
            let _ = self.context.ceremony(node, self.cluster.ceremony(node)).await;
            self.nap(0.5).await;
        }
        self.tell("heal-seal", &format!("n{node} is open"));
        Ok(())
    }
}
