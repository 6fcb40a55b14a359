//! Take a name off a key; the key stays.

use super::{Change, Decide, Refusal, Write, touch};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::name::FoldedName;
use crate::record::{KeyRecord, NameRecord, RecordName};
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
        let name = FoldedName::alias(at.within()?, &self.name);
        let Some(alias) = at.get::<NameRecord>(name.clone())? else {
            return at.refuse(Refusal::AliasNotFound(self.name.clone()));
        };
        let mut key = KeyRecord::clone(&*at.key(&KeyHandle::Id(alias.key))?);
        let mut writes = vec![Write::Delete(RecordName::Name(name))];
        if key.aliases.remove(&self.name) {
            touch(&mut key, at.time());
            writes.push(Write::Update(key.into()));
        }
        Ok(Change { writes, answer: () })
    }
}
