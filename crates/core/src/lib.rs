//! Decides what every accepted request does to the keys.
//!
//! Identifiers, the clear byte formats (records, batches, log entries), key life cycle, the fixed role rule
//! and the pure decisions `decide(view, request, time, entropy) -> Change`.
//! It leaves to others: storage and order (`replica`), plaintext key bytes (`crypto`), everything with a clock,
//! a socket, a file or a random number in it.

pub mod authorize;
pub mod batch;
pub mod codec;
pub mod decide;
pub mod id;
pub mod lifecycle;
pub mod principal;
pub mod record;
pub mod record_key;
pub mod request;
pub mod seam;
pub mod time;
