//! Pressure: on the log, which others let go of while a node is away, and on memory.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::{HOLD, Kind, World};

/// The others have let go of what a node lacks within this time, or it comes back without.
const AWAY_TIME_MAX: Duration = Duration::from_secs(60);
/// Once it serves, it has been sent the state within this time, or it did not need to be.
const INSTALL_TIME_MAX: Duration = Duration::from_secs(5);
/// A line of a node's log.
const INSTALLED: &str = "a snapshot was installed";

impl World<'_> {
    /// It took effect when the node's log says that it installed a snapshot.
    pub(super) async fn snapshot(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let Some((node, words, taken)) = self.victim(rng).await else { return Ok(()) };
        let installed = self.cluster.logged(node, INSTALLED);
        let others: Vec<u32> = self.cluster.members().into_iter().filter(|m| *m != node).collect();
        // Killed, not stopped: what waits in a stopped process's sockets would do as well as the log.
        if self.cluster.kill(node).is_err() {
            self.give(taken);
            return Ok(());
        }
        self.tell("away", &words);
        let since = Instant::now();
        // It has no entry that is committed later.
        let statuses = self.cluster.statuses().await;
        let applied = statuses.values().flatten().flat_map(|s| s.nodes.iter().map(|n| n.applied_index));
        let last = applied.max().unwrap_or(u64::MAX);
        // Those that are down themselves can't: a majority of all will do, as the next leader is one of them.
        let enough = others.len() / 2 + 1;
        while since.elapsed() < AWAY_TIME_MAX
            && others.iter().filter(|m| self.cluster.compacted(**m) > last).count() < enough
            && !self.nap(0.3).await
        {}
        self.restart(node, "back")?;
        self.reopen(node).await;
        // It may serve a moment before.
        let since = Instant::now();
        while self.cluster.is_member(node) && since.elapsed() < INSTALL_TIME_MAX {
            if self.cluster.logged(node, INSTALLED) > installed {
                self.took_effect(Kind::Snapshot, &words);
                break;
            }
            if self.nap(0.2).await {
                break;
            }
        }
        self.give(taken);
        Ok(())
    }

    /// It took effect when the kernel counted a process that it ended, or pages that it refused at first.
    pub(super) async fn memory(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let Some((node, words, taken)) = self.victim(rng).await else { return Ok(()) };
        let Ok(begun) = self.cluster.squeeze(node) else {
            self.give(taken);
            return Ok(());
        };
        self.tell("squeeze", &words);
        self.nap(rng.random_range(HOLD)).await;
        let (counted, ended) = self.cluster.unsqueeze(node, &begun)?;
        self.tell("release", &format!("n{node}: {counted:?}"));
        if counted.killed > 0 || counted.refused > 0 {
            let how = if counted.killed > 0 { "ended by the kernel" } else { "pages refused" };
            self.took_effect(Kind::Memory, &format!("{words}: {how}"));
        }
        if ended {
            self.restart(node, "restart-memory")?;
        }
        self.reopen(node).await;
        self.give(taken);
        Ok(())
    }
}
