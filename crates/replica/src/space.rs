//! The regime of a disk that is nearly full (key-log §4.6): this node takes no more into its log than has to be, does not
//! lead while another voter has space, and goes on voting, answering heartbeats and serving reads and uses.
//!
//! What it still takes: the tail of what was under way when space ran low, so that no change that was let in hangs, and
//! entries that no client causes (an election's first, membership, time), all within what the journal has allocated.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openraft::EntryPayload;
use quorate_core::batch::Entry;
use quorate_core::id::NodeId;
use quorate_journal::{Driver, JournalConfig, Space};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;

use crate::change::Changed;
use crate::leader::Leader;
use crate::log::LogReader;
use crate::node::Base;
use crate::peer::hello::Heard;
use crate::raft::RaftEntry;
use crate::shared::Shared;
use crate::state::StateFiles;
use crate::succession::Succession;

/// How often a leader without space looks for a successor.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Most bytes of the tail.
const TAIL_BYTES_MAX: u64 = 4 << 20;
/// What an entry takes in the journal beside its payload, at most.
const ENTRY_OVERHEAD: u64 = 256;
/// The least that is set aside for the state.
const RESERVE_BYTES_MIN: u64 = 4 << 20;

/// Bytes set aside for the state, by the limit below which space is low.
pub(crate) fn reserve_bytes(limit_bytes: u64) -> u64 {
    (limit_bytes / 8).max(RESERVE_BYTES_MIN)
}

/// So little is free that nothing is to take more of it for long: a view that is kept lets the state's file grow.
pub(crate) fn is_near_low(space: Space) -> bool {
    space.free_bytes < space.limit_bytes + space.limit_bytes / 2
}

/// Why no change can be stored now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Short {
    /// Who is short of space.
    pub(crate) why: String,
    /// There is a voter with space that leadership goes to.
    pub(crate) moving: bool,
}

/// Free space and the limit, for people.
pub(crate) fn in_words(space: Space) -> String {
    let mib = |bytes: u64| bytes >> 20;
    format!("{} MiB free; changes are taken again from {} MiB on", mib(space.free_bytes), mib(2 * space.limit_bytes))
}

/// What is still taken while space is low.
pub(crate) struct Tail {
    /// Bytes of clients' entries left.
    left: AtomicU64,
    /// What they may take.
    bytes: u64,
    /// Entries were refused, and none taken since.
    refusing: AtomicBool,
}

impl Tail {
    pub(crate) fn of(journal: &JournalConfig) -> Self {
        let bytes = TAIL_BYTES_MAX.min(journal.segment_bytes / 8);
        Self { left: AtomicU64::new(bytes), bytes, refusing: AtomicBool::new(false) }
    }

    /// There is space again.
    fn renew(&self) {
        self.left.store(self.bytes, Ordering::Relaxed);
        self.refusing.store(false, Ordering::Relaxed);
    }

    /// Whether so many bytes fit into what the journal has allocated, with as much again for what must follow.
    fn has_room(&self, journal: &LogReader, bytes: u64) -> bool {
        journal.room() >= bytes + self.bytes
    }

    /// Whether entries of these sizes are still taken.
    fn takes(&self, journal: &LogReader, all: u64, clients: u64) -> bool {
        let spend = |left: u64| left.checked_sub(clients);
        // What the tail itself needs is not kept free for it twice.
        let room = if clients > 0 { journal.room() >= all } else { self.has_room(journal, all) };
        let takes = room && self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend).is_ok();
        self.refusing.store(!takes, Ordering::Relaxed);
        takes
    }
}

/// What the regime asks of its node.
pub(crate) trait HandsOn: Send + Sync + 'static {
    /// Hands leadership on to a voter, unless members are just being changed.
    fn hand_on_to(&self, to: NodeId) -> impl Future<Output = Option<Changed>> + Send;
}

/// How one node and those it hears of are off for space.
pub(crate) struct SpaceRegime {
    me: NodeId,
    shared: Arc<Shared>,
    journal: LogReader,
    files: Arc<StateFiles>,
    driver: Driver,
    peers: Arc<Heard>,
    leader: Arc<Leader>,
    succession: Arc<Succession>,
    hello: Arc<Notify>,
    tail: Tail,
}

impl SpaceRegime {
    pub(crate) fn of(base: &Base, leader: &Arc<Leader>, succession: &Arc<Succession>, tail: Tail) -> Self {
        Self {
            me: base.me,
            shared: base.shared.clone(),
            journal: base.journal.clone(),
            files: base.files.clone(),
            driver: base.driver.clone(),
            peers: base.peers.clone(),
            leader: leader.clone(),
            succession: succession.clone(),
            hello: base.hello.clone(),
            tail,
        }
    }

    /// Whether what the journal has allocated has room for an entry that no client causes.
    pub(crate) fn has_room(&self) -> bool {
        !self.journal.low_space() || self.tail.has_room(&self.journal, 0)
    }

    /// Whether entries from the leader are taken.
    pub(crate) fn takes(&self, entries: &[RaftEntry]) -> bool {
        if entries.is_empty() || !self.journal.low_space() {
            return true;
        }
        let (mut all, mut clients) = (0, 0);
        for entry in entries {
            let (len, from_client) = match &entry.payload {
                EntryPayload::Normal(payload) => {
                    (payload.0.len() as u64, !matches!(Entry::decode(&payload.0), Ok(Entry::Tick(_))))
                }
                // Bounded by the number of members.
                EntryPayload::Blank | EntryPayload::Membership(_) => (0, false),
            };
            all += len + ENTRY_OVERHEAD;
            clients += if from_client { len + ENTRY_OVERHEAD } else { 0 };
        }
        self.tail.takes(&self.journal, all, clients)
    }

    /// Why this node will not reach an index for now: it refuses the entries up to it.
    pub(crate) fn left_behind(&self, index: u64) -> Option<String> {
        let behind = self.tail.refusing.load(Ordering::Relaxed)
            && self.journal.low_space()
            && self.journal.state().is_ok_and(|state| state.last.is_none_or(|(last, _)| last < index));
        behind.then(|| "this node is short of disk space and no longer follows the others; ask one of them".to_owned())
    }

    /// As the leader: whether a change could not be stored, here or at too many others to commit it.
    pub(crate) fn shortage(&self) -> Option<Short> {
        let own = self.journal.space();
        if !own.low && !self.peers.any_is_low() {
            return None;
        }
        let membership = self.shared.members.applied();
        let low: BTreeSet<_> = (membership.voter_ids().into_iter())
            .filter(|id| if *id == self.me { own.low } else { self.peers.is_reachable(*id) && self.peers.is_low(*id) })
            .collect();
        if !own.low {
            let takes = |id| id == self.me || self.peers.is_reachable(id) && !self.peers.is_low(id);
            let able: BTreeSet<_> = membership.voter_ids().into_iter().filter(|id| takes(*id)).collect();
            if low.is_empty() || membership.is_majority(&able) {
                return None;
            }
        }
        let moving = own.low && self.succession.with_space().is_some();
        Some(Short { why: self.in_short(&low, own), moving })
    }

    /// As any node: whether too many voters have no space for a change to be stored anywhere, as far as they have told. Who is
    /// not heard of may have some.
    pub(crate) fn shortage_of_all(&self) -> Option<String> {
        let own = self.journal.space();
        if !own.low && !self.peers.any_is_low() {
            return None;
        }
        let membership = self.shared.members.applied();
        let is_low = |id: &NodeId| match *id == self.me {
            true => own.low,
            false => self.peers.is_reachable(*id) && self.peers.is_low(*id),
        };
        let (low, able): (BTreeSet<_>, BTreeSet<_>) = membership.voter_ids().into_iter().partition(is_low);
        (!low.is_empty() && !membership.is_majority(&able)).then(|| self.in_short(&low, own))
    }

    fn in_short(&self, low: &BTreeSet<NodeId>, own: Space) -> String {
        let each = low.iter().map(|id| match *id == self.me {
            true => format!("{} ({})", self.shared.members.name_of(self.me), in_words(own)),
            false => format!("{} ({} MiB free)", self.shared.members.name_of(*id), self.peers.free_bytes(*id) >> 20),
        });
        format!("short of disk space: {}", each.collect::<Vec<_>>().join(", "))
    }

    /// As the leader: hands leadership to a voter that has space, if there is one.
    async fn make_way(&self, node: &impl HandsOn) {
        if !self.leader.is_me() {
            return;
        }
        let Some(to) = self.succession.with_space() else { return };
        let name = self.shared.members.name_of(to);
        match node.hand_on_to(to).await {
            Some(Changed::Done(_)) => {
                tracing::warn!(to = %name, "leadership was handed on: this node is short of disk space")
            }
            Some(Changed::Refused(why) | Changed::Unknown(why)) => {
                tracing::debug!(to = %name, why, "this node is short of disk space and still leads");
            }
            Some(Changed::NotLeader(_)) | None => {}
        }
    }
}

/// Follows the disk for as long as the replica runs.
pub(crate) async fn drive(regime: Arc<SpaceRegime>, node: Arc<impl HandsOn>) {
    let (mut space, mut leader) = (regime.journal.watch_space(), regime.leader.watch());
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut was_low, mut reserve_failed) = (false, false);
    loop {
        tokio::select! {
            biased;
            changed = space.changed() => if changed.is_err() { return },
            changed = leader.changed() => if changed.is_err() { return },
            _ = look.tick() => {}
        }
        leader.mark_unchanged();
        let now = *space.borrow_and_update();
        let low = now.low;
        if low != was_low {
            was_low = low;
            // Whoever leads, or would, is to know at once.
            regime.hello.notify_one();
            regime.shared.note_change();
        }
        if low {
            reserve_failed = false;
            regime.make_way(&*node).await;
        } else {
            regime.tail.renew();
            let room = now.free_bytes.saturating_sub(reserve_bytes(now.limit_bytes)) >= now.limit_bytes;
            if room && !reserve_failed && !regime.files.reserve_is_held() {
                let files = regime.files.clone();
                if let Err(error) = regime.driver.run("reserve", move || files.hold_reserve()).await.flatten() {
                    tracing::warn!(%error, "no room could be set aside for the state");
                    // Not to be tried, and told, once a second.
                    reserve_failed = true;
                }
            }
        }
    }
}
