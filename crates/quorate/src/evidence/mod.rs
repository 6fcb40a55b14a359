//! Evidence: signed statements of members, in a file that whoever has the cluster's root certificate can check, anywhere and
//! years later.
//!
//! What a statement says is drawn in `quorate_core::evidence`; nodes sign it in `quorate_service::evidence`. Here is the file that
//! holds several of them, and what it takes to believe it.

mod file;
mod verify;

#[cfg(test)]
mod tests;

pub use file::{Evidence, FILE_LEN_MAX, Piece};
pub use verify::{Flaw, Said, Verified};
