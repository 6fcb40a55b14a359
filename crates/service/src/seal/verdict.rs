//! What state the cluster is in, as the answering node sees it: a closed list, decided here and nowhere else. What to do about each
//! is for whoever shows it to say, in the words of its own commands.

use quorate_replica::{OFFSET_ALARM_MS, OUTRUN_MAX_MS, Quorum};

use super::status::{CeremonyStatus, Health, NodeStatus};
use crate::node::RENEWAL_MS;

/// How well the cluster is; the worse, the greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Severity {
    /// Nothing is wrong. There may be something to do before long.
    Ok,
    /// It serves, but not with all that it has.
    Degraded,
    /// Nobody uses keys until custodians open it.
    Sealed,
    /// The answering node belongs to no cluster.
    Uninitialized,
    /// Nothing can be used or changed.
    NoMajority,
    /// The answering node is no member any more, and never becomes one again as it is; of the others that says nothing.
    Removed,
}

/// One thing that there is to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Nothing at all.
    Healthy,
    /// The answering node belongs to no cluster, and is not told to join one.
    Uninitialized,
    /// The answering node wants to join.
    Joining {
        /// What an operator compares, once a member waits for its approval.
        approve: Option<String>,
        /// Why that takes time, if it is known.
        why: String,
    },
    /// The others have removed the answering node.
    Disowned,
    /// This member can't be mended by itself.
    Damaged {
        /// Its name.
        node: String,
        /// What is wrong with it.
        what: String,
    },
    /// This member has met what a newer version wrote.
    UpgradeNeeded {
        /// Its name.
        node: String,
        /// Which version it needs.
        what: String,
    },
    /// Too few voters are within reach.
    NoMajority {
        /// How many are.
        reachable: usize,
        /// How many there are.
        voters: usize,
        /// The names of the others.
        missing: Vec<String>,
    },
    /// A majority is within reach and elects no leader.
    NoLeader,
    /// These members use no keys.
    Sealed {
        /// Their names.
        nodes: Vec<String>,
        /// Whether nobody else does.
        all: bool,
        /// How far they are from that.
        step: Step,
    },
    /// The leader's clock has jumped, which nobody can witness.
    TimeHeld {
        /// What it says, milliseconds since 1970.
        clock_ms: u64,
    },
    /// Cluster time has followed clocks that were wrong.
    TimeAhead {
        /// Cluster time, milliseconds since 1970.
        cluster_ms: u64,
        /// What the clocks say, milliseconds since 1970.
        clocks_ms: u64,
    },
    /// This member's clock is far off.
    ClockOff {
        /// Its name.
        node: String,
        /// How far it is ahead of the majority's, in milliseconds.
        offset_ms: i64,
    },
    /// The disks of these members are nearly full.
    LowSpace {
        /// Their names.
        nodes: Vec<String>,
    },
    /// A minority of members does not answer.
    Unreachable {
        /// Their names.
        nodes: Vec<String>,
    },
    /// This member told what no honest one tells.
    Doubted {
        /// Its name.
        node: String,
        /// What that was.
        what: String,
    },
    /// This member's certificate ends soon, or has ended.
    CertificateEnds {
        /// Its name.
        node: String,
        /// When, milliseconds since 1970.
        ends_ms: u64,
        /// Whether it has.
        expired: bool,
    },
    /// There are two voters, so that either can stop the cluster.
    TwoVoters,
}

/// How far sealed members are from being opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// They wait for custodians.
    Custodians,
    /// Custodians have begun.
    Ceremony(CeremonyStatus),
    /// All shares are there: the root key is on its way to them, or they check their state.
    HandingOver,
}

impl Verdict {
    /// How grave that is.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Disowned => Severity::Removed,
            Self::NoMajority { .. } | Self::NoLeader => Severity::NoMajority,
            Self::Uninitialized | Self::Joining { .. } => Severity::Uninitialized,
            Self::Sealed { all: true, .. } => Severity::Sealed,
            Self::Damaged { .. }
            | Self::UpgradeNeeded { .. }
            | Self::Sealed { all: false, .. }
            | Self::TimeHeld { .. }
            | Self::TimeAhead { .. }
            | Self::ClockOff { .. }
            | Self::LowSpace { .. }
            | Self::Unreachable { .. }
            | Self::Doubted { .. }
            | Self::CertificateEnds { expired: true, .. } => Severity::Degraded,
            Self::CertificateEnds { expired: false, .. } | Self::TwoVoters | Self::Healthy => Severity::Ok,
        }
    }
}

/// What is known, by the answering node.
#[derive(Clone, Default, Debug)]
pub struct Facts<'a> {
    /// How it is told to join, as long as it belongs to no cluster.
    pub joining: Option<Joining<'a>>,
    /// Most others disown it.
    pub disowned: bool,
    /// Which voters it has to work with.
    pub quorum: Quorum,
    /// Every member as it knows it; itself alone, while it knows none.
    pub nodes: &'a [NodeStatus],
    /// The ceremony that is open.
    pub ceremony: Option<&'a CeremonyStatus>,
    /// Whom the root key is on its way to, by name.
    pub handing_over: &'a [String],
    /// Set while a jump of the leader's clock waits for somebody's confirmation.
    pub time_held_ms: Option<u64>,
    /// Cluster time, milliseconds since 1970.
    pub cluster_time_ms: u64,
    /// What the clocks say.
    pub reference_ms: Option<u64>,
    /// What its own says.
    pub now_ms: u64,
}

/// How joining goes.
#[derive(Clone, Copy, Default, Debug)]
pub struct Joining<'a> {
    /// Its fingerprint, once it waits to be approved.
    pub approve: Option<&'a str>,
    /// What keeps it.
    pub why: &'a str,
}

/// Everything that there is to say, the gravest first; never nothing.
pub fn judge(facts: &Facts<'_>) -> Vec<Verdict> {
    let mut found = match facts.nodes {
        [alone] if alone.health == Some(Health::Uninitialized) => vec![match &facts.joining {
            Some(joining) => {
                Verdict::Joining { approve: joining.approve.map(str::to_owned), why: joining.why.to_owned() }
            }
            None => Verdict::Uninitialized,
        }],
        // What a node that was cut off knows of the others is of long ago.
        _ if facts.disowned => vec![Verdict::Disowned],
        _ => of_cluster(facts),
    };
    if found.is_empty() {
        found.push(Verdict::Healthy);
    }
    // Stable: of equally grave ones the order is the one in which they were found.
    found.sort_by_key(|verdict| std::cmp::Reverse(verdict.severity()));
    found
}

fn of_cluster(facts: &Facts<'_>) -> Vec<Verdict> {
    let mut found = Vec::new();
    match &facts.quorum {
        Quorum::Present => {}
        Quorum::Leaderless => found.push(Verdict::NoLeader),
        Quorum::Missing { reachable, voters, missing } => {
            found.push(Verdict::NoMajority { reachable: *reachable, voters: *voters, missing: missing.clone() });
        }
    }
    // What is known of others that don't answer is of long ago.
    for n in facts.nodes.iter().filter(|n| n.reachable || n.closed) {
        let (node, what) = (n.name.clone(), n.problem.clone());
        match n.health {
            Some(Health::Damaged) => found.push(Verdict::Damaged { node, what }),
            Some(Health::UpgradeNeeded) => found.push(Verdict::UpgradeNeeded { node, what }),
            _ => {}
        }
    }
    found.extend(sealed(facts));
    if let Some(clock_ms) = facts.time_held_ms {
        found.push(Verdict::TimeHeld { clock_ms });
    }
    if let Some(clocks_ms) = facts.reference_ms
        && facts.cluster_time_ms > clocks_ms.saturating_add(OUTRUN_MAX_MS)
    {
        found.push(Verdict::TimeAhead { cluster_ms: facts.cluster_time_ms, clocks_ms });
    }
    found.extend(of_members(facts));
    if facts.nodes.iter().filter(|n| n.voter).count() == 2 {
        found.push(Verdict::TwoVoters);
    }
    found
}

/// Who is sealed, by how far they are from being opened.
fn sealed(facts: &Facts<'_>) -> Vec<Verdict> {
    let of = |health| facts.nodes.iter().filter(move |n| n.reachable && n.health == Some(health));
    let all = of(Health::Ok).next().is_none();
    let complete = |c: &&CeremonyStatus| c.entered.len() >= usize::from(c.threshold);
    let done = facts.ceremony.is_some_and(|c| complete(&c));
    let (coming, waiting): (Vec<_>, Vec<_>) =
        of(Health::Sealed).map(|n| n.name.clone()).partition(|name| done || facts.handing_over.contains(name));
    let open = facts.ceremony.filter(|c| !complete(c)).map(|c| Step::Ceremony(c.clone()));
    [(waiting, open.unwrap_or(Step::Custodians)), (coming, Step::HandingOver)]
        .into_iter()
        .filter(|(nodes, _)| !nodes.is_empty())
        .map(|(nodes, step)| Verdict::Sealed { nodes, all, step })
        .collect()
}

/// What is the matter with single members that serve, or that nobody hears of.
fn of_members(facts: &Facts<'_>) -> Vec<Verdict> {
    let names = |which: &dyn Fn(&NodeStatus) -> bool| -> Vec<String> {
        facts.nodes.iter().filter(|n| which(n)).map(|n| n.name.clone()).collect()
    };
    let (low, unreachable) = (names(&|n| n.low_space), names(&|n| !n.reachable && !n.closed));
    let mut found = Vec::new();
    if !low.is_empty() {
        found.push(Verdict::LowSpace { nodes: low });
    }
    // Without a majority that is said already.
    if !unreachable.is_empty() && !matches!(facts.quorum, Quorum::Missing { .. }) {
        found.push(Verdict::Unreachable { nodes: unreachable });
    }
    for n in facts.nodes {
        let node = n.name.clone();
        if let Some(offset_ms) = n.clock_offset_ms.filter(|ms| ms.saturating_abs() > OFFSET_ALARM_MS) {
            found.push(Verdict::ClockOff { node: node.clone(), offset_ms });
        }
        if let (Some(what), true) = (&n.doubt, n.health != Some(Health::Damaged)) {
            found.push(Verdict::Doubted { node: node.clone(), what: what.clone() });
        }
        let ends_ms = n.certificate_ends_ms;
        if ends_ms > 0 && ends_ms < facts.now_ms.saturating_add(RENEWAL_MS) {
            found.push(Verdict::CertificateEnds { node, ends_ms, expired: ends_ms <= facts.now_ms });
        }
    }
    found
}
