//! A set of actions.

use cedar_policy::EntityUid;
use quorate_core::action::Action;

use crate::role::Role;
use crate::schema::group_name;

/// A set of actions: a bit for each, in the order of [`Action::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Actions(u128);

const _: () = assert!(Action::ALL.len() < 128, "a bit for each");

impl Actions {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const ALL: Self = Self((1 << Action::ALL.len()) - 1);

    /// The action of that id.
    pub(crate) fn exactly(uid: &EntityUid) -> Self {
        Self::that(|action| uid.id().unescaped() == action.as_str())
    }
    /// The action of that id, or those of the group or role.
    pub(crate) fn within(uid: &EntityUid) -> Self {
        let id = uid.id().unescaped();
        Self::that(|action| {
            let roles = || Role::of(action).iter().any(|role| role.as_str() == id);
            action.as_str() == id || group_name(action.group()) == id || roles()
        })
    }
    fn that(is: impl Fn(Action) -> bool) -> Self {
        let all = Action::ALL.iter().filter(|action| is(**action));
        Self(all.fold(0, |bits, action| bits | 1 << *action as u32))
    }
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    pub(crate) fn has(self, action: Action) -> bool {
        self.0 & 1 << action as u32 != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Kind;

    #[test]
    fn an_action_has_the_bit_of_its_place() {
        for (place, action) in Action::ALL.iter().copied().enumerate() {
            assert_eq!(action as usize, place);
            assert!(Actions::ALL.has(action) && !Actions::NONE.has(action));
            let one = Actions::exactly(&Kind::Action.uid(action.as_str()));
            assert!(Action::ALL.iter().all(|other| one.has(*other) == (*other == action)));
        }
    }
}
