//! The path of every list, page by page, in memory for one page: the newest first, or in no order that means anything. A page is
//! one view, judged there; pages together are no transaction.

use std::io;
use std::ops::Bound;

use bytes::Bytes;
use quorate_core::access::Access;
use quorate_core::action::Action;
use quorate_core::batch::Rev;
use quorate_core::facts::{Basis, Facts};
use quorate_core::id::Namespace;
use quorate_core::record::{KeyVersionRecord, Record};
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::request::{InvalidRequest, PageLen, Part};
use quorate_core::views::ShowsKeys;
use quorate_crypto::{Keyring, PageOf};
use quorate_replica::View;
use tokio::time::Instant;

use super::Kms;
use crate::call::Call;
use crate::error::Error;
use crate::records::Records;
use crate::records::facts::unreadable;

/// Records read in one go, before other requests get their turn.
pub const CHUNK: usize = 128;

/// Records read for one page, whatever becomes of them: a page of what is rare comes short, and the next one goes on.
const READ_PER_PAGE_MAX: usize = 128 * CHUNK;

/// Bytes of the records of one page, as they are stored: a page is bounded by what it weighs too.
const PAGE_BYTES_MAX: usize = 384 * 1024;

/// A request for one page of a list.
pub trait Listing {
    /// What is listed.
    type Item;
    /// Where that is kept.
    const TABLE: Table;
    /// Whether it is of the whole cluster, and not of a namespace.
    const OF_CLUSTER: bool = false;

    /// What tells this list from others: a page token is of one.
    fn name(&self) -> &'static str;
    /// Whether an item is shown with what its current version is in.
    fn shows_versions(&self) -> bool {
        true
    }
    /// What the caller has to be allowed.
    fn action(&self) -> Action;
    /// At most so many items.
    fn page_len(&self) -> PageLen;
    /// Where the page begins, as the page before said; empty = the first page.
    fn token(&self) -> &[u8];
    /// What stands before all records.
    fn first(&self) -> Option<Self::Item> {
        None
    }
    /// At most [`CHUNK`] records after that one, those of that namespace among them: of the whole table, unless they lie together.
    ///
    /// # Errors
    /// When storage fails.
    fn rows(
        &self,
        _: &Keyring,
        view: &View,
        _: Namespace,
        last: Option<&RecordKey>,
    ) -> io::Result<Vec<(RecordKey, Rev, Bytes)>> {
        view.scan(Self::TABLE, last.map_or(Bound::Unbounded, Bound::Excluded), CHUNK)
    }
    /// The item that a record is, if it is one of that namespace.
    fn item(&self, namespace: Namespace, record: Record) -> Option<Self::Item>;
}

/// Where the next page begins: the key of the last record of the page before, boxed for who asked and for that list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageToken(Vec<u8>);

impl PageToken {
    /// Its bytes, for the caller to send back.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// One page; while there is a next one it may be shorter than asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Page<T> {
    /// The items.
    pub items: Vec<T>,
    /// Where the next page begins; `None` = this is the last.
    pub next: Option<PageToken>,
}

impl Kms {
    /// One page of a list.
    ///
    /// # Errors
    /// [`Error::Denied`]; [`Error::Invalid`] for a token of another list; [`Error::Sealed`], [`Error::Unavailable`] and
    /// [`Error::Damaged`].
    pub async fn page<L: Listing>(&self, call: &Call, request: L) -> Result<Page<L::Item>, Error>
    where
        Vec<L::Item>: ShowsKeys,
    {
        self.metered(call, request.action(), self.shown_page(call, &request)).await
    }

    /// The page, its keys with their current versions.
    async fn shown_page<L: Listing>(&self, call: &Call, request: &L) -> Result<Page<L::Item>, Error>
    where
        Vec<L::Item>: ShowsKeys,
    {
        let view = self.records.fresh_view(call.deadline).await?;
        let mut page = self.read_page(call, request, &view).await?;
        if !request.shows_versions() {
            return Ok(page);
        }
        for keys in page.items.keys().chunks_mut(CHUNK) {
            let mut facts = self.records.facts(&view)?;
            for key in keys {
                let head = facts.get::<KeyVersionRecord>(key.current())?;
                key.seen(head.as_deref(), facts.time());
            }
            drop(facts);
            tokio::task::yield_now().await;
        }
        Ok(page)
    }

    /// For what this call's page tokens are made.
    fn page_of<'a>(&self, request: &impl Listing, caller: &'a [u8]) -> PageOf<'a> {
        PageOf { lineage: self.lineage(), list: request.name(), caller }
    }

    /// The record after which the page begins; none = it is the first.
    fn begins<L: Listing>(&self, caller: &[u8], request: &L) -> Result<Option<RecordKey>, Error> {
        if request.token().is_empty() {
            return Ok(None);
        }
        let opened = self.records.barrier.keyring()?.open_page_token(self.page_of(request, caller), request.token());
        let last = opened.ok().and_then(|last| RecordKey::parse(&last).ok()).filter(|last| last.table() == L::TABLE);
        let why = "the page token is not one that this list gave you; give the last answer's token, or none";
        last.map(Some).ok_or_else(|| InvalidRequest::wrong(Part::PageToken, why).into())
    }

    async fn read_page<L: Listing>(&self, call: &Call, request: &L, view: &View) -> Result<Page<L::Item>, Error> {
        let mut facts = self.records.facts(view)?;
        let mut at = Access::admit(&mut facts, &*self.policies, &call.caller, request.action())?;
        let namespace = if L::OF_CLUSTER { at.cluster().map(|()| Namespace::FIRST) } else { at.namespace() }?;
        drop(facts);

        let caller = [&call.caller.principal.encode()[..], &namespace.0.to_be_bytes()].concat();
        let mut last = self.begins(&caller, request)?;
        let next = |last: Option<RecordKey>| -> Result<_, Error> {
            let keyring = self.records.barrier.keyring()?;
            let (of, entropy) = (self.page_of(request, &caller), &*self.records.world.entropy);
            Ok(last.map(|last| PageToken(keyring.seal_page_token(of, last.as_bytes(), entropy))))
        };
        let (mut items, mut read, mut bytes) = (Vec::new(), 0, 0);
        if last.is_none()
            && let Some(first) = request.first()
        {
            items.push(first);
            // No record is before this one, nor is it.
            last = Some(RecordKey::new(L::TABLE, [0; 32]));
        }
        let mut walk = Walk::after(last.clone(), &self.records, view, (request, namespace));
        while let Some(step) = walk.step()? {
            for found in step {
                let found = found?;
                let Some(item) = found.item else {
                    last = Some(found.key);
                    continue;
                };
                bytes += found.len;
                if items.len() == request.page_len().get() || bytes > PAGE_BYTES_MAX && !items.is_empty() {
                    // One item more than fits: there is a next page, and it begins with it.
                    return Ok(Page { items, next: next(last)? });
                }
                items.push(item);
                last = Some(found.key);
            }
            if walk.ended {
                break;
            }
            read += CHUNK;
            if read >= READ_PER_PAGE_MAX {
                return Ok(Page { items, next: next(last)? });
            }
            if Instant::now() >= call.deadline {
                return Err(Error::Unavailable("reading the page took too long; ask for a shorter one".into()));
            }
            tokio::task::yield_now().await;
        }
        Ok(Page { items, next: None })
    }
}

/// What was found on a walk.
pub(super) struct Found<T> {
    /// Where.
    key: RecordKey,
    /// How long the record is as it is stored, bytes.
    len: usize,
    /// The item that it is, if it is one.
    pub(super) item: Option<T>,
}

/// A walk through a list on one view, in steps between which other requests get their turn.
pub(super) struct Walk<'a, L> {
    records: &'a Records,
    view: &'a View,
    list: &'a L,
    namespace: Namespace,
    last: Option<RecordKey>,
    /// Nothing follows the step before.
    ended: bool,
}

impl<'a, L: Listing> Walk<'a, L> {
    /// What follows `last` in the list of that namespace.
    pub(super) fn after(
        last: Option<RecordKey>,
        records: &'a Records,
        view: &'a View,
        (list, namespace): (&'a L, Namespace),
    ) -> Self {
        Self { records, view, list, namespace, last, ended: false }
    }

    /// At most [`CHUNK`] records, each with the item that it is, if it is one; none once it has ended.
    ///
    /// # Errors
    /// When storage fails, or the desk is closed.
    #[expect(clippy::type_complexity, reason = "a step's records are opened one by one, as far as they are wanted")]
    pub(super) fn step(
        &mut self,
    ) -> Result<Option<impl Iterator<Item = Result<Found<L::Item>, Error>> + use<'a, L>>, Error> {
        if self.ended {
            return Ok(None);
        }
        let keyring = self.records.barrier.keyring()?;
        let rows = self.list.rows(&keyring, self.view, self.namespace, self.last.as_ref()).map_err(unreadable)?;
        self.ended = rows.len() < CHUNK;
        self.last = rows.last().map(|(key, ..)| key.clone());
        let (records, list, namespace) = (self.records, self.list, self.namespace);
        Ok(Some(rows.into_iter().map(move |(key, _, value)| {
            let (len, record) = (value.len(), records.barrier.record(&keyring, &key, None, &value)?);
            Ok(Found { key, len, item: list.item(namespace, record) })
        })))
    }
}
