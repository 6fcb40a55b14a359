//! Who starts asks a majority what they know of it (trust.md §2.3). Until they have answered, and none knows more of it than
//! it knows itself, it neither votes nor acknowledges anything: what it may have promised before lies in the others' minds
//! too, and a data directory that was put back from a copy would promise it again, to another.
//!
//! That costs no availability: without a majority nothing moves anyway, and who asks answers others that ask.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use quorate_core::id::NodeId;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::grants::{Doubt, Grants};
use crate::log::{Command, LogReader, LogWriter};
use crate::mark::Marker;
use crate::member::MembershipView;
use crate::node::Base;
use crate::participation::Participation;
use crate::raft::codec::decode_log_id;
use crate::raft::{LogId, Raft, effective_now};
use crate::shared::Shared;
use crate::word::{Own, Standing, Words};

/// After so long without a majority it is told.
const TOLD_AFTER: Duration = Duration::from_secs(5);
/// How often who asks asks again.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// How often the others' words are written down.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);

/// What the others know of this node's past, and who of them has answered this process.
pub(crate) struct Witness {
    me: NodeId,
    own: Arc<Own>,
    shared: Arc<Shared>,
    journal: LogReader,
    raft: Raft,
    grants: Arc<Grants>,
    participation: Arc<Participation>,
    hello: Arc<Notify>,
    answered: Mutex<BTreeSet<NodeId>>,
    news: Notify,
}

impl Witness {
    pub(crate) fn of(base: &Base, participation: &Arc<Participation>) -> Self {
        Self {
            me: base.me,
            own: base.own.clone(),
            shared: base.shared.clone(),
            journal: base.journal.clone(),
            raft: base.raft.clone(),
            grants: base.grants.clone(),
            participation: participation.clone(),
            hello: base.hello.clone(),
            answered: Mutex::default(),
            news: Notify::new(),
        }
    }

    /// What a member, in answer to this process, said it is. Who lost its own past witnesses nobody's.
    pub(crate) fn answered_by(&self, from: NodeId, standing: u32) {
        if standing != Standing::Lost as u32 {
            let first = self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(from);
            if first {
                self.news.notify_one();
            }
        }
    }

    /// What a member says that this node has said.
    pub(crate) fn judge<'a>(&self, teller: NodeId, words: impl IntoIterator<Item = &'a Bytes>) {
        for word in words {
            match self.own.judge(word, |id| self.has(id)) {
                Ok(None) => {}
                Ok(Some(rollback)) => return self.participation.set_lost(rollback),
                Err(_) => self.grants.doubts.note(teller, Doubt::FalseWord),
            }
        }
    }

    /// What anybody says that this node has said; what is no word of its own tells nothing of anybody.
    pub(crate) fn judge_told(&self, word: &Bytes) {
        if let Ok(Some(rollback)) = self.own.judge(word, |id| self.has(id)) {
            self.participation.set_lost(rollback);
        }
    }

    /// Whether an entry is in the log here, or in the state.
    fn has(&self, id: &LogId) -> bool {
        // What can't be read now is not known to be gone. The log first: what it lets go of is applied by then.
        let Ok(logged) = self.journal.entry(id.index) else { return true };
        let logged = logged.and_then(|entry| decode_log_id(&entry.id).ok());
        logged == Some(*id)
            || self.shared.applied_id().is_some_and(|applied| *id <= applied && id.index <= applied.index)
    }

    /// Of which voters a majority must answer: those of the newest membership in the log, or of the newest roster known.
    async fn electorates(&self) -> Vec<MembershipView> {
        let listed = self.shared.members.listed().map(|listed| (*listed).clone());
        let known = std::iter::once(effective_now(&self.raft).await).chain(listed);
        known.filter(|view| !view.voters.is_empty()).collect()
    }

    /// Asks until a majority has answered, and who is one by itself until `listen_until`.
    async fn ask_others(&self, listen_until: Instant) {
        let (begun, mut told) = (Instant::now(), false);
        while self.own.standing() == Standing::Asking {
            let electorates = self.electorates().await;
            let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner).clone();
            answered.retain(|id| self.shared.members.has(*id));
            answered.insert(self.me);
            // Without voters there was nobody to promise anything to.
            let enough = electorates.is_empty() || electorates.iter().any(|voters| voters.is_majority(&answered));
            let alone = answered.len() == 1 && !electorates.is_empty();
            if enough && (!alone || Instant::now() >= listen_until) {
                break;
            }
            if !told && begun.elapsed() >= TOLD_AFTER {
                told = true;
                let voters = electorates.iter().flat_map(MembershipView::voter_ids).filter(|id| !answered.contains(id));
                let silent: BTreeSet<_> = voters.map(|id| self.shared.members.name_of(id)).collect();
                let waits_for = silent.into_iter().collect::<Vec<_>>().join(", ");
                tracing::warn!(
                    waits_for,
                    "no majority answers: nothing is served before one does; start the others, or look at the network"
                );
            }
            self.hello.notify_one();
            let _ = tokio::time::timeout(ASK_INTERVAL, self.news.notified()).await;
        }
    }
}

/// Asks until a majority has answered and the token too, then takes part. Who is a majority by itself has nobody to ask, and
/// may be a folder of a time before there were others: it listens for a while, since those come to it.
pub(crate) async fn ask(witness: Arc<Witness>, marker: Arc<Marker>, listening: Duration) {
    tokio::join!(marker.mark(), witness.ask_others(Instant::now() + listening));
    if witness.participation.begin() {
        tracing::info!("a majority knows nothing of this node that it does not know itself: it takes part");
        witness.hello.notify_one();
    }
}

/// Writes the others' words down, for as long as the replica runs.
pub(crate) async fn keep(words: Arc<Words>, writer: LogWriter) {
    loop {
        tokio::time::sleep(KEEP_INTERVAL).await;
        if !write_down(&words, &writer).await {
            return;
        }
    }
}

/// Whether the journal took them.
pub(crate) async fn write_down(words: &Words, writer: &LogWriter) -> bool {
    match words.news() {
        Some(words) => writer.append(vec![Command::Seen(words)], Box::new(|_| ())).await.is_ok(),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId as _;

    use super::*;
    use crate::error::{Problem, Rollback};
    use crate::raft::{LeaderId, Vote};
    use crate::testing::Cluster;
    use crate::word::Word;

    /// What one member says that another has said makes nobody lost, unless that one did say it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_a_node_s_own_word_makes_it_lost() {
        let cluster = Cluster::voters(1).await;
        let (node, liar) = (cluster.nodes[0].node(), NodeId(9));
        let mine = node.base.own.word();
        let session = node.base.shared.sequences.session();
        for at in 0..mine.len() {
            let mut changed = mine.to_vec();
            changed[at] ^= 1;
            node.witness.judge(liar, [&Bytes::from(changed)]);
        }
        node.witness.judge(liar, [&mine, &mine.slice(1..), &Bytes::new()]);
        assert_eq!((node.base.own.standing(), cluster.nodes[0].problem()), (Standing::TakesPart, None));
        assert_eq!(node.base.grants.doubts.of(liar), Some(Doubt::FalseWord));
        // The next leadership's word, as a later process of this node would have said it.
        let vote = Vote { leader_id: LeaderId::new(99, 1), committed: false };
        let said = node.base.own.say(Word { session, vote: Some(vote), acked: None });
        node.witness.judge(liar, [&said]);
        assert_eq!(node.base.own.standing(), Standing::Lost);
        assert!(matches!(cluster.nodes[0].problem(), Some(Problem::Lost(Rollback::Vote { known: 99, .. }))));
        assert!(
            node.participation.check().is_err()
                && node.base.own.word().is_empty()
                && !node.participation.may_campaign()
        );
        assert_eq!(node.participation.promised(), None);
        cluster.stop().await;
    }
}
