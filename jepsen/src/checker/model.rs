//! What one key does, call by call (key-state model of NIST SP 800-57 as the product documents it).

use super::object::Object;
use crate::history::{Answer, Call, Form, Op, Outcome, State};

/// A key at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Key {
    /// Not created yet.
    #[default]
    Absent,
    /// Created.
    Present(Life),
    /// Purged, as it was then: only a backup brings it back.
    Purged(Life),
}

/// What becomes of a key that is there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Life {
    /// Its state.
    state: State,
    /// Whether it was enabled when its deletion was scheduled.
    was_enabled: bool,
    /// The version that protects.
    version: u32,
    /// Versions that somebody else may know.
    compromised: Versions,
    /// Versions whose material is gone.
    destroyed: Versions,
    /// What these versions and those before made opens; a later number may have been another version before the key was brought
    /// back.
    certain: u32,
    purge_protected: bool,
    /// Number of the material, once somebody has seen it; 0 = nobody has.
    material: u64,
    here: Here,
}

/// Whether the material is there.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Here {
    Yes,
    No,
    /// It has an end, of which a calling client can't tell whether it has come (the checker `material` judges that).
    ForATime,
}

/// A set of versions.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Versions(u128);

impl Versions {
    fn bit(version: u32) -> u128 {
        1_u128.checked_shl(version).unwrap_or(0)
    }
    fn with(self, version: u32) -> Self {
        Self(self.0 | Self::bit(version))
    }
    fn has(self, version: u32) -> bool {
        self.0 & Self::bit(version) != 0
    }
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
    /// There was no such key, or no such version of it.
    Absent,
    /// It must not be purged, nor any version of it destroyed.
    PurgeProtected,
    /// The version still protected.
    Active,
    /// The version protected nothing any more.
    Retired,
    /// The version was compromised.
    Compromised,
    /// The version was destroyed.
    Destroyed,
    /// Its material was not there.
    MaterialMissing,
    /// It had had another material.
    WrongMaterial,
    /// The version did not make that.
    Tampered,
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
                ("WRONG_STATE", Call::Cancel | Call::Recover | Call::Purge) => Refusal::NotPendingDeletion,
                ("WRONG_STATE", Call::DestroyVersion { .. }) => Refusal::Active,
                ("NOT_FOUND" | "UNKNOWN_KEY", _) => Refusal::Absent,
                ("PURGE_PROTECTED", _) => Refusal::PurgeProtected,
                ("NO_LONGER_VALID", _) => Refusal::Retired,
                ("COMPROMISED", _) => Refusal::Compromised,
                ("DESTROYED", _) => Refusal::Destroyed,
                ("MATERIAL_MISSING", _) => Refusal::MaterialMissing,
                ("WRONG_MATERIAL", _) => Refusal::WrongMaterial,
                ("TAMPERED", Call::DecryptBy { .. }) => Refusal::Tampered,
                _ => return None,
            }),
        };
        // What was asked by alias says of the key what it says when asked by id; what became of the alias says nothing.
        let call = match op.call {
            Call::CreateAlias { .. } | Call::DeleteAlias { .. } => return None,
            _ if op.call.is_operators() || op.call.key_name().is_some() || op.call.secret().is_some() => return None,
            Call::DescribeAlias { .. } | Call::Inspect => Call::Describe,
            Call::ScheduleSoon { .. } => Call::Schedule,
            Call::EncryptAlias { text, .. } | Call::DataKey { text, .. } => Call::Encrypt { text },
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
        let life = match (self, &step.seen) {
            (Self::Present(life), _) => life,
            (Self::Absent, seen) if matches!(step.call, Call::Create { .. }) => {
                let created = Self::created(&step.call);
                let told = matches!(seen, Seen::Answered(Answer::Key { state: State::Enabled, version: 1 }));
                return (told || *seen == Seen::Nothing).then_some(created);
            }
            (Self::Purged(life), seen) if matches!(step.call, Call::Restore { .. }) => {
                let back = life.brought_back(&step.call);
                let told =
                    |state, version| matches!(back, Self::Present(new) if (new.state, new.version) == (state, version));
                let fits = match seen {
                    Seen::Nothing => true,
                    Seen::Answered(Answer::Key { state, version }) => told(*state, *version),
                    _ => false,
                };
                return fits.then_some(back);
            }
            // Of what is gone nothing is heard but that.
            (_, seen) => return matches!(seen, Seen::Nothing | Seen::Refused(Refusal::Absent)).then_some(*self),
        };
        match &step.seen {
            Seen::Nothing => Some(life.changed(&step.call).unwrap_or(*self)),
            Seen::Refused(refusal) => life.refuses(&step.call, *refusal).then_some(*self),
            Seen::Answered(answer) => life.answered(&step.call, answer),
        }
    }
}

impl Key {
    fn created(call: &Call) -> Self {
        let form = if let Call::Create { form, .. } = call { *form } else { Form::Usual };
        Self::Present(Life {
            state: State::Enabled,
            was_enabled: true,
            version: 1,
            compromised: Versions::default(),
            destroyed: Versions::default(),
            certain: u32::MAX,
            purge_protected: form == Form::PurgeProtected,
            material: 0,
            here: if form == Form::External { Here::No } else { Here::Yes },
        })
    }
}

impl Life {
    /// The key as a backup brings it back: disabled, its version that of then.
    fn brought_back(self, call: &Call) -> Key {
        let Call::Restore { version } = *call else { return Key::Purged(self) };
        let certain = if version < self.version { self.certain.min(version) } else { self.certain };
        Key::Present(Self { state: State::Disabled, version, certain, ..self })
    }

    /// The key after a change; `None` when it refuses it, or the call changes nothing.
    fn changed(self, call: &Call) -> Option<Key> {
        use State::*;
        let (waits, version) = (self.state == PendingDeletion, self.version);
        let changed = match call {
            Call::Enable if !waits && self.here != Here::No => Self { state: Enabled, ..self },
            Call::Disable if !waits && self.here != Here::No => Self { state: Disabled, ..self },
            Call::Schedule if !waits => Self { state: PendingDeletion, was_enabled: self.state == Enabled, ..self },
            Call::Recover if waits && self.was_enabled => Self { state: Enabled, ..self },
            Call::Cancel | Call::Recover if waits => Self { state: Disabled, ..self },
            Call::Purge if waits && !self.purge_protected => return Some(Key::Purged(self)),
            Call::Rotate if self.usable() && !self.destroyed.has(version) => {
                Self { version: version + 1, material: 0, ..self }
            }
            Call::Compromise { version: of } if *of <= version => {
                Self { compromised: self.compromised.with(*of), ..self }
            }
            Call::DestroyVersion { version: of } if !waits && !self.purge_protected && self.may_go(*of) => {
                Self { destroyed: self.destroyed.with(*of), ..self }
            }
            Call::Import { material, seconds } if !waits && [0, *material].contains(&self.material) => {
                let here = if *seconds == 0 { Here::Yes } else { Here::ForATime };
                Self { material: *material, here, ..self }
            }
            Call::DeleteMaterial => Self { here: Here::No, ..self },
            _ => return None,
        };
        Some(Key::Present(changed))
    }

    fn answered(self, call: &Call, answer: &Answer) -> Option<Key> {
        let now = Key::Present(self);
        match (call, answer) {
            // The same token again is answered as a description is.
            (Call::Create { .. } | Call::Describe, Answer::Key { state, version }) => {
                ((self.state, self.version) == (*state, *version)).then_some(now)
            }
            (Call::ListVersions, Answer::Versions { states, .. }) => self.lists(states).then_some(now),
            (Call::Encrypt { .. }, Answer::Encrypted { version }) => self.protects(*version).then_some(now),
            (Call::EncryptBy { version: by, .. }, Answer::Encrypted { version }) => {
                (by == version && self.protects(*by)).then_some(now)
            }
            (Call::ReEncrypt { version: from, .. }, Answer::Encrypted { version }) => {
                (self.opens(*from) && self.protects(*version)).then_some(now)
            }
            (Call::Decrypt { .. }, Answer::Decrypted { version, exact: true }) => self.opens(*version).then_some(now),
            (Call::DecryptBy { version: by, .. }, Answer::Decrypted { version, exact: true }) => {
                (by == version && self.opens(*by)).then_some(now)
            }
            (Call::Export, Answer::Material { material, .. }) => {
                let same = [0, *material].contains(&self.material);
                let leaves = self.usable() && same && !self.destroyed.has(self.version);
                leaves.then_some(Key::Present(Self { material: *material, ..self }))
            }
            (Call::BackUp, Answer::Made { version }) => {
                (self.state != State::PendingDeletion && *version == self.version).then_some(now)
            }
            (Call::ImportParameters, Answer::Done) => (self.state != State::PendingDeletion).then_some(now),
            (Call::Import { material: of, .. }, Answer::Material { material, .. }) if of != material => None,
            (_, Answer::Key { state, version }) => self
                .changed(call)
                .filter(|key| matches!(key, Key::Present(new) if (new.state, new.version) == (*state, *version))),
            (_, Answer::Done | Answer::Material { .. }) => self.changed(call),
            _ => None,
        }
    }

    fn refuses(self, call: &Call, refusal: Refusal) -> bool {
        let waits = self.state == State::PendingDeletion;
        let uses = call.is_use() || *call == Call::Rotate;
        match refusal {
            Refusal::Absent => named(call).is_some_and(|version| version > self.version),
            Refusal::PendingDeletion => {
                let always = matches!(call, Call::Compromise { .. } | Call::DeleteMaterial | Call::Purge);
                let tells = matches!(call, Call::Describe | Call::ListVersions);
                waits && !always && !tells && !call.spares()
            }
            Refusal::NotPendingDeletion => !waits,
            Refusal::Tampered => self.usable() && named(call).is_some_and(|version| version > self.certain),
            Refusal::MaterialMissing => {
                !waits && self.here != Here::Yes && (uses || matches!(call, Call::Enable | Call::Disable))
            }
            Refusal::Disabled => self.state == State::Disabled && self.here != Here::No && uses,
            Refusal::PurgeProtected => self.purge_protected && waits == (*call == Call::Purge),
            Refusal::Active => !waits && named(call).is_some_and(|version| self.letter(version) == 'a'),
            Refusal::Retired => self.usable() && named(call).is_some_and(|version| self.letter(version) == 'd'),
            Refusal::Compromised => self.usable() && self.addresses(call, &['c']),
            // What is destroyed already is not destroyed again, in whatever state its key is.
            Refusal::Destroyed if matches!(call, Call::DestroyVersion { .. }) => {
                !waits && self.addresses(call, &['x', 'X'])
            }
            Refusal::Destroyed => self.usable() && self.addresses(call, &['x', 'X']),
            Refusal::WrongMaterial => {
                let other = |material: u64| self.material != 0 && self.material != material;
                !waits && matches!(call, Call::Import { material, .. } if other(*material))
            }
        }
    }

    /// Whether uses go, as far as the key is concerned.
    fn usable(self) -> bool {
        self.state == State::Enabled && self.here != Here::No
    }

    fn protects(self, version: u32) -> bool {
        self.usable() && self.letter(version) == 'a'
    }

    fn opens(self, version: u32) -> bool {
        self.usable() && matches!(self.letter(version), 'a' | 'd')
    }

    /// Whether a version may be destroyed.
    fn may_go(self, version: u32) -> bool {
        matches!(self.letter(version), 'd' | 'c')
    }

    /// Whether one of the versions that a call is about is in one of these states.
    fn addresses(self, call: &Call, states: &[char]) -> bool {
        let is = |version: u32| states.contains(&self.letter(version));
        match call {
            // Which one it is stands in the ciphertext alone.
            Call::Decrypt { .. } => (1..=self.version).any(is),
            Call::ReEncrypt { version, .. } => is(*version) || is(self.version),
            _ => is(named(call).unwrap_or(self.version)),
        }
    }

    /// A version's state, as in [`Answer::Versions`]; `?` = there is none of that number.
    fn letter(self, version: u32) -> char {
        match (self.destroyed.has(version), self.compromised.has(version)) {
            (true, true) => 'X',
            (true, false) => 'x',
            (false, true) => 'c',
            (false, false) if version < self.version => 'd',
            (false, false) if version == self.version => 'a',
            (false, false) => '?',
        }
    }

    fn lists(self, states: &str) -> bool {
        let fits = |(version, told): (u32, char)| match self.here {
            Here::Yes => told == self.letter(version),
            Here::No => told == '-',
            Here::ForATime => told == '-' || told == self.letter(version),
        };
        states.chars().count() == self.version as usize && (1..).zip(states.chars()).all(fits)
    }
}

/// The version that a call names.
fn named(call: &Call) -> Option<u32> {
    match call {
        Call::EncryptBy { version, .. } | Call::DecryptBy { version, .. } => Some(*version),
        Call::Compromise { version } | Call::DestroyVersion { version } => Some(*version),
        _ => None,
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
            (Call::create(1), key(Enabled, 1)),
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
        assert!(matches!(run(&life), Some(Key::Present(Life { state: Enabled, version: 2, .. }))));
    }

    #[test]
    fn what_is_purged_comes_back_from_a_backup() {
        use State::*;
        let by = |text, version| Call::DecryptBy { text, version };
        let gone = |version| {
            vec![
                (Call::create(1), key(Enabled, 1)),
                (Call::BackUp, Outcome::Ok(Answer::Made { version })),
                (Call::Rotate, key(Enabled, 2)),
                (Call::Schedule, key(PendingDeletion, 2)),
                (Call::BackUp, refused("KEY_PENDING_DELETION")),
                (Call::Purge, Outcome::Ok(Answer::Done)),
            ]
        };
        let with = |mut calls: Vec<(Call, Outcome)>, more: &[(Call, Outcome)]| {
            calls.extend_from_slice(more);
            run(&calls)
        };
        let back = (Call::Restore { version: 1 }, key(Disabled, 1));
        let again = [
            (Call::Describe, refused("NOT_FOUND")),
            back.clone(),
            (Call::Enable, key(Enabled, 1)),
            (by(1, 1), decrypted(1, true)),
            (by(2, 2), refused("UNKNOWN_KEY")),
            (Call::Rotate, key(Enabled, 2)),
            (by(2, 2), refused("TAMPERED")),
        ];
        assert!(with(gone(1), &again).is_some());
        assert!(
            with(gone(1), &[(Call::Restore { version: 1 }, doubt()), (Call::Describe, key(Disabled, 1))]).is_some()
        );
        assert_eq!(run(&gone(2)), None, "it has another version than it had");
        for bad in [
            (Call::Restore { version: 1 }, key(Enabled, 1)),
            (Call::Restore { version: 1 }, key(Disabled, 2)),
            (Call::Describe, key(Disabled, 2)),
        ] {
            assert_eq!(with(gone(1), &[bad]), None);
        }
        let enabled = (Call::Enable, key(Enabled, 1));
        assert_eq!(with(gone(1), &[back.clone(), enabled, (by(1, 1), refused("TAMPERED"))]), None);
        assert_eq!(with(gone(1), &[back.clone(), back]), None, "it is there");
    }

    #[test]
    fn what_a_key_can_not_answer() {
        use State::*;
        let after = |last: (Call, Outcome)| run(&[(Call::create(1), key(Enabled, 1)), last]);
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
