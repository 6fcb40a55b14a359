//! Changes of membership while other faults go on: a partition in the midst of a reconfiguration is where others lost data.

use std::time::Duration;

use quorate_client::v1::{ApproveRequest, InviteRequest, ListMembersRequest, PromoteRequest, TransferLeaderRequest};
use quorate_client::{Client, ClientError};
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tokio::time::Instant;

use super::{HOLD, Kind, World};
use crate::history::{Call, Outcome};
use crate::net::PLACES_MAX;
use crate::workload::CALL_TIME_MAX;

/// One step at one member takes at most this long; another member is tried then.
const STEP_TIME_MAX: Duration = Duration::from_secs(10);
/// A node that was invited asks to be let in within this time; else another member invites it.
const APPLICATION_TIME: Duration = Duration::from_secs(15);
/// What was begun ends within this time once every fault is healed; a deadline against hanging, no measure.
const FINISH_TIME_MAX: Duration = Duration::from_secs(120);
/// Between two attempts, seconds.
const PAUSE: f64 = 0.3;

/// How the removal of a member ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Removal {
    /// It was acknowledged: from then on the member must be cut off.
    Acknowledged,
    /// It was found to be done, by an attempt whose answer was lost.
    FoundDone,
    /// It could not be brought to its end.
    Unfinished,
}

/// How long an unfinished change may still take: for ever under faults, not once they are healed.
#[derive(Default)]
struct Patience {
    healed: Option<Instant>,
}

impl World<'_> {
    /// One time in five leadership is handed on; else a node is replaced.
    pub(super) async fn membership(&self, rng: &mut StdRng) -> anyhow::Result<()> {
        if rng.random_ratio(1, 5) || self.cluster.made() >= PLACES_MAX {
            self.hand_on(rng).await;
            return Ok(());
        }
        let leader = if rng.random_ratio(1, 2) { self.cluster.leader().await } else { None };
        let victim = leader.unwrap_or_else(|| self.any_member(rng));
        let words = if leader.is_some() { format!("n{victim} (leader)") } else { format!("n{victim}") };
        // The new one first: then nothing is taken from the majority, and other faults go on beside it, at the victim too.
        if self.cluster.size() < 3 || rng.random_ratio(2, 3) {
            let Some(joined) = self.take_in(rng).await? else { return Ok(()) };
            if self.remove(victim, &words, rng).await? == Removal::Acknowledged {
                self.took_effect(Kind::Membership, &format!("n{joined} came, then {words} went"));
            }
            return Ok(());
        }
        let Some(taken) = self.take(1).await else { return Ok(()) };
        let removal = self.remove(victim, &words, rng).await?;
        if removal != Removal::Unfinished
            && let Some(joined) = self.take_in(rng).await?
            && removal == Removal::Acknowledged
        {
            self.took_effect(Kind::Membership, &format!("{words} went, then n{joined} came"));
        }
        self.give(taken);
        Ok(())
    }

    async fn hand_on(&self, rng: &mut StdRng) {
        let (at, to) = (self.any_member(rng), self.any_member(rng));
        let Some(client) = self.operator_at(at) else { return };
        let said = match client.transfer_leader(TransferLeaderRequest { name: format!("n{to}") }).await {
            Ok(done) => format!("{} leads", done.name),
            Err(e) => e.reason,
        };
        self.tell("transfer-leader", &format!("to n{to}, asked at n{at}: {said}"));
    }

    /// A node with an identity of its own is invited, approved and promoted; `None` when it could not be brought to its end.
    async fn take_in(&self, rng: &mut StdRng) -> anyhow::Result<Option<u32>> {
        let node = self.cluster.make_node().await?;
        self.net.attach(node)?;
        let (name, fingerprint) = (format!("n{node}"), self.cluster.fingerprint(node)?);
        self.tell("join", &name);
        let mut patience = Patience::default();
        while !self.apply(node, &name, &fingerprint, rng).await? {
            if self.gives_up(&mut patience, &format!("{name} could not ask to join")).await {
                return Ok(None);
            }
        }
        self.tell("join-asked", &name);
        while let Err(why) = self
            .anywhere(rng, async |client| {
                let request = ApproveRequest { name: name.clone(), fingerprint: fingerprint.clone() };
                client.approve(request).await.map(|_| ())
            })
            .await
        {
            if self.gives_up(&mut patience, &format!("{name} could not be approved ({why})")).await {
                return Ok(None);
            }
        }
        self.tell("join-approved", &name);
        // Sealed or lagging, it is a full voter.
        while let Err(why) = self
            .anywhere(rng, async |client| {
                let request = PromoteRequest { names: vec![name.clone()], force: true };
                client.promote(request).await.map(|_| ())
            })
            .await
        {
            if self.gives_up(&mut patience, &format!("{name} could not be promoted ({why})")).await {
                return Ok(None);
            }
        }
        self.cluster.joined(node);
        self.context.joined(node, self.cluster.clients_of(node, CALL_TIME_MAX)?);
        self.tell("join-promoted", &name);
        self.reopen(node).await;
        Ok(Some(node))
    }

    /// One invitation, with which the node asks to join; whether a member has heard of it.
    async fn apply(&self, node: u32, name: &str, fingerprint: &str, rng: &mut StdRng) -> anyhow::Result<bool> {
        let request = InviteRequest { name: name.to_owned(), valid_minutes: 0 };
        let Ok(invited) = self.anywhere(rng, async |client| client.invite(request.clone()).await).await else {
            return Ok(false);
        };
        self.cluster.invited(node, &invited.token)?;
        // A process with an older invitation may run.
        let _ = self.cluster.kill(node);
        self.cluster.start_node(node)?;
        let end = Instant::now() + APPLICATION_TIME;
        while Instant::now() < end {
            let listed = self.anywhere(rng, async |client| client.list_members(ListMembersRequest {}).await).await;
            let pending = listed.map(|l| l.pending).unwrap_or_default();
            if pending.iter().any(|p| p.name == name && p.fingerprint == fingerprint) {
                return Ok(true);
            }
            tokio::time::sleep(Duration::from_secs_f64(PAUSE)).await;
        }
        Ok(false)
    }

    /// Removes a member; clients try it for a while longer, in vain.
    async fn remove(&self, member: u32, words: &str, rng: &mut StdRng) -> anyhow::Result<Removal> {
        self.tell("remove", words);
        let mut patience = Patience::default();
        let removal = loop {
            let others: Vec<u32> = self.cluster.members().into_iter().filter(|other| *other != member).collect();
            let at = others[rng.random_range(0..others.len())];
            let mut process = self.context.process();
            let why = match self.context.call(&mut process, at, None, Call::Remove { member }).await.0 {
                Outcome::Ok(_) => break Removal::Acknowledged,
                // An attempt in doubt had its effect.
                Outcome::Fail(why) if why == "NOT_FOUND" => break Removal::FoundDone,
                Outcome::Fail(why) | Outcome::Info(why) => why,
            };
            if self.gives_up(&mut patience, &format!("n{member} could not be removed (n{at}: {why})")).await {
                return Ok(Removal::Unfinished);
            }
        };
        self.cluster.left(member);
        self.context.left(member);
        self.tell("removed", words);
        // Whoever forgot to switch it off starts it again with all that it had.
        if rng.random_ratio(1, 2) && self.cluster.kill(member).is_ok() {
            self.cluster.start_node(member)?;
            self.tell("removed-restarted", words);
        }
        self.nap(rng.random_range(HOLD)).await;
        // Whatever the clients had time for, it has been asked.
        if let Some(key) = self.context.keys().first() {
            let _ = self.context.call(&mut self.context.process(), member, Some(key), Call::Describe).await;
        }
        self.context.forget(member);
        self.cluster.retire(member)?;
        Ok(removal)
    }

    /// Asks the members, in any order, until one has done it; else what the last of them said.
    async fn anywhere<T>(
        &self,
        rng: &mut StdRng,
        act: impl AsyncFn(Client) -> Result<T, ClientError>,
    ) -> Result<T, String> {
        let mut members = self.cluster.members();
        members.shuffle(rng);
        let mut said = "there is no member".to_owned();
        for client in members.into_iter().filter_map(|member| self.operator_at(member)) {
            match act(client).await {
                Ok(answer) => return Ok(answer),
                Err(e) => said = e.to_string(),
            }
        }
        Err(said)
    }

    pub(super) fn operator_at(&self, member: u32) -> Option<Client> {
        Some(self.context.client(member)?.with_deadline(STEP_TIME_MAX))
    }

    /// Waits before the next attempt; true when there has been time enough since every fault was healed.
    async fn gives_up(&self, patience: &mut Patience, what: &str) -> bool {
        tokio::time::sleep(Duration::from_secs_f64(PAUSE)).await;
        if !self.stopped() {
            return false;
        }
        if patience.healed.get_or_insert_with(Instant::now).elapsed() < FINISH_TIME_MAX {
            return false;
        }
        self.unfinished.replace(Some(format!("{what} within {FINISH_TIME_MAX:?} after every fault was healed")));
        true
    }
}
