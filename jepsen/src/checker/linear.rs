//! Linearizability, object by object (it is a local property), by `porcupine-rs`.

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::time::Duration;

use porcupine_rs::visualization::visualize;
use porcupine_rs::{CheckResult, Model, Operation, check_operations_info_timeout, check_operations_timeout};

use super::brute::Interval;
use super::object::Object;
use super::{Finding, tell};
use crate::history::Op;

/// As many of a bad history's last calls are shown.
const SHOWN: usize = 12;

/// An object, as the checker wants it.
#[derive(Clone, Debug)]
struct Judged<O>(PhantomData<O>);

impl<O: Object> Model for Judged<O> {
    type State = O;
    type Op = O::Step;
    type Metadata = ();

    fn init() -> O {
        O::default()
    }

    fn describe_operation(op: &O::Step) -> String {
        O::describe(op)
    }

    fn step(state: &O, op: &O::Step) -> (bool, O) {
        state.after(op).map_or_else(|| (false, state.clone()), |next| (true, next))
    }
}

/// Judges every object of one kind, each by itself, within `time_max` each.
pub fn check<O: Object>(checker: &str, ops: &[Op], time_max: Duration) -> Finding {
    let mut objects: BTreeMap<String, Vec<&Op>> = BTreeMap::new();
    for op in ops {
        if let Some((name, _)) = O::step_of(op) {
            objects.entry(name).or_default().push(op);
        }
    }
    let (mut broken, mut undecided, mut checked) = (Vec::new(), Vec::new(), 0);
    for (name, ops) in objects {
        let what = format!("{} {name}", O::WHAT);
        checked += ops.len();
        match judge::<O>(&intervals::<O>(&ops), time_max) {
            CheckResult::Ok => {}
            CheckResult::Unknown => {
                undecided.push(format!("{what}: no verdict on {} calls within {time_max:?}", ops.len()))
            }
            CheckResult::Illegal => {
                let shortest = shortest_bad::<O>(&ops, time_max);
                let end = &shortest[shortest.len().saturating_sub(SHOWN)..];
                let calls: Vec<String> = end.iter().map(|op| format!("    {}", tell(op))).collect();
                let count = shortest.len();
                broken.push(format!(
                    "{what}: no order explains its first {count} calls, of which the last are\n{}",
                    calls.join("\n")
                ));
            }
        }
    }
    Finding::new(checker, checked, broken, undecided)
}

/// The verdict on one object's calls.
pub fn judge<O: Object>(calls: &[Interval<O::Step>], time_max: Duration) -> CheckResult {
    check_operations_timeout(&operations::<O>(calls), time_max)
}

fn operations<O: Object>(calls: &[Interval<O::Step>]) -> Vec<Operation<Judged<O>>> {
    let time = |ns: u64| i64::try_from(ns).unwrap_or(i64::MAX);
    let operation = |c: &Interval<O::Step>| Operation {
        client_id: None,
        call_time: time(c.invoked),
        return_time: time(c.ended),
        op: c.step.clone(),
        metadata: None,
    };
    calls.iter().map(operation).collect()
}

/// A page that shows the calls of one object and the longest orders that were found; `None` when an order explains them all.
pub fn orders<O: Object>(ops: &[&Op], time_max: Duration) -> Option<String> {
    let calls = intervals::<O>(ops);
    let mut operations = operations::<O>(&calls);
    let told = ops.iter().filter(|op| O::step_of(op).is_some());
    for (operation, op) in operations.iter_mut().zip(told) {
        operation.client_id = u32::try_from(op.process).ok();
    }
    let (verdict, info) = check_operations_info_timeout(&operations, time_max);
    let mut page = Vec::new();
    if verdict == CheckResult::Ok || visualize(&info, &mut page).is_err() {
        return None;
    }
    String::from_utf8(page).ok()
}

/// What the calls of one object say, with their intervals.
pub fn intervals<O: Object>(ops: &[&Op]) -> Vec<Interval<O::Step>> {
    let interval = |op: &&Op| O::step_of(op).map(|(_, step)| Interval { invoked: op.invoked, ended: op.ended, step });
    ops.iter().filter_map(interval).collect()
}

/// The shortest beginning that is bad already, with the call that makes it bad at its end: what ended later than `end` counts as still open.
fn shortest_bad<'a, O: Object>(ops: &[&'a Op], time_max: Duration) -> Vec<&'a Op> {
    let mut ends: Vec<u64> = ops.iter().map(|op| op.ended).filter(|end| *end != u64::MAX).collect();
    ends.sort_unstable();
    let until = |end: u64| -> Vec<&'a Op> { ops.iter().copied().filter(|op| op.invoked <= end).collect() };
    let bad = |end: u64| {
        let cut: Vec<Op> = until(end)
            .into_iter()
            .cloned()
            .map(|mut op| {
                if op.ended > end {
                    op.ended = u64::MAX;
                    op.outcome = crate::history::Outcome::Info("cut".into());
                }
                op
            })
            .collect();
        judge::<O>(&intervals::<O>(&cut.iter().collect::<Vec<_>>()), time_max) == CheckResult::Illegal
    };
    let place = ends.partition_point(|end| !bad(*end));
    let mut shortest = ends.get(place).map_or_else(|| ops.to_vec(), |end| until(*end));
    // The call whose answer nothing explains comes last.
    if let Some(culprit) = ends.get(place).and_then(|end| shortest.iter().position(|op| op.ended == *end)) {
        let culprit = shortest.remove(culprit);
        shortest.push(culprit);
    }
    shortest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::checker::brute::linearizable;
    use crate::checker::hand::*;
    use crate::checker::model::Key;
    use crate::checker::{Verdict, hand};
    use crate::history::{Answer, Call, Outcome, State};

    const LIMIT: Duration = Duration::from_secs(60);

    fn verdict(ops: &[Op]) -> Verdict {
        check::<Key>("linear", ops, LIMIT).verdict
    }

    #[test]
    fn good_histories_are_accepted() {
        let encrypt = |at, end, outcome| op(2, at, end, Call::Encrypt { text: at }, outcome);
        let good = [
            vec![],
            vec![create(0), encrypt(2, 3, encrypted(1))],
            // Concurrent with the disable: either answer will do.
            vec![create(0), op(1, 2, 9, Call::Disable, key(State::Disabled, 1)), encrypt(3, 4, encrypted(1))],
            vec![
                create(0),
                op(1, 2, 9, Call::Disable, key(State::Disabled, 1)),
                encrypt(3, 4, refused("KEY_DISABLED")),
            ],
            // In doubt: it may take effect late, or never.
            vec![
                create(0),
                op(1, 2, 3, Call::Disable, doubt()),
                encrypt(5, 6, encrypted(1)),
                encrypt(7, 8, refused("KEY_DISABLED")),
            ],
            vec![
                create(0),
                op(1, 2, 3, Call::Rotate, doubt()),
                encrypt(5, 6, encrypted(1)),
                encrypt(7, 8, encrypted(1)),
            ],
            vec![
                create(0),
                op(1, 2, 3, Call::Rotate, doubt()),
                encrypt(5, 6, encrypted(2)),
                encrypt(7, 8, encrypted(2)),
            ],
        ];
        for (i, ops) in good.iter().enumerate() {
            assert_eq!(verdict(ops), Verdict::Valid, "{i}");
        }
    }

    #[test]
    fn bad_histories_are_rejected() {
        let encrypt = |at, end, outcome| op(2, at, end, Call::Encrypt { text: at }, outcome);
        let bad = [
            // A stale read: used after the acknowledged disable.
            vec![create(0), op(1, 2, 3, Call::Disable, key(State::Disabled, 1)), encrypt(4, 5, encrypted(1))],
            // A lost write.
            vec![create(0), op(1, 2, 3, Call::Rotate, key(State::Enabled, 2)), encrypt(4, 5, encrypted(1))],
            // Two rotations that made one version.
            vec![
                create(0),
                op(1, 2, 5, Call::Rotate, key(State::Enabled, 2)),
                op(2, 3, 4, Call::Rotate, key(State::Enabled, 2)),
            ],
            // Applied twice.
            vec![create(0), op(1, 2, 3, Call::Rotate, doubt()), op(1, 4, 5, Call::Describe, key(State::Enabled, 3))],
            // A refusal said nothing was changed, and yet it was.
            vec![create(0), op(1, 2, 3, Call::Rotate, refused("UNAVAILABLE")), encrypt(4, 5, encrypted(2))],
            // Seen, then gone: an open change can't be undone.
            vec![
                create(0),
                op(1, 2, 3, Call::Disable, doubt()),
                encrypt(4, 5, refused("KEY_DISABLED")),
                encrypt(6, 7, encrypted(1)),
            ],
            // A wrong plaintext.
            vec![create(0), op(1, 2, 3, Call::Decrypt { text: 1 }, decrypted(1, false))],
        ];
        for (i, ops) in bad.iter().enumerate() {
            let finding = check::<Key>("linear", ops, LIMIT);
            assert_eq!((finding.verdict, finding.violations), (Verdict::Invalid, 1), "{i}");
        }
        // Key by key: a good one beside does not hide it.
        let mixed: Vec<Op> =
            bad[0].iter().cloned().chain(bad[0].iter().take(2).cloned().map(|o| hand::of(o, "j"))).collect();
        assert_eq!(check::<Key>("linear", &mixed, LIMIT).violations, 1);
    }

    #[test]
    fn the_shortest_bad_beginning_is_shown() {
        let mut ops = vec![create(0), op(1, 2, 3, Call::Disable, key(State::Disabled, 1))];
        ops.push(op(3, 4, 5, Call::Encrypt { text: 77 }, encrypted(1)));
        ops.extend((0..40).map(|i| op(1, 10 + 2 * i, 11 + 2 * i, Call::Describe, key(State::Disabled, 1))));
        let finding = check::<Key>("linear", &ops, LIMIT);
        assert!(
            finding.details[0].contains("first 3 calls") && finding.details[0].contains("77"),
            "{:?}",
            finding.details
        );
    }

    /// Short histories of few values, so that many of them are good and many are bad.
    fn small() -> impl Strategy<Value = Vec<Op>> {
        let state = || prop_oneof![Just(State::Enabled), Just(State::Disabled)];
        let one = (0..12_u8, state(), 1..3_u32, 0..12_u64, 1..5_u64).prop_map(|(kind, state, version, at, long)| {
            let (call, outcome) = match kind {
                0 => (Call::Disable, key(State::Disabled, version)),
                1 => (Call::Enable, doubt()),
                2 => (Call::Rotate, key(State::Enabled, version + 1)),
                3 => (Call::Rotate, doubt()),
                4 => (Call::Describe, key(state, version)),
                5 => (Call::Encrypt { text: 1 }, refused("KEY_DISABLED")),
                6 => (Call::Disable, doubt()),
                8 => (Call::Compromise { version }, doubt()),
                9 => (Call::Purge, Outcome::Ok(Answer::Done)),
                10 => (Call::Schedule, doubt()),
                11 => (Call::DecryptBy { text: 1, version }, refused("COMPROMISED")),
                _ => (Call::Encrypt { text: 1 }, encrypted(version)),
            };
            // Twice the time, so that no invocation falls on an end.
            op(1, 2 * at + 4, 2 * (at + long) + 5, call, outcome)
        });
        proptest::collection::vec(one, 0..6).prop_map(|mut ops| {
            ops.insert(0, op(1, 0, 1, Call::create(0), key(State::Enabled, 1)));
            ops
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_fast_checker_and_the_plain_one_agree(ops in small()) {
            let calls = intervals::<Key>(&ops.iter().collect::<Vec<_>>());
            let fast = judge::<Key>(&calls, LIMIT);
            prop_assert_eq!(fast == CheckResult::Ok, linearizable::<Key>(&calls), "{:?}", ops);
            prop_assert_ne!(fast, CheckResult::Unknown);
        }
    }

    #[test]
    fn the_property_sees_good_and_bad_histories() {
        use proptest::strategy::ValueTree;
        use proptest::test_runner::TestRunner;
        let mut runner = TestRunner::deterministic();
        let good = (0..500)
            .filter(|_| {
                let ops = small().new_tree(&mut runner).unwrap().current();
                linearizable::<Key>(&intervals::<Key>(&ops.iter().collect::<Vec<_>>()))
            })
            .count();
        assert!((50..450).contains(&good), "{good} of 500 are good: the property above would prove little");
    }

    #[test]
    fn what_says_nothing_about_a_key_is_left_out() {
        let lost = op(1, 2, 3, Call::Encrypt { text: 1 }, Outcome::Info("DEADLINE_EXCEEDED".into()));
        assert_eq!(check::<Key>("linear", &[create(0), lost], LIMIT).checked, 1);
    }
}
