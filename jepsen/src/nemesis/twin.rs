//! A copy of a node's folder is run beside the node, under the same identity: a virtual machine that was copied and started twice, an
//! address that moved while the old machine lived on. Both give the same numbers to what they do.
//!
//! What is promised: at most one of the two takes part, and nothing that either acknowledges is lost.

use rand::RngExt;
use rand::rngs::StdRng;

use super::rollback::{AFTER, BEFORE, Changes, Copied, Leads};
use super::{HOLD, Kind, World};
use crate::cluster::{Copy, Twin};
use crate::workload::CALL_TIME_MAX;

impl World<'_> {
    /// A node, half the time the leader, has a twin for some seconds.
    pub(super) async fn twin(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let Some((node, words, taken)) = self.victim(rng).await else { return Ok(()) };
        self.held.borrow_mut().insert(node);
        let done = self.run_twice(node, &words, rng).await;
        self.held.borrow_mut().remove(&node);
        self.give(taken);
        done
    }

    async fn run_twice(&self, node: u32, words: &str, rng: &mut StdRng) -> anyhow::Result<()> {
        let how = if rng.random_ratio(1, 2) { Copied::Stopped } else { Copied::Killed };
        let Some(copy) = self.copied(node, how).await? else { return Ok(()) };
        self.reopen(node).await;
        let leads = if rng.random_ratio(1, 2) { Leads::Itself } else { Leads::Another };
        self.leads_since(node, leads).await;
        let since = self.change_through(node, BEFORE, &[]).await;
        // One of the two must stop; both are the same node, and either may find out.
        self.excuse(node);
        let (told, is_shown) = self.beside_its_twin(node, words, copy, &since, rng).await?;
        self.tell("twin-ended", &told);
        if is_shown {
            self.took_effect(Kind::Twin, &told);
        }
        let mut replaced = false;
        if self.settle(node).await.as_deref() == Some("damaged") {
            self.replace(node).await;
            replaced = true;
        }
        replaced |= self.bring_back(node).await?;
        self.tell("heal-twin", &format!("n{node}"));
        self.excuse_ends(node, true, replaced);
        Ok(())
    }

    /// The twin comes and goes; what became of it, and whether it showed anything.
    async fn beside_its_twin(
        &self,
        node: u32,
        words: &str,
        copy: Copy,
        since: &Changes,
        rng: &mut StdRng,
    ) -> anyhow::Result<(String, bool)> {
        let stands = rng.random_ratio(1, 2) && self.cluster.pause(node).is_ok();
        let own_token = rng.random_ratio(1, 2);
        let mut twin: Twin<'_> = self.cluster.twin(node, copy, own_token)?;
        let words = format!(
            "{words}{}, twin with {} token",
            if stands { ", stopped" } else { "" },
            if own_token { "its own" } else { "the same" }
        );
        self.tell("twin", &words);
        self.talk_anew(node)?;
        let state = self.settle_while(node, || twin.runs()).await;
        let after = self.change_through(node, AFTER, &since.keys).await;
        if stands {
            self.cluster.resume(node);
            self.tell("resume", &format!("n{node}"));
        }
        // Those that find the original, beside those that still talk to the twin.
        twin.release()?;
        self.talk_anew(node)?;
        let beside = self.change_through(node, AFTER, &after.keys).await;
        self.nap(rng.random_range(HOLD)).await;
        let ended = !twin.runs();
        drop(twin);
        self.talk_anew(node)?;
        let said = state.unwrap_or_else(|| "stopped".to_owned());
        let told = format!(
            "{words}: {} changes that the twin does not know; it said that it is {said}; {}; then at the original {}",
            since.acknowledged,
            after.words(),
            beside.words()
        );
        Ok((told, since.acknowledged > 0 && (ended || after.answered())))
    }

    /// Clients and harness talk to a node over new connections.
    fn talk_anew(&self, node: u32) -> anyhow::Result<()> {
        self.cluster.reconnect(node)?;
        self.context.joined(node, self.cluster.clients_of(node, CALL_TIME_MAX)?);
        Ok(())
    }
}
