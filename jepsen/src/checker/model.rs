//! What one key does, call by call (key-state model of NIST SP 800-57 as the product documents it).

use super::object::Object;
use crate::history::{Answer, Call, Op, Outcome, State};

/// A key at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Key {
    /// Not created yet.
    #[default]
    Absent,
    /// Created.
    Present {
        /// Its state.
        state: State,
        /// The version that encrypts.
        version: u32,
    },
}

/// What was seen of a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Its answer.
    Answered(Answer),
    /// A refusal that tells the key's state.
    Refused(Refusal),
    /// Nothing: a change that may take effect at any time, or never.
    Nothing,
}

/// Why a key refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It was disabled.
    Disabled,
    /// It waited for its deletion.
    PendingDeletion,
    /// It did not wait for its deletion.
    NotPendingDeletion,
    /// There was no such key.
    Absent,
}

/// A call and what was seen of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// What was asked.
    pub call: Call,
    /// What was seen.
    pub seen: Seen,
}

impl Step {
    /// What a call says about its key; `None` when it says nothing.
    pub fn of(op: &Op) -> Option<Self> {
        let seen = match (&op.outcome, &op.call) {
            (Outcome::Ok(Answer::Metadata { state, version, .. }), _) => {
                Seen::Answered(Answer::Key { state: *state, version: *version })
            }
            (Outcome::Ok(Answer::Due { version, .. }), _) => {
                Seen::Answered(Answer::Key { state: State::PendingDeletion, version: *version })
            }
            (Outcome::Ok(answer), _) => Seen::Answered(answer.clone()),
            (Outcome::Info(_), call) if call.is_use() || call.is_read() => return None,
            (Outcome::Info(_), _) => Seen::Nothing,
            (Outcome::Fail(reason), call) => Seen::Refused(match (reason.as_str(), call) {
                ("KEY_DISABLED", _) => Refusal::Disabled,
                ("KEY_PENDING_DELETION", _) => Refusal::PendingDeletion,
                ("WRONG_STATE", Call::Cancel) => Refusal::NotPendingDeletion,
                ("NOT_FOUND" | "UNKNOWN_KEY", _) => Refusal::Absent,
                _ => return None,
            }),
        };
        // What was asked by alias says of the key what it says when asked by id; what became of the alias says nothing.
        let call = match op.call {
            Call::CreateAlias { .. } | Call::DeleteAlias { .. } => return None,
            _ if op.call.is_operators() => return None,
            Call::DescribeAlias { .. } | Call::Inspect => Call::Describe,
            Call::ScheduleSoon { .. } => Call::Schedule,
            Call::EncryptAlias { text, .. } => Call::Encrypt { text },
            _ => op.call.clone(),
        };
        Some(Self { call, seen })
    }
}

impl Object for Key {
    type Step = Step;

    const WHAT: &'static str = "key";

    fn step_of(op: &Op) -> Option<(String, Step)> {
        Some((op.key.clone()?, Step::of(op)?))
    }

    fn describe(step: &Step) -> String {
        format!("{:?} → {:?}", step.call, step.seen)
    }

    fn after(&self, step: &Step) -> Option<Self> {
        match &step.seen {
            Seen::Nothing => Some(self.changed(&step.call).unwrap_or(*self)),
            Seen::Refused(refusal) => self.refuses(&step.call, *refusal).then_some(*self),
            Seen::Answered(answer) => self.answered(&step.call, answer),
        }
    }
}

impl Key {
    /// The key after a change; `None` when it refuses it, or the call changes nothing.
    fn changed(self, call: &Call) -> Option<Self> {
        use State::*;
        let Self::Present { state, version } = self else {
            let created = Self::Present { state: Enabled, version: 1 };
            return matches!(call, Call::Create { .. }).then_some(created);
        };
        let to = |state| Some(Self::Present { state, version });
        match (call, state) {
            (Call::Enable, Enabled | Disabled) => to(Enabled),
            (Call::Disable, Enabled | Disabled) => to(Disabled),
            (Call::Schedule, Enabled | Disabled) => to(PendingDeletion),
            (Call::Cancel, PendingDeletion) => to(Disabled),
            (Call::Rotate, Enabled) => Some(Self::Present { state, version: version + 1 }),
            _ => None,
        }
    }

    fn answered(self, call: &Call, answer: &Answer) -> Option<Self> {
        match (call, answer, self) {
            // The same token again: the answer of the first time, whatever the key is by now.
            (Call::Create { .. }, Answer::Key { state: State::Enabled, version: 1 }, Self::Present { .. }) => {
                Some(self)
            }
            (Call::Describe, Answer::Key { state, version }, Self::Present { .. }) => {
                (self == Self::Present { state: *state, version: *version }).then_some(self)
            }
            (
                Call::Encrypt { .. },
                Answer::Encrypted { version: by },
                Self::Present { state: State::Enabled, version },
            ) => (*by == version).then_some(self),
            (
                Call::Decrypt { .. },
                Answer::Decrypted { version: by, exact: true },
                Self::Present { state: State::Enabled, version },
            ) => (*by <= version).then_some(self),
            (_, Answer::Key { state, version }, _) => {
                self.changed(call).filter(|new| *new == Self::Present { state: *state, version: *version })
            }
            _ => None,
        }
    }

    fn refuses(self, call: &Call, refusal: Refusal) -> bool {
        let state = match self {
            Self::Absent => return refusal == Refusal::Absent,
            Self::Present { state, .. } => state,
        };
        match refusal {
            Refusal::Absent => false,
            Refusal::Disabled => state == State::Disabled && (call.is_use() || *call == Call::Rotate),
            Refusal::PendingDeletion => state == State::PendingDeletion && *call != Call::Cancel,
            Refusal::NotPendingDeletion => state != State::PendingDeletion,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::hand::*;

    fn run(calls: &[(Call, Outcome)]) -> Option<Key> {
        let steps = calls.iter().map(|(call, outcome)| Step::of(&op(1, 0, 1, call.clone(), outcome.clone())));
        steps.flatten().try_fold(Key::default(), |key, step| key.after(&step))
    }

    #[test]
    fn a_life() {
        use State::*;
        let life = [
            (Call::Encrypt { text: 0 }, refused("NOT_FOUND")),
            (Call::Create { token: 1 }, key(Enabled, 1)),
            (Call::Encrypt { text: 1 }, encrypted(1)),
            (Call::Rotate, key(Enabled, 2)),
            (Call::Decrypt { text: 1 }, decrypted(1, true)),
            (Call::Disable, key(Disabled, 2)),
            (Call::Encrypt { text: 2 }, refused("KEY_DISABLED")),
            (Call::Rotate, refused("KEY_DISABLED")),
            (Call::Schedule, key(PendingDeletion, 2)),
            (Call::Enable, refused("KEY_PENDING_DELETION")),
            (Call::Cancel, key(Disabled, 2)),
            (Call::Cancel, refused("WRONG_STATE")),
            (Call::Enable, doubt()),
            (Call::Describe, key(Enabled, 2)),
            (Call::Rotate, refused("UNAVAILABLE")),
            (Call::Encrypt { text: 3 }, encrypted(2)),
        ];
        assert_eq!(run(&life), Some(Key::Present { state: Enabled, version: 2 }));
    }

    #[test]
    fn what_a_key_can_not_answer() {
        use State::*;
        let after = |last: (Call, Outcome)| run(&[(Call::Create { token: 1 }, key(Enabled, 1)), last]);
        for impossible in [
            (Call::Encrypt { text: 1 }, encrypted(2)),
            (Call::Encrypt { text: 1 }, refused("KEY_DISABLED")),
            (Call::Decrypt { text: 1 }, decrypted(2, true)),
            (Call::Decrypt { text: 1 }, decrypted(1, false)),
            (Call::Rotate, key(Enabled, 3)),
            (Call::Rotate, key(Enabled, 1)),
            (Call::Describe, key(Disabled, 1)),
            (Call::Describe, refused("NOT_FOUND")),
            (Call::Cancel, key(Disabled, 1)),
            (Call::Disable, key(Enabled, 1)),
            (Call::Cancel, refused("KEY_PENDING_DELETION")),
        ] {
            assert_eq!(after(impossible.clone()), None, "{impossible:?}");
        }
        assert_eq!(run(&[(Call::Describe, key(Enabled, 1))]), None, "nobody created it");
    }
}
