//! Decides what every accepted request does to the keys.
//!
//! Identifiers, the clear byte formats (records, batches, log entries), key life cycle, the fixed role rule
//! and the pure decisions: what a request changes, from facts at one index.
//! It leaves to others: storage and order (`replica`), plaintext key bytes (`crypto`), everything with a clock,
//! a socket, a file or a random number in it.

pub mod access;
pub mod action;
pub mod authorize;
pub mod batch;
pub mod codec;
pub mod credential;
pub mod decide;
pub mod evidence;
pub mod facts;
pub mod id;
pub mod key_spec;
pub mod level;
pub mod lifecycle;
pub mod name;
pub mod principal;
pub mod record;
pub mod record_key;
pub mod request;
pub mod seam;
pub mod seeded;
pub mod session;
pub mod stack;
pub mod time;
pub mod views;

/// What an operator can do about a member whose disk does not hold what was written to it; the end of error texts.
pub const REPLACE_MEMBER: &str = "replace this member at another one, which needs a majority without it";
