//! The two TLS ports of a node (key-hierarchy §6).
//!
//! Port 7600 serves clients: a certificate is asked for, not required, and comes from the client CA. Port 7601 joins
//! nodes: TLS 1.3 with a hybrid post-quantum key exchange, certificates of the node CA both ways, no resumption. A
//! client's certificate never opens 7601, a node's never authorises a call. The node has one certificate for both
//! ports; its private key is in the HSM, and both ports take a new certificate without a restart.
//!
//! It leaves to others: whether a node's key is the pinned one (`replica` decides against membership), what a principal
//! may do (`service`).

mod api;
mod certificate;
mod connection;
mod doorstep;
mod facts;
mod peer;
mod pins;
mod seats;
mod trust;
mod verifier;

use std::sync::Arc;
use std::time::Duration;

use quorate_core::seam::WallClock;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;

pub use api::ApiListener;
pub use certificate::{NodeCertificate, TlsIdentity};
pub use connection::{Admitted, Class};
pub use facts::{CertificateFacts, days_left};
pub use peer::TlsNet;
pub use pins::Pins;
pub use trust::{CaKind, ChainError, Trust, ca_uri, credential_of, identity_of, unix_time};

/// A handshake that takes longer is given up: a peer that says nothing costs a slot for as long.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Handshakes under way at once on one port. Each may need a signature of the HSM, whose queue is bounded too.
pub const HANDSHAKES_MAX: usize = 64;

/// TLS for clients: X25519MLKEM768 first, classical groups for those that have nothing else.
fn api_provider() -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1, kx_group::SECP384R1];
    Arc::new(provider)
}

/// TLS between nodes: X25519MLKEM768 or nothing.
fn peer_provider() -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519MLKEM768];
    Arc::new(provider)
}

/// The wall clock seam as rustls takes it.
struct SeamTime(Arc<dyn WallClock>);

impl std::fmt::Debug for SeamTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SeamTime")
    }
}

impl TimeProvider for SeamTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_millis(self.0.now_ms())))
    }
}

#[cfg(test)]
pub(crate) mod tests;
