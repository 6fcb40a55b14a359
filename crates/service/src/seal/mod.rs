//! How a node comes to be, is unsealed, sealed and joined by others: genesis, the share ceremony, the hand-over of the
//! root key between members, seals, invitations, and the status that operators see.
//!
//! Using keys is the desk's ([`crate::desk`]); plaintext key bytes are `crypto`'s; order and storage are `replica`'s.

mod abort;
mod announce;
mod catch_up;
pub(crate) mod ceremony;
mod challenge;
mod clock;
pub(crate) mod flood;
mod genesis;
pub(crate) mod handover;
pub(crate) mod hello;
mod invitations;
pub(crate) mod join;
mod members;
mod message;
pub(crate) mod open;
pub(crate) mod operator_seal;
pub(crate) mod peers;
pub(crate) mod pins;
mod public;
mod rotation;
mod sealing;
mod start;
mod statement;
pub mod status;
mod status_view;
pub mod token;
pub mod verdict;

#[cfg(test)]
mod level_tests;
#[cfg(test)]
pub(crate) use crate::testing::node as support;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trust_tests;
#[cfg(test)]
mod verdict_tests;

pub use abort::{AbortSignature, Aborted};
pub use ceremony::{Challenge, SHARES_KEPT, Submitted};
pub use genesis::{Founded, InitRequest};
pub use invitations::{Invited, VALID_MINUTES_DEFAULT, VALID_MINUTES_MAX};
pub use members::{Approved, Leader};
pub use public::PublicSeals;
pub use rotation::Removed;
pub use status::{CeremonyStatus, Health, Members, NodeStatus, Pending, Status};
pub use token::{JoinToken, TokenError};
pub use verdict::{Severity, Step, Verdict};

/// Text that is secret: wiped when dropped.
pub type SecretText = zeroize::Zeroizing<String>;

/// SHA-256 of `bytes`.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    out
}
