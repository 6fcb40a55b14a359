//! What a change files as due, and takes off the list.

use super::Write;
use crate::access::Access;
use crate::facts::Basis;
use crate::record::{Due, DueRecord, RecordName};

/// The name of a due record.
pub(super) fn name(due: &DueRecord) -> (u32, Due) {
    (DueRecord::hour(due.at_ms), due.what)
}

/// The writes that file `new` in place of `old`, each of which may be none.
pub(super) fn refile<F: Basis>(
    at: &mut Access<'_, F>,
    old: Option<DueRecord>,
    new: Option<DueRecord>,
) -> Result<Vec<Write>, F::Error> {
    let mut writes = Vec::new();
    if let Some(old) = &old
        && new.as_ref().map(name) != Some(name(old))
        && at.get::<DueRecord>(name(old))?.is_some()
    {
        writes.push(Write::Delete(RecordName::Due(name(old))));
    }
    if let Some(new) = new {
        // One may be there, of this hour.
        at.get::<DueRecord>(name(&new))?;
        writes.push(Write::Update(new.into()));
    }
    Ok(writes)
}
