//! A state that is being received: written beside the one in force, checked, and put in its place as a whole.

use std::collections::VecDeque;
use std::io;
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use quorate_core::record_key::RecordKey;
use quorate_journal::disk::Disk;
use thiserror::Error;

use super::digest::LtHash;
use super::engine::{Engine, RedbEngine, View, WriteSet, get_value};
use super::files::StateFiles;
use super::meta::{Meta, RECORDS_END, stands_at};
use super::ranges::{KeyRange, RangeHash};
use super::verify::SCAN_STEP;
use crate::log::Checkpoint;

/// A stored value begins with its revision.
const REV_LEN: usize = 8;
/// Records written in one transaction …
const GROUP_LEN: usize = 1000;
/// … or this many bytes of them.
const GROUP_BYTES: usize = 1 << 20;
/// Bytes after which what was written is made durable: the last sync then has little to do.
const DURABLE_BYTES: usize = 32 << 20;

/// Why a received state is not taken. The one in force is not touched.
#[derive(Debug, Error)]
pub enum IncomingError {
    /// It is not a state, or not the one it says it is.
    #[error("the received state is refused: {0}")]
    Refused(&'static str),
    /// It can't be written.
    #[error("the received state can't be written: {0}")]
    Io(#[from] io::Error),
}

/// What a state says of itself, in a snapshot's header: its `Meta` and its digest.
#[derive(Clone)]
pub struct Identity {
    /// Encoded.
    pub meta: Bytes,
    /// Encoded.
    pub digest: Bytes,
}

impl Identity {
    /// A view's own.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn of(view: &dyn View) -> io::Result<Self> {
        Ok(Self::from_parts(&Meta::read(view)?, &Meta::read_digest(view)?))
    }

    /// Of a state that says this of itself.
    pub fn from_parts(meta: &Meta, digest: &LtHash) -> Self {
        Self { meta: meta.encode().into(), digest: digest.to_bytes().into() }
    }

    /// Reads the `Meta`.
    ///
    /// # Errors
    /// When it is none.
    pub fn meta(&self) -> Result<Meta, IncomingError> {
        Meta::decode(&self.meta).map_err(|_| IncomingError::Refused("what it says about itself can't be read"))
    }
}

/// A state being received. Dropped before it is installed, it leaves nothing behind. When it breaks off, what is there can be
/// gone on with, towards a later index too: range by range, it is kept or replaced.
pub struct Incoming {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    index: u64,
    engine: Option<Arc<RedbEngine>>,
    set: WriteSet,
    set_bytes: usize,
    volatile_bytes: usize,
    last: Option<Vec<u8>>,
    records: u64,
    digest: LtHash,
    whole: bool,
    /// The ranges up to `last`, without the one under way …
    ranges: Vec<KeyRange>,
    under_way: RangeHash,
    /// … and those behind it, from before it broke off.
    ahead: VecDeque<KeyRange>,
}

impl Incoming {
    pub(super) fn begin(disk: Arc<dyn Disk>, path: PathBuf, index: u64, cache_bytes: usize) -> io::Result<Self> {
        let engine = RedbEngine::open(&*disk, &path, cache_bytes)?;
        Ok(Self {
            disk,
            path,
            index,
            engine: Some(Arc::new(engine)),
            set: WriteSet::new(),
            set_bytes: 0,
            volatile_bytes: 0,
            last: None,
            records: 0,
            digest: LtHash::default(),
            whole: false,
            ranges: Vec::new(),
            under_way: RangeHash::default(),
            ahead: VecDeque::new(),
        })
    }

    /// The ranges that it holds, in key order.
    pub fn ranges(&self) -> Vec<KeyRange> {
        let under_way = self.range_under_way();
        self.ranges.iter().cloned().chain(under_way).chain(self.ahead.iter().cloned()).collect()
    }

    fn range_under_way(&self) -> Option<KeyRange> {
        let upto = self.last.as_ref().filter(|_| self.under_way.records() > 0)?;
        Some(KeyRange { upto: upto.clone(), hash: self.under_way.finish() })
    }

    fn end_range(&mut self) {
        let ended = self.range_under_way();
        self.ranges.extend(ended);
        self.under_way = RangeHash::default();
    }

    /// Begins again, towards `index`: each range that it holds is then to be kept or replaced, before what is after them.
    pub fn again(mut self, index: u64) -> Self {
        self.ahead = self.ranges().into();
        (self.ranges, self.under_way, self.last) = (Vec::new(), RangeHash::default(), None);
        (self.index, self.whole) = (index, false);
        self
    }

    /// Keeps the records of the next range that it holds.
    ///
    /// # Errors
    /// When it is another one.
    pub fn keep(&mut self, upto: &[u8]) -> Result<(), IncomingError> {
        let range = self.next_held(upto)?;
        self.last = Some(range.upto.clone());
        self.ranges.push(range);
        Ok(())
    }

    /// Removes the records of the next range that it holds: others come in their place.
    ///
    /// # Errors
    /// When it is another one, or the disk fails.
    pub fn replace(&mut self, upto: &[u8]) -> Result<(), IncomingError> {
        let range = self.next_held(upto)?;
        self.write(false)?;
        let view = self.engine()?.view()?;
        let mut old = Records::between(&*view, self.last.as_deref(), Some(&range.upto));
        while let Some(page) = old.next_page(SCAN_STEP)? {
            for (key, value) in page {
                self.digest.sub(&key, &value);
                self.records -= 1;
                self.set_bytes += key.len();
                self.set.insert(key, None);
            }
            self.write(false)?;
        }
        Ok(())
    }

    fn next_held(&mut self, upto: &[u8]) -> Result<KeyRange, IncomingError> {
        self.end_range();
        let next = self.ahead.pop_front().filter(|range| range.upto == upto);
        // What came in the place of a range may have gone beyond it.
        let follows = next.filter(|range| self.last.as_deref().is_none_or(|last| last < &range.upto[..]));
        follows.ok_or(IncomingError::Refused("it goes on from what is not there"))
    }

    /// Takes the next record, in key order.
    ///
    /// # Errors
    /// When it is none or out of order, or can't be written.
    pub fn push(&mut self, key: &[u8], state_value: &[u8]) -> Result<(), IncomingError> {
        if RecordKey::parse(key).is_err() || state_value.len() < REV_LEN {
            return Err(IncomingError::Refused("it holds bytes that are no record"));
        }
        if self.last.as_deref().is_some_and(|last| last >= key) {
            return Err(IncomingError::Refused("its records are not in order"));
        }
        self.digest.add(key, state_value);
        self.under_way.push(key, state_value);
        self.records += 1;
        self.last = Some(key.to_vec());
        if self.under_way.is_complete() {
            self.end_range();
        }
        self.set_bytes += key.len() + state_value.len();
        self.set.insert(key.to_vec(), Some(state_value.to_vec()));
        if self.set.len() >= GROUP_LEN || self.set_bytes >= GROUP_BYTES {
            self.write(false)?;
        }
        Ok(())
    }

    fn write(&mut self, durable: bool) -> io::Result<()> {
        let engine = self.engine.as_ref().ok_or_else(|| io::Error::other("this state was installed"))?;
        self.volatile_bytes += std::mem::take(&mut self.set_bytes);
        let durable = durable || self.volatile_bytes >= DURABLE_BYTES;
        engine.write(&std::mem::take(&mut self.set), durable)?;
        if durable {
            self.volatile_bytes = 0;
        }
        Ok(())
    }

    /// Records in it.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// After the last record: checks that they add up, and makes the file durable.
    ///
    /// # Errors
    /// When they do not, or the disk fails.
    pub fn finish(&mut self, identity: &Identity) -> Result<(), IncomingError> {
        let meta = identity.meta()?;
        if meta.applied.as_ref().map_or(0, |(index, _)| *index) != self.index {
            return Err(IncomingError::Refused("it stands at another index than it said"));
        }
        if self.digest.to_bytes()[..] != identity.digest[..] {
            return Err(IncomingError::Refused("its records do not add up to its digest"));
        }
        meta.write(&self.digest, &mut self.set);
        self.write(true)?;
        self.whole = true;
        Ok(())
    }

    /// A record's value, once it is whole.
    ///
    /// # Errors
    /// When it can't be read.
    pub(crate) fn value(&self, key: &RecordKey) -> io::Result<Option<Bytes>> {
        get_value(&*self.engine()?.view()?, key)
    }

    fn engine(&self) -> io::Result<&Arc<RedbEngine>> {
        self.engine.as_ref().ok_or_else(|| io::Error::other("this state was installed"))
    }

    /// What the journal is to know before it is put in force.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn stands_at(&self) -> io::Result<Option<Checkpoint>> {
        stands_at(&*self.engine()?.view()?)
    }

    /// Puts it in force.
    ///
    /// # Errors
    /// When it is not whole, or the disk fails.
    pub fn install(mut self, files: &StateFiles) -> io::Result<()> {
        if !self.whole {
            return Err(io::Error::other("a state that is not whole can't be installed"));
        }
        match self.engine.take() {
            Some(engine) => files.put_in_force(&self.path, self.index, engine),
            None => Err(io::Error::other("this state was installed before")),
        }
    }

    /// The same state as a view's, beside the one in force.
    ///
    /// # Errors
    /// When the view can't be read, does not add up, or can't be written.
    pub fn copy(view: &dyn View, files: &Arc<StateFiles>) -> Result<Self, IncomingError> {
        let identity = Identity::of(view)?;
        let index = identity.meta()?.applied.map_or(0, |(index, _)| index);
        let mut incoming = files.receive(index)?;
        let mut records = Records::new(view);
        while let Some(page) = records.next_page(SCAN_STEP)? {
            for (key, value) in &page {
                incoming.push(key, value)?;
            }
        }
        incoming.finish(&identity)?;
        Ok(incoming)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.engine.take().is_some()
            && let Err(error) = self.disk.unlink(&self.path)
        {
            // Only space is lost; the next start removes it.
            tracing::warn!(file = %self.path.display(), %error, "what was received of a state can't be removed");
        }
    }
}

/// Records of a view in key order, a page at a time.
pub struct Records<'a> {
    view: &'a dyn View,
    last: Option<Vec<u8>>,
    upto: Bound<&'a [u8]>,
}

impl<'a> Records<'a> {
    /// All of them.
    pub fn new(view: &'a dyn View) -> Self {
        Self::between(view, None, None)
    }

    /// Those after one key, up to and with another.
    pub fn between(view: &'a dyn View, after: Option<&[u8]>, upto: Option<&'a [u8]>) -> Self {
        let upto = upto.map_or(Bound::Excluded(&RECORDS_END[..]), Bound::Included);
        Self { view, last: after.map(<[u8]>::to_vec), upto }
    }

    /// The next page, at most `limit` records; `None` after the last.
    ///
    /// # Errors
    /// When the engine fails.
    #[expect(clippy::type_complexity, reason = "keys and values, as a view returns them")]
    pub fn next_page(&mut self, limit: usize) -> io::Result<Option<Vec<(Vec<u8>, Vec<u8>)>>> {
        let from = self.last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let page = self.view.scan((from, self.upto), limit)?;
        let Some((key, _)) = page.last() else { return Ok(None) };
        self.last = Some(key.clone());
        Ok(Some(page))
    }
}
