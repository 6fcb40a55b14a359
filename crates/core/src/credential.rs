//! What a caller presents to prove who it is (key-model §7.1).

use std::fmt;
use std::str::FromStr;

use crate::codec::{Malformed, Reader, Writer};
use crate::request::{InvalidRequest, Part};

/// Tells a credential from every other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum CredentialId {
    /// The key of a client certificate: SHA-256 of its SubjectPublicKeyInfo, as RFC 7469 §2.4 pins keys. A certificate that was
    /// issued anew for the same key is the same credential.
    Certificate([u8; 32]),
}

impl CredentialId {
    /// Canonical bytes: `kind u8 ‖ hash 32`.
    pub fn encode(&self) -> Vec<u8> {
        let Self::Certificate(hash) = self;
        Writer::new().u8(CERTIFICATE).raw(hash).finish()
    }
    /// Reads canonical bytes; `None` = of a kind that this version does not know.
    ///
    /// # Errors
    /// When they are not canonical.
    pub fn read(from: &mut Reader<'_>) -> Result<Option<Self>, Malformed> {
        let (kind, hash) = (from.u8()?, from.raw(32)?.try_into().map_err(|_| Malformed("credential"))?);
        Ok((kind == CERTIFICATE).then_some(Self::Certificate(hash)))
    }
}

const CERTIFICATE: u8 = 1;

impl fmt::Display for CredentialId {
    /// 64 digits, hexadecimal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Certificate(hash) = self;
        hash.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for CredentialId {
    type Err = InvalidRequest;
    /// As it is shown, or as openssl shows digests: with capitals, and colons between.
    fn from_str(text: &str) -> Result<Self, InvalidRequest> {
        let wrong = || {
            let why = "a credential is called by SHA-256 of its certificate's public key: 64 hexadecimal digits, as \
                       `quorate pki list` shows them";
            InvalidRequest::wrong(Part::Credential, why)
        };
        if text.len() > 3 * 32 {
            return Err(wrong());
        }
        let digits: Vec<_> = text.chars().filter(|c| *c != ':').map(|c| c.to_digit(16)).collect();
        let digits: Option<Vec<_>> = digits.into_iter().collect();
        let digits = digits.filter(|digits| digits.len() == 64).ok_or_else(wrong)?;
        Ok(Self::Certificate(std::array::from_fn(|i| (digits[2 * i] << 4 | digits[2 * i + 1]) as u8)))
    }
}

/// What was presented.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Presented {
    /// Which credential.
    pub id: CredentialId,
    /// When it ends, ms since 1970 (RFC 5280 §4.1.2.5 notAfter); 0 = never.
    pub ends_ms: u64,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $code:literal, $word:literal;)+) => {
        /// Why a credential was revoked: the reasons of RFC 5280 §5.3.1 that a client's can have.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum RevocationReason {
            $($(#[$doc])* $reason,)+
        }

        impl RevocationReason {
            /// Every reason.
            pub const ALL: &'static [Self] = &[$(Self::$reason,)+];

            /// Its number in records, which is that of RFC 5280.
            pub const fn code(self) -> u8 {
                match self { $(Self::$reason => $code,)+ }
            }
            /// Its word.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$reason => $word,)+ }
            }
        }
    };
}

reasons! {
    /// Nothing was said.
    Unspecified = 0, "unspecified";
    /// Somebody else may have its private key.
    KeyCompromise = 1, "key-compromise";
    /// Its holder has other tasks now.
    AffiliationChanged = 3, "affiliation-changed";
    /// Another took its place.
    Superseded = 4, "superseded";
    /// Nobody needs it any more.
    CessationOfOperation = 5, "cessation-of-operation";
}

impl FromStr for RevocationReason {
    type Err = InvalidRequest;
    fn from_str(word: &str) -> Result<Self, InvalidRequest> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == word).ok_or_else(|| {
            let words = Self::ALL.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(", ");
            InvalidRequest::wrong(Part::Reason, format!("a credential is revoked for one of these reasons: {words}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_shown_and_as_openssl_shows_it() {
        let id = CredentialId::Certificate(std::array::from_fn(|i| i as u8 * 7));
        let shown = id.to_string();
        assert_eq!(shown.parse(), Ok(id));
        let pairs: Vec<_> = (0..32).map(|i| shown[2 * i..2 * i + 2].to_uppercase()).collect();
        assert_eq!(pairs.join(":").parse(), Ok(id));
        for bad in ["", "00", &shown[1..], &format!("{shown}0"), &shown.replace('0', "g"), &":".repeat(500)] {
            assert_eq!(bad.parse::<CredentialId>().unwrap_err().part(), Part::Credential, "{bad}");
        }
        let bytes = id.encode();
        assert_eq!(CredentialId::read(&mut Reader::new("credential", &bytes)).unwrap(), Some(id));
    }

    #[test]
    fn reasons_are_words() {
        for reason in RevocationReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
        }
        assert!("certificate-hold".parse::<RevocationReason>().is_err(), "what is revoked stays so");
    }
}
