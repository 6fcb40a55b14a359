//! What a key version may be used for.

use std::fmt;
use std::str::FromStr;

use super::parse;
use crate::request::{InvalidRequest, Part};

macro_rules! usages {
    ($($(#[$doc:meta])* $usage:ident = $bit:literal, $word:literal, $purpose:ident;)+) => {
        /// What a key version is used for: a bit of KMIP's Cryptographic Usage Mask (KMIP 2.1 §11.14), so that a set of them is
        /// one. The last two are extensions of it.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[repr(u32)]
        pub enum Usage {
            $($(#[$doc])* $usage = $bit,)+
        }

        impl Usage {
            /// Every usage.
            pub const ALL: &'static [Self] = &[$(Self::$usage,)+];

            /// As shown to people and clients.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$usage => $word,)+ }
            }
            /// What a key is for that may be used so.
            pub const fn purpose(self) -> Purpose {
                match self { $(Self::$usage => Purpose::$purpose,)+ }
            }
        }
    };
}

usages! {
    /// Sign.
    Sign = 0x1, "sign", Sign;
    /// Verify a signature.
    Verify = 0x2, "verify", Sign;
    /// Encrypt, and make data keys.
    Encrypt = 0x4, "encrypt", Encrypt;
    /// Decrypt.
    Decrypt = 0x8, "decrypt", Encrypt;
    /// Wrap another key.
    Wrap = 0x10, "wrap", Wrap;
    /// Unwrap another key.
    Unwrap = 0x20, "unwrap", Wrap;
    /// Make an authentication code.
    Mac = 0x80, "mac", Mac;
    /// Verify one.
    VerifyMac = 0x100, "verify-mac", Mac;
    /// Derive another key.
    Derive = 0x200, "derive", Derive;
    /// Agree on a secret with another's public key.
    Agree = 0x800, "agree", Agree;
    /// Make a shared secret and its encapsulation.
    Encapsulate = 0x100_0000, "encapsulate", Encapsulate;
    /// Open one.
    Decapsulate = 0x200_0000, "decapsulate", Encapsulate;
}

impl Usage {
    /// Whether the public half of a pair is enough for it.
    pub const fn is_public(self) -> bool {
        matches!(self, Self::Verify | Self::Encrypt | Self::Wrap | Self::Encapsulate)
    }
}

macro_rules! purposes {
    ($($(#[$doc:meta])* $purpose:ident = $word:literal;)+) => {
        /// What a key is for: both directions of one usage.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Purpose {
            $($(#[$doc])* $purpose,)+
        }

        impl Purpose {
            /// Every purpose.
            pub const ALL: &'static [Self] = &[$(Self::$purpose,)+];

            /// As clients say it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$purpose => $word,)+ }
            }
        }
    };
}

purposes! {
    /// Encrypt and decrypt.
    Encrypt = "encrypt";
    /// Sign and verify.
    Sign = "sign";
    /// Make and verify authentication codes.
    Mac = "mac";
    /// Agree on secrets.
    Agree = "agree";
    /// Wrap and unwrap other keys.
    Wrap = "wrap";
    /// Encapsulate and decapsulate.
    Encapsulate = "encapsulate";
    /// Derive other keys.
    Derive = "derive";
}

impl Purpose {
    /// What a key for this may be used for.
    pub fn usages(self) -> Usages {
        Usage::ALL.iter().copied().filter(|usage| usage.purpose() == self).collect()
    }
}

impl FromStr for Purpose {
    type Err = InvalidRequest;
    fn from_str(text: &str) -> Result<Self, InvalidRequest> {
        parse(Self::ALL, Self::as_str, Part::Usage, text)
    }
}

/// A set of usages: KMIP's mask, with no bit that is none of [`Usage`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Usages(u32);

impl Usages {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// The set of those bits; none when one of them is not known here.
    pub fn from_bits(bits: u32) -> Option<Self> {
        let all = Usage::ALL.iter().fold(0, |all, usage| all | *usage as u32);
        (bits & !all == 0).then_some(Self(bits))
    }
    /// Its bits.
    pub const fn bits(self) -> u32 {
        self.0
    }
    /// Those of them for which the public half of a pair is enough.
    pub fn of_public(self) -> Self {
        self.iter().filter(|usage| usage.is_public()).collect()
    }
    /// Whether it holds that usage.
    pub const fn contains(self, usage: Usage) -> bool {
        self.0 & usage as u32 != 0
    }
    /// Whether it holds all of `other`.
    pub const fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }
    /// Whether it is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
    /// What is in either.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// Its usages, always in the same order.
    pub fn iter(self) -> impl Iterator<Item = Usage> {
        Usage::ALL.iter().copied().filter(move |usage| self.contains(*usage))
    }
}

impl From<Usage> for Usages {
    fn from(usage: Usage) -> Self {
        Self(usage as u32)
    }
}

impl FromIterator<Usage> for Usages {
    fn from_iter<I: IntoIterator<Item = Usage>>(usages: I) -> Self {
        usages.into_iter().map(Self::from).fold(Self::NONE, Self::union)
    }
}

impl fmt::Debug for Usages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
