//! What a name that a key has for life does: it is taken when it is free, and free again once the key that has it is purged. So a
//! creation is a compare-and-set, and whoever asks by name is told of the key that has it at some moment of the call.

use super::object::Object;
use crate::history::{Answer, Call, Op, Outcome, State};

/// A name at one moment: the key that has it.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Name(Option<Holder>);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Holder {
    key: Who,
    /// Its deletion is scheduled.
    waits: bool,
}

/// Which key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Who {
    /// That of this id.
    Id(String),
    /// That which this token made, whose id nobody was told.
    MadeBy(u64),
}

/// What a call says about its name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// The key of that id was created with it, by that token.
    Created(String, u64),
    /// The same, in doubt: at any time, or never.
    MayCreate(u64),
    /// The deletion of the key of that id was scheduled.
    Scheduled(String),
    /// The same, in doubt.
    MaySchedule,
    /// The key of that id was purged.
    Purged(String),
    /// The same, in doubt.
    MayPurge,
    /// The key of that id has it, which waits for its deletion or not.
    Is(String, bool),
    /// Some key has it.
    Taken,
    /// Some key has it, which waits for its deletion or not.
    Waits(bool),
    /// None has it.
    Free,
}

impl Object for Name {
    type Step = Step;

    const WHAT: &'static str = "name";

    fn step_of(op: &Op) -> Option<(String, Step)> {
        let name = op.call.key_name()?;
        let key = || op.key.clone();
        let step = match (&op.call, &op.outcome) {
            (Call::CreateNamed { token, .. }, Outcome::Ok(_)) => Step::Created(key()?, *token),
            (Call::CreateNamed { token, .. }, Outcome::Info(_)) => Step::MayCreate(*token),
            (Call::CreateNamed { .. }, Outcome::Fail(why)) if why == "ALREADY_EXISTS" => Step::Taken,
            // Where a retry finds that what its token made is gone.
            (Call::CreateNamed { .. }, Outcome::Fail(_)) => return None,
            (Call::ScheduleNamed { .. }, Outcome::Ok(_)) => Step::Scheduled(key()?),
            (Call::ScheduleNamed { .. }, Outcome::Info(_)) => Step::MaySchedule,
            (Call::PurgeNamed { .. }, Outcome::Ok(_)) => Step::Purged(key()?),
            (Call::PurgeNamed { .. }, Outcome::Info(_)) => Step::MayPurge,
            (Call::DescribeNamed { .. }, Outcome::Ok(Answer::Key { state, .. })) => {
                Step::Is(key()?, *state == State::PendingDeletion)
            }
            (_, Outcome::Fail(why)) => match why.as_str() {
                "NOT_FOUND" => Step::Free,
                "KEY_PENDING_DELETION" => Step::Waits(true),
                "WRONG_STATE" => Step::Waits(false),
                _ => return None,
            },
            _ => return None,
        };
        Some((name.to_string(), step))
    }

    fn after(&self, step: &Step) -> Option<Self> {
        let held = |key, waits| Self(Some(Holder { key, waits }));
        let by = |id: &String, waits| held(Who::Id(id.clone()), waits);
        let Some(Holder { key, waits }) = &self.0 else {
            return match step {
                Step::Created(id, _) => Some(by(id, false)),
                Step::MayCreate(token) => Some(held(Who::MadeBy(*token), false)),
                Step::MaySchedule | Step::MayPurge | Step::Free => Some(self.clone()),
                _ => None,
            };
        };
        // Whose id nobody was told may be any, until somebody is.
        let is = |id: &String| *key == Who::Id(id.clone()) || matches!(key, Who::MadeBy(_));
        match step {
            Step::Created(id, token) => {
                let same = *key == Who::Id(id.clone()) || *key == Who::MadeBy(*token);
                same.then(|| by(id, *waits))
            }
            Step::MayCreate(_) | Step::Taken => Some(self.clone()),
            Step::Scheduled(id) => (is(id) && !waits).then(|| by(id, true)),
            Step::MaySchedule => Some(held(key.clone(), true)),
            Step::Purged(id) => (is(id) && *waits).then(Self::default),
            Step::MayPurge => Some(if *waits { Self::default() } else { self.clone() }),
            Step::Is(id, told) => (is(id) && waits == told).then(|| by(id, *waits)),
            Step::Waits(told) => (waits == told).then(|| self.clone()),
            Step::Free => None,
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

    const LIMIT: Duration = Duration::from_secs(60);
    const FREE: &str = "NOT_FOUND";

    fn find(ops: &[Op]) -> Finding {
        check::<Name>("names", ops, LIMIT)
    }
    fn created(at: u64, end: u64, id: &str, token: u64) -> Op {
        of(op(1, at, end, Call::CreateNamed { name: 7, token }, key(State::Enabled, 1)), id)
    }
    fn none(at: u64, end: u64, call: Call, outcome: Outcome) -> Op {
        Op { key: None, ..op(1, at, end, call, outcome) }
    }
    fn create(at: u64, end: u64, token: u64, outcome: Outcome) -> Op {
        none(at, end, Call::CreateNamed { name: 7, token }, outcome)
    }
    fn read(at: u64, end: u64, id: &str, state: State) -> Op {
        of(op(2, at, end, Call::DescribeNamed { name: 7 }, key(state, 1)), id)
    }
    fn free(at: u64, end: u64) -> Op {
        none(at, end, Call::DescribeNamed { name: 7 }, refused(FREE))
    }
    fn scheduled(at: u64, end: u64, id: &str) -> Op {
        of(op(1, at, end, Call::ScheduleNamed { name: 7 }, key(State::PendingDeletion, 1)), id)
    }
    fn purged(at: u64, end: u64, id: &str) -> Op {
        of(op(1, at, end, Call::PurgeNamed { name: 7 }, Outcome::Ok(Answer::Done)), id)
    }

    #[test]
    fn a_name_is_taken_while_its_key_is_there() {
        use State::*;
        let taken = || refused("ALREADY_EXISTS");
        for good in [
            vec![free(0, 1), created(2, 3, "a", 1), read(4, 5, "a", Enabled), create(6, 7, 2, taken())],
            vec![created(0, 1, "a", 1), scheduled(2, 3, "a"), create(4, 5, 2, taken()), purged(6, 7, "a"), free(8, 9)],
            vec![created(0, 1, "a", 1), scheduled(2, 3, "a"), purged(4, 5, "a"), created(6, 7, "b", 2)],
            // In doubt: told by whoever asks, or by its own retry, and by nobody when it never was.
            vec![create(0, 1, 1, doubt()), read(2, 3, "a", Enabled), created(4, 5, "a", 1)],
            vec![create(0, 1, 1, doubt()), free(2, 3), create(4, 5, 2, taken())],
            vec![create(0, 1, 1, doubt()), created(2, 3, "b", 2)],
            vec![created(0, 1, "a", 1), none(2, 3, Call::PurgeNamed { name: 7 }, refused("WRONG_STATE"))],
        ] {
            assert_eq!(find(&good).verdict, Verdict::Valid, "{good:?}");
        }
        for bad in [
            // Two won.
            vec![created(0, 5, "a", 1), created(1, 6, "b", 2)],
            // Lost, taken over, and come back.
            vec![created(0, 1, "a", 1), free(2, 3)],
            vec![created(0, 1, "a", 1), read(2, 3, "b", Enabled)],
            vec![created(0, 1, "a", 1), scheduled(2, 3, "a"), purged(4, 5, "a"), read(6, 7, "a", PendingDeletion)],
            // Purged though it did not wait for it; refused though it was free.
            vec![created(0, 1, "a", 1), purged(2, 3, "a")],
            vec![create(0, 1, 1, taken())],
            // One token made two.
            vec![create(0, 1, 1, doubt()), read(2, 3, "a", Enabled), created(4, 5, "b", 1)],
        ] {
            assert_eq!(find(&bad).violations, 1, "{bad:?}");
        }
    }

    fn small() -> impl Strategy<Value = Vec<Op>> {
        let id = prop_oneof![Just("a"), Just("b")];
        let one = (0..10_u8, id, any::<bool>(), 0..12_u64, 1..5_u64).prop_map(|(kind, id, waits, at, long)| {
            // Twice the time, so that no invocation falls on an end.
            let (at, end) = (2 * at, 2 * (at + long) + 1);
            let token = u64::from(id == "b");
            match kind {
                0 | 1 => created(at, end, id, token),
                2 => create(at, end, token, doubt()),
                3 => create(at, end, token, refused("ALREADY_EXISTS")),
                4 | 5 => scheduled(at, end, id),
                6 => purged(at, end, id),
                7 => free(at, end),
                8 => none(at, end, Call::PurgeNamed { name: 7 }, doubt()),
                _ => read(at, end, id, if waits { State::PendingDeletion } else { State::Enabled }),
            }
        });
        proptest::collection::vec(one, 1..6)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_fast_checker_and_the_plain_one_agree(ops in small()) {
            let calls = intervals::<Name>(&ops.iter().collect::<Vec<_>>());
            let fast = judge::<Name>(&calls, LIMIT);
            prop_assert_eq!(fast == CheckResult::Ok, linearizable::<Name>(&calls), "{:?}", ops);
            prop_assert_ne!(fast, CheckResult::Unknown);
        }
    }
}
