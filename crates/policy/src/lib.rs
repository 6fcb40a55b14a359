//! What policies are, and what they say: the one room that knows Cedar.
//!
//! A policy's text becomes a [`Policy`] if nothing is wrong with it ([`Policy::parse`]); the policies of a namespace, or of a key, are
//! [`Slices`]; of those a request is judged by the [`Slice`] that can apply to it, which gives a [`Verdict`]; [`Sources`] says what
//! follows from all verdicts on it (key-model §7.2). Pure: no storage, no clock, no network. Where policies are kept, who a principal
//! is and what an object is are others' affair; they hand it over as facts ([`PrincipalFacts`], [`ObjectFacts`], [`Context`]).
//!
//! Ids are texts that mean nothing here: of records, so that a name used again inherits nothing. Texts of people name principals by
//! such ids too; whoever takes a policy from people looks them up.

mod actions;
mod policy;
mod request;
mod role;
mod schema;
mod slices;
mod verdict;

#[cfg(test)]
mod model;
#[cfg(test)]
mod random_tests;

pub use self::policy::{
    APPROVALS_MAX, CHAIN_MAX, Effect, Fault, Faults, IF_NESTING_MAX, NESTING_MAX, POLICY_LEN_MAX, Policy, Reads,
};
pub use self::request::{
    Context, GrantFacts, ObjectFacts, Pairs, Principal, PrincipalFacts, Request, Resource, Unaskable,
};
pub use self::role::{Binding, Holder, Role, UnknownRole, Within, of_certificates};
pub use self::schema::text as schema;
pub use self::slices::{Slice, Slices};
pub use self::verdict::{By, Erred, Forbid, Outcome, Sources, Verdict, Why};
