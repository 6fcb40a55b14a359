//! List the aliases.

use quorate_core::authorize::{ReadKeys, authorize};
use quorate_core::principal::Principal;
use quorate_core::record::{AliasRecord, Record};
use quorate_core::record_key::Table;
use quorate_core::request::PageLen;
use tokio::time::Instant;

use super::Kms;
use super::list::Page;
use crate::error::Error;

impl Kms {
    /// The aliases.
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
        self.page(Table::Alias, len, token, deadline, pick).await
    }
}
