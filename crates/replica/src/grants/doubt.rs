//! What is held against members: shown in the status, and acted upon where it says so.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use quorate_core::id::NodeId;
use thiserror::Error;
use tokio::time::Instant;

/// How long it is held against a member.
const HELD: Duration = Duration::from_secs(600);

/// Something that an honest member whose disk is whole does not do.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub(crate) enum Doubt {
    /// Or it is this node that lags behind a change of members: then it goes by itself.
    #[error("it claims to lead term {term} without grants of a majority, and is not believed")]
    NotGranted { term: u64 },
    #[error("it tells of term {term}, which no elections can have led to, and is not believed")]
    FarTerm { term: u64 },
    #[error("it tells of one higher term after the other, the last {term}, and is not believed for a while")]
    EndlessTerms { term: u64 },
    #[error("it tells of a vote of this node's in term {term} that this node never gave, and is not believed")]
    FalseVote { term: u64 },
    #[error("it tells a roster of members that the cluster's anchor key has not signed, and is not believed")]
    FalseRoster,
    #[error("as the leader it sent, as entry {index}, members that no signed roster names; it was refused")]
    Unlisted { index: u64 },
    #[error("it tells as this node's own word what this node never said, and is not believed")]
    FalseWord,
    #[error(
        "it shows less than it has said of itself: its disk took something back, or it is hostile; nothing it says counts"
    )]
    ShowsLess,
    #[error(
        "as the leader it contradicted entry {index}, which is applied here: there are two histories, or it is hostile; it \
         gets no vote of this node for 10 minutes"
    )]
    Contradicted { index: u64 },
}

/// The newest doubt about each member; a contradiction stays.
#[derive(Default)]
pub(crate) struct Doubts(Mutex<BTreeMap<NodeId, (Doubt, Instant)>>);

impl Doubts {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<NodeId, (Doubt, Instant)>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn of(&self, id: NodeId) -> Option<Doubt> {
        self.with(|all| all.get(&id).filter(|(_, at)| at.elapsed() < HELD).map(|(doubt, _)| doubt.clone()))
    }

    /// Holds something against a member, and says so once.
    pub(crate) fn note(&self, id: NodeId, doubt: Doubt) {
        let known = self.of(id);
        if matches!(known, Some(Doubt::Contradicted { .. })) && !matches!(doubt, Doubt::Contradicted { .. }) {
            return;
        }
        if known.as_ref() != Some(&doubt) {
            tracing::error!(node = %id, "{doubt}");
        }
        self.with(|all| all.insert(id, (doubt, Instant::now())));
    }

    /// A claim turned out to be true.
    pub(super) fn clear_claim(&self, id: NodeId) {
        self.clear(id, |doubt| matches!(doubt, Doubt::NotGranted { .. }));
    }

    /// It has again what it had said.
    pub(crate) fn clear_shows_less(&self, id: NodeId) {
        self.clear(id, |doubt| *doubt == Doubt::ShowsLess);
    }

    fn clear(&self, id: NodeId, which: impl Fn(&Doubt) -> bool) {
        self.with(|all| {
            if all.get(&id).is_some_and(|(doubt, _)| which(doubt)) {
                all.remove(&id);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_contradiction_is_held_for_ten_minutes_and_a_claim_until_it_turns_out_to_be_true() {
        let doubts = Doubts::default();
        let (a, b) = (NodeId(1), NodeId(2));
        doubts.note(a, Doubt::NotGranted { term: 4 });
        doubts.note(b, Doubt::Contradicted { index: 9 });
        doubts.note(b, Doubt::NotGranted { term: 5 });
        assert_eq!(doubts.of(b), Some(Doubt::Contradicted { index: 9 }));
        doubts.clear_claim(a);
        doubts.clear_claim(b);
        assert_eq!((doubts.of(a), doubts.of(b)), (None, Some(Doubt::Contradicted { index: 9 })));
        tokio::time::advance(HELD - Duration::from_millis(1)).await;
        assert!(doubts.of(b).is_some());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(doubts.of(b), None);
    }
}
