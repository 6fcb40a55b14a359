//! What is told about an object is a record of its own, while there is something to tell.

use super::Write;
use crate::facts::Of;
use crate::record::{DetailsRecord, KeyRecord, RecordName};
use crate::request::Description;

/// What makes the details of a new object, if there is anything to tell.
pub(super) fn told(key: &mut KeyRecord, description: &Description) -> Option<Write> {
    key.has_details = !description.is_empty();
    let details = || DetailsRecord { key: key.id, description: description.clone() };
    key.has_details.then(|| Write::Create(details().into()))
}

/// What makes the description that one; nothing when it is. `read` reads the details.
pub(super) fn retold<E>(
    key: &mut KeyRecord,
    description: &Description,
    read: impl FnOnce() -> Result<Option<Of<DetailsRecord>>, E>,
) -> Result<Option<Write>, E> {
    let Some(before) = read()? else { return Ok(told(key, description)) };
    if before.description == *description {
        return Ok(None);
    }
    key.has_details = !description.is_empty();
    Ok(Some(match key.has_details {
        true => Write::Update(DetailsRecord { key: key.id, description: description.clone() }.into()),
        false => Write::Delete(RecordName::Details(key.id)),
    }))
}

/// Takes them off an object that is destroyed. `read` reads them.
pub(super) fn untold<E>(
    key: &mut KeyRecord,
    read: impl FnOnce() -> Result<Option<Of<DetailsRecord>>, E>,
) -> Result<Option<Write>, E> {
    if !std::mem::take(&mut key.has_details) {
        return Ok(None);
    }
    Ok(read()?.map(|details| Write::Delete(RecordName::Details(details.key))))
}
