//! How a node becomes a member, over the one call on the peer port that is open to a node nobody has pinned yet.
//!
//! ```text
//! applicant                                          member (unsealed)
//! Introduce{secret, statement, signature}      ──►   token, name, TLS identity and signature checked
//!                                              ◄──   Challenge{nonce, ct}   encapsulated to the applicant's KEM key
//! Prove{… the same …, nonce, mac}              ──►   possession checked; the invitation is used from here on
//!                                              ◄──   Waiting                for an operator's approval
//! Poll                                         ──►   known by its TLS identity
//!                                              ◄──   Waiting | Approved{id, seal configurations} | Unknown
//! ```

mod admission;
mod applicant;
mod message;

use quorate_core::codec::Writer;
use quorate_core::id::ClusterId;
use quorate_crypto::Secret;
use quorate_crypto::kdf::{Label, derive};

pub(crate) use self::admission::{JoinChallenges, token_hash};
use super::sha256;

/// What the KEM key's holder can compute: `kdf(ss_h, "join-proof", [C, nonce, SHA-256(statement)], 32)`.
fn proof_of_possession(ss_h: &Secret<32>, cluster: ClusterId, nonce: &[u8; 32], statement: &[u8]) -> [u8; 32] {
    let fields = Writer::new().field(&cluster.0).field(nonce).field(&sha256(statement)).finish();
    *derive::<32>(ss_h.expose(), Label::JoinProof, &fields).expose()
}
