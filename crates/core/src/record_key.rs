//! Keys of replicated records: `table u8 ‖ clear prefix ‖ blind 32 ‖ clear suffix`, both of a length that the table fixes
//! (key-hierarchy §1a, key-model §4.1).
//!
//! What is written at one time lies side by side: a prefix begins with a time wherever records are many. A disk's reader
//! learns from it when an object was made, and nothing of its name.

use std::fmt;

use crate::codec::{Malformed, Reader};
use crate::id::NodeId;

macro_rules! tables {
    ($($(#[$doc:meta])* $table:ident = $byte:literal [$prefix:literal, $suffix:literal];)+) => {
        /// The tables of the replicated state; the first byte of every record key.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Table {
            $($(#[$doc])* $table = $byte,)+
        }

        impl Table {
            /// The table of a first byte.
            pub fn from_byte(b: u8) -> Option<Self> {
                match b { $($byte => Some(Self::$table),)+ _ => None }
            }
            /// Length of the clear prefix, in bytes.
            pub const fn prefix_len(self) -> usize {
                match self { $(Self::$table => $prefix,)+ }
            }
            /// Length of the clear suffix, in bytes.
            pub const fn suffix_len(self) -> usize {
                match self { $(Self::$table => $suffix,)+ }
            }
        }
    };
}

// Each with the lengths, in bytes, of what stands in clear before and after the blinded name.
tables! {
    /// Seal configurations, the boxed keyring, envelopes: public bytes, readable while sealed, not boxed again.
    Seal = 0 [0, 0];
    /// Sessions of origins; written by apply itself, never by a batch.
    Session = 1 [0, 0];
    /// Keys: metadata. Prefix: list tag, 4 bytes, and the id's time, 6: a namespace's keys are one range.
    Key = 2 [10, 0];
    /// Key versions: material. Prefix: the id's time. Suffix: version, u32.
    KeyVersion = 3 [6, 4];
    /// Names.
    Name = 4 [0, 0];
    /// What falls due. Prefix: hour since 1970, u32.
    Due = 5 [4, 0];
    /// Answers to client tokens. Prefix: the token's time, 6 bytes.
    Idempotency = 6 [6, 0];
    /// Duty leases.
    Duty = 7 [0, 0];
    /// Members by node name (approval, pinned keys).
    Member = 8 [0, 0];
    /// Invitations by token hash.
    Invitation = 9 [0, 0];
    /// The cluster's own secrets by name, such as the key that opens audit segments.
    Internal = 10 [0, 0];
    /// What is told about objects. Prefix: the id's time.
    Details = 12 [6, 0];
    /// Namespaces, what they are called, and how many there have been.
    Namespace = 13 [0, 0];
    /// Those of whom more is known than credentials say.
    Principal = 14 [0, 0];
    /// Credentials of which more is known than they say themselves.
    Credential = 15 [0, 0];
    /// What nodes have done with keys. Prefix: the id's time. Suffix: node, u64.
    Use = 19 [6, 8];
    /// Uses of versions that nodes were given. Prefix: the id's time. Suffix: version, u32.
    Allowance = 20 [6, 4];
    /// What was destroyed. Prefix: the id's time. Suffix: version, u32; 0 = the key as a whole.
    Destruction = 23 [6, 4];
}

impl Table {
    /// Length of a whole key of this table, in bytes.
    pub const fn key_len(self) -> usize {
        1 + self.prefix_len() + 32 + self.suffix_len()
    }
}

/// The key of one record, 33 to 43 bytes; ordered as its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(Vec<u8>);

impl RecordKey {
    /// A key in a table that has neither prefix nor suffix.
    ///
    /// # Panics
    /// When the table has one: that is a bug in the caller.
    pub fn new(table: Table, blind: [u8; 32]) -> Self {
        Self::with(table, &[], blind, &[])
    }
    /// A key with what stands in clear before and after the blinded name.
    ///
    /// # Panics
    /// When these are not as long as the table says: that is a bug in the caller.
    pub fn with(table: Table, prefix: &[u8], blind: [u8; 32], suffix: &[u8]) -> Self {
        assert_eq!((prefix.len(), suffix.len()), (table.prefix_len(), table.suffix_len()), "clear parts of {table:?}");
        Self([&[table as u8], prefix, &blind, suffix].concat())
    }
    /// A record of table 0: nothing there is blinded, the 32 bytes are a plain BLAKE3 hash of kind and name.
    fn seal(kind: &str, name: &[u8]) -> Self {
        let mut hash = blake3::Hasher::new_derive_key("quorate/v1/seal-record");
        hash.update(&(kind.len() as u32).to_be_bytes()).update(kind.as_bytes()).update(name);
        Self::new(Table::Seal, *hash.finalize().as_bytes())
    }
    /// Where the seal configuration of generation `g` is kept.
    pub fn seal_config(g: u32) -> Self {
        Self::seal("config", &g.to_be_bytes())
    }
    /// Where the generation number (u32be) of the seal configuration in force is kept.
    pub fn seal_generation() -> Self {
        Self::seal("generation", b"")
    }
    /// Where the boxed keyring is kept.
    pub fn keyring() -> Self {
        Self::seal("keyring", b"")
    }
    /// Where the envelope of the node called `name` is kept.
    pub fn envelope(name: &str) -> Self {
        Self::seal("envelope", name.as_bytes())
    }
    /// Where the last seal of the whole cluster is kept. Its *revision* is the seal epoch (0 = never sealed): a node
    /// serves only while the revision in its view is the one it was unsealed at, and every batch expects it, so that
    /// a cluster-wide seal takes effect with its commit, without any broadcast (key-log §1.7, §1.8).
    pub fn cluster_seal() -> Self {
        Self::seal("cluster-seal", b"")
    }
    /// Where the signed roster of all members is kept (trust.md §3.4).
    pub fn roster() -> Self {
        Self::seal("roster", b"")
    }
    /// Where the signed feature level in force is kept; absent: the first.
    pub fn level() -> Self {
        Self::seal("level", b"")
    }
    /// Where an operator's word on the time is kept: writing it sets cluster time, back too (trust.md §6).
    pub fn clock() -> Self {
        Self::seal("clock", b"")
    }
    /// A session slot of an origin; `None` is the origin's own record (its newest boot).
    pub fn session(origin: NodeId, slot: Option<u16>) -> Self {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&origin.0.to_be_bytes());
        if let Some(slot) = slot {
            id[8] = 1;
            id[9..11].copy_from_slice(&slot.to_be_bytes());
        }
        Self::new(Table::Session, id)
    }
    /// The table.
    pub fn table(&self) -> Table {
        Table::from_byte(self.0[0]).expect("built or parsed with a known table")
    }
    /// What stands in clear before the name.
    pub fn prefix(&self) -> &[u8] {
        &self.0[1..self.blind_at()]
    }
    /// The blinded (table 0: hashed) name.
    pub fn blind(&self) -> [u8; 32] {
        self.0[self.blind_at()..][..32].try_into().expect("32 bytes")
    }
    /// What stands in clear after the name.
    pub fn suffix(&self) -> &[u8] {
        &self.0[self.blind_at() + 32..]
    }
    fn blind_at(&self) -> usize {
        1 + self.table().prefix_len()
    }
    /// All bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
    /// Parses a whole key.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new("record key", bytes);
        let key = Self::read(&mut r)?;
        r.finish()?;
        Ok(key)
    }
    /// Reads one key; its length follows from its table.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let table = r.rest().first().and_then(|b| Table::from_byte(*b)).ok_or(Malformed("record key"))?;
        Ok(Self(r.raw(table.key_len())?.to_vec()))
    }
}

impl fmt::Debug for RecordKey {
    /// Table, the clear parts, the first 4 bytes of the blinded name: enough to follow a record in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.table())?;
        for part in [self.prefix(), &self.blind()[..4], self.suffix()].into_iter().filter(|part| !part.is_empty()) {
            f.write_str("/")?;
            part.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        }
        Ok(())
    }
}
