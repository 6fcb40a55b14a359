//! What a call can fail with: the node's own reason, or one of the client's.

use thiserror::Error;
use tonic::Code;

/// Reasons the client itself gives or acts upon; every other one of [`quorate_proto::v1::Reason`] is passed on as the node gave it.
pub mod reason {
    /// The node is sealed. Nothing was done.
    pub const SEALED: &str = "SEALED";
    /// The node belongs to no cluster yet. Nothing was done.
    pub const UNINITIALIZED: &str = "UNINITIALIZED";
    /// The node found its own data damaged. Nothing was done.
    pub const DAMAGED: &str = "DAMAGED";
    /// A newer version wrote what the node would have to read. Nothing was done.
    pub const UPGRADE_NEEDED: &str = "UPGRADE_NEEDED";
    /// The node can't serve just now. Nothing was done.
    pub const UNAVAILABLE: &str = "UNAVAILABLE";
    /// The node has had no majority of the voters to work with for longer than elections take. Nothing was done.
    pub const NO_MAJORITY: &str = "NO_MAJORITY";
    /// The record changed too often while the node decided. Nothing was done.
    pub const CONTENDED: &str = "CONTENDED";
    /// Too much load at the node. Nothing was done.
    pub const BUSY: &str = "BUSY";
    /// Too few nodes have disk space to store a change. Nothing was done; keys can be used all the same.
    pub const NO_SPACE: &str = "NO_SPACE";
    /// The change may or may not have happened; look, or repeat it.
    pub const UNKNOWN_OUTCOME: &str = "UNKNOWN_OUTCOME";
    /// No answer in time to a call that changes nothing.
    pub const DEADLINE_EXCEEDED: &str = "DEADLINE_EXCEEDED";
    /// No connection: nobody listens, no route, no answer to the handshake. Nothing was sent.
    pub const UNREACHABLE: &str = "UNREACHABLE";
    /// Who answered is not a node of this cluster, or the name does not resolve. Nothing was sent.
    pub const UNTRUSTED_SERVER: &str = "UNTRUSTED_SERVER";
    /// The node refused this client's certificate.
    pub const CERTIFICATE_REFUSED: &str = "CERTIFICATE_REFUSED";
    /// The client's own settings can't work.
    pub const INVALID_CONFIG: &str = "INVALID_CONFIG";

    /// Those that only the client gives.
    pub const OWN: [&str; 5] = [DEADLINE_EXCEEDED, UNREACHABLE, UNTRUSTED_SERVER, CERTIFICATE_REFUSED, INVALID_CONFIG];
}

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct ClientError {
    /// Machine-readable, such as `KEY_DISABLED`; see [`reason`].
    pub reason: String,
    /// What happened, why, and what to do, for people.
    pub message: String,
    /// The gRPC status code.
    pub code: Code,
    /// The node that gave the answer (`host:port`), when one did.
    pub endpoint: Option<String>,
    /// The part of the request that is wrong, such as `alias`, when the node named one.
    pub part: Option<String>,
    /// The node's time (ms since 1970), when the token's was too far off it.
    pub node_time_ms: Option<u64>,
}

impl ClientError {
    pub(crate) fn new(reason: &str, code: Code, message: impl Into<String>) -> Self {
        Self {
            reason: reason.to_owned(),
            message: message.into(),
            code,
            endpoint: None,
            part: None,
            node_time_ms: None,
        }
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(reason::INVALID_CONFIG, Code::InvalidArgument, message)
    }

    pub(crate) fn at(mut self, endpoint: &str) -> Self {
        self.endpoint = Some(endpoint.to_owned());
        self
    }

    /// Whether the failure's reason is this one.
    pub fn is(&self, reason: &str) -> bool {
        self.reason == reason
    }
}

#[cfg(test)]
mod tests {
    use quorate_proto::v1::Reason;

    use super::reason;

    #[test]
    fn a_reason_of_nodes_is_one_of_the_protocol_and_one_of_the_client_is_not() {
        let of_nodes = [
            reason::SEALED,
            reason::UNINITIALIZED,
            reason::DAMAGED,
            reason::UPGRADE_NEEDED,
            reason::UNAVAILABLE,
            reason::NO_MAJORITY,
            reason::CONTENDED,
            reason::BUSY,
            reason::NO_SPACE,
            reason::UNKNOWN_OUTCOME,
        ];
        for word in of_nodes {
            assert_eq!(Reason::of(word).map(Reason::word), Some(word));
        }
        assert!(reason::OWN.iter().all(|word| Reason::of(word).is_none()));
    }
}
