//! Runs of records in key order, by which two nodes find out what of a state they both have.

use quorate_core::codec::Writer;

/// A range is complete once its records have so many bytes.
const RANGE_BYTES: usize = 1 << 20;

/// The records after those of the range before it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyRange {
    /// The last key in it.
    pub upto: Vec<u8>,
    /// Of all records in it.
    pub hash: [u8; 32],
}

/// The hash of a range, as its records come.
pub struct RangeHash {
    hash: blake3::Hasher,
    bytes: usize,
    records: u64,
}

impl Default for RangeHash {
    /// Of none.
    fn default() -> Self {
        Self { hash: blake3::Hasher::new_derive_key("quorate/v1/snapshot-range"), bytes: 0, records: 0 }
    }
}

impl RangeHash {
    /// Takes the next record.
    pub fn push(&mut self, key: &[u8], state_value: &[u8]) {
        let head = Writer::new().field(key).u32(state_value.len() as u32).finish();
        self.hash.update(&head).update(state_value);
        self.bytes += key.len() + state_value.len();
        self.records += 1;
    }

    /// Records taken.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Whether a range should end here.
    pub fn is_complete(&self) -> bool {
        self.bytes >= RANGE_BYTES
    }

    /// The hash.
    pub fn finish(&self) -> [u8; 32] {
        *self.hash.finalize().as_bytes()
    }
}
