//! List the keys, or the secrets, newest first.

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

/// One page of the objects of a class.
pub struct ListObjects {
    /// Keys, or secrets.
    pub class: Class,
    /// At most so many.
    pub len: PageLen,
    /// Only such ones.
    pub filter: KeyFilter,
    /// Where the page begins; empty = the first.
    pub token: Bytes,
}

impl Listing for ListObjects {
    type Item = KeyView;
    const TABLE: Table = Table::Key;

    fn name(&self) -> &'static str {
        match self.class {
            Class::Key => "keys",
            Class::Secret => "secrets",
        }
    }
    /// With a secret's version would come its value, for which nobody asked.
    fn shows_versions(&self) -> bool {
        self.class == Class::Key
    }
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
        view.scan_back(Self::TABLE, &keyring.list_tag(namespace, self.class), last, CHUNK)
    }
    fn item(&self, namespace: Namespace, record: Record) -> Option<KeyView> {
        // Another class, or namespace, may have the same tag.
        let is_one = |key: &KeyRecord| key.namespace == namespace && key.class() == self.class;
        match record {
            Record::Key(key) if is_one(&key) && self.filter.holds(&key) => Some(KeyView::from(&key)),
            _ => None,
        }
    }
}
