//! Take a name off a key; the key stays.

use super::{Change, Decide, Refusal, Write, touch};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::lifecycle::KeyState;
use crate::record::{AliasRecord, KeyRecord, RecordName};
use crate::request::{AliasName, KeyHandle};
use crate::seam::NewIds;

/// Makes `name` stand for nothing.
///
/// Refused: [`Refusal::AliasNotFound`]. The alias of a key that is being destroyed can go too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeleteAlias {
    /// The name.
    pub name: AliasName,
}

impl Decide for DeleteAlias {
    type Answer = ();

    fn action(&self) -> Action {
        Action::NameDelete
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<()>, F::Error> {
        let Some(alias) = at.get::<AliasRecord>(self.name.clone())? else {
            return at.refuse(Refusal::AliasNotFound(self.name.clone()));
        };
        let mut writes = vec![Write::Delete(RecordName::Alias(self.name.clone()))];
        match at.get::<KeyRecord>(alias.key)? {
            Some(key) if key.state != KeyState::Destroyed => {
                let mut key = KeyRecord::clone(&*at.key(&KeyHandle::Id(alias.key))?);
                if key.aliases.remove(&self.name) {
                    touch(&mut key, at.time());
                    writes.push(Write::Update(key.into()));
                }
            }
            // A key that is being destroyed is nobody's any more; its destruction can do without the alias.
            _ => drop(at.namespace()?),
        }
        Ok(Change { writes, answer: () })
    }
}
