//! The native protocol's generated types, shared by the door (`grpc`) and the client.

/// Version 1 of the protocol.
#[allow(missing_docs, clippy::all, clippy::disallowed_methods, clippy::disallowed_types)]
pub mod v1 {
    tonic::include_proto!("quorate.v1");
}

/// Messages that carry secrets (the list in build.rs): a stray `{:?}` of one names its type and no more.
macro_rules! shows_nothing {
    ($($message:ident),+) => {$(
        impl std::fmt::Debug for v1::$message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($message))
            }
        }
    )+};
}
shows_nothing!(
    EncryptRequest,
    AgreeResponse,
    DecapsulateResponse,
    DecryptResponse,
    DeriveKeyResponse,
    EncapsulateResponse,
    ExportKeyResponse,
    GenerateDataKeyPairResponse,
    GenerateDataKeyResponse,
    GenerateRandomResponse,
    GetSecretResponse,
    InitResponse,
    SetSecretRequest,
    SubmitShareRequest,
    InviteResponse,
    UnwrapResponse,
    WrapRequest
);

/// Metadata key that carries the machine-readable reason of an error, such as `KEY_DISABLED`.
pub const REASON_KEY: &str = "quorate-reason";
impl v1::Reason {
    /// As it stands in the trailer [`REASON_KEY`], such as `KEY_DISABLED`.
    pub fn word(self) -> &'static str {
        self.as_str_name().strip_prefix("REASON_").unwrap_or_default()
    }
    /// The reason of that word; none when a newer node gives one that this version does not know.
    pub fn of(word: &str) -> Option<Self> {
        Self::from_str_name(&format!("REASON_{word}"))
    }
}

/// Metadata key that names the part of a request that is wrong, such as `alias`, where one is.
pub const PART_KEY: &str = "quorate-part";
/// Metadata key that names the namespace in which a call is made; without it, in the first.
pub const NAMESPACE_KEY: &str = "quorate-namespace";
/// Metadata key that carries the node's time, milliseconds since 1970, when a token's was too far off it.
pub const TIME_KEY: &str = "quorate-time-ms";
/// Longest request on the API port, in bytes.
pub const MESSAGE_LEN_MAX: usize = 1024 * 1024;
/// Longest answer, in bytes: what clients take that were told nothing else.
pub const ANSWER_LEN_MAX: usize = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::v1::*;

    #[test]
    fn no_message_with_a_secret_shows_it() {
        let (text, bytes) = ("s3cret".to_owned(), bytes::Bytes::from_static(b"s3cret"));
        let shown = [
            format!("{:?}", EncryptRequest { plaintext: bytes.clone(), ..Default::default() }),
            format!("{:?}", DecryptResponse { plaintext: bytes.clone(), ..Default::default() }),
            format!("{:?}", ExportKeyResponse { material: bytes.clone(), ..Default::default() }),
            format!("{:?}", GenerateDataKeyResponse { plaintext: bytes.clone(), ..Default::default() }),
            format!("{:?}", GenerateDataKeyPairResponse { plaintext: bytes.clone(), ..Default::default() }),
            format!("{:?}", AgreeResponse { secret: bytes.clone(), ..Default::default() }),
            format!("{:?}", EncapsulateResponse { secret: bytes.clone(), ..Default::default() }),
            format!("{:?}", DecapsulateResponse { secret: bytes.clone(), ..Default::default() }),
            format!("{:?}", DeriveKeyResponse { derived: bytes.clone(), ..Default::default() }),
            format!("{:?}", UnwrapResponse { plaintext: bytes.clone(), ..Default::default() }),
            format!("{:?}", WrapRequest { plaintext: bytes.clone(), ..Default::default() }),
            format!("{:?}", GetSecretResponse { value: bytes.clone(), ..Default::default() }),
            format!("{:?}", SetSecretRequest { value: bytes.clone(), ..Default::default() }),
            format!("{:?}", GenerateRandomResponse { random: bytes }),
            format!("{:?}", InitResponse { shares: vec![text.clone()], ..Default::default() }),
            format!("{:?}", SubmitShareRequest { share: text.clone(), ..Default::default() }),
            format!("{:?}", InviteResponse { token: text, ..Default::default() }),
        ];
        assert!(shown.iter().all(|text| !text.contains("s3cret")), "{shown:?}");
    }
}
