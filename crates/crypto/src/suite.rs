//! The hash suite, fixed when a cluster is founded (key-hierarchy §1).

use thiserror::Error;

/// Which hash functions serve for chains, the state digest, blinding and contexts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum HashSuite {
    /// BLAKE3: plain, `keyed_hash` and `derive_key`.
    Blake3 = 1,
    // 2 is reserved for SHA-256 and HMAC-SHA-256 (fips).
}

/// A hash suite this build does not have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum UnknownSuite {
    /// The reserved suite 2.
    #[error("hash suite 2 (fips) is reserved and not yet supported: use a build that has it")]
    Fips,
    /// Any other number.
    #[error("hash suite {0} is unknown: the data was written by a newer version; upgrade this node")]
    Other(u8),
}

impl HashSuite {
    /// The suite with this id.
    ///
    /// # Errors
    /// For suite 2, which is reserved, and for every id that is not assigned.
    pub fn from_byte(id: u8) -> Result<Self, UnknownSuite> {
        match id {
            1 => Ok(Self::Blake3),
            2 => Err(UnknownSuite::Fips),
            other => Err(UnknownSuite::Other(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_suite_1_is_accepted() {
        assert_eq!(HashSuite::from_byte(1), Ok(HashSuite::Blake3));
        assert_eq!(HashSuite::from_byte(2), Err(UnknownSuite::Fips));
        for id in (0..=255).filter(|id| !(1..=2).contains(id)) {
            assert_eq!(HashSuite::from_byte(id), Err(UnknownSuite::Other(id)));
        }
    }
}
