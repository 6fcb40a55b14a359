//! List the aliases.

use std::ops::Bound;

use quorate_core::authorize::{ReadKeys, authorize};
use quorate_core::principal::Principal;
use quorate_core::record::{AliasRecord, Record};
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::request::PageLen;
use quorate_replica::View;
use tokio::time::Instant;

use super::Kms;
use super::list::{CHUNK, Page};
use crate::error::Error;

impl Kms {
    /// The aliases, in no order that means anything.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::InvalidArgument`] for a token of another list.
    pub async fn list_aliases(
        &self,
        caller: &Principal,
        len: PageLen,
        token: &[u8],
        deadline: Instant,
    ) -> Result<Page<AliasRecord>, Error> {
        authorize::<ReadKeys>(caller)?;
        let pick = |record| match record {
            Record::Alias(alias) => Some(alias),
            _ => None,
        };
        let rows = |view: &View, last: Option<&RecordKey>| {
            view.scan(Table::Alias, last.map_or(Bound::Unbounded, Bound::Excluded), CHUNK)
        };
        self.page(Table::Alias, len, token, deadline, rows, pick).await
    }
}
