//! Tell of namespaces, and list them.

use bytes::Bytes;
use quorate_core::access::Access;
use quorate_core::action::Action;
use quorate_core::id::Namespace;
use quorate_core::record::Record;
use quorate_core::record_key::Table;
use quorate_core::request::{NamespaceName, PageLen};
use quorate_core::views::NamespaceView;

use crate::desk::{Listing, Tools, Use, UseFacts};
use crate::error::Error;

/// Tells what is known of a namespace.
///
/// Refused: it is not found.
pub struct DescribeNamespace {
    /// Which.
    pub name: NamespaceName,
}

impl Use for DescribeNamespace {
    type Facts = NamespaceView;
    type Answer = NamespaceView;

    fn action(&self) -> Action {
        Action::NamespaceDescribe
    }

    fn gather<F: UseFacts>(&self, at: &mut Access<'_, F>) -> Result<NamespaceView, F::Error> {
        if self.name.is_first() {
            return at.cluster().map(|()| NamespaceView::first());
        }
        Ok(NamespaceView::from(&*at.namespace_called(&self.name)?))
    }

    fn act(&self, namespace: NamespaceView, _: &Tools) -> Result<NamespaceView, Error> {
        Ok(namespace)
    }
}

/// One page of the namespaces: the first, then the others in no order that means anything.
pub struct ListNamespaces {
    /// At most so many.
    pub len: PageLen,
    /// Where the page begins; empty = the first.
    pub token: Bytes,
}

impl Listing for ListNamespaces {
    type Item = NamespaceView;
    const TABLE: Table = Table::Namespace;
    const OF_CLUSTER: bool = true;

    fn name(&self) -> &'static str {
        "namespaces"
    }
    fn action(&self) -> Action {
        Action::NamespaceList
    }
    fn page_len(&self) -> PageLen {
        self.len
    }
    fn token(&self) -> &[u8] {
        &self.token
    }
    fn first(&self) -> Option<NamespaceView> {
        Some(NamespaceView::first())
    }
    fn item(&self, _: Namespace, record: Record) -> Option<NamespaceView> {
        if let Record::Namespace(namespace) = record { Some(NamespaceView::from(&namespace)) } else { None }
    }
}
