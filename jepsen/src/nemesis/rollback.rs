//! An older copy of what a node keeps is put in the place of the newest, as a restored virtual machine or backup does. The node has
//! acknowledged more meanwhile, under a start whose number it will give again; others lead, who need not know of that. From then on
//! changes are sent through it: what it acknowledges must be there, and what it can't know it must not answer.
//!
//! What is promised: one such node is found out and takes no part, whatever of it was put back, as long as the others are honest
//! and in reach. A state alone that its journal leads on from is no loss: the node replays.

use std::time::Duration;

use quorate_client::v1::TransferLeaderRequest;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep};

use super::recovery::HANDOVER_TIME;
use super::{Kind, World};
use crate::cluster::{Copy, Part};
use crate::history::{Call, Outcome};

/// So many keys are created through the node between the copy and its return, and one in four of them is disabled, so that the batches
/// that it numbers afterwards meet numbers that were given.
pub(super) const BEFORE: usize = 40;
/// … and so many afterwards, with as many disables.
pub(super) const AFTER: usize = 20;
/// Changes are sent through a node for so long at most; clients' own calls go on beside them.
const CHANGES_TIME_MAX: Duration = Duration::from_secs(8);
/// Within this time the node serves, or says why not.
const SETTLE_TIME_MAX: Duration = Duration::from_secs(40);
/// How long a leader is waited for.
const LEADER_TIME_MAX: Duration = Duration::from_secs(10);
/// The others go on so long without it, seconds.
const AWAY: std::ops::Range<f64> = 0.2..3.0;

/// When the copy is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Copied {
    /// The node was stopped in order.
    Stopped,
    /// It was killed.
    Killed,
    /// It stood still, and goes on in the same start.
    Paused,
}

const COPIED: [Copied; 3] = [Copied::Stopped, Copied::Killed, Copied::Paused];

/// Who leads between the copy and its return.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Leads {
    /// The node itself, until it is killed: nobody else counted on what it acknowledged.
    Itself,
    /// Another one, which does not lead any more when the copy returns.
    Others,
    /// Another one, which still leads then.
    Another,
}

/// What is done, and what about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Plan {
    copied: Copied,
    part: Part,
    leads: Leads,
    /// The operator finds the newest data and puts it in its place again; else the others replace the node.
    found: bool,
    /// If the node goes on, leadership is handed to it.
    handed: bool,
}

impl Plan {
    fn choose(nodes: u32, rng: &mut StdRng) -> Self {
        let leads = match rng.random_range(0..4) {
            _ if nodes == 1 => Leads::Itself,
            0 | 1 => Leads::Itself,
            2 if nodes > 2 => Leads::Others,
            _ => Leads::Another,
        };
        // Of a single voter only its token knows more than its folder, and that only of starts.
        let copied = if nodes == 1 { &COPIED[..2] } else { &COPIED };
        let parts = if nodes == 1 { &[Part::Folder, Part::Journal, Part::State][..] } else { &Part::ALL };
        Self {
            copied: copied[rng.random_range(0..copied.len())],
            part: parts[rng.random_range(0..parts.len())],
            leads,
            // Fewer than three can't do without one.
            found: nodes < 3 || rng.random_ratio(1, 4),
            handed: rng.random_ratio(1, 2),
        }
    }

    fn words(self) -> String {
        let what = match self.part {
            Part::Folder => "folder",
            Part::FolderAndToken => "folder and token",
            Part::Journal => "journal alone",
            Part::State => "state alone",
        };
        let copied = match self.copied {
            Copied::Stopped => "stopped",
            Copied::Killed => "killed",
            Copied::Paused => "paused",
        };
        let leads = match self.leads {
            Leads::Itself => "it led since",
            Leads::Others => "others led since, one after the other",
            Leads::Another => "another led since",
        };
        format!("{what}, copied while {copied}, {leads}")
    }
}

/// How changes through a node ended.
#[derive(Default)]
pub(super) struct Changes {
    /// Keys whose creation was acknowledged, and that nobody has disabled.
    pub(super) keys: Vec<String>,
    pub(super) acknowledged: usize,
    refused: usize,
    unanswered: usize,
}

impl Changes {
    fn count(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Ok(_) => self.acknowledged += 1,
            Outcome::Fail(why) if why != "UNREACHABLE" => self.refused += 1,
            _ => self.unanswered += 1,
        }
    }

    /// Whether the node said anything about any of them.
    pub(super) fn answered(&self) -> bool {
        self.acknowledged + self.refused > 0
    }

    pub(super) fn words(&self) -> String {
        let Self { acknowledged, refused, unanswered, .. } = self;
        format!("{acknowledged} changes were acknowledged, {refused} refused, {unanswered} unanswered")
    }
}

/// Whether the node was really behind what it had acknowledged, and said something about it: else nothing was shown.
fn is_shown(changed: bool, since: &Changes, after: &Changes, ended: bool) -> bool {
    changed && since.acknowledged > 0 && (ended || after.answered())
}

impl World<'_> {
    /// A node, half the time the leader, is put back to an older copy of what it keeps.
    pub(super) async fn rollback(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        let Some((node, words, taken)) = self.victim(rng).await else { return Ok(()) };
        self.held.borrow_mut().insert(node);
        let done = self.put_back(node, &words, rng).await;
        self.held.borrow_mut().remove(&node);
        self.give(taken);
        done
    }

    async fn put_back(&self, node: u32, words: &str, rng: &mut StdRng) -> anyhow::Result<()> {
        let plan = Plan::choose(self.cluster.size(), rng);
        self.tell("rollback", &format!("{words}: {}", plan.words()));
        let Some(copy) = self.copied(node, plan.copied).await? else { return Ok(()) };
        self.reopen(node).await;
        let led = self.leads_since(node, plan.leads).await;
        let since = self.change_through(node, BEFORE, &[]).await;
        // From here on it may stop, if it says why.
        self.excuse(node);
        let _ = self.cluster.kill(node);
        let mut moved = self.leader_but(node).await;
        if let (Leads::Others, Some(old)) = (plan.leads, moved)
            && let Some(third) = self.cluster.members().into_iter().find(|n| ![node, old].contains(n))
        {
            moved = self.hand_to(third).await.then_some(third);
        }
        self.nap(rng.random_range(AWAY)).await;
        // Whoever has started it meanwhile.
        let _ = self.cluster.kill(node);
        let newest = self.cluster.copy(node, "newest")?;
        let changed = self.cluster.put_back(node, &copy, plan.part)?;
        drop(copy);
        let name = |node: Option<u32>| node.map_or("nobody".to_owned(), |n| format!("n{n}"));
        let (led, moved) = (name(led), name(moved));
        self.tell("put-back", &format!("n{node}: {} changes since; {led} led, then {moved}", since.acknowledged));
        self.restart(node, "restart-rollback")?;
        let mut state = self.settle(node).await;
        if plan.handed && state.as_deref() == Some("ok") && self.hand_to(node).await {
            self.tell("transfer-leader", &format!("n{node} leads with what was put back"));
        }
        let after = self.change_through(node, AFTER, &since.keys).await;
        state = self.settle(node).await;
        let said = state.clone().unwrap_or_else(|| "stopped".to_owned());
        let told = format!(
            "{words}: {}; {} changes behind; then {}, and it is {said}",
            plan.words(),
            since.acknowledged,
            after.words()
        );
        self.tell("rolled-back", &told);
        if is_shown(changed, &since, &after, !self.cluster.runs(node)) {
            self.took_effect_as(Kind::Rollback, &format!("{}-{}", Kind::Rollback.name(), plan.part.name()), &told);
        }
        let is_refused = state.as_deref() == Some("damaged") || !self.cluster.runs(node);
        // Who goes on with what was put back may still hear that it is older.
        let is_doubtful = !(is_refused && plan.found);
        let mut replaced = false;
        if is_refused && plan.found {
            self.put_right(node, &newest, plan.part)?;
        } else if is_refused {
            self.replace(node).await;
            replaced = true;
        }
        replaced |= self.bring_back(node).await?;
        self.tell("heal-rollback", &format!("n{node}"));
        self.excuse_ends(node, is_doubtful, replaced);
        Ok(())
    }

    /// A copy of what the node keeps; none when another fault met it meanwhile.
    pub(super) async fn copied(&self, node: u32, how: Copied) -> anyhow::Result<Option<Copy>> {
        if how == Copied::Paused {
            if self.cluster.pause(node).is_err() {
                return Ok(None);
            }
            let copy = self.cluster.copy(node, "copy");
            self.cluster.resume(node);
            return copy.map(Some);
        }
        match how {
            Copied::Stopped => self.cluster.stop_node(node).await,
            _ => _ = self.cluster.kill(node),
        }
        let copy = self.cluster.copy(node, "copy")?;
        self.restart(node, "restart")?;
        Ok(Some(copy))
    }

    /// Sees to it who leads, as far as the others go along; who does.
    pub(super) async fn leads_since(&self, node: u32, leads: Leads) -> Option<u32> {
        let leader = self.cluster.leader().await;
        let other = self.cluster.members().into_iter().find(|n| *n != node);
        match (leads, other) {
            (Leads::Itself, _) => _ = self.hand_to(node).await,
            (_, Some(other)) if leader == Some(node) => _ = self.hand_to(other).await,
            _ => {}
        }
        self.cluster.leader().await
    }

    /// Has leadership handed to a member; whether it leads then.
    async fn hand_to(&self, to: u32) -> bool {
        let end = Instant::now() + LEADER_TIME_MAX;
        while Instant::now() < end {
            match self.cluster.leader().await {
                Some(leader) if leader == to => return true,
                Some(leader) => {
                    if let Some(client) = self.operator_at(leader) {
                        let _ = client.transfer_leader(TransferLeaderRequest { name: format!("n{to}") }).await;
                    }
                }
                None => {}
            }
            sleep(Duration::from_millis(100)).await;
        }
        false
    }

    /// The leader, once it is another than this node; at once none where the others can have none.
    async fn leader_but(&self, node: u32) -> Option<u32> {
        let end = Instant::now() + LEADER_TIME_MAX;
        while self.cluster.size() > 2 && Instant::now() < end {
            if let Some(leader) = self.cluster.leader().await.filter(|leader| *leader != node) {
                return Some(leader);
            }
            sleep(Duration::from_millis(50)).await;
        }
        None
    }

    /// Waits until a node that was started serves or says that it does not, with custodians' help; what it says, none when it
    /// ended.
    pub(super) async fn settle(&self, node: u32) -> Option<String> {
        self.settle_while(node, || self.cluster.runs(node)).await
    }

    /// The same of whoever answers at a node's address, as long as it runs.
    pub(super) async fn settle_while(&self, node: u32, mut runs: impl FnMut() -> bool) -> Option<String> {
        let (end, mut since) = (Instant::now() + SETTLE_TIME_MAX, Instant::now());
        loop {
            let state = self.cluster.state(node).await;
            if matches!(state.as_deref(), Some("ok" | "damaged")) || !runs() || Instant::now() > end {
                return state;
            }
            if state.as_deref() == Some("sealed") && since.elapsed() > HANDOVER_TIME {
                let _ = self.context.ceremony(node, self.cluster.ceremony_within(node, HANDOVER_TIME)).await;
                since = Instant::now();
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Creates keys through a node, and disables those of `known` and some of its own; a key whose disable was acknowledged is used
    /// at every other node at once.
    pub(super) async fn change_through(&self, node: u32, count: usize, known: &[String]) -> Changes {
        let (mut changes, mut process) = (Changes::default(), self.context.process());
        let others: Vec<u32> = self.cluster.members().into_iter().filter(|n| *n != node).collect();
        let end = Instant::now() + CHANGES_TIME_MAX;
        let mut known = known.iter().cloned();
        for n in 0..count {
            if Instant::now() > end || !self.cluster.runs(node) {
                break;
            }
            let call = Call::create(self.context.number());
            let (outcome, id) = self.context.call(&mut process, node, None, call).await;
            changes.count(&outcome);
            if let (Outcome::Ok(_), Some(id)) = (outcome, id) {
                changes.keys.push(id);
            }
            let own = if n % 4 == 3 { changes.keys.pop() } else { None };
            let Some(key) = known.next().or(own) else { continue };
            let (outcome, _) = self.context.call(&mut process, node, Some(&key), Call::Disable).await;
            changes.count(&outcome);
            if matches!(outcome, Outcome::Ok(_)) {
                for other in &others {
                    let text = self.context.number();
                    let mut user = self.context.process();
                    let _ = self.context.call(&mut user, *other, Some(&key), Call::Encrypt { text }).await;
                }
            }
        }
        changes
    }

    /// An operator finds what had been replaced, and puts it in its place again.
    fn put_right(&self, node: u32, newest: &Copy, part: Part) -> anyhow::Result<()> {
        let _ = self.cluster.kill(node);
        // What a journal from before did to the node file, the newest has not seen; with a state from before the journal went on.
        let part = if part == Part::Journal { Part::Folder } else { part };
        self.cluster.put_back(node, newest, part)?;
        self.tell("put-right", &format!("n{node}"));
        self.restart(node, "restart-rollback")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::seed::stream;

    #[test]
    fn everything_is_put_back_in_every_way_where_it_can_be() {
        let mut rng = stream(1, "rollback", 0);
        let mut all = |nodes| (0..500).map(|_| Plan::choose(nodes, &mut rng)).collect::<Vec<_>>();
        let three = all(3);
        let words: BTreeSet<String> = three.iter().map(|plan| plan.words()).collect();
        assert_eq!(words.len(), Part::ALL.len() * 3 * 3);
        assert!(three.iter().any(|p| p.found) && three.iter().any(|p| !p.found));
        let one = all(1);
        assert!(one.iter().all(|p| p.found && p.leads == Leads::Itself), "nobody else can lead, nor replace it");
        assert!(
            one.iter().all(|p| p.copied != Copied::Paused && p.part != Part::FolderAndToken),
            "nobody else can know more than its token, which knows of starts alone"
        );
        assert!(all(2).iter().all(|p| p.found && p.leads != Leads::Others));
    }

    #[test]
    fn what_was_not_behind_or_not_asked_shows_nothing() {
        let of = |acknowledged, refused| Changes { acknowledged, refused, ..Changes::default() };
        for (changed, since, after, ended, shown) in [
            (true, of(9, 0), of(1, 0), false, true),
            (true, of(9, 0), of(0, 1), false, true),
            (true, of(9, 0), of(0, 0), true, true),
            (true, of(9, 0), of(0, 0), false, false),
            (true, of(0, 9), of(9, 9), false, false),
            (false, of(9, 0), of(9, 9), true, false),
        ] {
            assert_eq!(is_shown(changed, &since, &after, ended), shown, "{changed} {ended}");
        }
    }

    #[test]
    fn what_no_node_answered_counts_as_unanswered() {
        let mut changes = Changes::default();
        let fail = |why: &str| Outcome::Fail(why.into());
        for outcome in [fail("DAMAGED"), fail("UNREACHABLE"), Outcome::Info("DEADLINE_EXCEEDED".into())] {
            changes.count(&outcome);
        }
        assert_eq!((changes.acknowledged, changes.refused, changes.unanswered), (0, 1, 2));
    }
}
