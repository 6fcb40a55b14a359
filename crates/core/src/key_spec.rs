//! What kinds of keys there are, what each may be used for, and by which algorithms: one table (key-model §3.1).

mod algorithm;
mod mode;
mod usage;

use std::ops::RangeInclusive;
use std::str::FromStr;

pub use self::algorithm::{Algorithm, Digest};
pub use self::mode::Mode;
pub use self::usage::{Purpose, Usage, Usages};
use crate::id::quoted;
use crate::request::{InvalidRequest, Part, SECRET_LEN_MAX};

/// What a key's material is (key-model §1.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// One secret key, which whoever encrypts and whoever decrypts hold alike.
    Symmetric,
    /// A private key and its public key.
    Pair,
    /// One secret key for authentication codes.
    Mac,
    /// Somebody else's public key: of a pair's spec, without the private half.
    Public,
    /// No key: bytes that are kept, and read.
    Secret,
}

impl Kind {
    /// As shown to people and clients.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Symmetric => "symmetric",
            Self::Pair => "pair",
            Self::Mac => "mac",
            Self::Public => "public",
            Self::Secret => "secret",
        }
    }
}

/// What the table says of a spec's material.
enum Form {
    /// That many bytes.
    Symmetric(usize),
    /// That many bytes when it is made here; others' may have another length.
    Mac(usize),
    /// PKCS#8.
    Pair,
    /// Bytes that somebody brought.
    Secret,
}

/// Lengths of a MAC key, in bytes: 112 bits are the least that SP 800-131A allows, 128 bytes the longest block of a hash.
const MAC_KEY_LEN: RangeInclusive<usize> = 14..=128;

macro_rules! specs {
    ($($(#[$doc:meta])* $spec:ident = $code:literal, $word:literal, $form:expr, fips: $fips:literal,
        [$($purpose:ident: $algorithms:expr),+];)+) => {
        /// The kind of an object's material.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum KeySpec {
            $($(#[$doc])* $spec,)+
            /// No key, but a secret: it is for nothing that keys are for.
            Secret,
        }

        impl KeySpec {
            /// Every spec of a key.
            pub const ALL: &'static [Self] = &[$(Self::$spec,)+];

            /// Its number in records, which never changes.
            pub const fn code(self) -> u16 {
                match self { $(Self::$spec => $code,)+ Self::Secret => 512 }
            }
            /// As shown to people and clients.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$spec => $word,)+ Self::Secret => "secret" }
            }
            /// Whether such keys may be used in FIPS 140-3 mode, by an algorithm that may: [`Algorithm::fips`].
            pub const fn fips(self) -> bool {
                match self { $(Self::$spec => $fips,)+ Self::Secret => true }
            }
            /// What it may be for; the first unless something else is asked for.
            pub const fn purposes(self) -> &'static [Purpose] {
                match self { $(Self::$spec => &[$(Purpose::$purpose,)+],)+ Self::Secret => &[] }
            }
            /// The algorithms for a purpose, the default first; none = it is not for that.
            const fn algorithms_of(self, purpose: Purpose) -> &'static [Algorithm] {
                match (self, purpose) {
                    $($((Self::$spec, Purpose::$purpose) => $algorithms,)+)+
                    _ => &[],
                }
            }
            const fn form(self) -> Form {
                match self { $(Self::$spec => $form,)+ Self::Secret => Form::Secret }
            }
        }
    };
}

use Algorithm::*;
use Form::{Mac, Pair, Symmetric};

const AES: &[Algorithm] = &[AesGcm, AesCbc, AesCbcPad];
const AES_BLOB: &[Algorithm] = &[Blob, AesGcm, AesCbc, AesCbcPad];
const AES_WRAP: &[Algorithm] = &[AesKwp, AesKw, AesGcm, AesCbc, AesCbcPad];
const AES_BLOB_WRAP: &[Algorithm] = &[AesKwp, AesKw, Blob, AesGcm, AesCbc, AesCbcPad];
const CMAC: &[Algorithm] = &[AesCmac];
const DERIVE: &[Algorithm] = &[Kbkdf, DeriveHmac, DeriveHash, Pbkdf2];
const RSA_OAEP: &[Algorithm] = &[RsaOaepSha256, RsaOaepSha384, RsaOaepSha512, RsaOaepSha1];
const RSA_WRAP: &[Algorithm] =
    &[RsaOaepSha256, RsaOaepSha384, RsaOaepSha512, RsaOaepSha1, RsaAesKwpSha256, RsaAesKwpSha1];
const RSA_SIGN: &[Algorithm] =
    &[RsaPssSha256, RsaPssSha384, RsaPssSha512, RsaPkcs1Sha256, RsaPkcs1Sha384, RsaPkcs1Sha512];
const ECDH: &[Algorithm] = &[Ecdh];
const EDDSA: &[Algorithm] = &[Algorithm::Ed25519, Ed25519ph];
const ML_DSA: &[Algorithm] = &[MlDsa];
const ML_KEM: &[Algorithm] = &[MlKem];

specs! {
    /// AES with a 256-bit key.
    Aes256 = 1, "aes-256", Symmetric(32), fips: true, [Encrypt: AES_BLOB, Wrap: AES_BLOB_WRAP, Mac: CMAC, Derive: DERIVE];
    /// AES with a 128-bit key.
    Aes128 = 2, "aes-128", Symmetric(16), fips: true, [Encrypt: AES, Wrap: AES_WRAP, Mac: CMAC, Derive: DERIVE];
    /// AES with a 192-bit key.
    Aes192 = 3, "aes-192", Symmetric(24), fips: true, [Encrypt: AES, Wrap: AES_WRAP, Mac: CMAC, Derive: DERIVE];
    /// HMAC with SHA-1.
    HmacSha1 = 16, "hmac-sha1", Mac(20), fips: false, [Mac: &[Algorithm::HmacSha1], Derive: DERIVE];
    /// HMAC with SHA-224.
    HmacSha224 = 17, "hmac-sha224", Mac(28), fips: true, [Mac: &[Algorithm::HmacSha224], Derive: DERIVE];
    /// HMAC with SHA-256.
    HmacSha256 = 18, "hmac-sha256", Mac(32), fips: true, [Mac: &[Algorithm::HmacSha256], Derive: DERIVE];
    /// HMAC with SHA-384.
    HmacSha384 = 19, "hmac-sha384", Mac(48), fips: true, [Mac: &[Algorithm::HmacSha384], Derive: DERIVE];
    /// HMAC with SHA-512.
    HmacSha512 = 20, "hmac-sha512", Mac(64), fips: true, [Mac: &[Algorithm::HmacSha512], Derive: DERIVE];
    /// RSA with a modulus of 2048 bits.
    Rsa2048 = 32, "rsa-2048", Pair, fips: true, [Sign: RSA_SIGN, Encrypt: RSA_OAEP, Wrap: RSA_WRAP];
    /// RSA with a modulus of 3072 bits.
    Rsa3072 = 33, "rsa-3072", Pair, fips: true, [Sign: RSA_SIGN, Encrypt: RSA_OAEP, Wrap: RSA_WRAP];
    /// RSA with a modulus of 4096 bits.
    Rsa4096 = 34, "rsa-4096", Pair, fips: true, [Sign: RSA_SIGN, Encrypt: RSA_OAEP, Wrap: RSA_WRAP];
    /// The curve P-256 (secp256r1).
    P256 = 48, "p-256", Pair, fips: true, [Sign: &[EcdsaSha256], Agree: ECDH];
    /// The curve P-384 (secp384r1).
    P384 = 49, "p-384", Pair, fips: true, [Sign: &[EcdsaSha384], Agree: ECDH];
    /// The curve P-521 (secp521r1).
    P521 = 50, "p-521", Pair, fips: true, [Sign: &[EcdsaSha512], Agree: ECDH];
    /// The curve secp256k1.
    Secp256k1 = 51, "secp256k1", Pair, fips: false, [Sign: &[EcdsaSha256]];
    /// Ed25519 (RFC 8032).
    Ed25519 = 64, "ed25519", Pair, fips: true, [Sign: EDDSA];
    /// X25519 (RFC 7748).
    X25519 = 65, "x25519", Pair, fips: false, [Agree: ECDH];
    /// ML-DSA-44 (FIPS 204).
    MlDsa44 = 80, "ml-dsa-44", Pair, fips: true, [Sign: ML_DSA];
    /// ML-DSA-65 (FIPS 204).
    MlDsa65 = 81, "ml-dsa-65", Pair, fips: true, [Sign: ML_DSA];
    /// ML-DSA-87 (FIPS 204).
    MlDsa87 = 82, "ml-dsa-87", Pair, fips: true, [Sign: ML_DSA];
    /// ML-KEM-512 (FIPS 203).
    MlKem512 = 96, "ml-kem-512", Pair, fips: true, [Encapsulate: ML_KEM];
    /// ML-KEM-768 (FIPS 203).
    MlKem768 = 97, "ml-kem-768", Pair, fips: true, [Encapsulate: ML_KEM];
    /// ML-KEM-1024 (FIPS 203).
    MlKem1024 = 98, "ml-kem-1024", Pair, fips: true, [Encapsulate: ML_KEM];
}

impl KeySpec {
    /// What a key is when nobody says anything else.
    pub const DEFAULT: Self = Self::Aes256;

    /// The spec of that number; none when a newer version made it.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().chain([Self::Secret]).find(|spec| spec.code() == code)
    }
    /// What its material is, where it has all of it: a pair's, not a public key alone.
    pub const fn kind(self) -> Kind {
        match self.form() {
            Form::Symmetric(_) => Kind::Symmetric,
            Form::Mac(_) => Kind::Mac,
            Form::Pair => Kind::Pair,
            Form::Secret => Kind::Secret,
        }
    }
    /// Whether making such material takes a tenth of a millisecond, or more; RSA takes up to seconds.
    pub const fn is_slow_to_make(self) -> bool {
        !matches!(self.form(), Form::Symmetric(_) | Form::Mac(_) | Form::Secret)
            && !matches!(self, Self::P256 | Self::Ed25519 | Self::X25519)
    }
    /// Whether making such material takes up to seconds.
    pub const fn takes_seconds_to_make(self) -> bool {
        matches!(self, Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096)
    }
    /// How many of them one batch makes: what takes so long that a request's time would be over makes few.
    pub const fn made_at_once(self, most: u32) -> u32 {
        if self.takes_seconds_to_make() { 1 } else { most }
    }
    /// Length of material that is made here, in bytes; none for pairs, whose encoding decides it, and for what is never made.
    pub const fn material_len(self) -> Option<usize> {
        match self.form() {
            Form::Symmetric(len) | Form::Mac(len) => Some(len),
            Form::Pair | Form::Secret => None,
        }
    }
    /// Lengths that material from elsewhere may have, in bytes; none for pairs.
    pub const fn material_lens(self) -> Option<RangeInclusive<usize>> {
        match self.form() {
            Form::Symmetric(len) => Some(len..=len),
            Form::Mac(_) => Some(MAC_KEY_LEN),
            Form::Secret => Some(1..=SECRET_LEN_MAX),
            Form::Pair => None,
        }
    }
    /// What it is for when nobody says anything else; none = it is no key.
    pub const fn purpose(self) -> Option<Purpose> {
        self.purposes().first().copied()
    }
    /// All that it may be used for.
    pub fn usages(self) -> Usages {
        self.purposes().iter().map(|purpose| purpose.usages()).fold(Usages::NONE, Usages::union)
    }
    /// The algorithms for a usage, the default first; none = it is not for that.
    pub const fn algorithms(self, usage: Usage) -> &'static [Algorithm] {
        self.algorithms_of(usage.purpose())
    }
    /// The algorithm for a usage when nobody says anything else; none = it is not for that.
    pub fn algorithm(self, usage: Usage) -> Option<Algorithm> {
        self.algorithms(usage).first().copied()
    }
    /// Whether material of this kind may be used so.
    pub fn fits(self, usage: Usage, algorithm: Algorithm) -> bool {
        self.algorithms(usage).contains(&algorithm)
    }
}

/// Reads one of the words that there are.
fn parse<T: Copy>(all: &[T], word: impl Fn(T) -> &'static str, part: Part, text: &str) -> Result<T, InvalidRequest> {
    all.iter().copied().find(|one| word(*one) == text).ok_or_else(|| {
        let there: Vec<_> = all.iter().map(|one| word(*one)).collect();
        InvalidRequest::wrong(part, format!("{} is no {}; there are: {}", quoted(text), part.noun(), there.join(", ")))
    })
}

impl FromStr for KeySpec {
    type Err = InvalidRequest;
    fn from_str(text: &str) -> Result<Self, InvalidRequest> {
        parse(Self::ALL, Self::as_str, Part::Spec, text)
    }
}

#[cfg(test)]
mod tests;
