//! How a node that was harmed comes back: started again, opened, replaced.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::World;
use crate::checker::logs;
use crate::history::Call;

/// A node that was started again is given the root key by its peers within this time; then custodians are called.
pub(super) const HANDOVER_TIME: Duration = Duration::from_secs(8);
/// A node that was broken is given this time to come back, on a busy machine.
const RETURN_TIME_MAX: Duration = Duration::from_secs(90);

impl World<'_> {
    /// Starts a node that was ended, unless another fault that met it has done so, or it was removed: then its end was for
    /// good.
    pub(super) fn restart(&self, node: u32, f: &str) -> anyhow::Result<()> {
        if self.cluster.is_member(node) && !self.cluster.runs(node) {
            self.cluster.start_node(node)?;
            self.tell(f, &format!("n{node}"));
        }
        Ok(())
    }

    /// Waits until a restarted node serves; calls custodians when its peers don't open it in time.
    pub(super) async fn reopen(&self, node: u32) {
        let mut since = Instant::now();
        while !self.stopped() && self.cluster.is_member(node) && !self.cluster.serves(node).await {
            if since.elapsed() > HANDOVER_TIME {
                let _ = self.context.ceremony(node, self.cluster.ceremony(node)).await;
                since = Instant::now();
            }
            self.nap(0.1).await;
        }
    }

    /// Starts a node whose fault is over as often as it takes, until it serves. One that says that it lost what it had
    /// acknowledged is replaced. Goes on when faults are to end: nobody else heals it. A node that does not come back is left as
    /// it is, for the verdict. Answers whether it was replaced.
    pub(super) async fn bring_back(&self, node: u32) -> anyhow::Result<bool> {
        let mut replaced = false;
        let mut read = self.cluster.log_len(node);
        let (begun, mut since) = (Instant::now(), Instant::now());
        while begun.elapsed() < RETURN_TIME_MAX && self.cluster.is_member(node) {
            let state = self.cluster.state(node).await;
            match state.as_deref() {
                Some("ok") => break,
                Some("sealed") if since.elapsed() > HANDOVER_TIME => {
                    let _ = self.context.ceremony(node, self.cluster.ceremony(node)).await;
                    since = Instant::now();
                }
                Some("damaged") | None if state.is_some() || !self.cluster.runs(node) => {
                    let lost = logs::lost_data(&self.cluster.log_from(node, read));
                    read = self.cluster.log_len(node);
                    if lost {
                        self.replace(node).await;
                        replaced = true;
                        read = self.cluster.log_len(node);
                    } else if state.is_some() {
                        // A restart is enough where nothing is lost.
                        let _ = self.cluster.kill(node);
                    } else {
                        self.restart(node, "restart")?;
                    }
                    since = Instant::now();
                }
                _ => {}
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(replaced)
    }

    /// From now on a node may stop, if it says why.
    pub(super) fn excuse(&self, node: u32) {
        // Who is in doubt may do so already.
        if !self.doubted.borrow().contains(&node) {
            self.cluster.excuse(node);
        }
    }

    /// The fault is over. The node may stop no more, unless it may still find out what was done to it, which a replaced one can't.
    pub(super) fn excuse_ends(&self, node: u32, is_doubtful: bool, replaced: bool) {
        let mut doubted = self.doubted.borrow_mut();
        if is_doubtful {
            doubted.insert(node);
        }
        if replaced {
            doubted.remove(&node);
        }
        if !doubted.contains(&node) {
            self.cluster.excuse_ends(node);
        }
    }

    /// Replaces nodes that found out later what had been done to them.
    pub async fn mend(&self) -> anyhow::Result<()> {
        let doubted = self.doubted.borrow().clone();
        for node in doubted {
            let state = self.cluster.state(node).await;
            let is_refused = state.as_deref() == Some("damaged") || !self.cluster.runs(node);
            if is_refused && self.bring_back(node).await? {
                self.excuse_ends(node, false, true);
            }
        }
        Ok(())
    }

    /// Whether the others could do without it and take it in again is for the verdict to say.
    pub(super) async fn replace(&self, node: u32) {
        self.tell("replace", &format!("n{node}"));
        match self.context.by_hand(node, Call::Replace, self.cluster.replace(node)).await {
            Ok(()) => self.tell("replaced", &format!("n{node}")),
            Err(e) => self.tell("not-replaced", &format!("n{node}: {e:#}")),
        }
    }
}
