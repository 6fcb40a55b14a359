//! The mark in the node's token (trust.md §2.6): what was certainly on the disk, kept where the disk is not. A data
//! directory that is older than the mark was put back, or its disk lied: a single voter has nobody else to ask.
//!
//! ```text
//! quorate/C/N = 1 ‖ boot u32 ‖ term u64 ‖ applied u64 ‖ tag 16    37 bytes
//! ```
//!
//! The tag is the one that a word bears (trust.md §2.1): what another wrote there, a damaged token tells or a node of this id
//! left behind whose folder was emptied is not believed, and replaced.
//!
//! Whatever is marked was synced here before, so no crash puts a healthy node below its mark. It is written at each
//! start, before this node takes part if the token answers, once an hour (tokens wear) and at a clean stop.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, NodeId};
use tokio::time::Instant;

use crate::error::Rollback;
use crate::log::LogReader;
use crate::node::Base;
use crate::participation::Participation;
use crate::raft::applier::Applier;
use crate::shared::Shared;
use crate::word::{Own, Standing};

const FORMAT: u8 = 1;
/// How often it is written while all goes well.
const EVERY: Duration = Duration::from_secs(3600);
/// How soon it is tried again when the token has refused.
const AGAIN: Duration = Duration::from_secs(600);

/// Keeps a few bytes for this node in its HSM's token.
pub trait Marks: Send + Sync {
    /// What is kept under this label: several values where a crash kept [`Marks::replace`] from its end.
    ///
    /// # Errors
    /// The token fails, or keeps nothing. `TimedOut`: it may do so the next time.
    fn read<'a>(&'a self, label: &'a str) -> BoxFuture<'a, io::Result<Vec<Vec<u8>>>>;

    /// Keeps `value` under this label in the place of all that was there.
    ///
    /// # Errors
    /// As [`Marks::read`]; then the old values, the new one or both are there.
    fn replace<'a>(&'a self, label: &'a str, value: &'a [u8]) -> BoxFuture<'a, io::Result<()>>;
}

/// How far a node is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Mark {
    /// Its start.
    pub(crate) boot: u32,
    /// Term of its newest vote.
    pub(crate) term: u64,
    /// The last entry of its state.
    pub(crate) applied: u64,
}

impl Mark {
    pub(crate) fn encode(&self) -> Vec<u8> {
        Writer::new().u8(FORMAT).u32(self.boot).u64(self.term).u64(self.applied).finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("mark", bytes);
        if r.u8()? != FORMAT {
            return Err(Malformed("mark"));
        }
        let mark = Self { boot: r.u32()?, term: r.u64()?, applied: r.u64()? };
        r.finish()?;
        Ok(mark)
    }

    /// The highest of those that a node has written; each was true.
    pub(crate) fn of(own: &Own, found: &[Vec<u8>]) -> Self {
        let own = found.iter().filter_map(|value| Self::decode(own.untagged(value)?).ok());
        own.fold(Self::default(), Self::max)
    }

    /// The highest of both.
    fn max(self, other: Self) -> Self {
        Self {
            boot: self.boot.max(other.boot),
            term: self.term.max(other.term),
            applied: self.applied.max(other.applied),
        }
    }

    /// What it says that a node lacks which has just begun the start `here.boot`, which is in no mark yet.
    fn rollback(self, here: Self) -> Option<Rollback> {
        if self.boot >= here.boot {
            Some(Rollback::Superseded { mine: here.boot, known: self.boot })
        } else if self.term > here.term {
            Some(Rollback::Vote { mine: here.term, known: self.term })
        } else if self.applied > here.applied {
            Some(Rollback::Applied { mine: here.applied, known: self.applied })
        } else {
            None
        }
    }
}

/// Where a node's mark is kept.
fn label(cluster: ClusterId, node: NodeId) -> String {
    format!("quorate/{cluster}/{node}")
}

/// This node's mark.
pub(crate) struct Marked {
    marks: Arc<dyn Marks>,
    label: String,
    apply: Arc<Applier>,
    /// The one in the token; unknown until it was read and this node found to have what it says.
    known: tokio::sync::Mutex<Option<Mark>>,
    tried: Mutex<Tried>,
}

struct Tried {
    at: Instant,
    /// Why the token has no mark of now.
    failed: Option<String>,
}

impl Marked {
    /// `new`: there is no earlier one.
    pub(crate) fn new(
        marks: Arc<dyn Marks>,
        (cluster, node): (ClusterId, NodeId),
        apply: Arc<Applier>,
        new: bool,
    ) -> Self {
        let known = tokio::sync::Mutex::new(new.then(Mark::default));
        let tried = Mutex::new(Tried { at: Instant::now(), failed: None });
        Self { marks, label: label(cluster, node), apply, known, tried }
    }

    fn failed(&self) -> Option<String> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner).failed.clone()
    }

    /// Whether it was not failing before.
    fn note(&self, failed: Option<String>) -> bool {
        let mut tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        let news = tried.failed != failed;
        *tried = Tried { at: Instant::now(), failed };
        news
    }

    fn is_due(&self) -> bool {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner);
        tried.at.elapsed() >= if tried.failed.is_some() { AGAIN } else { EVERY }
    }
}

/// Marks how far one node is.
pub(crate) struct Marker {
    me: NodeId,
    boot: u32,
    own: Arc<Own>,
    shared: Arc<Shared>,
    journal: LogReader,
    participation: Arc<Participation>,
    marked: Marked,
}

impl Marker {
    pub(crate) fn of(base: &Base, participation: &Arc<Participation>, marked: Marked) -> Self {
        Self {
            me: base.me,
            boot: base.boot,
            own: base.own.clone(),
            shared: base.shared.clone(),
            journal: base.journal.clone(),
            participation: participation.clone(),
            marked,
        }
    }

    /// Why the token does not keep it, if so.
    pub(crate) fn failed(&self) -> Option<String> {
        self.marked.failed()
    }

    /// Has the token keep how far this node is, once it is known to have what the token says. A token that does not do so
    /// keeps this node from nothing: the status tells.
    pub(crate) async fn mark(&self) {
        let failed = self.try_to_mark().await.err().map(|error| {
            format!("its token does not keep this node's mark, by which a data directory that was put back is known ({error})")
        });
        if self.marked.note(failed.clone()) {
            if let Some(failed) = failed {
                tracing::warn!(node = %self.me, label = self.marked.label, "{failed}");
            }
            self.shared.note_change();
        }
    }

    async fn try_to_mark(&self) -> io::Result<()> {
        let Marked { marks, label, apply, known, .. } = &self.marked;
        let mut known = known.lock().await;
        let term = || self.own.vote().map_or(0, |vote| vote.leader_id.term);
        if self.own.standing() == Standing::Lost {
            return Ok(());
        }
        let before = match *known {
            Some(known) => known,
            None => {
                let before = Mark::of(&self.own, &marks.read(label).await?);
                let applied = self.shared.applied_now().max(self.journal.last_index().unwrap_or(0));
                if let Some(rollback) = before.rollback(Mark { boot: self.boot, term: term(), applied }) {
                    self.participation.set_lost(rollback);
                    return Ok(());
                }
                before
            }
        };
        *known = Some(before);
        // A state that was put back alone comes after the log that leads on from it.
        let now =
            before.max(Mark { boot: self.boot, term: term(), applied: apply.checkpoints().durable().unwrap_or(0) });
        if now != before {
            marks.replace(label, &self.own.tagged(now.encode())).await?;
            *known = Some(now);
        }
        Ok(())
    }
}

/// Marks for as long as the replica runs; the first time is the start's.
pub(crate) async fn keep(marker: Arc<Marker>) {
    loop {
        tokio::time::sleep(AGAIN).await;
        if marker.marked.is_due() {
            marker.mark().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_as_written_down() {
        let mark = Mark { boot: 7, term: 4, applied: 12 };
        let bytes = [&[1][..], &7u32.to_be_bytes(), &4u64.to_be_bytes(), &12u64.to_be_bytes()].concat();
        assert_eq!((mark.encode(), Mark::decode(&bytes)), (bytes.clone(), Ok(mark)));
        for len in 0..bytes.len() {
            assert!(Mark::decode(&bytes[..len]).is_err(), "cut at {len}");
        }
        assert!(Mark::decode(&[&bytes[..], &[0]].concat()).is_err());
        assert!(Mark::decode(&[&[2], &bytes[1..]].concat()).is_err(), "another format");
    }

    #[test]
    fn a_disk_below_the_mark_is_lost_and_none_that_is_not() {
        let marked = Mark { boot: 7, term: 4, applied: 12 };
        let here = |boot, term, applied| marked.rollback(Mark { boot, term, applied });
        // The next start, one after starts that did not come so far as to mark, and one that is further.
        for (boot, term, applied) in [(8, 4, 12), (10, 4, 12), (8, 5, 13), (8, 4, 900)] {
            assert_eq!(here(boot, term, applied), None);
        }
        assert_eq!(here(7, 4, 12), Some(Rollback::Superseded { mine: 7, known: 7 }), "from one start earlier");
        assert_eq!(here(2, 9, 90), Some(Rollback::Superseded { mine: 2, known: 7 }));
        assert_eq!(here(8, 3, 12), Some(Rollback::Vote { mine: 3, known: 4 }), "a disk that lied");
        assert_eq!(here(8, 4, 11), Some(Rollback::Applied { mine: 11, known: 12 }));
        assert_eq!(Mark::default().rollback(Mark { boot: 1, term: 0, applied: 0 }), None, "nothing was marked yet");
    }
}
