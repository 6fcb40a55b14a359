//! List the keys, newest first.

use std::io;

use bytes::Bytes;
use quorate_core::action::Action;
use quorate_core::batch::Rev;
use quorate_core::id::Namespace;
use quorate_core::name::Class;
use quorate_core::record::{KeyRecord, Record};
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::request::{KeyFilter, PageLen};
use quorate_core::views::KeyView;
use quorate_crypto::Keyring;
use quorate_replica::View;

use crate::desk::{CHUNK, Listing};

/// One page of the keys.
pub struct ListKeys {
    /// At most so many.
    pub len: PageLen,
    /// Only such keys.
    pub filter: KeyFilter,
    /// Where the page begins; empty = the first.
    pub token: Bytes,
}

impl Listing for ListKeys {
    type Item = KeyView;
    const TABLE: Table = Table::Key;
    const NAME: &'static str = "keys";

    fn action(&self) -> Action {
        Action::ListObjects
    }
    fn page_len(&self) -> PageLen {
        self.len
    }
    fn token(&self) -> &[u8] {
        &self.token
    }
    fn rows(
        &self,
        keyring: &Keyring,
        view: &View,
        namespace: Namespace,
        last: Option<&RecordKey>,
    ) -> io::Result<Vec<(RecordKey, Rev, Bytes)>> {
        view.scan_back(Self::TABLE, &keyring.list_tag(namespace, Class::Key), last, CHUNK)
    }
    fn item(&self, namespace: Namespace, record: Record) -> Option<KeyView> {
        item(record, (namespace, Class::Key), &self.filter)
    }
}

/// What is shown of a record in the list of that namespace and class, if it stands there.
pub(super) fn item(record: Record, (namespace, class): (Namespace, Class), filter: &KeyFilter) -> Option<KeyView> {
    // Another class, or namespace, may have the same tag.
    let stands = |key: &KeyRecord| key.namespace == namespace && key.class() == class && filter.holds(key);
    if let Record::Key(key) = record { stands(&key).then(|| KeyView::from(&key)) } else { None }
}
