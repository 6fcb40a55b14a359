//! Take a name off a key; the key stays.

use super::{Change, Refusal, View, Write, read};
use crate::authorize::{Authorized, ManageKeys};
use crate::record::{Record, RecordName};
use crate::request::AliasName;

/// Decides it.
///
/// # Errors
/// [`Refusal::AliasNotFound`].
pub fn decide<V: View>(view: &mut V, _by: &Authorized<ManageKeys>, name: &AliasName) -> Result<Change<()>, V::Error> {
    let alias_name = RecordName::Alias(name.clone());
    let alias = read::alias(view, &alias_name)?.ok_or_else(|| Refusal::AliasNotFound(name.clone()))?;
    let mut writes = vec![Write::Delete(alias_name)];
    if let Some(mut key) = read::key(view, &RecordName::Key(alias.key))?
        && key.aliases.remove(name)
    {
        writes.push(Write::Update(Record::Key(key)));
    }
    Ok(Change { writes, answer: () })
}
