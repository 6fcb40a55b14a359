//! The algorithms by which keys are used.

use std::str::FromStr;

use super::parse;
use crate::request::{InvalidRequest, Part};

macro_rules! digests {
    ($($(#[$doc:meta])* $digest:ident = $word:literal, $len:literal, fips: $fips:literal;)+) => {
        /// A hash function.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Digest {
            $($(#[$doc])* $digest,)+
        }

        impl Digest {
            /// Every hash function.
            pub const ALL: &'static [Self] = &[$(Self::$digest,)+];

            /// As clients say it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$digest => $word,)+ }
            }
            /// Length of its digests, in bytes.
            pub const fn output_len(self) -> usize {
                match self { $(Self::$digest => $len,)+ }
            }
            /// Whether it may be used in FIPS 140-3 mode.
            pub const fn fips(self) -> bool {
                match self { $(Self::$digest => $fips,)+ }
            }
        }
    };
}

digests! {
    /// SHA-1: for what still asks for it.
    Sha1 = "sha1", 20, fips: false;
    /// SHA-224.
    Sha224 = "sha224", 28, fips: true;
    /// SHA-256.
    Sha256 = "sha256", 32, fips: true;
    /// SHA-384.
    Sha384 = "sha384", 48, fips: true;
    /// SHA-512.
    Sha512 = "sha512", 64, fips: true;
}

impl FromStr for Digest {
    type Err = InvalidRequest;
    fn from_str(text: &str) -> Result<Self, InvalidRequest> {
        parse(Self::ALL, Self::as_str, Part::Algorithm, text)
    }
}

macro_rules! algorithms {
    ($($(#[$doc:meta])* $algorithm:ident = $word:literal $(, $digest:ident)?;)+) => {
        /// How something is protected, or what was protected is processed.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Algorithm {
            $($(#[$doc])* $algorithm,)+
        }

        impl Algorithm {
            /// Every algorithm.
            pub const ALL: &'static [Self] = &[$(Self::$algorithm,)+];

            /// As clients say it.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$algorithm => $word,)+ }
            }
            /// The hash function in its name.
            pub const fn digest(self) -> Option<Digest> {
                match self { $(Self::$algorithm => algorithms!(@digest $($digest)?),)+ }
            }
        }
    };
    (@digest) => { None };
    (@digest $digest:ident) => { Some(Digest::$digest) };
}

algorithms! {
    /// The ciphertext that names its key and version, and commits to both (key-hierarchy §3).
    Blob = "blob";
    /// AES-GCM: IV 12 bytes, tag 16 (SP 800-38D).
    AesGcm = "aes-gcm";
    /// AES-CBC of whole blocks (SP 800-38A): not authenticated.
    AesCbc = "aes-cbc";
    /// AES-CBC with the padding of PKCS#7 (RFC 5652 §6.3): not authenticated.
    AesCbcPad = "aes-cbc-pad";
    /// AES key wrap (RFC 3394).
    AesKw = "aes-kw";
    /// AES key wrap with padding (RFC 5649).
    AesKwp = "aes-kwp";
    /// AES-CMAC (SP 800-38B).
    AesCmac = "aes-cmac";
    /// HMAC (RFC 2104) with SHA-1.
    HmacSha1 = "hmac-sha1", Sha1;
    /// HMAC with SHA-224.
    HmacSha224 = "hmac-sha224", Sha224;
    /// HMAC with SHA-256.
    HmacSha256 = "hmac-sha256", Sha256;
    /// HMAC with SHA-384.
    HmacSha384 = "hmac-sha384", Sha384;
    /// HMAC with SHA-512.
    HmacSha512 = "hmac-sha512", Sha512;
    /// RSAES-OAEP (RFC 8017) with SHA-1, in MGF1 alike.
    RsaOaepSha1 = "rsa-oaep-sha1", Sha1;
    /// RSAES-OAEP with SHA-256.
    RsaOaepSha256 = "rsa-oaep-sha256", Sha256;
    /// RSAES-OAEP with SHA-384.
    RsaOaepSha384 = "rsa-oaep-sha384", Sha384;
    /// RSAES-OAEP with SHA-512.
    RsaOaepSha512 = "rsa-oaep-sha512", Sha512;
    /// A fresh AES-256 key under RSAES-OAEP with SHA-1, then what it wraps by `aes-kwp` (PKCS#11, CKM_RSA_AES_KEY_WRAP).
    RsaAesKwpSha1 = "rsa-aes-kwp-sha1", Sha1;
    /// The same with SHA-256.
    RsaAesKwpSha256 = "rsa-aes-kwp-sha256", Sha256;
    /// RSASSA-PSS (RFC 8017) with SHA-256, in MGF1 alike, and a salt as long as the digest.
    RsaPssSha256 = "rsa-pss-sha256", Sha256;
    /// RSASSA-PSS with SHA-384.
    RsaPssSha384 = "rsa-pss-sha384", Sha384;
    /// RSASSA-PSS with SHA-512.
    RsaPssSha512 = "rsa-pss-sha512", Sha512;
    /// RSASSA-PKCS1-v1_5 (RFC 8017) with SHA-256.
    RsaPkcs1Sha256 = "rsa-pkcs1-sha256", Sha256;
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RsaPkcs1Sha384 = "rsa-pkcs1-sha384", Sha384;
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RsaPkcs1Sha512 = "rsa-pkcs1-sha512", Sha512;
    /// ECDSA (FIPS 186-5) with SHA-256.
    EcdsaSha256 = "ecdsa-sha256", Sha256;
    /// ECDSA with SHA-384.
    EcdsaSha384 = "ecdsa-sha384", Sha384;
    /// ECDSA with SHA-512.
    EcdsaSha512 = "ecdsa-sha512", Sha512;
    /// Ed25519 of the message (RFC 8032).
    Ed25519 = "ed25519";
    /// Ed25519ph: of the message's SHA-512 digest (RFC 8032).
    Ed25519ph = "ed25519ph", Sha512;
    /// ML-DSA, hedged, of the message or of mu (FIPS 204).
    MlDsa = "ml-dsa";
    /// Diffie-Hellman on the key's curve: the raw x coordinate (SP 800-56A; RFC 7748).
    Ecdh = "ecdh";
    /// ML-KEM (FIPS 203).
    MlKem = "ml-kem";
    /// KBKDF in counter mode with HMAC (SP 800-108).
    Kbkdf = "kbkdf";
    /// HMAC of the given data under the key (KMIP 2.1 §6.1.18, HMAC).
    DeriveHmac = "derive-hmac";
    /// The hash of the key (KMIP 2.1 §6.1.18, HASH).
    DeriveHash = "derive-hash";
    /// PBKDF2 with HMAC (RFC 8018), the key being the password.
    Pbkdf2 = "pbkdf2";
}

impl Algorithm {
    /// Whether it may be used in FIPS 140-3 mode, with a key that may: [`super::KeySpec::fips`].
    pub fn fips(self) -> bool {
        self.digest().is_none_or(Digest::fips)
    }
}

impl FromStr for Algorithm {
    type Err = InvalidRequest;
    fn from_str(text: &str) -> Result<Self, InvalidRequest> {
        parse(Self::ALL, Self::as_str, Part::Algorithm, text)
    }
}
