//! Puts the status together: what this node's replica knows of the members, and what they say of themselves.

use quorate_core::authorize::{ReadStatus, authorize};
use quorate_core::id::NodeId;
use quorate_core::principal::Principal;
use quorate_core::time::utc;
use quorate_crypto::HsmAlg;
use quorate_replica::{Member, OFFSET_ALARM_MS, OUTRUN_MAX_MS, ReplicaStatus, Role};

use super::hello::AppHello;
use super::open::SealState;
use super::statement::as_member;
use super::status::{CeremonyStatus, Health, NodeStatus, Status};
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
        let nodes = match &status {
            Some(status) => self.node_statuses(status),
            None => vec![self.lone_status(state.health())],
        };
        let ceremony = self.open_ceremony(status.as_ref());
        Ok(Status {
            cluster: self.config.cluster,
            lineage: seal.as_ref().map(|s| s.config.lineage),
            seal: seal.as_ref().map(|s| (s.config.generation, s.config.fingerprint())),
            leader: status.as_ref().and_then(|s| s.leader),
            hint: self.hint(&state, status.as_ref(), &nodes, ceremony.as_ref()),
            nodes,
            ceremony,
            cluster_time_ms: status.as_ref().map_or(0, |s| s.cluster_time_ms),
            level: status.as_ref().map(|s| s.level),
            answered_by: self.config.name.to_string(),
            dev: seal.map_or(self.config.dev, |s| s.config.flags.dev),
            health: state.health(),
            digest,
        })
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

    fn node_statuses(&self, status: &ReplicaStatus) -> Vec<NodeStatus> {
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
            nodes.push(NodeStatus { id: status.id.0, role: "learner".into(), ..self.lone_status(self.health()) });
        }
        nodes
    }

    fn own_node_status(&self, status: &ReplicaStatus, member: &Member, furthest: u64) -> NodeStatus {
        let hello = self.app_hello();
        let problem = status.problem.as_ref().map_or(hello.problem.clone(), ToString::to_string);
        let problem = if status.is_disowned() { REMOVED.to_owned() } else { problem };
        let space = status.space;
        let problem = with_space(problem, space.low, space.free_bytes);
        let problem = with_clock(problem, status.clock_offset_ms);
        NodeStatus {
            id: status.id.0,
            role: role(status, status.id),
            voter: status.membership.is_voter(status.id),
            reachable: true,
            applied_index: status.applied,
            level: Some(status.speaks),
            lag: furthest.saturating_sub(status.applied),
            problem,
            free_bytes: space.free_bytes,
            low_space: space.low,
            ..described(member, Some(&hello))
        }
    }

    fn peer_node_status(&self, status: &ReplicaStatus, id: NodeId, member: &Member, furthest: u64) -> NodeStatus {
        let peer = status.peers.iter().find(|p| p.id == id);
        let hello = peer.and_then(|p| AppHello::decode(&p.app_hello).ok());
        let reachable = peer.is_some_and(|p| p.reachable);
        let applied = peer.map_or(0, |p| p.applied);
        let unreached = || match peer {
            Some(p) => match (&p.error, p.age) {
                (Some(e), _) => format!("not reachable: {e}"),
                (None, Some(age)) => format!("not heard of for {} s", age.as_secs()),
                (None, None) => "never heard of".into(),
            },
            None => "never heard of".into(),
        };
        let problem = if reachable { hello.as_ref().map_or(String::new(), |h| h.problem.clone()) } else { unreached() };
        let (low_space, free_bytes) = peer.map_or((false, 0), |p| (p.low_space, p.free_bytes));
        let problem = with_space(problem, low_space, free_bytes);
        let problem = with(problem, peer.and_then(|p| p.doubt.clone()));
        let problem = with_clock(problem, peer.and_then(|p| p.clock_offset_ms));
        NodeStatus {
            id: id.0,
            role: role(status, id),
            voter: status.membership.is_voter(id),
            reachable,
            applied_index: applied,
            level: peer.and_then(|p| p.level),
            lag: furthest.saturating_sub(applied),
            problem,
            free_bytes,
            low_space,
            ..described(member, hello.as_ref())
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
                expires_ms: self.world.wall.now_ms().saturating_add(left.as_millis() as u64),
            })
        });
        // Of two equally far ones every node names the same.
        theirs.max_by_key(|c| (c.entered.len(), std::cmp::Reverse(c.node.clone())))
    }

    fn hint(
        &self,
        state: &State,
        status: Option<&ReplicaStatus>,
        nodes: &[NodeStatus],
        ceremony: Option<&CeremonyStatus>,
    ) -> String {
        let problem = self.problem();
        match state {
            State::Uninitialized(_) if self.config.join.is_some() => {
                return if problem.is_empty() { "joining".into() } else { problem };
            }
            State::Uninitialized(_) => {
                return "found a cluster here with `quorate operator init --shares 5 --threshold 3`, or let this node \
                        join one: `quorate operator members invite` on a member"
                    .into();
            }
            State::Stopped { why, .. } => return why.what().to_owned(),
            State::Sealed(_) | State::Unsealed(_) => {}
        }
        if status.is_some_and(|s| s.is_disowned()) {
            return "take this node out of service, or let it join anew: with an empty data_dir, after `quorate operator \
                    members invite` on a member"
                .into();
        }
        if let Some(ms) = status.and_then(|s| s.time_held_ms) {
            return format!(
                "cluster time stands still: the leader's clock says {}, and nobody can witness the jump; check that clock, \
                 then `quorate operator confirm-time` at an unsealed node",
                utc(ms)
            );
        }
        if let Some((ms, clocks_ms)) = status.and_then(|s| Some((s.cluster_time_ms, s.reference_ms?)))
            && ms > clocks_ms.saturating_add(OUTRUN_MAX_MS)
        {
            return format!(
                "cluster time, {}, is ahead of the nodes' clocks, {}: if those are right, `quorate operator confirm-time` sets \
                 it back",
                utc(ms),
                utc(clocks_ms)
            );
        }
        if let Some(c) = ceremony {
            let missing = usize::from(c.threshold).saturating_sub(c.entered.len());
            return format!("a ceremony is open at {}: {missing} more share(s), `quorate operator unseal`", c.node);
        }
        let low: Vec<&str> = nodes.iter().filter(|n| n.low_space).map(|n| n.name.as_str()).collect();
        if !low.is_empty() {
            return format!(
                "make room on the disk of {}: it goes on by itself at twice its limit (log.low_space_mib)",
                low.join(", ")
            );
        }
        if status.is_some_and(|s| s.leader.is_none()) {
            return "no leader: a majority of the voters has to be up and reach each other".into();
        }
        let sealed: Vec<&str> = nodes.iter().filter(|n| n.reachable && n.sealed).map(|n| n.name.as_str()).collect();
        match (sealed.is_empty(), sealed.len() == nodes.iter().filter(|n| n.reachable).count()) {
            (false, true) => {
                "the cluster is sealed: custodians enter their shares with `quorate operator unseal`".into()
            }
            (false, false) => {
                format!("sealed: {}; custodians unseal with `quorate operator unseal`", sealed.join(", "))
            }
            (true, _) => match nodes.iter().filter(|n| n.voter).count() {
                2 => "two voters stop when either fails: promote a third".into(),
                _ => String::new(),
            },
        }
    }
}

/// What a node that finds itself disowned says of itself.
const REMOVED: &str = "removed from the cluster: the other members no longer know its identity key";

/// What is wrong with a node, its disk included.
fn with_space(problem: String, low: bool, free_bytes: u64) -> String {
    with(problem, low.then(|| format!("short of disk space: {} MiB free", free_bytes >> 20)))
}

/// One more thing that is wrong.
fn with(problem: String, more: Option<String>) -> String {
    match more {
        Some(more) if problem.is_empty() => more,
        Some(more) => format!("{problem}; {more}"),
        None => problem,
    }
}

/// The same, its clock included.
fn with_clock(problem: String, offset_ms: Option<i64>) -> String {
    match offset_ms {
        Some(ms) if ms.saturating_abs() > OFFSET_ALARM_MS => {
            let side = if ms > 0 { "ahead of" } else { "behind" };
            let seconds = ms.unsigned_abs() / 1000;
            let off = format!("its clock is {seconds} s {side} the majority's: set it right (chrony, ntpd)");
            with(problem, Some(off))
        }
        _ => problem,
    }
}

fn role(status: &ReplicaStatus, id: NodeId) -> String {
    let word = match (id == status.id, status.role) {
        (true, Role::Learner) => "learner",
        (true, Role::Candidate) => "candidate",
        (true, Role::Leader) => "leader",
        (true, Role::Follower) => "follower",
        (false, _) if status.leader == Some(id) => "leader",
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
        sealed: hello.is_none_or(|h| h.health != Health::Ok),
        assurance: hello.map(|h| h.assurance.clone()).unwrap_or_default(),
        hsm_algorithm: HsmAlg::from_byte(member.kem_alg).map(|alg| alg.as_str().to_owned()).unwrap_or_default(),
        version: hello.map(|h| h.version.clone()).unwrap_or_default(),
        certificate_ends_ms: hello.map_or(0, |h| h.certificate_ends_ms),
        ..NodeStatus::default()
    }
}
