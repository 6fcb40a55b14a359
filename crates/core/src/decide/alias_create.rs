//! Give a key another name.

use super::{Change, Decide, Refusal, Write, goes, touch};
use crate::access::Access;
use crate::action::Action;
use crate::facts::Basis;
use crate::lifecycle::Row;
use crate::name::{FoldedName, Named};
use crate::record::{KeyRecord, NameRecord};
use crate::request::{ALIASES_PER_KEY_MAX, AliasName, KeyHandle};
use crate::seam::NewIds;
use crate::views::AliasView;

/// Makes `name` stand for `key`; the answer is the alias. The same alias for the same key again: nothing to do.
///
/// Refused: [`Refusal::OtherNamespace`], [`Refusal::AliasTaken`] by another key, [`Refusal::AliasesMax`]; the key is not found, or waits for its destruction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreateAlias {
    /// The new name.
    pub name: AliasName,
    /// The key.
    pub key: KeyHandle,
}

impl Decide for CreateAlias {
    type Answer = AliasView;

    fn action(&self) -> Action {
        Action::NameCreate
    }

    fn decide<F: Basis>(&self, at: &mut Access<'_, F>, _: &dyn NewIds) -> Result<Change<AliasView>, F::Error> {
        let key = at.key(&self.key)?;
        if at.within()? != key.namespace {
            return Err(Refusal::OtherNamespace(key.id).into());
        }
        if let Some(taken) = at.get::<NameRecord>(FoldedName::alias(key.namespace, &self.name))? {
            if let Some(alias) = AliasView::of(&taken).filter(|alias| alias.key == key.id) {
                return Ok(Change::none(alias));
            }
            return Err(Refusal::AliasTaken { name: self.name.clone(), key: taken.key }.into());
        }
        goes(Row::Name, &key, at.time())?;
        if key.aliases.len() >= ALIASES_PER_KEY_MAX {
            return Err(Refusal::AliasesMax(key.id).into());
        }
        let mut key = KeyRecord::clone(&key);
        key.aliases.insert(self.name.clone());
        touch(&mut key, at.time());
        let answer = AliasView { name: self.name.clone(), key: key.id, created_ms: at.time().stamp_ms() };
        let alias = NameRecord::new(Named::Alias(self.name.clone()), &key, answer.created_ms);
        Ok(Change { writes: vec![Write::Update(key.into()), Write::Create(alias.into())], answer })
    }
}
