//! List the aliases, in no order that means anything.

use bytes::Bytes;
use quorate_core::action::Action;
use quorate_core::id::Namespace;
use quorate_core::record::Record;
use quorate_core::record_key::Table;
use quorate_core::request::PageLen;
use quorate_core::views::AliasView;

use crate::desk::Listing;

/// One page of the aliases.
pub struct ListAliases {
    /// At most so many.
    pub len: PageLen,
    /// Where the page begins; empty = the first.
    pub token: Bytes,
}

impl Listing for ListAliases {
    type Item = AliasView;
    const TABLE: Table = Table::Name;

    fn name(&self) -> &'static str {
        "aliases"
    }
    fn action(&self) -> Action {
        Action::NameList
    }
    fn page_len(&self) -> PageLen {
        self.len
    }
    fn token(&self) -> &[u8] {
        &self.token
    }
    fn item(&self, namespace: Namespace, record: Record) -> Option<AliasView> {
        match record {
            Record::Name(name) if name.namespace == namespace => AliasView::of(&name),
            _ => None,
        }
    }
}
