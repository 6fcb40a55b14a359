//! What one alias does: a register that is set only when it stands for nothing (or for that key already), and cleared only
//! when it stands for something. So each change is a compare-and-set, and an encryption by alias must be under a key that the
//! alias stood for at some moment between its invocation and its end.

use super::object::Object;
use crate::history::{Call, Op, Outcome};

/// An alias at one moment: the key it stands for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Alias(Option<String>);

/// What a call says about its alias.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// It was made to stand for the key.
    Set(String),
    /// The same, in doubt: at any time, or never.
    MaySet(String),
    /// It was taken away.
    Cleared,
    /// The same, in doubt.
    MayClear,
    /// It stood for another key than this.
    Taken(String),
    /// It stood for the key, or for nothing.
    Is(Option<String>),
}

impl Object for Alias {
    type Step = Step;

    const WHAT: &'static str = "alias";

    fn step_of(op: &Op) -> Option<(String, Step)> {
        let alias = op.call.alias()?;
        let step = match (&op.call, &op.outcome) {
            (Call::CreateAlias { .. }, Outcome::Ok(_)) => Step::Set(op.key.clone()?),
            (Call::CreateAlias { .. }, Outcome::Info(_)) => Step::MaySet(op.key.clone()?),
            (Call::CreateAlias { .. }, Outcome::Fail(why)) if why == "ALREADY_EXISTS" => Step::Taken(op.key.clone()?),
            (Call::DeleteAlias { .. }, Outcome::Ok(_)) => Step::Cleared,
            (Call::DeleteAlias { .. }, Outcome::Info(_)) => Step::MayClear,
            (Call::DescribeAlias { .. } | Call::EncryptAlias { .. }, Outcome::Ok(_)) => Step::Is(Some(op.key.clone()?)),
            (Call::CreateAlias { .. }, _) => return None,
            (_, Outcome::Fail(why)) if why == "NOT_FOUND" => Step::Is(None),
            _ => return None,
        };
        Some((alias.to_string(), step))
    }

    fn after(&self, step: &Step) -> Option<Self> {
        let to = |key: &str| Self(Some(key.to_owned()));
        match (step, &self.0) {
            (Step::Set(key), None) => Some(to(key)),
            (Step::Set(key), Some(now)) => (now == key).then(|| to(key)),
            (Step::MaySet(key), None) => Some(to(key)),
            (Step::MaySet(_), Some(_)) => Some(self.clone()),
            (Step::Cleared, now) => now.as_ref().map(|_| Self(None)),
            (Step::MayClear, _) => Some(Self(None)),
            (Step::Taken(key), now) => now.as_ref().filter(|now| *now != key).map(|_| self.clone()),
            (Step::Is(key), now) => (now == key).then(|| self.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use porcupine_rs::CheckResult;
    use proptest::prelude::*;

    use super::*;
    use crate::checker::brute::linearizable;
    use crate::checker::hand::*;
    use crate::checker::linear::{check, intervals, judge};
    use crate::checker::{Finding, Verdict};
    use crate::history::{Answer, State};

    const LIMIT: Duration = Duration::from_secs(60);

    fn find(ops: &[Op]) -> Finding {
        check::<Alias>("aliases", ops, LIMIT)
    }
    fn set(at: u64, end: u64, id: &str, outcome: Outcome) -> Op {
        of(op(1, at, end, Call::CreateAlias { alias: 7 }, outcome), id)
    }
    fn clear(at: u64, end: u64, outcome: Outcome) -> Op {
        Op { key: None, ..op(1, at, end, Call::DeleteAlias { alias: 7 }, outcome) }
    }
    fn used(at: u64, end: u64, id: &str) -> Op {
        of(op(2, at, end, Call::EncryptAlias { alias: 7, text: at }, encrypted(1)), id)
    }
    fn read(at: u64, end: u64, id: &str) -> Op {
        of(op(2, at, end, Call::DescribeAlias { alias: 7 }, key(State::Enabled, 1)), id)
    }
    fn nothing(at: u64, end: u64) -> Op {
        Op { key: None, ..op(2, at, end, Call::EncryptAlias { alias: 7, text: at }, refused("NOT_FOUND")) }
    }
    fn done() -> Outcome {
        Outcome::Ok(Answer::Done)
    }

    #[test]
    fn a_register_that_is_set_and_cleared() {
        for good in [
            vec![nothing(0, 1), set(2, 3, "a", done()), used(4, 5, "a"), read(6, 7, "a")],
            vec![set(0, 1, "a", done()), set(2, 3, "b", refused("ALREADY_EXISTS")), set(4, 5, "a", done())],
            vec![
                set(0, 1, "a", done()),
                clear(2, 3, done()),
                clear(4, 5, refused("NOT_FOUND")),
                set(6, 7, "b", done()),
            ],
            // While it is changed, either key will do.
            vec![
                set(0, 1, "a", done()),
                clear(2, 9, done()),
                set(3, 10, "b", done()),
                used(4, 5, "a"),
                used(6, 12, "b"),
            ],
            vec![set(0, 1, "a", doubt()), nothing(2, 3), used(4, 5, "a")],
            // A key's own refusal says nothing about the alias.
            vec![set(0, 1, "a", refused("KEY_PENDING_DELETION")), nothing(2, 3)],
        ] {
            assert_eq!(find(&good).verdict, Verdict::Valid, "{good:?}");
        }
        for bad in [
            // Used a key that the alias stood for before, and after, but not meanwhile.
            vec![set(0, 1, "a", done()), clear(2, 3, done()), set(4, 5, "b", done()), used(6, 7, "a")],
            vec![set(0, 1, "a", done()), used(2, 3, "b"), clear(4, 5, done()), set(6, 7, "b", done())],
            // Lost, and come back.
            vec![set(0, 1, "a", done()), nothing(2, 3)],
            vec![set(0, 1, "a", done()), clear(2, 3, done()), read(4, 5, "a")],
            // Two won.
            vec![set(0, 5, "a", done()), set(1, 6, "b", done())],
            vec![set(0, 1, "a", done()), clear(2, 5, done()), clear(3, 6, done())],
            // Refused, and yet it was done.
            vec![set(0, 1, "a", refused("UNAVAILABLE")), used(2, 3, "a")],
            vec![set(0, 1, "a", refused("ALREADY_EXISTS"))],
        ] {
            assert_eq!(find(&bad).violations, 1, "{bad:?}");
        }
    }

    fn small() -> impl Strategy<Value = Vec<Op>> {
        let id = prop_oneof![Just("a"), Just("b")];
        let one = (0..8_u8, id, 0..12_u64, 1..5_u64).prop_map(|(kind, id, at, long)| {
            // Twice the time, so that no invocation falls on an end.
            let (at, end) = (2 * at, 2 * (at + long) + 1);
            match kind {
                0 | 1 => set(at, end, id, done()),
                2 => set(at, end, id, doubt()),
                3 => set(at, end, id, refused("ALREADY_EXISTS")),
                4 => clear(at, end, done()),
                5 => clear(at, end, doubt()),
                6 => nothing(at, end),
                _ => used(at, end, id),
            }
        });
        proptest::collection::vec(one, 1..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_fast_checker_and_the_plain_one_agree(ops in small()) {
            let calls = intervals::<Alias>(&ops.iter().collect::<Vec<_>>());
            let fast = judge::<Alias>(&calls, LIMIT);
            prop_assert_eq!(fast == CheckResult::Ok, linearizable::<Alias>(&calls), "{:?}", ops);
            prop_assert_ne!(fast, CheckResult::Unknown);
        }
    }

    #[test]
    fn the_property_sees_good_and_bad_histories() {
        use proptest::strategy::ValueTree;
        use proptest::test_runner::TestRunner;
        let mut runner = TestRunner::deterministic();
        let mut sample = || small().new_tree(&mut runner).unwrap().current();
        let good = (0..500)
            .filter(|_| linearizable::<Alias>(&intervals::<Alias>(&sample().iter().collect::<Vec<_>>())))
            .count();
        assert!((50..450).contains(&good), "{good} of 500 are good: the property above would prove little");
    }
}
