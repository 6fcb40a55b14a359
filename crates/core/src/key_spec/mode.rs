//! How one AES key may encrypt.

use super::{Algorithm, KeySpec, Kind, Purpose, Usage};
use crate::request::{InvalidRequest, Part};

macro_rules! modes {
    ($($(#[$doc:meta])* $mode:ident = $code:literal, [$($algorithm:ident),*];)+) => {
        /// The family of algorithms that a symmetric version is bound to. With CBC under an IV of his choice a caller computes AES
        /// on any block, hence GCM's hash key and key stream: were both allowed on one key, the right to encrypt would decrypt
        /// (key-model §3.3).
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Mode {
            /// Not symmetric: bound to nothing but what its spec fits.
            Free,
            $($(#[$doc])* $mode,)+
        }

        impl Mode {
            /// Every mode.
            pub const ALL: &'static [Self] = &[Self::Free, $(Self::$mode,)+];

            /// Its number in records, which never changes.
            pub const fn code(self) -> u8 {
                match self { Self::Free => 0, $(Self::$mode => $code,)+ }
            }
            /// Its algorithms.
            const fn family(self) -> &'static [Algorithm] {
                match self { Self::Free => &[], $(Self::$mode => &[$(Algorithm::$algorithm),*],)+ }
            }
        }
    };
}

modes! {
    /// Ciphertexts that name their key.
    Blob = 1, [Blob];
    /// GCM.
    Gcm = 2, [AesGcm];
    /// CBC.
    Cbc = 3, [AesCbcPad, AesCbc];
    /// Key wrap.
    Wrap = 4, [AesKwp, AesKw];
    /// CMAC.
    Cmac = 5, [AesCmac];
    /// Derivation of other keys.
    Derive = 6, [Kbkdf, DeriveHmac, DeriveHash, Pbkdf2];
}

impl Mode {
    /// The mode of that number; none when a newer version wrote it.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|mode| mode.code() == code)
    }

    /// The mode of a new key: that of the algorithm that is to be used, else of the purpose's default.
    ///
    /// # Errors
    /// When such a key is not for that, or not by that algorithm.
    pub fn new(spec: KeySpec, purpose: Purpose, by: Option<Algorithm>) -> Result<Self, InvalidRequest> {
        let there = spec.algorithms_of(purpose);
        let words = |words: Vec<&str>| words.join(", ");
        if there.is_empty() {
            let purposes = words(spec.purposes().iter().map(|purpose| purpose.as_str()).collect());
            let why = format!("a key of {} is not for {}; it is for: {purposes}", spec.as_str(), purpose.as_str());
            return Err(InvalidRequest::wrong(Part::Usage, why));
        }
        let by = by.unwrap_or(there[0]);
        if !there.contains(&by) {
            let (spec, purpose) = (spec.as_str(), purpose.as_str());
            let there = words(there.iter().map(|one| one.as_str()).collect());
            let why = format!("a key of {spec} to {purpose} does not go by {}; it goes by: {there}", by.as_str());
            return Err(InvalidRequest::wrong(Part::Algorithm, why));
        }
        match spec.kind() {
            Kind::Symmetric => Ok(*Self::ALL.iter().find(|mode| mode.family().contains(&by)).unwrap_or(&Self::Free)),
            Kind::Pair | Kind::Mac | Kind::Public | Kind::Secret => Ok(Self::Free),
        }
    }

    /// How a version of that spec goes about that usage, the default first.
    pub fn algorithms(self, spec: KeySpec, usage: Usage) -> impl Iterator<Item = Algorithm> {
        let fits = spec.algorithms(usage).iter().copied();
        fits.filter(move |one| self == Self::Free || self.family().contains(one))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symmetric_key_is_of_one_family() {
        let new = |spec, purpose, by| Mode::new(spec, purpose, by);
        assert_eq!(new(KeySpec::Aes256, Purpose::Encrypt, None), Ok(Mode::Blob));
        assert_eq!(new(KeySpec::Aes192, Purpose::Encrypt, None), Ok(Mode::Gcm));
        assert_eq!(new(KeySpec::Aes256, Purpose::Encrypt, Some(Algorithm::AesCbc)), Ok(Mode::Cbc));
        assert_eq!(new(KeySpec::Aes128, Purpose::Wrap, None), Ok(Mode::Wrap));
        assert_eq!(new(KeySpec::Aes128, Purpose::Mac, None), Ok(Mode::Cmac));
        assert_eq!(new(KeySpec::Rsa2048, Purpose::Sign, Some(Algorithm::RsaPkcs1Sha512)), Ok(Mode::Free));
        let refused = new(KeySpec::Aes256, Purpose::Sign, None).unwrap_err();
        assert_eq!(refused.part(), Part::Usage);
        assert_eq!(refused.to_string(), "a key of aes-256 is not for sign; it is for: encrypt, wrap, mac, derive");
        let refused = new(KeySpec::Aes128, Purpose::Encrypt, Some(Algorithm::Blob)).unwrap_err();
        assert_eq!(refused.part(), Part::Algorithm);
        let said = "a key of aes-128 to encrypt does not go by blob; it goes by: aes-gcm, aes-cbc, aes-cbc-pad";
        assert_eq!(refused.to_string(), said);
    }

    #[test]
    fn families_share_no_algorithm_and_numbers_name_one_each() {
        for mode in Mode::ALL {
            assert_eq!(Mode::from_code(mode.code()), Some(*mode));
            for one in mode.family() {
                assert_eq!(Mode::ALL.iter().filter(|mode| mode.family().contains(one)).count(), 1);
            }
        }
        let of = |mode: Mode, spec, usage| mode.algorithms(spec, usage).map(Algorithm::as_str).collect::<Vec<_>>();
        assert_eq!(of(Mode::Blob, KeySpec::Aes256, Usage::Decrypt), ["blob"]);
        assert_eq!(of(Mode::Cbc, KeySpec::Aes256, Usage::Encrypt), ["aes-cbc", "aes-cbc-pad"]);
        assert_eq!(of(Mode::Free, KeySpec::Ed25519, Usage::Sign), ["ed25519", "ed25519ph"]);
        assert!(of(Mode::Gcm, KeySpec::Aes256, Usage::Mac).is_empty());
    }
}
