//! The state digest: LtHash, 1024 lanes of 16 bits (key-hierarchy §2, key-log §5.4).
//!
//! Each record's lanes are the BLAKE3 XOF of `key ‖ rev ‖ value` (the key's length follows from its table), added
//! lane by lane modulo 2^16. So the digest of a set is moved by adding and subtracting single records, in any order.

use quorate_core::codec::Malformed;

const LANES: usize = 1024;

/// The digest of a set of records.
#[derive(Clone, PartialEq, Eq)]
pub struct LtHash(Box<[u16; LANES]>);

impl Default for LtHash {
    /// Of the empty set.
    fn default() -> Self {
        Self(Box::new([0; LANES]))
    }
}

impl LtHash {
    /// Encoded length, in bytes.
    pub const LEN: usize = 2 * LANES;

    /// Adds a record: its key, and its state value (`rev u64 ‖ value`).
    pub fn add(&mut self, key: &[u8], state_value: &[u8]) {
        self.each(key, state_value, u16::wrapping_add);
    }

    /// Takes a record out again; it must have been added.
    pub fn sub(&mut self, key: &[u8], state_value: &[u8]) {
        self.each(key, state_value, u16::wrapping_sub);
    }

    /// Adds all that another digest holds.
    pub fn merge(&mut self, other: &Self) {
        for (lane, more) in self.0.iter_mut().zip(other.0.iter()) {
            *lane = lane.wrapping_add(*more);
        }
    }

    fn each(&mut self, key: &[u8], state_value: &[u8], op: impl Fn(u16, u16) -> u16) {
        let mut lanes = [0; Self::LEN];
        let mut hash = blake3::Hasher::new_derive_key("quorate/v1/state-digest");
        hash.update(key).update(state_value).finalize_xof().fill(&mut lanes);
        for (lane, bytes) in self.0.iter_mut().zip(lanes.chunks_exact(2)) {
            *lane = op(*lane, u16::from_be_bytes([bytes[0], bytes[1]]));
        }
    }

    /// What nodes compare and journals keep.
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.to_bytes()).as_bytes()
    }

    /// Canonical bytes: the lanes, big-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|lane| lane.to_be_bytes()).collect()
    }

    /// Reads canonical bytes.
    ///
    /// # Errors
    /// When there are not exactly [`LtHash::LEN`] of them.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() != Self::LEN {
            return Err(Malformed("state digest"));
        }
        let mut lanes = Box::new([0; LANES]);
        for (lane, pair) in lanes.iter_mut().zip(bytes.chunks_exact(2)) {
            *lane = u16::from_be_bytes([pair[0], pair[1]]);
        }
        Ok(Self(lanes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(records: &[(Vec<u8>, Vec<u8>)]) -> LtHash {
        let mut digest = LtHash::default();
        for (key, value) in records {
            digest.add(key, value);
        }
        digest
    }

    fn records() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
        // Keys of one length, as those of one table are: the boundary to the value is then unambiguous.
        let record = (proptest::collection::vec(any::<u8>(), 4), proptest::collection::vec(any::<u8>(), 0..20));
        proptest::collection::vec(record, 0..12)
    }

    proptest! {
        #[test]
        fn order_does_not_matter(records in records(), seed in any::<u64>()) {
            let mut shuffled = records.clone();
            let mut x = seed | 1;
            for i in (1..shuffled.len()).rev() {
                x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                shuffled.swap(i, (x >> 33) as usize % (i + 1));
            }
            prop_assert!(of(&records) == of(&shuffled));
        }

        #[test]
        fn parts_add_up_to_the_whole(one in records(), two in records()) {
            let mut merged = of(&one);
            merged.merge(&of(&two));
            prop_assert!(merged == of(&[one, two].concat()));
        }

        #[test]
        fn subtraction_undoes_addition(records in records(), more in records()) {
            let mut digest = of(&records);
            for (key, value) in &more {
                digest.add(key, value);
            }
            for (key, value) in more.iter().rev() {
                digest.sub(key, value);
            }
            prop_assert!(digest == of(&records));
        }

        #[test]
        fn any_difference_shows(records in records(), key in any::<[u8; 4]>(), value in any::<[u8; 9]>(), byte in 0usize..13) {
            let mut with = of(&records);
            with.add(&key, &value);
            prop_assert!(with.hash() != of(&records).hash());
            let (mut key2, mut value2) = (key, value);
            if byte < 4 { key2[byte] ^= 1 } else { value2[byte - 4] ^= 1 }
            let mut other = of(&records);
            other.add(&key2, &value2);
            prop_assert!(with.hash() != other.hash());
        }

        #[test]
        fn bytes_read_back(records in records()) {
            let digest = of(&records);
            prop_assert!(LtHash::from_bytes(&digest.to_bytes()).unwrap() == digest);
        }
    }

    #[test]
    fn the_bytes_are_fixed() {
        // A change here breaks every stored digest.
        let mut digest = LtHash::default();
        digest.add(b"key", b"value");
        assert_eq!(hex(&digest.to_bytes()[..8]), "1000d266e99faf99");
        assert_eq!(hex(&digest.hash()), "1a30e52ff5d09090ffc369e958e6011f4d83491f69d9c42f5cab340d3d416d34");
        assert!(LtHash::from_bytes(&[0; LtHash::LEN - 1]).is_err());
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }
}
