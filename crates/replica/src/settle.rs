//! Ends a change of voters that its leader did not end.
//!
//! Joint consensus takes two entries (Ongaro's dissertation, §4.3): the first binds the old voters and the new, the second
//! lets go of the old. A leader that falls between the two leaves the cluster bound to both: a founder that was to be one
//! voter of three would be needed for every commit, for good. So whoever leads next writes the second entry.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use crate::change::{Changed, PAUSE};
use crate::node::Node;

/// How often a leader looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long one attempt may take; there will be another.
const LIMIT: Duration = Duration::from_secs(5);

/// Looks for as long as the replica runs.
pub(crate) async fn drive(node: Arc<Node>) {
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if !node.is_unsettled() {
            continue;
        }
        // A change of this leader's own holds this until it is whole.
        let _one = node.changing.lock().await;
        if let Err(Changed::Refused(why) | Changed::Unknown(why)) = node.settle(Instant::now() + LIMIT).await {
            tracing::warn!(why, "a change of voters can't be ended yet");
        }
    }
}

impl Node {
    /// Whether this node leads, and two sets of voters have to agree.
    fn is_unsettled(&self) -> bool {
        self.leads() && self.effective_membership().voters.len() > 1
    }

    /// Writes the second entry, if it is missing. Call it with `changing` held.
    ///
    /// # Errors
    /// What a change of membership comes to when it is not done.
    pub(crate) async fn settle(&self, deadline: Instant) -> Result<(), Changed> {
        while self.is_unsettled() {
            // No voter comes or goes beyond what the first entry says.
            let nothing_more = ChangeMembers::AddVoterIds(BTreeSet::new());
            let written = timeout_at(deadline, self.raft.change_membership(nothing_more, false)).await;
            match self.changed(written, deadline).await {
                Changed::Done(index) => {
                    tracing::info!(index, "a change of voters was ended that an earlier leader had begun");
                    return Ok(());
                }
                // The first entry is not committed yet: this leader is new.
                Changed::Refused(_) if Instant::now() + PAUSE < deadline => sleep(PAUSE).await,
                other => return Err(other),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use openraft::RaftMetrics;
    use quorate_core::id::NodeId;

    use super::*;
    use crate::raft::TypeConfig;
    use crate::replica::Replica;
    use crate::testing::{Cluster, PATIENCE, soon};

    /// Between the founder and all others.
    fn silence(cluster: &Cluster, silent: bool) {
        for other in &cluster.sites[1..] {
            cluster.board.set_silent(&cluster.sites[0].name, &other.name, silent);
        }
    }

    /// Joint consensus takes two entries. A leader that falls after the first must not leave the founder with a veto for good.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_change_of_voters_that_its_leader_did_not_end_is_ended_by_the_next() {
        let mut cluster = Cluster::founded(3).await;
        let learners = vec![cluster.add().await, cluster.add().await];
        let founder = cluster.nodes[0].clone();
        let raft = &founder.node().raft;
        let reached = |id: &NodeId, m: &RaftMetrics<TypeConfig>| {
            m.replication.as_ref().and_then(|r| r.get(&id.0)).is_some_and(Option::is_some)
        };
        let wait = raft.wait(Some(PATIENCE));
        let level = wait.metrics(|m| learners.iter().all(|id| reached(id, m)), "replication").await;
        level.expect("the learners have the log");
        // The first entry needs one of the newcomers, and can't reach any: it is written, and not committed.
        silence(&cluster, true);
        let promoting = tokio::spawn({
            let (founder, learners) = (founder.clone(), learners.clone());
            async move { founder.promote(learners, false, soon()).await }
        });
        let begun = async {
            while founder.node().effective_membership().voters.len() < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, begun).await.expect("the first entry is written");
        founder.shutdown().await;
        assert!(promoting.await.expect("no panic").is_err());
        silence(&cluster, false);
        cluster.nodes[0] = cluster.sites[0].open().await;

        let unsettled = |n: &Replica| n.status().membership.voters.len() != 1 || n.status().voters().count() != 3;
        let settled = async {
            while cluster.nodes.iter().any(unsettled) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, settled).await;
        let seen: Vec<_> = cluster.nodes.iter().map(|n| (n.status().leader, n.status().membership.voters)).collect();
        in_time.unwrap_or_else(|_| panic!("not three voters in one set: {seen:?}"));
        // Without the founder the others go on.
        cluster.nodes[0].shutdown().await;
        cluster.leader(&[1, 2]).await;
        cluster.write(1, "after", b"two of three").await;
        cluster.stop().await;
    }
}
