//! The states of keys, secrets and their versions, as people and programs say and read them.

use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use quorate_client::v1::{KeyState, VersionState};

/// The states that a list is of.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// May be used
    Enabled,
    /// May not be used
    Disabled,
    /// May not be used, and is destroyed on a day to come
    PendingDeletion,
    /// Is put away
    Archived,
}

impl State {
    /// Those of secrets, which nobody archives.
    pub(super) fn of_secrets() -> impl TypedValueParser<Value = Self> {
        let all = Self::value_variants().iter().filter(|state| **state != Self::Archived);
        let words = all.filter_map(Self::to_possible_value);
        PossibleValuesParser::new(words).try_map(|word| Self::from_str(&word, false))
    }

    /// As a request has them, and whether it asks for what is archived.
    pub(super) fn asked(states: &[Self]) -> (Vec<i32>, bool) {
        let state = |state: &Self| match state {
            Self::Enabled => Some(KeyState::Enabled.into()),
            Self::Disabled => Some(KeyState::Disabled.into()),
            Self::PendingDeletion => Some(KeyState::PendingDeletion.into()),
            Self::Archived => None,
        };
        (states.iter().filter_map(state).collect(), states.contains(&Self::Archived))
    }
}

/// The state of a key or a secret.
pub(super) fn state_word(state: KeyState) -> &'static str {
    match state {
        KeyState::Enabled => "enabled",
        KeyState::Disabled => "disabled",
        KeyState::PendingDeletion => "pending-deletion",
        KeyState::Unspecified => "unknown",
    }
}

/// The state of a version.
pub(super) fn version_state_word(state: VersionState) -> &'static str {
    match state {
        VersionState::PreActive => "pre-active",
        VersionState::Active => "active",
        VersionState::Deactivated => "deactivated",
        VersionState::Compromised => "compromised",
        VersionState::Destroyed => "destroyed",
        VersionState::DestroyedCompromised => "destroyed-compromised",
        VersionState::Unspecified => "unknown",
    }
}
