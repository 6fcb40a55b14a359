//! The one desk behind all doors: authorise, decide, act. It speaks the domain's terms; a door only translates.
//!
//! [`node::Node`] is what a process runs: uninitialized, sealed, unsealed or stopped. [`seal`] moves it between those
//! states (genesis, ceremonies, members). [`desk::Kms`] uses and manages keys and exists only while it is unsealed.
//! It leaves to others: protocols (`grpc` and the other doors), plaintext key bytes (`crypto`), order and storage
//! (`replica`), what a request changes (`core::decide`).

pub mod admission;
mod allowance;
mod call;
pub mod desk;
mod duty;
pub mod error;
mod evidence;
mod identity;
mod marks;
pub mod node;
pub mod operation;
mod own_keys;
mod reason;
pub(crate) mod records;
pub mod seal;
mod tally;
#[cfg(test)]
mod testing;
mod view;
mod workers;

pub use call::{Call, Meter, Metered, deadline};
pub use error::{Error, Reason};
pub use evidence::Signed;
pub use identity::HsmIdentity;
pub use marks::HsmMarks;
pub use own_keys::HsmOwnKeys;
pub use quorate_core as core;
pub use quorate_crypto::SecretBytes;
pub use quorate_crypto::material::PublicKey;

// The tests inside and those in `tests/` share one rig, which names this crate from outside.
#[cfg(test)]
extern crate self as quorate_service;
