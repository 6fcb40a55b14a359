//! What kinds of keys there are, what each may be used for, and by which algorithms: one table (key-model §3.1).

/// What a key version is for: the bits of KMIP's Cryptographic Usage Mask (KMIP 2.1 §11.14), so that a set of them is one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(u32)]
pub enum Usage {
    /// Encrypt, and make data keys.
    Encrypt = 0x4,
    /// Decrypt.
    Decrypt = 0x8,
}

/// How something is protected, or what was protected is processed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Algorithm {
    /// The ciphertext that names its key and version, and commits to both (key-hierarchy §3).
    Blob,
}

macro_rules! specs {
    ($($(#[$doc:meta])* $spec:ident = $code:literal, $word:literal, $len:expr, [$($usage:ident: [$($algorithm:ident),+]),+];)+) => {
        /// The kind of a key's material.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum KeySpec {
            $($(#[$doc])* $spec,)+
        }

        impl KeySpec {
            /// Every spec.
            pub const ALL: &'static [Self] = &[$(Self::$spec,)+];

            /// Its number in records, which never changes.
            pub const fn code(self) -> u16 {
                match self { $(Self::$spec => $code,)+ }
            }
            /// As shown to people and clients.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$spec => $word,)+ }
            }
            /// Length of its material in bytes, where that is always the same.
            pub const fn material_len(self) -> Option<usize> {
                match self { $(Self::$spec => $len,)+ }
            }
            /// The algorithms for a usage; none = it is not for that.
            pub const fn algorithms(self, usage: Usage) -> &'static [Algorithm] {
                match (self, usage) { $($((Self::$spec, Usage::$usage) => &[$(Algorithm::$algorithm),+],)+)+ }
            }
        }
    };
}

specs! {
    /// AES with a 256-bit key.
    Aes256 = 1, "AES_256", Some(32), [Encrypt: [Blob], Decrypt: [Blob]];
}

impl KeySpec {
    /// The spec of that number; none when a newer version made it.
    pub fn from_code(code: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|spec| spec.code() == code)
    }
    /// Whether material of this kind may be used so.
    pub fn fits(self, usage: Usage, algorithm: Algorithm) -> bool {
        self.algorithms(usage).contains(&algorithm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_words_name_one_spec_each() {
        for (n, spec) in KeySpec::ALL.iter().enumerate() {
            assert_eq!(KeySpec::from_code(spec.code()), Some(*spec));
            assert!(
                KeySpec::ALL[..n].iter().all(|other| other.as_str() != spec.as_str() && other.code() != spec.code())
            );
        }
        assert_eq!(KeySpec::from_code(0), None);
        assert!(KeySpec::Aes256.fits(Usage::Encrypt, Algorithm::Blob));
    }
}
