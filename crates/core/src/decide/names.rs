//! The names of what is destroyed are free from the moment it begins: nobody finds it any more, and others may be called so.

use std::collections::BTreeSet;

use super::Write;
use crate::facts::Of;
use crate::name::FoldedName;
use crate::record::{KeyRecord, NameRecord, RecordName};

/// Takes all names off a key that is destroyed; the writes that set them free. `read` reads a name.
pub(super) fn freed<E>(
    key: &mut KeyRecord,
    mut read: impl FnMut(FoldedName) -> Result<Option<Of<NameRecord>>, E>,
) -> Result<Vec<Write>, E> {
    let mut writes = Vec::new();
    for name in key.names() {
        if read(name.clone())?.is_some_and(|named| named.key == key.id) {
            writes.push(Write::Delete(RecordName::Name(name)));
        }
    }
    (key.name, key.aliases) = (None, BTreeSet::new());
    Ok(writes)
}
