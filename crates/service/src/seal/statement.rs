//! What a node says of itself, as Raft and as operators see it.

use quorate_core::record::Statement;
use quorate_replica::Member;

/// As Raft pins it in membership.
pub(crate) fn as_member(statement: &Statement) -> Member {
    Member {
        name: statement.name.to_string(),
        peer_addr: statement.peer_addr.clone(),
        api_addr: statement.api_addr.clone(),
        identity_spki: statement.identity_spki.clone(),
        kem_alg: statement.kem_alg,
        kem_spki: statement.kem_spki.clone(),
        audit_spki: statement.audit_spki.clone(),
    }
}

/// What an operator compares: SHA-256 over the three public keys.
pub(crate) fn fingerprint(statement: &Statement) -> String {
    quorate_hsm::fingerprint(&statement.identity_spki, &statement.kem_spki, &statement.audit_spki)
}
