//! The cluster's certificates (design §6): an offline root, the node CA and the client CA under it, and what they issue.
//!
//! ```text
//! root (P-384, offline) ─► node CA (P-256)   ─► node certificates:   quorate://C/node/NAME, server and client use
//!                       └► client CA (P-256) ─► client certificates: quorate://C/ROLE/NAME, client use
//! ```
//!
//! The private keys of the three exist on disk only under a passphrase (age, scrypt), on an operator's machine that is
//! no node. A CA's certificate names its kind in a URI (`crate::tls::ca_uri`); name constraints on URIs would make
//! rustls-webpki refuse every chain. Library functions take clock and entropy and ask nobody; `command::pki` prompts.

mod authority;
mod error;
mod issue;
mod ledger;
mod passphrase;
mod request;

pub use authority::Pki;
pub use error::PkiError;
#[cfg(test)]
pub use issue::ClientIdentity;
pub use issue::{CLIENT_DAYS_MAX, LEAF_DAYS};
pub use ledger::{Issued, Ledger, Standing, standing};
pub use passphrase::{Passphrase, WorkFactor};
pub use request::NodeRequest;

use quorate_core::seam::Entropy;
use rcgen::SerialNumber;
use time::{Duration, OffsetDateTime};

/// Machines' clocks differ: a certificate is valid from a little before it was made.
const BACKDATE: Duration = Duration::hours(1);

/// Validity of a certificate made at `now_ms` for `days`.
fn validity(now_ms: u64, days: u32) -> Result<(OffsetDateTime, OffsetDateTime), PkiError> {
    let seconds = i64::try_from(now_ms / 1000).map_err(|_| PkiError::Clock)?;
    let now = OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| PkiError::Clock)?;
    let not_before = now.checked_sub(BACKDATE).ok_or(PkiError::Clock)?;
    let not_after = now.checked_add(Duration::days(i64::from(days))).ok_or(PkiError::Clock)?;
    Ok((not_before, not_after))
}

/// 127 random bits: unique, and a positive integer. (rcgen's own is derived from the key, which repeats at renewal.)
fn serial(entropy: &dyn Entropy) -> SerialNumber {
    let mut bytes = [0u8; 16];
    entropy.fill(&mut bytes);
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

#[cfg(test)]
mod tests;
