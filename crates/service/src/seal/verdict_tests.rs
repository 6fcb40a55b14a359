//! What is said of which cluster.

use quorate_replica::{OFFSET_ALARM_MS, OUTRUN_MAX_MS, Quorum};

use super::status::Health::{self, Damaged, Ok, Sealed, Uninitialized, UpgradeNeeded};
use super::status::{CeremonyStatus, NodeStatus};
use super::verdict::*;

fn node(name: &str, health: Health) -> NodeStatus {
    NodeStatus { name: name.into(), voter: true, reachable: true, health: Some(health), ..NodeStatus::default() }
}

fn three(healths: [Health; 3]) -> Vec<NodeStatus> {
    ["n1", "n2", "n3"].iter().zip(healths).map(|(name, health)| node(name, health)).collect()
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn ceremony(entered: &[u8]) -> CeremonyStatus {
    CeremonyStatus {
        id: [1; 16],
        node: "n2".into(),
        threshold: 2,
        entered: entered.into(),
        labels: vec![],
        expires_ms: 9,
    }
}

#[test]
fn a_cluster_in_which_nothing_is_wrong_is_healthy_and_that_alone() {
    assert_eq!(judge(&Facts { nodes: &three([Ok, Ok, Ok]), ..Facts::default() }), [Verdict::Healthy]);
    assert_eq!(judge(&Facts::default()), [Verdict::Healthy]);
}

#[test]
fn a_node_of_no_cluster_says_what_it_waits_for() {
    let nodes = [node("n1", Uninitialized)];
    let facts = Facts { nodes: &nodes, ..Facts::default() };
    assert_eq!(judge(&facts), [Verdict::Uninitialized]);
    let joining = Some(Joining { approve: Some("AB-CD"), why: "waits" });
    let joins = Verdict::Joining { approve: Some("AB-CD".into()), why: "waits".into() };
    assert_eq!(judge(&Facts { joining, ..facts }), [joins]);
}

#[test]
fn who_was_removed_says_that_and_nothing_of_the_others() {
    let nodes = three([Sealed, Damaged, Ok]);
    assert_eq!(judge(&Facts { disowned: true, nodes: &nodes, ..Facts::default() }), [Verdict::Disowned]);
    assert_eq!(Verdict::Disowned.severity(), Severity::Removed, "nothing that a cluster is in");
}

#[test]
fn the_sealed_are_named_with_how_far_they_are() {
    let sealed = |nodes: &[&str], all, step| Verdict::Sealed { nodes: names(nodes), all, step };
    let all = &["n1", "n2", "n3"];
    let (open, complete) = (ceremony(&[1]), ceremony(&[1, 3]));
    let n3 = names(&["n3"]);
    for (healths, ceremony, handing_over, expected) in [
        ([Sealed, Sealed, Sealed], None, &[][..], vec![sealed(all, true, Step::Custodians)]),
        ([Sealed, Sealed, Sealed], Some(&open), &[], vec![sealed(all, true, Step::Ceremony(open.clone()))]),
        ([Sealed, Sealed, Sealed], Some(&complete), &[], vec![sealed(all, true, Step::HandingOver)]),
        ([Ok, Sealed, Ok], None, &[], vec![sealed(&["n2"], false, Step::Custodians)]),
        (
            [Ok, Sealed, Sealed],
            None,
            &n3,
            vec![sealed(&["n2"], false, Step::Custodians), sealed(&["n3"], false, Step::HandingOver)],
        ),
        ([Ok, Ok, Ok], Some(&open), &[], vec![Verdict::Healthy]),
    ] {
        let facts = Facts { nodes: &three(healths), ceremony, handing_over, ..Facts::default() };
        assert_eq!(judge(&facts), expected, "{healths:?}");
    }
    // One that is not heard of is not called sealed, whatever it was.
    let mut nodes = three([Ok, Ok, Sealed]);
    nodes[2].reachable = false;
    assert_eq!(judge(&Facts { nodes: &nodes, ..Facts::default() }), [Verdict::Unreachable { nodes: n3 }]);
}

#[test]
fn the_gravest_comes_first() {
    let mut nodes = three([Sealed, Damaged, Sealed]);
    nodes[0].low_space = true;
    nodes[1].problem = "its journal".into();
    nodes[2].reachable = false;
    let quorum = Quorum::Missing { reachable: 2, voters: 4, missing: names(&["n3", "n4"]) };
    let verdicts = judge(&Facts { quorum, nodes: &nodes, ..Facts::default() });
    assert_eq!(
        verdicts,
        [
            Verdict::NoMajority { reachable: 2, voters: 4, missing: names(&["n3", "n4"]) },
            Verdict::Sealed { nodes: names(&["n1"]), all: true, step: Step::Custodians },
            Verdict::Damaged { node: "n2".into(), what: "its journal".into() },
            Verdict::LowSpace { nodes: names(&["n1"]) },
        ]
    );
    let severities: Vec<_> = verdicts.iter().map(Verdict::severity).collect();
    assert!(severities.is_sorted_by(|a, b| a >= b), "{severities:?}");
    assert_eq!(judge(&Facts { quorum: Quorum::Leaderless, ..Facts::default() }), [Verdict::NoLeader]);
}

#[test]
fn members_that_want_attention_are_named() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let now_ms = 1_000 * DAY_MS;
    let one = |change: &dyn Fn(&mut NodeStatus)| {
        let mut nodes = three([Ok, Ok, Ok]);
        change(&mut nodes[1]);
        judge(&Facts { nodes: &nodes, now_ms, ..Facts::default() })
    };
    let node = || "n2".to_owned();
    let what = || "what".to_owned();
    let ends = |ends_ms, expired| vec![Verdict::CertificateEnds { node: node(), ends_ms, expired }];
    let damaged = |n: &mut NodeStatus, health| (n.health, n.problem) = (Some(health), what());
    let doubted = |n: &mut NodeStatus| n.doubt = Some(what());
    assert_eq!(one(&|n| damaged(n, Damaged)), [Verdict::Damaged { node: node(), what: what() }]);
    assert_eq!(one(&|n| damaged(n, UpgradeNeeded)), [Verdict::UpgradeNeeded { node: node(), what: what() }]);
    assert_eq!(one(&doubted), [Verdict::Doubted { node: node(), what: what() }]);
    let once = one(&|n| {
        damaged(n, Damaged);
        doubted(n);
    });
    assert_eq!(once.len(), 1, "damage is named once: {once:?}");
    let off = OFFSET_ALARM_MS + 1;
    assert_eq!(one(&|n| n.clock_offset_ms = Some(-off)), [Verdict::ClockOff { node: node(), offset_ms: -off }]);
    assert_eq!(one(&|n| n.clock_offset_ms = Some(off - 1)), [Verdict::Healthy]);
    assert_eq!(one(&|n| n.certificate_ends_ms = now_ms + 30 * DAY_MS), [Verdict::Healthy]);
    let soon = now_ms + 30 * DAY_MS - 1;
    assert_eq!(one(&|n| n.certificate_ends_ms = soon), ends(soon, false));
    assert_eq!(one(&|n| n.certificate_ends_ms = now_ms), ends(now_ms, true));
    assert_eq!(one(&|n| n.voter = false), [Verdict::TwoVoters]);
}

#[test]
fn time_that_stands_or_runs_ahead_is_told() {
    let facts = |cluster_time_ms, reference_ms| Facts { cluster_time_ms, reference_ms, ..Facts::default() };
    let cluster_ms = OUTRUN_MAX_MS + 8;
    assert_eq!(judge(&facts(cluster_ms - 1, Some(7))), [Verdict::Healthy]);
    assert_eq!(judge(&facts(cluster_ms, Some(7))), [Verdict::TimeAhead { cluster_ms, clocks_ms: 7 }]);
    assert_eq!(judge(&facts(cluster_ms, None)), [Verdict::Healthy]);
    let held = Facts { time_held_ms: Some(5), ..Facts::default() };
    assert_eq!(judge(&held), [Verdict::TimeHeld { clock_ms: 5 }]);
}

#[test]
fn what_serves_is_no_worse_than_degraded_and_what_only_wants_care_is_well() {
    let care = Verdict::CertificateEnds { node: "n1".into(), ends_ms: 1, expired: false };
    assert_eq!((care.severity(), Verdict::TwoVoters.severity()), (Severity::Ok, Severity::Ok));
    let one = Verdict::Sealed { nodes: names(&["n1"]), all: false, step: Step::HandingOver };
    assert_eq!(one.severity(), Severity::Degraded);
}
