//! Which keys a list is of.

use super::Tags;
use crate::key_spec::KeySpec;
use crate::lifecycle::KeyState;
use crate::record::KeyRecord;

/// The states that a list of keys is of.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct KeyStates {
    /// Keys that may be used.
    pub enabled: bool,
    /// Keys that may not.
    pub disabled: bool,
    /// Keys that wait for their destruction.
    pub pending_deletion: bool,
    /// Keys that are put away, enabled or disabled: they stand under neither.
    pub archived: bool,
}

impl KeyStates {
    /// Every state in which a key is shown.
    pub const ANY: Self = Self { enabled: true, disabled: true, pending_deletion: true, archived: true };

    /// Whether that key is listed; one that is being destroyed is shown to nobody.
    pub const fn hold(self, key: &KeyRecord) -> bool {
        match key.state {
            KeyState::Enabled | KeyState::Disabled if key.archived => self.archived,
            KeyState::Enabled => self.enabled,
            KeyState::Disabled => self.disabled,
            KeyState::PendingDeletion { .. } => self.pending_deletion,
            KeyState::Destroyed => false,
        }
    }
}

/// Which keys a list is of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyFilter {
    /// In one of these states.
    pub states: KeyStates,
    /// Of one of these kinds; none = of any.
    pub specs: Vec<KeySpec>,
    /// With all of these tags.
    pub tags: Tags,
}

impl KeyFilter {
    /// Every key that is shown at all.
    pub fn any() -> Self {
        Self { states: KeyStates::ANY, specs: Vec::new(), tags: Tags::default() }
    }

    /// Whether that key is listed.
    pub fn holds(&self, key: &KeyRecord) -> bool {
        let of_kind = self.specs.is_empty() || self.specs.contains(&key.spec);
        of_kind && self.states.hold(key) && key.tags.include(&self.tags)
    }
}
