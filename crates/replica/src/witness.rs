//! Who starts asks a majority what they know of it (trust.md §2.3). Until they have answered, and none knows more of it than
//! it knows itself, it neither votes nor acknowledges anything: what it may have promised before lies in the others' minds
//! too, and a data directory that was put back from a copy would promise it again, to another.
//!
//! That costs no availability: without a majority nothing moves anyway, and who asks answers others that ask.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver as _;
use quorate_core::id::NodeId;
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Status;

use crate::error::{Problem, Rollback};
use crate::grants::Doubt;
use crate::log::{Command, LogWriter};
use crate::member::MembershipView;
use crate::node::Node;
use crate::raft::codec::decode_log_id;
use crate::raft::{LeaderId, LogId};
use crate::word::Standing;

/// How often who asks asks again.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// How often the others' words are written down.
const KEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Who has answered this process.
#[derive(Default)]
pub(crate) struct Witness {
    answered: Mutex<BTreeSet<NodeId>>,
    news: Notify,
}

impl Node {
    /// What a member, in answer to this process, said it is. Who lost its own past witnesses nobody's.
    pub(crate) fn witnessed_by(&self, from: NodeId, standing: u32) {
        if standing != Standing::Lost as u32 {
            let first = self.witness.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(from);
            if first {
                self.witness.news.notify_one();
            }
        }
    }

    /// What a member says that this node has said.
    pub(crate) fn judge_words<'a>(&self, teller: NodeId, words: impl IntoIterator<Item = &'a Bytes>) {
        for word in words {
            match self.own.judge(word, |id| self.has(id)) {
                Ok(None) => {}
                Ok(Some(rollback)) => return self.set_lost(rollback),
                Err(_) => self.grants.doubts.note(teller, Doubt::FalseWord),
            }
        }
    }

    /// What anybody says that this node has said; what is no word of its own tells nothing of anybody.
    pub(crate) fn judge_told(&self, word: &Bytes) {
        if let Ok(Some(rollback)) = self.own.judge(word, |id| self.has(id)) {
            self.set_lost(rollback);
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

    /// This node was rolled back: it takes no further part, for others count on its answers.
    pub(crate) fn set_lost(&self, rollback: Rollback) {
        if self.own.set_lost() {
            self.review_candidacy();
            self.shared.set_problem(Problem::Lost(rollback));
        }
    }

    /// Whether this node may ask for votes.
    pub(crate) fn may_campaign(&self) -> bool {
        self.own.standing() == Standing::TakesPart && self.clock.may_lead()
    }

    /// The one place that says so to Raft.
    pub(crate) fn review_candidacy(&self) {
        self.raft.runtime_config().elect(self.may_campaign());
    }

    /// The leadership that this node has promised to follow; who does not take part promises nothing.
    pub(crate) fn promised(&self) -> Option<LeaderId> {
        self.promise.now().filter(|_| self.own.standing() == Standing::TakesPart)
    }

    /// Refuses what only a member may answer that is known to have all that it said, and whose consensus core runs.
    pub(crate) fn takes_part(&self) -> Result<(), Status> {
        match self.own.standing() {
            Standing::TakesPart => {}
            Standing::Asking => {
                return Err(Status::failed_precondition(
                    "this node has just started, and first asks what is known of it",
                ));
            }
            Standing::Lost => return Err(Status::failed_precondition("this node has less than it had acknowledged")),
        }
        if self.raft.metrics().borrow_watched().running_state.is_err() {
            return Err(Status::failed_precondition("this node has stopped taking part; its status says why"));
        }
        Ok(())
    }

    /// Of which voters a majority must answer: those of the newest membership in the log, or of the newest roster known.
    async fn electorates(&self) -> Vec<MembershipView> {
        let listed = self.shared.members.listed().map(|listed| (*listed).clone());
        let known = std::iter::once(self.effective_now().await).chain(listed);
        known.filter(|view| !view.voters.is_empty()).collect()
    }
}

/// Asks until a majority has answered and the token too, then takes part. Who is a majority by itself has nobody to ask, and
/// may be a folder of a time before there were others: it listens for a while, since those come to it.
pub(crate) async fn ask(node: Arc<Node>, listening: Duration) {
    tokio::join!(node.mark(), ask_others(&node, Instant::now() + listening));
    if node.own.take_part() {
        tracing::info!(node = %node.me, "a majority knows nothing of this node that it does not know itself: it takes part");
        node.review_candidacy();
        node.hello.notify_one();
        node.shared.note_change();
    }
}

async fn ask_others(node: &Node, listen_until: Instant) {
    while node.own.standing() == Standing::Asking {
        let electorates = node.electorates().await;
        let mut answered = node.witness.answered.lock().unwrap_or_else(PoisonError::into_inner).clone();
        answered.retain(|id| node.shared.members.has(*id));
        answered.insert(node.me);
        // Without voters there was nobody to promise anything to.
        let enough = electorates.is_empty() || electorates.iter().any(|voters| voters.is_majority(&answered));
        let alone = answered.len() == 1 && !electorates.is_empty();
        if enough && (!alone || Instant::now() >= listen_until) {
            break;
        }
        node.hello.notify_one();
        let _ = tokio::time::timeout(ASK_INTERVAL, node.witness.news.notified()).await;
    }
}

/// Writes the others' words down, for as long as the replica runs.
pub(crate) async fn keep(node: Arc<Node>, writer: LogWriter) {
    loop {
        tokio::time::sleep(KEEP_INTERVAL).await;
        if !write_down(&node, &writer).await {
            return;
        }
    }
}

/// Whether the journal took them.
pub(crate) async fn write_down(node: &Node, writer: &LogWriter) -> bool {
    match node.words.news() {
        Some(words) => writer.append(vec![Command::Seen(words)], Box::new(|_| ())).await.is_ok(),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use openraft::vote::RaftLeaderId as _;

    use super::*;
    use crate::raft::Vote;
    use crate::testing::Cluster;
    use crate::word::Word;

    /// What one member says that another has said makes nobody lost, unless that one did say it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_a_node_s_own_word_makes_it_lost() {
        let cluster = Cluster::voters(1).await;
        let (node, liar) = (cluster.nodes[0].node(), NodeId(9));
        let mine = node.own.word();
        let session = node.shared.sequences.session();
        for at in 0..mine.len() {
            let mut changed = mine.to_vec();
            changed[at] ^= 1;
            node.judge_words(liar, [&Bytes::from(changed)]);
        }
        node.judge_words(liar, [&mine, &mine.slice(1..), &Bytes::new()]);
        assert_eq!((node.own.standing(), cluster.nodes[0].problem()), (Standing::TakesPart, None));
        assert_eq!(node.grants.doubts.of(liar), Some(Doubt::FalseWord));
        // The next leadership's word, as a later process of this node would have said it.
        let vote = Vote { leader_id: LeaderId::new(99, 1), committed: false };
        let said = node.own.say(Word { session, vote: Some(vote), acked: None });
        node.judge_words(liar, [&said]);
        assert_eq!(node.own.standing(), Standing::Lost);
        assert!(matches!(cluster.nodes[0].problem(), Some(Problem::Lost(Rollback::Vote { known: 99, .. }))));
        assert!(node.takes_part().is_err() && node.own.word().is_empty() && !node.may_campaign());
        assert_eq!(node.promised(), None);
        cluster.stop().await;
    }
}
