//! A record of table 0: public bytes that are read while sealed, so they are kept as they are (key-hierarchy §1a).

use crate::record_key::RecordKey;

/// One of them; what its bytes mean is told by whoever writes them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealRecord {
    /// Where it is, which says what it is.
    pub key: RecordKey,
    /// Its bytes.
    pub value: Vec<u8>,
}
