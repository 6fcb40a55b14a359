//! What makes a retry recognisable.

use super::{InvalidRequest, Part};

/// A client token: a UUIDv7 (RFC 9562), which makes a retry recognisable, through any node (key-model §5.4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Token(pub [u8; 16]);

impl Token {
    /// How far its time may lie behind: a retry later than this is refused, before what it did is forgotten.
    pub const BEHIND_MS_MAX: u64 = crate::time::HOUR_MS;
    /// How far it may lie ahead.
    pub const AHEAD_MS_MAX: u64 = 10 * 60 * 1000;
    /// What it did is remembered for so long after its time.
    pub const KEPT_MS: u64 = 2 * crate::time::HOUR_MS;

    /// Parses the field of a request: empty means none.
    ///
    /// # Errors
    /// Anything but 16 bytes that are a UUIDv7.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, InvalidRequest> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let token = bytes.try_into().ok().map(uuid::Uuid::from_bytes);
        let is_v7 = |id: &uuid::Uuid| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122;
        let wrong = || {
            InvalidRequest::wrong(
                Part::Token,
                "the token is no UUIDv7: it must be the 16 bytes of one, or absent".to_owned(),
            )
        };
        token.filter(is_v7).map(|id| Some(Self(id.into_bytes()))).ok_or_else(wrong)
    }
    /// The time in it, 6 bytes.
    pub fn time(&self) -> &[u8] {
        &self.0[..6]
    }
    /// The time in it, milliseconds since 1970.
    pub fn time_ms(&self) -> u64 {
        self.time().iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte))
    }
}
