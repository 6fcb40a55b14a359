//! Histories that must be judged so and not otherwise: what an auditor runs before believing a `valid`.

mod keys;

use std::time::Duration;

use crate::checker::{Evidence, Verdict, check, digests, hostile, times};
use crate::history::{Answer, Call, Event, History, Outcome, State, What};

/// A history, what was collected with it, and the one checker that must reject it; `None` when all must accept it.
#[derive(Clone)]
pub struct Case {
    /// What happens in it.
    pub name: &'static str,
    history: History,
    evidence: Evidence,
    rejected_by: Option<&'static str>,
}

/// Every case that was judged otherwise, in words.
pub fn run() -> Vec<String> {
    cases().into_iter().filter_map(|case| case.complaint()).collect()
}

impl Case {
    fn complaint(&self) -> Option<String> {
        let findings = match check(&self.history, &self.evidence, Duration::from_secs(60)) {
            Ok(findings) => findings,
            Err(e) => return Some(format!("{}: {e:#}", self.name)),
        };
        let rejecting: Vec<&str> =
            findings.iter().filter(|f| f.verdict == Verdict::Invalid).map(|f| f.checker.as_str()).collect();
        let fine = match self.rejected_by {
            None => findings.iter().all(|f| f.verdict == Verdict::Valid),
            Some(by) => rejecting.contains(&by),
        };
        (!fine).then(|| format!("{}: must be rejected by {:?}, was by {rejecting:?}", self.name, self.rejected_by))
    }
}

/// One step of a hand-made history: the node, the call, how it ended.
type Step = (u32, Call, Outcome);

fn key(state: State, version: u32) -> Outcome {
    Outcome::Ok(Answer::Key { state, version })
}

fn history(steps: Vec<Step>, last: Vec<Step>) -> History {
    let mut events = Vec::new();
    let begun = steps.len();
    for (i, (node, call, outcome)) in steps.into_iter().chain(last).enumerate() {
        for outcome in [None, Some(outcome)] {
            let index = events.len() as u64;
            let what = What::Client {
                process: i as u64,
                node,
                key: (!call.is_operators()).then(|| "k".to_owned()),
                last: i >= begun,
                call: call.clone(),
                outcome,
            };
            events.push(Event { index, time: (index + 1) * 1_000_000, what });
        }
    }
    History { events }
}

/// All cases.
pub fn cases() -> Vec<Case> {
    [general(), keys::of_versions(), keys::of_deletion(), keys::of_material(), keys::of_backups(), keys::of_names()]
        .concat()
}

fn case(name: &'static str, rejected_by: Option<&'static str>, steps: Vec<Step>, last: Vec<Step>) -> Case {
    let evidence = Evidence { members: vec![1, 2], ..Evidence::default() };
    Case { name, history: history(steps, last), evidence, rejected_by }
}

fn general() -> Vec<Case> {
    use State::{Disabled, Enabled};
    let made = || (1, Call::create(1), key(Enabled, 1));
    let encrypted = |node, text, version| (node, Call::Encrypt { text }, Outcome::Ok(Answer::Encrypted { version }));
    let described = |node, state, version| (node, Call::Describe, key(state, version));
    let opened = |text, version, exact| (2, Call::Decrypt { text }, Outcome::Ok(Answer::Decrypted { version, exact }));
    let disabled = || (1, Call::Disable, key(Disabled, 1));
    let all = |state, version| vec![described(1, state, version), described(2, state, version)];
    let with = |name, rejected_by, change: fn(&mut Evidence)| {
        let mut case = case(name, rejected_by, vec![made()], all(Enabled, 1));
        change(&mut case.evidence);
        case
    };
    vec![
        case(
            "nothing wrong",
            None,
            vec![made(), encrypted(2, 1, 1)],
            [all(Enabled, 1), vec![opened(1, 1, true)]].concat(),
        ),
        case(
            "a use denied after a revocation is right",
            None,
            vec![made(), disabled(), (2, Call::Encrypt { text: 1 }, Outcome::Fail("KEY_DISABLED".into()))],
            all(Disabled, 1),
        ),
        case("used after a revocation", Some("revocation"), vec![made(), disabled(), encrypted(2, 1, 1)], vec![]),
        case(
            "denied though enabled",
            Some("revocation"),
            vec![
                made(),
                (1, Call::Enable, key(Enabled, 1)),
                (2, Call::Encrypt { text: 1 }, Outcome::Fail("KEY_DISABLED".into())),
            ],
            vec![],
        ),
        case("an old state is read", Some("linear"), vec![made(), disabled(), described(2, Enabled, 1)], vec![]),
        case(
            "a refused change happened",
            Some("linear"),
            vec![made(), (1, Call::Rotate, Outcome::Fail("UNAVAILABLE".into())), described(1, Enabled, 2)],
            vec![],
        ),
        case(
            "the last state has lost a version",
            Some("durability"),
            vec![made(), (1, Call::Rotate, key(Enabled, 2))],
            all(Enabled, 1),
        ),
        case(
            "a ciphertext opens to something else",
            Some("durability"),
            vec![made(), encrypted(1, 1, 1)],
            [all(Enabled, 1), vec![opened(1, 1, false)]].concat(),
        ),
        case(
            "a key is gone",
            Some("durability"),
            vec![made()],
            vec![(1, Call::Describe, Outcome::Fail("NOT_FOUND".into()))],
        ),
        case("an id is given twice", Some("ids"), vec![made(), (2, Call::create(2), key(Enabled, 1))], vec![]),
        case(
            "a sealed node uses a key",
            Some("sealed"),
            vec![made(), (2, Call::Seal, Outcome::Ok(Answer::Done)), encrypted(2, 1, 1)],
            vec![],
        ),
        case(
            "a node says that it is at fault",
            Some("answers"),
            vec![made(), (2, Call::Describe, Outcome::Fail("INTERNAL".into()))],
            vec![],
        ),
        case(
            "a removed member opens a ciphertext",
            Some("membership"),
            vec![
                made(),
                encrypted(1, 1, 1),
                (1, Call::Remove { member: 2 }, Outcome::Ok(Answer::Done)),
                opened(1, 1, true),
            ],
            vec![],
        ),
        case(
            "an alias uses the key that it was taken from",
            Some("aliases"),
            vec![
                made(),
                (1, Call::CreateAlias { alias: 1 }, Outcome::Ok(Answer::Done)),
                (1, Call::DeleteAlias { alias: 1 }, Outcome::Ok(Answer::Done)),
                (2, Call::EncryptAlias { alias: 1, text: 2 }, Outcome::Ok(Answer::Encrypted { version: 1 })),
            ],
            vec![],
        ),
        case(
            "two shares of three open a node",
            Some("ceremony"),
            vec![
                made(),
                (2, Call::EnterShare { share: 1, flaw: None }, Outcome::Ok(Answer::Share { complete: false })),
                (2, Call::EnterShare { share: 2, flaw: None }, Outcome::Ok(Answer::Share { complete: true })),
            ],
            vec![],
        ),
        case(
            "a sealed node uses a key when one share is lacking",
            Some("sealed"),
            vec![
                made(),
                (2, Call::Seal, Outcome::Ok(Answer::Done)),
                (2, Call::EnterShare { share: 1, flaw: None }, Outcome::Ok(Answer::Share { complete: false })),
                (2, Call::EnterShare { share: 2, flaw: None }, Outcome::Ok(Answer::Share { complete: false })),
                encrypted(2, 1, 1),
            ],
            vec![],
        ),
        case(
            "a key has another key's description",
            Some("metadata"),
            vec![
                made(),
                (
                    2,
                    Call::Inspect,
                    Outcome::Ok(Answer::Metadata { state: Enabled, version: 1, token: 2, created: 5, rotated: 0 }),
                ),
            ],
            vec![],
        ),
        Case {
            name: "a door was open",
            history: History {
                events: vec![Event {
                    index: 0,
                    time: 1,
                    what: What::Nemesis { f: hostile::OPEN.into(), value: "append at n1".into() },
                }],
            },
            evidence: Evidence { members: vec![1, 2], ..Evidence::default() },
            rejected_by: Some("hostile"),
        },
        with("states differ", Some("digests"), |e| {
            let sample =
                |node: &str, digest: &str| digests::Sample { node: node.into(), index: 7, digest: digest.into() };
            e.digests = vec![sample("n1", "aa"), sample("n2", "ab")];
        }),
        with("cluster time is an hour ahead", Some("times"), |e| {
            e.times.push(times::Sample { node: "n1".into(), real_ms: 1, cluster_ms: 3_600_001 });
        }),
        case(
            "a key is destroyed before its day",
            Some("due"),
            vec![
                made(),
                (1, Call::ScheduleSoon { seconds: 5 }, Outcome::Ok(Answer::Due { at: 5000, version: 1 })),
                (2, Call::Describe, Outcome::Fail("NOT_FOUND".into())),
            ],
            vec![],
        ),
        with("a share lies in a file", Some("secrets"), |e| e.leaks.push("share-1.txt".into())),
        with("a node panicked", Some("logs"), |e| e.log_faults.push("n1: panicked at".into())),
        with("it did not come back", Some("recovery"), |e| e.not_recovered = Some("no leader".into())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case_is_judged_as_it_should_be() {
        assert_eq!(run(), Vec::<String>::new());
    }

    #[test]
    fn every_checker_that_can_reject_has_a_case() {
        let checkers = check(&History::default(), &Evidence::default(), Duration::from_secs(1)).unwrap();
        let with_case: Vec<_> = cases().iter().filter_map(|c| c.rejected_by).collect();
        for finding in checkers.iter().filter(|f| f.checker != "coverage") {
            assert!(with_case.contains(&finding.checker.as_str()), "{}", finding.checker);
        }
    }
}
