//! Lists, page by page, in memory for one page: the newest first, or in no order that means anything. A page is one view;
//! pages together are no transaction.

use std::io;

use bytes::Bytes;
use quorate_core::authorize::{ReadKeys, authorize};
use quorate_core::batch::Rev;
use quorate_core::id::Namespace;
use quorate_core::lifecycle::KeyState;
use quorate_core::principal::Principal;
use quorate_core::record::{KeyRecord, Record};
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::request::PageLen;
use quorate_crypto::List;
use quorate_replica::View;
use tokio::time::Instant;

use super::Kms;
use crate::error::Error;
use crate::records::facts::unreadable;

/// Records read in one go, before other requests get their turn.
pub(super) const CHUNK: usize = 128;

/// Where the next page begins: the key of the last record of the page before. Its bytes tell no name, those are blinded. A
/// forged one can do no more than begin elsewhere in a list that its sender may read anyway.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageToken(RecordKey);

impl PageToken {
    /// Reads a token from a request; empty = the first page.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when it is not one that a listing of that kind gave.
    fn parse(bytes: &[u8], table: Table) -> Result<Option<Self>, Error> {
        if bytes.is_empty() {
            return Ok(None);
        }
        match RecordKey::parse(bytes) {
            Ok(key) if key.table() == table => Ok(Some(Self(key))),
            _ => Err(Error::InvalidArgument(
                "the page token is not one that this list gave; give the last answer's token, or none".into(),
            )),
        }
    }
    /// Its bytes, for the caller to send back.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// One page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; `None` = this is the last.
    pub next: Option<PageToken>,
}

impl Kms {
    /// The keys, newest first.
    ///
    /// # Errors
    /// [`Error::Denied`], [`Error::InvalidArgument`] for a token of another list.
    pub async fn list_keys(
        &self,
        caller: &Principal,
        len: PageLen,
        token: &[u8],
        deadline: Instant,
    ) -> Result<Page<KeyRecord>, Error> {
        authorize::<ReadKeys>(caller)?;
        let tag = self.records.barrier.keyring()?.list_tag(Namespace::FIRST, List::Keys);
        let rows = |view: &View, last: Option<&RecordKey>| view.scan_back(Table::Key, &tag, last, CHUNK);
        let pick = |record| match record {
            // Another namespace may have the same tag.
            Record::Key(key) if key.state != KeyState::Destroyed && key.namespace == Namespace::FIRST => Some(key),
            _ => None,
        };
        self.page(Table::Key, len, token, deadline, rows, pick).await
    }

    /// One page of `table`: of the records that `rows` gives, at most [`CHUNK`] after that key, those that `pick` takes.
    pub(super) async fn page<T>(
        &self,
        table: Table,
        len: PageLen,
        token: &[u8],
        deadline: Instant,
        rows: impl Fn(&View, Option<&RecordKey>) -> io::Result<Vec<(RecordKey, Rev, Bytes)>>,
        pick: impl Fn(Record) -> Option<T>,
    ) -> Result<Page<T>, Error> {
        let token = PageToken::parse(token, table)?;
        let view = self.records.fresh_view(deadline).await?;
        let mut last = token.map(|token| token.0);
        let mut items = Vec::new();
        loop {
            let rows = rows(&view, last.as_ref()).map_err(unreadable)?;
            let more = rows.len() == CHUNK;
            {
                let keyring = self.records.barrier.keyring()?;
                for (key, _, value) in rows {
                    if items.len() == len.get() {
                        // One record more than fits: there is a next page, and it begins with it.
                        return Ok(Page { items, next: last.map(PageToken) });
                    }
                    items.extend(pick(self.records.barrier.record(&keyring, &key, None, &value)?));
                    last = Some(key);
                }
            }
            if !more {
                return Ok(Page { items, next: None });
            }
            if Instant::now() >= deadline {
                return Err(Error::Unavailable("reading the page took too long; ask for a shorter one".into()));
            }
            tokio::task::yield_now().await;
        }
    }
}
