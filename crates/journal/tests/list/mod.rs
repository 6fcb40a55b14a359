//! Contents of a journal for tests: a list of numbered items, a note that rides along, and what need not be kept.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use quorate_core::codec::{Malformed, Reader, Writer};
use quorate_core::id::{ClusterId, NodeId};
use quorate_journal::disk::Disk;
use quorate_journal::testing::TestEntropy;
use quorate_journal::{
    Contents, Haste, Journal, JournalConfig, JournalError, JournalIds, JournalReader, Location, Record, Recovered,
    Sealed,
};

pub const IDS: JournalIds = JournalIds { cluster: ClusterId([1; 16]), node: NodeId(7), stream: 0 };

const ITEM: u8 = 1;
const NOTE: u8 = 2;
const DROP: u8 = 3;

/// What is in a list.
#[derive(Clone, PartialEq, Default, Debug)]
pub struct Items {
    pub numbers: Vec<u64>,
    pub note: Option<Bytes>,
    /// Items before this one are not needed.
    pub needed_from: u64,
}

#[derive(Default)]
struct State {
    items: BTreeMap<u64, Location>,
    next: u64,
    needed_from: u64,
    note: Option<Bytes>,
    oldest_needed: u64,
    /// Segments that were taken up by their index.
    resumed: Vec<u64>,
}

/// Cheap to clone: the same list.
#[derive(Clone, Default)]
pub struct List(Arc<Mutex<State>>);

fn bytes_of(number: u64) -> Vec<u8> {
    vec![number as u8; 60 + number as usize % 50]
}

pub fn item(number: u64) -> Record {
    sized_item(number, &bytes_of(number))
}

pub fn sized_item(number: u64, bytes: &[u8]) -> Record {
    let body = Writer::new().u64(number).raw(bytes).finish().into();
    Record { kind: ITEM, body, haste: Haste::Syncs, ticket: number }
}

pub fn note(text: impl Into<Bytes>, haste: Haste) -> Record {
    Record { kind: NOTE, body: text.into(), haste, ticket: 0 }
}

/// Items before `number` are not needed.
pub fn drop_before(number: u64) -> Record {
    Record { kind: DROP, body: Writer::new().u64(number).finish().into(), haste: Haste::Syncs, ticket: 0 }
}

impl List {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("lock")
    }

    /// What it holds; every item is read from the disk, and must be what was written.
    pub fn read(&self, reader: &JournalReader) -> Items {
        let state = self.lock();
        for (number, at) in &state.items {
            let (kind, body) = reader.segment(at.segment).expect("the segment is there").read(*at).expect("readable");
            let written = sized_item(*number, &bytes_of(*number));
            assert!(kind == ITEM && body == written.body, "item {number} has other bytes");
        }
        Items {
            numbers: state.items.keys().copied().collect(),
            note: state.note.clone(),
            needed_from: state.needed_from,
        }
    }

    pub fn next(&self) -> u64 {
        self.lock().next
    }

    /// Segments that were taken up by their index.
    pub fn resumed(&self) -> Vec<u64> {
        self.lock().resumed.clone()
    }
}

impl State {
    fn set_summary(&mut self, summary: &[u8]) -> Result<(), Malformed> {
        let mut r = Reader::new("a list's summary", summary);
        (self.next, self.needed_from) = (r.u64()?, r.u64()?);
        self.note = if r.u8()? == 1 { Some(Bytes::copy_from_slice(r.field(1000)?)) } else { None };
        r.finish()
    }
    fn take(&mut self, kind: u8, body: &[u8], at: Location) -> Result<(), String> {
        let number = || Reader::new("a list's number", body).u64().map_err(|e| e.to_string());
        match kind {
            ITEM if number()? != self.next => return Err(format!("item {} instead of {}", number()?, self.next)),
            ITEM => {
                self.items.insert(self.next, at);
                self.next += 1;
            }
            NOTE => self.note = Some(Bytes::copy_from_slice(body)),
            DROP => {
                self.needed_from = number()?;
                self.items = self.items.split_off(&self.needed_from);
                self.oldest_needed = self.items.first_key_value().map_or(at.segment, |(_, first)| first.segment);
            }
            kind => return Err(format!("kind {kind}")),
        }
        Ok(())
    }
}

impl Contents for List {
    fn summary(&self) -> Vec<u8> {
        let state = self.lock();
        let w = Writer::new().u64(state.next).u64(state.needed_from);
        match &state.note {
            None => w.u8(0),
            Some(note) => w.u8(1).field(note),
        }
        .finish()
    }
    fn oldest_needed(&self) -> u64 {
        self.lock().oldest_needed
    }
    fn synced(&mut self, records: &[(Record, Location)]) {
        for (record, at) in records {
            assert!(record.kind != ITEM || record.ticket == self.next(), "tickets come back with their records");
            self.lock().take(record.kind, &record.body, *at).expect("it can follow");
        }
    }
    fn begin(&mut self, summary: &[u8]) -> Result<(), Malformed> {
        self.lock().set_summary(summary)
    }
    fn index(&self, segment: u64) -> Vec<u8> {
        let state = self.lock();
        let own = state.items.iter().filter(|(_, at)| at.segment == segment);
        own.fold(Writer::new(), |w, (number, at)| w.u64(*number).u32(at.offset).u32(at.len)).finish()
    }
    /// All but the one before the newest, as if that were still needed whole.
    fn resume(&mut self, segment: u64, sealed: &Sealed<'_>) -> Result<bool, String> {
        if sealed.summary == sealed.newest {
            return Ok(false);
        }
        let mut state = self.lock();
        let mut r = Reader::new("a list's index", sealed.index);
        while !r.rest().is_empty() {
            let (number, offset, len) = (r.u64(), r.u32(), r.u32());
            let (Ok(number), Ok(offset), Ok(len)) = (number, offset, len) else { return Err("a cut index".into()) };
            state.items.insert(number, Location { segment, offset, len });
        }
        state.set_summary(sealed.summary).map_err(|e| e.to_string())?;
        let needed_from = state.needed_from;
        state.items = state.items.split_off(&needed_from);
        state.oldest_needed = state.items.first_key_value().map_or(segment, |(_, first)| first.segment);
        state.resumed.push(segment);
        Ok(true)
    }
    fn replay(&mut self, kind: u8, body: &[u8], at: Location) -> Result<(), String> {
        self.lock().take(kind, body, at)
    }
    fn replayed(&mut self, cut: bool) -> Result<(), String> {
        let state = self.lock();
        let first = state.items.keys().next().copied().unwrap_or(state.next);
        match cut && first > state.needed_from {
            true => Err(format!("items {} to {}", state.needed_from, first - 1)),
            false => Ok(()),
        }
    }
}

/// A journal with its list.
pub struct Listed {
    pub journal: Journal<List>,
    pub list: List,
    pub recovered: Recovered,
}

impl Listed {
    pub fn create(disk: impl Disk, ids: JournalIds, config: JournalConfig) -> Result<Self, JournalError> {
        let (list, entropy) = (List::default(), Arc::new(TestEntropy::default()));
        let (journal, recovered) =
            Journal::create(Path::new("/j"), ids, config, Arc::new(disk), entropy, list.clone())?;
        Ok(Self { journal, list, recovered })
    }

    pub fn open(disk: impl Disk, ids: JournalIds, config: JournalConfig) -> Result<Self, JournalError> {
        let (list, entropy) = (List::default(), Arc::new(TestEntropy::default()));
        let (journal, recovered) = Journal::open(Path::new("/j"), ids, config, Arc::new(disk), entropy, list.clone())?;
        Ok(Self { journal, list, recovered })
    }

    pub fn items(&self) -> Items {
        self.list.read(&self.journal.reader())
    }
}
