//! What each verdict on a cluster means for an operator: what is the case, and which of this program's commands helps. Nodes tell
//! facts alone; the commands stand here.

use quorate_client::v1;
use quorate_client::v1::verdict::{Kind, Sealed, sealed::Step};
use quorate_core::seam::WallClock;
use quorate_replica::Quorum;

use super::output;
use crate::wiring::SystemClock;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;
const MINUTE_MS: u64 = 60 * 1000;

/// One verdict in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advice {
    /// What is the case.
    pub what: String,
    /// The same in all its detail, as a node tells it; often nothing.
    pub detail: String,
    /// What to do, step by step; nothing where there is nothing to do.
    pub todo: Vec<String>,
}

impl Advice {
    /// On one line; nothing where there is nothing to do.
    pub fn hint(&self) -> String {
        if self.todo.is_empty() { String::new() } else { format!("{}: {}", self.what, self.todo.join("; ")) }
    }
}

/// A severity as people and scripts read it.
pub fn severity(severity: v1::Severity) -> &'static str {
    match severity {
        v1::Severity::Unspecified => "unknown",
        v1::Severity::Ok => "ok",
        v1::Severity::Degraded => "degraded",
        v1::Severity::Sealed => "sealed",
        v1::Severity::Uninitialized => "uninitialized",
        v1::Severity::NoMajority => "no majority",
        v1::Severity::Removed => "removed",
    }
}

/// A kind of verdict as scripts read it.
pub fn kind(kind: &Kind) -> &'static str {
    match kind {
        Kind::Healthy(_) => "healthy",
        Kind::Uninitialized(_) => "uninitialized",
        Kind::Joining(_) => "joining",
        Kind::Disowned(_) => "disowned",
        Kind::Damaged(_) => "damaged",
        Kind::UpgradeNeeded(_) => "upgrade-needed",
        Kind::NoMajority(_) => "no-majority",
        Kind::NoLeader(_) => "no-leader",
        Kind::Sealed(_) => "sealed",
        Kind::TimeHeld(_) => "time-held",
        Kind::TimeAhead(_) => "time-ahead",
        Kind::ClockOff(_) => "clock-off",
        Kind::LowSpace(_) => "low-space",
        Kind::Unreachable(_) => "unreachable",
        Kind::Doubted(_) => "doubted",
        Kind::CertificateEnds(_) => "certificate-ends",
        Kind::TwoVoters(_) => "two-voters",
    }
}

/// What a verdict of the node called `by` means.
pub fn of(verdict: &v1::Verdict, by: &str) -> Advice {
    let plain = |what: String, todo: &[&str]| Advice {
        what,
        detail: String::new(),
        todo: todo.iter().map(|step| (*step).to_owned()).collect(),
    };
    let told = |what: String, detail: &str, todo: &[&str]| Advice { detail: detail.to_owned(), ..plain(what, todo) };
    let invite = format!("`quorate operator members invite --name {by}` at a member");
    // Of a newer node.
    let Some(kind) = &verdict.kind else {
        return plain("something that this version has no word for".into(), &["use a newer version of this command"]);
    };
    match kind {
        Kind::Healthy(_) => plain("nothing is wrong".into(), &[]),
        Kind::Uninitialized(_) => plain(
            format!("{by} belongs to no cluster"),
            &[
                "found a cluster on it: `quorate operator init --shares 5 --threshold 3`",
                &format!("or let it join one ([join] in its configuration): {invite}"),
            ],
        ),
        Kind::Joining(j) if j.approve.is_empty() => told(
            format!("{by} is not in its cluster yet"),
            &j.why,
            &[
                "see that a member of it is up and unsealed",
                &format!("if the invitation was refused: another by {invite}"),
            ],
        ),
        Kind::Joining(j) => plain(
            format!("{by} waits to be let in; its fingerprint is {}", j.approve),
            &[&format!(
                "if that is what its machine printed: `quorate operator members approve {by} --fingerprint {}` at a member",
                j.approve
            )],
        ),
        Kind::Disowned(_) => plain(
            format!("{by} was removed from its cluster, which goes on without it"),
            &[
                "stop its server; its data_dir can be erased, as nothing is ever read from it again",
                &format!("or let it join anew, with an empty data_dir and another invitation: {invite}"),
            ],
        ),
        Kind::Damaged(t) => told(format!("{} is damaged", t.node), &t.what, &replace(&t.node).each_ref().map(|s| &**s)),
        Kind::UpgradeNeeded(t) => told(
            format!("{} needs a newer quorate", t.node),
            &t.what,
            &[&format!("install the version that it names on {}, and start it again", t.node)],
        ),
        Kind::NoMajority(n) => {
            let (reachable, voters) = (n.reachable as usize, n.voters as usize);
            let quorum = Quorum::Missing { reachable, voters, missing: n.missing.clone() };
            let gone = "the others have lost their votes for good: keep the data folders of all nodes as they are";
            let remedy = quorum.remedy();
            plain(quorum.to_string(), &[if remedy.is_empty() { gone } else { &remedy }])
        }
        Kind::NoLeader(_) => plain(
            Quorum::Leaderless.to_string(),
            &[
                "look at what the members say below, and into their logs; one that has just started asks the others first",
            ],
        ),
        Kind::Sealed(sealed) => of_sealed(sealed),
        Kind::TimeHeld(t) => plain(
            format!(
                "cluster time stands still: the leader's clock says {}, and nobody can witness the jump",
                output::date(t.clock_ms)
            ),
            &["check that clock, then `quorate operator confirm-time` at an unsealed node"],
        ),
        Kind::TimeAhead(t) => plain(
            format!(
                "cluster time, {}, is ahead of the nodes' clocks, {}",
                output::date(t.cluster_ms),
                output::date(t.clocks_ms)
            ),
            &["if the clocks are right, `quorate operator confirm-time` sets it back"],
        ),
        Kind::ClockOff(c) => {
            let side = if c.offset_ms > 0 { "ahead of" } else { "behind" };
            let seconds = c.offset_ms.unsigned_abs() / 1000;
            plain(
                format!("the clock of {} is {seconds} s {side} the majority's", c.node),
                &["set it right (chrony, ntpd)"],
            )
        }
        Kind::LowSpace(n) => plain(
            format!("short of disk space: {}", n.nodes.join(", ")),
            &["make room on the disk there: it goes on by itself at twice its limit (log.low_space_mib)"],
        ),
        Kind::Unreachable(n) => {
            let (verb, name) = match &n.nodes[..] {
                [one] => ("does", one.as_str()),
                _ => ("do", "NAME"),
            };
            plain(
                format!("{} {verb} not answer", n.nodes.join(", ")),
                &[
                    "start it again, or look at the network to it",
                    "if it runs, it says itself what is wrong: `quorate operator status --addr HOST:PORT`",
                    &format!("if it is gone for good: `quorate operator members remove {name}`"),
                ],
            )
        }
        Kind::Doubted(t) => told(
            format!("{} is not believed", t.node),
            &t.what,
            &[
                "look at that node: its disk, its memory, who was on it",
                &format!("if it is hostile: `quorate operator members remove {}`", t.node),
            ],
        ),
        Kind::CertificateEnds(c) => {
            let left = c.ends_ms.saturating_sub(SystemClock.now_ms()) / DAY_MS;
            let what = match c.expired {
                true => format!("the certificate of {} has expired, so no client connects to it", c.node),
                false => format!("the certificate of {} ends in {left} days", c.node),
            };
            plain(what, &["sign its request again (`quorate pki sign`), replace the file, send its process SIGHUP"])
        }
        Kind::TwoVoters(_) => plain(
            "there are two voters: either can stop the cluster".into(),
            &["promote a third: `quorate operator members promote NAME`"],
        ),
    }
}

/// How a damaged member is replaced.
fn replace(node: &str) -> [String; 5] {
    [
        "if what it names can be put right (a token, a certificate), do that; else replace it".into(),
        format!("on the machine of {node}: stop it, move its data_dir away, and keep that for an inquiry"),
        format!(
            "at another member, while a majority without it is up: `quorate operator members remove {node}`, then `quorate \
             operator members invite --name {node} > token`"
        ),
        format!("on the machine of {node}: put that into the file that join.token_file names, and start it"),
        format!(
            "compare the fingerprint that it prints, `quorate operator members approve {node} --fingerprint F`, then \
             `quorate operator members promote {node}`"
        ),
    ]
}

fn of_sealed(sealed: &Sealed) -> Advice {
    let nodes = sealed.nodes.join(", ");
    let who = if sealed.all { "the cluster is sealed".to_owned() } else { format!("sealed: {nodes}") };
    let (what, todo) = match &sealed.step {
        None => {
            // Where others serve, what opens this one is a ceremony at it.
            let node = sealed.nodes.first().filter(|_| !sealed.all).map(|node| format!(" --node {node}"));
            let todo = format!("custodians enter their shares: `quorate operator unseal{}`", node.unwrap_or_default());
            (who, vec![todo])
        }
        Some(Step::HandingOver(_)) => {
            (format!("handing over: {nodes} get the root key and check their state"), Vec::new())
        }
        Some(Step::Ceremony(open)) => {
            let missing = open.threshold.saturating_sub(open.entered);
            let custodians = if missing == 1 { "one more custodian" } else { &format!("{missing} more custodians") };
            let todo = format!("{custodians}: `quorate operator unseal --node {}`", open.node);
            (format!("{who}; a ceremony is open: {}", ceremony(open)), vec![todo])
        }
    };
    Advice { what, detail: String::new(), todo }
}

/// How far a ceremony is: shares, whose, and how long they are kept.
pub fn ceremony(open: &v1::Ceremony) -> String {
    let label = |i: usize| open.labels.get(i).filter(|label| !label.is_empty());
    let entered = open.share_numbers.iter().enumerate().map(|(i, x)| match label(i) {
        Some(label) => format!("{x} {label}"),
        None => x.to_string(),
    });
    let which = entered.collect::<Vec<_>>().join(", ");
    let which = if which.is_empty() { String::new() } else { format!(" (numbers {which})") };
    let left = open.expires_ms.saturating_sub(SystemClock.now_ms()).div_ceil(MINUTE_MS);
    let left = match (open.expires_ms, left) {
        (0, _) => String::new(),
        (_, 1) => ", 1 minute left".to_owned(),
        _ => format!(", {left} minutes left"),
    };
    format!("{} of {} shares entered at {}{which}{left}", open.entered, open.threshold, open.node)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use quorate_client::v1::verdict::*;

    use super::*;
    use crate::command::Cli;

    fn trouble(what: &str) -> Trouble {
        Trouble { node: "n3".into(), what: what.into() }
    }

    fn sealed(all: bool, step: Option<Step>) -> Kind {
        Kind::Sealed(Sealed { nodes: vec!["n2".into(), "n3".into()], all, step })
    }

    fn all() -> Vec<Kind> {
        let open = v1::Ceremony {
            node: "n2".into(),
            threshold: 3,
            entered: 2,
            share_numbers: vec![1, 4],
            labels: vec!["ada".into(), String::new()],
            expires_ms: SystemClock.now_ms() + 14 * MINUTE_MS - 1000,
            ..Default::default()
        };
        let nodes = Nodes { nodes: vec!["n2".into(), "n3".into()] };
        vec![
            Kind::Healthy(Healthy {}),
            Kind::Uninitialized(Uninitialized {}),
            Kind::Joining(Joining { approve: String::new(), why: "joining was refused: x".into() }),
            Kind::Joining(Joining { approve: "AB-CD".into(), why: String::new() }),
            Kind::Disowned(Disowned {}),
            Kind::Damaged(trouble("its journal")),
            Kind::UpgradeNeeded(trouble("level 9")),
            Kind::NoMajority(NoMajority { reachable: 1, voters: 3, missing: vec!["n2".into(), "n3".into()] }),
            Kind::NoLeader(NoLeader {}),
            sealed(true, None),
            sealed(false, None),
            sealed(true, Some(Step::Ceremony(open))),
            sealed(false, Some(Step::HandingOver(HandingOver {}))),
            Kind::TimeHeld(TimeHeld { clock_ms: 1 }),
            Kind::TimeAhead(TimeAhead { cluster_ms: 2, clocks_ms: 1 }),
            Kind::ClockOff(ClockOff { node: "n2".into(), offset_ms: -40_000 }),
            Kind::LowSpace(nodes.clone()),
            Kind::Unreachable(nodes),
            Kind::Doubted(trouble("shows less")),
            Kind::CertificateEnds(CertificateEnds { node: "n2".into(), ends_ms: 1, expired: true }),
            Kind::TwoVoters(TwoVoters {}),
        ]
    }

    fn advice(kind: Kind) -> Advice {
        of(&v1::Verdict { severity: 0, kind: Some(kind) }, "n1")
    }

    /// What is between the backquotes can be typed.
    #[test]
    fn every_command_that_is_named_is_one() {
        let mut seen = 0;
        for kind in all() {
            for step in advice(kind).todo {
                for command in step.split('`').skip(1).step_by(2).filter(|c| c.starts_with("quorate ")) {
                    let words: Vec<&str> = command.split_whitespace().take_while(|w| *w != ">").collect();
                    let known = Cli::try_parse_from(&words).map(drop);
                    // What is left out there is named by its help.
                    assert!(known.is_ok() || command == "quorate pki sign", "{command}: {known:?}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 10, "{seen}");
    }

    #[test]
    fn words_say_what_is_the_case_and_who_is_meant() {
        let said = |kind: Kind| {
            let Advice { what, detail, todo } = advice(kind);
            [what, detail, todo.join("\n")].join("\n")
        };
        let texts: Vec<String> = all().into_iter().map(said).collect();
        for expected in [
            "its fingerprint is AB-CD",
            "n3 is damaged\nits journal",
            "no majority: 1 of 3 voters reachable\nstart n2 or n3",
            "the cluster is sealed\n",
            "sealed: n2, n3\n",
            "2 of 3 shares entered at n2 (numbers 1 ada, 4), 14 minutes left\n\none more custodian",
            "handing over: n2, n3",
            "40 s behind",
            "n2, n3 do not answer",
        ] {
            let expected = expected.replace("reachable\nstart", "reachable\n\nstart");
            assert!(texts.iter().any(|text| text.contains(&expected)), "{expected:?} in {texts:#?}");
        }
        let mut sorted = texts.clone();
        sorted.sort();
        sorted.dedup();
        assert_eq!(sorted.len(), texts.len(), "each has words of its own");
    }

    #[test]
    fn nothing_to_do_is_no_hint() {
        assert_eq!(advice(Kind::Healthy(Healthy {})).hint(), "");
        assert_eq!(of(&v1::Verdict::default(), "n1").todo.len(), 1, "what a newer node says");
    }
}
