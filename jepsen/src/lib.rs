//! Attacks quorate's promises on real processes under real faults, and judges what happened from the clients' histories.
//!
//! ```text
//! run ──► cluster (real nodes) · net (namespaces, cuts) · nemesis (faults) · workload (clients)
//!   └───► history ──► checker (pure) ──► report
//! ```
//!
//! The checkers know nothing but the history and what was collected after the run; they perform no I/O of their own.
//! The harness reaches the cluster by the client crate and by the binary's commands alone; but for one program, which plays a member
//! that is hostile ([`hostile`]), and knows how nodes talk to each other.
#![allow(
    clippy::disallowed_methods,
    reason = "the harness runs outside every node: it starts processes and reads real clocks"
)]

pub mod bugs;
pub mod campaign;
pub mod checker;
pub mod cluster;
pub mod doctor;
pub mod history;
pub mod hostile;
pub mod ledger;
pub mod nemesis;
pub mod net;
pub mod outcome;
pub mod report;
pub mod run;
pub mod seed;
pub mod selftest;
pub mod serve;
pub mod workload;
