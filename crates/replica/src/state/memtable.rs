//! Writes that are not in the engine yet, in memory and in key order. Each key has all its versions since the table began,
//! so that a reader sees the table as of any write, at no cost to whoever writes on.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Bound;
use std::sync::atomic::{AtomicUsize, Ordering as Memory};
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use super::engine::{Range, WriteSet};

/// Numbers writes, which count up: what a reader sees is all up to one of them.
pub(super) type Seq = u64;

/// Keys written under one lock: readers wait no longer than this takes.
const STEP: usize = 64;
/// What a key takes beside its bytes and those of its first version, about …
const KEY_OVERHEAD: usize = 112;
/// … and what each further version does.
const VERSION_OVERHEAD: usize = 48;

struct Version {
    seq: Seq,
    /// `None`: removed.
    value: Option<Vec<u8>>,
}

/// All versions of one key; nearly always there is one.
struct Versions {
    older: Vec<Version>,
    newest: Version,
}

impl Versions {
    fn as_of(&self, seq: Seq) -> Option<Option<&[u8]>> {
        let seen = match self.newest.seq <= seq {
            true => &self.newest,
            false => &self.older[self.older.partition_point(|version| version.seq <= seq).checked_sub(1)?],
        };
        Some(seen.value.as_deref())
    }
}

type Map = BTreeMap<Vec<u8>, Versions>;

/// One table: one writer, any number of readers.
#[derive(Default)]
pub(super) struct Memtable {
    map: RwLock<Map>,
    bytes: AtomicUsize,
}

impl Memtable {
    /// Takes the next write. In steps: who reads as of an earlier one never sees a part of it.
    pub(super) fn insert(&self, seq: Seq, set: WriteSet) {
        let mut set = set.into_iter().peekable();
        while set.peek().is_some() {
            let mut bytes = 0;
            let mut map = self.map.write().unwrap_or_else(PoisonError::into_inner);
            for (key, value) in set.by_ref().take(STEP) {
                bytes += value.as_ref().map_or(0, Vec::len);
                let version = Version { seq, value };
                match map.get_mut(&key) {
                    Some(versions) => {
                        bytes += VERSION_OVERHEAD;
                        versions.older.push(std::mem::replace(&mut versions.newest, version));
                    }
                    None => {
                        bytes += key.len() + KEY_OVERHEAD;
                        map.insert(key, Versions { older: Vec::new(), newest: version });
                    }
                }
            }
            drop(map);
            self.bytes.fetch_add(bytes, Memory::Relaxed);
        }
    }

    /// Memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Memory::Relaxed)
    }

    pub(super) fn read(&self) -> Reading<'_> {
        Reading(self.map.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A key and its value, `None`: it was removed.
pub(super) type Entry<'a> = (Cow<'a, [u8]>, Option<Cow<'a, [u8]>>);

fn borrowed<'a>(key: &'a [u8], value: Option<&'a [u8]>) -> Entry<'a> {
    (Cow::Borrowed(key), value.map(Cow::Borrowed))
}

/// A table that does not change meanwhile. Of one that is written to, it is not to be held while waiting for anything.
pub(super) struct Reading<'a>(RwLockReadGuard<'a, Map>);

impl Reading<'_> {
    /// What was written of a key; `None`: nothing.
    pub(super) fn get(&self, key: &[u8], seq: Seq) -> Option<Option<Vec<u8>>> {
        Some(self.0.get(key)?.as_of(seq)?.map(<[u8]>::to_vec))
    }

    /// What was written of a range.
    pub(super) fn range(&self, range: Range<'_>, seq: Seq) -> impl DoubleEndedIterator<Item = Entry<'_>> {
        let range = self.0.range::<[u8], _>(range);
        range.filter_map(move |(key, versions)| Some(borrowed(key, versions.as_of(seq)?)))
    }

    /// All keys as they were written last.
    pub(super) fn newest(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.0.iter().map(|(key, versions)| (&key[..], versions.newest.value.as_deref()))
    }
}

/// What was written of a range in a set that is not in a table.
pub(super) fn range_of<'a>(set: &'a WriteSet, range: Range<'_>) -> impl DoubleEndedIterator<Item = Entry<'a>> {
    set.range::<[u8], _>(range).map(|(key, value)| borrowed(key, value.as_deref()))
}

/// Whether no key can be in it; `BTreeMap` takes no such range.
pub(super) fn is_empty(range: Range<'_>) -> bool {
    use Bound::{Excluded, Included, Unbounded};
    match range {
        (Unbounded, _) | (_, Unbounded) => false,
        (Included(from), Included(to)) => from > to,
        (Included(from) | Excluded(from), Included(to) | Excluded(to)) => from >= to,
    }
}

/// Which way a scan goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Forward,
    Back,
}

/// Entries of two layers, each in order: where both have a key, the newer one's counts.
pub(super) struct Merged<N: Iterator, O: Iterator> {
    newer: Peekable<N>,
    older: Peekable<O>,
    direction: Direction,
}

impl<'a, N: Iterator<Item = Entry<'a>>, O: Iterator<Item = Entry<'a>>> Merged<N, O> {
    pub(super) fn new(newer: N, older: O, direction: Direction) -> Self {
        Self { newer: newer.peekable(), older: older.peekable(), direction }
    }
}

impl<'a, N: Iterator<Item = Entry<'a>>, O: Iterator<Item = Entry<'a>>> Iterator for Merged<N, O> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let (Some((newer, _)), Some((older, _))) = (self.newer.peek(), self.older.peek()) else {
            return self.newer.next().or_else(|| self.older.next());
        };
        let order = match self.direction {
            Direction::Forward => newer.cmp(older),
            Direction::Back => older.cmp(newer),
        };
        match order {
            Ordering::Less => self.newer.next(),
            Ordering::Equal => {
                self.older.next();
                self.newer.next()
            }
            Ordering::Greater => self.older.next(),
        }
    }
}
