//! The states of a key and of its versions, in the terms of NIST SP 800-57 part 1 §7, and the moves between them.
//!
//! Two axes. The *key* is available or not: a disabled key, or one that waits for destruction, may neither protect
//! nor process. Its *versions* age: the current one is active, older ones are deactivated, which means that they
//! process (decrypt) what they protected and protect nothing new. A version's state follows from its number, so it
//! is not stored.

use crate::id::KeyVersion;

/// The state of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyState {
    /// May be used.
    Enabled,
    /// May not be used, until enabled again (SP 800-57: suspended).
    Disabled,
    /// May not be used, and is destroyed when cluster time reaches `at_ms`, unless cancelled before.
    PendingDeletion {
        /// When it falls due: milliseconds since 1970, cluster time.
        at_ms: u64,
    },
    /// Its material is being destroyed or is destroyed; there is no way back. The record itself goes when the last
    /// version has gone.
    Destroyed,
}

/// A move that a request asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transition {
    /// Enabled from now on.
    Enable,
    /// Disabled from now on.
    Disable,
    /// A new current version.
    Rotate,
    /// To be destroyed at that cluster time.
    ScheduleDeletion {
        /// Milliseconds since 1970, cluster time.
        at_ms: u64,
    },
    /// Not to be destroyed after all.
    CancelDeletion,
    /// Destroyed from now on; only the duty asks for this, once the key is due.
    Destroy,
}

/// Why a move is not possible, from the state alone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoWay {
    /// The key is disabled.
    Disabled,
    /// The key waits for its destruction.
    PendingDeletion {
        /// When it falls due, cluster time, ms.
        at_ms: u64,
    },
    /// Only a key that waits for its destruction can do this.
    NotPendingDeletion,
    /// The key is destroyed.
    Destroyed,
}

impl KeyState {
    /// Where the move leads; the same state again when the key is already there.
    ///
    /// | from \ to        | enable  | disable  | rotate  | schedule | cancel   | destroy   |
    /// |------------------|---------|----------|---------|----------|----------|-----------|
    /// | enabled          | enabled | disabled | enabled | pending  | –        | –         |
    /// | disabled         | enabled | disabled | –       | pending  | –        | –         |
    /// | pending deletion | –       | –        | –       | –        | disabled | destroyed |
    /// | destroyed        | –       | –        | –       | –        | –        | destroyed |
    ///
    /// A cancelled key comes back disabled: whoever wanted it gone gets the chance to look before it is used again.
    ///
    /// # Errors
    /// [`NoWay`] for each dash.
    pub fn after(self, transition: Transition) -> Result<Self, NoWay> {
        use Transition as T;
        match (self, transition) {
            (Self::Destroyed, T::Destroy) => Ok(Self::Destroyed),
            (Self::Destroyed, _) => Err(NoWay::Destroyed),
            (Self::PendingDeletion { .. }, T::CancelDeletion) => Ok(Self::Disabled),
            (Self::PendingDeletion { .. }, T::Destroy) => Ok(Self::Destroyed),
            (Self::PendingDeletion { at_ms }, _) => Err(NoWay::PendingDeletion { at_ms }),
            (_, T::CancelDeletion | T::Destroy) => Err(NoWay::NotPendingDeletion),
            (_, T::Enable) => Ok(Self::Enabled),
            (_, T::Disable) => Ok(Self::Disabled),
            (_, T::ScheduleDeletion { at_ms }) => Ok(Self::PendingDeletion { at_ms }),
            (Self::Enabled, T::Rotate) => Ok(Self::Enabled),
            (Self::Disabled, T::Rotate) => Err(NoWay::Disabled),
        }
    }

    /// Whether the key may be used at all.
    ///
    /// # Errors
    /// [`NoWay`] unless it is enabled.
    pub fn usable(self) -> Result<(), NoWay> {
        match self {
            Self::Enabled => Ok(()),
            Self::Disabled => Err(NoWay::Disabled),
            Self::PendingDeletion { at_ms } => Err(NoWay::PendingDeletion { at_ms }),
            Self::Destroyed => Err(NoWay::Destroyed),
        }
    }
}

/// The state of one version of an existing key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VersionState {
    /// Protects and processes.
    Active,
    /// Processes only: it was rotated out.
    Deactivated,
}

impl VersionState {
    /// The state of `version` in a key whose current version is `current`; `None` = there is no such version.
    pub fn of(version: KeyVersion, current: KeyVersion) -> Option<Self> {
        match version.cmp(&current) {
            std::cmp::Ordering::Less => Some(Self::Deactivated),
            std::cmp::Ordering::Equal => Some(Self::Active),
            std::cmp::Ordering::Greater => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table in the documentation, cell by cell.
    #[test]
    fn the_table() {
        use KeyState::*;
        let at = 7;
        let pending = PendingDeletion { at_ms: at };
        let moves = [
            Transition::Enable,
            Transition::Disable,
            Transition::Rotate,
            Transition::ScheduleDeletion { at_ms: at },
            Transition::CancelDeletion,
            Transition::Destroy,
        ];
        let row = |from: KeyState| moves.map(|m| from.after(m).ok());
        let (e, d, p, x) = (Some(Enabled), Some(Disabled), Some(pending), Some(Destroyed));
        assert_eq!(row(Enabled), [e, d, e, p, None, None]);
        assert_eq!(row(Disabled), [e, d, None, p, None, None]);
        assert_eq!(row(pending), [None, None, None, None, d, x]);
        assert_eq!(row(Destroyed), [None, None, None, None, None, x]);
    }

    #[test]
    fn only_an_enabled_key_may_be_used() {
        assert_eq!(KeyState::Enabled.usable(), Ok(()));
        assert_eq!(KeyState::Disabled.usable(), Err(NoWay::Disabled));
        assert_eq!(KeyState::PendingDeletion { at_ms: 9 }.usable(), Err(NoWay::PendingDeletion { at_ms: 9 }));
        assert_eq!(KeyState::Destroyed.usable(), Err(NoWay::Destroyed));
    }

    #[test]
    fn an_older_version_processes_only() {
        let v = |n| KeyVersion::new(n).unwrap();
        assert_eq!(VersionState::of(v(1), v(2)), Some(VersionState::Deactivated));
        assert_eq!(VersionState::of(v(2), v(2)), Some(VersionState::Active));
        assert_eq!(VersionState::of(v(3), v(2)), None);
    }
}
