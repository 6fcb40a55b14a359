//! A node's own word (trust.md §2.1): what it said it had, so that others can tell it when it has that no longer.
//!
//! ```text
//! word = N u64 ‖ boot u32 ‖ process 16 ‖ vote{term u64, node u64, committed u8} ‖ acked{term u64, node u64, index u64} ‖ tag 16
//! tag  = HMAC-SHA-256(K_self, "quorate/v1/own-word" ‖ 0 ‖ fields[C, g, all before]), first 16 bytes
//! ```
//!
//! `vote` is the newest synced vote, `acked` the newest synced entry acknowledged *under that vote*: not the log's end, for
//! a new leader may cut a tail that was never acknowledged to it. Only the node itself can make a word of its own, so no
//! lie of another declares it lost.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU8, Ordering as Memory};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use bytes::Bytes;
use futures::future::BoxFuture;
use openraft::vote::RaftLeaderId as _;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, GroupId, NodeId};
use quorate_core::seeded::{self, Bug};
use quorate_core::session::Session;

use crate::error::Rollback;
use crate::log::LogReader;
use crate::raft::codec::decode_vote;
use crate::raft::{LeaderId, LogId, Vote};

const TAG_LEN: usize = 16;
/// Length of a word, in bytes.
pub(crate) const WORD_LEN: usize = 85;
/// Members whose words are kept: as many as a membership has.
const KEPT_MAX: usize = 1024;

/// The node's own secret, K_self.
pub trait OwnKey: Send + Sync {
    /// The tag of a word.
    fn tag(&self, word: &[u8]) -> [u8; TAG_LEN];
}

/// K_self as the node file is to keep it, and in use.
pub type MadeOwnKey = (Vec<u8>, Arc<dyn OwnKey>);

/// Makes and opens it: it lies in the node file, boxed to the node's HSM.
pub trait OwnKeys: Send + Sync {
    /// A new one.
    fn make(&self) -> BoxFuture<'_, io::Result<MadeOwnKey>>;

    /// The one in the box. `InvalidData`: it is not one that this HSM opens.
    fn open<'a>(&'a self, boxed: &'a [u8]) -> BoxFuture<'a, io::Result<Arc<dyn OwnKey>>>;
}

/// What a node says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Word {
    pub(crate) session: Session,
    pub(crate) vote: Option<Vote>,
    pub(crate) acked: Option<LogId>,
}

impl Word {
    fn encode(&self) -> Vec<u8> {
        let vote = self.vote.map_or((0, 0, false), |v| (v.leader_id.term, v.leader_id.node_id, v.committed));
        let acked = self.acked.map_or((0, 0, 0), |a| (a.leader_id.term, a.leader_id.node_id, a.index));
        let w = self.session.write(Writer::new()).u64(vote.0).u64(vote.1).u8(vote.2.into());
        w.u64(acked.0).u64(acked.1).u64(acked.2).finish()
    }

    /// Reads it without its tag.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("word", bytes);
        let session = Session::read(&mut r)?;
        let leader = LeaderId::new(r.u64()?, r.u64()?);
        let committed = match r.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed("word: vote")),
        };
        let (acked, index) = (LeaderId::new(r.u64()?, r.u64()?), r.u64()?);
        r.raw(TAG_LEN)?;
        r.finish()?;
        let none = LeaderId::new(0, 0);
        Ok(Self {
            session,
            vote: (leader != none).then_some(Vote { leader_id: leader, committed }),
            acked: (acked != none || index != 0).then(|| LogId::new(acked, index)),
        })
    }

    fn leadership(&self) -> Option<LeaderId> {
        self.vote.map(|vote| vote.leader_id)
    }

    /// Whether a node that said this shows less: an earlier start, an older vote, or under the same leadership an end before
    /// what it acknowledged.
    fn exceeds(&self, now: &Shown) -> bool {
        let is_newer = |said: Vote| now.vote.is_none_or(|vote| said.partial_cmp(&vote).is_none_or(Ordering::is_gt));
        let lacks = |acked: LogId| now.last < Some(acked) && now.applied < acked.index;
        self.session.boot > now.boot
            || self.vote.is_some_and(is_newer)
            || (now.vote.map(|vote| vote.leader_id) == self.leadership() && self.acked.is_some_and(lacks))
    }

    /// What it says that the node it is of does not have; `has`: whether an entry is in its log or its state.
    fn rollback(
        &self,
        mine: Session,
        vote: impl FnOnce() -> Option<Vote>,
        has: impl FnOnce(&LogId) -> bool,
    ) -> Option<Rollback> {
        let known = self.session;
        if known.boot > mine.boot || (known.boot == mine.boot && known.process != mine.process) {
            return Some(Rollback::Superseded { mine: mine.boot, known: known.boot });
        }
        // The log first: a newer leader may cut it short, but not before this node has voted for it.
        let lacks = self.acked.filter(|acked| !has(acked));
        let vote = vote();
        if let Some(said) = self.vote
            && vote.is_none_or(|vote| said.partial_cmp(&vote).is_none_or(Ordering::is_gt))
        {
            return Some(Rollback::Vote {
                known: said.leader_id.term,
                mine: vote.map_or(0, |vote| vote.leader_id.term),
            });
        }
        let acked = lacks.filter(|_| vote.map(|vote| vote.leader_id) == self.leadership())?;
        Some(Rollback::Entries { acked: acked.index })
    }
}

/// How far a node shows itself to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shown {
    pub(crate) boot: u32,
    pub(crate) vote: Option<Vote>,
    /// The end of its log, and what its state has applied.
    pub(crate) last: Option<LogId>,
    pub(crate) applied: u64,
}

/// What this node does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Standing {
    /// It has just started, and asks a majority what they know of it.
    Asking = 1,
    /// It votes, acknowledges and may lead.
    TakesPart = 2,
    /// It has less than it said: never again.
    Lost = 3,
}

/// This node's own side.
pub(crate) struct Own {
    cluster: ClusterId,
    group: GroupId,
    session: Session,
    key: Arc<dyn OwnKey>,
    journal: LogReader,
    /// Newest entry acknowledged to a leader, by the leadership.
    acked: Mutex<Option<(LeaderId, LogId)>>,
    /// Last entry that is synced here: what counts while this node leads.
    synced: Arc<Mutex<Option<LogId>>>,
    standing: AtomicU8,
    /// The word about this node that was looked at last.
    judged: Mutex<Bytes>,
}

impl Own {
    pub(crate) fn new(
        (cluster, group): (ClusterId, GroupId),
        session: Session,
        key: Arc<dyn OwnKey>,
        journal: LogReader,
        synced: Arc<Mutex<Option<LogId>>>,
        standing: Standing,
    ) -> Self {
        let standing = AtomicU8::new(standing as u8);
        let (acked, judged) = (Mutex::default(), Mutex::default());
        Self { cluster, group, session, key, journal, acked, synced, standing, judged }
    }

    pub(crate) fn standing(&self) -> Standing {
        match self.standing.load(Memory::Acquire) {
            1 => Standing::Asking,
            2 => Standing::TakesPart,
            _ => Standing::Lost,
        }
    }

    /// Lost is for good.
    pub(crate) fn take_part(&self) -> bool {
        let (from, to) = (Standing::Asking as u8, Standing::TakesPart as u8);
        self.standing.compare_exchange(from, to, Memory::AcqRel, Memory::Acquire).is_ok()
    }

    /// Whether it was not lost before.
    pub(crate) fn set_lost(&self) -> bool {
        self.standing.swap(Standing::Lost as u8, Memory::AcqRel) != Standing::Lost as u8
    }

    /// This node has acknowledged an entry under a leadership, or installed a state that ends with it.
    pub(crate) fn note_acked(&self, under: LeaderId, id: LogId) {
        let mut acked = self.acked.lock().unwrap_or_else(PoisonError::into_inner);
        *acked = match *acked {
            Some((known, newest)) if known == under => Some((known, newest.max(id))),
            _ => Some((under, id)),
        };
    }

    /// What this node says of itself; nothing while it asks, for that would overwrite the past it asks for.
    pub(crate) fn word(&self) -> Bytes {
        match self.standing() {
            Standing::TakesPart => {}
            // Seeded bug: it is heard, though it may know less than the process before.
            Standing::Asking if seeded::is(Bug::WordWhileAsking) => {}
            Standing::Asking | Standing::Lost => return Bytes::new(),
        }
        let vote = self.vote();
        let acked = vote.and_then(|vote| self.acked_under(&vote));
        self.say(Word { session: self.session, vote, acked })
    }

    fn acked_under(&self, vote: &Vote) -> Option<LogId> {
        // Its own entries count for themselves once they are synced.
        if vote.committed && vote.leader_id.node_id == self.session.origin.0 {
            let synced = *self.synced.lock().unwrap_or_else(PoisonError::into_inner);
            return synced.filter(|id| id.leader_id == vote.leader_id);
        }
        self.acked_to(vote.leader_id)
    }

    /// What this node has acknowledged under a leadership.
    pub(crate) fn acked_to(&self, leadership: LeaderId) -> Option<LogId> {
        let acked = self.acked.lock().unwrap_or_else(PoisonError::into_inner);
        acked.filter(|(under, _)| *under == leadership).map(|(_, id)| id)
    }

    /// The newest vote that is synced.
    pub(crate) fn vote(&self) -> Option<Vote> {
        self.journal.vote().and_then(|vote| decode_vote(&vote).ok())
    }

    /// Puts the tag on.
    pub(crate) fn say(&self, word: Word) -> Bytes {
        self.tagged(word.encode()).into()
    }

    /// What this node says of its past, with its tag. What says different things has different lengths.
    pub(crate) fn tagged(&self, mut said: Vec<u8>) -> Vec<u8> {
        let tag = self.tag(&said);
        said.extend_from_slice(&tag);
        said
    }

    /// What bears this node's tag, without it.
    pub(crate) fn untagged<'a>(&self, told: &'a [u8]) -> Option<&'a [u8]> {
        let (said, tag) = told.split_at_checked(told.len().checked_sub(TAG_LEN)?)?;
        let genuine = verify_slices_are_equal(&self.tag(said), tag).is_ok();
        // Seeded bug: whoever reaches this node can declare it lost.
        (genuine || seeded::is(Bug::SkipTag)).then_some(said)
    }

    fn tag(&self, said: &[u8]) -> [u8; TAG_LEN] {
        self.key.tag(&Writer::new().field(&self.cluster.0).u32(self.group.0).field(said).finish())
    }

    /// Looks at what another says that this node has said. `has`: whether an entry is in its log or its state.
    ///
    /// # Errors
    /// When it is no word of this node's.
    pub(crate) fn judge(&self, told: &Bytes, has: impl FnOnce(&LogId) -> bool) -> Result<Option<Rollback>, Malformed> {
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        if *judged == *told {
            return Ok(None);
        }
        let word = Word::read(told)?;
        if word.session.origin != self.session.origin || self.untagged(told).is_none() {
            return Err(Malformed("word: it is none of this node's"));
        }
        let rollback = word.rollback(self.session, || self.vote(), has);
        if rollback.is_none() {
            *judged = told.clone();
        }
        Ok(rollback)
    }
}

/// What was heard from the others of themselves.
#[derive(Default)]
pub(crate) struct Words(Mutex<Book>);

#[derive(Default)]
struct Book {
    all: BTreeMap<NodeId, Said>,
    changed: bool,
}

/// What a member has said of itself.
struct Said {
    newest: Bytes,
    /// The newest of the process before.
    before: Option<Bytes>,
    /// What it showed last was less.
    shows_less: bool,
}

impl Words {
    /// Those of the journal.
    pub(crate) fn recovered(seen: Option<&Bytes>) -> Self {
        let words = Self::default();
        for word in seen.into_iter().flat_map(|seen| seen.chunks_exact(WORD_LEN)) {
            if let Ok(read) = Word::read(word) {
                words.keep(read.session.origin, Bytes::copy_from_slice(word));
            }
        }
        words.0.lock().unwrap_or_else(PoisonError::into_inner).changed = false;
        words
    }

    /// A member said this of itself. Messages cross: what is older than what it said before is let go.
    pub(crate) fn keep(&self, from: NodeId, told: Bytes) {
        let Ok(word) = Word::read(&told) else { return };
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if word.session.origin != from || (!book.all.contains_key(&from) && book.all.len() >= KEPT_MAX) {
            return;
        }
        let first = || Said { newest: told.clone(), before: None, shows_less: false };
        let kept = book.all.entry(from).or_insert_with(first);
        if kept.newest == told {
            book.changed = true;
            return;
        }
        let Ok(known) = Word::read(&kept.newest) else { return };
        if known.session.process == word.session.process {
            if (known.vote, known.acked) >= (word.vote, word.acked) {
                return;
            }
            kept.newest = told;
        } else if word.session.boot >= known.session.boot {
            kept.before = Some(std::mem::replace(&mut kept.newest, told));
        }
        book.changed = true;
    }

    /// What a member has shown in answer to a question that was asked once it had said `known`; messages cross, so a later word
    /// proves nothing. Whether that is less.
    pub(crate) fn shown(&self, from: NodeId, known: &Bytes, now: &Shown) -> bool {
        let less = Word::read(known).is_ok_and(|known| known.exceeds(now));
        if let Some(said) = self.0.lock().unwrap_or_else(PoisonError::into_inner).all.get_mut(&from) {
            said.shows_less = less;
        }
        less
    }

    /// Whether a member shows less than it has said: nothing that it promises or acknowledges counts.
    pub(crate) fn shows_less(&self, id: NodeId) -> bool {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.all.get(&id).is_some_and(|said| said.shows_less)
    }

    /// What a member has said to have acknowledged under this leadership.
    pub(crate) fn acked(&self, id: NodeId, leadership: LeaderId) -> Option<LogId> {
        let word = Word::read(&self.newest(id)).ok()?;
        word.acked.filter(|_| word.leadership() == Some(leadership))
    }

    /// What that member said, the newest first.
    pub(crate) fn of(&self, id: NodeId) -> Vec<Bytes> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.all
            .get(&id)
            .into_iter()
            .flat_map(|said| std::iter::once(&said.newest).chain(&said.before))
            .cloned()
            .collect()
    }

    /// Its newest.
    pub(crate) fn newest(&self, id: NodeId) -> Bytes {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.all.get(&id).map(|said| said.newest.clone()).unwrap_or_default()
    }

    /// They are to be written down again.
    pub(crate) fn touch(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).changed = true;
    }

    /// All of them, for the journal, if there is news since the last time.
    pub(crate) fn news(&self) -> Option<Bytes> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(&mut book.changed) {
            return None;
        }
        // The older first, as they were said.
        let words = book.all.values().flat_map(|said| said.before.iter().chain([&said.newest]));
        Some(words.flat_map(|word| word.iter().copied()).collect::<Vec<_>>().into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn session(boot: u32, process: u8) -> Session {
        Session { origin: NodeId(3), boot, process: [process; 16] }
    }

    fn vote(term: u64, node: u64, committed: bool) -> Option<Vote> {
        Some(Vote { leader_id: LeaderId::new(term, node), committed })
    }

    fn entry(term: u64, index: u64) -> Option<LogId> {
        Some(LogId::new(LeaderId::new(term, 1), index))
    }

    fn word(boot: u32, process: u8, vote: Option<Vote>, acked: Option<LogId>) -> Word {
        Word { session: session(boot, process), vote, acked }
    }

    fn bytes(word: Word) -> Bytes {
        [&word.encode()[..], &[0; TAG_LEN]].concat().into()
    }

    #[test]
    fn the_bytes_are_as_written_down() {
        let encoded = word(7, 9, vote(4, 1, true), entry(3, 12)).encode();
        let expected = [
            &3u64.to_be_bytes()[..],
            &7u32.to_be_bytes(),
            &[9; 16],
            &4u64.to_be_bytes(),
            &1u64.to_be_bytes(),
            &[1],
            &3u64.to_be_bytes(),
            &1u64.to_be_bytes(),
            &12u64.to_be_bytes(),
        ];
        assert_eq!(encoded, expected.concat());
        assert_eq!(encoded.len() + TAG_LEN, WORD_LEN);
        for one in [word(7, 9, vote(4, 1, true), entry(3, 12)), word(1, 2, None, None)] {
            assert_eq!(Word::read(&bytes(one)), Ok(one));
        }
    }

    /// Each field of a word, against a node at start 5 of process 1 that has voted for (4, 1) and has entries up to 10.
    #[test]
    fn what_was_said_and_is_not_there_is_lost() {
        let mine = session(5, 1);
        let rollback = |word: Word, own: Option<Vote>| word.rollback(mine, || own, |id| id.index <= 10);
        let now = vote(4, 1, true);
        for fine in [
            word(5, 1, now, entry(4, 10)),
            word(4, 8, now, entry(4, 10)),
            word(5, 1, vote(3, 2, true), entry(3, 50)),
            word(5, 1, vote(4, 1, false), None),
            word(1, 2, None, None),
        ] {
            assert_eq!(rollback(fine, now), None, "{fine:?}");
        }
        let superseded = |known| Some(Rollback::Superseded { mine: 5, known });
        assert_eq!(rollback(word(6, 1, None, None), now), superseded(6));
        assert_eq!(rollback(word(5, 2, None, None), now), superseded(5), "another process under the same number");
        for newer in [vote(5, 1, false), vote(4, 2, false), vote(9, 9, true)] {
            assert!(matches!(rollback(word(4, 1, newer, None), now), Some(Rollback::Vote { .. })), "{newer:?}");
        }
        assert!(
            matches!(rollback(word(5, 1, now, None), vote(4, 1, false)), Some(Rollback::Vote { .. })),
            "it had followed"
        );
        assert!(matches!(rollback(word(5, 1, now, None), None), Some(Rollback::Vote { .. })));
        assert_eq!(
            rollback(word(5, 1, now, entry(4, 11)), now),
            Some(Rollback::Entries { acked: 11 }),
            "a resumed machine"
        );
        assert_eq!(rollback(word(4, 1, now, entry(4, 11)), now), Some(Rollback::Entries { acked: 11 }));
        assert_eq!(rollback(word(4, 1, now, entry(4, 11)), vote(5, 2, true)), None, "a newer leader may have cut it");
    }

    #[test]
    fn of_each_process_the_newest_word_is_kept_and_of_each_node_two_processes() {
        let words = Words::default();
        let keep = |word: Word| words.keep(NodeId(3), bytes(word));
        let first = word(4, 1, vote(4, 1, true), entry(4, 10));
        keep(first);
        keep(word(4, 1, vote(4, 1, true), entry(4, 9)));
        keep(word(4, 1, vote(3, 1, true), entry(3, 90)));
        assert_eq!(words.of(NodeId(3)), [bytes(first)], "messages cross");
        let second = word(5, 2, None, None);
        keep(second);
        assert_eq!(
            words.of(NodeId(3)),
            [bytes(second), bytes(first)],
            "a new process says less, and takes nothing back"
        );
        keep(first);
        assert_eq!(words.newest(NodeId(3)), bytes(second), "the old one is over");
        let twin = word(5, 3, vote(5, 1, false), None);
        keep(twin);
        assert_eq!(words.of(NodeId(3)), [bytes(twin), bytes(second)]);
        words.keep(NodeId(4), bytes(first));
        assert!(words.of(NodeId(4)).is_empty(), "nobody speaks for another");

        let kept = words.news().expect("there is news");
        assert_eq!(words.news(), None);
        let again = Words::recovered(Some(&kept));
        assert_eq!((again.of(NodeId(3)), again.news()), (words.of(NodeId(3)), None));
    }

    /// Of a node that said at start 5 that it follows (4, 1) and has acknowledged entry 10 to it.
    #[test]
    fn who_shows_less_than_it_said_is_seen() {
        let words = Words::default();
        let said = bytes(word(5, 1, vote(4, 1, true), entry(4, 10)));
        let shown = |known: &Bytes, now: &Shown| {
            let less = words.shown(NodeId(3), known, now);
            assert_eq!(words.shows_less(NodeId(3)), less);
            less
        };
        let less = |boot, vote, last| shown(&said, &Shown { boot, vote, last, applied: 9 });
        let nothing = Shown { boot: 1, vote: None, last: None, applied: 0 };
        assert!(!shown(&Bytes::new(), &nothing), "it has said nothing");
        words.keep(NodeId(3), said.clone());
        let now = vote(4, 1, true);
        for (boot, vote, last) in [
            (5, now, entry(4, 10)),
            (6, now, entry(4, 12)),
            (5, vote(5, 2, false), entry(3, 2)),
            (5, vote(5, 2, true), None),
        ] {
            assert!(!less(boot, vote, last), "{vote:?} {last:?}");
        }
        assert!(less(4, now, entry(4, 10)), "an earlier start");
        assert!(less(5, vote(4, 1, false), entry(4, 10)) && less(5, vote(3, 1, true), None) && less(5, None, None));
        assert!(less(6, now, entry(4, 9)) && less(5, now, entry(3, 11)) && less(5, now, None));
        assert!(!less(6, now, entry(4, 10)), "it has it again");
        assert!(!shown(&said, &Shown { boot: 5, vote: now, last: None, applied: 10 }), "it is in its state");
        assert!(shown(&said, &nothing));
        assert_eq!(words.acked(NodeId(3), LeaderId::new(4, 1)), entry(4, 10));
        assert_eq!(
            (words.acked(NodeId(3), LeaderId::new(5, 1)), words.acked(NodeId(4), LeaderId::new(4, 1))),
            (None, None)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(told in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Word::read(&told);
            Words::recovered(Some(&Bytes::from(told.clone())));
            Words::default().keep(NodeId(3), told.into());
        }
    }
}
