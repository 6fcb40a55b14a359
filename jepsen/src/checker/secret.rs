//! What a secret does: a register with all the values that it ever had, which is deleted, recovered, and purged for good.

use super::object::Object;
use crate::history::{Answer, Call, Op, Outcome};

/// A secret at one moment.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Secret {
    /// Its values, the first version's first; none = there is no such secret.
    values: Vec<u64>,
    /// It is deleted, and can be recovered.
    deleted: bool,
}

/// What a call says about its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// It was given that value, as that version.
    Set(u64, u32),
    /// The same, in doubt: at any time, or never.
    MaySet(u64),
    /// That version, if one was asked for, had that value, and was that one.
    Read(u32, u64, u32),
    /// It was deleted.
    Deleted,
    /// The same, in doubt.
    MayDelete,
    /// It was recovered.
    Recovered,
    /// The same, in doubt.
    MayRecover,
    /// It was purged.
    Purged,
    /// The same, in doubt.
    MayPurge,
    /// It was deleted when something else was asked.
    Waits,
    /// It was there when it was to be recovered or purged.
    Live,
    /// It was not there, or had no version of that number; 0 = whichever.
    None(u32),
}

impl Object for Secret {
    type Step = Step;

    const WHAT: &'static str = "secret";

    fn step_of(op: &Op) -> Option<(String, Step)> {
        let secret = op.call.secret()?;
        let asked = if let Call::GetSecret { version, .. } = op.call { version } else { 0 };
        let step = match (&op.call, &op.outcome) {
            (Call::SetSecret { value, .. }, Outcome::Ok(Answer::Made { version })) => Step::Set(*value, *version),
            (Call::SetSecret { value, .. }, Outcome::Info(_)) => Step::MaySet(*value),
            (Call::GetSecret { .. }, Outcome::Ok(Answer::Value { value, version })) => {
                Step::Read(asked, *value, *version)
            }
            (Call::DeleteSecret { .. }, Outcome::Ok(_)) => Step::Deleted,
            (Call::DeleteSecret { .. }, Outcome::Info(_)) => Step::MayDelete,
            (Call::RecoverSecret { .. }, Outcome::Ok(_)) => Step::Recovered,
            (Call::RecoverSecret { .. }, Outcome::Info(_)) => Step::MayRecover,
            (Call::PurgeSecret { .. }, Outcome::Ok(_)) => Step::Purged,
            (Call::PurgeSecret { .. }, Outcome::Info(_)) => Step::MayPurge,
            (_, Outcome::Fail(why)) => match why.as_str() {
                "NOT_FOUND" => Step::None(asked),
                "KEY_PENDING_DELETION" => Step::Waits,
                "WRONG_STATE" => Step::Live,
                _ => return None,
            },
            _ => return None,
        };
        Some((secret.to_string(), step))
    }

    fn after(&self, step: &Step) -> Option<Self> {
        let (is_there, newest) = (!self.values.is_empty(), self.values.len() as u32);
        let (live, waits) = (is_there && !self.deleted, is_there && self.deleted);
        let given = |value: u64| Self { values: [&self.values[..], &[value]].concat(), deleted: false };
        let value_of = |version: u32| self.values.get(version.checked_sub(1)? as usize).copied();
        let same = || Some(self.clone());
        match *step {
            Step::Set(value, version) => (!waits && version == newest + 1).then(|| given(value)),
            Step::MaySet(value) => Some(if waits { self.clone() } else { given(value) }),
            Step::Read(asked, value, version) => {
                let right = version == if asked == 0 { newest } else { asked };
                (live && right && value_of(version) == Some(value)).then(|| self.clone())
            }
            Step::Deleted => live.then(|| Self { deleted: true, ..self.clone() }),
            Step::MayDelete => Some(Self { deleted: is_there, ..self.clone() }),
            Step::Recovered => waits.then(|| Self { deleted: false, ..self.clone() }),
            Step::MayRecover => Some(Self { deleted: false, ..self.clone() }),
            Step::Purged => waits.then(Self::default),
            Step::MayPurge => {
                if waits {
                    Some(Self::default())
                } else {
                    same()
                }
            }
            Step::Waits => waits.then(|| self.clone()),
            Step::Live => live.then(|| self.clone()),
            Step::None(asked) => (!is_there || live && asked > newest).then(|| self.clone()),
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
    use crate::checker::hand::{doubt, op, refused};
    use crate::checker::linear::{check, intervals, judge};
    use crate::checker::{Finding, Verdict};

    const LIMIT: Duration = Duration::from_secs(60);

    fn find(ops: &[Op]) -> Finding {
        check::<Secret>("values", ops, LIMIT)
    }
    fn done() -> Outcome {
        Outcome::Ok(Answer::Done)
    }
    fn set(at: u64, end: u64, value: u64, outcome: Outcome) -> Op {
        op(1, at, end, Call::SetSecret { secret: 7, value }, outcome)
    }
    fn as_version(version: u32) -> Outcome {
        Outcome::Ok(Answer::Made { version })
    }
    fn get(at: u64, end: u64, asked: u32, outcome: Outcome) -> Op {
        op(2, at, end, Call::GetSecret { secret: 7, version: asked }, outcome)
    }
    fn was(value: u64, version: u32) -> Outcome {
        Outcome::Ok(Answer::Value { value, version })
    }
    fn delete(at: u64, end: u64, outcome: Outcome) -> Op {
        op(1, at, end, Call::DeleteSecret { secret: 7 }, outcome)
    }
    fn recover(at: u64, end: u64, outcome: Outcome) -> Op {
        op(1, at, end, Call::RecoverSecret { secret: 7 }, outcome)
    }
    fn purge(at: u64, end: u64, outcome: Outcome) -> Op {
        op(1, at, end, Call::PurgeSecret { secret: 7 }, outcome)
    }

    #[test]
    fn a_secret_keeps_its_values() {
        let waits = || refused("KEY_PENDING_DELETION");
        let none = || refused("NOT_FOUND");
        for good in [
            vec![get(0, 1, 0, none()), set(2, 3, 5, as_version(1)), get(4, 5, 0, was(5, 1)), get(6, 7, 2, none())],
            vec![
                set(0, 1, 5, as_version(1)),
                set(2, 3, 6, as_version(2)),
                get(4, 5, 1, was(5, 1)),
                get(6, 7, 0, was(6, 2)),
            ],
            vec![set(0, 1, 5, as_version(1)), delete(2, 3, done()), get(4, 5, 0, waits()), set(6, 7, 6, waits())],
            vec![set(0, 1, 5, as_version(1)), delete(2, 3, done()), recover(4, 5, done()), get(6, 7, 0, was(5, 1))],
            vec![set(0, 1, 5, as_version(1)), delete(2, 3, done()), purge(4, 5, done()), set(6, 7, 6, as_version(1))],
            vec![set(0, 1, 5, doubt()), set(2, 3, 6, as_version(2)), get(4, 5, 1, was(5, 1))],
            vec![set(0, 1, 5, doubt()), get(2, 3, 0, none()), get(4, 5, 0, was(5, 1))],
            vec![
                set(0, 1, 5, as_version(1)),
                recover(2, 3, refused("WRONG_STATE")),
                purge(4, 5, refused("WRONG_STATE")),
            ],
        ] {
            assert_eq!(find(&good).verdict, Verdict::Valid, "{good:?}");
        }
        for bad in [
            vec![set(0, 1, 5, as_version(2))],
            vec![set(0, 1, 5, as_version(1)), get(2, 3, 0, none())],
            vec![set(0, 1, 5, as_version(1)), set(2, 3, 6, as_version(2)), get(4, 5, 0, was(5, 1))],
            vec![set(0, 1, 5, as_version(1)), set(2, 3, 6, as_version(2)), get(4, 5, 1, was(6, 1))],
            vec![set(0, 5, 5, as_version(1)), set(1, 6, 6, as_version(1))],
            vec![set(0, 1, 5, as_version(1)), get(2, 3, 0, was(0, 1))],
            vec![set(0, 1, 5, as_version(1)), delete(2, 3, done()), get(4, 5, 0, was(5, 1))],
            vec![set(0, 1, 5, as_version(1)), purge(2, 3, done())],
            vec![set(0, 1, 5, as_version(1)), delete(2, 3, done()), purge(4, 5, done()), recover(6, 7, done())],
        ] {
            assert_eq!(find(&bad).violations, 1, "{bad:?}");
        }
    }

    fn small() -> impl Strategy<Value = Vec<Op>> {
        let one = (0..12_u8, 0..3_u64, 1..3_u32, 0..12_u64, 1..5_u64).prop_map(|(kind, value, version, at, long)| {
            // Twice the time, so that no invocation falls on an end.
            let (at, end) = (2 * at, 2 * (at + long) + 1);
            match kind {
                0..=2 => set(at, end, value, as_version(version)),
                3 => set(at, end, value, doubt()),
                4 | 5 => get(at, end, 0, was(value, version)),
                6 => get(at, end, version, was(value, version)),
                7 => get(at, end, version, refused("NOT_FOUND")),
                8 => delete(at, end, if value == 0 { doubt() } else { done() }),
                9 => recover(at, end, if value == 0 { doubt() } else { done() }),
                10 => purge(at, end, if value == 0 { doubt() } else { done() }),
                _ => get(at, end, 0, refused("KEY_PENDING_DELETION")),
            }
        });
        proptest::collection::vec(one, 1..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_fast_checker_and_the_plain_one_agree(ops in small()) {
            let calls = intervals::<Secret>(&ops.iter().collect::<Vec<_>>());
            let fast = judge::<Secret>(&calls, LIMIT);
            prop_assert_eq!(fast == CheckResult::Ok, linearizable::<Secret>(&calls), "{:?}", ops);
            prop_assert_ne!(fast, CheckResult::Unknown);
        }
    }
}
