//! The Rust client of a quorate cluster; the command line is built on it.
//!
//! [`Client`] knows several nodes and needs none in particular: any unsealed node answers any request. It finds a
//! node that does, gives each call one deadline that all its attempts share, and retries only what is safe:
//!
//! | call | retried on another node |
//! | --- | --- |
//! | reads and uses (describe, list, encrypt, decrypt, data key, random, status) | always |
//! | create and rotate, which carry a client token | always: the same token gives the same key |
//! | other changes | only when the first attempt provably had no effect, else [`reason::UNKNOWN_OUTCOME`] |
//!
//! It leaves to others: what the answers mean (the caller), who may do what (the node).

mod calls;
mod client;
mod config;
mod error;
mod retry;
mod tls;
mod tokens;

pub use client::{Client, OnWait};
pub use config::ClientConfig;
pub use error::{ClientError, reason};
pub use quorate_proto::v1;
pub use tls::ServerIdentity;
