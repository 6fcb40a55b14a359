//! The node's token, reached through PKCS#11.
//!
//! Holds the three private keys of a node (key-hierarchy §4.2, §6): `kem` opens this node's envelopes, `identity` signs
//! its TLS handshakes, `audit` signs its audit checkpoints. They are made inside the token and cannot leave it.
//! One thread owns the session; everybody else asks it through a bounded queue, with a deadline.
//!
//! It leaves to others: what an envelope means (`crypto`), what a certificate means (the binary), where the PIN is
//! kept (the binary reads it once and hands it over).

mod attributes;
mod config;
mod crash;
mod data;
mod environment;
mod error;
mod hsm;
mod keys;
mod mechanism;
mod module;
mod public_key;
mod self_test;
mod tls;
mod token;
mod worker;

pub mod soft_token;

pub use config::{HsmConfig, Pin, TokenProfile};
pub use environment::set_environment;
pub use error::HsmError;
pub use hsm::{Assurance, Hsm, TokenDescription};
pub use keys::{KemChoice, KeyId, KeyRole, KeySelection, NodeKeys, PublicKeyInfo};
pub use public_key::fingerprint;
pub use soft_token::SoftToken;
pub use worker::HsmMeter;
