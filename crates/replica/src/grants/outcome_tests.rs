//! What a hostile leader, elected by the rules, says of the changes that it was given.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::vote::RaftLeaderId;
use quorate_core::batch::{Entry, Outcome};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tonic::Status;

use super::hostile::{Answers, Hostile, vote_id};
use crate::error::ProposeError;
use crate::peer::convert::log_id_out;
use crate::peer::pb;
use crate::raft::codec::to_wire;
use crate::raft::{LeaderId, LogId, Payload, RaftEntry};
use crate::replica::Replica;
use crate::testing::{Cluster, PATIENCE, key, put, soon};

type Answer = Result<pb::ProposeResponse, Status>;

/// A cluster in which one honest node follows a hostile leader, and nobody else is there.
struct Led {
    cluster: Cluster,
    honest: usize,
    hostile: Arc<Hostile>,
    grants: Vec<Bytes>,
    leadership: LeaderId,
    /// What the leader answers, and what it was given.
    says: Arc<Mutex<Answer>>,
    given: Arc<Mutex<Vec<Bytes>>>,
    beats: JoinHandle<()>,
}

impl Led {
    async fn begin() -> Self {
        let cluster = Cluster::voters(3).await;
        let leader = cluster.leader(&[0, 1, 2]).await;
        let (liar, honest) = ((leader + 1) % 3, (leader + 2) % 3);
        // Its session has begun.
        cluster.write(honest, "before", b"1").await;
        for gone in [leader, liar] {
            cluster.nodes[gone].shutdown().await;
        }
        let hostile = Arc::new(Hostile::new(&cluster, liar));
        let says = Arc::new(Mutex::new(Err(Status::unavailable("silent"))));
        let given = Arc::new(Mutex::new(Vec::new()));
        let (answer, took) = (says.clone(), given.clone());
        let propose = move |request: pb::ProposeRequest| {
            if let Some(pb::propose_request::What::Batch(batch)) = request.what {
                took.lock().expect("lock").push(batch);
            }
            answer.lock().expect("lock").clone()
        };
        Answers { propose: Box::new(propose), ..Default::default() }.serve(&cluster.sites[liar]).await;
        let term = cluster.nodes[honest].status().term + 20;
        let grants = hostile.elected_by(&cluster.sites[honest], term).await;
        let leadership = LeaderId::new(term, hostile.id.0);
        let beat = pb::AppendRequest {
            vote: vote_id(term, hostile.id, true),
            grants: grants.clone(),
            prev_log_id: last(&cluster.nodes[honest]).await.as_ref().map(log_id_out),
            ..Default::default()
        };
        let link = hostile.link(&cluster.sites[honest]);
        let beats = tokio::spawn(async move {
            loop {
                let _ = link.control().append(beat.clone()).await;
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        });
        let mut followed = cluster.nodes[honest].leader();
        let followed = followed.wait_for(|now| *now == Some(hostile.id));
        tokio::time::timeout(PATIENCE, followed).await.expect("followed").expect("running");
        Self { cluster, honest, hostile, grants, leadership, says, given, beats }
    }

    fn node(&self) -> &Replica {
        &self.cluster.nodes[self.honest]
    }

    /// Proposes at the honest node, of which the leader says `answer`.
    async fn propose(&self, name: &str, answer: Answer, limit: Duration) -> Result<Outcome, ProposeError> {
        *self.says.lock().expect("lock") = answer;
        let seq = self.node().open_seq(soon()).await.expect("a number");
        self.node().propose(put(seq.id(), name, 0, b"1"), Instant::now() + limit).await
    }

    /// Brings the batch that it was given first into the log, and has it applied.
    async fn append(&self) {
        let batch = self.given.lock().expect("lock").drain(..).next().expect("it was given one");
        let prev = last(self.node()).await.expect("a log");
        let log_id = LogId::new(self.leadership, prev.index + 1);
        let payload = EntryPayload::Normal(Payload(Entry::Batch(batch.to_vec()).encode().into()));
        let request = pb::AppendRequest {
            vote: vote_id(self.leadership.term, self.hostile.id, true),
            prev_log_id: Some(log_id_out(&prev)),
            leader_commit: Some(log_id_out(&log_id)),
            entries: vec![to_wire(&RaftEntry { log_id, payload })],
            grants: self.grants.clone(),
            ..Default::default()
        };
        self.hostile.append(&self.cluster.sites[self.honest], request).await.expect("taken");
        let mut applied = self.node().applied();
        let applied = applied.wait_for(|now| *now >= log_id.index);
        tokio::time::timeout(PATIENCE, applied).await.expect("applied").expect("running");
    }

    fn has(&self, name: &str) -> bool {
        self.node().view().expect("a view").get(&key(name)).expect("readable").is_some()
    }

    async fn end(self) {
        self.beats.abort();
        self.node().shutdown().await;
    }
}

async fn last(node: &Replica) -> Option<LogId> {
    node.node().base.raft.with_raft_state(|state| state.log_ids.last().copied()).await.expect("running")
}

fn says(result: pb::propose_response::Result) -> Answer {
    Ok(pb::ProposeResponse { result: Some(result) })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leader_calls_applied_is_acknowledged_only_once_it_is_applied_here() {
    let led = Led::begin().await;
    let applied = says(pb::propose_response::Result::Sequenced(pb::Nothing {}));
    let answered = led.propose("never", applied.clone(), Duration::from_secs(2)).await;
    assert!(matches!(&answered, Err(ProposeError::Unknown(why)) if why.contains("not been met here")), "{answered:?}");
    assert!(!led.given.lock().expect("lock").is_empty() && !led.has("never"));
    // When it is true, it is met.
    led.given.lock().expect("lock").clear();
    let (answered, ()) = tokio::join!(led.propose("true", applied, PATIENCE), async {
        while led.given.lock().expect("lock").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        led.append().await;
    });
    assert!(matches!(answered, Ok(Outcome::Applied(_))), "{answered:?}");
    led.end().await;
}

/// Whatever it says of what it was given, it may bring it into the log afterwards: nobody is told that nothing was changed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_leader_calls_refused_may_be_applied_yet() {
    use pb::propose_response::Result as R;
    let led = Led::begin().await;
    let no_space = |moving| R::NoSpace(pb::NoSpace { why: "short of disk space".into(), moving });
    for (name, answer) in [
        ("refused", says(R::Refused("no".into()))),
        ("not the leader", says(R::NotLeader(0))),
        ("no space", says(no_space(false))),
        ("no space now", says(no_space(true))),
        ("a claim", says(R::Claim(pb::VoteId { term: led.leadership.term, node: led.hostile.id.0, committed: true }))),
        ("busy", Err(Status::resource_exhausted("busy"))),
        ("denied", Err(Status::permission_denied("no"))),
    ] {
        led.given.lock().expect("lock").clear();
        let answered = led.propose(name, answer, Duration::from_millis(400)).await;
        assert!(matches!(answered, Err(ProposeError::Unknown(_))), "{name}: {answered:?}");
        assert!(!led.has(name));
        led.append().await;
        assert!(led.has(name), "{name}");
    }
    led.end().await;
}
