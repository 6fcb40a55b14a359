//! The state's layers: what was applied lately is in memory, over what the engine holds (key-log §5.1).
//!
//! ```text
//! view = head       what is no record (Meta, digest): only the last write's
//!        active     a memtable, which takes the writes
//!        frozen     a full one, on its way into the engine; between flushes there is none
//!        base       the engine's view after the last flush: what is durable
//! ```
//!
//! Nothing is written to the engine but whole tables, in key order, each in one durable commit: so writes never wait for
//! the disk, and a record that is written often costs the disk once. What a crash takes with the tables is in the log.

use std::borrow::Cow;
use std::io;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use super::engine::{Engine, Pairs, Range, View, WriteSet};
use super::memtable::{Direction, Entry, Memtable, Merged, Seq, is_empty, range_of};
use super::meta::RECORDS_END;

/// Memtables over an engine. One writer, any number of views, and who flushes beside them.
pub struct Store {
    /// Before the engine, whose view is in it.
    layers: RwLock<Layers>,
    engine: Arc<dyn Engine>,
    /// A table takes no writes while it is being frozen.
    writing: Mutex<()>,
    /// A flush is under way.
    flushing: AtomicBool,
    /// Why the flush failed after which there is none any more.
    failed: OnceLock<(io::ErrorKind, String)>,
    table_bytes: usize,
}

/// Records read from the base at a time, at least.
const PAGE_LEN: usize = 64;

/// All layers as of one write; that is what a view is.
#[derive(Clone)]
struct Layers {
    seq: Seq,
    head: Arc<WriteSet>,
    active: Arc<Memtable>,
    frozen: Option<Arc<Memtable>>,
    base: Arc<dyn View>,
    /// What the base holds.
    base_seq: Seq,
    /// The base is a view of this: it can be read for as long as that is open.
    _engine: Arc<dyn Engine>,
}

impl Store {
    /// What an engine holds, with nothing over it. A flush is due once the active table has `table_bytes`; at twice that
    /// the writer should wait for one.
    ///
    /// # Errors
    /// When the engine fails.
    pub fn new(engine: Arc<dyn Engine>, table_bytes: usize) -> io::Result<Arc<Self>> {
        let layers = Layers {
            seq: 0,
            head: Arc::default(),
            active: Arc::default(),
            frozen: None,
            base: engine.view()?,
            base_seq: 0,
            _engine: engine.clone(),
        };
        Ok(Arc::new(Self {
            layers: RwLock::new(layers),
            engine,
            writing: Mutex::default(),
            flushing: AtomicBool::new(false),
            failed: OnceLock::new(),
            table_bytes,
        }))
    }

    fn layers(&self) -> Layers {
        self.layers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Layers) -> T) -> T {
        change(&mut self.layers.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The state as of the last write; later writes do not change it. While it is kept it keeps two tables at the most.
    pub fn view(&self) -> Arc<dyn View> {
        Arc::new(self.layers())
    }

    /// The state as of the last flush; it keeps nothing in memory.
    pub fn durable_view(&self) -> Arc<dyn View> {
        self.layers().base
    }

    /// Writes all or nothing; visible to views made later, durable with the next flush.
    ///
    /// # Errors
    /// When a flush has failed, of the kind of that: there is nothing that this could become durable in.
    pub fn write(&self, mut set: WriteSet) -> io::Result<()> {
        self.check_usable()?;
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let Layers { seq, active, mut head, .. } = self.layers();
        let changed = set.split_off(&RECORDS_END[..]);
        if !changed.is_empty() {
            Arc::make_mut(&mut head).extend(changed);
        }
        active.insert(seq + 1, set);
        self.change(|layers| (layers.seq, layers.head) = (seq + 1, head));
        Ok(())
    }

    /// Makes durable what was written until now, beside whoever writes and reads; returns exactly that. `before` is told
    /// first what it will be; `None`: there is nothing new.
    ///
    /// # Errors
    /// When `before` or the engine fails; nothing is written any more then.
    pub fn flush(&self, before: impl FnOnce(&dyn View) -> io::Result<()>) -> io::Result<Option<Arc<dyn View>>> {
        let Some(flush) = self.begin_flush()? else { return Ok(None) };
        match before(flush.view()) {
            Ok(()) => flush.finish().map(Some),
            Err(error) => Err(flush.give_up(error)),
        }
    }

    /// The same for who has to wait for others in the middle. One flush at a time.
    ///
    /// # Errors
    /// When one is under way, or has failed.
    pub fn begin_flush(&self) -> io::Result<Option<Flush<'_>>> {
        self.check_usable()?;
        if self.flushing.swap(true, Ordering::Acquire) {
            return Err(io::Error::other("the state is being made durable already"));
        }
        let frozen = self.freeze();
        if frozen.is_none() {
            self.flushing.store(false, Ordering::Release);
        }
        Ok(frozen.map(|frozen| Flush { store: self, frozen, done: false }))
    }

    /// Has writes go to a fresh table from now on; returns all until now, whose active table stays empty.
    fn freeze(&self) -> Option<Layers> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.change(|layers| {
            if layers.seq == layers.base_seq {
                return None;
            }
            layers.frozen = Some(std::mem::take(&mut layers.active));
            Some(Layers { active: Arc::default(), ..layers.clone() })
        })
    }

    fn commit(&self, frozen: &Layers) -> io::Result<Arc<dyn View>> {
        let table = frozen.frozen.as_ref().map(|table| table.read());
        let records = table.iter().flat_map(|table| table.newest());
        let head = frozen.head.iter().map(|(key, value)| (&key[..], value.as_deref()));
        self.engine.commit(&mut records.chain(head), true)?;
        self.engine.view()
    }

    /// Whether enough was written since the last flush for the next one not to wait for its time.
    pub fn flush_is_due(&self) -> bool {
        self.active_bytes() >= self.table_bytes
    }

    /// Whether so much was that no more should be, before there is room again.
    pub fn is_full(&self) -> bool {
        self.active_bytes() >= 2 * self.table_bytes
    }

    fn active_bytes(&self) -> usize {
        self.layers.read().unwrap_or_else(PoisonError::into_inner).active.bytes()
    }

    fn check_usable(&self) -> io::Result<()> {
        match self.failed.get() {
            Some((kind, why)) => Err(io::Error::new(
                *kind,
                format!("the state could not be made durable before ({why}), and must be opened again"),
            )),
            None => Ok(()),
        }
    }
}

/// What is about to become durable. Once it is given up nothing is written any more: what is frozen stands in the way.
pub struct Flush<'a> {
    store: &'a Store,
    frozen: Layers,
    done: bool,
}

impl Flush<'_> {
    /// What will be durable.
    pub fn view(&self) -> &dyn View {
        &self.frozen
    }

    /// Makes it so; returns exactly that.
    ///
    /// # Errors
    /// When the engine fails; nothing is written any more then.
    pub fn finish(mut self) -> io::Result<Arc<dyn View>> {
        let base = match self.store.commit(&self.frozen) {
            Ok(base) => base,
            Err(error) => return Err(self.give_up(error)),
        };
        let written = self.store.change(|layers| {
            (layers.base, layers.base_seq) = (base.clone(), self.frozen.seq);
            layers.frozen.take()
        });
        self.done = true;
        // Large: not to be freed under the lock.
        drop(written);
        Ok(base)
    }

    /// Gives it up for that reason, which whoever writes or flushes from now on is told, too.
    pub fn give_up(self, why: io::Error) -> io::Error {
        self.store.failed.get_or_init(|| (why.kind(), why.to_string()));
        why
    }
}

impl Drop for Flush<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.store.failed.get_or_init(|| (io::ErrorKind::Other, "it was not finished".to_owned()));
        }
        self.store.flushing.store(false, Ordering::Release);
    }
}

impl Layers {
    fn scan_layers(&self, range: Range<'_>, limit: usize, direction: Direction) -> io::Result<Pairs> {
        let mut found = Pairs::new();
        // The end of the base's page before.
        let mut last: Option<Vec<u8>> = None;
        loop {
            let range = match (&last, direction) {
                (None, _) => range,
                (Some(last), Direction::Forward) => (Bound::Excluded(&last[..]), range.1),
                (Some(last), Direction::Back) => (range.0, Bound::Excluded(&last[..])),
            };
            let wanted = limit - found.len();
            if wanted == 0 || is_empty(range) {
                return Ok(found);
            }
            // Many at a time: those that were removed lately are there still.
            let read = wanted.max(PAGE_LEN);
            let page = match direction {
                Direction::Forward => self.base.scan(range, read)?,
                Direction::Back => self.base.scan_back(range, read)?,
            };
            // Beyond a full page the base has more, which what is in memory there has to wait for.
            let end = (page.len() == read).then(|| page[read - 1].0.clone());
            let covered = match (&end, direction) {
                (None, _) => range,
                (Some(end), Direction::Forward) => (range.0, Bound::Included(&end[..])),
                (Some(end), Direction::Back) => (Bound::Included(&end[..]), range.1),
            };
            self.overlay(page, covered, wanted, direction, &mut found);
            if end.is_none() {
                return Ok(found);
            }
            last = end;
        }
    }

    /// Lays what is in memory over what the base has in a range.
    fn overlay(&self, page: Pairs, range: Range<'_>, wanted: usize, direction: Direction, found: &mut Pairs) {
        let tables: Vec<_> = self.frozen.iter().chain([&self.active]).map(|table| table.read()).collect();
        let page = page.into_iter().map(|(key, value)| (Cow::Owned(key), Some(Cow::Owned(value))));
        let mut merged: Box<dyn Iterator<Item = Entry<'_>>> = Box::new(page);
        for table in &tables {
            merged = over(table.range(range, self.seq), merged, direction);
        }
        merged = over(range_of(&self.head, range), merged, direction);
        let there = merged.filter_map(|(key, value)| Some((key.into_owned(), value?.into_owned())));
        found.extend(there.take(wanted));
    }
}

/// One more layer.
fn over<'a>(
    newer: impl DoubleEndedIterator<Item = Entry<'a>> + 'a,
    older: Box<dyn Iterator<Item = Entry<'a>> + 'a>,
    direction: Direction,
) -> Box<dyn Iterator<Item = Entry<'a>> + 'a> {
    match direction {
        Direction::Forward => Box::new(Merged::new(newer, older, direction)),
        Direction::Back => Box::new(Merged::new(newer.rev(), older, direction)),
    }
}

impl View for Layers {
    fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        if let Some(value) = self.head.get(key) {
            return Ok(value.clone());
        }
        for table in [&self.active].into_iter().chain(&self.frozen) {
            if let Some(value) = table.read().get(key, self.seq) {
                return Ok(value);
            }
        }
        self.base.get(key)
    }

    fn scan(&self, range: Range<'_>, limit: usize) -> io::Result<Pairs> {
        self.scan_layers(range, limit, Direction::Forward)
    }

    fn scan_back(&self, range: Range<'_>, limit: usize) -> io::Result<Pairs> {
        self.scan_layers(range, limit, Direction::Back)
    }
}
