//! Carries out what the roster says, by Raft's own entries (trust.md §3.4): learners are added, then all voters are made so
//! in one joint change, then whoever is left out goes.
//!
//! Joint consensus takes two entries (Ongaro's dissertation, §4.3): the first binds the old voters and the new, the second
//! lets go of the old. A leader that falls between two of these entries leaves the cluster half changed, a founder that was
//! to be one voter of three with a veto. So whoever leads next goes on.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use quorate_core::id::NodeId;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout_at};

use super::{Changed, Changes, PAUSE};
use crate::member::{Member, MembershipView};
use crate::raft::{effective, effective_now};
use crate::roster::Roster;

/// How often a leader looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long one attempt may take; there will be another.
const LIMIT: Duration = Duration::from_secs(5);
/// How long the members may need to apply what was changed.
const SPREAD_LIMIT: Duration = Duration::from_secs(2);

/// The next entry that is missing.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Step {
    /// Lets go of the old voters.
    Settle,
    /// Adds these as learners.
    Add(BTreeMap<NodeId, Member>),
    /// Makes these the voters.
    Vote(BTreeSet<NodeId>),
    /// Removes these, which do not vote.
    Remove(BTreeSet<NodeId>),
}

fn next_step(now: &MembershipView, roster: &Roster) -> Option<Step> {
    let missing = |(id, _): &(&NodeId, &Member)| !now.members.contains_key(id);
    let add: BTreeMap<_, _> = roster.members.iter().filter(missing).map(|(id, m)| (*id, m.clone())).collect();
    let remove: BTreeSet<_> = now.members.keys().filter(|id| !roster.members.contains_key(id)).copied().collect();
    match now.voters.as_slice() {
        [_, _, ..] => Some(Step::Settle),
        _ if !add.is_empty() => Some(Step::Add(add)),
        [voters] if *voters != roster.voters => Some(Step::Vote(roster.voters.clone())),
        _ if !remove.is_empty() => Some(Step::Remove(remove)),
        _ => None,
    }
}

impl Step {
    fn change(self) -> ChangeMembers<u64, Member> {
        let numbers = |ids: BTreeSet<NodeId>| ids.into_iter().map(|id| id.0).collect();
        match self {
            // No voter comes or goes beyond what the first entry says.
            Self::Settle => ChangeMembers::AddVoterIds(BTreeSet::new()),
            Self::Add(members) => ChangeMembers::AddNodes(members.into_iter().map(|(id, m)| (id.0, m)).collect()),
            Self::Vote(ids) => ChangeMembers::ReplaceAllVoters(numbers(ids)),
            Self::Remove(ids) => ChangeMembers::RemoveNodes(numbers(ids)),
        }
    }

    /// For people, by the names that both know.
    fn in_words(&self, now: &MembershipView, roster: &Roster) -> String {
        let name = |id: &NodeId| {
            let member = roster.members.get(id).or_else(|| now.members.get(id));
            member.map_or_else(|| format!("node {id}"), |m| m.name.clone())
        };
        let names = |ids: &mut dyn Iterator<Item = &NodeId>| ids.map(name).collect::<Vec<_>>().join(", ");
        match self {
            Self::Settle => "the members change: the old voters' majority is no longer needed".into(),
            Self::Add(members) => format!("the members change: {} is sent the log", names(&mut members.keys())),
            Self::Vote(ids) => format!("the members change: the voters become {}", names(&mut ids.iter())),
            Self::Remove(ids) => format!("the members change: {} is no member any more", names(&mut ids.iter())),
        }
    }
}

/// Looks for as long as the replica runs.
pub(crate) async fn drive(changes: Arc<Changes>) {
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if !changes.has_steps_left() {
            continue;
        }
        // A change of this leader's own holds this until it is whole.
        let one = changes.changing.write().await;
        if let Changed::Refused(why) | Changed::Unknown(why) = changes.carry_out(0, Instant::now() + LIMIT).await {
            tracing::warn!(why, "a change of members can't be carried out yet");
        }
        drop(one);
        // Another roster may be the way out of this one.
        look.reset();
    }
}

impl Changes {
    /// Whether this node leads a membership that is not the roster's.
    fn has_steps_left(&self) -> bool {
        if !self.leader.is_me() {
            return false;
        }
        let now = effective(&self.raft);
        let step = || self.state.roster().ok().flatten().and_then(|signed| next_step(&now, signed.roster()));
        now.voters.len() > 1 || step().is_some()
    }

    /// Makes the membership what the roster says, which has this serial at least. Call it with `changing` held: so no other
    /// roster gets into the log between this one and the entries that followers judge by it.
    pub(super) async fn carry_out(&self, serial: u64, deadline: Instant) -> Changed {
        match timeout_at(deadline, self.apply_all()).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Changed::Unknown(e.to_string()),
            Err(_) => return Changed::Unknown("the deadline passed before the log was applied".into()),
        }
        let roster = match self.state.roster() {
            Ok(Some(signed)) if signed.roster().serial >= serial => signed.roster().clone(),
            Ok(_) => return Changed::Refused(format!("the leader's state has no roster with serial {serial}")),
            Err(e) => return Changed::Refused(format!("the leader's state can't be read: {e}")),
        };
        if !roster.voters.contains(&self.me) {
            return match self.transfer_here(None).await {
                Changed::Done(_) => Changed::NotLeader(self.leader.now()),
                other => other,
            };
        }
        loop {
            let now = effective_now(&self.raft).await;
            let Some(step) = next_step(&now, &roster) else { return Changed::Done(now.index) };
            if let Step::Vote(ids) = &step
                && let learners = ids.iter().copied().filter(|id| !now.is_voter(*id)).collect()
                && let Err(laggard) = self.await_caught_up(&learners, deadline).await
            {
                return Changed::Unknown(format!(
                    "{} has not caught up with the log",
                    self.shared.members.name_of(laggard)
                ));
            }
            tracing::info!(roster = roster.serial, "{}", step.in_words(&now, &roster));
            let written = timeout_at(deadline, self.raft.change_membership(step.change(), true)).await;
            match self.changed(written, deadline).await {
                Changed::Done(_) => {}
                // An earlier entry is not committed yet: this leader is new.
                Changed::Refused(_) if Instant::now() + PAUSE < deadline => sleep(PAUSE).await,
                other => return other,
            }
        }
    }

    /// Waits until all that is in this leader's log by now is applied here.
    async fn apply_all(&self) -> io::Result<()> {
        let last = self.raft.with_raft_state(|state| state.log_ids.last().map(|id| id.index)).await;
        let last = last.map_err(io::Error::other)?.unwrap_or(0);
        self.shared.applied().wait_for(|applied| *applied >= last).await.map(drop).map_err(io::Error::other)
    }

    /// A change of voters is whole once the voters within reach have applied it: until then they follow nobody whom the old
    /// ones did not elect, be it that those are gone.
    pub(super) async fn spread(&self) -> Changed {
        let now = effective_now(&self.raft).await;
        self.await_applied(&now.voter_ids(), now.index, Instant::now() + SPREAD_LIMIT).await;
        Changed::Done(now.index)
    }
}

#[cfg(test)]
mod tests {
    use quorate_core::id::{ClusterId, GroupId};

    use super::*;
    use crate::replica::Replica;
    use crate::testing::{Cluster, PATIENCE, change_roster, soon};

    fn view(voters: &[&[u64]], all: &[u64]) -> MembershipView {
        let member = |id: &u64| (NodeId(*id), Member { name: format!("n{id}"), ..Member::default() });
        let set = |ids: &&[u64]| ids.iter().map(|id| NodeId(*id)).collect();
        MembershipView { index: 1, voters: voters.iter().map(set).collect(), members: all.iter().map(member).collect() }
    }

    fn roster(voters: &[u64], all: &[u64]) -> Roster {
        Roster::before_the_first(ClusterId([7; 16]), GroupId(0), &view(&[voters], all))
    }

    /// From any membership to any roster: each step is one that every follower permits, and they come to an end there.
    #[test]
    fn the_steps_lead_to_the_roster_and_followers_permit_each() {
        let memberships = [
            view(&[&[1]], &[1]),
            view(&[&[1]], &[1, 2, 3]),
            view(&[&[1], &[1, 2, 3]], &[1, 2, 3]),
            view(&[&[1, 2, 3]], &[1, 2, 3, 4]),
            view(&[&[1, 2, 3], &[1, 2]], &[1, 2, 3, 5]),
        ];
        let rosters = [
            roster(&[1], &[1]),
            roster(&[1, 2, 3], &[1, 2, 3]),
            roster(&[1, 2], &[1, 2, 4]),
            roster(&[1, 4, 5], &[1, 4, 5]),
        ];
        for (mut now, roster) in memberships.iter().flat_map(|now| rosters.iter().map(move |r| (now.clone(), r))) {
            let take = |now: &mut MembershipView, next: MembershipView| {
                assert!(roster.permits(now, &next), "{now:?} to {next:?} under {roster:?}");
                *now = next;
            };
            for steps in 0.. {
                assert!(steps < 6, "{now:?} never comes to {roster:?}");
                let Some(step) = next_step(&now, roster) else { break };
                let mut next = now.clone();
                match step {
                    Step::Settle => drop(next.voters.remove(0)),
                    Step::Add(members) => next.members.extend(members),
                    Step::Vote(ids) => next.voters.push(ids),
                    Step::Remove(ids) => next.members.retain(|id, _| !ids.contains(id)),
                }
                take(&mut now, next);
            }
            assert_eq!((&now.voters[..], &now.members), (&[roster.voters.clone()][..], &roster.members));
        }
    }

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
        founder.may_promote(learners.clone(), soon()).await.expect("they have the log");
        // The first entry needs one of the newcomers, and can't reach any: it is written, and not committed.
        silence(&cluster, true);
        let promoting = tokio::spawn({
            let (founder, learners) = (founder.clone(), learners.clone());
            async move { change_roster(&founder, |now| now.promoting(&learners, false)).await }
        });
        let begun = async {
            while effective(&founder.node().base.raft).voters.len() < 2 {
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
