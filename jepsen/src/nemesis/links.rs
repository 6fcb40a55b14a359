//! Links that carry nothing, or carry it badly.

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::packet::{self, Harm};
use super::{HOLD, Kind, World, partition};
use crate::net::Backend;

/// A flapping link changes this often, seconds.
const FLAP: std::ops::Range<f64> = 0.05..0.6;

impl World<'_> {
    pub(super) async fn partition(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let shapes = partition::shapes(self.cluster.size());
        if shapes.is_empty() {
            return Ok(());
        }
        let shape = shapes[rng.random_range(0..shapes.len())];
        let leader = self.cluster.leader().await;
        let members = self.cluster.members();
        let cut = partition::cut(shape, &members, leader, rng);
        let Some(taken) = self.take(cut.costs).await else { return Ok(()) };
        // Who is a member may have changed while the budget was awaited.
        if members != self.cluster.members() {
            self.give(taken);
            return Ok(());
        }
        self.net.cut(&cut.links)?;
        self.tell("partition", &cut.words);
        let hold = rng.random_range(HOLD);
        match shape {
            partition::Shape::Flapping => self.flap(&cut.links, hold, rng).await?,
            _ => {
                self.nap(hold).await;
            }
        }
        let dropped = self.net.heal()?;
        let what = if self.net.backend() == Backend::Proxy { "pieces were held" } else { "frames were dropped" };
        self.tell("heal-partition", &format!("{dropped} {what}"));
        // Only what dropped frames was a partition.
        if dropped > 0 {
            self.took_effect(Kind::Partition, &cut.words);
        }
        self.give(taken);
        Ok(())
    }

    /// Each of the links is cut and restored again and again, by itself.
    async fn flap(&self, links: &[(u32, u32)], seconds: f64, rng: &mut StdRng) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed().as_secs_f64() < seconds && !self.nap(rng.random_range(FLAP)).await {
            let cut: Vec<_> = links.iter().copied().filter(|_| rng.random_ratio(1, 2)).collect();
            self.net.cut(&cut)?;
        }
        Ok(())
    }

    pub(super) async fn shape(&self, kind: Kind, rng: &mut StdRng) -> anyhow::Result<()> {
        let leader = self.cluster.leader().await;
        let shaping = packet::shaping(Harm::of(self.net.backend()), &self.cluster.members(), leader, rng);
        let Some(taken) = self.take(shaping.costs).await else { return Ok(()) };
        self.net.shape(&shaping.links, &shaping.policy)?;
        self.tell(kind.name(), &shaping.words);
        self.nap(rng.random_range(HOLD)).await;
        let counts = self.net.unshape()?;
        let harmed = shaping.harm.count(&counts);
        let what = if kind == Kind::Packet { "frames" } else { "pieces" };
        self.tell(&format!("heal-{}", kind.name()), &format!("it met {harmed} of {} {what}", counts.seen));
        // Only what met frames happened.
        if harmed > 0 {
            self.took_effect_as(kind, &format!("{}-{}", kind.name(), shaping.harm.name()), &shaping.words);
        }
        self.give(taken);
        Ok(())
    }
}
