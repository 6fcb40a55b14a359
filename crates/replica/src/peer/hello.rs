//! Hello: once a second and whenever poked, every node tells every other how far it is and what its clock says.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use quorate_core::id::NodeId;
use quorate_core::level::Level;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::link::{Links, PAUSE_REFUSED};
use super::{RpcFailure, bounded, convert, pb};
use crate::clock::Clock;
use crate::clock::reading::Reading;
use crate::grants::{Doubt, Grants};
use crate::listed::RosterCheck;
use crate::log::LogReader;
use crate::member::MembershipView;
use crate::node::Base;
use crate::raft::Raft;
use crate::raft::codec::{decode_log_id, decode_vote};
use crate::seldom::Seldom;
use crate::shared::Shared;
use crate::status::PeerStatus;
use crate::succession::Pings;
use crate::witness::Witness;
use crate::word::{Own, Shown, Standing, Words};

/// How often everyone says Hello.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long one may take.
const LIMIT: Duration = Duration::from_millis(900);
/// A member not heard of for longer counts as unreachable.
const FRESH: Duration = Duration::from_secs(3);
/// Longest service part that is kept.
const APP_LEN_MAX: usize = 16 * 1024;

/// How often one member's restarts are told: it can say in each Hello that it was started again.
const RESTARTS_TOLD_EVERY: Duration = Duration::from_secs(60);

/// What was heard of the others.
pub(crate) struct Heard {
    all: Mutex<BTreeMap<NodeId, LastHello>>,
    restarts: Seldom,
}

impl Default for Heard {
    fn default() -> Self {
        Self { all: Mutex::default(), restarts: Seldom::every(RESTARTS_TOLD_EVERY) }
    }
}

#[derive(Clone, Default)]
struct LastHello {
    at: Option<Instant>,
    applied: u64,
    last_log: u64,
    boot: u32,
    /// Its clock, as it last answered with.
    clock: Option<Reading>,
    roster_serial: u64,
    /// The highest that it speaks; 0 until it has said so.
    level: u32,
    free_bytes: u64,
    low_space: bool,
    app: Bytes,
    error: Option<RpcFailure>,
    /// It has less than it said, and so no vote.
    lost: bool,
    /// Since when it has not answered.
    fails_since: Option<Instant>,
    /// That was told.
    is_down: bool,
    asking: bool,
}

/// A Hello of ours.
struct Question {
    hello: pb::HelloMessage,
    /// When, by boot time.
    sent: Duration,
    /// What its receiver had said of itself until then.
    known: Bytes,
}

impl Heard {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<NodeId, LastHello>) -> T) -> T {
        f(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is known of a peer.
    pub(crate) fn status(&self, id: NodeId) -> PeerStatus {
        let heard = self.with(|all| all.get(&id).cloned().unwrap_or_default());
        let age = heard.at.map(|at| at.elapsed());
        PeerStatus {
            id,
            reachable: age.is_some_and(|age| age < FRESH),
            applied: heard.applied,
            boot: heard.boot,
            level: Some(Level(heard.level)).filter(|level| *level >= Level::FIRST),
            clock_offset_ms: None,
            free_bytes: heard.free_bytes,
            low_space: heard.low_space,
            app_hello: heard.app,
            age,
            error: heard.error.as_ref().map(ToString::to_string),
            doubt: None,
            closed: match heard.error {
                Some(RpcFailure::Closed(why)) => Some(why),
                _ => None,
            },
        }
    }

    /// What is known of the others' clocks.
    pub(crate) fn readings(&self) -> BTreeMap<NodeId, Reading> {
        self.with(|all| all.iter().filter_map(|(id, h)| Some((*id, h.clock?))).collect())
    }

    /// Whether a member was heard of within the last seconds, and answered then.
    pub(crate) fn is_reachable(&self, id: NodeId) -> bool {
        self.with(|all| all.get(&id).is_some_and(|h| h.at.is_some_and(|at| at.elapsed() < FRESH) && h.error.is_none()))
    }

    /// Whether a member said last that it has less than it had said, and so never votes again.
    pub(crate) fn is_lost(&self, id: NodeId) -> bool {
        self.with(|all| all.get(&id).is_some_and(|h| h.lost))
    }

    /// Whether most of the other voters answered last that their membership does not pin this node's identity.
    pub(crate) fn disowned_by_most(&self, me: NodeId, membership: &MembershipView) -> bool {
        let mut others = membership.voter_ids();
        others.remove(&me);
        let disown = |h: &LastHello| h.error == Some(RpcFailure::NotPinned);
        let disowning = self.with(|all| others.iter().filter(|id| all.get(id).is_some_and(disown)).count());
        disowning > others.len() / 2
    }

    /// Whether a member's disk was nearly full when it was heard of last.
    pub(crate) fn is_low(&self, id: NodeId) -> bool {
        self.with(|all| all.get(&id).is_some_and(|h| h.low_space))
    }

    /// Whether that was so of any member.
    pub(crate) fn any_is_low(&self) -> bool {
        self.with(|all| all.values().any(|h| h.low_space))
    }

    /// Free bytes of a member's disk when it was heard of last.
    pub(crate) fn free_bytes(&self, id: NodeId) -> u64 {
        self.with(|all| all.get(&id).map_or(0, |h| h.free_bytes))
    }

    /// How many entries of a log that ends at `last` a member had not said to have.
    pub(crate) fn lag(&self, id: NodeId, last: u64) -> u64 {
        last.saturating_sub(self.with(|all| all.get(&id).map_or(0, |h| h.last_log)))
    }

    /// The reachable member with the longest log among `ids`.
    pub(crate) fn most_advanced(&self, ids: impl Iterator<Item = NodeId>) -> Option<NodeId> {
        self.with(|all| {
            ids.filter_map(|id| all.get(&id).map(|h| (id, h)))
                .filter(|(_, h)| h.at.is_some_and(|at| at.elapsed() < FRESH) && h.error.is_none())
                .max_by_key(|(_, h)| h.last_log)
                .map(|(id, _)| id)
        })
    }
}

/// Says Hello, and hears it.
pub(crate) struct Hellos {
    me: NodeId,
    boot: u32,
    /// The highest feature level that this node speaks.
    level: Level,
    shared: Arc<Shared>,
    raft: Raft,
    links: Arc<Links>,
    journal: LogReader,
    peers: Arc<Heard>,
    clock: Arc<Clock>,
    own: Arc<Own>,
    words: Arc<Words>,
    grants: Arc<Grants>,
    witness: Arc<Witness>,
    rosters: Arc<RosterCheck>,
    /// Wakes whoever says it.
    wake: Arc<Notify>,
}

impl Pings for Hellos {
    async fn ping(&self, id: NodeId) -> Result<(), RpcFailure> {
        let link = self
            .links
            .to_member(&self.shared.members, id)
            .ok_or_else(|| RpcFailure::Unreachable("it is no known member".into()))?;
        let question = self.question(id);
        match bounded(LIMIT, link.control().hello(question.hello.clone())).await {
            Ok(hello) => {
                self.hear_answer(id, hello, &question);
                Ok(())
            }
            Err(failure) => {
                self.unheard(id, &failure);
                Err(failure)
            }
        }
    }
}

impl Hellos {
    pub(crate) fn of(base: &Base, witness: &Arc<Witness>, rosters: &Arc<RosterCheck>) -> Self {
        Self {
            me: base.me,
            boot: base.boot,
            level: base.levels.highest,
            shared: base.shared.clone(),
            raft: base.raft.clone(),
            links: base.links.clone(),
            journal: base.journal.clone(),
            peers: base.peers.clone(),
            clock: base.clock.clone(),
            own: base.own.clone(),
            words: base.words.clone(),
            grants: base.grants.clone(),
            witness: witness.clone(),
            rosters: rosters.clone(),
            wake: base.hello.clone(),
        }
    }

    /// [`Pings::ping`] until it succeeds, for as long as an attempt made earlier may be what keeps a link from trying.
    pub(crate) async fn reach(&self, id: NodeId) -> Result<(), RpcFailure> {
        let until = Instant::now() + 2 * PAUSE_REFUSED;
        loop {
            match self.ping(id).await {
                Err(_) if Instant::now() < until => tokio::time::sleep(PAUSE_REFUSED / 10).await,
                answer => return answer,
            }
        }
    }

    /// What this node tells `to`.
    pub(crate) fn own(&self, to: NodeId) -> pb::HelloMessage {
        let roster = self.shared.members.roster();
        let known = self.peers.with(|all| all.get(&to).map_or(0, |h| h.roster_serial));
        let behind = roster.as_ref().filter(|roster| known < roster.roster().serial);
        let last = self.journal.state().ok().and_then(|s| s.last);
        let space = self.journal.space();
        pb::HelloMessage {
            boot: self.boot,
            last_log_id: last.and_then(|(_, id)| decode_log_id(&id).ok()).map(|id| convert::log_id_out(&id)),
            vote: self.journal.vote().and_then(|v| decode_vote(&v).ok()).map(|v| convert::vote_out(&v)),
            applied: self.shared.applied_now(),
            wall_ms: self.clock.wall_ms(),
            roster_serial: roster.as_ref().map_or(0, |roster| roster.roster().serial),
            roster: behind.map(|roster| roster.encode().clone()).unwrap_or_default(),
            level: self.level.0,
            free_bytes: space.free_bytes,
            low_space: space.low,
            app: self.shared.handler.hello(),
            standing: self.own.standing() as u32,
            word: self.own.word(),
            about: self.words.of(to),
        }
    }

    fn question(&self, to: NodeId) -> Question {
        Question { known: self.words.newest(to), sent: self.clock.boot_time(), hello: self.own(to) }
    }

    /// Takes in what a member told in answer to a Hello of ours.
    fn hear_answer(&self, from: NodeId, hello: pb::HelloMessage, question: &Question) {
        let standing = hello.standing;
        let now = Shown {
            boot: hello.boot,
            vote: convert::vote_in(hello.vote).ok(),
            last: hello.last_log_id.as_ref().map(convert::log_id_in),
            applied: hello.applied,
        };
        match self.words.shown(from, &question.known, &now) {
            true => self.grants.doubts.note(from, Doubt::ShowsLess),
            false => self.grants.doubts.clear_shows_less(from),
        }
        self.hear(from, hello, Some(question.sent));
        self.witness.answered_by(from, standing);
    }

    /// Takes in what a member told; in answer to a Hello of ours, when that was sent by boot time.
    pub(crate) fn hear(&self, from: NodeId, hello: pb::HelloMessage, sent: Option<Duration>) {
        // Of two processes; more is told by none that is honest.
        self.witness.judge(from, hello.about.iter().take(2));
        self.words.keep(from, hello.word);
        self.rosters.hear(from, hello.roster);
        self.shared.members.note_serial(from, hello.roster_serial);
        let (answered, own_ms) = (self.clock.boot_time(), self.clock.wall_ms());
        let clock = sent.and_then(|sent| Reading::new(hello.wall_ms, sent, answered, own_ms));
        let app = if hello.app.len() <= APP_LEN_MAX { hello.app } else { Bytes::new() };
        let (news, before) = self.peers.with(|all| {
            let heard = all.entry(from).or_default();
            let before = heard.clone();
            let news = heard.app != app
                || heard.at.is_none_or(|at| at.elapsed() >= FRESH)
                || heard.boot != hello.boot
                || heard.level != hello.level
                || heard.low_space != hello.low_space;
            *heard = LastHello {
                at: Some(Instant::now()),
                applied: hello.applied,
                last_log: hello.last_log_id.map_or(0, |id| id.index),
                boot: hello.boot,
                clock: clock.or(heard.clock),
                roster_serial: hello.roster_serial,
                level: hello.level,
                free_bytes: hello.free_bytes,
                low_space: hello.low_space,
                app: app.clone(),
                error: None,
                lost: hello.standing == Standing::Lost as u32,
                fails_since: None,
                is_down: false,
                asking: heard.asking,
            };
            (news, before)
        });
        let restarted = before.boot != 0 && before.boot != hello.boot;
        match (before.is_down, restarted) {
            (true, _) => {
                let away_s = before.fails_since.map_or(0, |since| since.elapsed().as_secs());
                tracing::info!(peer = %self.shared.members.name_of(from), away_s, restarted, "a member answers again");
            }
            (false, true) => {
                if let Some(times) = self.peers.restarts.due(&from.to_string()) {
                    let peer = self.shared.members.name_of(from);
                    tracing::info!(%peer, start = hello.boot, times, "a member was started again");
                }
            }
            (false, false) => {}
        }
        self.shared.handler.on_hello(from, app);
        if news {
            self.shared.note_change();
        }
    }

    fn unheard(&self, from: NodeId, failure: &RpcFailure) {
        let (news, down) = self.peers.with(|all| {
            let heard = all.entry(from).or_default();
            let news = heard.error.is_none();
            heard.error = Some(failure.clone());
            let since = *heard.fails_since.get_or_insert_with(Instant::now);
            let down = !heard.is_down && since.elapsed() >= FRESH;
            heard.is_down |= down;
            (news, down)
        });
        if down {
            tracing::warn!(peer = %self.shared.members.name_of(from), error = failure.to_string(), "a member does not answer");
        }
        if news {
            self.shared.note_change();
        }
    }
}

/// Says Hello for as long as the replica runs.
pub(crate) async fn drive(hellos: Arc<Hellos>) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut metrics = hellos.raft.server_metrics();
    loop {
        tokio::select! {
            biased;
            () = hellos.wake.notified() => {}
            // A member was added or a leader elected: be known to it at once.
            changed = metrics.changed() => if changed.is_err() { return },
            _ = tick.tick() => {}
        }
        let members = hellos.shared.members.all();
        hellos.links.retain(&members);
        hellos.peers.with(|all| all.retain(|id, _| members.iter().any(|(m, _)| m == id)));
        for (id, member) in members {
            let busy = || hellos.peers.with(|all| std::mem::replace(&mut all.entry(id).or_default().asking, true));
            if id == hellos.me || busy() {
                continue;
            }
            let hellos = hellos.clone();
            tokio::spawn(async move {
                let mut client = hellos.links.to(id, &member).control();
                let question = hellos.question(id);
                let answer = bounded(LIMIT, client.hello(question.hello.clone())).await;
                hellos.peers.with(|all| {
                    if let Some(heard) = all.get_mut(&id) {
                        heard.asking = false;
                    }
                });
                match answer {
                    Ok(hello) => hellos.hear_answer(id, hello, &question),
                    Err(failure) => hellos.unheard(id, &failure),
                }
            });
        }
    }
}
