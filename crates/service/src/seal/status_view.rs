//! Puts the status together: what this node's replica knows of the members, and what they say of themselves.

use std::sync::atomic::Ordering;

use quorate_core::authorize::{ReadStatus, authorize};
use quorate_core::id::NodeId;
use quorate_core::principal::Principal;
use quorate_crypto::HsmAlg;
use quorate_replica::{Closed, Member, Quorum, Replica, ReplicaStatus, Role};

use super::hello::AppHello;
use super::open::SealState;
use super::statement::as_member;
use super::status::{CeremonyStatus, Health, NodeStatus, Status};
use super::verdict::{Facts, Joining, Verdict, judge};
use crate::error::Error;
use crate::node::{Node, State};

impl Node {
    /// The cluster as this node sees it; answered in every state.
    ///
    /// # Errors
    /// [`Error::Denied`].
    pub fn status(&self, caller: &Principal) -> Result<Status, Error> {
        authorize::<ReadStatus>(caller)?;
        let state = self.current();
        let replica = state.replica();
        let status = replica.map(|r| r.status());
        let view = replica.and_then(|r| r.view().ok());
        let seal = view
            .as_ref()
            .and_then(|view| SealState::read(view, self.config.name.as_str(), &self.pins.get()).ok().flatten());
        // Before genesis there are no records whose digest could tell anything.
        let digest = view.filter(|_| seal.is_some()).and_then(|view| Some((view.applied(), view.digest().ok()?)));
        let nodes = self.members_seen(&state, status.as_ref());
        let ceremony = self.open_ceremony(status.as_ref());
        let ceremony = ceremony.map(|c| seal.iter().fold(c, |c, seal| c.labelled(&seal.config)));
        Ok(Status {
            cluster: self.config.cluster,
            lineage: seal.as_ref().map(|s| s.config.lineage),
            seal: seal.as_ref().map(|s| (s.config.generation, s.config.fingerprint())),
            // Without a majority nobody leads, whoever was elected last.
            leader: status.as_ref().filter(|s| s.quorum.is_present()).and_then(|s| s.leader),
            verdicts: self.judged(status.as_ref(), &nodes, ceremony.as_ref()),
            quorum: status.as_ref().map(|s| s.quorum.clone()).unwrap_or_default(),
            nodes,
            ceremony,
            cluster_time_ms: status.as_ref().map_or(0, |s| s.cluster_time_ms),
            term: status.as_ref().map_or(0, |s| s.term),
            level: status.as_ref().map(|s| s.level),
            answered_by: self.config.name.to_string(),
            dev: seal.map_or(self.config.dev, |s| s.config.flags.dev),
            health: state.health(),
            digest,
        })
    }

    /// What state the cluster is in, the gravest first; as [`Self::status`] tells it.
    pub fn verdicts(&self) -> Vec<Verdict> {
        let state = self.current();
        let status = state.replica().map(|r| r.status());
        let nodes = self.members_seen(&state, status.as_ref());
        self.judged(status.as_ref(), &nodes, self.open_ceremony(status.as_ref()).as_ref())
    }

    fn judged(
        &self,
        status: Option<&ReplicaStatus>,
        nodes: &[NodeStatus],
        ceremony: Option<&CeremonyStatus>,
    ) -> Vec<Verdict> {
        let (why, fingerprint) = (self.problem(), self.keys.fingerprint());
        let approve = self.awaits_approval.load(Ordering::Relaxed).then_some(fingerprint.as_str());
        judge(&Facts {
            joining: self.config.join.as_ref().map(|_| Joining { approve, why: &why }),
            disowned: status.is_some_and(|s| s.disowned),
            quorum: status.map(|s| s.quorum.clone()).unwrap_or_default(),
            nodes,
            ceremony,
            handing_over: &self.handing_over(),
            time_held_ms: status.and_then(|s| s.time_held_ms),
            cluster_time_ms: status.map_or(0, |s| s.cluster_time_ms),
            reference_ms: status.and_then(|s| s.reference_ms),
            now_ms: self.world.wall.now_ms(),
        })
    }

    /// Which voters this node has to work with; before it belongs to a cluster it misses none.
    pub fn quorum(&self) -> Quorum {
        self.current().replica().map(Replica::quorum).unwrap_or_default()
    }

    /// Whether this node's disk is nearly full.
    pub fn is_low_on_space(&self) -> bool {
        self.current().replica().is_some_and(|r| r.space().low)
    }

    /// The identity keys (SPKI, DER) that committed membership pins, by node name; for the TLS between nodes.
    pub fn pinned_identities(&self) -> Vec<(String, Vec<u8>)> {
        let status = self.current().replica().map(|r| r.status());
        let members = status.iter().flat_map(|s| s.members().values());
        members.map(|m| (m.name.clone(), m.identity_spki.clone())).collect()
    }

    fn members_seen(&self, state: &State, status: Option<&ReplicaStatus>) -> Vec<NodeStatus> {
        let Some(status) = status else { return vec![self.lone_status(state.health())] };
        let furthest = status.peers.iter().map(|p| p.applied).chain([status.last_log]).max().unwrap_or(0);
        let mut nodes = Vec::new();
        for (id, member) in status.members() {
            nodes.push(if *id == status.id {
                self.own_node_status(status, member, furthest)
            } else {
                self.peer_node_status(status, *id, member, furthest)
            });
        }
        if nodes.is_empty() {
            // A joiner that has not caught up with its own membership.
            nodes.push(NodeStatus { id: status.id.0, role: "learner".into(), ..self.lone_status(state.health()) });
        }
        nodes
    }

    fn own_node_status(&self, status: &ReplicaStatus, member: &Member, furthest: u64) -> NodeStatus {
        let hello = self.app_hello();
        let problem = status.problem.as_ref().map_or(hello.problem.clone(), ToString::to_string);
        let problem = if status.disowned { REMOVED.to_owned() } else { problem };
        NodeStatus {
            id: status.id.0,
            role: role(status, status.id),
            voter: status.membership.is_voter(status.id),
            reachable: true,
            applied_index: status.applied,
            level: Some(status.speaks),
            lag: furthest.saturating_sub(status.applied),
            problem,
            clock_offset_ms: status.clock_offset_ms,
            free_bytes: status.space.free_bytes,
            low_space: status.space.low,
            ..described(member, Some(&hello))
        }
    }

    fn peer_node_status(&self, status: &ReplicaStatus, id: NodeId, member: &Member, furthest: u64) -> NodeStatus {
        let peer = status.peers.iter().find(|p| p.id == id);
        let hello = peer.and_then(|p| AppHello::decode(&p.app_hello).ok());
        let closed = peer.and_then(|p| p.closed);
        let reachable = peer.is_some_and(|p| p.reachable) && closed.is_none();
        let applied = peer.map_or(0, |p| p.applied);
        let unreached = || match peer {
            Some(p) => match (&p.error, p.age) {
                (Some(e), _) => e.clone(),
                (None, Some(age)) => format!("not heard of for {} s", age.as_secs()),
                (None, None) => "never heard of".into(),
            },
            None => "never heard of".into(),
        };
        let problem = if reachable { hello.as_ref().map_or(String::new(), |h| h.problem.clone()) } else { unreached() };
        let described = described(member, hello.as_ref());
        let health = match closed {
            Some(Closed::Damaged) => Some(Health::Damaged),
            Some(Closed::UpgradeNeeded) => Some(Health::UpgradeNeeded),
            None => described.health,
        };
        NodeStatus {
            id: id.0,
            role: role(status, id),
            voter: status.membership.is_voter(id),
            reachable,
            applied_index: applied,
            level: peer.and_then(|p| p.level),
            lag: furthest.saturating_sub(applied),
            problem,
            doubt: peer.and_then(|p| p.doubt.clone()),
            clock_offset_ms: peer.and_then(|p| p.clock_offset_ms),
            free_bytes: peer.map_or(0, |p| p.free_bytes),
            low_space: peer.is_some_and(|p| p.low_space),
            closed: closed.is_some(),
            health,
            ..described
        }
    }

    /// A node without a replica.
    fn lone_status(&self, health: Health) -> NodeStatus {
        let hello = self.app_hello();
        NodeStatus {
            reachable: true,
            sealed: health != Health::Ok,
            level: Some(self.config.levels.highest),
            problem: hello.problem.clone(),
            ..described(&as_member(&self.own_statement()), Some(&hello))
        }
    }

    /// The ceremony open here; else the furthest one that another member tells of.
    fn open_ceremony(&self, status: Option<&ReplicaStatus>) -> Option<CeremonyStatus> {
        if let Some(own) = self.ceremony.progress() {
            return Some(self.ceremony_status(&own));
        }
        let peers = status.into_iter().flat_map(|s| s.peers.iter().map(move |p| (s, p)));
        let theirs = peers.filter(|(_, p)| p.reachable).filter_map(|(s, p)| {
            let ceremony = AppHello::decode(&p.app_hello).ok()?.ceremony?;
            let left = ceremony.left.checked_sub(p.age?)?;
            Some(CeremonyStatus {
                id: ceremony.id,
                node: s.members().get(&p.id)?.name.clone(),
                threshold: ceremony.threshold,
                entered: ceremony.entered,
                labels: Vec::new(),
                expires_ms: self.world.wall.now_ms().saturating_add(left.as_millis() as u64),
            })
        });
        // Of two equally far ones every node names the same.
        theirs.max_by_key(|c| (c.entered.len(), std::cmp::Reverse(c.node.clone())))
    }
}

/// What a node that finds itself disowned says of itself.
const REMOVED: &str = "removed from the cluster: the other members no longer know its identity key";

fn role(status: &ReplicaStatus, id: NodeId) -> String {
    let word = match (id == status.id, status.role) {
        (true, Role::Learner) => "learner",
        (true, Role::Candidate) => "candidate",
        // Without a majority it leads nobody.
        (true, Role::Leader) if !status.quorum.is_present() => "follower",
        (true, Role::Leader) => "leader",
        (true, Role::Follower) => "follower",
        (false, _) if status.leader == Some(id) && status.quorum.is_present() => "leader",
        (false, _) if status.membership.is_voter(id) => "follower",
        (false, _) => "learner",
    };
    word.into()
}

/// What membership and its own word say of a node.
fn described(member: &Member, hello: Option<&AppHello>) -> NodeStatus {
    NodeStatus {
        name: member.name.clone(),
        api: member.api_addr.clone(),
        peer: member.peer_addr.clone(),
        health: hello.map(|h| h.health),
        sealed: hello.is_none_or(|h| h.health != Health::Ok),
        assurance: hello.map(|h| h.assurance.clone()).unwrap_or_default(),
        hsm_algorithm: HsmAlg::from_byte(member.kem_alg).map(|alg| alg.as_str().to_owned()).unwrap_or_default(),
        version: hello.map(|h| h.version.clone()).unwrap_or_default(),
        certificate_ends_ms: hello.map_or(0, |h| h.certificate_ends_ms),
        ..NodeStatus::default()
    }
}
