//! The hot view: decrypted records that uses need, all true at one applied index (key-log §1.9).
//!
//! One lock around everything, because sharding it would split the view. The replica tells it about each entry after
//! the engine has it and before the applied index is published, so whoever waited for an index finds this view at or
//! past it. A use collects all its facts under one read guard. What is missing it reads, for itself, from one view of
//! the engine, and offers what it read to the hot view, which takes it only if it would have been told of every later
//! change: the engine's view is not ahead of the hot view, nothing has touched that record since, and the memory of
//! touched records reaches back that far. Otherwise it is simply not kept, and nothing stale can stay.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use quorate_core::batch::Rev;
use quorate_core::record::Record;
use quorate_core::record_key::{RecordKey, Table};
use quorate_core::request::Tags;
use quorate_core::seeded::{self, Bug};
use quorate_replica::{ApplyObserver, ReadRecord, Touched};

use crate::records::facts::{Known, Noted};

/// How many touched records are remembered; older changes make a fill fail, which costs a cache entry, no more.
const TOUCHED_MAX: usize = 64 * 1024;
/// What an entry takes besides its value: the key twice, two map slots, counters; bytes, rounded up.
const ENTRY_OVERHEAD: usize = 256;

/// Bytes that an entry takes, about.
fn len(known: &Known) -> usize {
    ENTRY_OVERHEAD
        + match known {
            Known::Absent => 0,
            Known::Version(record, material, of, _) => {
                record_len(record) + material.as_ref().map_or(0, |material| material.size()) + of.as_bytes().len()
            }
            Known::Record(record) => record_len(record),
        }
}

fn record_len(record: &Record) -> usize {
    let tags = |tags: &Tags| tags.iter().map(|(name, value)| 128 + name.len() + value.len()).sum::<usize>();
    let more = match record {
        Record::Key(key) => {
            let names: usize = key.aliases.iter().map(|a| 64 + a.as_str().len()).sum();
            let name = key.name.as_ref().map_or(0, |name| name.as_str().len());
            name + names + tags(&key.tags)
        }
        Record::KeyVersion(version) => version.public.len() + tags(&version.tags),
        Record::Details(details) => details.description.as_str().len(),
        _ => 0,
    };
    std::mem::size_of::<Record>() + more
}

struct Slot {
    key: RecordKey,
    rev: Rev,
    known: Known,
    /// Looked at since the hand came by.
    used: AtomicBool,
}

struct Hot {
    /// The index at which everything here is true; 0 until the first entry was seen.
    index: u64,
    /// The first entry seen: views before it can't be judged.
    followed_from: u64,
    map: HashMap<RecordKey, usize, BuildHasherDefault<Blind>>,
    /// Which materials are here of which key.
    materials: HashMap<Arc<RecordKey>, Vec<RecordKey>, BuildHasherDefault<Blind>>,
    slots: Vec<Option<Slot>>,
    free: Vec<usize>,
    hand: usize,
    bytes: usize,
    touched: VecDeque<(u64, u64)>,
    last_touch: HashMap<u64, u64>,
    /// Changes at or before this index are no longer remembered.
    forgotten: u64,
    closed: bool,
}

/// The hot view of one desk.
pub struct HotView {
    hot: RwLock<Hot>,
    bytes_max: usize,
    touched_max: usize,
}

/// The view held still.
pub struct HotGuard<'a>(RwLockReadGuard<'a, Hot>);

impl HotGuard<'_> {
    /// The index at which its facts are true.
    pub fn index(&self) -> u64 {
        self.0.index
    }
    /// What is known of a record, and its revision, if it is here. What was derived counts only beside the revision of the
    /// record that it was derived from.
    pub fn get(&self, key: &RecordKey) -> Option<(Rev, Known)> {
        let slot = self.slot(key)?;
        if let Known::Version(_, _, of, rev) = &slot.known
            && self.slot(of)?.rev != *rev
        {
            return None;
        }
        Some((slot.rev, slot.known.clone()))
    }

    /// The revision of a record, if it is here.
    pub fn revision(&self, key: &RecordKey) -> Option<Rev> {
        Some(self.slot(key)?.rev)
    }

    fn slot(&self, key: &RecordKey) -> Option<&Slot> {
        let slot = self.0.slots[*self.0.map.get(key)?].as_ref()?;
        // Looked at first: a line that all cores write is slow.
        if !slot.used.load(Ordering::Relaxed) {
            slot.used.store(true, Ordering::Relaxed);
        }
        Some(slot)
    }
}

impl HotView {
    pub fn new(bytes_max: usize) -> Self {
        Self::with_limits(bytes_max, TOUCHED_MAX)
    }

    fn with_limits(bytes_max: usize, touched_max: usize) -> Self {
        let hot = Hot {
            index: 0,
            followed_from: 0,
            map: HashMap::default(),
            materials: HashMap::default(),
            slots: Vec::new(),
            free: Vec::new(),
            hand: 0,
            bytes: 0,
            touched: VecDeque::new(),
            last_touch: HashMap::new(),
            forgotten: 0,
            closed: false,
        };
        Self { hot: RwLock::new(hot), bytes_max, touched_max }
    }

    /// Holds the view still. Nothing may be awaited while the guard lives.
    pub fn read(&self) -> HotGuard<'_> {
        HotGuard(self.hot.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Offers what was read from the engine's view at `index`; keeps what can't go stale unnoticed.
    pub fn offer(&self, index: u64, read: Vec<Noted>) {
        // Evicted values are dropped, and wiped, after the lock is released.
        let mut evicted = Vec::new();
        let mut hot = self.write();
        let judged = index != 0 && index <= hot.index && index >= hot.followed_from && index >= hot.forgotten;
        // Seeded bug: what was read before a change is kept after it.
        let blind = seeded::is(Bug::LateFill);
        if hot.closed || !judged && !blind {
            return;
        }
        for Noted { key, rev, known } in read {
            let Some(known) = known else { continue };
            let of = if let Known::Version(_, _, of, _) = &known { Some(&**of) } else { None };
            let changed_since = |key| hot.last_touch.get(&fingerprint(key)).is_some_and(|at| *at > index);
            let changed = changed_since(&key) || of.is_some_and(changed_since);
            if (blind || !changed) && !hot.map.contains_key(&key) {
                hot.insert(Slot { key, rev, known, used: AtomicBool::new(false) }, self.bytes_max, &mut evicted);
            }
        }
        drop(hot);
        drop(evicted);
    }

    /// Forgets everything, for good.
    pub fn close(&self) {
        let mut hot = self.write();
        hot.closed = true;
        let slots = hot.forget();
        drop(hot);
        drop(slots);
    }

    fn write(&self) -> RwLockWriteGuard<'_, Hot> {
        self.hot.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ApplyObserver for HotView {
    fn applied(&self, index: u64, touched: &[Touched]) {
        let mut dropped = Vec::new();
        let mut hot = self.write();
        if hot.index != 0 && index != hot.index + 1 {
            // Entries come without gaps, and a replaced state is told of. Should there be one all the same, nothing here
            // is known any more.
            dropped.extend(hot.forget());
        }
        for (key, _, _) in touched.iter().filter(|(key, _, _)| key.table() != Table::Session) {
            dropped.extend(hot.remove(key));
            for material in hot.materials.remove(key).unwrap_or_default() {
                dropped.extend(hot.remove(&material));
            }
            let print = fingerprint(key);
            hot.touched.push_back((index, print));
            hot.last_touch.insert(print, index);
        }
        while hot.touched.len() > self.touched_max {
            if let Some((at, print)) = hot.touched.pop_front() {
                hot.forgotten = at;
                if hot.last_touch.get(&print) == Some(&at) {
                    hot.last_touch.remove(&print);
                }
            }
        }
        if hot.followed_from == 0 {
            hot.followed_from = index;
        }
        hot.index = index;
        drop(hot);
        drop(dropped);
    }

    /// Everything goes; what is read from the new state, at `index` or later, is taken again.
    fn replaced(&self, index: u64, _: ReadRecord<'_>) {
        let mut hot = self.write();
        let dropped = hot.forget();
        (hot.index, hot.followed_from) = (index, index);
        drop(hot);
        drop(dropped);
    }
}

impl Hot {
    /// Forgets everything; the values are returned, to be wiped after the lock is released.
    fn forget(&mut self) -> Vec<Slot> {
        self.map.clear();
        self.materials.clear();
        self.free.clear();
        self.touched.clear();
        self.last_touch.clear();
        (self.bytes, self.hand, self.forgotten, self.followed_from) = (0, 0, 0, 0);
        std::mem::take(&mut self.slots).into_iter().flatten().collect()
    }

    fn remove(&mut self, key: &RecordKey) -> Option<Slot> {
        let at = self.map.remove(key)?;
        self.free.push(at);
        let slot = self.slots[at].take()?;
        self.bytes -= len(&slot.known);
        if let Known::Version(_, _, of, _) = &slot.known
            && let Some(of_key) = self.materials.get_mut(of)
        {
            of_key.retain(|material| material != key);
            if of_key.is_empty() {
                self.materials.remove(of);
            }
        }
        Some(slot)
    }

    fn insert(&mut self, slot: Slot, bytes_max: usize, evicted: &mut Vec<Slot>) {
        let len = len(&slot.known);
        if len > bytes_max {
            return;
        }
        while self.bytes + len > bytes_max {
            match self.evict() {
                Some(slot) => evicted.push(slot),
                None => return,
            }
        }
        self.bytes += len;
        if let Known::Version(_, _, of, _) = &slot.known {
            self.materials.entry(of.clone()).or_default().push(slot.key.clone());
        }
        let (key, slot) = (slot.key.clone(), Some(slot));
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        self.map.insert(key, at);
    }

    /// Second chance: what was used since the hand came by stays for another round.
    fn evict(&mut self) -> Option<Slot> {
        for _ in 0..2 * self.slots.len() {
            self.hand = (self.hand + 1) % self.slots.len();
            let Some(slot) = &self.slots[self.hand] else { continue };
            if !slot.used.swap(false, Ordering::Relaxed) {
                let key = slot.key.clone();
                return self.remove(&key);
            }
        }
        None
    }
}

/// Eight bytes of a record key that tell it from others; equal ones merely cost a cache entry.
fn fingerprint(key: &RecordKey) -> u64 {
    let mut hasher = Blind::default();
    std::hash::Hash::hash(key, &mut hasher);
    hasher.finish()
}

/// Record keys are keyed hashes with a table and a number: nobody outside chooses them, and they need no more mixing.
#[derive(Default)]
struct Blind(u64);

impl Hasher for Blind {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = self.0.rotate_left(5).wrapping_add(u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }
}

#[cfg(test)]
#[path = "hot_tests.rs"]
mod tests;
