//! Take a name off a key; the key stays.

use super::{Change, Decide, Refusal, Write};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::record::{AliasRecord, KeyRecord, RecordName};
use crate::request::{AliasName, KeyHandle};
use crate::seam::NewIds;

/// Makes `name` stand for nothing.
///
/// Refused: [`Refusal::AliasNotFound`].
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
        if at.get::<AliasRecord>(self.name.clone())?.is_none() {
            at.namespace()?;
            return Err(Refusal::AliasNotFound(self.name.clone()).into());
        }
        let mut key = KeyRecord::clone(&*at.key(&KeyHandle::Alias(self.name.clone()))?);
        let mut writes = vec![Write::Delete(RecordName::Alias(self.name.clone()))];
        if key.aliases.remove(&self.name) {
            writes.push(Write::Update(key.into()));
        }
        Ok(Change { writes, answer: () })
    }
}
