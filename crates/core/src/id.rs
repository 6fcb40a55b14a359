//! Identifiers, parsed once and never confused with one another.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use thiserror::Error;

use crate::codec::{Malformed, Reader, Writer};

/// Text that does not name what it should.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct InvalidId(pub String);

/// Longest quotation of a caller's text in a message, in characters.
const QUOTED_MAX: usize = 80;

/// A caller's text for a message to that caller: in quotes, escaped, and cut, so that no answer is longer than its
/// question.
pub fn quoted(text: &str) -> String {
    match text.char_indices().nth(QUOTED_MAX) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}… ({} bytes)", &text[..end], text.len()),
    }
}

/// Longest text of another node that is passed on, in bytes.
pub const PEER_TEXT_MAX: usize = 512;

/// What another node says, for a status, a log or a terminal: on one line, where it forges no other, without what commands a
/// terminal, and cut.
pub fn peer_text(text: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut line = text.replace(breaks, " ");
    if line.len() > PEER_TEXT_MAX {
        let room = PEER_TEXT_MAX - '…'.len_utf8();
        line.truncate((0..=room).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0));
        line.push('…');
    }
    line
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                uuid::Uuid::from_bytes(self.0).as_hyphenated().fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(s: &str) -> Result<Self, InvalidId> {
                match Some(s).filter(|s| s.len() == 36).map(uuid::Uuid::try_parse) {
                    Some(Ok(u)) => Ok(Self(u.into_bytes())),
                    _ => Err(InvalidId(format!(concat!("not a ", $what, ": expected a UUID such as 6f1c1c9e-…, got {}"), quoted(s)))),
                }
            }
        }
    };
}

uuid_id!(
    /// A key's id: a UUIDv7 (RFC 9562 §5.7), of which 32 bits are the list's that the key stands in.
    ///
    /// ```text
    /// ms since 1970 u48 ‖ 7 u4 ‖ free u12 ‖ 2 u2 ‖ free u30 ‖ list tag u32
    /// ```
    KeyId, "key id"
);

impl KeyId {
    /// The id of a key made at `time_ms` (display time, ms since 1970) in the list of that tag; of `free` the lower 42 bits
    /// count.
    pub fn new(time_ms: u64, free: u64, list_tag: [u8; 4]) -> Self {
        let mut id = uuid7(time_ms, free >> 30, free);
        id[12..].copy_from_slice(&list_tag);
        Self(id)
    }
    /// The time in it, 6 bytes.
    pub fn time(&self) -> &[u8] {
        &self.0[..6]
    }
    /// The time in it, milliseconds since 1970.
    pub fn time_ms(&self) -> u64 {
        self.time().iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte))
    }
    /// Tells which list the key stands in to whoever has the tag's key, and to everybody else whether two ids are of one.
    pub fn list_tag(&self) -> &[u8] {
        &self.0[12..]
    }
}

/// Time, version and variant of a UUIDv7, `a` in the 12 bits before the variant and `b` in the 30 after it; the last 4 bytes
/// are left 0.
fn uuid7(time_ms: u64, a: u64, b: u64) -> [u8; 16] {
    let high = time_ms << 16 | 0x7000 | a & 0xfff;
    let low = (0b10 << 62) | (b & 0x3fff_ffff) << 32;
    (u128::from(high) << 64 | u128::from(low)).to_be_bytes()
}
uuid_id!(
    /// C: identity of one running cluster. In certificates, Raft calls, envelopes; new at a restore (key-hierarchy §1).
    ClusterId, "cluster id"
);
uuid_id!(
    /// L: identity of the data. Made at init, survives a restore; in records and customer ciphertexts (key-hierarchy §1).
    Lineage, "lineage"
);

/// N: a Raft node id. Comes from the log, is never reused; a node's *name* is what people use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A version of a key, from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct KeyVersion(pub NonZeroU32);

impl KeyVersion {
    /// The version a key is created with.
    pub const FIRST: Self = Self(NonZeroU32::MIN);
    /// The version after this one.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
    /// A version from its number; 0 is none.
    pub fn new(n: u32) -> Option<Self> {
        NonZeroU32::new(n).map(Self)
    }
    /// The number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A tenant: names are unique within one, and never seen from another. A number is never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Namespace(pub u32);

impl Namespace {
    /// The first, which is always there and stands above the others.
    pub const FIRST: Self = Self(0);
}

/// A generation of the keys that encrypt records (never "term": Raft owns that word).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Epoch(pub u32);

/// A Raft group; always 0 today, in every format so that more can come (design §8).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupId(pub u32);

/// A name: what people call a node, an alias or a principal. 1–64 characters of `a-z A-Z 0-9 _ . / -`,
/// beginning with a letter or digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Name(String);

impl Name {
    /// Longest name, in bytes.
    pub const LEN_MAX: usize = 64;
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = InvalidId;
    fn from_str(s: &str) -> Result<Self, InvalidId> {
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
        if s.is_empty() || s.len() > Self::LEN_MAX || !s.chars().all(good) || !s.as_bytes()[0].is_ascii_alphanumeric() {
            return Err(InvalidId(format!(
                "not a valid name: {} (1 to 64 characters from a-z A-Z 0-9 _ . / -, beginning with a letter or digit)",
                quoted(s)
            )));
        }
        Ok(Self(s.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one batch of one origin for ever: `{origin u64, boot u32, seq u64}` (key-log §1.4).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct BatchId {
    /// The node that decided.
    pub origin: NodeId,
    /// That node's start count, synced before its first proposal.
    pub boot: u32,
    /// Counts up within a boot.
    pub seq: u64,
}

impl BatchId {
    /// Encoded length in bytes.
    pub const LEN: usize = 20;
    /// Appends the canonical bytes.
    pub fn write(self, w: Writer) -> Writer {
        w.u64(self.origin.0).u32(self.boot).u64(self.seq)
    }
    /// Reads the canonical bytes.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { origin: NodeId(r.u64()?), boot: r.u32()?, seq: r.u64()? })
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.origin, self.boot, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_node_says_stays_on_its_line() {
        assert_eq!(peer_text("no quorum: 1 of 3 é"), "no quorum: 1 of 3 é");
        let forged = "all is well\r\n2026-11-30T12:00:00Z ERROR n2 \u{1b}[2J\u{202e}\u{2028}\u{9b}";
        assert_eq!(peer_text(forged), "all is well  2026-11-30T12:00:00Z ERROR n2  [2J   ");
        for c in ["a", "é", "…", "𝄞"] {
            let cut = peer_text(&c.repeat(PEER_TEXT_MAX));
            assert!(cut.len() <= PEER_TEXT_MAX && cut.len() > PEER_TEXT_MAX - 8, "{c}: {}", cut.len());
            assert_eq!(peer_text(&cut), cut);
        }
    }

    #[test]
    fn a_key_id_is_a_uuid_of_version_7() {
        let id = KeyId::new(0x0192_f000_abcd, u64::MAX, [1, 2, 3, 4]);
        assert_eq!(id.to_string(), "0192f000-abcd-7fff-bfff-ffff01020304");
        assert_eq!((id.time(), id.list_tag()), (&[1, 0x92, 0xf0, 0, 0xab, 0xcd][..], &[1, 2, 3, 4][..]));
        assert_eq!(KeyId::new(1, 0, [0; 4]).to_string(), "00000000-0001-7000-8000-000000000000");
        let ids: std::collections::BTreeSet<_> = (0..42).map(|bit| KeyId::new(9, 1 << bit, [0; 4])).collect();
        assert_eq!((ids.len(), KeyId::new(9, 1 << 42, [0; 4])), (42, KeyId::new(9, 0, [0; 4])));
    }

    #[test]
    fn what_a_caller_wrote_comes_back_cut_and_escaped() {
        assert_eq!(quoted("a b\n"), r#""a b\n""#);
        assert_eq!(quoted(&"x".repeat(80)), format!("{:?}", "x".repeat(80)));
        assert_eq!(quoted(&"ж".repeat(81)), format!("{:?}… (162 bytes)", "ж".repeat(80)));
        let huge = "\u{1}".repeat(1 << 20);
        for refusal in [huge.parse::<Name>().map(drop).unwrap_err(), huge.parse::<KeyId>().map(drop).unwrap_err()] {
            assert!(refusal.0.len() < 700, "{} bytes", refusal.0.len());
        }
    }
}
