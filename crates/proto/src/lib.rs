//! The native protocol's generated types, shared by the door (`grpc`) and the client.

/// Version 1 of the protocol.
#[allow(missing_docs, clippy::all, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod v1 {
    tonic::include_proto!("quorate.v1");
}

/// Metadata key that carries the machine-readable reason of an error, such as `KEY_DISABLED`.
pub const REASON_KEY: &str = "quorate-reason";
/// Longest plaintext of a direct encrypt, in bytes; longer data goes under a data key.
pub const PLAINTEXT_LEN_MAX: usize = 4096;
/// Longest message on the API port, in bytes.
pub const MESSAGE_LEN_MAX: usize = 1024 * 1024;
